"""Compiled KFP pipelines: read, typed, and refused by name where the backend could not do them."""
