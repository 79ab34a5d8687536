"""Settings: composed by Hydra, typed by pydantic, refused with the key, the file and the values allowed."""
