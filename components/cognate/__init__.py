"""Phase 1, cognate: three variants of one small language model, from one trunk."""
