"""Whether a function is still the skeleton that it was given as."""

import ast
import inspect
import textwrap
from functools import cache
from typing import Any


def is_untouched(function: Any) -> bool:
    """Whether a function's body is only a docstring, ``...``, ``pass`` or ``raise NotImplementedError``."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return _compiles_to_nothing(function)
    if isinstance(tree, ast.FunctionDef) and tree.name == getattr(function, "__name__", ""):
        return all(says_nothing(line) for line in tree.body)
    # from Python 3.13 on, what `python -c` ran is taken for the source of whatever was compiled from a string
    return _compiles_to_nothing(function)


def _compiles_to_nothing(function: Any) -> bool:
    """The same from the byte code, where there is no source."""
    named = getattr(function, "__name__", "<lambda>") != "<lambda>" and hasattr(function, "__code__")
    return named and _compiled(function) in _nothing()


def _compiled(function: Any) -> tuple[object, ...]:
    code = function.__code__
    values = [value for value in code.co_consts if not isinstance(value, str)]  # but the docstring and the message
    return code.co_code, code.co_names, values, bool(function.__doc__)


@cache
def _nothing() -> list[tuple[object, ...]]:
    """What this Python makes of bodies that do nothing; no operation is named, for they change with each version."""
    space: dict[str, Any] = {}
    found = []
    for docstring in ("", "'what it does'"):
        for body in ("pass", "raise NotImplementedError", "raise NotImplementedError('later')"):
            exec(f"def empty():\n  {docstring}\n  {body}", space)
            found.append(_compiled(space["empty"]))
    return found


def says_nothing(line: ast.stmt) -> bool:
    """Whether a line of a function's body does nothing."""
    if isinstance(line, ast.Raise):
        raised = line.exc.func if isinstance(line.exc, ast.Call) else line.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
