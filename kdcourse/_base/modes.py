"""Modes of a model, switched and put back part by part, and how a model is called on a batch."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]
"""What a model is called on: one tensor, several inputs in their order, or inputs by name."""

_lock = Lock()
_held: dict[tuple[int, str], tuple[int, bool]] = {}
"""(id, attribute) of each object held: by how many blocks, and the value that it had before the first."""


def default_device() -> torch.device:
    """Where PyTorch makes a tensor if not told; its own function fails in 2.8 once the default has been put back."""
    return torch.empty(0).device


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in eval mode; afterwards every part is in the mode that it was in.

    Of several blocks around one model, nested or in several threads, the last to end puts the modes back.
    """
    with switched_off(model.modules(), "training"):
        yield


@contextmanager
def switched_off(parts: Iterable[object], attribute: str) -> Iterator[None]:
    """Inside the block ``attribute`` of every part is False; the last of several blocks restores it."""
    parts = list(parts)
    with _lock:
        # all are read before any is set: a wrapper may show the value of what it wraps
        values = [getattr(part, attribute) for part in parts]
        switched_on_inside = [part for part, now in zip(parts, values, strict=True) if _hold(part, attribute, now)]
    try:
        yield
    finally:
        with _lock:
            for part in parts:
                _release(part, attribute)
            for part in switched_on_inside:
                setattr(part, attribute, True)


def _hold(part: object, attribute: str, now: bool) -> bool:
    """Switch off; return whether it was on although another block holds it, because somebody has set it inside."""
    blocks, before = _held.get((id(part), attribute), (0, now))
    _held[id(part), attribute] = (blocks + 1, before)
    setattr(part, attribute, False)
    return now and blocks > 0


def _release(part: object, attribute: str) -> None:
    blocks, before = _held.pop((id(part), attribute))
    if blocks > 1:
        _held[id(part), attribute] = (blocks - 1, before)
    else:
        setattr(part, attribute, before)


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """Inside the block attention runs its layers one by one: in eval mode PyTorch computes it in one operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Run ``model`` on one batch."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if type(inputs) in (tuple, list) else model(inputs)  # a PackedSequence is a named tuple
