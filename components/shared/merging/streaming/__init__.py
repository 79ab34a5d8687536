"""Merges of whole models by one recipe, streamed from file to file."""
