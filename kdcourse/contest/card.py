"""What was measured of a submission, as text."""

from collections.abc import Sequence
from textwrap import fill

from ..metrics import Interval
from .counts import Count, difference
from .judging import Entry
from .sets import EPSILON, Digits
from .tracks import TRACKS, Track, on_front, places, twins

TRANSFER = (
    f"The attacks (PGD, {EPSILON} per pixel) were made for the course's two teachers: the judge has no gradients of a "
    "file, so this is an upper bound of its robustness, and one made against these two looks better than it is."
)


def percent(count: Count) -> str:
    """A fraction and its interval.

    >>> percent(Count(497, 500))
    '99.40 % (98.26 to 99.88)'
    """
    mean, low, high = (100 * value for value in count.interval)
    return f"{mean:.2f} % ({low:.2f} to {high:.2f})"


def measure(interval: Interval, unit: str) -> str:
    """A median and its interval, to three digits."""
    return f"{interval.mean:.3g} {unit} ({interval.low:.3g} to {interval.high:.3g})"


def gaps(entry: Entry) -> list[tuple[str, Interval, str]]:
    """Differences of accuracies that say how far to trust the public score, each with one sentence."""
    scores, found = entry.scores, list[tuple[str, Interval, str]]()
    if scores and scores.final:
        gap = difference(scores.public, scores.final)
        said = "Its public score is not clearly higher than the final one."
        if gap.low > 0:
            why = "ask whether it was chosen, or trained, on the public digits"
            why = "keyed digits are bent, and harder for everyone" if scores.learned else why
            said = f"Its public score is higher than the final one: {why}."
        found.append(("public minus final", gap, said))
    if scores and scores.final and scores.learned:
        gap = difference(scores.final, scores.learned)
        said = "No sign of final digits in its training, and no proof either: who learned from both shows no gap."
        if gap.low > 0:
            said = "It is better on keyed test digits than on keyed training digits: ask what it was trained on."
        found.append(("keyed test minus keyed train", gap, said))
    return found


def points(gap: Interval) -> str:
    """A difference of two fractions in percentage points.

    >>> points(Interval(0.012, -0.001, 0.025))
    '+1.20 points (-0.10 to +2.50)'
    """
    mean, low, high = (100 * value for value in gap)
    return f"{mean:+.2f} points ({low:+.2f} to {high:+.2f})"


def spent(entry: Entry) -> str:
    """What the bytes of a file tell."""
    parts = entry.scores.spent if entry.scores else {}
    return ", ".join(f"{name} {part:,}" for name, part in parts.items())


def card(entry: Entry, course: Sequence[Entry], on: Digits, track: str | None = None) -> str:
    """The card of an entry beside the course's own files, for one track or all four."""
    if entry.scores is None:
        return f"{entry.name} is not scored: it {entry.refused}."
    head = [("file", f"{entry.name}, {entry.kind}, {entry.size:,} bytes, SHA-256 {entry.digest[:16]}")]
    if entry.scores.spent:
        head.append(("  spent on", spent(entry)))
    tracks = TRACKS if track is None else {track: TRACKS[track]}
    ranked = [(each.title, _standing(each, entry, course)) for each in tracks.values()]
    rows = [*head, *_rows(entry, on), *ranked, ("Pareto front", _front(entry, course))]
    lines = [f"{name:<38}{text}" for name, text in rows]
    said = [
        "Intervals: 95 %, Clopper and Pearson's for fractions, Newcombe's for differences, two ranks for medians.",
        TRANSFER,
        *(sentence for _, _, sentence in gaps(entry)),
    ]
    if on.final:
        said.append(f"Final images: {on.final_name}.")
    else:
        said.append("No final score: MNIST's 10,000 test digits are not here (--data), and no --key was given.")
    said += [f"In {each.title!r} {bar}." for each in tracks.values() if (bar := each.bar(bool(on.learned)))]
    said += [f"It {note}." if not note.startswith(("it ", "this ", "what ")) else f"{note[0].upper()}{note[1:]}."
             for note in entry.notes]  # fmt: skip
    said += [f"It has {twin}." for twin in twins([*course, entry]).values() if twin]
    return "\n".join([*lines, "", *(fill(sentence, 110) for sentence in said)])


def _rows(entry: Entry, on: Digits) -> list[tuple[str, str]]:
    scores = entry.scores
    assert scores
    rows = [(f"public: {scores.public.total} validation digits", percent(scores.public))]
    if scores.final:
        rows.append((f"final: {on.final_name.partition(', ')[0]}"[:37], percent(scores.final)))
    if scores.learned:
        rows.append(("keyed training digits", percent(scores.learned)))
    rows += [(f"  {name}", points(gap)) for name, gap, _ in gaps(entry)]
    rows += [(f"  {name}", percent(count)) for name, count in scores.versions.items()]
    rows.append(("  right in every version", percent(scores.robust)))
    runtime = "the decoded weights in NumPy" if entry.kind == "coded" else "onnxruntime"
    rows.append(("one image alone", f"{measure(scores.milliseconds, 'ms')} in {runtime}, one thread"))
    rows.append(("  the reference, in pairs", measure(scores.ratio, "×")))
    return rows


def _standing(track: Track, entry: Entry, course: Sequence[Entry]) -> str:
    own, *others = places(track, [entry, *course])
    if own.value is None:
        return f"takes no part: {track.why_not(entry)}"
    ranked = 1 + sum(other.value is not None for other in others)
    tie = ", a tie" if own.tied else ""
    return f"place {own.place} of {ranked} beside the course's own{tie}: {track.told(entry, own.value)}"


def _front(entry: Entry, course: Sequence[Entry]) -> str:
    if any(each is entry for each in on_front([entry, *course])):
        return "on it: none of the course's files is smaller and as accurate"
    assert entry.scores
    better = [each for each in course if each.scores and each.size <= entry.size
              and each.scores.deciding.interval.low >= entry.scores.deciding.interval.low]  # fmt: skip
    return f"behind {better[0].name}: {better[0].size:,} bytes, {percent(better[0].scores.deciding)}"  # type: ignore[union-attr]
