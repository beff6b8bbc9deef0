"""Exercises of notebook 01: a split without leaks, the score to report, operations by hand, calibration."""
