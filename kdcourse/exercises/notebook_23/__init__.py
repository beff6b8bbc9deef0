"""Exercises of notebook 23: an interval, places, an ablation, robustness, bytes, the best of many, and leaks."""
