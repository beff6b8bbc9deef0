"""The reference: one page for each public module, from its docstrings, in the order of its source."""

import importlib
import inspect
import re
from types import ModuleType
from typing import Any

MODULES = ("losses", "losses.features", "losses.relations", "losses.sequences", "features", "pruning", "quantization",
           "lowrank", "averaging", "replay", "metrics", "models", "pretrained", "data", "domains", "sounds", "text",
           "language", "training", "teacher_store", "scaling", "export", "robustness", "attribution", "card", "contest",
           "plots", "widgets", "claims", "exercises")  # fmt: skip
# in backticks, or an example up to its blank line
LITERAL = re.compile(r"(``.+?``|`[^`]+`|^[ ]*>>> .*?(?=\n\s*\n|\Z))", re.DOTALL | re.MULTILINE)
EXAMPLES = "Examples start where torch, ``from torch import nn`` and the names of their page are imported."


def restructured(text: str) -> str:
    """A docstring as Sphinx reads it: what is no code is taken at its word, and arXiv numbers become links."""
    parts = LITERAL.split(text)
    parts[::2] = [re.sub(r"([\\*|]|_\b)", r"\\\1", part) for part in parts[::2]]
    return re.sub(r"\barXiv:(\d{4}\.\d{4,5})", r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", "".join(parts))


def public(module: ModuleType) -> dict[str, Any]:
    """Functions and classes that a module offers: those in its ``__all__``, or those it defines; documented ones."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    members = {name: inspect.unwrap(getattr(module, name)) for name in names}
    wanted = inspect.isfunction if module.__name__ == "kdcourse.exercises" else is_documented
    return {name: value for name, value in members.items() if wanted(value)}


def is_documented(value: Any) -> bool:
    return (inspect.isfunction(value) or inspect.isclass(value)) and bool(value.__doc__)


def place(value: Any) -> tuple[str, int]:
    return value.__module__, inspect.getsourcelines(value)[1]


def api_pages() -> dict[str, str]:
    """The text of every page by its name."""
    pages = {f"api/{name}.rst": module_page(name) for name in MODULES}
    return pages | {"api/index.rst": index_page()}


def heading(text: str, mark: str) -> list[str]:
    return [text, mark * len(text), ""]


def described(module: ModuleType) -> list[str]:
    return [restructured(inspect.getdoc(module) or ""), ""]


def module_page(name: str) -> str:
    """The module's own words, then its members; those of a package under the words of the file they stand in."""
    module = importlib.import_module(f"kdcourse.{name}")
    members = public(module)
    lines = heading(f"kdcourse.{name}", "=") + [f".. py:module:: kdcourse.{name}", "", *described(module)]
    files = sorted({value.__module__ for value in members.values()} - {module.__name__})
    for file in [module.__name__, *files]:
        mine = sorted((name for name in members if members[name].__module__ == file), key=lambda n: place(members[n]))
        if file != module.__name__:
            lines += heading(file.split(".")[-1], "-") + described(importlib.import_module(file))
        for member in mine:
            kind = "autoclass" if inspect.isclass(members[member]) else "autofunction"
            lines += [f".. {kind}:: {module.__name__}.{member}", ""]
            options = ["   :members:"] if kind == "autoclass" else []
            options += [] if _first_room(members[member]) == name else ["   :no-index:"]
            lines[-1:] = [*options, ""]
    return "\n".join(lines)


def _first_room(value: Any) -> str:
    """The first module that offers it: what two rooms take from the cellar is indexed once."""
    return next(name for name in MODULES if value in public(importlib.import_module(f"kdcourse.{name}")).values())


def index_page() -> str:
    lines = heading("The package", "=") + [*described(importlib.import_module("kdcourse")), EXAMPLES, ""]
    for name in MODULES:
        words = (inspect.getdoc(importlib.import_module(f"kdcourse.{name}")) or "").splitlines()[0]
        lines += [f":doc:`{name}`", f"   {restructured(words)}", ""]
    return "\n".join([*lines, ".. toctree::", "   :hidden:", "", *(f"   {name}" for name in MODULES), ""])
