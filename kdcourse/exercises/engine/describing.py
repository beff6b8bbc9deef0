"""How values and their differences are shown: short, the same on every machine, different for any two that differ."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from .comparing import Difference, single, size

SHOWN_NUMBERS = 12
KINDS = {list: "a list", tuple: "a tuple", dict: "a dict", set: "a set", str: "a text", int: "an integer",
         float: "a number", bool: "True or False", type(None): "None", np.ndarray: "a NumPy array"}  # fmt: skip


def describe(value: Any, digits: int = 4) -> str:
    """A value in a line, at four digits, with shape and dtype where it has them."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        shape = f"shape {tuple(value.shape)}, " if value.ndim else ""
        return f"{numbers(value, digits)} ({shape}{kind})"
    return numbers(value, digits)


def numbers(value: Any, digits: int = 4) -> str:
    """A value's numbers alone, the rest of a long one cut."""
    if isinstance(value, Tensor | np.ndarray):
        if size(value) > SHOWN_NUMBERS or (isinstance(value, Tensor) and value.is_meta):
            return f"numbers in the shape {tuple(value.shape)}"
        return numbers(value.tolist(), digits)
    if isinstance(value, np.generic):
        return numbers(value.item(), digits)
    if isinstance(value, float):
        return "0" if abs(value) < 1e-12 and digits <= 4 else f"{value:.{digits}g}"
    if isinstance(value, Mapping):
        return "{" + _cut([f"{key}: {numbers(part, digits)}" for key, part in value.items()]) + "}"
    if isinstance(value, tuple | list):
        return "[" + _cut([numbers(part, digits) for part in value]) + "]"
    if value is None or isinstance(value, bool | int):
        return str(value)
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


def _cut(parts: list[str]) -> str:
    more = [f"… {len(parts) - SHOWN_NUMBERS} more"] if len(parts) > SHOWN_NUMBERS else []
    return ", ".join(parts[:SHOWN_NUMBERS] + more)


def kind_of(value: Any) -> str:
    """What a value is, with its article: "a list", "a tensor of float32"."""
    if isinstance(value, Tensor):
        where = "" if value.device.type == "cpu" else f" on {value.device.type}"
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}{where}"
    if isinstance(value, BaseException):
        return f"{type(value).__name__} as a value: an error is raised, not returned"
    return KINDS.get(type(value), f"a {type(value).__name__}")


def what_differs(found: Difference) -> str:
    """The sentence that names the kind of difference."""
    where = f" at {found.place}" if found.place else ""
    if found.kind == "type":
        return f"your function returns the wrong type{where}: {kind_of(found.got)}, not {kind_of(found.expected)}"
    if found.kind == "length":
        return f"your function returns the wrong number of entries{where}: {len(found.got)}, not {len(found.expected)}"
    if found.kind == "keys":
        missing, more = set(found.expected) - set(found.got), set(found.got) - set(found.expected)
        parts = [f"{word}: {', '.join(sorted(map(str, keys)))}"
                 for word, keys in (("missing", missing), ("not asked for", more)) if keys]  # fmt: skip
        return f"your function returns other keys{where} ({'; '.join(parts)})"
    if found.kind == "shape":
        shapes = [tuple(np.shape(side)) for side in (found.got, found.expected)]
        return f"your function returns the wrong shape{where}: {shapes[0]}, not {shapes[1] or 'a single number'}"
    if found.kind == "dtype":
        return _wrong_dtype(found, where)
    return "not the right value yet"


def _wrong_dtype(found: Difference, where: str) -> str:
    got, expected = (str(side.dtype).removeprefix("torch.") for side in (found.got, found.expected))
    why = ": something on the way changed the precision" if "float" in got and "float" in expected else ""
    return f"the value is correct{where}, but its dtype is {got} instead of {expected}{why}"


def both_sides(expected: Any, got: Any, found: Difference) -> str:
    """Lines that show what was expected and what came; of long ones the first entry that differs, and its place."""
    sides = [describe(expected), describe(got)]
    entry = sides if not found.place else list(_apart(found.expected, found.got))
    if sides[0] == sides[1]:
        at = f"at {found.place}: " if found.place else ""
        sides = [f"{at}{text}" for text in _apart(found.expected, found.got)]
        entry = sides
    lines = [f"  expected  {sides[0]}", f"  got       {sides[1]}"]
    if entry != sides:
        lines.append(f"  first at {found.place}: expected {entry[0]}, got {entry[1]}")
    return "\n".join(lines)


def _apart(expected: Any, got: Any) -> tuple[str, str]:
    """Two values so that they read differently: with as many digits as that takes, or their types."""
    for digits in range(4, 18):
        sides = describe(single(expected), digits), describe(single(got), digits)
        if sides[0] != sides[1]:
            return sides
    return f"{sides[0]} ({kind_of(expected)})", f"{sides[1]} ({kind_of(got)})"
