"""Knowledge distillation and model compression: short helpers, each proved against an independent oracle."""

__version__ = "0.1.0"
