"""Knowledge distillation and model compression: short helpers, each proved against an independent oracle."""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# onnxruntime reads this once, while it is imported, and would otherwise queue usage events for its maker's server
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> Any:
    """``kdcourse.progress``, found when it is asked for: the exercises need PyTorch, this package does not."""
    if name == "progress":
        return import_module("kdcourse.exercises").progress
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
