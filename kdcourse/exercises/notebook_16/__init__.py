"""Exercises of notebook 16: forgetting, two accuracies, learning without forgetting, and memories of several kinds."""
