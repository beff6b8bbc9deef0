"""Grade a submission that is read as data: each answer is judged by itself and can cost only its own points."""

from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from .._base.notebooks import read
from ..exercises import exercises
from ..exercises.engine.checking import judge
from ..exercises.engine.core import Exercise


@dataclass(frozen=True)
class Limits:
    """What one answer may take: seconds a call and in all, bytes of memory, of files and of results, processes."""

    call: float = 10.0
    total: float = 300.0
    memory: int = 4 * 2**30
    files: int = 64 * 2**20
    result: int = 64 * 2**20
    processes: int = 64


@dataclass(frozen=True)
class Mark:
    """What one exercise earned and why.

    ``kind`` is "right", "wrong", "unattempted", "missing" (no cell defines the function), "error", "time", "memory",
    "died" or "damaged".
    """

    exercise: str
    points: float
    possible: float
    kind: str
    message: str
    """the line or lines that the student reads, as ``check`` prints them"""
    shown: str = ""
    """the first lines that the answer printed, on stdout and stderr"""
    reached: tuple[str, ...] = ()
    """what it tried that an answer has no business with: network, files outside, processes"""


def isolation() -> tuple[str, ...]:
    """What is not isolated on this system, a sentence each; empty where everything is."""
    return ("nothing is isolated yet",)


def grade(
    notebook: NotebookNode | Path,
    assignment: str,
    *,
    seed: int,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
) -> list[Mark]:
    """One mark for each exercise of ``assignment`` ("03_kl_derivation"), in the order of the course.

    ``seed`` draws the cases that come on top of the fixed ones. A file that is no notebook raises ``ValueError``.
    """
    cells = (read(notebook) if isinstance(notebook, Path) else notebook).cells
    asked = [each for id, each in exercises.items() if id.startswith(assignment[:2] + ".")]
    return [_mark(exercise, [cell.source for cell in cells if cell.cell_type == "code"], seed) for exercise in asked]


def _mark(exercise: Exercise, sources: list[str], seed: int) -> Mark:
    space: dict[str, object] = {}
    for source in sources:
        if f"def {exercise.name}(" in source:
            try:
                exec(source, space)
            except Exception as error:
                return Mark(exercise.id, 0, exercise.points, "error", f"{type(error).__name__}: {error}")
    if exercise.name not in space:
        return Mark(exercise.id, 0, exercise.points, "missing", f"no cell defines {exercise.name}")
    verdict = judge(exercise, space[exercise.name], seed=seed)
    kind = verdict.kind if verdict.kind in ("right", "unattempted", "time") else "wrong"
    points = exercise.points if kind == "right" else 0
    return Mark(exercise.id, points, exercise.points, kind, verdict.text, verdict.printed)
