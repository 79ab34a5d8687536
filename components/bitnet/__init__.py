"""Phase 4, bitnet: ternary weights."""
