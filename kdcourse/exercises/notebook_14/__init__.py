"""Exercises of notebook 14: low rank, layers judged by their outputs, blocks, and low-rank updates."""
