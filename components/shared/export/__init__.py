"""Artifacts in the formats of other programs: GGUF, transformers' own BitNet."""
