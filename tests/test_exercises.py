"""Every exercise, generated from the objects: a new one is covered the moment it exists."""

import dataclasses
import inspect
import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from exercising import EXERCISES, MISCONCEPTIONS, every_exercise, first_result, from_source, judge
from torch import Tensor

from kdcourse import exercises as course
from kdcourse.exercises.engine import checking, comparing
from kdcourse.exercises.engine.core import Exercise, Misconception, case, draw
from kdcourse.exercises.engine.showing import solution_source

ROOT = Path(__file__).resolve().parent.parent


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
def test_the_solution_that_is_shown_runs_by_itself(exercise):
    namespace = {}
    exec(solution_source(exercise), namespace)
    assert judge(exercise, namespace[exercise.name]).kind == "right"


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


@every_exercise
def test_the_reference_and_every_alternative_pass(exercise):
    for answer in (exercise.reference, *exercise.alternatives):
        verdict = judge(exercise, answer)
        assert verdict.kind == "right", f"{answer.__name__}: {verdict.text}"
        assert verdict.text == exercise.shows


@pytest.mark.parametrize(("exercise", "misconception"), MISCONCEPTIONS, ids=lambda part: getattr(part, "id", ""))
def test_a_misconception_is_rejected_with_its_own_diagnosis_and_no_others(exercise, misconception):
    verdict = judge(exercise, misconception.wrong)
    assert verdict.misconception is misconception, verdict.text  # of two that do the same, the first is named for both
    assert verdict.text == misconception.diagnosis


def test_the_value_is_diagnosed_first_where_the_gradient_holds_a_second_mistake():
    def default_reduction_and_no_detach(student_logits, teacher_logits, *, temperature):
        log_p_s, log_p_t = ((z / temperature).log_softmax(-1) for z in (student_logits, teacher_logits))
        return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).mean()

    verdict = judge(course.exercises["03.2"], default_reduction_and_no_detach)
    assert verdict.misconception.name == "the default reduction"


def test_what_an_answer_draws_decides_nothing_where_its_network_is_looked_at():
    def left_in_train_mode(teacher):
        torch.rand(3)
        return teacher.requires_grad_(False)

    verdict = judge(course.exercises["04.1"], left_in_train_mode)
    assert verdict.misconception.name == "teacher left in train mode"


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


def test_the_reference_runs_once_for_each_seed():
    exercise, calls = course.exercises["02.1"], []

    def counted(*arguments, **keywords):
        calls.append(arguments)
        return exercise.reference(*arguments, **keywords)

    once = dataclasses.replace(exercise, reference=counted)
    for seed in (0, 0, 7, 7):
        assert checking.judge(once, exercise.reference, seed=seed).kind == "right"
    assert len(calls) == 2 * len(exercise.tried())


def test_no_two_functions_in_a_modules_answers_are_the_same_object():
    for exercise in EXERCISES:
        answers = [exercise.reference, *exercise.alternatives, *(m.wrong for m in exercise.misconceptions)]
        assert all(a is not b for a, b in itertools.combinations(answers, 2)), exercise.id


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_pruning_first_never_loses_more_than_rounding_first_and_can_lose_less(bits):
    two_orders, gaps = course.exercises["09.4"].reference, []
    for seed in range(50):
        weight = draw(3, 8, seed=seed, spread=1.0) ** (1 + 2 * (seed % 2))
        gaps += [other - one for one, other in (two_orders(weight, sparsity, bits) for sparsity in (0.1, 0.4, 0.8))]
    assert min(gaps) >= -1e-12
    assert max(gaps) > 1e-3
