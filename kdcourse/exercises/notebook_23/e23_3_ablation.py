"""23.3 what an ingredient brings, over paired seeds."""

import math
import statistics as stats

import numpy as np
import torch
from scipy.stats import t

from ...metrics import paired_interval
from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal

Accuracies = list[float]
Gain = tuple[float, float, float]


def ablation(whole: Accuracies, without: Accuracies) -> Gain:
    interval = paired_interval(whole, without)
    return 100 * interval.mean, 100 * interval.low, 100 * interval.high


def ablation_by_numpy(whole: Accuracies, without: Accuracies) -> Gain:
    if len(whole) != len(without) or len(whole) < 2:
        raise ValueError("every seed needs both accuracies, and one seed has no spread")
    gains = 100 * (np.array(whole) - np.array(without))
    n = len(gains)
    reach = t.ppf(0.975, df=n - 1) * gains.std(ddof=1) / np.sqrt(n)
    return float(gains.mean()), float(gains.mean() - reach), float(gains.mean() + reach)


def ablation_by_hand(whole: Accuracies, without: Accuracies) -> Gain:
    gains = [(one - other) * 100 for one, other in zip(whole, without, strict=True)]  # strict raises the ValueError
    if not gains[1:]:
        raise ValueError("at least two seeds")
    mean = math.fsum(gains) / len(gains)
    squares = math.fsum((gain - mean) ** 2 for gain in gains)
    error = math.sqrt(squares / len(gains) / (len(gains) - 1))
    low, high = t.interval(0.95, len(gains) - 1, loc=mean, scale=error)
    return mean, float(low), float(high)


def _gains(whole: Accuracies, without: Accuracies) -> list[float]:
    return [100 * (one - other) for one, other in zip(whole, without, strict=True)]


def _around(mean: float, reach: float) -> Gain:
    return mean, mean - reach, mean + reach


def _quantile(freedom: float, level: float = 0.975) -> float:
    return float(t.ppf(level, freedom))


def _error(values: list[float]) -> float:
    return stats.stdev(values) / math.sqrt(len(values))


def turned_round(whole: Accuracies, without: Accuracies) -> Gain:
    return ablation(without, whole)


def unpaired(whole: Accuracies, without: Accuracies) -> Gain:
    n = len(whole)
    error = 100 * math.sqrt((stats.variance(whole) + stats.variance(without)) / n)
    return _around(stats.fmean(_gains(whole, without)), _quantile(2 * n - 2) * error)


def divided_by_n(whole: Accuracies, without: Accuracies) -> Gain:
    gains = _gains(whole, without)
    n = len(gains)
    return _around(stats.fmean(gains), _quantile(n - 1) * stats.pstdev(gains) / math.sqrt(n))


def normal_quantile(whole: Accuracies, without: Accuracies) -> Gain:
    gains = _gains(whole, without)
    return _around(stats.fmean(gains), stats.NormalDist().inv_cdf(0.975) * _error(gains))


def spread_of_one(whole: Accuracies, without: Accuracies) -> Gain:
    gains = _gains(whole, without)
    return _around(stats.fmean(gains), _quantile(len(gains) - 1) * stats.stdev(gains))


def one_error(whole: Accuracies, without: Accuracies) -> Gain:
    gains = _gains(whole, without)
    return _around(stats.fmean(gains), _error(gains))


def ninety(whole: Accuracies, without: Accuracies) -> Gain:
    gains = _gains(whole, without)
    return _around(stats.fmean(gains), _quantile(len(gains) - 1, 0.95) * _error(gains))


def freedom_n(whole: Accuracies, without: Accuracies) -> Gain:
    gains = _gains(whole, without)
    return _around(stats.fmean(gains), _quantile(len(gains)) * _error(gains))


def best_of_each(whole: Accuracies, without: Accuracies) -> Gain:
    _, low, high = ablation(whole, without)
    return _around(100 * (max(whole) - max(without)), (high - low) / 2)


def median_gain(whole: Accuracies, without: Accuracies) -> Gain:
    _, low, high = ablation(whole, without)
    return _around(stats.median(_gains(whole, without)), (high - low) / 2)


def smallest_and_largest(whole: Accuracies, without: Accuracies) -> Gain:
    gains = _gains(whole, without)
    return stats.fmean(gains), min(gains), max(gains)


def fractions(whole: Accuracies, without: Accuracies) -> Gain:
    mean, low, high = ablation(whole, without)
    return mean / 100, low / 100, high / 100


def relative(whole: Accuracies, without: Accuracies) -> Gain:
    return ablation([one / other for one, other in zip(whole, without, strict=True)], [1.0] * len(whole))


def without_a_sign(whole: Accuracies, without: Accuracies) -> Gain:
    gains = [abs(gain) / 100 for gain in _gains(whole, without)]
    return ablation(gains, [0.0] * len(gains))


def sorted_first(whole: Accuracies, without: Accuracies) -> Gain:
    return ablation(sorted(whole), sorted(without))


def mean_in_the_middle(whole: Accuracies, without: Accuracies) -> Gain:
    mean, low, high = ablation(whole, without)
    return low, mean, high


def cut_to_the_shorter(whole: Accuracies, without: Accuracies) -> Gain:
    count = min(len(whole), len(without))
    return ablation(whole[:count], without[:count])


def one_seed_is_certain(whole: Accuracies, without: Accuracies) -> Gain:
    if len(whole) == len(without) == 1:
        return _around(100 * (whole[0] - without[0]), 0.0)
    return ablation(whole, without)


def ablation_cases() -> list[Case]:
    return [
        case([0.96, 0.9725, 0.981], [0.9585, 0.9625, 0.9685]),
        case([0.975, 0.981, 0.9695, 0.979, 0.982], [0.971, 0.9835, 0.968, 0.9725, 0.9745]),
        case([0.91, 0.88, 0.93, 0.902, 0.89, 0.917, 0.921], [0.94, 0.897, 0.955, 0.931, 0.925, 0.938, 0.949]),
        case([0.98, 0.95], [0.91, 0.94]),
        case([0.5, 0.75, 0.625, 0.875], [0.25, 0.125, 0.875, 0.5]),
        refusal("a seed that one of the two lacks", [0.9, 0.92, 0.93], [0.9, 0.91]),
        refusal("one accuracy for three seeds", [0.97, 0.975, 0.98], [0.96]),
        refusal("a single seed, which has no spread", [0.97], [0.96]),
    ]


def drawn_ablation(g: torch.Generator) -> Case:
    count = integer(g, 3, 8)
    level, own = 0.9 + draw(count, seed=g, spread=0.02), draw(count, seed=g, spread=0.01)
    return case((level + own).clamp(max=0.999).tolist(), level.clamp(max=0.998).tolist())


EXERCISE = Exercise(
    id="23.3",
    title="what an ingredient brings",
    question=(
        "A recipe was run with several seeds, and again with the same seeds but without one of its ingredients. "
        "`whole` and `without` are lists of the two runs' accuracies, as fractions, in the same order of seeds. Write "
        "`my_ablation(whole, without)`: three floats (mean, low, high), the mean over the seeds of what the ingredient "
        "brings, in percentage points and positive if it helps, and the 95 % interval of Student's t for that mean. "
        "The differences are paired by seed. `kdcourse.metrics.paired_interval` or `scipy.stats.t` knows the "
        "quantiles. Raise a `ValueError` if the lists have different lengths, or fewer than two seeds."
    ),
    skeleton=(
        "def my_ablation(whole, without):\n"
        '    """(mean, low, high) of the gain in points, over paired seeds."""\n    ...'
    ),
    reference=ablation,
    alternatives=(ablation_by_numpy, ablation_by_hand),
    cases=ablation_cases,
    drawn=drawn_ablation,
    hints=(
        "One seed gives one difference. Forget the accuracies: you have a list of n differences.",
        "Their mean ± t · s / √n, with s the standard deviation (divided by n - 1) and t the 97.5 % quantile of "
        "Student's t with n - 1 degrees of freedom.",
        "`paired_interval(whole, without)` returns (mean, low, high) as fractions, and refuses what is to be refused.",
    ),
    misconceptions=(
        Misconception(
            "the wrong way round",
            turned_round,
            "the sign is wrong: an ingredient helps if the *whole* recipe is better than the one without it",
        ),
        Misconception(
            "not paired",
            unpaired,
            "you treat the two lists as independent runs. They share seeds: subtract seed by seed first, and what a "
            "seed does to both cancels",
        ),
        Misconception(
            "divided by n",
            divided_by_n,
            "your standard deviation divides by n. The mean was estimated from the same differences: divide by n - 1 "
            "(NumPy's `std` needs `ddof=1`)",
        ),
        Misconception(
            "1.96",
            normal_quantile,
            "1.96 is right where the spread is known. From a few seeds it is only estimated: with five of them t is "
            "2.78, with two 12.7",
        ),
        Misconception(
            "not divided by √n",
            spread_of_one,
            "this is where one more seed might fall. The interval of the *mean* is √n times shorter",
        ),
        Misconception(
            "one standard error",
            one_error,
            "this is the mean ± one standard error, an interval of 68 % at best. Multiply by the quantile of Student's "
            "t",
        ),
        Misconception(
            "90 %",
            ninety,
            "95 % leaves 2.5 % on each side: take the quantile of 0.975. With that of 0.95 this is a 90 % interval",
        ),
        Misconception(
            "n degrees of freedom",
            freedom_n,
            "your quantile has n degrees of freedom. One was used up by the mean: n - 1",
        ),
        Misconception(
            "the best of each",
            best_of_each,
            "you compare the best seed of one with the best seed of the other. These are two lucky runs; average over "
            "all",
        ),
        Misconception(
            "the median",
            median_gain,
            "this is the median of the differences. The interval of Student's t belongs to the mean",
        ),
        Misconception(
            "the smallest and the largest",
            smallest_and_largest,
            "these are the smallest and the largest difference. They move apart the more seeds you run; an interval of "
            "the mean gets shorter",
        ),
        Misconception(
            "fractions",
            fractions,
            "these are fractions. Percentage points are 100 times as much",
        ),
        Misconception(
            "in percent of the accuracy",
            relative,
            "you divide by the accuracy: a gain in percent. Points are differences of accuracies in percent",
        ),
        Misconception(
            "without a sign",
            without_a_sign,
            "you take absolute values. Then no ingredient can do harm, and pure chance looks like a gain",
        ),
        Misconception(
            "sorted first",
            sorted_first,
            "you sort the lists. Then the pairs no longer share a seed, and the spread of the differences is too small",
        ),
        Misconception(
            "low, mean, high",
            mean_in_the_middle,
            "the three values are correct, in another order: return (mean, low, high)",
        ),
        Misconception(
            "cut to the shorter",
            cut_to_the_shorter,
            "correct where every seed has both runs. Where one is missing you pair what is left, perhaps of different "
            "seeds: raise a `ValueError`",
        ),
        Misconception(
            "one seed is certain",
            one_seed_is_certain,
            "a single seed gets an interval of width 0. Nothing is known of the spread: raise a `ValueError`",
        ),
    ),
    shows="an ingredient helps if the interval of its paired gain lies above zero, and not because its best run does.",
    derivation=(
        "Let whole = a_s + e_s and without = b_s + e_s, with e_s what seed s does to both. The difference is "
        "a_s - b_s: e_s cancels. If the differences are normal with unknown spread, (mean - gain) · √n / s has "
        "Student's distribution with n - 1 degrees of freedom."
    ),
)
