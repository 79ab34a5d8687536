"""Wakes readers: a hint that a run has new events, and nothing more. A hint that is lost costs a second, never an event."""
