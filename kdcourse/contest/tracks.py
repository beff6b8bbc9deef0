"""The four tracks: who takes part, by what entries are ranked, and who shares a place.

Ranked by what is shown, percentages and ratios with two digits: a place that no reader could tell apart is shared.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..metrics import pareto_front
from .judging import Entry, Scores

KB = 1024


class Track(NamedTuple):
    """A condition and what is ranked by; an interval counts with the end that is worse for the entry."""

    title: str
    accuracy: float
    """the least that is to be measured"""
    keyed: float
    """the same on keyed digits, which are harder: two standard errors below what the course's own file has there"""
    bytes: float
    """fewer than these"""
    value: Callable[[Entry, Scores], float]
    """smaller is better"""
    shown: Callable[[float], str]

    def why_not(self, entry: Entry) -> str:
        """Why an entry takes no part; empty where it does."""
        if entry.scores is None:
            return "it is not scored"
        if entry.size >= self.bytes:
            return f"it has {self.bytes:,.0f} bytes or more"
        count, least = entry.scores.deciding, self.least(entry.scores)
        digits = " of the keyed digits" if entry.scores.learned else ""
        return "" if count.right / count.total >= least else f"it is right on less than {100 * least:.0f} %{digits}"

    def least(self, scores: Scores) -> float:
        """The least accuracy on the images that decide."""
        return self.keyed if scores.learned else self.accuracy

    def told(self, entry: Entry, value: float) -> str:
        """What is ranked by, and whether so few images leave it open that the entry belongs here."""
        least = self.least(entry.scores) if entry.scores else 0.0
        unsure = entry.scores is not None and entry.scores.deciding.interval.low < least
        return self.shown(value) + f" (unsure: {100 * least:.0f} % lies in its interval)" * unsure

    def bar(self, keyed: bool) -> str:
        """What to say where keyed digits decide; empty where the title says it."""
        told = f"{100 * self.keyed:.0f} % of the keyed digits stand for {100 * self.accuracy:.0f} %"
        return told if keyed and self.keyed != self.accuracy else ""


TRACKS = {
    "smallest": Track(
        "smallest file at 98 % or more", 0.98, 0.96, math.inf,
        lambda entry, scores: entry.size,
        lambda value: f"{value:,.0f} bytes",
    ),
    "accurate": Track(
        "most accurate under 8 KB", 0.0, 0.0, 8 * KB,
        lambda entry, scores: -round(100 * scores.deciding.interval.low, 2),
        lambda value: f"at least {-value:.2f} %",
    ),
    "fastest": Track(
        "fastest on one image at 97 % or more", 0.97, 0.93, math.inf,
        lambda entry, scores: float(f"{scores.ratio.high:.2g}"),
        lambda value: f"at most {value:.2g} × the reference",
    ),
    "robust": Track(
        "most robust under 30 KB", 0.0, 0.0, 30 * KB,
        lambda entry, scores: -round(100 * scores.robust.interval.low, 2),
        lambda value: f"at least {-value:.2f} % right in every version",
    ),
}  # fmt: skip


class Place(NamedTuple):
    """An entry's place in a track, the same for equal values; no place where the entry takes no part."""

    place: int | None
    value: float | None
    tied: bool = False


def places(track: Track, entries: Sequence[Entry]) -> list[Place]:
    """The place of each entry: one more than the number of those that are better.

    The same bytes share the better value: each is timed for itself, and two times of one file may differ.
    """
    own = [track.value(entry, entry.scores) if entry.scores and not track.why_not(entry) else None
           for entry in entries]  # fmt: skip
    best = dict[str, float]()
    for entry, value in zip(entries, own, strict=True):
        if value is not None:
            best[entry.digest] = min(value, best.get(entry.digest, value))
    values = [None if value is None else best[entry.digest] for entry, value in zip(entries, own, strict=True)]
    there = [value for value in values if value is not None]
    return [
        Place(None, None) if value is None else Place(1 + sum(v < value for v in there), value, there.count(value) > 1)
        for value in values
    ]


def on_front(entries: Sequence[Entry]) -> list[Entry]:
    """Those that no other dominates: fewer bytes, or a higher lower end of the accuracy."""
    there = [(entry, entry.scores.deciding.interval.low) for entry in entries if entry.scores]
    if not there:
        return []
    return [there[index][0] for index in pareto_front([each.size for each, _ in there], [low for _, low in there])]


def twins(entries: Sequence[Entry]) -> Mapping[str, str]:
    """By name, the first entry with the same bytes, or with the same outputs on the public digits."""
    found: dict[str, str] = {}
    for index, entry in enumerate(entries):
        for other in entries[:index]:
            if entry.size and entry.digest == other.digest:
                found[entry.name] = f"the same bytes as {other.name}"
            elif entry.scores and other.scores and _same(entry.scores, other.scores):
                found[entry.name] = f"other bytes, and the outputs of {other.name} on every public digit"
            if entry.name in found:
                break
    return found


def _same(one: Scores, other: Scores) -> bool:
    """Equal outputs up to rounding: the same weights in another container."""
    close = 1e-4 * float(one.logits.abs().max())
    return one.logits.shape == other.logits.shape and float((one.logits - other.logits).abs().max()) <= close
