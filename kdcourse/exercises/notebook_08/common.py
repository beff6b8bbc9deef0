"""What the exercises of notebook 08 share."""

import torch
from torch import Tensor


def whole(low: int, high: int, *shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    """The same integers from low to high each time."""
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
