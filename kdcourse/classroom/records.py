"""What is kept of each grading, in the course's folder ``marks``: one file a student and assignment."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from .._base.files import read_whole, write_whole

GRADED, MISSING, DAMAGED, REACHED = "graded", "not handed in", "damaged", "tried to reach the grader"
"""what can have become of a submission"""


@dataclass(frozen=True)
class Record:
    """What became of one submission."""

    student: str
    assignment: str
    marks: list[dict[str, Any]] = field(default_factory=list)
    """the fields of `kdcourse.classroom.judging.Mark`"""
    file: str = ""
    """SHA-256 of what was handed in"""
    notebook: str = ""
    """SHA-256 of the notebook's sources, as they were judged"""
    seed: int = 0
    damage: str = ""
    """why nothing of it could be read"""
    notes: list[str] = field(default_factory=list)
    when: str = ""
    """the time of handing in and the due date that nbgrader was last told"""

    @property
    def status(self) -> str:
        """One of the four words."""
        if self.damage:
            return DAMAGED
        if not self.marks:
            return MISSING
        return REACHED if any(mark["reached"] for mark in self.marks) else GRADED

    @property
    def note(self) -> str:
        """What an instructor should know of it, in a line."""
        tried = [f"{mark['exercise']}: {', '.join(mark['reached'])}" for mark in self.marks if mark["reached"]]
        odd = [f"{mark['exercise']} {mark['kind']}" for mark in self.marks if mark["kind"] in UNUSUAL]
        return " ".join("; ".join([*([self.damage] if self.damage else []), *tried, *odd, *self.notes]).split())


UNUSUAL = {"missing", "time", "memory", "died", "damaged"}
"""kinds of marks that say more than that an answer is wrong"""


def place(course: Path, student: str, assignment: str) -> Path:
    return course / "marks" / student / f"{assignment}.json"


def load(course: Path, student: str, assignment: str) -> Record:
    """What is known of a submission; an empty record where nothing is, or where the file is damaged."""
    try:
        return Record(**json.loads(read_whole(place(course, student, assignment))))
    except (OSError, ValueError, TypeError):
        return Record(student, assignment)


def save(course: Path, record: Record) -> None:
    path = place(course, record.student, record.assignment)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(record), ensure_ascii=False, indent=1) + "\n")


def digest(notebook: NotebookNode) -> str:
    """SHA-256 of what is judged: every cell's kind, mark and source."""
    cells = [
        [cell.cell_type, cell.metadata.get("nbgrader", {}).get("grade_id", ""), cell.source] for cell in notebook.cells
    ]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()
