"""Whether two results are the same, and in what, where and how they differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WORST_FIRST = ("type", "length", "keys", "shape", "value", "dtype")


@dataclass(frozen=True)
class Difference:
    """One entry in which two results differ: ``kind`` is one of `WORST_FIRST`, ``place`` reads like ``[1][0, 2]``."""

    kind: str
    expected: Any
    got: Any
    place: str = ""


def difference(expected: Any, got: Any, *, relative: float, absolute: float) -> Difference | None:
    """The first entry of ``got`` with the worst kind of difference from ``expected``, or None.

    Where a number is expected, Python's, NumPy's and PyTorch's own are all right; integers must be equal.
    """
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping):
            return Difference("type", expected, got)
        if set(expected) != set(got):
            return Difference("keys", expected, got)
        return _worst([(f"[{key!r}]", expected[key], got[key]) for key in expected], relative, absolute)
    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list):
            return Difference("type", expected, got)
        if len(expected) != len(got):
            return Difference("length", expected, got)
        pairs = zip(expected, got, strict=True)
        return _worst([(f"[{n}]", one, other) for n, (one, other) in enumerate(pairs)], relative, absolute)
    if isinstance(expected, Tensor | np.ndarray):
        return _array_difference(expected, got, relative, absolute)
    kind = _number_fault(expected, single(got), relative, absolute)
    return Difference(kind, expected, got) if kind else None


def _worst(entries: Sequence[tuple[str, Any, Any]], relative: float, absolute: float) -> Difference | None:
    found = []
    for place, one, other in entries:
        if inner := difference(one, other, relative=relative, absolute=absolute):
            found.append(replace(inner, place=place + inner.place))
    return min(found, key=lambda each: WORST_FIRST.index(each.kind), default=None)


def _array_difference(expected: Any, got: Any, relative: float, absolute: float) -> Difference | None:
    if not isinstance(got, type(expected)):
        if expected.ndim == 0 and isinstance(single(got), bool | int | float):
            return difference(expected.item(), got, relative=relative, absolute=absolute)
        return Difference("type", expected, got)
    if isinstance(got, Tensor) and got.device.type == "meta":  # no numbers in it
        return Difference("type", expected, got)
    if expected.shape != got.shape:
        return Difference("shape", expected, got)
    sides = [array if isinstance(array, Tensor) else torch.from_numpy(array) for array in (expected, got)]
    wide = [tensor.detach().cpu() for tensor in sides]
    exact = not any(tensor.is_floating_point() or tensor.is_complex() for tensor in wide)
    if exact:
        wrong = wide[0] != wide[1]
    else:
        complexes = any(tensor.is_complex() for tensor in wide)
        wide = [tensor.to(torch.complex128 if complexes else torch.float64) for tensor in wide]
        wrong = ~torch.isclose(wide[1], wide[0], rtol=relative, atol=absolute, equal_nan=True)
    if wrong.any():
        index = tuple(wrong.nonzero()[0].tolist())
        place = f"[{', '.join(map(str, index))}]" if index else ""
        return Difference("value", expected[index].item(), got[index].item(), place)
    return None if expected.dtype == got.dtype else Difference("dtype", expected, got)


def _number_fault(expected: Any, got: Any, relative: float, absolute: float) -> str | None:
    if expected is None:
        return None if got is None else "value" if isinstance(got, int | float) else "type"
    if isinstance(expected, bool | str):
        return "type" if type(expected) is not type(got) else None if expected == got else "value"
    if isinstance(got, Tensor | np.ndarray):
        return "shape"
    if isinstance(got, bool) or not isinstance(got, int | float) or not isinstance(expected, int | float):
        return "type"
    if math.isnan(expected) or math.isnan(got):
        return None if math.isnan(expected) and math.isnan(got) else "value"
    if isinstance(expected, int):
        return None if abs(expected - got) <= 1e-6 else "value"
    return None if math.isclose(expected, got, rel_tol=relative, abs_tol=absolute) else "value"


def single(value: Any) -> Any:
    """A single number out of PyTorch or NumPy as Python's own; anything else unchanged."""
    alone = isinstance(value, np.generic) or (isinstance(value, Tensor | np.ndarray) and value.ndim == 0)
    return value.item() if alone else value


def same(one: Any, other: Any, *, relative: float, absolute: float) -> bool:
    """Equal but for the dtype."""
    found = difference(one, other, relative=relative, absolute=absolute)
    return found is None or found.kind == "dtype"


def alike_in_kind(one: Any, other: Any) -> bool:
    """Whether two results are of the same kind, part by part, whatever is in them: both networks, both numbers."""
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(alike_in_kind, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(alike_in_kind(one[key], other[key]) for key in one)
    kinds = (nn.Module, torch.optim.Optimizer, Tensor, int | float, str)
    return any(isinstance(one, kind) and isinstance(other, kind) for kind in kinds) or type(one) is type(other)


def has_network(value: Any) -> bool:
    return any(isinstance(part, nn.Module) for part in (value if isinstance(value, tuple | list) else [value]))


def snapshot(value: Any) -> Any:
    """A copy that later changes cannot reach; networks are left out."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple | list):
        return [snapshot(part) for part in value]
    if isinstance(value, Mapping):
        return {key: snapshot(part) for key, part in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else None if isinstance(value, nn.Module) else value


def size(value: Any) -> int:
    """How many numbers a reader would have to look at."""
    if isinstance(value, Tensor | np.ndarray):
        return value.numel() if isinstance(value, Tensor) else value.size
    if isinstance(value, nn.Module):
        return sum(parameter.numel() for parameter in value.parameters())
    if isinstance(value, Mapping):
        return sum(size(part) for part in value.values())
    return sum(size(part) for part in value) if isinstance(value, tuple | list) else 1
