"""Grade a submission that is read as data: each answer is judged by itself and can cost only its own points."""

import json
import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat import from_dict as node

from .._base.neutral import neutral, untouched
from .._base.notebooks import grade_id
from ..exercises import exercises
from ..exercises.engine.checking import Verdict, calls, weigh
from ..exercises.engine.core import Exercise
from ..exercises.engine.running import Outcome, OutOfTime, run
from .answering import Away, Lost, Session
from .extracting import Answer, Cell, cells_of, extract
from .sandbox import Limits, isolation, restart, server

LARGEST = 1_000_000_000
"""bytes of a notebook's file"""
DEFAULT = Limits()


@dataclass(frozen=True)
class Mark:
    """What one exercise earned and why.

    ``kind`` is "right", "wrong", "unattempted", "missing", "error" (it raises, or is not Python), "time", "memory",
    "died" (its process ended) or "damaged" (what it sent back cannot be read).
    """

    exercise: str
    points: float
    possible: float
    kind: str
    message: str
    """what the student reads: the same as from ``check``"""
    shown: str = ""
    """the first lines that the answer printed, on either stream"""
    reached: tuple[str, ...] = ()
    """what it tried that an answer has no business with: network, files outside its folder, processes"""


def read_submission(path: Path) -> NotebookNode:
    """The code cells of a submission and their marks; outputs, however long, are not kept.

    Raises ``ValueError`` that says why for a link, for what is not a file, and for a file that is not a notebook.
    """
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path.name} is a link or no file: hand in the notebook's file itself")
        if about.st_size > LARGEST:
            raise ValueError(f"{path.name} has {about.st_size:,} bytes; clear its outputs")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            stored = file.read(LARGEST + 1)
        told = json.loads(stored.decode(json.detect_encoding(stored)))
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError(f"{path.name} is not a notebook: its text is not what Jupyter writes") from None
    notebook: NotebookNode = node({"cells": [_plain_cell(cell) for cell in _cells(told, path.name)]})
    return notebook


def _cells(told: Any, name: str) -> list[dict[str, Any]]:
    sheets = told.get("worksheets") if isinstance(told, dict) else None
    cells = sheets[0].get("cells") if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict) else None
    cells = told.get("cells", cells) if isinstance(told, dict) else None
    if not isinstance(cells, list):
        raise ValueError(f"{name} is not a notebook: it has no cells")
    return [cell for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]


def _plain_cell(cell: dict[str, Any]) -> dict[str, Any]:
    source = cell.get("source", cell.get("input", ""))
    text = "".join(part for part in source if isinstance(part, str)) if isinstance(source, list) else source
    name = grade_id(cell)
    metadata = {} if name is None else {"nbgrader": {"grade_id": name}}
    lines = text.replace("\r\n", "\n").replace("\r", "\n") if isinstance(text, str) else ""
    return {"cell_type": "code", "source": lines, "metadata": metadata}


def grade(notebook: NotebookNode | Path, assignment: str, *, seed: int, limits: Limits = DEFAULT) -> list[Mark]:
    """One mark for each exercise of ``assignment`` ("03_kl_derivation"), in the order of the course.

    ``seed`` draws the cases that come on top of the fixed ones. A file that is not a notebook raises ``ValueError``.
    """
    cells = cells_of(read_submission(notebook) if isinstance(notebook, Path) else notebook)
    asked = [exercises[id] for id in exercises if id.startswith(f"{assignment[:2]}.")]
    if not asked:
        raise ValueError(f"{assignment} has no exercises: an assignment begins with its notebook's number, 03_…")
    return [mark(exercise, cells, seed, limits) for exercise in asked]


def mark(exercise: Exercise, cells: list[Cell], seed: int, limits: Limits = DEFAULT) -> Mark:
    """What the answer to one exercise earns."""
    found = extract(cells, exercise)
    nothing = Mark(exercise.id, 0, exercise.points, found.problem, found.message)
    if found.problem:
        return nothing
    try:
        session = begin(exercise, limits)
        try:
            result = _result(session, found, seed, nothing)
        finally:
            session.child.stop()
    except Exception as error:  # ours, or of a kind that nobody has thought of: it costs this exercise alone
        restart()
        message = f"this answer could not be graded ({type(error).__name__}): tell whoever runs the course"
        return replace(nothing, kind="damaged", message=message)
    return replace(result, shown=session.printed, reached=tuple(session.reached))


def begin(exercise: Exercise, limits: Limits) -> Session:
    """A child for an answer; if the server is gone, from a new one."""
    try:
        return Session(server(), exercise, limits)
    except OSError:
        restart()
        return Session(server(), exercise, limits)


def _result(session: Session, found: Answer, seed: int, nothing: Mark) -> Mark:
    try:
        with untouched(), neutral():
            verdict = judged(session, found, seed)
    except Lost as lost:
        return replace(nothing, kind=lost.kind, message=lost.message)
    except TimeoutError:
        return replace(nothing, kind="time", message="your cell did not end in time: look for a loop without an end")
    kind = {"right": "right", "unattempted": "unattempted", "time": "time", "raises": "error"}.get(
        verdict.kind, "wrong"
    )
    kind = "memory" if kind == "error" and "MemoryError" in verdict.text.partition("\n")[0] else kind
    points = session.exercise.points if kind == "right" else 0
    return replace(nothing, points=points, kind=kind, message=verdict.text)


def judged(session: Session, found: Answer, seed: int) -> Verdict:
    """Try the answer on every case, twice, as ``check`` does, and weigh what came back."""
    exercise = session.exercise
    told = session.define(found)
    if told.get("found") is not True:
        raise Lost("error", _why_undefined(told, exercise))
    trial = Away(exercise, session.limits.call, seed, drawn=len(exercise.tried(seed)))
    if told.get("callable") is not True:
        return Verdict("type", f"`{exercise.name}` is not a function")
    got, trial = first_pass(trial, session)
    late = any(isinstance(outcome.error, OutOfTime) for outcome in got)
    again = got if session.called or late else [trial.run(session, case, 1) for case in trial.cases()]
    if session.called:
        return calls(session.called[0])
    cases = trial.cases()
    expected = [run(exercise, exercise.reference, case, limit=None) for case in cases]
    return weigh(trial, session, cases, expected, got, again)


def first_pass(trial: Away, session: Session) -> tuple[list[Outcome], Away]:
    """The outcomes of the fixed cases and of as many drawn ones as a slow answer leaves time for, at least one."""
    fixed = len(trial.exercise.cases())
    got: list[Outcome] = []
    for number, case in enumerate(trial.cases()):
        if number > fixed and time.monotonic() - session.started > session.limits.total / 4:
            break
        got.append(trial.run(session, case, 0))
        if isinstance(got[-1].error, OutOfTime):
            break
    return got, replace(trial, drawn=max(0, len(got) - fixed))


def _why_undefined(told: dict[str, Any], exercise: Exercise) -> str:
    failed = told.get("failed")
    last = failed[-1] if isinstance(failed, list) and failed else None
    what = f": {last[2]}: {last[3]}" if isinstance(last, list) and len(last) > 3 else ""
    return f"running your cell does not define `{exercise.name}`{what}"[:500]


__all__ = ["Limits", "Mark", "grade", "isolation", "read_submission"]
