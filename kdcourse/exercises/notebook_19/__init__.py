"""Exercises of notebook 19: pooling, a split by speech, a static encoder, its loss and agreement, and fewer classes."""
