"""What the exercises of notebook 03 share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import SHAPES, Case, draw, integer, refusal


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
    student = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.5, 1.0, -0.7], [2.0, 0.3, 0.4]], dtype=torch.float64)
    return [
        (student, teacher),
        (draw(4, 5, seed=10) + 1, draw(4, 5, seed=11)),
        (draw(2, 3, 4, seed=12), draw(2, 3, 4, seed=13)),
    ]


TEMPERATURES = (1.5, 2.5, 0.8)
"""one for each pair, none of them a number of rows or classes"""


def drawn_pair(generator: torch.Generator, *, low: int = 2, high: int = 4) -> tuple[Tensor, Tensor]:
    """Student and teacher logits with ``low`` to ``high`` dimensions of different lengths."""
    lengths = (torch.randperm(5, generator=generator) + 2).tolist()[: integer(generator, low, high)]
    return draw(*lengths, seed=generator, spread=2.0), draw(*lengths, seed=generator, spread=2.0) + 0.5


def drawn_temperature(generator: torch.Generator) -> float:
    return integer(generator, 5, 45) / 8.5


def refusals(**keywords: float) -> list[Case]:
    """What must not be broadcast: another number of rows, of classes, of dimensions."""
    student, others = draw(2, 3, seed=14), (draw(1, 3, seed=15), draw(2, 1, seed=16), draw(1, 2, 3, seed=17))
    return [refusal(SHAPES.format("(2, 3)", tuple(other.shape)), student, other, **keywords) for other in others]
