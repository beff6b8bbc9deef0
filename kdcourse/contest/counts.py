"""Fractions and medians with their intervals, 95 %."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import binom, binomtest

from ..metrics import Interval, accuracy_interval
from .receiving import Refused


class Count(NamedTuple):
    """Right predictions of so many; `interval` is Clopper and Pearson's, which covers at least 95 % at any accuracy."""

    right: int
    total: int

    @property
    def interval(self) -> Interval:
        """Two-sided, 95 %."""
        found = binomtest(self.right, self.total).proportion_ci(0.95, method="exact")
        return Interval(self.right / self.total, float(found.low), float(found.high))


def difference(one: Count, other: Count) -> Interval:
    """The accuracy on ``one`` set of images minus that on another, from Wilson's intervals of both.

    Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 10.

    >>> mean, low, high = difference(Count(56, 70), Count(48, 80))
    >>> round(mean, 4), round(low, 4), round(high, 4)
    (0.2, 0.0524, 0.3339)
    """
    first, second = accuracy_interval(*one), accuracy_interval(*other)
    mean = first.mean - second.mean
    down = math.hypot(first.mean - first.low, second.high - second.mean)
    up = math.hypot(first.high - first.mean, second.mean - second.low)
    return Interval(mean, mean - down, mean + up)


def median_interval(values: Sequence[float]) -> Interval:
    """The median and an interval from two ranks, at least 95 % for independent values of any distribution.

    Raises `Refused` for fewer than six.
    """
    values, count = sorted(values), len(values)
    rank = int(binom.ppf(0.025, count, 0.5))
    if rank < 1:
        raise Refused("left too few times to say how long it takes")
    middle = (values[(count - 1) // 2] + values[count // 2]) / 2
    return Interval(middle, values[rank - 1], values[count - rank])
