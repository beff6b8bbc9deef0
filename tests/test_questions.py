"""Quick questions: one right choice, a reason for each, and what is shown outside a notebook."""

import io
import re
from pathlib import Path

import nbformat
import pytest
import torch
from scipy.stats import binomtest

from kdcourse import exercises as course
from kdcourse.exercises.engine import asking
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


def test_each_reason_is_the_choices_own():
    for question in course.questions.values():
        assert len({choice.why for choice in question.choices}) == len(question.choices), question.id


def test_the_right_letter_is_spread_evenly_and_the_order_is_the_same_every_time():
    letters = [
        "ABCD"[[choice.right for choice in question.shuffled].index(True)] for question in course.questions.values()
    ]
    counts = {letter: letters.count(letter) for letter in "ABC"}
    assert min(counts.values()) >= len(letters) / 5, counts
    assert max(counts.values()) <= len(letters) / 2, counts
    assert max(map(len, re.findall(r"A+|B+|C+", "".join(letters)))) <= 4
    # the id alone draws the place, on every Python and machine
    assert "".join(letters).startswith("CABBACCBBAACCAABC")


def cells_of(notebook):
    [path] = (ROOT / "notebooks").glob(f"{notebook}_*.ipynb")
    return nbformat.read(path, as_version=4).cells


def asked(cell):
    found = re.search(r'^ask\("([\w.]+)"\)$', cell.source, re.M) if cell.cell_type == "code" else None
    return found[1] if found else None


@pytest.mark.parametrize("notebook", sorted({id[:2] for id in course.questions}))
def test_questions_and_exercises_come_in_order_each_once_and_are_stored_as_they_are_asked_now(notebook):
    cells = cells_of(notebook)
    asks = {asked(cell): cell for cell in cells if asked(cell)}
    assert [asked(cell) for cell in cells if asked(cell)] == [id for id in course.questions if id[:2] == notebook]
    checks = [id for cell in cells for id in re.findall(r'^check\("([\w.]+)", ', cell.source, re.M)]
    assert checks == [id for id in course.exercises if id[:2] == notebook]
    for id, cell in asks.items():
        assert [output.data["text/plain"] for output in cell.outputs] == [asking.plain(course.questions[id])]


@pytest.mark.parametrize("question", course.questions.values(), ids=lambda question: question.id)
def test_no_heading_and_no_text_beside_a_question_says_the_right_choice(question):
    cells = cells_of(question.id[:2])
    place = next(number for number, cell in enumerate(cells) if asked(cell) == question.id)
    beside = [cell.source for cell in cells[place - 2 : place + 2] if cell.cell_type == "markdown"]
    headings = [line for cell in cells[:place] for line in cell.source.splitlines() if line.startswith("#")][-1:]
    [right] = [choice.text.casefold() for choice in question.choices if choice.right]
    assert not any(right in " ".join(text.casefold().split()) for text in beside + headings)


def test_outside_a_notebook_a_question_is_printed_and_an_unknown_one_refused(capsys):
    course.ask("02.a")
    _, *lines = capsys.readouterr().out.splitlines()
    first = course.questions["02.a"].shuffled[0]
    assert first.right
    assert lines[0] == f"  A  {first.text}"
    assert [line[2] for line in lines] == ["A", "B", "C"]
    with pytest.raises(ValueError, match="no question .02.x.: the nearest are 0"):
        course.ask("02.x")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("c\nb\na\n", ["No. That is T = 1.", "No. That is the limit T → 0.", "Right. All z / T tend to 0"]),
        ("B\n\n", ["No. That is the limit T → 0.", ""]),
        ("D\nab\nA\n", ["Type one of A, B, C.", "Type one of A, B, C.", "Right. All z / T tend to 0"]),
        ("", [""]),
    ],
)
def test_in_a_terminal_a_typed_letter_is_judged_until_it_is_right_or_nothing_is_typed(typed, said, capsys, monkeypatch):
    wrong = [choice.why for choice in course.questions["02.a"].shuffled[1:]]
    assert wrong == ["That is the limit T → 0.", "That is T = 1."]
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    course.ask("02.a")
    answers = capsys.readouterr().out.split("Your answer (A, B, C; Enter to go on): ")[1:]
    assert len(answers) == len(said)
    assert all(answer.startswith(part) for answer, part in zip(answers, said, strict=True))


def test_the_numbers_in_the_questions_are_right():
    interval = paired_interval([0.4, -0.3, 0.6, 0.1, -0.2], [0.0] * 5)
    assert interval.low == pytest.approx(-0.36, abs=0.005)
    assert interval.high == pytest.approx(0.60, abs=0.005)
    low, high = binomtest(495, 500).proportion_ci(0.95, method="exact")
    assert (round(low, 3), round(high, 3)) == (0.977, 0.997)
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0])
    assert (p * (p / q).log()).sum().item() == float("inf")
    z = torch.tensor([5.0, 2.0, 1.0])
    assert torch.allclose((z / 4).softmax(0), ((z + 100) / 4).softmax(0))
