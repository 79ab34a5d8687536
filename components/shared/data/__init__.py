"""A corpus of text for training: read from anywhere, deduplicated, decontaminated, tokenised once, packed, resumable."""
