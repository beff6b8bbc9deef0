"""Exercises of notebook 01: a split without leaks, an honest score, operations by hand, calibration."""
