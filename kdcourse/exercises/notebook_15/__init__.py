"""Exercises of notebook 15: number formats, half precision, and several networks in one."""
