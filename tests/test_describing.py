"""What is said of a result that is wrong: what differs, where, and never two that differ shown alike."""

import re

import numpy as np
import pytest
import torch
from exercising import altered, judge
from torch import nn

from kdcourse import exercises as course
from kdcourse.exercises.engine import comparing, describing
from kdcourse.exercises.engine.core import DRAWN, Exercise, Misconception, case, draw, integer, refusal


def test_an_unknown_mistake_gets_the_smallest_case_with_expected_and_got():
    exercise = course.exercises["03.2"]
    verdict = judge(exercise, altered(exercise, lambda value: 7 * value))
    assert verdict.kind == "value"
    assert "for student_logits = [[1, 0, 2], [0, 1, -1]]" in verdict.text
    assert "for temperature = 1.5" in verdict.text
    assert re.search(r"expected  [\d.]{1,6} \(float64\)\n  got       [\d.]{1,6} \(float64\)", verdict.text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1 / 3, "0.3333"),
        (1e-17, "0"),
        (12, "12"),
        ([1.0, None, True], "[1, None, True]"),
        ({"a": 2.5}, "{a: 2.5}"),
        (torch.tensor([0.5]), "[0.5] (shape (1,), float32)"),
        (torch.zeros(5, 5), "numbers in the shape (5, 5) (shape (5, 5), float32)"),
        (list(range(20)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … 8 more]"),
        (nn.ReLU(), "a ReLU"),
    ],
)
def test_values_are_shown_short_and_at_four_digits(value, shown):
    assert describing.describe(value) == shown


@pytest.mark.parametrize(
    ("expected", "got", "found"),
    [
        (1.0, 1.0 + 1e-9, None),
        (1.0, torch.tensor(1.0), None),
        (1.0, True, "type"),
        (1.0, float("nan"), "value"),
        (float("nan"), float("nan"), None),
        ({"a": 1}, {"b": 1}, "keys"),
        ([1, 2], (1, 2), None),
        ([1, 2], [1], "length"),
        (None, 1, "value"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), "dtype"),
        (torch.zeros(2), [0.0, 0.0], "type"),
    ],
)
def test_differences_are_named(expected, got, found):
    entry = comparing.difference(expected, got, relative=1e-6, absolute=1e-9)
    assert (entry and entry.kind) == found


def told(expected, got):
    """All that is said where ``got`` was returned."""
    entry = comparing.difference(expected, got, relative=1e-5, absolute=1e-8)
    sides = describing.both_sides(expected, got, entry)
    return f"{describing.what_differs(entry)}\n{sides}"


@pytest.mark.parametrize(
    ("expected", "got", "said"),
    [
        (1.0, 1.0001, ["expected  1\n", "got       1.0001"]),
        (True, 1, ["an integer, not True or False"]),
        (1066440, 1066441, ["expected  1066440", "got       1066441"]),
        ([1, 2], [1, 2, 2], ["wrong number of entries: 3, not 2"]),
        ({"a": 1}, {"a": 1, "b": 2}, ["other keys (not asked for: b)"]),
        ([1.0, 2.0], (1.0, 2.5), ["first at [1]: expected 2, got 2.5"]),
        ([0.0, "no"], [0.0, None], ["wrong type at [1]: None, not a text"]),
        (
            torch.zeros(5, 5),
            1e-3 * torch.eye(5),
            ["at [0, 0]: 0\n", "at [0, 0]: 0.001"],
        ),
        (torch.zeros(2), torch.zeros(2, 1), ["wrong shape: (2, 1), not (2,)"]),
        (2.0, torch.zeros(2), ["wrong shape: (2,), not a single number"]),
        (torch.zeros(2), [0.0, 0.0], ["a list, not a tensor of float32"]),
        (torch.zeros(2, dtype=torch.int32), torch.zeros(2, dtype=torch.int64), ["int64 instead of int32\n"]),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), ["changed the precision"]),
        (torch.zeros(2), torch.zeros(2, device="meta"), ["a tensor of float32 on meta, not a tensor of float32"]),
        ("left", ValueError("wrong"), ["ValueError as a value: an error is raised, not returned"]),
        (torch.tensor([1, 2**60]), torch.tensor([1, 2**60 + 1]), [f"first at [1]: expected {2**60}, got {2**60 + 1}"]),
    ],
)
def test_what_differs_is_told_with_its_place(expected, got, said):
    text = told(expected, got)
    assert all(part in text + "\n" for part in said), text
    lines = [line.split("  ", 2)[2].strip() for line in text.splitlines() if re.match("  (expected|got) ", line)]
    assert len(set(lines)) == 2, text


@pytest.mark.parametrize("number", [0.5, np.float64(0.5), np.float32(0.5), torch.tensor(0.5), np.array(0.5)])
@pytest.mark.parametrize("expected", [0.5, torch.tensor(0.5, dtype=torch.float64)])
def test_a_number_is_right_as_pythons_numpys_or_pytorchs_own(expected, number):
    found = comparing.difference(expected, number, relative=1e-6, absolute=1e-9)
    assert found is None or found.kind == "dtype"


def one(reference, *cases, misconceptions=(), **more):
    """An exercise that asks for what the reference does."""
    return Exercise(
        id="99.1", title="one", question="Write `my_one(x)`.", skeleton="def my_one(x):\n    ...", reference=reference,
        alternatives=(), cases=lambda: [make() for make in cases], hints=(), misconceptions=misconceptions,
        shows="it.", derivation="", **more,
    )  # fmt: skip


def net_with_dropout():
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)).double()


def outputs(net, images):
    net.eval()
    return net(images).detach()


def in_train_mode(net, images):
    return net(images).detach()


def seeded_net():
    torch.manual_seed(0)
    return net_with_dropout()


def test_a_forgotten_eval_is_dropout_at_work_and_named_where_it_is_a_misconception():
    exercise = one(outputs, lambda: case(seeded_net(), draw(4, 3, seed=1)))
    verdict = judge(exercise, in_train_mode)
    assert verdict.kind == "random"
    assert "dropout draws new random numbers each time. Is the network in train mode" in verdict.text
    known = one(
        outputs,
        lambda: case(seeded_net(), draw(4, 3, seed=1)),
        misconceptions=(Misconception("no eval", lambda net, images: net(images).detach(), "you forgot eval()"),),
    )
    assert judge(known, in_train_mode).text == "you forgot eval()"
    noisy = judge(exercise, lambda net, images: outputs(net, images) + torch.rand(()))
    assert "Nothing random is needed here" in noisy.text


def test_a_network_that_fails_is_told_by_its_error_and_not_by_its_type():
    def observed(net, tried):
        return net(tried.arguments[0])

    exercise = one(lambda images: nn.Linear(3, 2).double(), lambda: case(draw(4, 3)), observe=observed)
    verdict = judge(exercise, lambda images: nn.Linear(4, 2).double())
    assert verdict.kind == "unusable"
    assert "does not work: it raises RuntimeError: " in verdict.text
    assert judge(exercise, lambda images: 3).kind == "type"


def double(x):
    if x < 0:
        raise ValueError("negative")
    return 2 * x


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (double, "right", "it."),
        (lambda x: 2 * x, "accepts", "your function accepts a negative x, and returns -2. Raise a ValueError"),
        (
            lambda x: 2 * x if x >= 0 else [][0],
            "accepts",
            "For a negative x it raises IndexError instead of a ValueError",
        ),
    ],
)
def test_a_refusal_is_a_value_error(answer, kind, said):
    exercise = one(double, lambda: case(1.0), lambda: refusal("a negative x", -1.0))
    verdict = judge(exercise, answer)
    assert verdict.kind == kind
    assert said in verdict.text


def test_a_dozen_drawn_cases_stand_beside_the_fixed_ones_and_a_grader_may_choose_others():
    exercise = one(
        lambda x: x.abs().sum(), lambda: case(torch.ones(2)), drawn=lambda g: case(draw(integer(g, 1, 3), seed=g))
    )
    tried = exercise.tried()
    assert len(tried) == 1 + DRAWN
    assert all(torch.equal(a.arguments[0], b.arguments[0]) for a, b in zip(tried, exercise.tried(), strict=True))
    assert {len(c.arguments[0]) for c in tried} == {1, 2, 3}
    assert not torch.equal(exercise.tried(1)[1].arguments[0], tried[1].arguments[0])
    verdict = judge(exercise, lambda x: x.sum())
    assert verdict.kind == "value"
    assert re.search(r"for x = \[-[\d.]+\]\n", verdict.text)  # the smallest that shows it
    first = tried[1].arguments[0]

    def knows_the_cases(x):
        return x.abs().sum() if any(torch.equal(x, c.arguments[0]) for c in tried) else first.sum()

    assert course.judge(exercise, knows_the_cases).kind == "right"
    assert course.judge(exercise, knows_the_cases, seed=7).kind == "value"
