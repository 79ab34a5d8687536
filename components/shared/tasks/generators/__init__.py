"""Generators of tasks, one file a kind: a module here is found by its `TASKS`, so adding a task is adding a file."""
