"""Phase 6, baking: prompts baked into weights."""
