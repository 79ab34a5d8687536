"""What a phase tells while it works: progress, curves, MLflow."""
