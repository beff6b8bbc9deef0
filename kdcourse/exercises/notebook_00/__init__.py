"""Exercises of notebook 00: accuracy, and a gain over pairs."""
