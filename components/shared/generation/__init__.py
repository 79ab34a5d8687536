"""Many texts at once: prompts of any lengths go on side by side, and the next takes a finished one's slot."""
