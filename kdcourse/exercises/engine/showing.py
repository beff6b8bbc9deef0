"""What is shown to a learner beside exercises: a right answer as they would write it, and the glossary."""

import ast
import difflib
import html
import inspect
import textwrap
from types import ModuleType
from typing import Any

from ..._base.places import say
from ...data import load_glossary
from .core import Exercise

LEFT = 'style="text-align: left"'  # JupyterLab aligns to the right, and drops style sheets until a notebook is trusted


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
    definition.name = name
    for node in ast.walk(tree):  # also those of functions inside
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(tree)


def glossary(word: str | None = None) -> None:
    """Print what the course's glossary says of ``word``: English or Chinese, or a part of it; without one, show it all.

    A word that is in the glossary as it stands comes alone, with the names of the others that contain it. Where none
    fits, the three nearest are named. Raises ``ValueError`` for an empty word.

    >>> glossary("logit")
    logit · ...
    """
    entries = load_glossary()
    if word is None:
        from IPython.display import display

        plain = f"{len(entries)} words of the course, in a table to open"
        display({"text/html": _table(entries), "text/plain": plain}, raw=True)
        return
    wanted = " ".join(str(word).split()).casefold()
    if not wanted:
        raise ValueError('name a word, as in glossary("temperature"), or none at all for the whole table')
    exact = [entry for entry in entries if wanted in _names(entry)]
    parts = {wanted, *(entry["term"].casefold() for entry in exact)}
    containing = [entry for entry in entries if any(part in name for name in _names(entry) for part in parts)]
    if not containing:
        near = sorted(entries, key=lambda entry: -max(_likeness(wanted, name) for name in _names(entry)))[:3]
        say(f"The glossary has no {word!r}. The nearest: {', '.join(entry['term'] for entry in near)}.")
        return
    say("\n\n".join(_paragraph(entry) for entry in exact or containing))
    others = [entry["term"] for entry in containing if entry not in exact]
    if exact and others:
        say(f"\nSee also: {', '.join(others)}.")


def _names(entry: dict[str, Any]) -> list[str]:
    return [name.casefold() for name in (entry["term"], *entry["aliases"], *entry["chinese"].split(" / "))]


def _likeness(word: str, name: str) -> float:
    return difflib.SequenceMatcher(None, word, name).ratio()


def _paragraph(entry: dict[str, Any]) -> str:
    named = [entry["term"], entry["chinese"], _symbol(entry), f"notebook {entry['introduced']}"]
    return "\n".join([" · ".join(filter(None, named)), *textwrap.wrap(entry["definition"], 100)])


def _symbol(entry: dict[str, Any]) -> str:
    """The symbol as text, for a shell and for a page that sets no mathematics."""
    text: str = entry["symbol"].strip("$")
    for command, sign in {r"\alpha": "α", r"\mathrm{KL}": "KL", r" \| ": " ‖ "}.items():
        text = text.replace(command, sign)
    return text


def _table(entries: list[dict[str, Any]]) -> str:
    """All entries as HTML that a screen reader finds its way in, folded up."""

    def row(entry: dict[str, Any]) -> str:
        term, chinese, meaning = (html.escape(entry[key], quote=False) for key in ("term", "chinese", "definition"))
        return (
            f'<tr><th scope="row" {LEFT}>{term}</th><td lang="zh-Hans" {LEFT}>{chinese}</td>'
            f"<td {LEFT}>{_symbol(entry)}</td><td {LEFT}>{meaning}</td><td {LEFT}>{entry['introduced']}</td></tr>"
        )

    rows = "\n".join(map(row, entries))
    names = ("term", "Chinese", "symbol", "meaning", "notebook")
    heads = "".join(f'<th scope="col" {LEFT}>{name}</th>' for name in names)
    caption = "The words of the course, and the notebook that introduces each"
    return (
        f"<details><summary>All {len(entries)} words</summary>\n<table><caption>{caption}</caption>\n"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></details>"
    )
