"""The codecs, one paper a file: the encoding side. What decodes travels with the artifact (shared/models/remote_code)."""
