"""Exercises of notebook 02: softmax at a temperature, its entropy and slope, and what soft targets say of classes."""
