"""Model folders: safetensors read where they lie, and written in any order."""
