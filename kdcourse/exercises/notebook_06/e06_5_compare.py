"""06.5 pruned, or trained small."""

import math
from collections.abc import Callable
from statistics import fmean, stdev
from typing import Any

import torch
from scipy import stats

from kdcourse.metrics import paired_interval

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def compare(pruned: list[float], scratch: list[float]) -> str:
    interval = paired_interval(pruned, scratch)
    if interval.low > 0:
        return "pruned"
    return "scratch" if interval.high < 0 else "not told apart"


def compare_by_hand(pruned: list[float], scratch: list[float]) -> str:
    gains = [one - other for one, other in zip(pruned, scratch, strict=True)]
    reach = stats.t.ppf(0.975, len(gains) - 1) * stdev(gains) / math.sqrt(len(gains))
    if abs(fmean(gains)) <= reach:
        return "not told apart"
    return "pruned" if fmean(gains) > 0 else "scratch"


def compare_by_test(pruned: list[float], scratch: list[float]) -> str:
    found = stats.ttest_rel(pruned, scratch)
    return ("scratch", "pruned")[int(found.statistic > 0)] if found.pvalue < 0.05 else "not told apart"


def _named(low: float, high: float) -> str:
    return "pruned" if low > 0 else "scratch" if high < 0 else "not told apart"


def _winner(gain: float) -> str:
    return "pruned" if gain > 0 else "scratch"


def means_only(pruned: list[float], scratch: list[float]) -> str:
    return _winner(fmean(pruned) - fmean(scratch))


def best_seeds(pruned: list[float], scratch: list[float]) -> str:
    return _winner(max(pruned) - max(scratch))


def one_seed(pruned: list[float], scratch: list[float]) -> str:
    return _winner(pruned[0] - scratch[0])


def unpaired_interval(pruned: list[float], scratch: list[float]) -> str:
    found = stats.ttest_ind(pruned, scratch, equal_var=False).confidence_interval(0.95)
    return _named(found.low, found.high)


def intervals_apart(pruned: list[float], scratch: list[float]) -> str:
    ends = []
    for values in (pruned, scratch):
        reach = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
        ends.append((fmean(values) - reach, fmean(values) + reach))
    return _named(ends[0][0] - ends[1][1], ends[0][1] - ends[1][0])


def normal_quantile(pruned: list[float], scratch: list[float]) -> str:
    gains = [one - other for one, other in zip(pruned, scratch, strict=True)]
    reach = 1.96 * stdev(gains) / math.sqrt(len(gains))
    return _named(fmean(gains) - reach, fmean(gains) + reach)


def which_word(result: Any, case: Case) -> Any:
    """The answer, if it is one of the three words."""
    if not isinstance(result, str) or result not in ("pruned", "scratch", "not told apart"):
        raise ValueError("none of the three words")
    return {"better": result}


def _by_reach(pruned: list[float], scratch: list[float], factor: Callable[[int], float]) -> str:
    """Decided by mean ± factor · standard error, the factor from the number of seeds."""
    gains = [one - other for one, other in zip(pruned, scratch, strict=True)]
    reach = factor(len(gains)) * stdev(gains) / math.sqrt(len(gains))
    return _named(fmean(gains) - reach, fmean(gains) + reach)


def _student(freedom: int, level: float = 0.975) -> float:
    return float(stats.t.ppf(level, freedom))


def arms_swapped(pruned: list[float], scratch: list[float]) -> str:
    return compare(scratch, pruned)


def one_deviation(pruned: list[float], scratch: list[float]) -> str:
    return _by_reach(pruned, scratch, math.sqrt)


def divided_by_n(pruned: list[float], scratch: list[float]) -> str:
    return _by_reach(pruned, scratch, lambda n: _student(n - 1) * math.sqrt((n - 1) / n))


def one_sided(pruned: list[float], scratch: list[float]) -> str:
    return _by_reach(pruned, scratch, lambda n: _student(n - 1, 0.95))


def a_degree_too_many(pruned: list[float], scratch: list[float]) -> str:
    return _by_reach(pruned, scratch, _student)


def root_forgotten(pruned: list[float], scratch: list[float]) -> str:
    return _by_reach(pruned, scratch, lambda n: _student(n - 1) / math.sqrt(n))


def wins_counted(pruned: list[float], scratch: list[float]) -> str:
    gains = [one - other for one, other in zip(pruned, scratch, strict=True)]
    return _named(min(gains), max(gains))


def lists_sorted(pruned: list[float], scratch: list[float]) -> str:
    return compare(sorted(pruned), sorted(scratch))


def an_end_at_zero(pruned: list[float], scratch: list[float]) -> str:
    interval = paired_interval(pruned, scratch)
    return "pruned" if interval.low >= 0 else "scratch" if interval.high <= 0 else "not told apart"


def _gains_of(t: float) -> Case:
    """Three seeds that differ widely, and gains of mean 0.01 with this t statistic."""
    scratch, step = [0.9, 0.97, 0.94], 0.01 * math.sqrt(3) / t
    return case([one + gain for one, gain in zip(scratch, (0.01, 0.01 - step, 0.01 + step), strict=True)], scratch)


def compare_cases() -> list[Case]:
    return [
        case([0.942, 0.951, 0.949], [0.94, 0.944, 0.945]),
        case([0.951, 0.972, 0.94, 0.963, 0.958], [0.947, 0.966, 0.935, 0.956, 0.954]),
        case([0.944, 0.961, 0.949, 0.953, 0.957], [0.951, 0.95, 0.946, 0.958, 0.945]),
        case([0.93, 0.934, 0.938, 0.932, 0.936], [0.935, 0.94, 0.942, 0.937, 0.94]),
        case([0.948, 0.952, 0.95, 0.946, 0.954], [0.953, 0.951, 0.953, 0.952, 0.949]),
        case([0.95, 0.953, 0.951, 0.955], [0.906, 0.911, 0.908, 0.909]),
        case([0.95, 0.931, 0.911], [0.9, 0.92, 0.94]),  # sorted, every gain is about 0.01
        case([0.91, 0.93, 0.92], [0.91, 0.93, 0.92]),  # an interval of 0 alone
        case([0.95, 0.981, 0.952, 0.94, 0.9395], [0.94, 0.97, 0.94, 0.93, 0.94]),
        *(_gains_of(t) for t in (6.0, 3.9, 3.3, 3.05, 2.7, 2.2, 1.85)),  # Student's t of three seeds asks for 4.30
    ]


def drawn_accuracies(g: torch.Generator) -> Case:
    count, gain = integer(g, 2, 7), integer(g, -3, 3) / 100
    scratch = (0.9 + draw(count, seed=g, spread=0.02)).tolist()
    gains = (gain + draw(count, seed=g, spread=0.01)).tolist()
    return case([one + more for one, more in zip(scratch, gains, strict=True)], scratch)


EXERCISE = Exercise(
    id="06.5",
    title="pruned, or trained small",
    question=(
        "A network was pruned and trained further. A network of the same small size was trained from scratch, with "
        "the same total number of epochs. Two lists of at least two test accuracies, seed by seed in the same order. "
        "Write `my_compare(pruned, scratch)`: return `'pruned'` or `'scratch'`, whichever is better, or `'not told "
        "apart'`. Decide by the 95 % interval by Student's t of the mean of pruned minus scratch, *paired by seed*: "
        "one is better if the whole interval is on its side of 0; one that touches 0 is on neither side. You may use "
        "`paired_interval` from `kdcourse.metrics`."
    ),
    skeleton=(
        "def my_compare(pruned, scratch):\n"
        "    \"\"\"'pruned', 'scratch' or 'not told apart', from results seed by seed.\"\"\"\n    ..."
    ),
    reference=compare,
    alternatives=(compare_by_hand, compare_by_test),
    cases=compare_cases,
    drawn=drawn_accuracies,
    hints=(
        "Could the difference of the means be the luck of these few seeds?",
        "`paired_interval(pruned, scratch)` has a `.low` and a `.high`. Where must 0 be?",
        "`'pruned'` if `low > 0`, `'scratch'` if `high < 0`, else `'not told apart'`.",
    ),
    misconceptions=(
        Misconception(
            "means only",
            means_only,
            "you compare the means only. Of two equal methods one always has the higher mean; the interval says "
            "whether luck explains it",
        ),
        Misconception(
            "the best seeds",
            best_seeds,
            "you compare the best seed of each. The maximum rewards the method whose luck varies more, and you cannot "
            "order a best seed",
        ),
        Misconception(
            "one seed",
            one_seed,
            "you compare the first seed alone. One pair contains the gain and its own luck, and cannot separate them",
        ),
        Misconception(
            "arms not paired",
            unpaired_interval,
            "you treat the two lists as unrelated. The luck that a seed gives to both arms then stays in the "
            "interval. Take the differences seed by seed first",
        ),
        Misconception(
            "intervals that overlap",
            intervals_apart,
            "you ask whether the intervals of the two arms overlap. They can overlap although the difference is clear: "
            "only the interval of the difference answers the question",
        ),
        Misconception(
            "normal for Student's t",
            normal_quantile,
            "you use 1.96, as if the spread were known. It is estimated from a few seeds, and with three of them the "
            "factor is 4.3",
        ),
        Misconception(
            "arms swapped",
            arms_swapped,
            "you return the wrong arm: an interval of pruned minus scratch above 0 says 'pruned'",
        ),
        Misconception(
            "one standard deviation",
            one_deviation,
            "you take one standard deviation of the gains for the half width. That is the spread of single seeds; the "
            "interval of the *mean* is t · s / √n",
        ),
        Misconception(
            "divided by n",
            divided_by_n,
            "your standard deviation divides by n. Of a sample it divides by n - 1: `statistics.stdev`, or `ddof=1`",
        ),
        Misconception(
            "one-sided",
            one_sided,
            "you take the 95 % quantile. An interval that contains 95 % leaves 2.5 % on either side: the quantile of "
            "0.975",
        ),
        Misconception(
            "a degree too many",
            a_degree_too_many,
            "you take Student's t with n degrees of freedom. The mean has used up one: n - 1",
        ),
        Misconception(
            "the root forgotten",
            root_forgotten,
            "you divide the standard deviation by n. The standard error is s / √n",
        ),
        Misconception(
            "wins counted",
            wins_counted,
            "you ask whether one arm wins with every seed. That looks at the signs alone: three tiny wins are no "
            "evidence, and one narrow loss does not undo large gains",
        ),
        Misconception(
            "lists sorted",
            lists_sorted,
            "you sort the lists first. Then the pairs no longer belong to the same seed",
        ),
        Misconception(
            "an end at 0",
            an_end_at_zero,
            "an interval that touches 0 is not on one side of it: `>` and `<`, not `>=` and `<=`",
        ),
    ),
    shows="a pruned network must beat the small one trained from scratch over paired seeds, or nothing is shown.",
    derivation=(
        "Differences d_i seed by seed; mean ± t(0.975, n-1) · s/√n. Above 0: pruned; below: scratch; with 0 inside the "
        "data allow both. Why this control: Liu et al. 2019, arXiv:1810.05270."
    ),
    observe=which_word,
)
