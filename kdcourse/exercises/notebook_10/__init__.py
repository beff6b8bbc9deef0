"""Exercises of notebook 10, the bug clinic: programs found in public code, each wrong in one way, each to be fixed.

The first misconception of each exercise is the program that the notebook shows.
"""
