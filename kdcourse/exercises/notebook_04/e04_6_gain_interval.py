"""04.6 a fair interval."""

import math
from statistics import NormalDist, fmean, pstdev, stdev

import torch
from scipy import stats

from ..engine.core import Case, Exercise, Misconception, case, integer

Ends = tuple[float, float, float]


def gain_interval(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    differences = [distilled[seed] - alone[seed] for seed in sorted(distilled.keys() & alone.keys())]
    mean, error = fmean(differences), stdev(differences) / math.sqrt(len(differences))
    reach = stats.t.ppf(0.975, len(differences) - 1) * error
    return mean, mean - reach, mean + reach


def gain_by_scipy(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    seeds = [seed for seed in distilled if seed in alone]
    first, second = [distilled[s] for s in seeds], [alone[s] for s in seeds]
    ends = stats.ttest_rel(first, second).confidence_interval(0.95)
    return fmean(first) - fmean(second), ends.low, ends.high


def gain_by_tensors(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    d = torch.tensor([distilled[s] - alone[s] for s in distilled if s in alone], dtype=torch.float64)
    ends = stats.t.interval(0.95, len(d) - 1, loc=d.mean().item(), scale=d.std().item() / len(d) ** 0.5)
    return d.mean().item(), float(ends[0]), float(ends[1])


def _ends(differences: list[float], factor: float) -> Ends:
    mean = fmean(differences)
    return mean, mean - factor, mean + factor


def paired_by_place(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    return gain_interval(dict(enumerate(distilled.values())), dict(enumerate(alone.values())))


def unpaired(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    first, second = list(distilled.values()), list(alone.values())
    error = math.sqrt(stdev(first) ** 2 / len(first) + stdev(second) ** 2 / len(second))
    mean = fmean(first) - fmean(second)
    reach = float(stats.t.ppf(0.975, len(first) + len(second) - 2)) * error
    return mean, mean - reach, mean + reach


def _paired(distilled: dict[int, float], alone: dict[int, float]) -> list[float]:
    return [distilled[seed] - alone[seed] for seed in sorted(distilled.keys() & alone.keys())]


def normal_for_t(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _ends(found, 1.96 * stdev(found) / math.sqrt(len(found)))


def normal_quantile(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _ends(found, NormalDist().inv_cdf(0.975) * stdev(found) / math.sqrt(len(found)))


def spread_for_error(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _ends(found, float(stats.t.ppf(0.975, len(found) - 1)) * stdev(found))


def one_sided(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _ends(found, float(stats.t.ppf(0.95, len(found) - 1)) * stdev(found) / math.sqrt(len(found)))


def _by_error(found: list[float], error: float, freedom: int) -> Ends:
    return _ends(found, float(stats.t.ppf(0.975, freedom)) * error)


def population_spread(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _by_error(found, pstdev(found) / math.sqrt(len(found)), len(found) - 1)


def n_degrees_of_freedom(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _by_error(found, stdev(found) / math.sqrt(len(found)), len(found))


def n_minus_one_twice(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _by_error(found, stdev(found) / math.sqrt(len(found) - 1), len(found) - 1)


def n_for_its_root(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _by_error(found, stdev(found) / len(found), len(found) - 1)


def common_but_unpaired(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    common = distilled.keys() & alone.keys()
    return unpaired({seed: distilled[seed] for seed in common}, {seed: alone[seed] for seed in common})


def missing_as_zero(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    seeds = distilled.keys() | alone.keys()
    return gain_interval({s: distilled.get(s, 0) for s in seeds}, {s: alone.get(s, 0) for s in seeds})


def mean_of_all_seeds(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    mean, low, high = gain_interval(distilled, alone)
    all_of_them = fmean(distilled.values()) - fmean(alone.values())
    return all_of_them, all_of_them + low - mean, all_of_them + high - mean


def arms_swapped(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    return gain_interval(alone, distilled)


def ends_swapped(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    mean, low, high = gain_interval(distilled, alone)
    return mean, high, low


def in_points(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    mean, low, high = gain_interval(distilled, alone)
    return 100 * mean, 100 * low, 100 * high


def smallest_and_largest(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return fmean(found), min(found), max(found)


def half_widths(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    mean, low, high = gain_interval(distilled, alone)
    return mean, (high - low) / 2, (high - low) / 2


def gain_interval_cases() -> list[Case]:
    a, b = {0: 0.951, 1: 0.962, 2: 0.949, 3: 0.958}, {3: 0.95, 0: 0.941, 2: 0.944, 1: 0.957}
    # seed 5 ran in one arm only
    some = {7: 0.91, 4: 0.93, 9: 0.9}, {2: 0.99, 9: 0.89, 7: 0.94, 4: 0.92}
    return [case(a, b), case({**a, 5: 0.97}, b), case(*some)]


def drawn_arms(g: torch.Generator) -> Case:
    """Three to six common seeds, in another order in each arm, and up to two seeds that one arm alone has."""
    common, more, others = integer(g, 3, 6), integer(g, 0, 2), integer(g, 0, 2)
    seeds = torch.randperm(20, generator=g).tolist()
    accuracies = (torch.rand(20, generator=g) * 0.1 + 0.85).tolist()
    both, distilled, alone = seeds[:common], seeds[6 : 6 + more], seeds[8 : 8 + others]
    first = {seed: round(accuracies[seed], 3) for seed in [*distilled, *both]}
    shift = (torch.rand(20, generator=g) * 0.04 - 0.03).tolist()
    return case(first, {seed: round(accuracies[seed] + shift[seed], 4) for seed in [*reversed(both), *alone]})


EXERCISE = Exercise(
    id="04.6",
    title="a fair interval",
    question=(
        "Two dictionaries map seeds to accuracies; their orders may differ, and a seed may have run in one arm only. "
        "Write `my_gain_interval(distilled, alone)`: the mean of distilled minus alone over the seeds that *both* "
        "have, and the two ends of its 95 % interval by Student's t, paired by seed. `scipy.stats.t.ppf` gives "
        "quantiles."
    ),
    skeleton=(
        "def my_gain_interval(distilled, alone):\n"
        '    """Mean gain over common seeds, and the ends of its 95 % interval."""\n    ...'
    ),
    reference=gain_interval,
    alternatives=(gain_by_scipy, gain_by_tensors),
    cases=gain_interval_cases,
    drawn=drawn_arms,
    hints=(
        "Which seeds do both have? Only those can be compared.",
        "One difference per seed. Then mean ± quantile × standard deviation / √n, with n - 1 in the deviation.",
        "`scipy.stats.t.ppf(0.975, n - 1)` is the quantile: 2.5 % are cut off on each side.",
    ),
    misconceptions=(
        Misconception(
            "different seeds in the two arms",
            paired_by_place,
            "you pair by position, so different seeds meet. The difference then contains the luck of both "
            "starts. Look each seed up in both dictionaries",
        ),
        Misconception(
            "arms not paired",
            unpaired,
            "you treat the arms as unrelated. The seeds' own luck, which both arms share, then stays in the interval "
            "and makes it wider; and a seed that one arm never ran is compared with nothing",
        ),
        Misconception(
            "normal for Student's t",
            normal_for_t,
            "you use 1.96, as if the spread were known. From a few seeds it is only estimated: with four the factor is "
            "3.18, so your interval is much too narrow",
        ),
        Misconception(
            "the normal quantile",
            normal_quantile,
            "you take the quantile of the normal distribution, as if the spread were known. With few seeds it is only "
            "estimated: `scipy.stats.t.ppf(0.975, n - 1)`",
        ),
        Misconception(
            "spread for standard error",
            spread_for_error,
            "you forget to divide by √n. This shows how single seeds spread, not how precise the mean is",
        ),
        Misconception(
            "one side only",
            one_sided,
            "your quantile cuts off 5 % on each side, which makes a 90 % interval. For 95 % ask for 0.975",
        ),
        Misconception(
            "the spread of a population",
            population_spread,
            "you divide the squares by n: the default of `np.std`, and `pstdev`. From a sample the mean is estimated "
            "too, so n - 1 divides: `ddof=1`, or `statistics.stdev`",
        ),
        Misconception(
            "n degrees of freedom",
            n_degrees_of_freedom,
            "you ask Student's t for n degrees of freedom. One is spent on the mean: n - 1",
        ),
        Misconception(
            "n - 1 under the root",
            n_minus_one_twice,
            "you divide the standard deviation by √(n - 1). The n - 1 belongs inside the standard deviation; the "
            "standard error of a mean divides by √n",
        ),
        Misconception(
            "n for its root",
            n_for_its_root,
            "you divide the standard deviation by n. The standard error of a mean falls only with √n",
        ),
        Misconception(
            "common seeds, but not paired",
            common_but_unpaired,
            "you keep the common seeds but then treat the arms as unrelated. Take one difference a seed: what both "
            "arms owe to the seed cancels",
        ),
        Misconception(
            "a missing run counts as zero",
            missing_as_zero,
            "a seed that one arm never ran counts as accuracy 0 in your function. Leave it out",
        ),
        Misconception(
            "the mean of all seeds",
            mean_of_all_seeds,
            "your mean takes in seeds that one arm alone has, so it compares different seeds. Mean and ends come from"
            " the same differences",
        ),
        Misconception(
            "alone minus distilled",
            arms_swapped,
            "the sign is the wrong way round: you subtract distilled from alone. A gain of distillation is positive",
        ),
        Misconception(
            "ends swapped",
            ends_swapped,
            "the two ends are swapped: the lower one comes first",
        ),
        Misconception(
            "percentage points",
            in_points,
            "you return percentage points. The accuracies are fractions, and so is the gain",
        ),
        Misconception(
            "smallest and largest difference",
            smallest_and_largest,
            "you return the smallest and the largest difference. They grow apart with more seeds; the interval of the"
            " mean gets narrower",
        ),
        Misconception(
            "half width for the ends",
            half_widths,
            "you return half the width of the interval. The question asks for its ends: mean minus it and mean plus it",
        ),
    ),
    shows="pairing takes out the luck that both arms share, and few seeds need Student's t.",
    derivation=(
        "With differences d_i, mean ± t(0.975, n-1) · s/√n, s² = Σ (d_i - mean)²/(n-1). It is the interval of the "
        "paired t test."
    ),
    forbidden=("kdcourse.metrics.paired_interval",),
)
