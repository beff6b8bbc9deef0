"""Exercises of notebook 02: softmax at a temperature, its entropy and slope, what soft targets say about classes."""
