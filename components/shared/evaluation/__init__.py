"""The five suites, their scores with intervals, and comparisons of two models."""
