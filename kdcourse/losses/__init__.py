"""Distillation losses. Ground floor: needs PyTorch and nothing else of `kdcourse`."""

from .logits import (
    distillation_loss,
    dkd_loss,
    js_loss,
    kd_loss,
    label_smoothing_loss,
    logit_mse_loss,
    reverse_kd_loss,
)

__all__ = [
    "distillation_loss",
    "dkd_loss",
    "js_loss",
    "kd_loss",
    "label_smoothing_loss",
    "logit_mse_loss",
    "reverse_kd_loss",
]
