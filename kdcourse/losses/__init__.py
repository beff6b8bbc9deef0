"""Distillation losses: here those on logits; on layers in `kdcourse.losses.features`, on how examples relate in
`kdcourse.losses.relations`, on sequences in `kdcourse.losses.sequences`. Ground floor: needs PyTorch, and nothing of
`kdcourse` but its cellar."""

from .labels import distillation_loss, dkd_loss, label_smoothing_loss
from .logits import js_loss, kd_loss, logit_mse_loss, multilabel_kd_loss, reverse_kd_loss

__all__ = [
    "distillation_loss",
    "dkd_loss",
    "js_loss",
    "kd_loss",
    "label_smoothing_loss",
    "logit_mse_loss",
    "multilabel_kd_loss",
    "reverse_kd_loss",
]
