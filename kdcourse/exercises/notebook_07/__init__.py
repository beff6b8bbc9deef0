"""Exercises of notebook 07: a step and a zero, codes, channels, folded batch norm, straight through, where to clip."""
