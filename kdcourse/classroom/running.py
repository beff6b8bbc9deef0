"""Grade an assignment: several processes judge the answers, nbgrader writes points and pages, a table ends it."""

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import chdir
from dataclasses import replace
from functools import cache
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .._base.files import write_whole
from .._base.places import say
from . import collecting, records
from .marking import exposed, marked
from .records import Record
from .table import table

WORKERS = 2


def run(course: Path, assignment: str, students: Iterable[str] = (), *, again: bool = False) -> int:
    """Grade what is new of an assignment, or ``again`` all of it, and print what became of each submission.

    Returns 0, or 1 where nbgrader failed on a submission.
    """
    from .nbgrading import Grades, Judge, api

    with chdir(course):
        nbgrader = api(course)
        grader = Grader(course, assignment, nbgrader, Judge(config=nbgrader.config).limits())
        chosen = grader.chosen(set(students))
        grader.grade(chosen, again)
        with nbgrader.gradebook as gradebook:
            Grades().export(gradebook)
        say(table([records.load(course, student, assignment) for student in chosen], grader.scores()))
    return 1 if grader.failed else 0


class Grader:
    """An assignment of an nbgrader course, and nbgrader with this course's settings."""

    def __init__(self, course: Path, assignment: str, nbgrader: Any, limits: dict[str, Any]) -> None:
        self.course, self.assignment, self.nbgrader, self.limits = course, assignment, nbgrader, limits
        self.failed: list[str] = []

    def chosen(self, students: set[str]) -> list[str]:
        """Those who are named, else everyone on the roster and everyone who has handed in anything."""
        with self.nbgrader.gradebook as gradebook:
            roster = {student.id for student in gradebook.students}
        folders = self.course / "submitted"
        entries = [entry for entry in folders.glob("[!.]*") if entry.is_dir() or entry.is_symlink()]
        known = roster | {entry.name for entry in entries}
        for stray in sorted(set(folders.glob("[!.]*")) - set(entries)):
            say(f"{stray} is in no student's folder and is not graded")
        if unknown := sorted(students - known):
            there = f"there are {', '.join(sorted(known))}" if known else "there is nobody"
            raise SystemExit(f"kdcourse: {', '.join(unknown)} is neither on the roster nor in {folders}: {there}")
        return sorted(students or known)

    def due(self) -> str:
        with self.nbgrader.gradebook as gradebook:
            return str(gradebook.find_assignment(self.assignment).duedate or "")

    def scores(self) -> dict[str, tuple[float, float]]:
        """The points that nbgrader holds, marks given by hand included, and what being late has cost."""
        with self.nbgrader.gradebook as gradebook:
            found = gradebook.find_assignment(self.assignment).submissions
            return {each.student.id: (each.score, each.late_submission_penalty) for each in found}

    def grade(self, students: list[str], again: bool) -> None:
        """Judge what is new and let nbgrader write it; what has been judged before is kept unless ``again``."""
        due, seed = self.due(), secrets.randbelow(2**31)
        ready, to_judge = [], []
        for student in students:
            known = records.load(self.course, student, self.assignment)
            found = collect(self.course, known, due)
            written = self._written(student) or not found or not found.file
            if found is None or (found == known and not again and written):
                continue
            if found.file and (again or not (found.marks or found.damage)):
                to_judge.append(replace(found, seed=seed))
            else:
                ready.append(found)
        total = len(ready) + len(to_judge)
        for number, record in enumerate(chain(ready, judged(self.course, to_judge, self.limits)), 1):
            self._write(record, f"{number} of {total}")

    def _written(self, student: str) -> bool:
        return all((self.course / step / student / self.assignment).is_dir() for step in ("autograded", "feedback"))

    def _write(self, record: Record, place: str) -> None:
        """Let nbgrader write the points and the page of one submission; of none where there is no notebook."""
        with self.nbgrader.gradebook as gradebook:
            gradebook.update_or_create_student(record.student)
        records.save(self.course, replace(record, when="not written yet"))
        for step in (self.nbgrader.autograde, self.nbgrader.generate_feedback) if record.file else ():
            result = step(self.assignment, record.student, force=True)
            if not result["success"]:
                log = records.place(self.course, record.student, self.assignment).with_suffix(".log")
                write_whole(log, result.get("log", "") + result["error"])
                self.failed.append(record.student)
                say(f"{place}: {record.student}: nbgrader failed, {log} says why")
                return
        records.save(self.course, record)
        say(f"{place}: {record.student}: {record.status}")


def collect(course: Path, known: Record, due: str) -> Record | None:
    """What is to be known of a submission before it is judged: all that is ``known`` where it has not changed.

    None where nothing was handed in.
    """
    folder = course / "submitted" / known.student / known.assignment
    if not os.path.lexists(folder):
        return None
    try:
        notes = collecting.tidy(course, known.student, known.assignment)
    except (collecting.Damaged, OSError) as error:
        return Record(known.student, known.assignment, damage=str(error))
    file = hashlib.sha256((folder / f"{known.assignment}.ipynb").read_bytes()).hexdigest()
    stamp = folder / "timestamp.txt"
    if due and not stamp.exists():
        notes.append("no time of handing in, taken as on time")
    when = f"{stamp.read_text(encoding='utf-8').strip() if stamp.exists() else ''} of {due}"
    if file == known.file:
        return replace(known, when=when, notes=notes or known.notes)
    return Record(known.student, known.assignment, file=file, notes=notes, when=when)


def judged(course: Path, waiting: list[Record], limits: dict[str, Any]) -> Iterator[Record]:
    """The records with their marks, as they become ready. A submission that ends its worker is tried again alone."""
    if not waiting:
        return
    pool, running, broken = _judges(), {}, []
    for record in waiting:
        try:
            running[pool.submit(judge, course, record, limits)] = record
        except BrokenProcessPool:
            broken.append(record)
    for future in as_completed(running):
        try:
            yield future.result()
        except BrokenProcessPool:
            broken.append(running[future])
    if broken:
        _judges.cache_clear()
    for record in broken:
        try:
            with _workers(1) as alone:
                yield alone.submit(judge, course, record, limits).result()
        except BrokenProcessPool:
            yield replace(record, marks=[], damage="grading it ended the grader's own process")


@cache
def _judges() -> ProcessPoolExecutor:
    """The processes that judge every assignment of a run."""
    pool = _workers(WORKERS)
    for sentence in pool.submit(exposed).result():
        say(sentence)
    return pool


def _workers(number: int) -> ProcessPoolExecutor:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads a worker would make torch slower
    return ProcessPoolExecutor(number, mp_context=get_context("spawn"))


def judge(course: Path, record: Record, limits: dict[str, Any]) -> Record:
    """The record with a mark for each exercise, or with the reason why there is none."""
    try:
        notebook = collecting.submission(course, record.student, record.assignment)
    except collecting.Damaged as error:
        return replace(record, marks=[], damage=str(error))
    except Exception as error:  # one submission never costs another
        return replace(record, marks=[], damage=f"the grader failed on it: {type(error).__name__}: {error}"[:300])
    return marked(record, notebook, limits)
