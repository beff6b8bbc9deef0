"""Exercises of notebook 04: the mixed loss, targets that stay with their images, and a fair comparison."""
