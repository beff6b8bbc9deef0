"""02.4 the temperature for an entropy."""

import math

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw
from .e02_2_entropy import entropy
from .e02_3_slope import entropy_slope


def temperature_for(logits: Tensor, wanted: float) -> float:
    low, high = 0.01, 1000.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        if entropy(logits, temperature=middle).mean().item() < wanted:
            low = middle
        else:
            high = middle
    return middle


def temperature_by_newton(logits: Tensor, wanted: float) -> float:
    T = 0.3
    while abs(gap := wanted - entropy(logits, temperature=T).mean().item()) > 1e-12:
        step = gap / entropy_slope(logits, T).mean().item()
        T = min(max(T + step, T / 2), 2 * T)
    return T


def temperature_by_grids(logits: Tensor, wanted: float) -> float:
    low, high = 0.01, 1000.0
    for _ in range(8):
        grid = torch.logspace(math.log10(low), math.log10(high), 50, dtype=torch.float64)
        heights = torch.stack([entropy(logits, temperature=T.item()).mean() for T in grid])
        above = max(1, min(49, int((heights < wanted).sum())))
        low, high = grid[above - 1].item(), grid[above].item()
    return low


def inverse_temperature(logits: Tensor, wanted: float) -> float:
    return 1 / temperature_for(logits, wanted)


def wrong_half(logits: Tensor, wanted: float) -> float:
    low, high = 0.01, 1000.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        above = entropy(logits, temperature=middle).mean().item() > wanted
        low, high = (middle, high) if above else (low, middle)
    return middle


def wanted_in_bits(logits: Tensor, wanted: float) -> float:
    return temperature_for(logits, wanted * math.log(2))


def whole_temperatures(logits: Tensor, wanted: float) -> float:
    return float(min(range(1, 21), key=lambda T: abs(entropy(logits, temperature=T).mean().item() - wanted)))


def entropy_of_the_mean(logits: Tensor, wanted: float) -> float:
    return temperature_for(logits.mean(dim=0, keepdim=True), wanted)


def temperature_for_cases() -> list[Case]:
    small = torch.tensor([[3.0, 1.0, 0.0], [0.0, 4.0, 2.0]], dtype=torch.float64)
    return [case(small, 0.9), case(draw(6, 10, seed=5), 2.1), case(small, 0.3)]


EXERCISE = Exercise(
    id="02.4",
    title="the temperature for an entropy",
    question=(
        "Write `my_temperature_for(logits, wanted)`: the temperature between 0.01 and 1000 at which the "
        "*mean* entropy "
        "over the rows is `wanted` nats. Entropy rises with temperature, so halving an interval finds it. The result "
        "is a number, right to one part in a million."
    ),
    skeleton=(
        "def my_temperature_for(logits, wanted):\n"
        '    """The temperature at which the mean entropy is `wanted` nats."""\n    ...'
    ),
    reference=temperature_for,
    alternatives=(temperature_by_newton, temperature_by_grids),
    cases=temperature_for_cases,
    hints=(
        "Is the entropy at the middle too low or too high? Which half can you drop?",
        "Entropy below `wanted`: the temperature is too low, so `low = middle`. Else `high = middle`.",
        "Sixty halvings of [0.01, 1000], with the middle at `math.sqrt(low * high)`, are far more than enough.",
    ),
    misconceptions=(
        Misconception(
            "inverse temperature",
            inverse_temperature,
            "you return 1/T. That is the inverse temperature, which multiplies the logits",
        ),
        Misconception(
            "the wrong half kept",
            wrong_half,
            "you keep the wrong half and end at a border. If the entropy is too high, the temperature is too high",
        ),
        Misconception(
            "wanted taken for bits",
            wanted_in_bits,
            "you take `wanted` for bits. One bit is ln 2 = 0.693 nats",
        ),
        Misconception(
            "whole numbers only",
            whole_temperatures,
            "you try whole temperatures only. The entropy is wanted exactly, and between two of them it jumps past it",
        ),
        Misconception(
            "entropy of the mean",
            entropy_of_the_mean,
            "you average the logits and then take the entropy. Rows that disagree cancel there. Take each "
            "row's entropy "
            "and average those",
        ),
    ),
    shows="as entropy only rises with temperature, there is one temperature for every entropy, and halving finds it.",
    derivation="dH/dT = Var/T³ ≥ 0: the mean entropy grows from the share of ties at T → 0 to ln C, each value once.",
    relative=1e-6,
    points=2,
)
