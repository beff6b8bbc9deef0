"""Exercises of notebook 03: divergences, the distillation loss and its gradient, computed safely.

The wrong losses circulate in public code and tutorials; each is written afresh here.
"""
