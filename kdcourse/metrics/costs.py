"""What a network costs, and which of several are worth their cost."""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from .._base.modes import Inputs, call, in_eval_mode, layer_by_layer
from .._base.operators import count_operations
from .._base.parametrizing import copied, make_permanent
from .._base.weights import CoverageWarning, all_places, check_initialised


def count_parameters(model: nn.Module) -> int:
    """How many numbers training may change; tied ones count once, those behind a computed weight as they are stored.

    Raises ``ValueError`` for a layer that is not initialised yet.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    check_initialised(model)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_macs(model: nn.Module, example: Inputs) -> int:
    """Multiply-accumulates of convolutions and matrix products for the batch ``example``, biases not counted.

    ``example`` is a tensor, a tuple of the model's inputs, or a dictionary of them by name. Attention and recurrent
    layers are counted as the matrix products that they are, whatever single operator computes them; what it takes to
    compute a weight is not counted. An operator that multiplies matrices and is not counted is named in a warning.

    >>> count_macs(nn.Linear(3, 2), torch.zeros(5, 3))
    30
    """
    if any(place.computed_by for place in all_places(model).values()):
        model = copied(model)
        make_permanent(model)
    with in_eval_mode(model), layer_by_layer(), torch.no_grad():
        operations, uncounted = count_operations(lambda: call(model, example))
    if uncounted:
        warnings.warn(f"not counted: {', '.join(uncounted)}", CoverageWarning, stacklevel=2)
    return operations // 2


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices, by rising cost, of the points that no other dominates; equal undominated points all stay.

    A point dominates another if it costs no more and gains no less, and is strictly better in one of the two.
    Raises ``ValueError`` for no points, unequally many costs and gains, or NaN, which nothing is better than; infinity
    has its place in the order.

    >>> pareto_front([30, 20, 10], [0.97, 0.90, 0.95])  # 20 costs more than 10 and gains less
    [2, 0]
    """
    if len(costs) != len(gains) or len(costs) == 0:
        raise ValueError(f"need one gain a cost and at least one point, got {len(costs)} costs and {len(gains)} gains")
    if any(math.isnan(value) for value in (*costs, *gains)):
        raise ValueError("costs and gains must not be NaN: leave out the points that were not measured")
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda index: (costs[index], -gains[index])):
        last = front[-1] if front else index
        equal = (costs[index], gains[index]) == (costs[last], gains[last])
        if equal or gains[index] > gains[last]:
            front.append(index)
    return front
