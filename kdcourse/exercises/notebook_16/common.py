"""What the exercises of notebook 16 share."""

import torch
from torch import Tensor

from ..engine.core import draw


def labels_from(classes: list[int], count: int, seed: int | torch.Generator) -> Tensor:
    """Labels in general order, from a list of classes."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    return torch.tensor(classes)[torch.randint(len(classes), (count,), generator=generator)]


def logits_of(count: int, classes: int, seed: int | torch.Generator) -> Tensor:
    return draw(count, classes, seed=seed, spread=2.0)
