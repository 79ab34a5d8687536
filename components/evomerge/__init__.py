"""EvoMerge: evolutionary merging of models that were trained from one trunk."""
