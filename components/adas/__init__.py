"""Phase 7, adas: search over agent architectures and expert vectors."""
