"""Sentences that are checked each time the notebook runs."""

import json
import math
import os
from typing import Any

from ._base.places import say

RECORD = "KDCOURSE_CLAIMS"
"""the environment variable that names a file to which every claim that holds is appended, as a line of JSON"""


class ClaimError(AssertionError):
    """A measured value misses the bound that a sentence claims."""


def claim(
    statement: str,
    value: Any,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    equals: Any = None,
    within: float | None = None,
    show: bool = False,
) -> None:
    """Compare ``value`` with a bound; print the statement and the bound, or raise `ClaimError` naming the value.

    The printed line shows the value only with ``show``, for cells whose output is not compared: without it, it reads
    the same on every machine. Bounds: ``at_least``, ``at_most`` or both; or ``equals``, exactly, or for numbers to
    ``within``, inclusive. NaN and infinity, which no measurement gives, miss every bound; a bound of that kind is
    refused.

    >>> claim("The student agrees with its teacher on most digits", 0.97, at_least=0.9)
    ✔ The student agrees with its teacher on most digits  [≥ 0.9]
    """
    _check_bounds(at_least, at_most, equals, within)
    value = value.item() if hasattr(value, "item") else value
    if equals is not None:
        kept = value == equals if within is None else abs(value - equals) <= within
        bound = f"exactly {_text(equals)}" if within is None else f"{_text(equals)} ± {_text(within)}"
    else:
        kept = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        bound = " and ".join(
            f"{sign} {_text(limit)}" for sign, limit in (("≥", at_least), ("≤", at_most)) if limit is not None
        )
    if not _is_finite(value):
        kept = False
    elif not all(_is_finite(limit) for limit in (at_least, at_most, equals, within)):
        raise ValueError(f"a bound must not be NaN or infinite, got {bound}")
    if not kept:
        raise ClaimError(f"✘ {statement}: measured {_text(value)}, claimed {bound}")
    _record(statement, bound, value)
    say(f"✔ {statement}  [{bound}]" + (f"  measured {_text(value)}" if show else ""))


def _record(statement: str, bound: str, value: Any) -> None:
    path = os.environ.get(RECORD)
    if path:
        with open(path, "a", encoding="utf-8") as file:
            line = {"text": statement, "bound": bound, "value": value}
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")


def _check_bounds(at_least: float | None, at_most: float | None, equals: Any, within: float | None) -> None:
    if equals is None and at_least is None and at_most is None:
        raise ValueError("a claim needs a bound: at_least, at_most or equals")
    if equals is not None and (at_least is not None or at_most is not None):
        raise ValueError("a claim takes either equals or at_least/at_most, not both")
    if within is not None and (equals is None or not within >= 0):
        raise ValueError("within needs equals, and must be >= 0")


def _is_finite(value: Any) -> bool:
    """Whether ``value``, and each part of a list or tuple, is neither NaN nor infinite; a word is neither."""
    if isinstance(value, (list, tuple)):
        return all(_is_finite(part) for part in value)
    return not isinstance(value, float) or math.isfinite(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
