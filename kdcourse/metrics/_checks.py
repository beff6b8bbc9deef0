"""What metrics check of logits and labels before they measure."""

import torch
from torch import Tensor

from .._base.checks import IGNORED, check_label_range, check_labels


def rows_of(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (M, C) and labels (M,) of the positions that are not labelled -100."""
    check_numbers("logits", logits)
    pairs = not isinstance(labels, Tensor) or labels.shape == logits.shape[:-1]
    if logits.ndim < 2 or logits.numel() == 0 or not pairs:
        shapes = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"need logits (N, C) and labels (N,), N >= 1, or both of a higher rank, got {shapes}")
    check_labels(labels, logits)
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    if check_label_range(labels, logits.shape[-1]):
        kept = labels != IGNORED
        logits, labels = logits[kept], labels[kept]
        if len(labels) == 0:
            raise ValueError(f"nothing is left to measure: the labels are {IGNORED} everywhere")
    return logits, labels


def check_numbers(name: str, logits: Tensor) -> None:
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(logits).__name__}")
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name} contains NaN or infinity: look for a diverged model or a division by zero")
