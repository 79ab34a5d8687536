"""Optimisers: Muon with AdamW, Grokfast, and schedules of the learning rate."""
