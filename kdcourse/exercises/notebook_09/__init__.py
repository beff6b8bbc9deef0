"""Exercises of notebook 09: what is worth keeping, what fits, what is compared fairly, and in which order to do it."""
