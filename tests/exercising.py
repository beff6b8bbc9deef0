"""What the tests of exercises share: their lists, answers made from others, and a progress file of one's own."""

import inspect
import linecache
from functools import cache

import pytest
import torch
from torch import nn

from kdcourse import exercises as course
from kdcourse.exercises.engine import checking

EXERCISES = list(course.exercises.values())
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)
MISCONCEPTIONS = [(e, m) for e in EXERCISES for m in e.misconceptions]


def judge(exercise, function, limit=5.0):
    return checking.judge(exercise, function, limit=limit)


@cache
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


RAISING = """
def my_answer(*arguments, **keywords):
    first = arguments[0]
    return helper(first)

def helper(value):
    return {}["nothing here"]
"""
