"""Exercises of notebook 07: scale and zero point, codes, channels, folded batch norm, straight through, where to "
"clip."""
