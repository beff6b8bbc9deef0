"""A class from handing out to grades, with nbgrader's own commands: five submissions get exactly what they deserve."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from test_notebook_formats import colab, vs_code

from kdcourse.exercises import exercises

if importlib.util.find_spec("nbgrader") is None:
    pytest.skip("nbgrader is not installed: make classroom installs and tests it", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
import release  # noqa: E402 (scripts, no package)

NOTEBOOK = ROOT / "notebooks" / "03_kl_derivation.ipynb"
ASSIGNMENT = NOTEBOOK.stem
MINE = {id: exercise for id, exercise in exercises.items() if exercise.notebook == "03"}
ALL_POINTS = sum(exercise.points for exercise in MINE.values())
DEFAULT_REDUCTION = """def my_kd_loss(student_logits, teacher_logits, *, temperature):
    import torch.nn.functional as F
    if student_logits.shape != teacher_logits.shape:
        raise ValueError("shapes differ")
    log_p_s = F.log_softmax(student_logits / temperature, dim=-1)
    p_t = F.softmax(teacher_logits.detach() / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_p_s, p_t)
"""
ENDLESS_FUNCTION = (
    "def my_kd_gradient(student_logits, teacher_logits, *, temperature):\n    while True:\n        pass\n"
)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class") / "course"
    release.make_course(folder, [NOTEBOOK])
    config = folder / "nbgrader_config.py"
    config.write_text(config.read_text(encoding="utf-8").replace("timeout = 300", "timeout = 30"), encoding="utf-8")
    return folder


def released(course):
    """The students' version and its answer cells by exercise."""
    notebook = nbformat.read(course / "release" / ASSIGNMENT / NOTEBOOK.name, as_version=4)
    return notebook, {id: cell(notebook, f"answer-{id.replace('.', '-')}") for id in MINE}


def cell(notebook, name):
    return next(part for part in notebook.cells if part.metadata.get("nbgrader", {}).get("grade_id") == name)


def submit(course, student, notebook, saved_as=lambda notebook: None):
    path = course / "submitted" / student / ASSIGNMENT / NOTEBOOK.name
    path.parent.mkdir(parents=True)
    saved_as(notebook)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def solved_notebook(course):
    notebook, answers = released(course)
    for id, answer in answers.items():
        answer.source = release.solved(exercises[id])
    return notebook, answers


@pytest.fixture(scope="module")
def grades(course):
    notebook, _ = solved_notebook(course)
    submit(course, "ada_all_right", notebook, saved_as=vs_code)
    notebook, answers = solved_notebook(course)
    answers["03.2"].source = DEFAULT_REDUCTION
    submit(course, "ben_one_misconception", notebook, saved_as=colab)
    notebook, _ = released(course)
    submit(course, "cem_untouched", notebook)
    notebook, answers = solved_notebook(course)
    answers["03.3"].source = ENDLESS_FUNCTION
    answers["03.4"].source = "while True:\n    pass"
    submit(course, "dua_endless", notebook)
    notebook, answers = solved_notebook(course)
    answers["03.2"].source = "check = print\n\n\n" + DEFAULT_REDUCTION
    cell(notebook, "check-03-2").source = 'print("✔")'
    submit(course, "eli_altered_check", notebook)
    for command in (["autograde", ASSIGNMENT], ["generate_feedback", ASSIGNMENT], ["export", "--to=grades.csv"]):
        result = release.nbgrader(course, *command)
        assert result.returncode == 0, result.stderr
    with (course / "grades.csv").open(encoding="utf-8") as file:
        return {row["student_id"]: row for row in csv.DictReader(file)}


def points(*ids):
    return sum(exercises[id].points for id in ids)


@pytest.mark.parametrize(
    ("student", "lost"),
    [
        ("ada_all_right", ()),
        ("ben_one_misconception", ("03.2",)),
        ("cem_untouched", tuple(MINE)),
        ("dua_endless", ("03.3", "03.4")),
        ("eli_altered_check", ("03.2",)),
    ],
)
def test_each_submission_gets_exactly_its_points(grades, student, lost):
    assert float(grades[student]["max_score"]) == ALL_POINTS
    assert float(grades[student]["score"]) == ALL_POINTS - points(*lost)


def feedback(course, student):
    path = course / "feedback" / student / ASSIGNMENT / NOTEBOOK.with_suffix(".html").name
    return path.read_text(encoding="utf-8")


def test_the_feedback_carries_the_diagnosis(course, grades):
    [diagnosis] = [m.diagnosis for m in exercises["03.2"].misconceptions if "C times" in m.diagnosis]
    start = diagnosis.split("`")[0][:40]
    for student in ("ben_one_misconception", "eli_altered_check"):
        assert start in feedback(course, student)
    assert start not in feedback(course, "ada_all_right")
    assert "not attempted yet" in feedback(course, "cem_untouched")
    assert "did not return within" in feedback(course, "dua_endless")


def test_the_students_version_holds_no_solution(course):
    notebook, answers = released(course)
    assert {id: answer.source for id, answer in answers.items()} == {id: e.skeleton for id, e in MINE.items()}
    assert all(not part.get("outputs") for part in notebook.cells)


def test_the_instructors_version_is_valid_and_the_untouched_one_is_not(course):
    right = release.nbgrader(course, "validate", str(course / "source" / ASSIGNMENT / NOTEBOOK.name))
    assert "Success! Your notebook passes all the tests" in right.stdout
    empty = release.nbgrader(course, "validate", str(course / "release" / ASSIGNMENT / NOTEBOOK.name))
    assert f"VALIDATION FAILED ON {len(MINE)} CELL(S)" in empty.stdout


def test_the_handout_runs_and_withholds_the_solutions(course, tmp_path):
    release.make_handout(tmp_path / "handout", course)
    names = {path.name for path in (tmp_path / "handout").iterdir()}
    assert {"README.md", "kdcourse", "notebooks", "data", "Makefile"} <= names
    assert "tests" not in names
    program = (
        "from kdcourse.exercises import solution; import kdcourse.data as d; solution('03.2', confirm=True);"
        "print(d.data_dir())"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "handout")}
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert "solutions come later" in shown
    assert "log_softmax" not in shown
    assert str(tmp_path / "handout" / "data") in shown
