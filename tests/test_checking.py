"""What a learner sees of `check`, `hint` and `solution`, in a notebook and where answers are graded."""

import re
import subprocess
import sys

import pytest
import torch
from exercising import every_exercise, judge

from kdcourse import exercises as course

pytestmark = pytest.mark.usefixtures("own_progress")


def test_check_prints_a_quiet_line_a_tick_or_a_diagnosis(capsys):
    exercise = course.exercises["03.2"]
    course.check("03.2", None)
    assert capsys.readouterr().out == "– 03.2 the distillation loss: not attempted yet\n"
    course.check("03.2", exercise.reference)
    assert capsys.readouterr().out == f"✔ 03.2 the distillation loss: {exercise.shows}\n"
    course.check("03.2", exercise.misconceptions[0].wrong)
    out = capsys.readouterr().out
    assert out.startswith("✘ 03.2 the distillation loss: exactly C times too small")
    assert 'hint("03.2")' in out


@every_exercise
def test_what_is_printed_is_the_same_every_time_and_names_no_place(exercise, capsys):
    seen = []
    for _ in range(2):
        for answer in (lambda *a, **k: 1, lambda *a, **k: torch.ones(2), exercise.misconceptions[-1].wrong):
            course.check(exercise.id, answer)
        seen.append(capsys.readouterr().out)
    assert seen[0] == seen[1]
    shown = "\n".join([seen[0], *(m.diagnosis for m in exercise.misconceptions)])  # they are printed as they stand
    assert not re.search(r"/\w+/|\.py\b|site-packages|0x[0-9a-f]{6}", shown)
    for number in re.findall(r"\d*\.\d+", shown):
        assert len(number.replace(".", "").lstrip("0")) <= 4, number


@pytest.mark.parametrize("variable", [{"NBGRADER_EXECUTION": "autograde"}, {"KDCOURSE_GRADING": "1"}])
def test_where_answers_are_graded_a_missing_or_wrong_one_raises_with_the_diagnosis(
    variable, monkeypatch, capsys, own_progress
):
    exercise = course.exercises["02.1"]
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    course.check("02.1", exercise.reference)
    assert capsys.readouterr().out.startswith("✔")
    with pytest.raises(course.WrongAnswer, match="you multiply by the temperature"):
        course.check("02.1", exercise.misconceptions[0].wrong)
    with pytest.raises(AssertionError, match="not attempted yet"):
        course.check("02.1", None)
    assert not own_progress.exists()


@pytest.mark.parametrize("use", [lambda id: course.check(id, None), course.hint, course.solution])
@pytest.mark.parametrize(("id", "near"), [("03.22", "03.2"), ("3.2", "03.2"), ("kd", "from 00.1 to")])
def test_an_unknown_id_names_the_nearest(use, id, near):
    with pytest.raises(ValueError, match=rf"no exercise '{id}'.*{near}"):
        use(id)


@every_exercise
def test_hints_go_a_step_further_each_time_and_stay_at_the_last(exercise, capsys):
    shown = []
    for _ in range(len(exercise.hints) + 1):
        course.hint(exercise.id)
        shown.append(capsys.readouterr().out)
    for number, text in enumerate(exercise.hints):
        assert f"Hint {number + 1} of {len(exercise.hints)}" in shown[number]
        assert text in shown[number]
    assert shown[-1] == shown[-2]
    assert "the last one" in shown[-1]


@every_exercise
def test_a_solution_is_shown_only_after_confirmation_and_solves(exercise, capsys):
    course.solution(exercise.id)
    first = capsys.readouterr().out
    assert "confirm=True" in first
    assert "def " not in first
    course.solution(exercise.id, confirm=True)
    out = capsys.readouterr().out
    assert exercise.derivation in out
    space = {}
    exec(out.removesuffix(f"\n\n{exercise.derivation}\n"), space)  # pasted into a fresh notebook it runs
    assert judge(exercise, space[exercise.name]).kind == "right"
    assert max(map(len, out.splitlines()[: -exercise.derivation.count("\n") - 1])) <= 120


NOTEBOOK = [
    "from kdcourse.exercises import check",
    "def my_gain(distilled, alone):\n    ...",
    'check("00.2", my_gain)',
    "def my_gain(distilled, alone):\n    while True:\n        pass",
    'from kdcourse.exercises import judge\njudge.__kwdefaults__["limit"] = 0.3\ncheck("00.2", my_gain)',
    "def my_gain(distilled, alone):\n    print('here')\n    return distilled - alone",
    'check("00.2", my_gain)',
]


def test_in_a_real_notebook_source_lines_prints_and_the_time_limit_work():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in NOTEBOOK])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    untouched, stuck, raised = ("".join(o.text for o in notebook.cells[n].outputs) for n in (2, 4, 6))
    assert untouched == "– 00.2 a gain over pairs: not attempted yet\n"
    assert "did not return within 0.3 seconds" in stuck
    assert "TypeError: unsupported operand type(s) for -: 'list' and 'list'" in raised
    assert "in your line 3:  return distilled - alone" in raised
    assert "Your function printed:\n  here\n" in raised
    assert "ipykernel" not in raised


def test_importing_the_package_imports_no_torch():
    code = "import sys, kdcourse; assert 'torch' not in sys.modules; kdcourse.nothing"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "AttributeError: module 'kdcourse' has no attribute 'nothing'" in result.stderr
