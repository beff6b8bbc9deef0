"""How far a measured number may be from what another test set, or other seeds, would show."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.stats import binomtest, norm, t


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def accuracy_interval(correct: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a fraction of right answers: what another test set of this size might have shown.

    >>> low, high = accuracy_interval(981, 1000)[1:]
    >>> round(low, 4), round(high, 4)
    (0.9705, 0.9878)
    """
    _check_confidence(confidence)
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"need 0 <= correct <= total and total >= 1, got {correct} of {total}")
    found = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return Interval(correct / total, float(found.low), float(found.high))


def change_interval(broken: int, fixed: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Interval of the change of accuracy, (fixed - broken) / total, of two networks on the same test images.

    What the two predict is not independent, and two separate intervals are too wide. This is Wald's for pairs, with one
    image more of each, broken and fixed, so that no flips do not mean no doubt. ``broken`` and ``fixed`` are as `flips`
    counts them; the mean is that of the images alone.

    Source: Bonett, Price 2012, Journal of Educational and Behavioral Statistics 37, 479-488.

    >>> interval = change_interval(8, 3, 1000)
    >>> round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3)
    (-0.005, -0.012, 0.002)
    """
    _check_confidence(confidence)
    if min(broken, fixed) < 0 or not broken + fixed <= total or total < 1:
        raise ValueError(f"need 0 <= broken + fixed <= total and total >= 1, got {broken}, {fixed} and {total}")
    change, flipped, images = fixed - broken, broken + fixed + 2, total + 2
    error = math.sqrt(flipped - change**2 / images) / images
    reach = float(norm.ppf((1 + confidence) / 2)) * error
    return Interval(change / total, change / images - reach, change / images + reach)


def paired_interval(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of first - second, one pair a seed.

    Pairing removes what both arms share: the split, and a seed's initial weights and batch order.

    >>> interval = paired_interval([0.95, 0.97, 0.96], [0.94, 0.94, 0.94])
    >>> round(interval.mean, 4), round(interval.low, 4), round(interval.high, 4)
    (0.02, -0.0048, 0.0448)
    """
    _check_confidence(confidence)
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"need equally many results, at least 2, got {len(first)} and {len(second)}")
    if not all(math.isfinite(result) for result in (*first, *second)):
        raise ValueError("the results must not be NaN or infinite: leave out the pairs that were not measured")
    differences = torch.tensor(first, dtype=torch.float64) - torch.tensor(second, dtype=torch.float64)
    mean, error = differences.mean().item(), differences.std().item() / math.sqrt(len(differences))
    reach = float(t.ppf((1 + confidence) / 2, len(differences) - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
