"""Exercises of notebook 11: hints, attention, relations, and how similar two layers are."""
