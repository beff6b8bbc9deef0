"""What is called before and after each module of a network, over all its calls."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from torch import fx, nn

from .._base.tracing import default_arguments, foreign_hooks, is_plain, trace

INSTEAD = "fold its parts one by one"
Neighbours = dict[nn.Module, set[nn.Module | None]]


class Calls:
    """For each module the modules called just ``before`` and ``after`` it; none of them: anything else.

    The order of a plain ``nn.Sequential`` is that of its layers; other modules are traced where one of a ``kind`` is
    inside.
    """

    def __init__(self, model: nn.Module, kind: type[nn.Module]) -> None:
        self.before: Neighbours = defaultdict(set)
        self.after: Neighbours = defaultdict(set)
        self.kind = kind
        self._note(model)
        for module in model.modules():  # also what is never called
            self._edge(None, module if module not in self.before else None)

    def join(self, layer: nn.Module, gone: nn.Module) -> None:
        """``gone`` becomes part of the ``layer`` before it."""
        self.after[layer] = self.after[gone]
        for module in self.after[gone] - {None}:
            assert module is not None
            self.before[module] = self.before[module] - {gone} | {layer}

    def _note(self, model: nn.Module) -> None:
        if is_plain(model, nn.Sequential):
            line = list(_line(model))
            for first, second in pairwise([None, *line, None]):
                self._edge(first, second)
            for module in line:
                self._note_inside(module)
            return
        self._note_graph(model, trace(model, instead=INSTEAD, defaults=True))
        if default_arguments(model):
            with contextlib.suppress(ValueError):  # the calls with other arguments
                self._note_graph(model, trace(model, instead=INSTEAD))

    def _note_graph(self, model: nn.Module, graph: fx.GraphModule) -> None:
        def called(node: Any) -> nn.Module | None:
            is_call = isinstance(node, fx.Node) and node.op == "call_module"
            return model.get_submodule(str(node.target)) if is_call else None

        for node in graph.graph.nodes:
            if node.op == "get_attr":  # a parameter that is read past its module
                self._edge(model.get_submodule(node.target.rpartition(".")[0]), None)
            module = called(node)
            if module is None:
                continue
            readers = {called(user) if user.args[:1] == (node,) else None for user in node.users}
            self.after[module] |= readers if len(node.users) == 1 else {None}
            self._edge(called(node.args[0]) if node.args else None, module)
            self._note_inside(module)

    def _note_inside(self, module: nn.Module | None) -> None:
        parts = [part for part in module.modules() if part is not module] if module is not None else []
        if module is not None and any(isinstance(part, self.kind) for part in parts):
            self._note(module)
            return
        for part in parts:  # runs unseen
            self._edge(None, part)
            self._edge(part, None)

    def _edge(self, first: nn.Module | None, second: nn.Module | None) -> None:
        if first is not None:
            self.after[first].add(second)
        if second is not None:
            self.before[second].add(first)


def plain_line(model: nn.Module) -> Iterator[nn.Module]:
    """The plain ``nn.Sequential`` that are ``model`` or lie in others, whose layers run in their order."""
    if is_plain(model, nn.Sequential):
        yield model
        for child in model._modules.values():
            if child is not None:
                yield from plain_line(child)


def _line(model: nn.Module) -> Iterator[nn.Module | None]:
    """The layers in their order; none where hooks on a container may come between."""
    for child in model._modules.values():
        if child is not None and is_plain(child, nn.Sequential):
            between = [None] if foreign_hooks(child) else []
            yield from (*between, *_line(child), *between)
        else:
            yield child
