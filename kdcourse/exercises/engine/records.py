"""What a learner has solved: one small file a user, that no crash can spoil."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from platformdirs import user_data_path

from ..._base.files import exclusive, read_whole, write_whole
from ..._base.places import named_by, no_home, say
from .core import Exercise

MOST_TRIES = 10**9


class Record(TypedDict):
    """What is kept of one exercise."""

    tries: int
    solved: bool


def progress_path() -> Path:
    """Where it is kept: ``$KDCOURSE_PROGRESS``, or the platform's usual place for an application's data.

    Raises ``OSError`` for a user without a home.
    """
    chosen = named_by("KDCOURSE_PROGRESS")
    if chosen is not None:
        return chosen
    try:
        folder = user_data_path("kdcourse", appauthor=False)
    except RuntimeError:
        folder = Path("~")
    if not folder.is_absolute():
        raise no_home("you have no home folder")
    return folder / "progress.json"


def load() -> dict[str, Record]:
    """What has been recorded; a file that cannot be read is named, a damaged one set aside under another name."""
    try:
        path = progress_path()
        found = _read(path)
        if found is None:
            with exclusive(path):
                found = _read_or_set_aside(path)
        return found
    except OSError as error:
        say(f"Your progress cannot be read: {error.strerror or error}.")
        return {}


def record(name: str, *, solved: bool) -> None:
    """Count a try; once solved stays solved. A place that cannot be read or written is reported, never fatal."""
    try:
        path = progress_path()
        with exclusive(path):
            records = _read_or_set_aside(path)
            old = records.get(name, Record(tries=0, solved=False))
            records[name] = Record(tries=min(old["tries"] + 1, MOST_TRIES), solved=old["solved"] or solved)
            write_whole(path, json.dumps(records, indent=1, sort_keys=True) + "\n", mode=0o600)
    except OSError as error:
        say(f"Your progress cannot be kept: {error.strerror or error}. KDCOURSE_PROGRESS can name another file.")


def _read(path: Path) -> dict[str, Record] | None:
    """What is in the file: nothing if there is none, and None if it is damaged."""
    try:
        return _checked(json.loads(read_whole(path)))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _checked(stored: dict[str, Record]) -> dict[str, Record]:
    if not isinstance(stored, dict):
        raise TypeError
    for record in stored.values():
        if type(record["tries"]) is not int or type(record["solved"]) is not bool:
            raise TypeError
        if not 0 <= record["tries"] <= MOST_TRIES:
            raise ValueError
    return {name: Record(tries=record["tries"], solved=record["solved"]) for name, record in stored.items()}


def _read_or_set_aside(path: Path) -> dict[str, Record]:
    """Only for who alone may change the file. Raises ``OSError`` for a damaged one that cannot be moved."""
    found = _read(path)
    if found is None:
        found = _read(path)  # a read that fails once is no damage
    if found is not None:
        return found
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    try:
        os.replace(path, aside)
    except OSError as error:
        raise OSError(error.errno, f"{path} is damaged and cannot be moved ({error.strerror})") from error
    say(f"Your progress file was damaged. It is now {aside}, and a new one is begun.")
    return {}


def table(exercises: Iterable[Exercise]) -> str:
    """A line for every exercise, by notebook: ✔ solved, ✘ tried, – not yet."""
    records, lines, notebook = load(), [], ""
    for exercise in exercises:
        if exercise.notebook != notebook:
            notebook = exercise.notebook
            lines.append(f"Notebook {notebook}")
        kept = records.get(exercise.id, Record(tries=0, solved=False))
        mark = "✔" if kept["solved"] else "✘" if kept["tries"] else "–"
        tries = "" if not kept["tries"] else f"{kept['tries']} tries" if kept["tries"] > 1 else "1 try"
        lines.append(f"  {mark} {exercise.id}  {exercise.title:<44} {tries}".rstrip())
    solved = sum(records[e.id]["solved"] for e in exercises if e.id in records)
    return "\n".join([*lines, f"{solved} of {len(list(exercises))} solved"])
