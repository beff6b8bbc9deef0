"""23.1 Clopper and Pearson's interval of a fraction."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import beta, binom, norm

from ..engine.core import Case, Exercise, Misconception, case, integer

Ends = tuple[float, float]


def interval_of(right: int, total: int) -> Ends:
    def probability(p: float, counts: range) -> float:
        return sum(math.comb(total, k) * p**k * (1 - p) ** (total - k) for k in counts)

    low, above = 0.0, 1.0
    for _ in range(60):
        middle = (low + above) / 2
        if probability(middle, range(right, total + 1)) < 0.025:  # so many or more are too improbable
            low = middle
        else:
            above = middle
    below, high = 0.0, 1.0
    for _ in range(60):
        middle = (below + high) / 2
        if probability(middle, range(right + 1)) < 0.025:
            high = middle
        else:
            below = middle
    return low, high


def interval_by_beta(right: int, total: int) -> Ends:
    wrong = total - right
    low = float(beta.ppf(0.025, right, wrong + 1)) if right > 0 else 0.0
    high = float(beta.ppf(0.975, right + 1, wrong)) if wrong > 0 else 1.0
    return low, high


def interval_by_roots(right: int, total: int) -> Ends:
    def lower(right: int) -> float:
        return brentq(lambda p: binom.sf(right - 1, total, p) - 0.025, 0.0, 1.0, xtol=1e-14) if right else 0.0

    return lower(right), 1 - lower(total - right)  # the high end is the low end of the fraction of errors


def interval_on_a_tensor(right: int, total: int) -> Ends:
    counts = torch.arange(total + 1, dtype=torch.float64)
    ways = math.lgamma(total + 1) - torch.lgamma(counts + 1) - torch.lgamma(total - counts + 1)
    ends = []
    for chosen, side in ((counts >= right, 1), (counts <= right, -1)):
        p, step = 0.5, 0.25
        for _ in range(60):
            terms = ways + torch.xlogy(counts, p) + torch.xlogy(total - counts, 1 - p)
            enough = terms[chosen].exp().sum() >= 0.025
            p = p - side * step if enough else p + side * step
            step /= 2
        ends.append(p)
    return ends[0], ends[1]


def _exact(right: float, total: float, tail: float = 0.025, *, wrong: float | None = None) -> Ends:
    """From the beta distribution, with the counts that are given."""
    errors = total - right if wrong is None else wrong
    low = float(beta.ppf(tail, right, errors + 1)) if right > 0 else 0.0
    high = float(beta.ppf(1 - tail, right + 1, errors)) if errors > 0 else 1.0
    return low, high


def normal(right: int, total: int) -> Ends:
    p = right / total
    reach = 1.96 * math.sqrt(p * (1 - p) / total)
    return p - reach, p + reach


def normal_clipped(right: int, total: int) -> Ends:
    low, high = normal(right, total)
    return max(low, 0.0), min(high, 1.0)


def wilson(right: int, total: int) -> Ends:
    z = float(norm.ppf(0.975))
    middle = (right + z**2 / 2) / (total + z**2)
    reach = z / (total + z**2) * math.sqrt(right * (total - right) / total + z**2 / 4)
    return middle - reach, middle + reach


def five_percent_each(right: int, total: int) -> Ends:
    return _exact(right, total, 0.05)


def observed_left_out(right: int, total: int) -> Ends:
    low = float(beta.ppf(0.025, right + 1, total - right)) if right < total else 1.0
    high = float(beta.ppf(0.975, right, total - right + 1)) if right > 0 else 0.0
    return low, high


def jeffreys(right: int, total: int) -> Ends:
    return tuple(beta.ppf([0.025, 0.975], right + 0.5, total - right + 0.5).tolist())


def flat_prior(right: int, total: int) -> Ends:
    return tuple(beta.ppf([0.025, 0.975], right + 1, total - right + 1).tolist())


def _solved(probability: Callable[[float], float]) -> float:
    """Where a function that falls with p is 0.025."""
    below, above = 0.0, 1.0
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if probability(middle) >= 0.025 else (below, middle)
    return below


def half_of_the_observed(right: int, total: int) -> Ends:
    def end(right: int) -> float:
        return _solved(lambda p: float(binom.cdf(right, total, p) - binom.pmf(right, total, p) / 2))

    return (0.0 if right == 0 else 1 - end(total - right)), (1.0 if right == total else end(right))


def swapped(right: int, total: int) -> Ends:
    return _exact(right, total)[::-1]


def percent(right: int, total: int) -> Ends:
    low, high = _exact(right, total)
    return 100 * low, 100 * high


def counts_instead(right: int, total: int) -> Ends:
    low, high = _exact(right, total)
    return low * total, high * total


def of_the_errors(right: int, total: int) -> Ends:
    return _exact(total - right, total)


def quantiles_of_the_data(right: int, total: int) -> Ends:
    low, high = binom.ppf([0.025, 0.975], total, right / total) / total
    return float(low), float(high)


def center_and_reach(right: int, total: int) -> Ends:
    low, high = _exact(right, total)
    return right / total, (high - low) / 2


def probability_of_exactly(right: int, total: int) -> Ends:
    grid = np.linspace(0, 1, 20_001)
    likely = grid[binom.pmf(right, total, grid) >= 0.025]
    return (float(likely[0]), float(likely[-1])) if len(likely) else (0.0, 1.0)


def interval_cases() -> list[Case]:
    counts = [(3, 4), (0, 1), (7, 12), (0, 9), (10, 10), (1, 30), (58, 60), (17, 25), (297, 300)]
    return [case(right, total) for right, total in counts]


def drawn_interval(g: torch.Generator) -> Case:
    total = integer(g, 2, 60)
    return case(integer(g, 0, total), total)


EXERCISE = Exercise(
    id="23.1",
    title="the interval of a fraction",
    question=(
        "A network is right on `right` of `total` images. Write `my_interval(right, total)`: the 95 % interval of "
        "Clopper and Pearson for its true accuracy p, as two floats (low, high) between 0 and 1. `low` is the p with "
        "which `right` *or more* of `total` independent images are right with probability 0.025; if `right` is 0, it "
        "is 0. `high` is the p with which `right` *or fewer* are right with probability 0.025; if `right` is `total`, "
        "it is 1. Find each by 60 halvings of the range from 0 to 1; `math.comb(total, k)` has the binomial "
        "coefficients. SciPy is allowed as well."
    ),
    skeleton=(
        "def my_interval(right, total):\n"
        '    """(low, high): Clopper and Pearson\'s 95 % interval of the fraction right / total."""\n    ...'
    ),
    reference=interval_of,
    alternatives=(interval_by_beta, interval_by_roots, interval_on_a_tensor),
    cases=interval_cases,
    drawn=drawn_interval,
    hints=(
        "Which accuracies p would make the observed count a surprise? The interval keeps all others.",
        "P(X = k) is `math.comb(total, k) * p**k * (1 - p)**(total - k)`. Sum it over k from `right` to `total` for "
        "the low end, from 0 to `right` for the high end.",
        "The first sum rises with p. Start from (0, 1), take the middle: if the sum is below 0.025, the low end is "
        "above the middle, else below it. The second sum falls with p.",
    ),
    misconceptions=(
        Misconception(
            "the normal approximation",
            normal,
            "this is the fraction ± 1.96 standard errors. Near 1 it is too short and leaves the range from 0 to 1, and "
            "with no error at all its width is 0",
        ),
        Misconception(
            "the normal approximation, clipped",
            normal_clipped,
            "this is the fraction ± 1.96 standard errors, clipped to 0 and 1. Clipping hides that it is wrong near 1: "
            "with no error at all its width is 0",
        ),
        Misconception(
            "Wilson's interval",
            wilson,
            "this is Wilson's interval. It covers p with 95 % on average over p, but with less for some p, for example "
            "close to 1. Clopper and Pearson's covers every p with at least 95 %",
        ),
        Misconception(
            "5 % in each tail",
            five_percent_each,
            "each tail has 5 %: together 10 %, so this is a 90 % interval. 95 % leaves 2.5 % on each side",
        ),
        Misconception(
            "the observed count left out",
            observed_left_out,
            "your tails leave out the observed count: it is `right` *or more* and `right` *or fewer*. Without it the "
            "interval is too short",
        ),
        Misconception(
            "half of the observed count",
            half_of_the_observed,
            "this is the mid-P interval: the observed count enters each tail with half of its probability. It is "
            "shorter, but no longer covers every p with 95 %",
        ),
        Misconception(
            "Jeffreys' interval",
            jeffreys,
            "this is Jeffreys' interval: half an image is added to each count. The tails contain the observed count in "
            "full",
        ),
        Misconception(
            "a uniform prior",
            flat_prior,
            "this is the posterior with a uniform prior: one image more of each kind. It is an answer to another "
            "question, and shorter",
        ),
        Misconception(
            "high, low",
            swapped,
            "the two ends are swapped: return (low, high)",
        ),
        Misconception(
            "percent",
            percent,
            "these are percent. The question asks for fractions between 0 and 1",
        ),
        Misconception(
            "numbers of images",
            counts_instead,
            "these are numbers of images. Do not multiply by `total`: the question asks for fractions",
        ),
        Misconception(
            "the interval of the errors",
            of_the_errors,
            "this is the interval of the fraction of errors. That of the accuracy is 1 minus it, with its ends swapped",
        ),
        Misconception(
            "where the next count will be",
            quantiles_of_the_data,
            "you take p = right / total as the truth and ask where the next fraction would be. The question is which p "
            "fit the observed count",
        ),
        Misconception(
            "a middle and half a width",
            center_and_reach,
            "this is the fraction and half the width of the interval. It is not symmetric about the fraction: return "
            "its ends",
        ),
        Misconception(
            "the probability of exactly this count",
            probability_of_exactly,
            "you ask where *exactly* this count has a probability of 0.025. With many images every single count is "
            "improbable: sum over a tail",
        ),
    ),
    shows="a fraction of few images leaves much open, and never leaves nothing open: not even without an error.",
    derivation=(
        "Let X be binomial with `total` and p. P(X ≥ right) rises with p. If the true p is below `low`, then an event "
        "of probability below 0.025 has happened, and so above `high`: together at most 0.05, whatever p is. Counts "
        "are integers, so the coverage is mostly above 95 %. P(X ≥ r) is the distribution function of a beta variable "
        "with parameters r and total - r + 1, which gives both ends as quantiles."
    ),
)
