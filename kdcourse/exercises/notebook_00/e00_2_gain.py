"""00.2 a gain over pairs."""

import torch

from ..engine.core import Case, Exercise, Misconception, case


def gain(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    differences = [100 * (one - other) for one, other in zip(distilled, alone, strict=True)]
    return sum(differences) / len(differences), sum(d > 0 for d in differences)


def gain_with_tensors(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    difference = torch.tensor(distilled, dtype=torch.float64) - torch.tensor(alone, dtype=torch.float64)
    return 100 * difference.mean().item(), int((difference > 0).sum())


def gain_of_means(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    points = 100 * (sum(distilled) - sum(alone)) / len(alone)
    return points, sum(one > other for one, other in zip(distilled, alone, strict=True))


def best_against_best(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    return 100 * (max(distilled) - max(alone)), gain(distilled, alone)[1]


def relative_gain(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    ratios = [100 * (one / other - 1) for one, other in zip(distilled, alone, strict=True)]
    return sum(ratios) / len(ratios), sum(r > 0 for r in ratios)


def sorted_pairs(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    return gain(sorted(distilled), sorted(alone))


def ties_counted(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    return gain(distilled, alone)[0], sum(one >= other for one, other in zip(distilled, alone, strict=True))


def share_for_points(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    points, wins = gain(distilled, alone)
    return points / 100, wins


def gain_cases() -> list[Case]:
    return [
        case([0.95, 0.93, 0.96], [0.93, 0.94, 0.92]),
        case([0.9, 0.92, 0.91, 0.95], [0.89, 0.92, 0.93, 0.9]),
    ]


EXERCISE = Exercise(
    id="00.2",
    title="a gain over pairs",
    question=(
        "Two lists of accuracies between 0 and 1, one entry a seed, the same seeds in the same order. "
        "Write `my_gain(distilled, alone)`. It returns two numbers: the mean gain in **percentage points**, and in how "
        "many seeds the distilled student is strictly better."
    ),
    skeleton=(
        'def my_gain(distilled, alone):\n    """Mean gain in percentage points, and how many seeds gain."""\n    ...'
    ),
    reference=gain,
    alternatives=(gain_with_tensors, gain_of_means),
    cases=gain_cases,
    hints=(
        "What belongs together? Subtract first, then average.",
        "`zip(distilled, alone)` gives the pairs. From 93 % to 95 % are two points.",
        "`differences = [100 * (a - b) for a, b in zip(distilled, alone)]`; return their mean and how many are > 0.",
    ),
    misconceptions=(
        Misconception(
            "best against best",
            best_against_best,
            "you compare the best run of each arm. The best of several is luck as much as merit, and more runs make "
            "it better by themselves. Compare seed by seed, then average",
        ),
        Misconception(
            "relative gain",
            relative_gain,
            "this is the gain in per cent of the other arm. From 50 % to 55 % are five points, but a relative gain of "
            "10 %: say which one you mean. Points are asked here",
        ),
        Misconception(
            "pairs sorted apart",
            sorted_pairs,
            "you sort the two lists, and so tear the pairs apart. Entry k of both lists comes from the same seed",
        ),
        Misconception(
            "ties counted as gains",
            ties_counted,
            "you count ties as gains. Strictly better is >, not >=",
        ),
        Misconception(
            "a share for points",
            share_for_points,
            "your gain is a share, not points: it is 100 times too small",
        ),
    ),
    shows="a comparison goes pair by pair, and a point is not a per cent.",
    derivation=(
        "The mean of differences is the difference of means, but only pairs tell in how many seeds one is better."
    ),
)
