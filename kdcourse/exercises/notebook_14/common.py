"""What the exercises of notebook 14 share."""

from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import draw, integer

Net = nn.Sequential


def table(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def pair_of_tensors(result: Any) -> bool:
    if not isinstance(result, tuple | list):
        raise ValueError("two tensors are asked for")
    return len(result) == 2 and all(isinstance(part, Tensor) for part in result)


def parameters(net: Net) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


def with_weights(net: Net, seed: int) -> Net:
    """The network in float64, with the weights of a seed."""
    net = net.double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=1000 * seed + number, spread=0.8))
    return net


def block(inputs: int, hidden: int, outputs: int) -> Net:
    return Net(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def blocks(widths: list[int], *, hidden: int, seed: int) -> Net:
    """A network of blocks: each maps a width to the next; how wide it is inside is its own affair."""
    parts = [block(before, hidden, after) for before, after in zip(widths, widths[1:], strict=False)]
    return with_weights(Net(*parts), seed)


def convolutions(channels: list[int], *, kernel: int, seed: int) -> Net:
    pairs = zip(channels, channels[1:], strict=False)
    parts = [Net(nn.Conv2d(*pair, kernel, padding=kernel // 2), nn.Tanh()) for pair in pairs]
    return with_weights(Net(*parts), seed)


def drawn_blocks(g: torch.Generator) -> tuple[Net, Net, Tensor]:
    """Teacher, student and inputs, of two to four blocks whose widths differ."""
    widths = [integer(g, 1, 4) for _ in range(integer(g, 3, 5))]
    seed = integer(g, 100, 999)
    teacher, student = (blocks(widths, hidden=hidden, seed=seed + place) for place, hidden in enumerate((4, 2)))
    return teacher, student, draw(integer(g, 2, 5), widths[0], seed=g, spread=1.0)


def drawn_factors(g: torch.Generator) -> tuple[int, int, int]:
    """The rank, inputs and outputs of an update."""
    inputs, outputs = integer(g, 2, 6), integer(g, 2, 6)
    return integer(g, 1, min(inputs, outputs)), inputs, outputs
