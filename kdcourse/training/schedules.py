"""Values that change with the fraction of training done, and how they are checked: at every step that uses them."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]
"""From the fraction of training done, in [0, 1], to a factor or a value."""


def cosine(progress: float) -> float:
    """Learning-rate factor: a linear warm-up from 0.1 to 1 over the first tenth, then half a cosine down to zero.

    >>> [round(cosine(done), 2) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.1, 0.55, 1.0, 0.5, 0.0]
    """
    if progress < 0.1:
        return 0.1 + 9 * progress
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def constant(progress: float) -> float:
    """Learning-rate factor: 1 throughout.

    >>> constant(0.5)
    1.0
    """
    return 1.0


def checked(name: str, value: float | Schedule, check: Callable[[str, float], None]) -> Schedule:
    """``value``, a number or a schedule, as a schedule that raises where ``check(name, its value)`` does.

    Its ends and its middle are looked at now, before any work is done, and every other point when it is used.
    """
    if not callable(value):
        check(name, value)
        return lambda progress: value

    def checked_at(progress: float) -> float:
        found = value(progress)
        try:
            check(name, found)
        except ValueError as error:
            raise ValueError(f"{error}, after {progress:.1%} of the training") from None
        except TypeError:
            raise TypeError(f"{name} must be a number, got {found!r} after {progress:.1%} of the training") from None
        return found

    for progress in (0.0, 0.5, 1.0):
        checked_at(progress)
    return checked_at


def check_rate(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number that is not negative."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number >= 0, got {value}")


def points(value: float | Schedule) -> list[float] | float:
    """What tells one schedule from another: its values at nine points; a number describes itself."""
    return [value(eighth / 8) for eighth in range(9)] if callable(value) else value
