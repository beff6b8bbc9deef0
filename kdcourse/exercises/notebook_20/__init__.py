"""Exercises of notebook 20: flips, exemplars, a refit, attributions, attacks, membership, and a step that teaches."""
