"""A right answer as a learner would write it: with its imports and helpers, and without annotations."""

import ast
import inspect
import textwrap
from types import ModuleType
from typing import Any

from .core import Exercise


def solution_source(exercise: Exercise) -> str:
    """The reference as one cell that runs by itself and defines the function that the exercise asks for."""
    imports: set[str] = set()
    helpers: dict[str, str] = {}
    _collect(exercise.reference, imports, helpers)
    main = _without_annotations(exercise.reference, exercise.name)
    return "\n\n".join(filter(None, ["\n".join(sorted(imports)), *helpers.values(), main]))


def _collect(function: Any, imports: set[str], helpers: dict[str, str]) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for name in sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}):
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType):
            imports.add(f"import {name}" if value.__name__ == name else f"import {value.__name__} as {name}")
        elif inspect.isfunction(value) and value.__module__.startswith("kdcourse.exercises"):
            _collect(value, imports, helpers)
            helpers[name] = _without_annotations(value, name)
        elif inspect.isfunction(value):
            imports.add(f"from {value.__module__} import {name}")


def _without_annotations(function: Any, name: str) -> str:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.name, definition.returns = name, None
    for node in ast.walk(definition.args):
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(tree)
