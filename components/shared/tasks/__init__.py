"""Data: generated, verifiable tasks, their splits and their batches."""
