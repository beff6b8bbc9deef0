"""Compare a learner's function with an exercise and say what is wrong, and where we know it, why.

Under nbgrader (it sets ``NBGRADER_EXECUTION`` while it autogrades or validates), or with ``KDCOURSE_GRADING=1``,
an answer that is missing or wrong raises `WrongAnswer`; in a notebook it only prints.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from ..._base.neutral import neutral, untouched
from .comparing import alike_in_kind, difference, has_network, same
from .core import Answer, Case, Exercise, Misconception
from .describing import describe
from .running import Outcome, OutOfTime, find, gradients_differ, run, without
from .telling import about_refusals, about_the_smallest
from .untouched import is_untouched

LIMIT = 10.0
"""seconds that one call may take"""


class WrongAnswer(AssertionError):
    """An answer is missing or wrong; raised only where answers are graded."""


@dataclass(frozen=True)
class Verdict:
    """What became of an answer: ``kind`` is "right", "unattempted", "misconception" or the name of a fault."""

    kind: str
    text: str
    misconception: Misconception | None = None
    printed: str = ""


@dataclass(frozen=True)
class Trial:
    """An exercise and how it is tried: seconds for one call, and the seed of the drawn cases."""

    exercise: Exercise
    limit: float = LIMIT
    seed: int = 0

    def cases(self) -> list[Case]:
        return self.exercise.tried(self.seed)

    def run(self, function: Answer, case: Case, seed: int = 0) -> Outcome:
        return run(self.exercise, function, case, limit=self.limit, seed=seed)


def judge(exercise: Exercise, function: Any, *, limit: float = LIMIT, seed: int = 0) -> Verdict:
    """Try ``function`` on every case, twice, and find the one thing to say about it.

    The fixed cases come first, then those drawn from ``seed``: whoever grades may choose another.

    >>> judge(exercises["02.1"], lambda logits, temperature: logits.softmax(dim=-1)).kind
    'misconception'
    """
    with untouched(), neutral():
        return _judge(Trial(exercise, limit, seed), function)


def _judge(trial: Trial, function: Any) -> Verdict:
    exercise = trial.exercise
    if function is None or is_untouched(function):
        return Verdict("unattempted", "not attempted yet")
    if not callable(function):
        return Verdict(
            "type", f"{describe(function)} is not a function: pass {exercise.name} itself, without calling it"
        )
    if any(function is getattr(*find(name)) for name in exercise.forbidden):
        return calls(exercise.forbidden[0])
    cases = trial.cases()
    expected = _expected(exercise, trial.seed)
    with without(exercise.forbidden, function) as called:
        got = _run_all(trial, function, seed=0)
        done = called or any(isinstance(outcome.error, OutOfTime) for outcome in got)
        again = got if done else _run_all(trial, function, seed=1)
    verdict = calls(called[0]) if called else weigh(trial, function, cases, expected, got, again)
    return Verdict(verdict.kind, verdict.text, verdict.misconception, got[0].printed)


@lru_cache(maxsize=4)
def _expected(exercise: Exercise, seed: int) -> list[Outcome]:
    """What the reference does on every case: the same each time, so that a check that is tried again takes less."""
    return [run(exercise, exercise.reference, case, limit=None) for case in exercise.tried(seed)]


def _run_all(trial: Trial, function: Answer, *, seed: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for case in trial.cases():
        outcomes.append(trial.run(function, case, seed))
        if isinstance(outcomes[-1].error, OutOfTime):
            break
    return outcomes


def calls(dotted: str) -> Verdict:
    """What is said of an answer that calls what it is to build."""
    return Verdict("reference", f"your function calls {dotted}. That is what you are asked to build: write it yourself")


def weigh(
    trial: Trial, function: Answer, cases: list[Case], expected: list[Outcome], got: list[Outcome], again: list[Outcome]
) -> Verdict:
    """The one thing to say about what each case gave the first and the second time, beside what was expected."""
    exercise = trial.exercise
    ordinary = [place for place, case in enumerate(cases) if not case.refused]
    if early := _needs_no_comparison(trial, got, again, ordinary):
        return early
    wrong = [place for place in ordinary if fault(exercise, expected[place], got[place])]
    if wrong and (known := _known(trial, expected, got, ordinary)):
        return known
    if varying := [place for place in ordinary if _varies(exercise, got[place], again[place])]:
        return Verdict("random", _why_it_varies(trial, function, varying[0]))
    if wrong:
        kinds = {place: fault(exercise, expected[place], got[place]) or "" for place in wrong}
        return Verdict(*about_the_smallest(exercise, cases, expected, got, kinds))
    accepted = [place for place, case in enumerate(cases) if case.refused and not refuses(got[place])]
    if accepted:
        known = _known(trial, expected, got, range(len(cases)))
        return known or Verdict(*about_refusals(cases[accepted[0]], got[accepted[0]]))
    return Verdict("right", exercise.shows)


def _needs_no_comparison(trial: Trial, got: list[Outcome], again: list[Outcome], ordinary: list[int]) -> Verdict | None:
    """What is wrong whatever would have been right."""
    if any(isinstance(outcomes[-1].error, OutOfTime) for outcomes in (got, again)):
        text = (
            f"your function did not return within {trial.limit:g} seconds. Look for a loop whose end is never reached"
        )
        return Verdict("time", text)
    if changed := next((outcome.changed for outcome in got if outcome.changed), ""):
        return Verdict(
            "in place",
            f"your function changes its argument {changed} in place. Whoever called it still needs that: "
            "make a new value instead of using +=, [...] = or a method that ends in an underscore",
        )
    if not any(got[place].error for place in ordinary):
        if all(got[place].value is None for place in ordinary):
            return Verdict("none", "your function returns None. Is a return missing?")
        if all(got[place].value is ... for place in ordinary):
            return Verdict("unattempted", "not attempted yet")
    return None


def refuses(got: Outcome) -> bool:
    """Whether a call was refused as the exercises ask for it."""
    return isinstance(got.error, ValueError)


def fault(exercise: Exercise, expected: Outcome, got: Outcome) -> str | None:
    """In what one call's outcome differs from the reference's."""
    if got.error is not None:
        return "raises"
    if got.unusable is not None:
        return "unusable" if has_network(expected.value) and alike_in_kind(expected.value, got.value) else "type"
    found = difference(expected.observed, got.observed, relative=exercise.relative, absolute=exercise.absolute)
    return found.kind if found else "gradient" if gradients_differ(exercise, expected, got) else None


def _alike(exercise: Exercise, one: Outcome, other: Outcome, *, gradients: bool = True) -> bool:
    if one.error or other.error or one.unusable or other.unusable:
        return bool(one.error) == bool(other.error) and bool(one.unusable) == bool(other.unusable)
    values = same(one.observed, other.observed, relative=exercise.relative, absolute=exercise.absolute)
    return values and not (gradients and gradients_differ(exercise, one, other))


def _varies(exercise: Exercise, one: Outcome, other: Outcome) -> bool:
    """Whether two calls with the same arguments gave different results."""
    if one.error or other.error or one.unusable or other.unusable:
        return not _alike(exercise, one, other)
    found = difference(one.observed, other.observed, relative=exercise.relative, absolute=exercise.absolute)
    if found and found.kind == "type":  # of equal types: a result of a kind that cannot be compared
        return type(found.expected) is not type(found.got)
    return bool(found) or gradients_differ(exercise, one, other)


def _why_it_varies(trial: Trial, function: Answer, place: int) -> str:
    """Nothing random, or dropout: if the results agree once it is switched off, a network was left in train mode."""
    without_dropout = []
    for seed in (0, 1):
        case = trial.cases()[place]
        networks = [value for value in (*case.arguments, *case.keywords.values()) if isinstance(value, nn.Module)]
        dropouts = [part for net in networks for part in net.modules() if isinstance(part, _DropoutNd)]
        for dropout in dropouts:
            dropout.p = 0.0
        without_dropout.append(trial.run(function, case, seed))
    differ = "two calls with the same arguments give different results"
    if dropouts and not _varies(trial.exercise, *without_dropout):
        why = (
            "dropout draws new random numbers each time. Is the network in train mode where it should be in eval mode?"
        )
        return f"{differ}: {why}"
    return f"{differ}. Nothing random is needed here"


def _known(trial: Trial, expected: list[Outcome], got: list[Outcome], places: Sequence[int]) -> Verdict | None:
    """The first misconception that does the same as the answer on these cases.

    Failing that, one that gives the same wrong values: then the gradient holds a second mistake, to be found next.
    """
    for gradients in (True, False) if trial.exercise.gradients else (True,):
        if all(_alike(trial.exercise, expected[place], got[place], gradients=gradients) for place in places):
            return None  # nothing that a misconception could explain is wrong
        for number, misconception in enumerate(trial.exercise.misconceptions):
            if _does_the_same(trial, number, got, places, gradients=gradients):
                return Verdict("misconception", misconception.diagnosis, misconception)
    return None


def _does_the_same(trial: Trial, number: int, got: list[Outcome], places: Sequence[int], *, gradients: bool) -> bool:
    """Whether a misconception and the answer do the same at these places, which ascend."""
    exercise, known = trial.exercise, _mistaken(trial.exercise, trial.seed)
    cases = enumerate(exercise.one_by_one(trial.seed))
    for place in places:
        if (outcome := known.get((number, place))) is None:
            case = next(case for at, case in cases if at == place)
            outcome = trial.run(exercise.misconceptions[number].wrong, case)
            if not isinstance(outcome.error, OutOfTime):
                known[number, place] = outcome
        if not _alike(exercise, outcome, got[place], gradients=gradients):
            return False
    return True


@lru_cache(maxsize=4)
def _mistaken(exercise: Exercise, seed: int) -> dict[tuple[int, int], Outcome]:
    """What the misconceptions, by number, have done so far on the cases, by place."""
    return {}


def grading() -> bool:
    """Whether answers are graded here rather than tried."""
    return bool(os.environ.get("NBGRADER_EXECUTION")) or os.environ.get("KDCOURSE_GRADING") == "1"


def report(exercise: Exercise, verdict: Verdict) -> str:
    """The lines that a learner sees."""
    mark = {"right": "✔", "unattempted": "–"}.get(verdict.kind, "✘")
    lines = [f"{mark} {exercise.id} {exercise.title}: {verdict.text}"]
    if mark == "✘":
        lines.append(f'  hint("{exercise.id}") gives a hint')
    return "\n".join([*lines, *([verdict.printed] if verdict.printed else [])])
