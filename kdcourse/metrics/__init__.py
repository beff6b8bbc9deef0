"""What is measured: predictions, changes, intervals, similarity, costs. Needs nothing of `kdcourse` but its cellar."""

from .changes import Flips, Forgetting, flips, forgetting
from .costs import count_macs, count_parameters, pareto_front
from .intervals import Interval, accuracy_interval, change_interval, paired_interval
from .predictions import (
    Bins,
    accuracy,
    agreement,
    confusion_matrix,
    entropy,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from .similarity import cka

__all__ = [
    "Bins",
    "Flips",
    "Forgetting",
    "Interval",
    "accuracy",
    "accuracy_interval",
    "agreement",
    "change_interval",
    "cka",
    "confusion_matrix",
    "count_macs",
    "count_parameters",
    "entropy",
    "expected_calibration_error",
    "fit_temperature",
    "flips",
    "forgetting",
    "paired_interval",
    "pareto_front",
    "reliability",
]
