"""Exercises of notebook 18: a language model in few bits, its file, its cache, and what it forgets."""
