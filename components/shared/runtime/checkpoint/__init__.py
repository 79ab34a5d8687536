"""Checkpoints, and the folder in which a phase works until it publishes."""
