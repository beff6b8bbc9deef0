"""What the exercises of notebook 15 share."""

import torch
from torch import Tensor


def table(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def uniform(*shape: int, seed: int | torch.Generator = 0) -> Tensor:
    """Numbers in [0, 1), float64: the same each time from a number, the next ones from a generator."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def significands(values: Tensor, fraction_bits: int) -> tuple[Tensor, Tensor]:
    """Values as multiples of the last bit's worth, and the exponents that lead back: see `from_significands`."""
    mantissa, exponent = torch.frexp(values)
    return mantissa * 2 ** (fraction_bits + 1), exponent - fraction_bits - 1


def from_significands(multiples: Tensor, exponent: Tensor) -> Tensor:
    return torch.ldexp(multiples, exponent)
