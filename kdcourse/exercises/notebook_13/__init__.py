"""Exercises of notebook 13: pseudo-labels, moving averages, another domain, several labels, two teachers, a test."""
