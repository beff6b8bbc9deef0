"""Mixed precision: which layers can do with fewer bits, and how to spend a budget of bytes on them."""

import math
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from .._base.parametrizing import copied
from .._base.weights import COVERED, warn_left_out
from .qat import fake_quantize_model, quantizable


def bit_sensitivity(
    model: nn.Module, measure: Callable[[nn.Module], float], bits: Sequence[int]
) -> dict[str, dict[int, float]]:
    """By layer and bits, by how much ``measure`` rises when the weights of that layer alone are quantized.

    ``measure`` takes a model in eval mode and returns what should be small, such as the loss on validation images.
    It is handed copies: the model itself is left alone.

    >>> model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), torch.ones(1, 4)
    >>> damage = bit_sensitivity(model, lambda model: abs(model(x) - 1).item(), (2, 8))
    >>> list(damage), list(damage["0"])
    (['0', '2'], [2, 8])
    """
    if not bits:
        raise ValueError("no bits to try: pass for example (2, 4, 8)")
    layers = quantizable(model)
    warn_left_out(model, layers.values(), COVERED)
    unquantized = measure(copied(model).eval())
    return {
        name: {
            width: measure(fake_quantize_model(model, weight_bits={name: width}).eval()) - unquantized for width in bits
        }
        for name in layers
    }


def choose_bits(
    sensitivity: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], budget_bytes: float
) -> dict[str, int]:
    """Bits by layer with the smallest summed sensitivity that fit the budget; among equals, those of fewer bytes.

    ``sizes`` is the number of weights by layer, so a choice takes Σ sizes · bits / 8 bytes. Exact: layer by layer,
    all combinations are kept except those that another undercuts in both bytes and damage. What is summed was
    measured one layer at a time: that damages add up is an assumption.
    Raises ``ValueError`` for layers without a size, damages that are not finite, and a budget that even the fewest
    bits exceed.

    >>> damage = {"conv": {4: 0.3, 8: 0.1}, "head": {4: 0.02, 8: 0.01}}
    >>> choose_bits(damage, {"conv": 100, "head": 1000}, 600)
    {'conv': 8, 'head': 4}
    """
    missing = [name for name in sensitivity if name not in sizes]
    if missing or not sensitivity:
        raise ValueError(f"no sizes for the layers {missing}" if missing else "sensitivity is empty: no layers")
    for name, damages in sensitivity.items():
        if not damages or not all(map(math.isfinite, damages.values())):
            raise ValueError(f"the sensitivity of layer {name!r} is empty or not finite: {dict(damages)}")
    smallest = sum(sizes[name] * min(damages) for name, damages in sensitivity.items()) / 8
    if smallest > budget_bytes:
        raise ValueError(f"the fewest bits take {smallest:g} bytes: a budget of {budget_bytes:g} cannot be met")
    front: list[tuple[int, float, dict[str, int]]] = [(0, 0.0, {})]
    for name, damages in sensitivity.items():
        grown = [
            (used + sizes[name] * width, damage + more, chosen | {name: width})
            for used, damage, chosen in front
            for width, more in damages.items()
        ]
        front = _undominated([state for state in grown if state[0] <= 8 * budget_bytes])
    return front[-1][2]


def _undominated(states: list[tuple[int, float, dict[str, int]]]) -> list[tuple[int, float, dict[str, int]]]:
    """Ascending in bits and strictly descending in damage."""
    kept: list[tuple[int, float, dict[str, int]]] = []
    lowest = math.inf
    for state in sorted(states, key=lambda state: state[:2]):
        if state[1] < lowest:
            kept.append(state)
            lowest = state[1]
    return kept
