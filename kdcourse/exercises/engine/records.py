"""What a learner has solved: one small file a user, that no crash can spoil."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from platformdirs import user_data_path

from ..._base.files import replacing
from .core import Exercise


class Record(TypedDict):
    """What is kept of one exercise."""

    tries: int
    solved: bool


def progress_path() -> Path:
    """Where it is kept: ``$KDCOURSE_PROGRESS``, or the platform's usual place for an application's data."""
    chosen = os.environ.get("KDCOURSE_PROGRESS")
    return Path(chosen) if chosen else user_data_path("kdcourse", appauthor=False) / "progress.json"


def load() -> dict[str, Record]:
    """What has been recorded; a file that cannot be read is set aside under another name, and named."""
    path = progress_path()
    try:
        return _checked(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except OSError as error:
        print(f"Your progress cannot be read ({error.strerror}): {path}")
    except (ValueError, TypeError, KeyError, RecursionError):
        _set_aside(path)
    return {}


def _checked(stored: object) -> dict[str, Record]:
    if not isinstance(stored, dict):
        raise TypeError
    return {
        str(name): Record(tries=int(record["tries"]), solved=record["solved"] is True)
        for name, record in stored.items()
    }


def _set_aside(path: Path) -> None:
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    try:
        os.replace(path, aside)
        print(f"Your progress file was damaged. It is now {aside}, and a new one is begun.")
    except OSError as error:
        print(f"Your progress file is damaged and cannot be moved ({error.strerror}): {path}")


def record(name: str, *, solved: bool) -> None:
    """Count a try; once solved stays solved. An unwritable place is reported, never fatal."""
    records = load()
    old = records.get(name, Record(tries=0, solved=False))
    records[name] = Record(tries=old["tries"] + 1, solved=old["solved"] or solved)
    try:
        progress_path().parent.mkdir(parents=True, exist_ok=True)
        with replacing(progress_path(), mode=0o600) as temporary:
            temporary.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        print(f"Your progress cannot be kept ({error.strerror}): {progress_path()}")


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
