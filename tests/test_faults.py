"""What is wrong with an answer whatever the exercise: recognised, and told only where it is so."""

import functools
import inspect
import linecache
import random
import sys

import numpy
import pytest
import torch
from exercising import (
    EXERCISES,
    RAISING,
    altered,
    every_exercise,
    first_result,
    from_source,
    judge,
    result_is,
)
from torch import Tensor

from kdcourse import exercises as course
from kdcourse.exercises.engine import untouched


@every_exercise
def test_an_untouched_skeleton_is_not_attempted(exercise):
    bodies = ["    ...", "    pass", "    raise NotImplementedError", '    raise NotImplementedError("later")']
    for number, body in enumerate(bodies):
        text = exercise.skeleton.replace("    ...", body)
        assert judge(exercise, from_source(text, f"untouched {number}")).kind == "unattempted"
        assert judge(exercise, without_source(text, exercise.name)).kind == "unattempted"
    for number, kind in ((0, "none"), (3, "raises")):
        text = exercise.skeleton.replace("    ...", bodies[number])
        assert judge(exercise, from_source(text + "\n    return None")).kind == kind
    assert judge(exercise, None).kind == "unattempted"


def without_source(text, name):
    space = {}
    exec(text, space)
    return space[name]


@pytest.mark.parametrize("source", ["", "import sys\n\n\n", "def other():\n    ...\n", "def f(x):\n    return x\n"])
def test_without_source_the_byte_code_tells_what_is_untouched(monkeypatch, source):
    # from Python 3.13 on, the program of `python -c` (pytest's workers are started so) stands here
    monkeypatch.setitem(linecache.cache, "<string>", (len(source), None, source.splitlines(True), "<string>"))
    done = ["return 5", "return None, None", "return 'later'", "return x", "return other", "raise ValueError",
            "raise NotImplementedError(x)", "x += 1", "import sys", "yield", "print()"]  # fmt: skip
    for docstring in ("", '"""What it does.\n\n    And how."""'):
        for body in ("...", "pass", "raise NotImplementedError", "raise NotImplementedError('now')"):
            assert untouched.is_untouched(without_source(f"def g(x, *, y=1):\n    {docstring}\n    {body}", "g"))
        for body in done:
            text = f"def g(x, *, y=1):\n    {docstring}\n    {body}"
            assert not untouched.is_untouched(without_source(text, "g")), text
    assert not untouched.is_untouched(without_source("f = lambda x: None", "f"))
    assert not untouched.is_untouched(functools.partial(print))
    assert not untouched.is_untouched(functools.cache(print))


def test_a_placeholder_that_is_returned_is_not_attempted():
    exercise = course.exercises["03.2"]
    untouched = from_source(exercise.skeleton.replace("    ...", "    loss = ...\n    return loss"))
    assert judge(exercise, untouched).kind == "unattempted"


@every_exercise
def test_returning_none_is_recognised(exercise):
    verdict = judge(exercise, altered(exercise, lambda value: None))
    assert verdict.kind == "none"
    assert "returns None" in verdict.text


@every_exercise
def test_another_type_is_recognised(exercise):
    verdict = judge(exercise, lambda *arguments, **keywords: "a word")
    assert verdict.kind == "type"
    assert "'a word'" in verdict.text
    assert judge(exercise, 3).kind == "type"
    for unlike in (object, lambda: [object()], lambda: numpy.zeros(3), lambda: {1, 2}):
        assert judge(exercise, lambda *a, made=unlike, **k: made()).kind in ("type", "length", "shape", "value"), unlike


def with_more(value):
    if isinstance(value, Tensor):
        return value.unsqueeze(0)
    if isinstance(value, tuple | list):
        return [*value, *value[:1]]
    return None if value is None else torch.tensor([value])


@result_is(Tensor, float, int, tuple, list)
def test_a_wrong_shape_or_length_is_recognised(exercise):
    verdict = judge(exercise, altered(exercise, with_more))
    assert verdict.kind == ("length" if isinstance(first_result(exercise), tuple | list) else "shape"), verdict.text
    assert "expected" in verdict.text


@result_is(Tensor)
def test_a_wrong_dtype_is_recognised(exercise):
    verdict = judge(exercise, altered(exercise, Tensor.float))
    assert verdict.kind == "dtype", verdict.text
    assert str(first_result(exercise).dtype).removeprefix("torch.") in verdict.text
    assert "float32" in verdict.text


def spoil(value):
    if isinstance(value, Tensor):
        with torch.no_grad():
            value += 1
    elif isinstance(value, dict):
        value[max(value)] += 1
    else:
        value.reverse()


CHANGEABLE = [e for e in EXERCISES if not e.may_change and isinstance(e.cases()[0].arguments[0], Tensor | list | dict)]


@pytest.mark.parametrize("exercise", CHANGEABLE, ids=lambda e: e.id)
def test_changing_an_argument_in_place_is_recognised(exercise):
    def answer(*arguments, **keywords):
        result = exercise.reference(*arguments, **keywords)
        spoil(arguments[0])
        return result

    verdict = judge(exercise, answer)
    assert verdict.kind == "in place", verdict.text
    assert next(iter(inspect.signature(exercise.reference).parameters)) in verdict.text


WITH_GRADIENT = [e for e in EXERCISES if e.gradients]


@pytest.mark.parametrize("exercise", WITH_GRADIENT, ids=lambda e: e.id)
def test_a_broken_gradient_is_recognised(exercise):
    verdict = judge(exercise, altered(exercise, Tensor.detach))
    assert verdict.kind == "gradient", verdict.text
    assert "no gradient flows" in verdict.text
    verdict = judge(exercise, altered(exercise, lambda value: 3 * value - 2 * value.detach()))
    assert verdict.kind == "gradient", verdict.text
    assert "its gradient is not" in verdict.text


def jittered(value):
    if isinstance(value, Tensor):
        noise = torch.rand(value.shape, dtype=torch.float64)
        return value + noise.to(value.dtype) if value.is_floating_point() else value ^ (noise < 0.5)  # masks, indices
    if isinstance(value, tuple | list):
        return [jittered(part) for part in value]
    if isinstance(value, str):
        return value + str(random.random())
    return None if value is None else value + random.random()


@result_is(Tensor, float, int, tuple, list)
def test_randomness_is_recognised_and_leaves_the_global_generator_where_it_was(exercise):
    before = torch.get_rng_state()
    assert judge(exercise, altered(exercise, jittered)).kind == "random"
    assert torch.equal(before, torch.get_rng_state())


REFUSING = [e for e in EXERCISES if any(c.refused for c in e.cases())]


@pytest.mark.parametrize("exercise", REFUSING, ids=lambda e: e.id)
def test_accepting_what_must_be_refused_is_recognised(exercise):
    def answer(*arguments, **keywords):
        try:
            return exercise.reference(*arguments, **keywords)
        except ValueError:
            return torch.zeros(())

    verdict = judge(exercise, answer)
    broadcast = any("shape" in c.refused for c in exercise.cases())
    assert verdict.kind == ("broadcast" if broadcast else "accepts"), verdict.text
    assert not broadcast or "broadcasts silently" in verdict.text


@every_exercise
def test_an_exception_is_shown_with_the_learners_own_line(exercise):
    answer = from_source(RAISING)
    verdict = judge(exercise, answer)
    assert verdict.kind == "raises"
    assert "KeyError: 'nothing here'" in verdict.text
    assert 'in your line 7:  return {}["nothing here"]' in verdict.text


def test_an_exception_inside_a_library_is_shown_at_the_line_that_called_it():
    text = "def my_soften(logits, temperature):\n    a = logits\n    return torch.nn.functional.softmax(a, dim=7)\n"
    verdict = judge(course.exercises["02.1"], from_source(text))
    assert "in your line 3:  return torch.nn.functional.softmax(a, dim=7)" in verdict.text
    assert "site-packages" not in verdict.text


def test_an_answer_that_exits_does_not_end_the_notebook():
    verdict = judge(course.exercises["00.2"], lambda *arguments: sys.exit("bye"))
    assert verdict.kind == "raises"
    assert "SystemExit" in verdict.text
