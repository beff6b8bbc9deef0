"""Values as plain data: numbers, tensors, networks by their parts; whatever else there is, by the name of its type.

A message holds ``nodes``, each a list that begins with its kind; inside them ``[7]`` stands for the node 7, and any
other value for itself. Objects that came with the arguments keep their numbers from `objects`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PARTS = ("_parameters", "_buffers", "_modules")
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
BOOKKEEPING = set(vars(nn.Module())) - {"training"}
MOST_BYTES, MOST_NODES = 64 * 2**20, 200_000


class TooMuch(Exception):
    """A result is larger than is sent."""


def objects(root: Any) -> Iterator[Any]:
    """Every tensor, array, list and network of the arguments of a call, in an order that both sides share."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        if isinstance(value, Tensor | np.ndarray | list | dict | nn.Module):
            seen.add(id(value))
            yield value
        waiting += reversed(_inside(value))


def _inside(value: Any) -> list[Any]:
    if isinstance(value, nn.Module):
        return [part for name, part in vars(value).items() if name in PARTS or name not in BOOKKEEPING]
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


class Encoder:
    """Turns values into nodes; ``known`` numbers the objects of the arguments, ``given`` names the case's classes."""

    def __init__(self, known: list[Any], given: dict[str, Any]) -> None:
        self.nodes: list[Any] = []
        self.body = bytearray()
        self.modules: list[nn.Module] = []
        self.results: list[Tensor] = []
        self._given = {id(value): name for name, value in given.items()}
        self._known = {id(value): number for number, value in enumerate(known)}
        self._places: dict[int, int] = {}
        self._memories: dict[Any, int] = {}
        self._kept: list[Any] = list(known)  # an id is its object's as long as that lives

    def message(self, **values: Any) -> dict[str, Any]:
        """The values, and what has become of the known objects."""
        shown = {name: self.value(value) for name, value in values.items()}
        known = list(self._known)
        after = [self._content(value) for value in self._kept[: len(known)]]
        return {**shown, "known": after, "nodes": self.nodes}

    def value(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int or kind is float:
            return value if kind is float or abs(value) < 2**63 else ["int", hex(value)]
        if id(value) in self._known:
            return ["known", self._known[id(value)]]
        if id(value) not in self._places:
            self._kept.append(value)
            place = self._places[id(value)] = len(self.nodes)
            if place >= MOST_NODES:
                raise TooMuch
            self.nodes.append(None)
            self.nodes[place] = self._content(value)
        return [self._places[id(value)]]

    def _content(self, value: Any) -> list[Any]:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value)
        name = self._given.get(id(type(value)))
        if isinstance(value, nn.Module):
            return self._module(value, name)
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return [kind, name, [self.value(part) for part in value]]
        if isinstance(value, Mapping):
            return ["dict", [[self.value(key), self.value(part)] for key, part in value.items()]]
        if isinstance(value, torch.optim.Optimizer):
            return self._optimizer(value)
        if isinstance(value, bool | int | float | str):  # a class of the answer's own
            plain = next(kind for kind in (bool, int, float, str) if isinstance(value, kind))
            return ["plain", self.value(plain(value))]
        if value is ...:
            return ["ellipsis"]
        return ["other", type(value).__name__, isinstance(value, BaseException), callable(value)]

    def _tensor(self, value: Tensor) -> list[Any]:
        flags: dict[str, Any] = {"parameter": isinstance(value, nn.Parameter), "leaf": value.is_leaf,
                                 "requires_grad": value.requires_grad}  # fmt: skip
        if value.is_leaf and value.grad is not None:
            flags["grad"] = self.value(value.grad)
        if value.requires_grad and not value.is_leaf and not flags["parameter"]:
            flags["history"] = len(self.results)  # its gradient is asked for by this number
            self.results.append(value)
        plain = torch.Tensor.detach(value).as_subclass(Tensor)
        dtype, shape = str(plain.dtype).removeprefix("torch."), list(plain.shape)
        if plain.is_meta:
            return ["meta", dtype, shape]
        if plain.layout is not torch.strided or plain.is_quantized:
            return ["other", "Tensor that is not strided", False, False]
        if plain.numel():  # whose memory is the same has the same number
            memory = plain.data_ptr(), dtype, *shape, *plain.stride(), plain.is_conj(), plain.is_neg()
            flags["memory"] = self._memories.setdefault(memory, len(self._memories))
        self._room_for(plain.numel() * plain.element_size())
        dense = plain.cpu().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
        start = len(self.body)
        self.body += dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""
        return ["tensor", dtype, shape, start, flags]

    def _array(self, value: np.ndarray[Any, Any] | np.generic) -> list[Any]:
        plain = np.asarray(value)
        if plain.dtype.kind not in "biufc":
            return ["other", type(value).__name__, False, False]
        self._room_for(plain.nbytes)
        start = len(self.body)
        self.body += np.ascontiguousarray(plain).tobytes()
        kind = "array" if isinstance(value, np.ndarray) else "number"
        return [kind, plain.dtype.newbyteorder("=").str, list(plain.shape), start]

    def _room_for(self, count: int) -> None:
        if len(self.body) + count > MOST_BYTES:
            raise TooMuch

    def _module(self, value: nn.Module, given: str | None) -> list[Any]:
        parts = {name: [[key, self.value(part)] for key, part in vars(value).get(name, {}).items()] for name in PARTS}
        own = {key: self.value(part) for key, part in vars(value).items() if key not in BOOKKEEPING}
        self.modules.append(value)
        hooks = [list(vars(value).get(name, {}).values()) for name in HOOKS]
        altered = "forward" in own or any(id(hook) not in self._given for kind in hooks for hook in kind)
        kind = type(value)
        path = "" if altered else f"{kind.__module__}.{kind.__qualname__}"
        return ["module", given, path, parts, own, len(self.modules) - 1, kind.__name__, [len(each) for each in hooks]]

    def _optimizer(self, value: torch.optim.Optimizer) -> list[Any]:
        groups = [{key: self.value(part) for key, part in group.items()} for group in value.param_groups]
        return ["optimizer", type(value).__module__, type(value).__name__, groups]
