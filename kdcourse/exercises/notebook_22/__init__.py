"""Exercises of notebook 22, the second bug clinic: programs of the methods of Part II, each to be fixed.

The first misconception of each exercise is the program that the notebook shows.
"""
