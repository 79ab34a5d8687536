"""Artifacts: model directories in the Hugging Face layout, sealed by a manifest."""
