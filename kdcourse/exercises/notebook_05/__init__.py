"""Exercises of notebook 05: which weights go, how they stay away, where a ticket starts, and what zeros save."""
