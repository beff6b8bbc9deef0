"""A class for the tests: a course as `make release` writes it, students who hand in, nbgrader's own commands."""

import copy
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat

from kdcourse.classroom.releasing import make_course
from kdcourse.exercises import exercises

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "03_kl_derivation.ipynb"
KL = NOTEBOOK.stem


def of(assignment):
    """The exercises of an assignment."""
    return {id: exercise for id, exercise in exercises.items() if exercise.notebook == assignment[:2]}


ALL = sum(exercise.points for exercise in of(KL).values())


def points(*ids):
    return sum(exercises[id].points for id in ids)


def cell(notebook, name):
    """The cell that nbgrader knows by a name."""
    return next(part for part in notebook.cells if part.metadata.get("nbgrader", {}).get("grade_id") == name)


def answer(notebook, id):
    return cell(notebook, f"answer-{id.replace('.', '-')}")


def check(notebook, id):
    return cell(notebook, f"check-{id.replace('.', '-')}")


class Class:
    """A course in a folder of the test's own."""

    def __init__(self, folder, *notebooks, **settings):
        self.folder = folder / "course"
        make_course(self.folder, list(notebooks or [NOTEBOOK]))
        config = self.folder / "nbgrader_config.py"
        lines = [f"c.{name.replace('_', '.', 1)} = {value!r}" for name, value in settings.items()]
        config.write_text("\n".join([config.read_text(encoding="utf-8"), *lines]) + "\n", encoding="utf-8")

    def released(self, assignment=KL):
        """The students' version."""
        return nbformat.read(self.folder / "release" / assignment / f"{assignment}.ipynb", as_version=4)

    def solved(self, assignment=KL, **wrong):
        """The students' version with right answers, but for those given by number: ``e3="…"`` is 03.3's."""
        source = nbformat.read(self.folder / "source" / assignment / f"{assignment}.ipynb", as_version=4)
        notebook = self.released(assignment)
        for id in of(assignment):
            number = int(id.split(".")[1])
            answer(notebook, id).source = wrong.get(f"e{number}", answer(source, id).source)
        return notebook

    def place(self, student, assignment=KL):
        folder = self.folder / "submitted" / student / assignment
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def submit(self, student, notebook, assignment=KL, name=None, saved_as=lambda notebook: None):
        """Hand in a notebook, or bytes."""
        path = self.place(student, assignment) / (name or f"{assignment}.ipynb")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(notebook, bytes):
            path.write_bytes(notebook)
        else:
            notebook = copy.deepcopy(notebook)
            saved_as(notebook)
            path.write_text(json.dumps(notebook), encoding="utf-8")
        return path

    def nbgrader(self, *arguments, rc=0):
        """One of nbgrader's own commands."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        found = subprocess.run(
            [sys.executable, "-m", "nbgrader", *arguments], cwd=self.folder, capture_output=True, text=True,
            env={**os.environ, "PATH": path}, check=False,
        )  # fmt: skip
        assert found.returncode == rc, found.stderr[-3000:]
        return found

    def autograde(self, *, pages=("*",), assignment=KL):
        """nbgrader's three commands; the rows of the grades by student."""
        self.nbgrader("autograde", assignment)
        for students in pages:
            self.nbgrader("generate_feedback", assignment, f"--student={students}")
        self.nbgrader("export", "--to=grades.csv")
        return self.grades(assignment)

    def grade(self, *arguments, rc=0):
        """``python -m kdcourse grade``; what it prints."""
        command = [sys.executable, "-m", "kdcourse", "grade", *arguments, "--course", str(self.folder)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == rc, found.stdout[-2000:] + found.stderr[-2000:]
        return found.stdout + found.stderr

    def grades(self, assignment=KL):
        with (self.folder / "grades.csv").open(encoding="utf-8", newline="") as file:
            return {row["student_id"]: row for row in csv.DictReader(file) if row["assignment"] == assignment}

    def feedback(self, student, assignment=KL):
        path = self.folder / "feedback" / student / assignment / f"{assignment}.html"
        return path.read_text(encoding="utf-8")

    def marks(self, student, assignment=KL):
        """The kinds of the marks by exercise."""
        record = json.loads((self.folder / "marks" / student / f"{assignment}.json").read_text(encoding="utf-8"))
        return {mark["exercise"]: mark["kind"] for mark in record["marks"]}
