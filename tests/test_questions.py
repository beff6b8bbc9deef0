"""Quick questions: one right choice, a reason for each, and what is shown outside a notebook."""

import re
from pathlib import Path

import pytest
import torch

from kdcourse import exercises as course
from kdcourse.metrics import paired_interval

ROOT = Path(__file__).resolve().parent.parent


def test_the_letters_of_a_notebooks_questions_leave_none_out():
    for notebook in {id[:2] for id in course.questions}:
        letters = [id[3:] for id in course.questions if id.startswith(notebook)]
        assert letters == list("abcdefgh"[: len(letters)])


@pytest.mark.parametrize("question", course.questions.values(), ids=lambda question: question.id)
def test_a_question_has_one_right_choice_and_says_why_of_each(question):
    assert 2 <= len(question.choices) <= 4
    assert sum(choice.right for choice in question.choices) == 1
    assert all(choice.why.endswith(".") for choice in question.choices)
    assert len({choice.text for choice in question.choices}) == len(question.choices)


def test_every_question_is_asked_once_in_its_own_notebook():
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        asked = re.findall(r'ask\(\\"([\w.]+)\\"\)', path.read_text(encoding="utf-8"))
        assert sorted(asked) == [id for id in course.questions if id.startswith(path.stem[:2])]


def test_outside_a_notebook_a_question_is_printed_and_an_unknown_one_refused(capsys):
    course.ask("02.a")
    assert capsys.readouterr().out.splitlines()[2] == "  B  0.2 for every class"
    with pytest.raises(ValueError, match="no question .02.x.: the nearest are 0"):
        course.ask("02.x")


def test_the_numbers_in_the_questions_are_right():
    interval = paired_interval([0.4, -0.3, 0.6, 0.1, -0.2], [0.0] * 5)
    assert interval.low == pytest.approx(-0.36, abs=0.005)
    assert interval.high == pytest.approx(0.60, abs=0.005)
    p, q = torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.9])
    assert (p * (p / q).log()).sum().item() == pytest.approx(1.76, abs=0.005)
    z = torch.tensor([5.0, 2.0, 1.0])
    assert torch.allclose((z / 4).softmax(0), ((z + 100) / 4).softmax(0))
