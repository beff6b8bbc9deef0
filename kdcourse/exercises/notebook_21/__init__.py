"""Exercises of notebook 21: one loss over many parts, a run resumed, a Trainer's loss, samplers, shards, and keys."""
