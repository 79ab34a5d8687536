"""Merging models: the methods, one paper a file, and merges of whole checkpoints streamed from file to file."""
