"""How a phase runs: configuration, artifacts, stores, checkpoints, progress, tracking and gates."""
