"""Hold a learner's function against an exercise and say what is wrong, and where we know it, why.

Under nbgrader (it sets ``NBGRADER_EXECUTION`` while it autogrades or validates), or with ``KDCOURSE_GRADING=1``,
an answer that is missing or wrong raises `WrongAnswer`; in a notebook it only prints.
"""

import inspect
import linecache
import os
import sysconfig
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .comparing import describe, difference, numbers, same, size
from .core import Answer, Case, Exercise, Misconception
from .neutral import neutral, untouched
from .running import Outcome, OutOfTime, find, gradients_differ, run, without
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


def judge(exercise: Exercise, function: Any, *, limit: float = LIMIT) -> Verdict:
    """Try ``function`` on every case, twice, and find the one thing to say about it."""
    with untouched(), neutral():
        return _judge(exercise, function, limit)


def _judge(exercise: Exercise, function: Any, limit: float) -> Verdict:
    if function is None or is_untouched(function):
        return Verdict("unattempted", "not attempted yet")
    if not callable(function):
        return Verdict("type", f"{describe(function)} is no function: pass {exercise.name} itself, without calling it")
    if any(function is getattr(*find(name)) for name in exercise.forbidden):
        return _calls(exercise.forbidden[0])
    cases = exercise.cases()
    expected = [run(exercise, exercise.reference, case, limit=limit) for case in cases]
    with without(exercise.forbidden, function) as called:
        got = _run_all(exercise, function, limit)
        done = called or any(isinstance(outcome.error, OutOfTime) for outcome in got)
        again = got if done else _run_all(exercise, function, limit)
    verdict = _calls(called[0]) if called else _weigh(exercise, cases, expected, got, again, limit)
    return Verdict(verdict.kind, verdict.text, verdict.misconception, got[0].printed)


def _run_all(exercise: Exercise, function: Answer, limit: float) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for case in exercise.cases():
        outcomes.append(run(exercise, function, case, limit=limit))
        if isinstance(outcomes[-1].error, OutOfTime):
            break
    return outcomes


def _calls(dotted: str) -> Verdict:
    return Verdict("reference", f"your function calls {dotted}. That is what you are asked to build: write it yourself")


def _weigh(
    exercise: Exercise,
    cases: list[Case],
    expected: list[Outcome],
    got: list[Outcome],
    again: list[Outcome],
    limit: float,
) -> Verdict:
    if any(isinstance(outcomes[-1].error, OutOfTime) for outcomes in (got, again)):
        return Verdict(
            "time", f"your function did not return within {limit:g} seconds. Look for a loop whose end is never reached"
        )
    ordinary = [place for place, case in enumerate(cases) if not case.refused]
    changed = next((outcome.changed for outcome in got if outcome.changed), "")
    wrong = [place for place in ordinary if fault(exercise, expected[place], got[place])]
    if changed:
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
        if any(_varies(exercise, one, other) for one, other in zip(got, again, strict=True)):
            return Verdict(
                "random", "two calls with the same arguments give different results. Nothing random is needed here"
            )
    if wrong:
        return _known(exercise, expected, got, ordinary, limit) or _smallest(exercise, cases, expected, got, wrong)
    accepted = [place for place, case in enumerate(cases) if case.refused and not got[place].error]
    if accepted:
        everything = list(range(len(cases)))
        known = _known(exercise, expected, got, everything, limit)
        return known or _accepts(cases[accepted[0]], got[accepted[0]])
    return Verdict("right", exercise.shows)


def fault(exercise: Exercise, expected: Outcome, got: Outcome) -> str | None:
    """In what one call's outcome differs from the reference's."""
    if got.error is not None:
        return "raises"
    tolerance = {"relative": exercise.relative, "absolute": exercise.absolute}
    found = difference(expected.observed, got.observed, **tolerance)
    return found or ("gradient" if gradients_differ(exercise, expected, got) else None)


def _alike(exercise: Exercise, one: Outcome, other: Outcome, *, gradients: bool = True) -> bool:
    if one.error or other.error:
        return bool(one.error) and bool(other.error)
    tolerance = {"relative": exercise.relative, "absolute": exercise.absolute}
    values = same(one.observed, other.observed, **tolerance)
    return values and not (gradients and gradients_differ(exercise, one, other))


def _varies(exercise: Exercise, one: Outcome, other: Outcome) -> bool:
    """Whether two calls with the same arguments gave different results."""
    if one.error or other.error:
        return not (one.error and other.error)
    tolerance = {"relative": exercise.relative, "absolute": exercise.absolute}
    values = difference(one.observed, other.observed, **tolerance)
    # "type" with equal types: a result of a kind that cannot be compared
    unlike = values in ("value", "shape") or (values == "type" and type(one.observed) is not type(other.observed))
    return unlike or gradients_differ(exercise, one, other)


def _known(
    exercise: Exercise, expected: list[Outcome], got: list[Outcome], places: Sequence[int], limit: float
) -> Verdict | None:
    """The first misconception that does the same as the answer on these cases.

    Failing that, one that gives the same wrong values: then the gradient holds a second mistake, to be found next.
    """
    for gradients in (True, False):
        if all(_alike(exercise, expected[place], got[place], gradients=gradients) for place in places):
            return None  # nothing that a misconception could explain is wrong
        found = matches(exercise, got, places, limit=limit, gradients=gradients)
        if found:
            return Verdict("misconception", found[0].diagnosis, found[0])
    return None


def matches(
    exercise: Exercise, got: list[Outcome], places: Sequence[int], *, limit: float = LIMIT, gradients: bool = True
) -> list[Misconception]:
    """Every misconception that does the same as the answer on these cases."""
    found = []
    for misconception in exercise.misconceptions:
        cases = exercise.cases()
        outcomes = [run(exercise, misconception.wrong, cases[place], limit=limit) for place in places]
        pairs = zip(outcomes, (got[place] for place in places), strict=True)
        if all(_alike(exercise, one, other, gradients=gradients) for one, other in pairs):
            found.append(misconception)
    return found


def _smallest(
    exercise: Exercise, cases: list[Case], expected: list[Outcome], got: list[Outcome], wrong: list[int]
) -> Verdict:
    """What to say of an unknown mistake: the smallest case that shows it."""
    place = min(wrong, key=lambda p: size(cases[p].arguments))
    want, found = expected[place], got[place]
    kind = fault(exercise, want, found) or ""
    if found.error is not None:
        return Verdict(kind, f"your function raises {own_line(found.error, exercise)}\n{_call(exercise, cases[place])}")
    if kind == "gradient":
        return Verdict(kind, f"{_gradient_text(exercise, want, found)}\n{_call(exercise, cases[place])}")
    first = {
        "type": "your function returns the wrong type",
        "shape": "your function returns the wrong shape",
        "dtype": "the value is right, but its dtype is not: something on the way changed the precision",
        "value": "not the right value yet",
    }[kind]
    lines = f"  expected  {describe(want.observed)}\n  got       {describe(found.observed)}"
    return Verdict(kind, f"{first}.\n{_call(exercise, cases[place])}\n{lines}")


def _gradient_text(exercise: Exercise, want: Outcome, found: Outcome) -> str:
    if want.has_graph and not found.has_graph:
        return (
            "the value is right, but no gradient flows through it, so nothing would be learned. "
            ".item(), .detach(), .data, NumPy, torch.tensor(…) and no_grad all cut the gradient off"
        )
    gradients = [outcome.gradients or (None,) * len(exercise.gradients) for outcome in (want, found)]
    lines = ["the value is right, but its gradient is not."]
    for number, place in enumerate(exercise.gradients):
        name = list(inspect.signature(exercise.reference).parameters)[place]
        shown = ["none" if side[number] is None else numbers(side[number]) for side in gradients]
        lines.append(f"  for {name}: expected {shown[0]}, got {shown[1]}")
    return "\n".join(lines)


def _accepts(case: Case, got: Outcome) -> Verdict:
    kind = "broadcast" if "shape" in case.refused else "accepts"
    more = " PyTorch broadcasts silently, so nothing else will tell you." if kind == "broadcast" else ""
    return Verdict(
        kind,
        f"right on all proper arguments, but your function accepts {case.refused}, and returns "
        f"{describe(got.observed)}.{more} Raise a ValueError there",
    )


def _call(exercise: Exercise, case: Case) -> str:
    bound = inspect.signature(exercise.reference).bind(*case.arguments, **case.keywords)
    return "\n".join(f"  for {name} = {numbers(value)}" for name, value in bound.arguments.items())


def own_line(error: BaseException, exercise: Exercise) -> str:
    """The exception and the last line of the learner's own that it passed."""
    message = next(iter(str(error).splitlines()), "")
    text = f"{type(error).__name__}: {message[:200]}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_library(f.filename)]
    if not frames or frames[-1].lineno is None:
        return text
    source = linecache.getline(frames[-1].filename, frames[-1].lineno).strip()
    return f"{text}\n  in your line {frames[-1].lineno}:  {source}"


def _is_library(filename: str) -> bool:
    libraries = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    kdcourse = str(Path(__file__).parents[2])
    return filename.startswith((*libraries, kdcourse, "<frozen"))


def grading() -> bool:
    """Whether answers are graded here rather than tried."""
    return bool(os.environ.get("NBGRADER_EXECUTION")) or os.environ.get("KDCOURSE_GRADING") == "1"


def report(exercise: Exercise, verdict: Verdict) -> str:
    """The lines that a learner sees."""
    mark = {"right": "✔", "unattempted": "–"}.get(verdict.kind, "✘")
    lines = [f"{mark} {exercise.id} {exercise.title}: {verdict.text}"]
    if mark == "✘":
        lines.append(f'  hint("{exercise.id}") takes you a step further')
    return "\n".join([*lines, *([verdict.printed] if verdict.printed else [])])
