"""Exercises that say why an answer is wrong: ``check("03.2", my_function)``, ``hint("03.2")``, ``solution("03.2")``.

Quick questions that say why: ``ask("03.a")``.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._base.places import say
from .engine import records
from .engine.asking import Question, show
from .engine.checking import Verdict, WrongAnswer, grading, judge, report
from .engine.core import Case, Exercise, Misconception
from .engine.finding import Exercises, find_questions
from .engine.showing import glossary, solution_source

exercises: Mapping[str, Exercise] = Exercises(Path(__file__).parent)
"""every exercise by its id, in the order of the course; its file is read when it is asked for"""

questions: dict[str, Question] = find_questions(Path(__file__).parent)
"""every quick question by its id"""

_hints_given: dict[str, int] = {}


def check(id: str, function: Any) -> None:
    """Print whether ``function`` solves exercise ``id``, and if not, which mistake it makes.

    Raises ``ValueError`` for an unknown id, and `WrongAnswer` for a missing or wrong answer where answers are graded.

    >>> check("02.1", lambda logits, temperature: (logits / temperature).softmax(dim=-1))
    ✔ 02.1 ...
    """
    exercise = _exercise(id)
    verdict = judge(exercise, function)
    if grading():
        if verdict.kind != "right":
            raise WrongAnswer(report(exercise, verdict))
    elif verdict.kind != "unattempted":
        records.record(id, solved=verdict.kind == "right")
    say(report(exercise, verdict))


def hint(id: str) -> None:
    """Print the next hint for exercise ``id``: a vague one first, then plainer ones.

    >>> hint("03.2")
    Hint ... of ... for 03.2: ...
    """
    exercise = _exercise(id)
    given = _hints_given.get(id, 0)
    number = min(given, len(exercise.hints) - 1)
    _hints_given[id] = given + 1
    last = " That was the last one." if number == len(exercise.hints) - 1 else ""
    say(f"Hint {number + 1} of {len(exercise.hints)} for {id}: {exercise.hints[number]}{last}")


def solution(id: str, confirm: bool = False) -> None:
    """Print a right answer to exercise ``id`` and why it is right, once it is asked for with ``confirm=True``.

    In a copy handed out by `make release` it prints none.

    >>> solution("03.2")
    Sure? hint("03.2") may be enough. If you want it: solution("03.2", confirm=True)
    """
    exercise = _exercise(id)
    if Path(__file__).with_name("WITHHELD").exists():
        say(f'In this class the solutions come later. hint("{id}") gives a hint.')
        return
    if not confirm:
        say(f'Sure? hint("{id}") may be enough. If you want it: solution("{id}", confirm=True)')
        return
    say(f"{solution_source(exercise)}\n\n{exercise.derivation}")


def ask(id: str) -> None:
    """Show a quick question to answer by mouse or keyboard; in a terminal, print it and judge the letter that is typed.

    Raises ``ValueError`` for an unknown id.

    >>> ask("03.a")
    Question 03.a ...
    """
    show(questions[_known(id, questions, "question")])


def progress() -> None:
    """Print what you have solved and tried, by notebook.

    >>> progress()
    Notebook 00 ... solved
    """
    say(records.table(list(exercises.values())))


def _exercise(id: str) -> Exercise:
    return exercises[_known(id, exercises, "exercise")]


def _known(id: str, among: Mapping[str, object], kind: str) -> str:
    if id in among:
        return id
    near = difflib.get_close_matches(str(id), among, n=3, cutoff=0.3)
    known = f"the nearest are {', '.join(near)}" if near else f"they go from {min(among)} to {max(among)}"
    raise ValueError(f"there is no {kind} {id!r}: {known}")


__all__ = [
    "Case",
    "Exercise",
    "Misconception",
    "Verdict",
    "WrongAnswer",
    "ask",
    "check",
    "exercises",
    "glossary",
    "hint",
    "judge",
    "progress",
    "questions",
    "solution",
]
