"""What the tests of grading share: the notebook 03 with answers in it, and what they earn."""

import json
import sys
from pathlib import Path

import pytest
from nbformat import NotebookNode

from kdcourse.classroom.judging import Limits, Mark, grade
from kdcourse.exercises import exercises
from kdcourse.exercises.engine.showing import solution_source

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "03_kl_derivation.ipynb"
IDS = [id for id in exercises if id.startswith("03.")]
SHORT = Limits(call=2.0, total=20.0, memory=2**30, files=2**20)
RIGHT = {id: solution_source(exercises[id]) for id in IDS}


def has_walls() -> bool:
    """Whether this system gives namespaces, asked without starting a server."""
    import os
    import subprocess

    program = "from kdcourse._base import namespaces as n; n.control(1, 0)\n" + (
        "" if os.geteuid() == 0 else "n.become_root_of_own()\n"
    )
    program += "n.unshare(n.NEW_MOUNTS | n.NEW_PIDS | n.NEW_NET | n.NEW_IPC)"
    return (
        sys.platform.startswith("linux")
        and not subprocess.run(
            [sys.executable, "-c", program], cwd=NOTEBOOK.parent.parent, capture_output=True, check=False
        ).returncode
    )


walled = pytest.mark.skipif(not has_walls(), reason="this system gives no namespaces")


def notebook(**cells: str) -> NotebookNode:
    """The course's notebook with these answers, ``a03_1="…"``; other names are cells at its end."""
    found = NotebookNode(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    found.cells = [NotebookNode(cell) for cell in found.cells]
    answers = {cell["metadata"]["nbgrader"]["grade_id"]: cell for cell in found.cells if "nbgrader" in cell["metadata"]}
    for name, source in cells.items():
        marked = answers.get(f"answer-{name[1:].replace('_', '-')}")
        if marked is None:
            found.cells.append(NotebookNode(cell_type="code", metadata={}, source=source, outputs=[]))
        else:
            marked["source"] = source
    return found


def solved(**changed: str) -> NotebookNode:
    """The notebook with a right answer to every exercise, but for those that are given."""
    return notebook(**{f"a{id.replace('.', '_')}": source for id, source in RIGHT.items()} | changed)


def total(found: NotebookNode, seed: int = 11) -> float:
    return sum(mark.points for mark in grade(found, NOTEBOOK.stem, seed=seed))


def one(source: str, limits: Limits = SHORT) -> Mark:
    """The mark of an answer to 03.1; no other exercise is attempted, and none may earn anything."""
    first, *others = grade(notebook(a03_1=source), NOTEBOOK.stem, seed=11, limits=limits)
    assert [mark.points for mark in others] == [0] * (len(IDS) - 1)
    return first
