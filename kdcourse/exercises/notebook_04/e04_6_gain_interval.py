"""04.6 a fair interval."""

import math
from statistics import fmean, stdev

import torch
from scipy import stats

from ..engine.core import Case, Exercise, Misconception, case

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
    return _ends(found, 1.959964 * stdev(found) / math.sqrt(len(found)))


def spread_for_error(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _ends(found, float(stats.t.ppf(0.975, len(found) - 1)) * stdev(found))


def one_sided(distilled: dict[int, float], alone: dict[int, float]) -> Ends:
    found = _paired(distilled, alone)
    return _ends(found, float(stats.t.ppf(0.95, len(found) - 1)) * stdev(found) / math.sqrt(len(found)))


def gain_interval_cases() -> list[Case]:
    a, b = {0: 0.951, 1: 0.962, 2: 0.949, 3: 0.958}, {3: 0.95, 0: 0.941, 2: 0.944, 1: 0.957}
    # seed 5 ran in one arm only
    return [case(a, b), case({**a, 5: 0.97}, b)]


EXERCISE = Exercise(
    id="04.6",
    title="a fair interval",
    question=(
        "Two dictionaries from seed to accuracy; their orders may differ, and a seed may have run in one arm only. "
        "Write `my_gain_interval(distilled, alone)`: the mean of distilled minus alone over the seeds that "
        "*both* have, "
        "and the two ends of its 95 % interval by Student's t, paired by seed. `scipy.stats.t.ppf` gives quantiles."
    ),
    skeleton=(
        "def my_gain_interval(distilled, alone):\n"
        '    """Mean gain over common seeds, and the ends of its 95 % interval."""\n    ...'
    ),
    reference=gain_interval,
    alternatives=(gain_by_scipy, gain_by_tensors),
    cases=gain_interval_cases,
    hints=(
        "Which seeds do both have? Only those can be compared.",
        "One difference a seed. Then mean ± quantile × standard deviation / √n, with n - 1 in the deviation.",
        "`scipy.stats.t.ppf(0.975, n - 1)` is the quantile: 2.5 % are cut off on each side.",
    ),
    misconceptions=(
        Misconception(
            "different seeds in the two arms",
            paired_by_place,
            "you pair by place, so different seeds meet. The difference then holds the luck of both starts. Look each "
            "seed up in both dictionaries",
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
            "spread for standard error",
            spread_for_error,
            "you forget to divide by √n. This shows how single seeds spread, not how sure the mean is",
        ),
        Misconception(
            "one side only",
            one_sided,
            "your quantile cuts off 5 % on each side, which makes a 90 % interval. For 95 % ask for 0.975",
        ),
    ),
    shows="pairing takes out the luck that both arms share, and few seeds need Student's t.",
    derivation=(
        "With differences d_i, mean ± t(0.975, n-1) · s/√n, s² = Σ (d_i - mean)²/(n-1). It is the interval of the "
        "paired t test."
    ),
    forbidden=("kdcourse.metrics.paired_interval",),
)
