"""Exercises of notebook 10, the bug clinic: programs that circulate, each wrong in one way, each to be mended.

The first misconception of each exercise is the program that the notebook shows.
"""
