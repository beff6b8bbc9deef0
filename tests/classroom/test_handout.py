"""The copy for the class: what a student needs and nothing else, and nothing in it points nowhere."""

import os
import re
import subprocess
import sys

import nbformat
import pytest
from classes import ROOT, Class

from kdcourse.classroom.releasing import make_handout

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def handout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    make_handout(folder / "handout", Class(folder, *NOTEBOOKS).folder)
    return folder / "handout"


def test_there_is_what_a_student_needs_and_nothing_else(handout):
    assert {path.name for path in handout.iterdir()} == {
        "README.md", "LICENSE", "CITATION.cff", "Makefile", "pyproject.toml", "requirements.txt",
        "requirements-models.txt", "kdcourse", "data", ".ci", "notebooks",
    }  # fmt: skip
    assert [
        path.name for path in (handout / "notebooks").iterdir() if path.name not in {p.name for p in NOTEBOOKS}
    ] == []
    assert not (handout / "kdcourse" / "classroom").exists()
    assert not list((handout / "data" / "results").glob("*.py"))


def test_every_target_names_files_that_are_there(handout):
    text = (handout / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"\.PHONY: (.*)", text)[0].split()) == {"lab", "doctor", "clean"}
    for name in re.findall(r"[\w.]+/[\w./]+|requirements\.txt|pyproject\.toml", text):
        assert (handout / name).exists() or name.startswith(("bin/",)), name
    assert "make test" not in (handout / "README.md").read_text(encoding="utf-8")


def test_links_lead_to_what_is_there(handout):
    texts = {path: path.read_text(encoding="utf-8") for path in handout.rglob("*.md")}
    for path in (handout / "notebooks").iterdir():
        texts[path] = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
    broken = [
        (path.name, link)
        for path, text in texts.items()
        for link in re.findall(r"\]\((?!https?:|attachment:|#)([^)#\s]+)", text)
        if not (path.parent / link).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_solution_does_there(handout, path):
    given = nbformat.read(handout / "notebooks" / path.name, as_version=4)
    mentions = [c.source for c in given.cells if c.cell_type == "markdown" and "`solution(" in c.source]
    assert mentions or path.stem in ("10_bug_clinic", "22_bug_clinic_two")  # which do not speak of it
    assert [text for text in mentions if "once your instructor has opened the solutions" not in text] == []


def test_solutions_are_withheld_and_the_data_found(handout, tmp_path):
    program = (
        "from kdcourse.exercises import solution; import kdcourse.data as d; solution('03.2', confirm=True);"
        "print(d.data_dir())"
    )
    environment = {**os.environ, "PYTHONPATH": str(handout)}
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert "solutions come later" in shown
    assert "log_softmax" not in shown
    assert str(handout / "data") in shown


def test_the_instructors_commands_say_that_they_are_not_here(handout, tmp_path):
    # an editable installation would find the course's own classroom
    program = """
import runpy, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in getattr(finder, "__name__", "")]
runpy.run_module("kdcourse", run_name="__main__", alter_sys=True)
"""
    command = [sys.executable, "-c", program, "grade", "03"]
    found = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(handout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "this copy is for learners" in found.stderr
