"""00.2 a gain over pairs."""

import statistics

import torch

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def gain(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    differences = [100 * (one - other) for one, other in zip(distilled, baseline, strict=True)]
    return sum(differences) / len(differences), sum(d > 0 for d in differences)


def gain_with_tensors(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    difference = torch.tensor(distilled, dtype=torch.float64) - torch.tensor(baseline, dtype=torch.float64)
    return 100 * difference.mean().item(), int((difference > 0).sum())


def gain_of_means(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    points = 100 * (sum(distilled) - sum(baseline)) / len(baseline)
    return points, sum(one > other for one, other in zip(distilled, baseline, strict=True))


def best_against_best(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    return 100 * (max(distilled) - max(baseline)), gain(distilled, baseline)[1]


def relative_gain(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    ratios = [100 * (one / other - 1) for one, other in zip(distilled, baseline, strict=True)]
    return sum(ratios) / len(ratios), sum(r > 0 for r in ratios)


def sorted_pairs(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    return gain(sorted(distilled), sorted(baseline))


def ties_counted(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    return gain(distilled, baseline)[0], sum(one >= other for one, other in zip(distilled, baseline, strict=True))


def share_for_points(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    points, wins = gain(distilled, baseline)
    return points / 100, wins


def arms_swapped(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    return gain(baseline, distilled)


def results_swapped(distilled: list[float], baseline: list[float]) -> tuple[int, float]:
    points, wins = gain(distilled, baseline)
    return wins, points


def fraction_of_wins(distilled: list[float], baseline: list[float]) -> tuple[float, float]:
    points, wins = gain(distilled, baseline)
    return points, wins / len(baseline)


def sum_for_mean(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    points, wins = gain(distilled, baseline)
    return points * len(baseline), wins


def median_for_mean(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    differences = [100 * (one - other) for one, other in zip(distilled, baseline, strict=True)]
    return statistics.median(differences), gain(distilled, baseline)[1]


def at_least_a_point(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    return gain(distilled, baseline)[0], sum(
        one - other >= 0.01 for one, other in zip(distilled, baseline, strict=True)
    )


def losses_left_out(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    differences = [100 * max(one - other, 0.0) for one, other in zip(distilled, baseline, strict=True)]
    return sum(differences) / len(differences), gain(distilled, baseline)[1]


def absolute_differences(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    differences = [100 * abs(one - other) for one, other in zip(distilled, baseline, strict=True)]
    return sum(differences) / len(differences), gain(distilled, baseline)[1]


def every_pair(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    return gain(distilled, baseline)[0], sum(one > other for one in distilled for other in baseline)


def better_than_the_mean(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    return gain(distilled, baseline)[0], sum(one > sum(baseline) / len(baseline) for one in distilled)


def losses_counted(distilled: list[float], baseline: list[float]) -> tuple[float, int]:
    return gain(distilled, baseline)[0], gain(baseline, distilled)[1]


def gain_cases() -> list[Case]:
    return [
        case([0.95, 0.93, 0.96], [0.93, 0.94, 0.92]),
        case([0.9, 0.92, 0.91, 0.95], [0.89, 0.92, 0.93, 0.9]),
        case([0.9, 0.8, 0.7, 0.85, 0.75], [0.9, 0.8, 0.71, 0.85, 0.75]),  # never better, and ties
        case([0.912, 0.875, 0.6421], [0.9081, 0.871, 0.64]),  # always better, by less than a point
        case([0.5], [0.625]),
    ]


def drawn_gain(generator: torch.Generator) -> Case:
    seeds = integer(generator, 2, 8)
    return case(*(draw(seeds, seed=generator, spread=1.0).sigmoid().tolist() for _ in range(2)))


EXERCISE = Exercise(
    id="00.2",
    title="a gain over pairs",
    question=(
        "Given are two lists of accuracies between 0 and 1, one entry per seed, with the same seeds in the same order. "
        "Write `my_gain(distilled, baseline)`. It returns two numbers: the mean gain in **percentage points**, and the "
        "number of seeds for which the distilled student is strictly better."
    ),
    skeleton=(
        'def my_gain(distilled, baseline):\n    """Mean gain in percentage points, and the number of seeds that '
        'gain."""\n    ...'
    ),
    reference=gain,
    alternatives=(gain_with_tensors, gain_of_means),
    cases=gain_cases,
    drawn=drawn_gain,
    hints=(
        "Which entries belong together? Subtract first, then average.",
        "`zip(distilled, baseline)` gives the pairs. From 93 % to 95 % is a gain of two points.",
        "`differences = [100 * (a - b) for a, b in zip(distilled, baseline)]`; return their mean and how many are > 0.",
    ),
    misconceptions=(
        Misconception(
            "best against best",
            best_against_best,
            "you compare the best run of each arm. The best of several runs is partly luck, and merely running more "
            "improves it. Compare seed by seed, then average",
        ),
        Misconception(
            "relative gain",
            relative_gain,
            "this is the gain relative to the baseline: from 50 % to 55 % is a gain of five points, but a relative "
            "gain of 10 %: say which one you mean. Here the question asks for points",
        ),
        Misconception(
            "pairs sorted apart",
            sorted_pairs,
            "you sort the two lists, which breaks the pairs. Entry k of both lists comes from the same seed",
        ),
        Misconception(
            "ties counted as gains",
            ties_counted,
            "you count ties as gains. Strictly better is >, not >=",
        ),
        Misconception(
            "a fraction instead of points",
            share_for_points,
            "your gain is a fraction, not percentage points: it is 100 times too small",
        ),
        Misconception(
            "the two arms swapped",
            arms_swapped,
            "you subtract the wrong way round: the gain is distilled minus baseline, and it is positive where "
            "distillation helps",
        ),
        Misconception(
            "the two results swapped",
            results_swapped,
            "the two results are swapped: the mean gain comes first, then the number of seeds",
        ),
        Misconception(
            "a fraction instead of the count",
            fraction_of_wins,
            "your second number is a fraction of the seeds. The question asks for their *number*",
        ),
        Misconception(
            "the sum instead of the mean",
            sum_for_mean,
            "you add the gains up and do not divide by the number of seeds. More seeds would make the gain larger",
        ),
        Misconception(
            "the median instead of the mean",
            median_for_mean,
            "this is the median of the gains. The question asks for the mean",
        ),
        Misconception(
            "better only by a point",
            at_least_a_point,
            "you count a seed only if it gains at least one point. Strictly better means by any amount",
        ),
        Misconception(
            "losses left out",
            losses_left_out,
            "you count a loss as 0 in the mean. Then even pure chance looks like a gain: average all differences with "
            "their signs",
        ),
        Misconception(
            "absolute differences",
            absolute_differences,
            "you average absolute differences. Losses then count as gains: keep the sign",
        ),
        Misconception(
            "every pair",
            every_pair,
            "you compare every distilled student with every baseline. Entry k of both lists comes from the same seed: "
            "compare only those",
        ),
        Misconception(
            "better than the mean",
            better_than_the_mean,
            "you count the students that beat the *mean* of the baseline. Compare each with the baseline of the same "
            "seed",
        ),
        Misconception(
            "losses counted",
            losses_counted,
            "you count the seeds for which the distilled student is worse",
        ),
    ),
    shows="a comparison goes pair by pair, and a percentage point is not a per cent.",
    derivation=("The mean of the differences is the difference of the means, but only pairs show how many seeds gain."),
)
