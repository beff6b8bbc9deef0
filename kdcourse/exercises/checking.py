"""The judge, under its old address."""

from .engine.checking import judge

__all__ = ["judge"]
