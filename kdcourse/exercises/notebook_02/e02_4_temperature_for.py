"""02.4 the temperature for an entropy."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
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
    for _ in range(60):  # bounded, so that a slow search is a wrong value and not a matter of time
        gap = wanted - entropy(logits, temperature=T).mean().item()
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


def entropies_summed(logits: Tensor, wanted: float) -> float:
    return temperature_for(logits, wanted / len(logits))


def first_row_only(logits: Tensor, wanted: float) -> float:
    return temperature_for(logits[:1], wanted)


def fraction_of_the_largest(logits: Tensor, wanted: float) -> float:
    return temperature_for(logits, wanted * math.log(logits.shape[-1]))


def _halved(low: float, high: float, too_low: Callable[[float], bool]) -> float:
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return high


def entropy_of_mean_probabilities(logits: Tensor, wanted: float) -> float:
    def too_low(temperature: float) -> bool:
        p = (logits / temperature).softmax(dim=-1).mean(dim=0)
        return torch.special.entr(p).sum().item() < wanted

    return _halved(0.01, 1000.0, too_low)


def never_below_one(logits: Tensor, wanted: float) -> float:
    return _halved(1.0, 1000.0, lambda temperature: entropy(logits, temperature=temperature).mean().item() < wanted)


def never_above_hundred(logits: Tensor, wanted: float) -> float:
    return _halved(0.01, 100.0, lambda temperature: entropy(logits, temperature=temperature).mean().item() < wanted)


def middle_row(logits: Tensor, wanted: float) -> float:
    return _halved(0.01, 1000.0, lambda temperature: entropy(logits, temperature=temperature).median().item() < wanted)


def temperature_for_cases() -> list[Case]:
    small = torch.tensor([[3.0, 1.0, 0.0], [0.0, 4.0, 2.0]], dtype=torch.float64)
    # in the last two the temperature is near a border of the interval
    return [case(small, 0.9), case(draw(6, 10, seed=5), 2.1), case(small, 0.3), case(draw(5, 4, seed=6), 0.75),
            case(draw(4, 3, seed=7) / 60, 0.4), case(draw(4, 5, seed=8) * 300, 1.1)]  # fmt: skip


def drawn_logits(g: torch.Generator) -> Case:
    classes = integer(g, 3, 6)
    return case(draw(integer(g, 2, 5), classes, seed=g), integer(g, 4, 9) / 10 * math.log(classes))


EXERCISE = Exercise(
    id="02.4",
    title="the temperature for an entropy",
    question=(
        "Write `my_temperature_for(logits, wanted)`: the temperature between 0.01 and 1000 at which the *mean* "
        "entropy over the rows is `wanted` nats. Entropy rises with temperature, so bisection finds it. Return a "
        "number, accurate to one part in a million."
    ),
    skeleton=(
        "def my_temperature_for(logits, wanted):\n"
        '    """The temperature at which the mean entropy is `wanted` nats."""\n    ...'
    ),
    reference=temperature_for,
    alternatives=(temperature_by_newton, temperature_by_grids),
    cases=temperature_for_cases,
    drawn=drawn_logits,
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
            "you keep the wrong half and end at a boundary. If the entropy is too high, the temperature is too high",
        ),
        Misconception(
            "wanted interpreted as bits",
            wanted_in_bits,
            "you interpret `wanted` as bits. One bit is ln 2 = 0.693 nats",
        ),
        Misconception(
            "integers only",
            whole_temperatures,
            "you try integer temperatures only. The temperature with exactly this entropy is usually between two of "
            "them",
        ),
        Misconception(
            "entropy of the mean",
            entropy_of_the_mean,
            "you average the logits and then take the entropy. Rows that disagree cancel. Take each row's entropy "
            "and average those",
        ),
        Misconception(
            "entropies summed",
            entropies_summed,
            "you compare the *sum* of the rows' entropies with `wanted`. Take their mean",
        ),
        Misconception(
            "the first row only",
            first_row_only,
            "you look at the first row only. Use the mean entropy over all rows",
        ),
        Misconception(
            "fraction of the largest entropy",
            fraction_of_the_largest,
            "you interpret `wanted` as a fraction of ln C. It is given in nats",
        ),
        Misconception(
            "entropy of the mean probabilities",
            entropy_of_mean_probabilities,
            "you average the probabilities and then take the entropy. Rows that disagree then look uncertain "
            "although each is confident. Take each row's entropy and average those",
        ),
        Misconception(
            "never below one",
            never_below_one,
            "correct above T = 1, but you never look below it. The temperature can be as low as 0.01",
        ),
        Misconception(
            "never above a hundred",
            never_above_hundred,
            "correct up to T = 100, but you never look above it. The temperature can be as high as 1000",
        ),
        Misconception(
            "the middle row",
            middle_row,
            "you take the median of the rows' entropies. Take the mean",
        ),
    ),
    shows="as entropy rises with temperature, there is one temperature for each entropy, and bisection finds it.",
    derivation=(
        "dH/dT = Var/T³ ≥ 0: the mean entropy grows from its limit at T → 0 to ln C and takes each value in between "
        "once."
    ),
    relative=1e-6,
    points=2,
)
