"""Exercises of notebook 08: sums in 32 bits, a factor as a multiplication and a shift, and times worth comparing."""
