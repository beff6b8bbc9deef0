"""Exercises of notebook 03: divergences, the distillation loss and its gradient, computed safely.

The wrong losses occur in public code and tutorials; each is rewritten here.
"""
