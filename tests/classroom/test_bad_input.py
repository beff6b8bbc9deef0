"""What is no notebook, not this one, too large, or leads elsewhere: told, and nobody else is touched."""

import json
import os
import shutil

import pytest
from classes import ALL, KL, NOTEBOOK, Class, points

MB = 2**20
BYTES = {
    "empty": b"",
    "text": b"Here are my answers.",
    "half": b'{"cells": [{"cell_type": "code", "source": "x',
    "list": b"[1, 2, 3]",
    "numbers": b'{"cells": 7, "metadata": 7, "nbformat": 4, "nbformat_minor": 5}',
    "no_format": b'{"cells": [], "metadata": {}}',
    "future": b'{"cells": [], "metadata": {}, "nbformat": 9, "nbformat_minor": 0}',
    "deep": b'{"cells": ' + b"[" * 200_000 + b"]" * 200_000 + b', "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "binary": bytes(range(256)) * 64,
    "pdf": b"%PDF-1.7\n1 0 obj",
    "zip": b"PK\x03\x04" + bytes(64),
    "no_cells": b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    found = Class(tmp_path_factory.mktemp("class"))
    right = found.solved()
    found.submit("zoe_right", right)
    for name, content in BYTES.items():
        found.submit(name, content)
    found.submit(
        "other_notebook", json.dumps(json.loads((NOTEBOOK.parent / "00_start_here.ipynb").read_bytes())).encode()
    )
    older = found.solved()  # another version of the course: other texts, an exercise fewer, other marks
    for part in older.cells:
        if part.cell_type == "markdown":
            part.source = "In the version of last year: " + part.source
    older.cells = [part for part in older.cells if part.metadata.get("nbgrader", {}).get("grade_id") != "answer-03-6"]
    found.submit("last_year", older)
    large = found.solved()
    large.cells[-1].setdefault("outputs", [])
    [code] = [part for part in large.cells if part.metadata.get("nbgrader", {}).get("grade_id") == "answer-03-1"]
    code.outputs = [dict(output_type="stream", name="stdout", text="x" * (200 * MB))]
    found.submit("large_outputs", large)
    beside = found.submit("folder_beside", right).parent
    (beside / "data" / "deep").mkdir(parents=True)
    (beside / "data" / "deep" / "weights.bin").write_bytes(bytes(MB))
    (beside / "other.ipynb").mkdir()
    (beside / "kdcourse").mkdir()
    (beside / "kdcourse" / "__init__.py").write_text("raise SystemExit")
    (beside / "nbgrader_config.py").write_text("raise SystemExit")
    linked(found, right)
    return found


def linked(found, right):
    """Links to the answers, to a classmate, out of the course, to nowhere; as file and as folder."""
    source = found.folder / "source" / KL / NOTEBOOK.name
    (found.place("link_to_answers") / NOTEBOOK.name).symlink_to(source)
    (found.place("link_to_classmate") / NOTEBOOK.name).symlink_to(
        found.folder / "submitted" / "zoe_right" / KL / NOTEBOOK.name
    )
    (found.place("link_to_nowhere") / NOTEBOOK.name).symlink_to("/nowhere/at/all")
    found.place("folder_link").rmdir()
    (found.folder / "submitted" / "folder_link" / KL).symlink_to(source.parent)
    beside = found.submit("link_beside", right).parent
    (beside / "answers.txt").symlink_to(found.folder / "gradebook.db")
    (beside / "all").symlink_to(found.folder / "source")
    (beside / "timestamp.txt").symlink_to(found.folder / "nbgrader_config.py")


DAMAGED = [*BYTES, "other_notebook", "link_to_answers", "link_to_classmate", "link_to_nowhere", "folder_link", "pipe"]
GRADED = {"zoe_right": (), "large_outputs": (), "folder_beside": (), "link_beside": (), "last_year": ("03.6",)}


@pytest.fixture(scope="module")
def by_nbgrader(course):
    """nbgrader's own commands, in a copy: they see the folders first."""
    other = Class.__new__(Class)
    other.folder = course.folder.parent / "copy"
    shutil.copytree(course.folder, other.folder, symlinks=True)
    return other, other.autograde()


@pytest.fixture(scope="module")
def by_us(course, by_nbgrader):
    os.mkfifo(course.place("pipe") / NOTEBOOK.name)
    return course.grade("03"), course.grades()


@pytest.mark.parametrize("student", DAMAGED)
def test_what_cannot_be_read_is_told_and_earns_nothing(by_us, student):
    told, grades = by_us
    assert (grades[student]["status"], float(grades[student]["score"])) == ("damaged", 0)
    assert len(grades[student]["note"]) > 20
    [line] = [line for line in told.splitlines() if line.startswith(f"{student} ")]
    assert "damaged: " in line


@pytest.mark.parametrize("student", GRADED)
def test_what_can_be_graded_is(by_us, by_nbgrader, student):
    for grades in (by_us[1], by_nbgrader[1]):
        assert float(grades[student]["score"]) == ALL - points(*GRADED[student])
        assert grades[student]["status"] == "graded"


@pytest.mark.parametrize("student", [each for each in DAMAGED if each != "pipe"])
def test_nbgraders_own_commands_stand_it_too(by_nbgrader, student):
    course, grades = by_nbgrader
    assert float(grades[student]["score"]) == 0
    assert grades[student]["status"] == "damaged"
    assert "could not be graded" in course.feedback(student)


def test_nothing_that_a_link_leads_to_is_copied(course, by_us, by_nbgrader):
    for place in (course.folder, by_nbgrader[0].folder):
        for step in ("autograded", "feedback"):
            names = {path.name for path in (place / step).rglob("*") if path.is_file()}
            assert names <= {NOTEBOOK.name, NOTEBOOK.with_suffix(".html").name, "timestamp.txt"}
        assert not any(path.is_symlink() for path in (place / "submitted").rglob("*"))


def test_the_counts_end_the_run(by_us):
    assert by_us[0].splitlines()[-1] == (
        f"{KL}: {len(GRADED)} graded, 0 not handed in, {len(DAMAGED)} damaged, 0 tried to reach the grader"
    )
