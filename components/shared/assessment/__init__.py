"""What a model is worth, as one record: scores, baselines, differences on the same items, and what to do next."""

OUTPUT = "assessment"
"""What the output of KFP's task with such a record is called."""
