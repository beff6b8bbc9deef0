"""The claims of a notebook as it prints them, what their bounds imply, and how near they are to what was measured."""

import re
from collections.abc import Iterable
from decimal import Decimal
from difflib import SequenceMatcher
from math import inf
from typing import Any, NamedTuple

from nbformat import NotebookNode

PRINTED = re.compile(r"^✔ (.+)  \[([^\[]+|exactly .+)\](?:  measured .*)?$", re.M)
NUMBER = r"-?[\d,]*\.?\d+(?:e[-+]?\d+)?"
BOUND = re.compile(rf"(?:≥ (?P<low>{NUMBER}))?(?: and )?(?:≤ (?P<high>{NUMBER}))?")
AROUND = re.compile(rf"(?P<middle>{NUMBER}) ± (?P<width>{NUMBER})")
MEANS = re.compile(rf"(?P<sign>>=|<=|>|<|=|~) *(?P<number>{NUMBER})|(?P<low>{NUMBER}) to (?P<high>{NUMBER})")
ALIKE = 0.55  # two claims that are this alike are one, reworded
TOLERANCE = 1e-3
"""a bound on an error of at most this says "equal up to rounding", however small the error is"""


class Claim(NamedTuple):
    """A claim as it is printed, and the index of its cell."""

    cell: int
    text: str
    bound: str


def printed_claims(cells: Iterable[NotebookNode]) -> list[Claim]:
    return [
        Claim(place, text, bound)
        for place, cell in enumerate(cells)
        if cell.cell_type == "code"
        for output in cell.outputs
        for text, bound in PRINTED.findall(output.get("text", ""))
    ]


def number(text: str) -> float:
    return float(text.replace(",", ""))


def interval(bound: str) -> tuple[float, float] | None:
    """The least and the largest value that a printed bound allows; None where it is no number."""
    exact = bound.removeprefix("exactly ")
    if exact != bound:
        return (number(exact), number(exact)) if re.fullmatch(NUMBER, exact) else None
    if match := AROUND.fullmatch(bound):
        middle, width = (Decimal(match[part].replace(",", "")) for part in ("middle", "width"))
        return float(middle - width), float(middle + width)  # as a reader adds them up
    match = BOUND.fullmatch(bound)
    if not match:
        raise ValueError(f"no bound that claim prints: {bound!r}")
    return number(match["low"] or "-inf") if match["low"] else -inf, number(match["high"]) if match["high"] else inf


def within(bound: str, value: float) -> bool:
    """Whether a value keeps a printed bound, whose numbers have been rounded to six digits."""
    low, high = interval(bound) or (value, value)
    ends = [abs(end) for end in (low, high) if abs(end) != inf]
    return low - 1e-5 * max(ends) <= value <= high + 1e-5 * max(ends)


def implies(bound: str, means: str) -> bool:
    """Whether every value within a printed bound fulfils a relation.

    Relations: ``>= 1.5``, ``<=``, ``>``, ``<``; ``= 0.27``, equal as far as the digits go, ``= 0`` up to rounding;
    ``~ 2``, within a factor of two; ``1 to 2``; or the word behind "exactly". Raises ``ValueError`` where ``means`` is
    empty.

    >>> implies("≥ 0.5", "> 0"), implies("0.27 ± 0.01", "= 0.3"), implies("exactly True", "True")
    (True, True, True)
    """
    allowed, match = interval(bound), MEANS.fullmatch(means)
    if allowed is None or not match:
        if not match and not means:
            raise ValueError("means is empty: write the relation that the sentence states, like '>= 0.5' or 'True'")
        return bound.removeprefix("exactly ") == means
    low, high = allowed
    if match["low"]:
        return number(match["low"]) <= low and high <= number(match["high"])
    limit, sign = number(match["number"]), match["sign"]
    if sign == "=":
        digits = len(match["number"].partition(".")[2])
        half = 0.5 * 10**-digits * (1 + 1e-9) if limit else TOLERANCE
        return low == high == limit or limit - half <= low <= high <= limit + half
    if sign == "~":
        ends = sorted((limit / 2, limit * 2))
        return ends[0] <= low <= high <= ends[1]
    return {">=": low >= limit, ">": low > limit, "<=": high <= limit, "<": high < limit}[sign]


def loose(bound: str, measured: float) -> str:
    """Why a bound is further from what was measured than a factor of two; empty where it is near.

    A bound of 0 holds a sign. One on an error of at most `TOLERANCE` says "equal up to rounding". A fraction near 1
    is compared by what is missing to 1.
    """
    allowed = interval(bound)
    if allowed is None or allowed[0] == allowed[1]:
        return ""
    low, high = allowed
    if not within(bound, measured):
        return f"{measured:g} was measured, which misses it: measure again"
    if AROUND.fullmatch(bound) and low + high == 0:
        return _far(high, abs(measured))
    if AROUND.fullmatch(bound):
        middle = (low + high) / 2
        return (
            ""
            if high - middle <= abs(middle) / 2 or high - middle <= TOLERANCE
            else _says(f"± {high - middle:g}", measured)
        )
    return (low != -inf and _far(low, measured)) or (high != inf and _far(high, measured)) or ""


def _far(limit: float, measured: float) -> str:
    if abs(limit) <= TOLERANCE or (limit < 0) == (measured < 0) and abs(limit) / 2 <= abs(measured) <= abs(limit) * 2:
        near_one = 0.5 <= limit < 1 and 0.5 <= measured <= 1
        if not near_one or 1 - limit <= 2 * (1 - measured) + 0.0501:
            return ""
    return _says(f"{limit:g}", measured)


def _says(limit: str, measured: float) -> str:
    return f"{limit} is more than a factor of two from {measured:g}, which was measured"


def carried(old: list[dict[str, Any]], new: list[Claim]) -> list[dict[str, Any]]:
    """``new`` with what was known of each: by its text, or by the likeliest of those that were reworded."""
    pairs = [(likeness(entry, claim) - 0.01 * abs(i - j) / len(new), i, j)
             for i, entry in enumerate(old) for j, claim in enumerate(new)]  # fmt: skip
    known: dict[int, dict[str, Any]] = {}
    taken: set[int] = set()
    for score, i, j in sorted(pairs, reverse=True):
        if score >= ALIKE and i not in taken and j not in known:
            known[j] = old[i]
            taken.add(i)
    return [{**known.get(place, {}), "text": claim.text, "bound": claim.bound} for place, claim in enumerate(new)]


def likeness(entry: dict[str, Any], claim: Claim) -> float:
    """How alike two claims are, up to 1: most by their words, some by their bounds and by the numbers they name."""
    if entry["text"] == claim.text:
        return 0.9 + 0.1 * (entry["bound"] == claim.bound)
    words = SequenceMatcher(None, *(re.findall(r"\w+", text.lower()) for text in (entry["text"], claim.text))).ratio()
    numbers = [sorted(re.findall(NUMBER, text)) for text in (entry["text"], claim.text)]
    return 0.5 * words + 0.2 * (entry["bound"] == claim.bound) + 0.15 * (numbers[0] == numbers[1])


def rounded(value: float, bound: str) -> float:
    """To two significant digits, or as many more as keep it within the bound and below 1."""
    short = (float(f"{value:.{digits}g}") for digits in range(2, 17))
    return next((it for it in short if within(bound, it) and (value >= 1 or it < 1)), value)


def claim_problems(printed: list[Claim], listed: list[dict[str, Any]]) -> list[str]:
    """What differs between the claims that a notebook prints and those that are listed, and each loose bound."""
    is_, was = [(c.text, c.bound) for c in printed], [(e["text"], e["bound"]) for e in listed]
    problems = []
    for kind, a, b, c, d in SequenceMatcher(None, was, is_, autojunk=False).get_opcodes():
        if kind != "equal":
            problems += [f"listed, but the notebook does not claim it here: {t}  [{x}]" for t, x in was[a:b]]
            problems += [f"claimed, but not listed here: {t}  [{x}]" for t, x in is_[c:d]]
    for entry in listed:
        problems += [f"claim {entry['text']!r}: {why}" for why in _bound_problems(entry)]
    return problems


def _bound_problems(entry: dict[str, Any]) -> list[str]:
    allowed = interval(entry["bound"])
    if allowed is None or allowed[0] == allowed[1]:
        return []
    if "measured" not in entry:
        return ["nothing is measured: run the tool with --measure"]
    why = loose(entry["bound"], entry["measured"])
    if "room" in entry:
        return [] if why and len(entry["room"].split()) >= 3 or not why else [f"{why}; its room gives no reason"]
    return [f"{why}: tighten it, bound it on both sides, or give the reason as room"] if why else []
