"""What nbgrader calls: a reader, two preprocessors, a penalty for late work and an export, all named in a course's
``nbgrader_config.py`` by `configure`. They take the place of running the students' notebooks.
"""

import csv
import math
import os
import secrets
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import NbGrader, NbGraderAPI
from nbgrader.plugins import ExportPlugin, LateSubmissionPlugin
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    LimitOutput,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)
from sqlalchemy.exc import SAWarning
from traitlets import Bool, Float, Integer

from .._base.places import say
from . import collecting, records
from .marking import exposed, marked
from .records import Record
from .repairing import repair

COLUMNS = ("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email", "raw_score",
           "late_submission_penalty", "score", "max_score", "status", "note")  # fmt: skip
SEED = secrets.randbelow(2**31)
"""draws the cases of this run, the same for everyone in it"""


def configure(config: Any) -> None:
    """Tell nbgrader to have submissions judged instead of run."""
    warnings.filterwarnings("ignore", category=SAWarning)  # nbgrader's own, on every submission
    config.Autograde.exporter_class = Reader
    config.Autograde.pre_convert_hook = set_aside
    config.Autograde.sanitize_preprocessors = [Repair, OverwriteKernelspec, OverwriteCells, CheckCellMetadata]
    config.Autograde.autograde_preprocessors = [
        Judge,
        LimitOutput,
        SaveAutoGrades,
        AssignLatePenalties,
        CheckCellMetadata,
    ]
    config.AssignLatePenalties.plugin_class = LatePenalty
    config.ExportApp.plugin_class = Grades
    config.HTMLExporter.sanitize_html = True
    config.ClearSolutions.code_stub = {"python": "..."}  # what the course's skeletons say


def api(course: Path) -> NbGraderAPI:
    """nbgrader with the settings of a course, for submissions that are tidied and have marks."""
    # nbgrader calls alembic by its bare name
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    application = NbGrader()
    application.load_config_file()
    config = application.config
    config.CourseDirectory.root = str(course)
    config.Judge.kept = True
    config.Autograde.pre_convert_hook = None
    return NbGraderAPI(config=config)


def set_aside(assignment: str, student: str, notebooks: list[str]) -> None:
    """Before a student's submission is graded: its notebook gets its right name, all else is moved out of reach."""
    who = Path(notebooks[0]).parent.parent.name
    notebooks[:] = [str(Path(notebooks[0]).with_name(f"{assignment}.ipynb"))]
    try:
        notes = collecting.tidy(Path.cwd(), who, assignment)
    except collecting.Damaged as error:
        notes = [str(error)]
    if notes:
        records.save(Path.cwd(), replace(records.load(Path.cwd(), who, assignment), notes=notes))


class Reader(NotebookExporter):
    """Read a notebook as any program saves it; what cannot be read comes as the released one, headed by the reason."""

    def from_filename(self, filename: str, resources: Any = None, **kw: Any) -> tuple[Any, Any]:
        path = Path(filename)
        resources["nbgrader"]["damage"] = ""
        given = collecting.released(Path.cwd(), path.stem)
        try:
            notebook = collecting.opened(path)
            collecting.check_belongs(notebook, given, path.stem)
        except collecting.Damaged as error:
            notebook = collecting.nothing_read(given, str(error))
            resources["nbgrader"]["damage"] = str(error)
        return super().from_notebook_node(notebook, resources, **kw)  # type: ignore[no-untyped-call]


class Repair(NbGraderPreprocessor):
    """Marks, tags and check cells as they were released, whatever has become of them."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        about = resources["nbgrader"]
        repaired = repair(nb, collecting.released(Path.cwd(), about["notebook"]))
        repaired.metadata["kdcourse"] = {"damage": about["damage"]}
        return repaired, resources


class Judge(NbGraderPreprocessor):
    """Have the answers judged, and write into each check cell what `check` would have said, in nbgrader's terms."""

    kept = Bool(False, help="take the marks that `python -m kdcourse grade` has just made").tag(config=True)
    call = Float(10.0, min=0.1, help="seconds that one call of an answer may take").tag(config=True)
    total = Float(300.0, min=1.0, help="seconds that one answer may take in all").tag(config=True)
    memory_gb = Float(4.0, min=1.0, help="memory that one answer may take").tag(config=True)

    def limits(self) -> dict[str, Any]:
        """What one answer may take, as `kdcourse.classroom.judging.Limits` has it."""
        return {"call": self.call, "total": self.total, "memory": int(self.memory_gb * 2**30)}

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        course, who = Path.cwd(), resources["nbgrader"]
        record = records.load(course, who["student"], who["assignment"])
        if not (self.kept and (record.damage or record.notebook == records.digest(nb))):
            record = judged(nb, record, SEED, self.limits())
            records.save(course, record)
        marks = {f"check-{mark['exercise'].replace('.', '-')}": mark for mark in record.marks}
        for cell in nb.cells:
            graded = cell.metadata.get("nbgrader", {})
            if graded.get("grade"):
                cell.outputs = outputs(marks.get(graded["grade_id"]), record.damage)
        return nb, resources


def judged(notebook: NotebookNode, known: Record, seed: int, limits: dict[str, Any]) -> Record:
    """The record of a repaired notebook, with a mark for each exercise."""
    warn()
    if damage := notebook.metadata["kdcourse"]["damage"]:
        return replace(known, marks=[], damage=damage)
    return marked(replace(known, seed=seed), notebook, limits)


@cache
def warn() -> None:
    """Say once what is not isolated on this system."""
    for sentence in exposed():
        say(sentence)


def outputs(mark: dict[str, Any] | None, damage: str) -> list[NotebookNode]:
    """The outputs of a check cell from which nbgrader reads the points: an error for none, a number for some."""
    if mark is None:
        return [_error(f"not graded: {damage or 'no such exercise'}")]
    shown = [new_output("stream", name="stdout", text=mark["shown"].rstrip("\n") + "\n")] if mark["shown"] else []
    if not mark["points"]:
        return [*shown, _error(mark["message"])]
    said = new_output("stream", name="stdout", text=mark["message"] + "\n")
    if mark["points"] < mark["possible"]:
        return [said, *shown, new_output("execute_result", data={"text/plain": str(mark["points"])})]
    return [said, *shown]


def _error(message: str) -> NotebookNode:
    first, _, _ = message.partition("\n")
    return new_output("error", ename="WrongAnswer", evalue=first, traceback=message.split("\n"))


class LatePenalty(LateSubmissionPlugin):
    """A fraction of the points earned, for each day begun after the due date."""

    per_day = Float(0.0, min=0.0, max=1.0, help="fraction of the points lost per day begun").tag(config=True)
    grace_minutes = Integer(0, min=0, help="minutes after the due date that cost nothing").tag(config=True)

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float:
        """Points to take off, of ``score``.

        >>> LatePenalty(per_day=0.25).late_submission_penalty("ada", 8.0, 25 * 3600)
        4.0
        """
        if total_seconds_late <= 60 * self.grace_minutes:
            return 0.0
        return round(score * min(1.0, self.per_day * math.ceil(total_seconds_late / 86_400)), 2)


class Grades(ExportPlugin):
    """nbgrader's table of grades, with what became of each submission."""

    def export(self, gradebook: Gradebook) -> None:
        course = Path.cwd()
        with open(self.to or "grades.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            for assignment in gradebook.assignments:
                for student in gradebook.students:
                    wanted = (self.assignment or [assignment.name]), (self.student or [student.id])
                    if assignment.name in map(str, wanted[0]) and student.id in map(str, wanted[1]):
                        table.writerow(_row(course, gradebook, assignment, student))


def _row(course: Path, gradebook: Gradebook, assignment: Any, student: Any) -> dict[str, Any]:
    record = records.load(course, student.id, assignment.name)
    try:
        submission = gradebook.find_submission(assignment.name, student.id)
        when, raw, penalty = submission.timestamp, submission.score, submission.late_submission_penalty
    except MissingEntry:
        when, raw, penalty = None, 0.0, 0.0
    known = record.marks or record.damage or when is None
    row = {"assignment": assignment.name, "duedate": assignment.duedate, "timestamp": when, "student_id": student.id,
           "last_name": student.last_name, "first_name": student.first_name, "email": student.email, "raw_score": raw,
           "late_submission_penalty": penalty, "score": max(0.0, raw - penalty), "max_score": assignment.max_score,
           "status": record.status if known else records.GRADED, "note": record.note}  # fmt: skip
    return {key: "" if value is None else value for key, value in row.items()}
