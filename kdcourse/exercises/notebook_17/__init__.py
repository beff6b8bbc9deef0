"""Exercises of notebook 17: distilling a language model, its losses, stored and sampled teachers."""
