"""Phase 3, quietstar: thought tokens."""
