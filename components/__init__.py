"""The eight phases of Agent Forge, one folder each, and what they share."""
