"""Exercises of notebook 12: teachers of the student's own kind, of its own age, many at once, and none with data."""
