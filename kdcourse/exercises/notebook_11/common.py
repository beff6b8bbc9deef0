"""What the exercises of notebook 11 share."""

import torch
from torch import Tensor

from ..engine.core import draw, integer


def table(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def mean_square(one: Tensor, other: Tensor) -> Tensor:
    """As `F.mse_loss`, without its warning where wrong answers compare different shapes."""
    return (one - other).square().mean()


def mean_kernel(first: Tensor, second: Tensor) -> Tensor:
    """Mean of (xᵀy)² over all pairs of channels, for each example."""
    return (first @ second.transpose(1, 2)).square().mean(dim=(1, 2))


def drawn_features(g: torch.Generator, *, least: int = 2) -> tuple[Tensor, Tensor]:
    """Student's and teacher's features of the same examples, of widths that may differ; neither has mean 0."""
    count = integer(g, least, 8)
    student, teacher = (draw(count, integer(g, 2, 6), seed=g) for _ in range(2))
    return student + 1.0, teacher * 0.7 - 0.5


def drawn_maps(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Student's and teacher's maps (N, C, H, W) of the same examples and size; the channel counts may differ.

    The teacher's come out of a ReLU, so that a channel, or an example, may be zero everywhere.
    """
    count, height, width = integer(g, 2, 4), integer(g, 2, 4), integer(g, 2, 4)
    student, teacher = (draw(count, integer(g, 1, 5), height, width, seed=g, spread=2.0) for _ in range(2))
    return student + 0.5, teacher.relu()
