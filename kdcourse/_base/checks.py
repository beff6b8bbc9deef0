"""Input checks shared by the losses: say what was wrong and what to do, before broadcasting can hide it."""

import math

import torch
from torch import Tensor


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return both logit tensors, widened if half precision, the teacher detached; raise on bad input."""
    for name, logits in (("student_logits", student_logits), ("teacher_logits", teacher_logits)):
        check_finite_float(name, logits)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits has shape {tuple(student_logits.shape)} and teacher_logits "
            f"{tuple(teacher_logits.shape)}: they must be equal, broadcasting would hide a mistake"
        )
    return widen(student_logits), widen(teacher_logits.detach())


def check_finite_float(name: str, logits: Tensor) -> None:
    """Raise unless ``logits`` is a non-empty floating-point tensor of at least one class, without NaN or infinity."""
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(logits).__name__}")
    if not logits.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {logits.dtype}: pass logits, not class indices")
    if logits.ndim == 0 or logits.numel() == 0:
        raise ValueError(f"{name} is empty or has no class dimension: shape {tuple(logits.shape)}")
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name} contains NaN or infinity: look for a diverged model or a division by zero")


def check_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above zero."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number > 0, got {value}")


def check_fraction(name: str, value: float) -> None:
    """Raise unless ``value`` lies in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise unless ``labels`` holds one valid int64 class index for every leading position of ``logits``."""
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        found = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be an int64 tensor of class indices, got {found}")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, the logits {tuple(logits.shape)}: "
            f"one label is needed for each leading position, {tuple(logits.shape[:-1])}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[-1]:
        raise ValueError(f"labels must lie in [0, {logits.shape[-1] - 1}], found {low} to {high}")


def widen(logits: Tensor) -> Tensor:
    """Half precision to float32, where exponentials neither overflow nor vanish; anything else unchanged."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
