"""Exercises of notebook 00: a share of right answers, and a gain over pairs."""
