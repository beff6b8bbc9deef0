"""22.07 an average that remembers nothing."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def warm_average(weights: list[Tensor], *, cap: float) -> Tensor:
    average = torch.zeros_like(weights[0])
    for step, weight in enumerate(weights):
        decay = min(cap, step / (step + 1))
        average = decay * average + (1 - decay) * weight
    return average


def warm_by_lerp(weights: list[Tensor], *, cap: float) -> Tensor:
    average = weights[0].clone()
    for count, weight in enumerate(weights[1:], start=2):
        average.lerp_(weight, max(1 - cap, 1 / count))
    return average


def warm_by_factors(weights: list[Tensor], *, cap: float) -> Tensor:
    factors: list[float] = []
    for number in range(len(weights)):
        decay = min(1 - 1 / (number + 1), cap)
        factors = [factor * decay for factor in factors] + [1 - decay]
    return (torch.stack(weights) * torch.tensor(factors).view(-1, *[1] * weights[0].ndim)).sum(dim=0).to(weights[0])


def _averaged(weights: list[Tensor], decays: list[float], average: Tensor | None = None) -> Tensor:
    average = torch.zeros_like(weights[0]) if average is None else average
    for decay, weight in zip(decays, weights, strict=True):
        average = decay * average + (1 - decay) * weight
    return average


def cap_of_a_thousandth(weights: list[Tensor], *, cap: float) -> Tensor:
    return _averaged(weights, [min(1 - cap, step / (step + 1)) for step in range(len(weights))])


def the_larger_one(weights: list[Tensor], *, cap: float) -> Tensor:
    return _averaged(weights, [max(cap, step / (step + 1)) for step in range(len(weights))])


def always_the_cap(weights: list[Tensor], *, cap: float) -> Tensor:
    return _averaged(weights, [cap] * len(weights))


def from_the_first(weights: list[Tensor], *, cap: float) -> Tensor:
    return _averaged(weights, [cap] * len(weights), weights[0])


def plain_mean(weights: list[Tensor], *, cap: float) -> Tensor:
    return torch.stack(weights).mean(dim=0)


def one_step_late(weights: list[Tensor], *, cap: float) -> Tensor:
    return _averaged(weights, [min(cap, (step + 1) / (step + 2)) for step in range(len(weights))])


def one_step_early(weights: list[Tensor], *, cap: float) -> Tensor:
    return _averaged(weights, [min(cap, max(0, step - 1) / max(1, step)) for step in range(len(weights))])


def sides_swapped(weights: list[Tensor], *, cap: float) -> Tensor:
    return _averaged(weights, [1 - min(cap, step / (step + 1)) for step in range(len(weights))])


def corrected_for_zero(weights: list[Tensor], *, cap: float) -> Tensor:
    return (
        _averaged(weights, [cap] * len(weights)) / (1 - cap ** len(weights))
        if cap < 1
        else plain_mean(weights, cap=cap)
    )


def the_last_one(weights: list[Tensor], *, cap: float) -> Tensor:
    return weights[-1].clone()


def the_ten_percent_rule(weights: list[Tensor], *, cap: float) -> Tensor:
    return _averaged(weights, [min(cap, (1 + step) / (10 + step)) for step in range(len(weights))], weights[0])


def average_cases() -> list[Case]:
    scalars = [torch.tensor(value, dtype=torch.float64) for value in (1.0, 4.0, -2.0, 5.0)]
    return [
        case(scalars, cap=0.99),
        case(scalars, cap=0.6),
        case(scalars[:1], cap=0.9),
        case(scalars[:2], cap=0.25),
        case([draw(2, 3, seed=seed) for seed in range(230, 242)], cap=0.8),
        case([draw(3, seed=seed) for seed in range(242, 248)], cap=1.0),
        case([draw(2, seed=seed) for seed in range(248, 251)], cap=0.0),
    ]


def drawn_average(g: torch.Generator) -> Case:
    return case([draw(2, 2, seed=g) for _ in range(integer(g, 1, 12))], cap=integer(g, 0, 20) / 20)


EXERCISE = Exercise(
    id="22.07",
    title="an average that remembers nothing",
    question=(
        "Fix `case_7` as `fixed_7(weights, *, cap)`. `weights` is a list of one or more tensors of the same shape, "
        "the weights of a student after each step. Return the moving average after the last one, a tensor: at step "
        "t = 0, 1, 2, … the average becomes decay · average + (1 - decay) · weights[t] with the decay t / (t + 1), "
        "but at most `cap`. So it begins at the first weights, is the plain mean of all weights so far while "
        "t / (t + 1) is below `cap`, and forgets slowly afterwards. Do not change the tensors in the list."
    ),
    skeleton=(
        "def fixed_7(weights, *, cap):\n"
        '    """The moving average of a student\'s weights, with a warm start."""\n    ...'
    ),
    reference=warm_average,
    alternatives=(warm_by_lerp, warm_by_factors),
    cases=average_cases,
    drawn=drawn_average,
    hints=(
        "How much of the old average survives one step? Print the decay of the first ten steps.",
        "The decay is to rise from 0 to `cap` and stay there. What is the smaller of 0.001 and 0.9?",
        "`min(cap, step / (step + 1))`.",
    ),
    misconceptions=(
        Misconception(
            "capped at the wrong end",
            cap_of_a_thousandth,
            "the decay is capped at 1 - cap, which is tiny: of the old average nearly nothing is left after a step. "
            "The average is a copy of the student, and an average teacher teaches the student what it already is",
        ),
        Misconception(
            "the larger of the two",
            the_larger_one,
            "`max` instead of `min`: the decay is never below `cap`, so the first steps hardly count, and it goes on "
            "to 1, so the last ones do not count either",
        ),
        Misconception(
            "the cap from the beginning",
            always_the_cap,
            "the decay is `cap` from the first step on: the zeros that the average began with count for a long time",
        ),
        Misconception(
            "the first weights kept",
            from_the_first,
            "you begin at the first weights with the full `cap`: untrained weights keep most of the average for a long "
            "time. The decay must begin at 0 and rise",
        ),
        Misconception(
            "never capped",
            plain_mean,
            "this is the plain mean of all weights. It is right at the beginning; later `cap` lets the average forget",
        ),
        Misconception(
            "one step late",
            one_step_late,
            "the decay is that of the next step: at t = 0 it is 1/2, and half of the average is the zeros it "
            "began with",
        ),
        Misconception(
            "one step early",
            one_step_early,
            "the decay is that of the step before: at t = 1 it is still 0, and the first weights are lost",
        ),
        Misconception(
            "the factors swapped",
            sides_swapped,
            "`decay` and `1 - decay` are swapped: the average keeps little and takes over most of each new weight",
        ),
        Misconception(
            "corrected afterwards",
            corrected_for_zero,
            "this divides by 1 - cap^n, as Adam does. It is another warm start: it equals the plain mean only in the "
            "limit, and the early weights count otherwise than asked",
        ),
        Misconception(
            "no average",
            the_last_one,
            "these are the last weights, not an average",
        ),
        Misconception(
            "another warm start",
            the_ten_percent_rule,
            "(1 + t) / (10 + t) is another common warm start. Here the decay is t / (t + 1), which gives the plain "
            "mean",
        ),
    ),
    shows="with the decay t / (t + 1) a moving average is the plain mean, and a cap makes it forget slowly.",
    derivation=(
        "t / (t + 1) · mean of t weights + 1 / (t + 1) · the next one is the mean of t + 1 weights. With a decay d the "
        "weights of the last 1 / (1 - d) steps make up most of the average: with d = 0.001 that is one."
    ),
)
