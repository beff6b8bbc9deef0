"""Every exercise and its check, generated from the objects: a new exercise is covered the moment it exists."""

import functools
import inspect
import itertools
import json
import linecache
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor, nn

import kdcourse
from kdcourse import exercises as course
from kdcourse import losses
from kdcourse.exercises.engine import checking, comparing, describing, records, running, untouched
from kdcourse.exercises.engine.core import Exercise, Misconception, case, draw
from kdcourse.losses import kd_loss as imported_before
from kdcourse.metrics import paired_interval

ROOT = Path(__file__).resolve().parent.parent

EXERCISES = list(course.exercises.values())
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)
MISCONCEPTIONS = [(e, m) for e in EXERCISES for m in e.misconceptions]


def judge(exercise, function, limit=5.0):
    return checking.judge(exercise, function, limit=limit)


def first_result(exercise):
    first = exercise.cases()[0]
    return exercise.reference(*first.arguments, **first.keywords)


def has_networks(value):
    return any(isinstance(part, nn.Module) for part in (value if isinstance(value, tuple) else [value]))


def result_is(*kinds):
    """The exercises whose first result is of these types."""
    found = [e for e in EXERCISES if isinstance(first_result(e), kinds) and not has_networks(first_result(e))]
    assert len(found) >= 2
    return pytest.mark.parametrize("exercise", found, ids=lambda e: e.id)


def altered(exercise, change):
    """The reference, with its result changed."""
    return lambda *arguments, **keywords: change(exercise.reference(*arguments, **keywords))


def from_source(text, name="learner"):
    """A function as a notebook makes it: its source is known, its file does not exist."""
    filename = f"<{name}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    space = {"torch": torch, "__name__": "learner"}
    exec(compile(text, filename, "exec"), space)
    return next(value for value in space.values() if inspect.isfunction(value))


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("KDCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.delenv("KDCOURSE_GRADING", raising=False)
    monkeypatch.setattr(course, "_hints_given", {})
    return tmp_path / "progress.json"


# --- the objects ------------------------------------------------------------------------------------------------------


def test_every_id_is_its_files_name_and_none_is_missing_between_others():
    numbers = {}
    for id, exercise in course.exercises.items():
        file = Path(inspect.getfile(exercise.reference)).parent
        assert exercise.id == id
        assert file.name == f"notebook_{exercise.notebook}"
        numbers.setdefault(exercise.notebook, []).append(int(id.split(".")[1]))
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values()), numbers
    assert list(numbers) == [path.name[:2] for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]
    assert all(len(found) >= 2 for found in numbers.values())


def test_the_letters_of_a_notebooks_questions_leave_none_out():
    for notebook in {id[:2] for id in course.questions}:
        letters = [id[3:] for id in course.questions if id.startswith(notebook)]
        assert letters == list("abcdefgh"[: len(letters)])


@every_exercise
def test_an_exercise_is_complete(exercise):
    assert re.fullmatch(r"\d\d\.\d+", exercise.id)
    assert len(exercise.misconceptions) >= 3
    assert len(exercise.hints) >= 2
    assert len(exercise.alternatives) >= 2
    assert len({m.name for m in exercise.misconceptions}) == len(exercise.misconceptions)
    assert len({m.diagnosis for m in exercise.misconceptions}) == len(exercise.misconceptions)
    assert exercise.points >= 1
    assert exercise.derivation
    assert exercise.shows.endswith(".")
    assert f"`{exercise.name}(" in exercise.question


@every_exercise
def test_a_question_says_what_its_check_needs(exercise):
    if exercise.gradients:
        assert "gradient" in exercise.question
    elif isinstance(first_result(exercise), Tensor) and first_result(exercise).ndim:
        assert re.search("tensor|gradient", exercise.question)
    if any(c.refused for c in exercise.tried()):
        assert "`ValueError`" in exercise.question


@every_exercise
def test_the_notebook_asks_what_the_exercise_asks(exercise):
    [path] = (ROOT / "notebooks").glob(f"{exercise.notebook}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    asked = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert " ".join(exercise.question.split()) in " ".join(asked.split())


@every_exercise
def test_the_skeleton_has_the_references_parameters_and_fits_a_page(exercise):
    skeleton = from_source(exercise.skeleton)
    wanted = inspect.signature(exercise.reference).parameters.values()
    found = inspect.signature(skeleton).parameters.values()
    assert [(p.name, p.kind, p.default) for p in found] == [(p.name, p.kind, p.default) for p in wanted]
    assert max(map(len, exercise.skeleton.splitlines())) <= 100


@every_exercise
def test_cases_are_fresh_but_the_same_and_refusals_are_refused(exercise):
    one, other = exercise.tried(), exercise.tried()
    for first, second in zip(one, other, strict=True):
        for a, b in zip(first.arguments, second.arguments, strict=True):
            assert a is not b or isinstance(a, int | float)
            assert comparing.difference(comparing.snapshot(a), comparing.snapshot(b), relative=0, absolute=0) is None
    for refused in (c for c in one if c.refused):
        with pytest.raises(ValueError, match=r"\w"):
            exercise.reference(*refused.arguments, **refused.keywords)


# --- right and wrong answers ------------------------------------------------------------------------------------------


@every_exercise
def test_the_reference_and_every_alternative_pass(exercise):
    for answer in (exercise.reference, *exercise.alternatives):
        verdict = judge(exercise, answer)
        assert verdict.kind == "right", f"{answer.__name__}: {verdict.text}"
        assert verdict.text == exercise.shows


@pytest.mark.parametrize(("exercise", "misconception"), MISCONCEPTIONS, ids=lambda part: getattr(part, "id", ""))
def test_a_misconception_is_rejected_with_its_own_diagnosis_and_no_others(exercise, misconception):
    verdict = judge(exercise, misconception.wrong)
    assert verdict.misconception is misconception, verdict.text
    assert verdict.text == misconception.diagnosis
    trial = checking.Trial(exercise)
    got = [trial.run(misconception.wrong, case) for case in trial.cases()]
    assert checking.matches(trial, got, range(len(got))) == [misconception]


def test_the_value_is_diagnosed_first_where_the_gradient_holds_a_second_mistake():
    def default_reduction_and_no_detach(student_logits, teacher_logits, *, temperature):
        log_p_s, log_p_t = ((z / temperature).log_softmax(-1) for z in (student_logits, teacher_logits))
        return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).mean()

    verdict = judge(course.exercises["03.2"], default_reduction_and_no_detach)
    assert verdict.misconception.name == "the default reduction"


# --- faults of any exercise -------------------------------------------------------------------------------------------


@every_exercise
def test_an_untouched_skeleton_is_not_attempted(exercise):
    bodies = ["    ...", "    pass", "    raise NotImplementedError", '    raise NotImplementedError("later")']
    for number, body in enumerate(bodies):
        text = exercise.skeleton.replace("    ...", body)
        assert judge(exercise, from_source(text, f"untouched {number}")).kind == "unattempted"
        assert judge(exercise, from_source(text + "\n    return None")).kind in ("none", "raises")
        assert judge(exercise, without_source(text, exercise.name)).kind == "unattempted"
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
        return [*value, value[0]]
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


RAISING = """
def my_answer(*arguments, **keywords):
    first = arguments[0]
    return helper(first)

def helper(value):
    return {}["nothing here"]
"""


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


def test_an_unknown_mistake_gets_the_smallest_case_with_expected_and_got():
    exercise = course.exercises["03.2"]
    verdict = judge(exercise, altered(exercise, lambda value: 7 * value))
    assert verdict.kind == "value"
    assert "for student_logits = [[1, 0, 2], [0, 1, -1]]" in verdict.text
    assert "for temperature = 2" in verdict.text
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


# --- what a learner sees ----------------------------------------------------------------------------------------------


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
    answers = [*(m.wrong for m in exercise.misconceptions), lambda *a, **k: 1, lambda *a, **k: torch.ones(2)]
    seen = []
    for _ in range(2):
        for answer in answers:
            course.check(exercise.id, answer)
        seen.append(capsys.readouterr().out)
    assert seen[0] == seen[1]
    assert not re.search(r"/\w+/|\.py\b|site-packages|0x[0-9a-f]{6}", seen[0])
    for number in re.findall(r"\d*\.\d+", seen[0]):
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


# --- progress ---------------------------------------------------------------------------------------------------------


def solve(id):
    course.check(id, course.exercises[id].reference)


def test_progress_counts_tries_and_solved_stays_solved(own_progress, capsys):
    course.check("00.1", None)
    assert not own_progress.exists()
    course.check("00.1", course.exercises["00.1"].misconceptions[0].wrong)
    solve("00.1")
    course.check("00.1", course.exercises["00.1"].misconceptions[0].wrong)
    assert json.loads(own_progress.read_text()) == {"00.1": {"solved": True, "tries": 3}}
    course.check("02.1", lambda logits, temperature: logits)
    capsys.readouterr()
    kdcourse.progress()
    out = capsys.readouterr().out
    assert re.search(r"^  ✔ 00\.1  .* 3 tries$", out, re.M)
    assert re.search(r"^  ✘ 02\.1  .* 1 try$", out, re.M)
    assert re.search(r"^  – 02\.2 ", out, re.M)
    assert out.endswith(f"1 of {len(EXERCISES)} solved\n")
    headings = [line for line in out.splitlines() if line.startswith("Notebook")]
    assert headings == [f"Notebook {number}" for number in dict.fromkeys(id[:2] for id in course.exercises)]


def test_a_crash_while_writing_leaves_the_old_file_whole(own_progress, monkeypatch):
    solve("00.1")
    before = own_progress.read_text()

    def crash(*arguments):
        raise KeyboardInterrupt

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, crash)
            with pytest.raises(KeyboardInterrupt):
                solve("00.2")
        assert own_progress.read_text() == before
    assert list(own_progress.parent.iterdir()) == [own_progress]


DAMAGED = ['{"00.1": {"tri', "", "[]", '{"00.1": 3}', '{"00.1": {"tries": "x", "solved": true}}', "\0\0", "[" * 10**5]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_set_aside_and_named(text, own_progress, capsys):
    for number in (1, 2):
        own_progress.write_text(text)
        solve("00.1")
        aside = own_progress.with_name(f"progress.damaged-{number}.json")
        assert str(aside) in capsys.readouterr().out
        assert aside.read_text() == text
        assert json.loads(own_progress.read_text()) == {"00.1": {"solved": True, "tries": 1}}


def test_bytes_that_are_no_text_are_damage_too(own_progress, capsys):
    own_progress.write_bytes(b"\xff\xfe\x00")
    course.progress()
    assert "was damaged" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_reported_and_the_check_goes_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDCOURSE_PROGRESS", str(tmp_path / "file" / "progress.json"))
    solve("00.1")
    out = capsys.readouterr().out
    assert "cannot be kept" in out
    assert "✔ 00.1" in out


def test_without_the_variable_the_file_lies_in_the_users_own_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KDCOURSE_PROGRESS")
    monkeypatch.setattr(records, "user_data_path", lambda *names, **options: tmp_path / names[0])
    assert records.progress_path() == tmp_path / "kdcourse" / "progress.json"


def test_the_command_line_shows_progress(own_progress, capsys):
    solve("03.2")
    capsys.readouterr()
    course.progress()
    shown = capsys.readouterr().out
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "kdcourse", "progress"]
    result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == shown


def test_importing_the_package_imports_no_torch():
    code = "import sys, kdcourse; assert 'torch' not in sys.modules; kdcourse.nothing"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "AttributeError: module 'kdcourse' has no attribute 'nothing'" in result.stderr


def test_a_case_and_a_misconception_are_what_an_author_writes():
    # the smallest exercise there can be: what a new notebook's author needs to know
    twice = Exercise(
        id="99.1", title="twice", question="Write `my_twice(x)`.", skeleton="def my_twice(x):\n    ...",
        reference=lambda x: 2 * x, alternatives=(), cases=lambda: [case(1), case(3)], hints=(),
        misconceptions=(Misconception("square", lambda x: x * x, "this is the square"),), shows="it.", derivation="",
    )  # fmt: skip
    assert judge(twice, lambda x: x + x).kind == "right"
    assert judge(twice, lambda x: x**2).text == "this is the square"
    assert judge(twice, lambda x: x).kind == "value"


def test_no_two_functions_in_a_modules_answers_are_the_same_object():
    for exercise in EXERCISES:
        answers = [exercise.reference, *exercise.alternatives, *(m.wrong for m in exercise.misconceptions)]
        assert all(a is not b for a, b in itertools.combinations(answers, 2)), exercise.id


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


# --- quick questions --------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_pruning_first_never_loses_more_than_rounding_first_and_can_lose_less(bits):
    two_orders, gaps = course.exercises["09.4"].reference, []
    for seed in range(50):
        weight = draw(3, 8, seed=seed, spread=1.0) ** (1 + 2 * (seed % 2))
        gaps += [other - one for one, other in (two_orders(weight, sparsity, bits) for sparsity in (0.1, 0.4, 0.8))]
    assert min(gaps) >= -1e-12
    assert max(gaps) > 1e-3
