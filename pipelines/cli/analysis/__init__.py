"""Commands that look at what runs have left behind: models, metrics, analyze, training analyze."""
