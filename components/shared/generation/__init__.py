"""Many texts at once: prompts of any lengths go on side by side over one cache, and the next one takes a finished one's slot."""
