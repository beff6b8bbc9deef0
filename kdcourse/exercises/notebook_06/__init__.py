"""Exercises of notebook 06: filters scored, channels removed with all that belongs to them, and what that is worth."""
