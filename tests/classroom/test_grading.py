"""A class from handing out to grades, with nbgrader's own commands: each submission gets exactly what it deserves."""

import pytest
from classes import ALL, KL, NOTEBOOK, Class, answer, cell, check, of, points
from test_notebook_formats import colab, vs_code

from kdcourse.exercises import exercises

DEFAULT_REDUCTION = """def my_kd_loss(student_logits, teacher_logits, *, temperature):
    import torch.nn.functional as F
    if student_logits.shape != teacher_logits.shape:
        raise ValueError("shapes differ")
    log_p_s = F.log_softmax(student_logits / temperature, dim=-1)
    p_t = F.softmax(teacher_logits.detach() / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_p_s, p_t)
"""
ENDLESS = "def my_kd_gradient(student_logits, teacher_logits, *, temperature):\n    while True:\n        pass\n"
WARNING = """import torch
def my_kl_of_probabilities(p, q):
    p, q = torch.tensor(p), torch.tensor(q)      # "To copy construct from a tensor ..."
    for v in (p, q):
        if abs(v.sum() - 1) > 1e-6:
            raise ValueError("no distribution")
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum()
"""
TALKATIVE = """import logging, sys, warnings
import torch
from tqdm.auto import tqdm
logging.warning("at the top")
def my_log_softmax(logits):
    print("to stderr", file=sys.stderr)
    warnings.warn("old", DeprecationWarning)
    logging.getLogger("mine").error("not an error")
    for _ in tqdm(range(3)):
        pass
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()
"""

# nine tenths of what a call may take, as nine seconds are of ten; a quarter of the total goes to drawn cases
SLOW = (
    "import time\n\n\n{}\n\nfast = my_logit_mse\n\n"
    "def my_logit_mse(*args):\n    time.sleep(1.8)\n    return fast(*args)\n"
)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return Class(tmp_path_factory.mktemp("class"), Judge_call=2.0, Judge_total=30.0)


@pytest.fixture(scope="module")
def grades(course):
    course.submit("ada_all_right", course.solved(), saved_as=vs_code)
    course.submit("ben_one_misconception", course.solved(e2=DEFAULT_REDUCTION), saved_as=colab)
    course.submit("cem_untouched", course.released())
    course.submit("dua_endless", course.solved(e3=ENDLESS, e4="while True:\n    pass"))
    altered = course.solved(e2="check = print\n\n\n" + DEFAULT_REDUCTION)
    check(altered, "03.2").source = 'print("✔")'
    course.submit("eli_altered_check", altered)
    course.submit("fay_warned", course.solved(e1=WARNING, e6=TALKATIVE))
    course.submit("gus_slow", course.solved(e4=SLOW.format(answer(course.solved(), "03.4").source)))
    return course.autograde()


@pytest.mark.parametrize(
    ("student", "lost"),
    [
        ("ada_all_right", ()),
        ("ben_one_misconception", ("03.2",)),
        ("cem_untouched", tuple(of(KL))),
        ("dua_endless", ("03.3", "03.4")),
        ("eli_altered_check", ("03.2",)),
        ("fay_warned", ()),
        ("gus_slow", ()),
    ],
)
def test_each_submission_gets_exactly_its_points(grades, student, lost):
    assert float(grades[student]["max_score"]) == ALL
    assert float(grades[student]["score"]) == ALL - points(*lost)
    assert grades[student]["status"] == "graded"


def test_the_feedback_carries_the_diagnosis(course, grades):
    [diagnosis] = [m.diagnosis for m in exercises["03.2"].misconceptions if "C times" in m.diagnosis]
    start = diagnosis.split("`")[0][:40]
    for student in ("ben_one_misconception", "eli_altered_check"):
        assert start in course.feedback(student)
    assert start not in course.feedback("ada_all_right")
    assert "not attempted yet" in course.feedback("cem_untouched")
    assert course.marks("cem_untouched") == dict.fromkeys(of(KL), "unattempted")
    assert {id: kind for id, kind in course.marks("dua_endless").items() if kind != "right"} == {
        "03.3": "time",
        "03.4": "missing",
    }


def test_what_is_printed_and_warned_is_shown(course, grades):
    assert "To copy construct from a tensor" in course.feedback("fay_warned")
    assert "to stderr" in course.feedback("fay_warned")


def test_the_students_version_holds_no_solution(course):
    notebook = course.released()
    assert {id: answer(notebook, id).source for id in of(KL)} == {id: e.skeleton for id, e in of(KL).items()}
    assert all(not part.get("outputs") for part in notebook.cells)


def test_the_instructors_version_is_valid_and_the_untouched_one_is_not(course):
    right = course.nbgrader("validate", str(course.folder / "source" / KL / NOTEBOOK.name))
    assert "Success! Your notebook passes all the tests" in right.stdout
    empty = course.nbgrader("validate", str(course.folder / "release" / KL / NOTEBOOK.name))
    assert f"VALIDATION FAILED ON {len(of(KL))} CELL(S)" in empty.stdout


def test_a_check_cell_is_the_notebooks_own(course):
    assert cell(course.released(), "check-03-2").source == 'check("03.2", my_kd_loss)'
