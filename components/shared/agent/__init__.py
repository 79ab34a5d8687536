"""The agent at inference: a model, its architecture, expert vectors, the dispatcher and tools."""
