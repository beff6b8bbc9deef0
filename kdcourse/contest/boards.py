"""A folder of submissions judged one after another, whatever becomes of each, and compared with the last time."""

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._base.files import read_whole, write_whole
from .._base.places import say
from .course import baselines
from .judging import Entry, judge
from .receiving import SUFFIXES
from .sets import Digits
from .tracks import TRACKS, places
from .trying import Limits, plain

PAGE = "leaderboard.html"
STORED = re.compile(r'<script type="application/json" id="entries">(.*?)</script>', re.DOTALL)


def leaderboard(folder: Path, to: Path | None, on: Digits, limits: Limits | None = None) -> str:
    """Judge every submission in ``folder`` and write the page; what to say at the end.

    Submissions are files that end in .onnx or .kdc, in the folder or in a folder in it. Raises ``OSError`` where there
    is no such folder or the page cannot be written, ``ValueError`` where it holds no submission.
    """
    from .page import page  # needs matplotlib

    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is not a folder: name the one with the submissions")
    target = to or folder / PAGE
    files, others = submissions(folder)
    if not files:
        raise ValueError(f"there is no submission in {folder}: they end in {' or '.join(SUFFIXES)}")
    course, entries = baselines(on), list[Entry]()
    for number, (name, path) in enumerate(files.items(), 1):
        entries.append(safely(path, name, on, limits))
        said = entries[-1].refused or "scored"
        say(f"{number} of {len(files)}: {name}: {said}")
    state = stored(entries, on)
    write_whole(target, page(plain(folder.resolve().name), entries, course, on, changes(last(target), state), state))
    left = f"; left alone: {', '.join(others[:5])}{' …' * (len(others) > 5)}" if others else ""
    return f"{target} shows {sum(bool(entry.scores) for entry in entries)} of {len(entries)} submissions scored{left}."


def submissions(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Paths by the name to show, each once, and the names of other files and of folders that are not looked into."""
    files, others = dict[str, Path](), list[str]()
    for place in sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name)):
        inside = [place]
        if place.is_dir(follow_symlinks=False):
            try:
                inside = sorted(os.scandir(place.path), key=lambda entry: os.fsencode(entry.name))
            except OSError:  # of one team, and no reason to judge nobody
                inside = [place]
        for entry in inside:
            if entry.name.startswith(".") or entry.name == PAGE:
                continue
            path = Path(entry.path)
            name = plain(path.relative_to(folder).as_posix(), 60)
            if path.suffix.lower() in SUFFIXES:
                alike = sum(re.sub(r" \(\d+\)$", "", other) == name for other in files)
                files[f"{name} ({alike + 1})" if alike else name] = path
            else:
                others.append(name)
    return files, others


def safely(path: Path, name: str, on: Digits, limits: Limits | None) -> Entry:
    """`judge`, but a fault of its own is the entry's, too: one submission never costs another."""
    try:
        return judge(path, on=on, limits=limits, name=name)
    except ImportError:
        raise
    except Exception as error:
        return Entry(name, "", 0, "", None, plain(f"made the judge fail: {type(error).__name__}: {error}"), [])


def stored(entries: Sequence[Entry], on: Digits) -> dict[str, Any]:
    """What the next page compares itself with."""
    found: dict[str, Any] = {entry.name: {"digest": entry.digest, "places": {}} for entry in entries}
    for name, track in TRACKS.items():
        for entry, place in zip(entries, places(track, entries), strict=True):
            found[entry.name]["places"][name] = place.place
    return {"on": on.final_name, "entries": found}


def last(page: Path) -> Mapping[str, Any] | None:
    """What the page of the last time has stored; None where there is none, or nothing that can be read."""
    try:
        found = STORED.search(read_whole(page).decode())
        state: Any = json.loads(found[1]) if found else None
        if {type(each["places"]) for each in state["entries"].values()} <= {dict}:
            return state if isinstance(state["on"], str) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return None


def changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """A sentence for each thing that is other than last time."""
    if before is None:
        return ["There is no earlier leaderboard to compare with."]
    found = [] if before["on"] == now["on"] else ["The final images are others than last time."]
    was, are = before["entries"], now["entries"]
    found += [f"New: {name}." for name in are if name not in was]
    found += [f"Gone: {plain(name, 60)}." for name in was if name not in are]
    for name in (name for name in are if name in was):
        if are[name]["digest"] != was[name].get("digest"):
            found.append(f"{name} is another file.")
        for track, place in are[name]["places"].items():
            earlier = was[name]["places"].get(track)
            if earlier != place:
                moved = " → ".join("no place" if each is None else f"place {each}" for each in (earlier, place))
                found.append(f"{name}: {moved} ({TRACKS[track].title}).")
    return found or ["Nothing has changed since the last time."]
