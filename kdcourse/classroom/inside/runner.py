"""The child: defines one answer, calls it as often as it is told to, and sends back plain data."""

import ast
import io
import linecache
import os
import pickle
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..._base.neutral import draw_anew, neutral
from . import frames
from .encoding import Encoder, objects
from .watching import watch

KEPT = 4_000
"""characters of what an answer prints that are kept"""


class Prints(io.TextIOBase):
    """Keeps the beginning of what is written, and counts the lines of the rest."""

    def __init__(self) -> None:
        self.kept, self.lines = "", 0

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        self.kept += text[: max(0, KEPT - len(self.kept))]
        return len(text)

    def isatty(self) -> bool:
        return False


class Loader(pickle.Unpickler):
    """Reads the judge's arguments; the classes of the exercises are those that came with the case."""

    given: dict[str, Any]

    def find_class(self, module: str, name: str) -> Any:
        return self.given[name] if module.startswith("kdcourse.exercises") else super().find_class(module, name)


class Runner:
    """One answer and what is asked of it."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.space: dict[str, Any] = {"__name__": "__main__"}
        self.given: dict[str, Any] = {"__name__": "given"}
        self.modules: list[nn.Module] = []
        self.results: list[Tensor] = []
        self.known: list[Any] = []
        self.called: list[str] = []
        self.prints = Prints()

    def define(self, asked: dict[str, Any]) -> None:
        """Run the statements of the answer, each by itself; tell what failed, and what has the asked-for name."""
        exec(asked["given"], self.given)
        trees = []
        for label, source, _ in asked["cells"]:
            linecache.cache[label] = (len(source), None, source.splitlines(keepends=True), label)
            trees.append(ast.parse(source, label))
        failed = self._run_all(asked, trees, [(cell, place) for cell, place in asked["order"]])
        if failed:  # something stands behind what needs it
            failed = self._run_all(asked, trees, [(cell, place) for cell, place, *_ in failed])
        value = self.space.get(asked["name"])
        found = asked["name"] in self.space
        self._reply({"found": found, "callable": callable(value), "type": type(value).__name__, "failed": failed})

    def _run_all(self, asked: dict[str, Any], trees: list[ast.Module], order: list[tuple[int, int]]) -> list[list[Any]]:
        failed = []
        for cell, place in order:
            label, _, flags = asked["cells"][cell]
            program = ast.Module([trees[cell].body[place]], [])
            _, error = self._caught(partial(self._run, program, label, flags))
            if error is not None:
                failed.append([cell, place, *(described(error) or [])])
        return failed

    def _run(self, program: ast.Module, label: str, flags: int) -> None:
        exec(compile(program, label, "exec", flags, True), self.space)

    def call(self, asked: dict[str, Any], body: bytes) -> None:
        """One call, on leaves that ask for a gradient where one is compared."""
        loader = Loader(io.BytesIO(body))
        loader.given = self.given
        arguments, keywords = loader.load()
        known = list(objects([arguments, keywords]))[1:]
        for tensor, log in asked["logs"]:
            known[tensor].register_hook(known[log].append)
        leaves, numbers = [], {id(value): number for number, value in enumerate(known)}
        for place in asked["gradients"]:
            number = numbers[id(arguments[place])]  # of both, where a case gives one tensor twice
            leaves.append(arguments[place].detach().clone().requires_grad_())
            arguments[place] = known[number] = leaves[-1].clone()
        self.prints.kept, self.prints.lines = "", 0
        function = self.space[asked["name"]]
        value, error = self._caught(lambda: function(*arguments, **keywords), seed=asked["seed"])
        gradients: Any = []
        with torch._C.DisableTorchFunctionSubclass():  # a tensor of a class of the answer's own is read as what it is
            graph = isinstance(value, Tensor) and value.requires_grad
            if error is None and leaves and graph:
                gradients, error = self._caught(lambda: gradient(value, leaves))
            encoder = Encoder(known, self.given)
            try:
                told = encoder.message(value=value if error is None else None, gradients=gradients)
            except Exception as failed:
                encoder = Encoder(known, self.given)
                told, error = encoder.message(value=None, gradients=[]), error or failed
        self.modules, self.results, self.known = encoder.modules, encoder.results, known
        self._reply(told | {"error": described(error), "graph": graph}, bytes(encoder.body))

    def slopes(self, asked: dict[str, Any], body: bytes) -> None:
        """The gradients of a result of the last call, with these weights, by the known tensors that take one."""
        weights = pickle.loads(body)
        takes = [isinstance(value, Tensor) and value.is_leaf and value.requires_grad for value in self.known]
        leaves = [value for value, taken in zip(self.known, takes, strict=True) if taken]
        result = self.results[asked["slopes"]]
        found, error = self._caught(
            lambda: torch.autograd.grad(result, leaves, weights, retain_graph=True, allow_unused=True)
        )
        each = iter(found or [None] * len(leaves))
        encoder = Encoder([], self.given)
        told = encoder.message(value=[next(each) if taken else None for taken in takes])
        self._reply(told | {"error": described(error)}, bytes(encoder.body))

    def probe(self, asked: dict[str, Any], body: bytes) -> None:
        """What a network of the answer's own makes of these inputs, with this state and these modes."""
        loader = Loader(io.BytesIO(body))
        loader.given = self.given
        inputs, state, modes = loader.load()
        network = self.modules[asked["probe"]]

        def forward() -> Any:
            network.load_state_dict(state, strict=False, assign=True)
            for name, part in network.named_modules():
                part.training = modes.get(name, part.training)
            with torch.no_grad():
                return network(*inputs)

        value, error = self._caught(forward)
        encoder = Encoder([], self.given)
        told = encoder.message(value=value, buffers=dict(network.named_buffers()))
        self._reply(told | {"error": described(error)}, bytes(encoder.body))

    def _caught(self, call: Callable[[], Any], seed: int = 0) -> tuple[Any, BaseException | None]:
        """What a call returns or raises, in PyTorch's ordinary modes, its words kept."""
        with redirect_stdout(self.prints), redirect_stderr(self.prints):
            try:
                with neutral():
                    warnings.showwarning = show_warning
                    draw_anew(seed)
                    return call(), None
            except BaseException as error:
                return None, error

    def _reply(self, header: dict[str, Any], body: bytes = b"") -> None:
        called = self.called + getattr(sys.modules.get("kdcourse._forbidden"), "called", [])
        words = {"printed": self.prints.kept, "lines": self.prints.lines, "called": called[:1]}
        frames.send(self.link, header | words, body)


def show_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"{category.__name__}: {message}", file=sys.stderr)


def gradient(value: Tensor, leaves: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Of the sum of the entries, each with a weight of its own: the same weights as the exercises' engine takes."""
    weights = torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
    return torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True)


def described(error: BaseException | None) -> list[Any] | None:
    """Name, message, whether it is a ``ValueError``, and the line of the answer that it passed last."""
    if error is None:
        return None
    try:
        message = str(error)[:400]
    except Exception:
        message = ""
    frames_ = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith("<answer")]
    line = frames_[-1].lineno if frames_ else None
    source = linecache.getline(frames_[-1].filename, line).strip() if line else ""
    return [type(error).__name__, message, isinstance(error, ValueError), line, source[:200]]


def main(link: socket.socket) -> None:
    """Answer the judge until it has no more questions."""
    asked, _ = frames.receive(link, most=2**30)
    runner = Runner(link)
    watch(asked["forbidden"], runner.called, lambda what: frames.send(link, {"reached": what}))
    runner.define(asked)
    while True:
        try:
            asked, body = frames.receive(link, most=2**30)
        except frames.Closed:
            os._exit(0)
        if "probe" in asked:
            runner.probe(asked, body)
        elif "slopes" in asked:
            runner.slopes(asked, body)
        else:
            runner.call(asked, body)
