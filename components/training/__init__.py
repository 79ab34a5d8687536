"""Phase 5, training: the ten-stage training loop."""
