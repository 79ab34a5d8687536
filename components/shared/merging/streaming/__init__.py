"""Static merges: one recipe over whole checkpoints, streamed from file to file."""
