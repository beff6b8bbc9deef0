"""Answers are run with limits: in time, without what they are to build, their prints caught."""

import threading

import pytest
import torch
from exercising import EXERCISES, RAISING, altered, every_exercise, from_source, judge

from kdcourse import exercises as course
from kdcourse import losses
from kdcourse.exercises.engine import running
from kdcourse.losses import kd_loss as imported_before


@every_exercise
def test_an_endless_loop_is_stopped_and_the_limit_named(exercise):
    def answer(*arguments, **keywords):
        while True:
            pass

    verdict = judge(exercise, answer, limit=0.1)
    assert verdict.kind == "time"
    assert "within 0.1 seconds" in verdict.text


def endless(*arguments, **keywords):
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


def endless_once_swallowed(*arguments, **keywords):
    try:
        while True:
            pass
    except:  # noqa: E722
        while True:
            pass


@pytest.mark.parametrize("answer", [endless, endless_once_swallowed])
@pytest.mark.parametrize("with_signal", [True, False])
def test_an_endless_loop_is_stopped_whatever_it_catches_with_and_without_signals(answer, with_signal, monkeypatch):
    if with_signal and not hasattr(running.signal, "setitimer"):
        pytest.skip("this platform has no timer signal")
    if not with_signal:
        monkeypatch.setattr(running, "_by_signal", running._by_thread)
    before = threading.active_count()
    assert judge(course.exercises["00.2"], answer, limit=0.1).kind == "time"
    assert threading.active_count() == before
    assert judge(course.exercises["00.2"], course.exercises["00.2"].reference).kind == "right"


def test_an_answer_that_hangs_only_the_second_time_is_stopped_too():
    exercise, calls = course.exercises["00.2"], []

    def answer(*arguments):
        calls.append(1)
        while len(calls) > len(exercise.cases()):
            pass
        return exercise.reference(*arguments)

    assert judge(exercise, answer, limit=0.1).kind == "time"


def test_in_a_thread_answers_are_judged_as_in_the_main_one(monkeypatch):
    monkeypatch.setattr(running, "_by_signal", running._by_thread)
    for exercise in EXERCISES:
        assert judge(exercise, exercise.reference).kind == "right"
    assert judge(course.exercises["00.2"], from_source(RAISING)).kind == "raises"


FORBIDDING = [(e, name) for e in EXERCISES for name in e.forbidden]


@pytest.mark.parametrize(("exercise", "dotted"), FORBIDDING, ids=lambda part: getattr(part, "id", part))
def test_calling_what_is_to_be_built_is_recognised_even_if_the_error_is_caught(exercise, dotted):
    home, name = running.find(dotted)
    original = getattr(home, name)

    def answer(*arguments, **keywords):
        try:
            getattr(home, name)(*arguments, **keywords)
        except Exception:
            return exercise.reference(*arguments, **keywords)

    verdict = judge(exercise, answer)
    assert verdict.kind == "reference"
    assert dotted in verdict.text
    assert judge(exercise, original).kind == "reference"
    assert getattr(home, name) is original


def test_a_forbidden_function_is_recognised_under_the_name_it_was_imported_by_and_through_another():
    exercise = course.exercises["03.2"]

    def by_name(student_logits, teacher_logits, *, temperature):
        return imported_before(student_logits, teacher_logits, temperature=temperature)

    def through_another(student_logits, teacher_logits, *, temperature):
        labels = torch.zeros(student_logits.shape[:-1], dtype=torch.int64)
        return losses.distillation_loss(student_logits, teacher_logits, labels, temperature=temperature, alpha=1.0)

    assert judge(exercise, by_name).kind == "reference"
    assert judge(exercise, through_another).kind == "reference"
    assert imported_before is losses.kd_loss
    assert losses.kd_loss(torch.zeros(1, 2), torch.zeros(1, 2), temperature=1.0) == 0


@every_exercise
def test_what_an_answer_prints_is_shown_once_and_cut(exercise, capsys):
    def answer(*arguments, **keywords):
        print("a long line" * 100)
        for number in range(1000):
            print(number)
        return exercise.reference(*arguments, **keywords)

    verdict = judge(exercise, answer)
    assert verdict.kind == "right"
    assert len(verdict.printed.splitlines()) <= running.SHOWN_LINES + 2
    assert max(map(len, verdict.printed.splitlines())) <= running.SHOWN_CHARACTERS + 2
    assert "lines more, cut" in verdict.printed
    assert capsys.readouterr().out == ""


def test_right_answers_pass_where_a_notebook_computes_in_float64():
    torch.set_default_dtype(torch.float64)
    try:
        for exercise in EXERCISES:
            for answer in (exercise.reference, *exercise.alternatives):
                assert judge(exercise, answer).kind == "right", answer.__name__
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_million_lines_are_cut():
    exercise = course.exercises["00.2"]
    answer = altered(exercise, lambda value: [print("x\n" * 9 + "x") for _ in range(100_000)] and value)
    assert "999,992 lines more, cut" in judge(exercise, answer, limit=60.0).printed
