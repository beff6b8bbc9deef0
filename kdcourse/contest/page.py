"""The leaderboard as one HTML page without a server or a script, for light and dark screens."""

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from ..plots import Point, axes_grid, pareto, picture
from .card import TRANSFER, gaps, measure, percent, points, spent
from .judging import Entry
from .sets import Digits
from .tracks import TRACKS, Track, on_front, places, twins

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --faint: #595959; --paper: #ffffff; --line: #c8c8c8;
  --mark: #eef4fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececec; --faint: #b0b0b0; --paper: #16181b; --line: #484c52; --mark: #222a33; }
}
body { max-width: 74rem; margin: 0 auto; padding: 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2rem; font-size: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { padding-bottom: .3rem; color: var(--faint); text-align: left; }
td:last-child { min-width: 10rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { white-space: nowrap; } tbody th { font-weight: 600; overflow-wrap: anywhere; min-width: 8rem; }
tr.course { background: var(--mark); }
img { max-width: 100%; min-width: 40rem; height: auto; border: 1px solid var(--line); background: #fff; }
.faint { color: var(--faint); }
"""


def page(
    name: str, entries: Sequence[Entry], course: Sequence[Entry], on: Digits, changed: Sequence[str],
    state: Mapping[str, Any],
) -> str:  # fmt: skip
    """The whole page; ``state`` is kept in it for the next time."""
    everyone, title = [*course, *entries], f"Leaderboard: {name}"
    images = "the final" if on.final else "the public"
    final = on.final_name or "none: places are those on the public digits"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{datetime.now():%Y-%m-%d %H:%M}. Public: {len(on.public.labels):,} validation digits. '
        f"Final: {escape(final)}.</p>",
        "<h2>What changed</h2>",
        f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in changed)}</ul>",
        "<h2>Size and accuracy</h2>",
        figure(everyone),
        *(part for track in TRACKS.values() for part in ranking(track, everyone, images, bool(on.learned))),
        "<h2>All that was measured</h2>",
        measured(everyone),
        *trust(everyone, on),
        "<h2>What the bytes are spent on</h2>",
        spending(everyone),
        *refusals(entries),
        "<h2>How it was judged</h2>",
        "<p>Each file ran in a process of its own, one image at a time. Intervals hold 95 %: Clopper and Pearson’s for "
        "fractions, two ranks for the medians of times. Places go by the end of the interval that is worse for the "
        f"entry; equal values share a place. Rows with a background are the course’s own files. {escape(TRANSFER)}</p>",
    ]
    kept = json.dumps(state).replace("<", "\\u003c")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + f'\n</main>\n<script type="application/json" id="entries">{kept}</script>\n</body>\n</html>\n'
    )


def figure(entries: Sequence[Entry]) -> str:
    """The Pareto picture of what ran, with alt text that names its front."""
    points = [Point(_short(entry.name), "the course's" if entry.of_course else "submission", entry.size,
                    entry.scores.deciding.interval.low) for entry in entries if entry.scores]  # fmt: skip
    if not points:
        return "<p>Nothing could be scored.</p>"
    front = [f"{entry.name}, {entry.size:,} bytes, {entry.scores.deciding.interval.low:.1%}"
             for entry in on_front(entries) if entry.scores]  # fmt: skip
    alt = f"Lower end of the accuracy over bytes of {len(points)} files. Undominated: {'; '.join(front)}."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may have letters that the font lacks
        drawn, axis = axes_grid(width=9.0, height=4.2)
        pareto(axis, points, title="Size and accuracy", xlabel="bytes", ylabel="accuracy, lower end")
        return f'<div class="scroll" tabindex="0">{picture(drawn, alt)}</div>'


def ranking(track: Track, entries: Sequence[Entry], images: str, keyed: bool = False) -> list[str]:
    """The table of a track, with the accuracy on these images."""
    ranked = [(place, entry) for place, entry in zip(places(track, entries), entries, strict=True) if place.place]
    rows = []
    for place, entry in sorted(ranked, key=lambda each: each[0].place or 0):
        assert place.value is not None
        assert entry.scores
        first = f"{place.place}{' (tie)' if place.tied else ''}"
        rows.append((entry, [first, track.told(entry, place.value), f"{entry.size:,}", percent(entry.scores.deciding)]))
    caption = "; ".join(filter(None, [f"Accuracy on {images} digits", track.bar(keyed)]))
    heads, title = ["Place", "Ranked by", "Bytes", "Accuracy"], escape(f"{track.title[0].upper()}{track.title[1:]}")
    return [f"<h2>{title}</h2>", table(caption, heads, rows) if rows else "<p>Nobody yet.</p>"]


def measured(entries: Sequence[Entry]) -> str:
    """One table of everything."""
    same, rows, notes = twins(entries), [], list[str]()
    for entry in entries:
        scores = entry.scores
        if scores:
            said = [*(f"it has {twin}" for twin in filter(None, [same.get(entry.name)])), *entry.notes]
            notes += [f"<li><b>{escape(entry.name)}</b>: {escape(sentence)}.</li>" for sentence in said]
            final = percent(scores.final) if scores.final else "–"
            rows.append((entry, [f"{entry.size:,}", percent(scores.public), final, percent(scores.robust),
                                 measure(scores.milliseconds, "ms"), measure(scores.ratio, "×")]))  # fmt: skip
    heads = ["Bytes", "Public", "Final", "Right in every version", "One image", "To the reference"]
    return table("Percentages and times with their intervals", heads, rows) + f"<ul>{''.join(notes)}</ul>" * bool(notes)


def trust(entries: Sequence[Entry], on: Digits) -> list[str]:
    """The table of the gaps between sets of digits, if there are final ones."""
    if not on.final:
        return []
    rows = []
    for entry in entries:
        if entry.scores:
            found = {name: points(gap) for name, gap, _ in gaps(entry)}
            learned = [percent(entry.scores.learned)] if entry.scores.learned else []
            rows.append((entry, [found["public minus final"], *learned, *list(found.values())[1:]]))
    heads = ["Public minus final", *["Keyed training digits", "Keyed test minus keyed train"] * bool(on.learned)]
    said = "A first gap clearly above zero is an entry that was chosen, or trained, on the public digits."
    if on.learned:
        said = (
            "Keyed digits are bent, and harder for everyone: compare the first gap with that of the other entries. If "
            "the second is clearly above zero, ask what the entry was trained on; around zero it proves nothing."
        )
    return ["<h2>How far to trust the public score</h2>", f"<p>{said}</p>",
            table("Differences in percentage points with their intervals", heads, rows)]  # fmt: skip


def spending(entries: Sequence[Entry]) -> str:
    """The table of what files consist of."""
    rows = [(entry, [entry.kind, f"{entry.size:,}", spent(entry) or "–"]) for entry in entries if entry.scores]
    return table("Bytes by what they tell", ["Format", "Bytes", "Spent on"], rows)


def refusals(entries: Sequence[Entry]) -> list[str]:
    """The table of what was not scored, if there is any."""
    same = twins(entries)
    rows = []
    for entry in entries:
        if not entry.scores:
            also = f" It has {same[entry.name]}." if entry.name in same else ""
            rows.append((entry, [f"It {entry.refused}.{also}"]))
    return ["<h2>Not scored</h2>", table("Files without a score", ["Why"], rows)] if rows else []


def table(caption: str, heads: Iterable[str], rows: Iterable[tuple[Entry, Sequence[str]]]) -> str:
    """A table with the entries' names in its first column; all cells are escaped."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in ("File", *heads))
    lines = "".join(
        f'<tr{" class=course" * entry.of_course}><th scope="row">{escape(entry.name)}</th>'
        + "".join(f"<td>{_kept(escape(cell))}</td>" for cell in cells)
        + "</tr>\n"
        for entry, cells in rows
    )
    return (f'<div class="scroll" tabindex="0"><table>\n<caption>{caption}</caption>\n<thead><tr>{top}</tr></thead>\n'
            f"<tbody>\n{lines}</tbody></table></div>")  # fmt: skip


def _kept(cell: str) -> str:
    """A number stays with its unit, and an interval on one line."""
    return re.sub(r" (?=%|ms|×|points|to [\d.+-]+\))|(?<=to) (?=[\d.+-]+\))", "\N{NO-BREAK SPACE}", cell)


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"
