"""Whether two results are the same, in what they differ, and how a result is shown: short, alike on every machine."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SHOWN_NUMBERS = 12


def difference(expected: Any, got: Any, *, relative: float, absolute: float) -> str | None:
    """The first of "type", "shape", "dtype" and "value" in which ``got`` differs from ``expected``, or None."""
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping):
            return "type"
        if set(expected) != set(got):
            return "value"
        return _first([(expected[key], got[key]) for key in expected], relative, absolute)
    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list):
            return "type"
        return (
            "shape" if len(expected) != len(got) else _first(list(zip(expected, got, strict=True)), relative, absolute)
        )
    if isinstance(expected, Tensor):
        return _tensor_difference(expected, got, relative, absolute)
    if isinstance(expected, np.ndarray):
        return (
            "type"
            if not isinstance(got, np.ndarray)
            else _first([(expected.tolist(), got.tolist())], relative, absolute)
        )
    if expected is None:
        return None if got is None else "value" if isinstance(got, int | float) else "type"
    if isinstance(expected, bool | str):
        found = _plain(got)
        return "type" if type(expected) is not type(found) else None if expected == found else "value"
    return _number_difference(expected, got, relative, absolute)


def _first(pairs: Sequence[tuple[Any, Any]], relative: float, absolute: float) -> str | None:
    found = [difference(one, other, relative=relative, absolute=absolute) for one, other in pairs]
    return next((fault for fault in ("type", "shape", "dtype", "value") if fault in found), None)


def _tensor_difference(expected: Tensor, got: Any, relative: float, absolute: float) -> str | None:
    if not isinstance(got, Tensor):
        return "type"
    if expected.shape != got.shape:
        return "shape"
    wide = [tensor.detach().to(torch.float64) for tensor in (expected, got)]
    if not torch.allclose(wide[1], wide[0], rtol=relative, atol=absolute, equal_nan=True):
        return "value"
    return None if expected.dtype == got.dtype else "dtype"


def _number_difference(expected: float, got: Any, relative: float, absolute: float) -> str | None:
    got = _plain(got)
    if isinstance(got, Tensor | np.ndarray):
        return "shape"
    if isinstance(got, bool) or not isinstance(got, int | float):
        return "type"
    if math.isnan(expected) or math.isnan(got):
        return None if math.isnan(expected) and math.isnan(got) else "value"
    return None if math.isclose(expected, got, rel_tol=relative, abs_tol=absolute) else "value"


def _plain(value: Any) -> Any:
    """A single number out of PyTorch or NumPy as Python's own; anything else unchanged."""
    single = isinstance(value, np.generic) or (isinstance(value, Tensor | np.ndarray) and value.ndim == 0)
    return value.item() if single else value


def same(one: Any, other: Any, *, relative: float, absolute: float) -> bool:
    """Equal but for the dtype."""
    return difference(one, other, relative=relative, absolute=absolute) in (None, "dtype")


def snapshot(value: Any) -> Any:
    """A copy that later changes cannot reach; networks are left out."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple | list):
        return [snapshot(part) for part in value]
    if isinstance(value, Mapping):
        return {key: snapshot(part) for key, part in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else None if isinstance(value, nn.Module) else value


def describe(value: Any) -> str:
    """A value in a line, at four digits, with shape and dtype where it has them."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{numbers(value)} (shape {tuple(value.shape)}, {kind})" if value.ndim else f"{numbers(value)} ({kind})"
    return numbers(value)


def numbers(value: Any) -> str:
    """A value's numbers alone, at four digits, the rest of a long one cut."""
    if isinstance(value, Tensor | np.ndarray):
        if value.size > SHOWN_NUMBERS if isinstance(value, np.ndarray) else value.numel() > SHOWN_NUMBERS:
            return f"numbers in the shape {tuple(value.shape)}"
        return numbers(value.tolist())
    if isinstance(value, float):
        return "0" if abs(value) < 1e-12 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + _cut([f"{key}: {numbers(part)}" for key, part in value.items()]) + "}"
    if isinstance(value, tuple | list):
        return "[" + _cut([numbers(part) for part in value]) + "]"
    if value is None or isinstance(value, bool | int):
        return str(value)
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


def _cut(parts: list[str]) -> str:
    more = [f"… {len(parts) - SHOWN_NUMBERS} more"] if len(parts) > SHOWN_NUMBERS else []
    return ", ".join(parts[:SHOWN_NUMBERS] + more)


def size(value: Any) -> int:
    """How many numbers a reader would have to look at."""
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, Mapping):
        return sum(size(part) for part in value.values())
    return sum(size(part) for part in value) if isinstance(value, tuple | list) else 1
