"""The judge's own arguments after a call, as the answer says that it left them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .inside.encoding import HOOKS
from .receiving import Damaged, Decoder, give_history, set_gradient

MOST_HOOKS = 1000
PLAIN = bool | int | float | str | None


def renew(decoder: Decoder, sent: list[Any], arguments: list[Any], keywords: Mapping[str, Any], logs: set[int]) -> None:
    """Bring the known objects to the state that was sent.

    What a case knows of its networks (how they began, what they were given) stays: of a network only parameters,
    buffers, parts, modes, plain settings and the number of hooks are renewed, and the lists that the case has it
    write into.
    """
    if len(sent) != len(decoder.known):
        raise Damaged("not the objects that were sent")
    plain = _outside_networks([arguments, dict(keywords)])
    inside = {id(tensor) for value in decoder.known if isinstance(value, nn.Module)
              for tensor in (*value._parameters.values(), *value._buffers.values())}  # fmt: skip
    for number, (own, node) in enumerate(zip(decoder.known, sent, strict=True)):
        log = number in logs or type(own) not in (list, dict)
        if isinstance(own, nn.Module):
            _renew_network(decoder, own, node)
        elif isinstance(own, Tensor) and (id(own) in plain or id(own) in inside):
            _renew_tensor(decoder, own, node)
        elif isinstance(own, np.ndarray) and id(own) in plain:
            _renew_array(own, decoder.content(node))
        elif isinstance(own, list) and (log or id(own) in plain) and own is not arguments:
            own[:] = decoder.content(node)
        elif isinstance(own, dict) and id(own) in plain and own is not keywords:
            new = decoder.content(node)
            own.clear()
            own.update(new)


def _outside_networks(root: Any) -> set[int]:
    found, waiting = set(), [root]
    while waiting:
        value = waiting.pop()
        found.add(id(value))
        if isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, Mapping):
            waiting += value.values()
    return found


def _renew_network(decoder: Decoder, own: nn.Module, node: Any) -> None:
    if node[0] != "module":
        raise Damaged("a network that is none")
    _, _, _, parts, settings, _, _, hooks = node
    decoder.fill(own, parts)
    for holder, count in zip(HOOKS, hooks, strict=True):
        _renew_hooks(vars(own)[holder], count)
    for name, sent in settings.items():
        old = vars(own).get(name)
        acts = name.startswith("__") or callable(getattr(type(own), name, None))
        if not acts and isinstance(sent, PLAIN) and isinstance(old, PLAIN):
            vars(own)[name] = sent


def _renew_hooks(own: dict[int, Any], count: Any) -> None:
    """As many as the answer left: one of its own is a stand-in that does nothing."""
    if type(count) is not int or not 0 <= count <= MOST_HOOKS:
        raise Damaged("more hooks than can be")
    while len(own) > count:
        own.popitem()
    while len(own) < count:
        own[RemovableHandle(own).id] = lambda *_: None


def _renew_tensor(decoder: Decoder, own: Tensor, node: Any) -> None:
    new = decoder.content(node)
    if not isinstance(new, Tensor) or new.is_meta:
        raise Damaged("a tensor that is none")
    flags = node[4]
    own.data = new.detach()
    if isinstance(own, nn.Parameter) and isinstance(new, nn.Parameter) and not new.is_leaf:
        give_history(own)
    elif flags["leaf"] and own.is_leaf and own.requires_grad != bool(flags["requires_grad"]):
        own.requires_grad_(bool(flags["requires_grad"]))
    if own.is_leaf:
        set_gradient(own, new.grad if new.is_leaf else None)


def _renew_array(own: "np.ndarray[Any, Any]", new: Any) -> None:
    if not isinstance(new, np.ndarray) or new.shape != own.shape or new.dtype != own.dtype:
        raise Damaged("an array that is none")
    own[...] = new
