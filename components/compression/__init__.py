"""Phase 8, compression: the smallest artifact that keeps the quality."""
