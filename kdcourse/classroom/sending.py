"""A case's arguments on their way to an answer: pickled, with the classes of the exercises that they are made of."""

import ast
import inspect
import io
import pickle
import textwrap
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

OURS = "kdcourse.exercises"


class _Pickler(pickle.Pickler):
    """Notes the classes and functions of the exercises that it meets; they travel by name."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.met: dict[str, Any] = {}

    def persistent_id(self, value: Any) -> None:
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith(OURS):
            self.met[value.__name__] = value


def pickled(value: Any) -> tuple[bytes, dict[str, Any]]:
    """The bytes, and the exercises' own classes and functions in them by their names."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    return file.getvalue(), with_helpers(pickler.met)


def with_helpers(met: Mapping[str, Any]) -> dict[str, Any]:
    """The same, preceded by those of the exercises that they use in turn."""
    return _with_helpers(met, made=False)


def _with_helpers(met: Mapping[str, Any], *, made: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in met.items():
        helpers = {key: helper for key, helper in _helpers(value, made).items() if helper is not value}
        found |= _with_helpers(helpers, made=True)
        found[name] = value
    return found


def _globals(value: Any, made: bool) -> dict[str, Any]:
    module = inspect.getmodule(value)
    names = {node.id for node in ast.walk(_tree(value, made)) if isinstance(node, ast.Name)}
    return {name: vars(module)[name] for name in sorted(names) if name in vars(module)}


def _helpers(value: Any, made: bool) -> dict[str, Any]:
    """Functions and classes of the exercises that the code of one names."""
    return {
        name: used
        for name, used in _globals(value, made).items()
        if (inspect.isfunction(used) or inspect.isclass(used)) and used.__module__.startswith(OURS)
    }


def source_of(given: Mapping[str, Any]) -> str:
    """A program that defines them: networks without ``__init__``, because what they hold is sent.

    A network that the code of another one makes keeps its ``__init__``.
    """
    imports, parts, made = set(), [], _made(given)
    for key, value in given.items():
        parts.append(ast.unparse(_tree(value, key in made)))
        for name, used in _globals(value, key in made).items():
            if isinstance(used, ModuleType):
                imports.add(f"import {used.__name__} as {name}")
            elif not getattr(used, "__module__", OURS).startswith(OURS):
                imports.add(f"from {used.__module__} import {name}")
    return "\n".join(["from __future__ import annotations", *sorted(imports), *parts])


def _made(given: Mapping[str, Any]) -> set[str]:
    """Those that are named by the code of others, which may make them."""
    found: set[str] = set()
    while True:
        named = {name for key, value in given.items() for name in _helpers(value, key in found) if name != key}
        if named <= found:
            return found
        found |= named


def _tree(value: Any, made: bool) -> ast.Module:
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    [definition] = tree.body
    if not made and inspect.isclass(value) and issubclass(value, nn.Module) and isinstance(definition, ast.ClassDef):
        definition.body = [line for line in definition.body if getattr(line, "name", "") != "__init__"]
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef):
            node.returns = None
    return tree


def logs(known: list[Any]) -> list[tuple[int, int]]:
    """Which parameter writes its gradients into which list: pairs of numbers among the known objects."""
    numbers = {id(value): number for number, value in enumerate(known)}
    pairs = []
    for number, value in enumerate(known):
        hooks = (getattr(value, "_backward_hooks", None) or {}) if isinstance(value, Tensor) else {}
        for hook in hooks.values():
            owner = getattr(hook, "__self__", None)
            if id(owner) in numbers:
                pairs.append((number, numbers[id(owner)]))
    return pairs
