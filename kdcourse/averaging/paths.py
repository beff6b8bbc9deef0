"""The straight line between two networks, and what rises on it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .._base.checks import check_count, check_fraction
from .means import average_models


def interpolate(model: nn.Module, other: nn.Module, *, fraction: float) -> nn.Module:
    """A new network on the straight line from ``model`` to ``other``: (1 - fraction) · θ_model + fraction · θ_other.

    0 gives a copy of ``model``, 1 the weights of ``other``. Parameters and floating-point buffers are interpolated, all
    else is that of ``model``, as for `average_models`, which says what is refused. Raises ``ValueError`` for a
    ``fraction`` outside [0, 1].

    >>> first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> torch.equal(interpolate(first, second, fraction=1).weight, second.weight)
    True
    """
    check_fraction("fraction", fraction)
    return average_models([model, other], [1 - fraction, fraction])


def barrier(
    model: nn.Module, other: nn.Module, loss: Callable[[nn.Module], float | Tensor], *, points: int = 11
) -> float:
    """How far the loss rises on the straight line between two networks above the straight line between their losses.

    max over f of L(θ_f) - ((1 - f) · L(θ_model) + f · L(θ_other)), θ_f as `interpolate` makes it, at ``points`` equally
    spaced f from 0 to 1: at least 0, and 0 where the networks can be averaged without loss. ``loss`` takes a network,
    in the modes of ``model``, and returns a number that is small where the network is good: a loss or an error, not an
    accuracy. With batch norm let it begin with `reset_batchnorm`, or the barrier is that of statistics which do not
    belong to the weights.

    Raises ``ValueError`` for fewer than 3 points and for a loss that is not finite.

    Source: Entezari et al. 2022, arXiv:2110.06296, equation 1.

    >>> first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = first.weight.fill_(-1.0), second.weight.fill_(1.0)
    >>> barrier(first, second, lambda network: 1 - network.weight.abs().sum())
    1.0
    """
    check_count("points", points, least=3)
    losses = []
    for number in range(points):
        fraction = number / (points - 1)
        with torch.no_grad():
            value = float(loss(interpolate(model, other, fraction=fraction)))
        if not math.isfinite(value):
            raise ValueError(
                f"the loss is {value} at fraction {fraction:g}: give a loss that is finite on the whole line"
            )
        losses.append(value)
    rises = [
        value - (losses[0] + number / (points - 1) * (losses[-1] - losses[0])) for number, value in enumerate(losses)
    ]
    return max(0.0, *rises[1:-1])
