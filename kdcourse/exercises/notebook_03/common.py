"""What the exercises of notebook 03 share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import SHAPES, draw


def soft(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits / temperature, dim=-1)


def log_soft(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, dim=-1)


def check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"shapes differ: {tuple(student.shape)} and {tuple(teacher.shape)}")


REFUSES_SHAPES = "Raise a `ValueError` if the two shapes differ, before broadcasting can hide it."


def pairs() -> list[tuple[Tensor, Tensor]]:
    """Student and teacher logits: a small pair, a batch, a batch of sequences."""
    small = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    return [
        (small, small.flip(-1) + 1),
        (draw(4, 5, seed=10) + 1, draw(4, 5, seed=11)),
        (draw(2, 3, 4, seed=12), draw(2, 3, 4, seed=13)),
    ]


def unequal() -> tuple[str, Tensor, Tensor]:
    """What must not be broadcast."""
    return SHAPES.format("(2, 3)", "(1, 3)"), draw(2, 3, seed=14), draw(1, 3, seed=15)
