"""What is done: runs, their queue and their collector, models, metrics, settings, caches."""
