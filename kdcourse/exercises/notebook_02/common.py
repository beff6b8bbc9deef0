"""What the exercises of notebook 02 share."""

import torch
from torch import Tensor

from ..engine.core import draw, integer


def drawn_logits(generator: torch.Generator, *, low: int = 2, high: int = 4) -> Tensor:
    """Logits with ``low`` to ``high`` dimensions of different lengths."""
    lengths = (torch.randperm(5, generator=generator) + 2).tolist()[: integer(generator, low, high)]
    return draw(*lengths, seed=generator, spread=2.0) + 0.5


def drawn_temperature(generator: torch.Generator) -> float:
    return integer(generator, 5, 45) / 8.5
