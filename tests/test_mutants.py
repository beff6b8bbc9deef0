"""Every mutant of every right answer is rejected by its check, or stands in a list with the reason why it may pass.

The lists lie in ``equivalents``, a file a notebook. ``pytest tests/test_mutants.py -k 03`` runs one notebook, ends with
its table, and names the survivors as they are written in the list.
"""

import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mutants import mutants, reached, rebuilt, source

from kdcourse._base.neutral import neutral, untouched
from kdcourse.exercises import exercises, judge
from kdcourse.exercises.engine.checking import fault, refuses
from kdcourse.exercises.engine.running import run

LISTS = Path(__file__).parent / "equivalents"
LIMIT = 1.0
"""seconds that one call of a mutant may take"""

every_exercise = pytest.mark.parametrize("exercise", exercises.values(), ids=lambda exercise: exercise.id)


@pytest.fixture(scope="module", autouse=True)
def an_optimizer_has_been_built():
    torch.optim.SGD(
        [torch.zeros(1)], lr=0.1
    )  # the first one imports half of PyTorch: no mutant may run out of time there


def listed(exercise, kind):
    """The mutants that a notebook's list names: "equivalent" with a reason each, or "to_be_hardened"."""
    file = LISTS / f"notebook_{exercise.notebook}.toml"
    groups = tomllib.loads(file.read_text(encoding="utf-8")).get(kind, []) if file.exists() else []
    return {name for group in groups if group["exercise"] == exercise.id for name in group["mutants"]}


def answers(exercise):
    return (exercise.reference, *exercise.alternatives)


def made(exercise) -> Iterator:
    for answer in answers(exercise):
        yield from mutants(answer, with_gradient=bool(exercise.gradients))


def quick_rejection(exercise, expected, answer, order):
    """Whether some case alone shows that the answer is wrong; what is left goes to the judge.

    The case that shows it comes first for the next answer.
    """
    cases = exercise.tried()
    for place in order:
        case, got = cases[place], run(exercise, answer, cases[place], limit=LIMIT)
        if got.changed or (not refuses(got) if case.refused else fault(exercise, expected[place], got)):
            order.insert(0, order.pop(order.index(place)))
            return True
    return False


def survivors(exercise, known):
    """How many mutants there are, and the names of those that the check lets pass; ``known`` are not judged again."""
    count, found = 0, set()
    with untouched(), neutral(), warnings.catch_warnings():
        warnings.showwarning = lambda *shown, **options: None  # a mutant's own warnings are nobody's business
        expected = [run(exercise, exercise.reference, case, limit=None) for case in exercise.tried()]
        order = list(range(len(expected)))
        for mutant in made(exercise):
            count += 1
            if quick_rejection(exercise, expected, mutant.answer, order):
                continue
            if mutant.name in known or judge(exercise, mutant.answer, limit=LIMIT).kind == "right":
                found.add(mutant.name)
    return count, found


def as_written(names):
    return "".join(f"\n  '''{name}'''," for name in sorted(names))


@every_exercise
def test_every_mutant_is_rejected_or_known_to_be_no_mistake(exercise, record_property):
    equivalent, to_be_hardened = listed(exercise, "equivalent"), listed(exercise, "to_be_hardened")
    count, found = survivors(exercise, equivalent | to_be_hardened)
    record_property("mutants", (exercise.id, count, len(equivalent), len(to_be_hardened)))
    new, gone = found - equivalent - to_be_hardened, (equivalent | to_be_hardened) - found
    assert not new, f"{exercise.id} lets {len(new)} of {count} mutants pass:{as_written(new)}"
    assert not gone, f"{exercise.id} rejects what its list says it lets pass:{as_written(gone)}"


@every_exercise
def test_an_answer_that_is_rebuilt_unchanged_is_right(exercise):
    for answer in answers(exercise):
        parts = reached(answer)
        for part in parts:
            assert judge(exercise, rebuilt(answer, parts, part, source(part))).kind == "right", part.__name__


def test_every_list_belongs_to_a_notebook_and_gives_its_reasons():
    notebooks = {exercise.notebook: exercise for exercise in exercises.values()}
    for file in LISTS.iterdir():
        groups = tomllib.loads(file.read_text(encoding="utf-8"))
        assert file.stem.removeprefix("notebook_") in notebooks
        assert all(group["exercise"] in exercises for kind in groups.values() for group in kind)
        assert all(len(group["reason"].split()) >= 3 for group in groups.get("equivalent", []))


# --- the mutants themselves -------------------------------------------------------------------------------------------


def small(values, *, low=1):
    total = 0.0
    for value in values[1:]:
        if value > low and value != 3:
            total += round(-value) * 2
    return min(total, 0.5), low


def test_a_small_functions_mutants_are_of_every_kind():
    names = {mutant.name.removeprefix("small: ") for mutant in mutants(small)}
    assert names >= {
        "without total = 0.0", "for value in values[:]:", "for value in values[2:]:", "for value in []:",
        "if value >= low and value != 3:", "if value < low and value != 3:", "if value > low or value != 3:",
        "if value > low and value == 3:", "if value > low and value != 4:", "if value > low:", "if value != 3:",
        "if True:", "if False:", "total -= round(-value) * 2", "total += round(value) * 2", "total += -value * 2",
        "total += floor(-value) * 2", "total += round(-value) / 2", "total += round(-value) * 3",
        "return (low, min(total, 0.5))", "return (max(total, 0.5), low)", "return (total, low)",
        "return (min(0.5, total), low)", "return (min(total, 0.0), low)", "return (min(total, 1.0), low)",
    }  # fmt: skip


def test_a_mutant_changes_one_thing_and_leaves_the_function_alone():
    before = small([9, 1, 2.6, 3, 5.25])
    behaviours = set()
    for mutant in mutants(small):
        try:
            behaviours.add(mutant.answer([9, 1, 2.6, 3, 5.25]))
        except (NameError, TypeError):
            continue
    assert small([9, 1, 2.6, 3, 5.25]) == before
    assert len(behaviours) >= 10
