"""What an answer sends back, rebuilt from plain data. Nothing of it is believed: what cannot be is `Damaged`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .inside.encoding import PARTS

Ask = Callable[[int, tuple[Any, ...], dict[str, Tensor], dict[str, bool]], tuple[Any, dict[str, Tensor]]]
"""what a network of the answer's own makes of inputs: by its number, inputs, state and modes; its value and buffers"""

Slopes = Callable[[int, Tensor], list[Any]]
"""the gradients of a result, by its number and with the weights of its entries, to each known object"""

REBUILT: dict[str, type[nn.Module]] = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm1d,
                 nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Softmax,
                 nn.LogSoftmax, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Identity, nn.MaxPool2d, nn.AvgPool2d)
}  # fmt: skip
"""networks that are rebuilt here; any other is asked where it lives"""
OPTIMIZERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad,
              torch.optim.Adadelta, torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam)  # fmt: skip
DEEPEST = 60
"""values within values"""
LARGEST = 4096
"""of the integers in a network's description: padding and the like, which cost memory"""
DTYPES = {str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


class Damaged(Exception):
    """What came back cannot be what the child's own program sends."""


class Elsewhere(nn.Module):
    """A network of a class that only the answer knows: it runs there."""

    def __init__(self, number: int, ask: Ask) -> None:
        super().__init__()
        self.number, self.ask = number, ask

    def __deepcopy__(self, memo: dict[int, Any]) -> "Elsewhere":
        from copy import deepcopy

        copy = type(self)(self.number, self.ask)
        memo[id(self)] = copy
        for name, value in vars(self).items():
            if name not in ("number", "ask"):
                copy.__dict__[name] = deepcopy(value, memo)
        return copy

    def forward(self, *inputs: Any) -> Any:
        modes = {name: part.training for name, part in self.named_modules()}
        state = {name: value.detach().clone() for name, value in (*self.named_parameters(), *self.named_buffers())}
        value, buffers = self.ask(self.number, inputs, state, modes)
        for name, buffer in self.named_buffers():
            if name in buffers and buffers[name].shape == buffer.shape:
                buffer.data = buffers[name].to(buffer.dtype)
        return value


class _Traced(torch.autograd.Function):
    """A result whose graph lives with the answer: its gradient to the leaves among the known objects is asked for."""

    @staticmethod
    def forward(ctx: Any, slopes: Callable[[Tensor], list[Any]], plain: Tensor, *leaves: Tensor) -> Tensor:
        ctx.slopes, ctx.shapes = slopes, [(leaf.shape, leaf.dtype) for leaf in leaves]
        return plain.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.slopes(weights)
        for slope, (shape, dtype) in zip(found, ctx.shapes, strict=True):
            if slope is not None and not (isinstance(slope, Tensor) and (slope.shape, slope.dtype) == (shape, dtype)):
                raise Damaged("a gradient that is none")
        return None, None, *found


class Decoder:
    """Reads one message; ``known`` are the judge's own arguments, ``given`` the exercise's own classes."""

    def __init__(
        self, told: Mapping[str, Any], body: bytes, known: list[Any], given: Mapping[str, Any], ask: Ask,
        slopes: Slopes | None = None,
    ) -> None:  # fmt: skip
        self.nodes, self.body, self.known, self.given, self.ask = told["nodes"], body, known, given, ask
        self.slopes = slopes
        self.made: dict[int, Any] = {}
        self.memories: dict[int, Tensor] = {}
        self.depth = 0

    def value(self, sent: Any) -> Any:
        if sent is None or isinstance(sent, bool | int | float | str):
            return sent
        if len(sent) == 1:
            return self._node(sent[0])
        if sent[0] == "known":
            return self.known[_index(sent[1], len(self.known))]
        if sent[0] == "int" and len(sent[1]) < 4_000:
            return int(sent[1], 16)
        raise Damaged("a value of no kind")

    def _node(self, place: Any) -> Any:
        place = _index(place, len(self.nodes))
        if place not in self.made:
            self.made[place] = Damaged  # until it is whole: what refers to itself is refused, but for networks
            self.depth += 1
            if self.depth > DEEPEST:
                raise Damaged("a value too deep to be read")
            self.made[place] = self.content(self.nodes[place], place)
            self.depth -= 1
        if self.made[place] is Damaged:
            raise Damaged("a value inside itself")
        return self.made[place]

    def content(self, node: Any, place: int | None = None) -> Any:
        kind, *rest = node
        readers: dict[str, Callable[..., Any]] = {
            "list": self._list, "tuple": self._tuple, "dict": self._dict, "tensor": self._tensor, "meta": self._meta,
            "array": self._array, "number": self._number, "module": self._module, "optimizer": self._optimizer,
            "other": other}  # fmt: skip
        if kind == "plain":
            return self.value(rest[0])
        if kind == "ellipsis":
            return ...
        if kind not in readers:
            raise Damaged("a value of no kind")
        return readers[kind](*rest, place) if kind in ("list", "module") else readers[kind](*rest)

    def _list(self, name: str | None, parts: list[Any], place: int | None) -> Any:
        made = self._given(name, list)() if name else []
        if place is not None and name:
            self.made[place] = made
        made.extend(self.value(part) for part in parts)
        return made

    def _tuple(self, name: str | None, parts: list[Any]) -> Any:
        values = tuple(self.value(part) for part in parts)
        return self._given(name, tuple)(*values) if name else values

    def _given(self, name: str, base: type) -> Any:
        kind = self.given.get(name)
        if not (isinstance(kind, type) and issubclass(kind, base)):
            raise Damaged("a class that was not given")
        return kind

    def _dict(self, pairs: list[Any]) -> dict[Any, Any]:
        return {self._key(key): self.value(part) for key, part in pairs}

    def _key(self, sent: Any) -> Any:
        key = self.value(sent)
        try:
            hash(key)
        except TypeError:
            raise Damaged("a key that cannot be one") from None
        return key

    def _bytes(self, start: Any, shape: Any, width: int) -> bytes:
        count = width
        for side in shape:
            count *= _index(side, 2**40)
        begin = _index(start, len(self.body) + 1)
        if begin + count > len(self.body):
            raise Damaged("fewer bytes than were told")
        return self.body[begin : begin + count]

    def _tensor(self, dtype: str, shape: list[int], start: int, flags: dict[str, Any]) -> Tensor:
        kind = DTYPES[dtype]
        stored = self._bytes(start, shape, torch.empty(0, dtype=kind).element_size())
        plain = torch.frombuffer(bytearray(stored), dtype=kind) if stored else torch.empty(0, dtype=kind)
        plain = plain.reshape(shape)
        same = self.memories.setdefault(flags["memory"], plain) if "memory" in flags else plain
        if same.dtype == kind and same.shape == plain.shape:
            plain = same.detach()
        if flags.get("parameter"):
            wants = bool(flags["requires_grad"]) and (plain.is_floating_point() or plain.is_complex())
            plain = nn.Parameter(plain, requires_grad=wants)
            if wants and not flags["leaf"]:
                give_history(plain)
        elif flags.get("requires_grad") and flags.get("leaf"):
            plain.requires_grad_()
        elif flags.get("history") is not None and self.slopes:
            return self._traced(plain, _index(flags["history"], 10**6), self.slopes)
        if flags.get("grad") is not None:
            set_gradient(plain, self.value(flags["grad"]))
        return plain

    def _traced(self, plain: Tensor, number: int, slopes: Slopes) -> Tensor:
        takes = [n for n, own in enumerate(self.known) if isinstance(own, Tensor) and own.is_leaf and own.requires_grad]

        def asked(weights: Tensor) -> list[Any]:
            found = slopes(number, weights)
            return [found[n] for n in takes]

        traced: Tensor = _Traced.apply(asked, plain, *(self.known[n] for n in takes))
        return traced

    def _meta(self, dtype: str, shape: list[int]) -> Tensor:
        return torch.empty([_index(side, 2**31) for side in shape], dtype=DTYPES[dtype], device="meta")

    def _array(self, dtype: str, shape: list[int], start: int) -> Any:
        kind = np.dtype(dtype)
        if kind.kind not in "biufc":
            raise Damaged("an array of no numbers")
        return np.frombuffer(bytearray(self._bytes(start, shape, kind.itemsize)), kind).reshape(shape)

    def _number(self, dtype: str, shape: list[int], start: int) -> Any:
        return self._array(dtype, [], start)[()]

    def _module(
        self,
        given: str | None,
        path: str,
        parts: dict[str, Any],
        own: dict[str, Any],
        number: int,
        name: str,
        hooks: Any,
        place: int | None,
    ) -> nn.Module:
        kind = self._given(given, nn.Module) if given and path else REBUILT.get(path)
        plain = {key: self.value(sent) for key, sent in own.items() if _may_stand_in_a_network(key, sent)}
        if kind is None or _costly(plain):
            made: nn.Module = type(identifier(name), (Elsewhere,), {})(_index(number, 10**6), self.ask)
            plain = {"training": bool(plain.get("training"))}
        else:
            made = kind.__new__(kind)
            nn.Module.__init__(made)
        if place is not None:
            self.made[place] = made
        made.__dict__.update(plain)
        self.fill(made, parts)
        return made

    def fill(self, network: nn.Module, parts: dict[str, Any]) -> None:
        """Give a network the parameters, buffers and parts that were sent."""
        kinds = dict(zip(PARTS, (nn.Parameter, Tensor, nn.Module), strict=True))
        for holder, kind in kinds.items():
            values = {str(key): self.value(sent) for key, sent in parts[holder]}
            if any(not (value is None or isinstance(value, kind)) for value in values.values()):
                raise Damaged("a network with parts of another kind")
            vars(network)[holder].clear()
            vars(network)[holder].update(values)

    def _optimizer(self, module: str, name: str, groups: list[dict[str, Any]]) -> Any:
        kind = next((kind for kind in OPTIMIZERS if (kind.__module__, kind.__name__) == (module, name)), None)
        decoded = [{str(key): self.value(part) for key, part in group.items()} for group in groups]
        if kind is None or not all(isinstance(value, Tensor) for group in decoded for value in group["params"]):
            return other(name, False, False)
        try:
            return kind(decoded)
        except (TypeError, ValueError):
            return other(name, False, False)


def _index(value: Any, end: int) -> int:
    if type(value) is not int or not 0 <= value < end:
        raise Damaged("a number out of range")
    return value


def _may_stand_in_a_network(key: str, sent: Any) -> bool:
    """Its own attributes, but for what would act: names of methods stay the class's."""
    return not key.startswith("__") and not callable(getattr(nn.Module, key, None)) and key != "forward"


def _costly(plain: Mapping[str, Any]) -> bool:
    numbers = [value for value in plain.values() if isinstance(value, int) and not isinstance(value, bool)]
    numbers += [part for value in plain.values() if isinstance(value, tuple) for part in value if isinstance(part, int)]
    return any(abs(number) > LARGEST for number in numbers)


def identifier(name: Any) -> str:
    """A type's name as a name, whatever was sent."""
    return name if isinstance(name, str) and name.isidentifier() and len(name) <= 60 else "Something"


def other(name: str, raised: bool, called: bool) -> Any:
    """A stand-in for what is not sent: of a type with the same name."""
    base = Exception if raised else object
    members = {"__call__": lambda self, *_, **__: None} if called and not raised else {}
    return type(identifier(name), (base,), members)()


def give_history(tensor: Tensor) -> None:
    """Let a tensor depend on another that takes gradients, its values as they are."""
    tensor.requires_grad_(False).mul_(torch.ones((), dtype=tensor.dtype, requires_grad=True))


def set_gradient(tensor: Tensor, gradient: Any) -> None:
    fits = isinstance(gradient, Tensor) and gradient.shape == tensor.shape and gradient.dtype == tensor.dtype
    tensor.grad = gradient.detach() if fits else None
