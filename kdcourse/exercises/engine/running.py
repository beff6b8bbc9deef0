"""Run a learner's function on a case: in limited time, its prints caught, its arguments watched, nothing raised."""

import ctypes
import importlib
import inspect
import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from ..._base.neutral import draw_anew, neutral
from .comparing import Difference, difference, snapshot
from .core import Answer, Case, Exercise

SHOWN_LINES, SHOWN_CHARACTERS = 8, 100


class OutOfTime(BaseException):
    """Not an Exception, so that a learner's ``except Exception`` does not swallow it."""


class Forbidden(Exception):
    """The answer called what it is to build."""


@dataclass
class Outcome:
    """What one call did."""

    value: Any = None
    observed: Any = None
    unusable: Exception | None = None
    """what was raised when the result was tried out"""
    gradients: tuple[Tensor | None, ...] = ()
    has_graph: bool = False
    error: BaseException | None = None
    changed: str = ""
    """name of an argument that is no longer what it was"""
    printed: str = ""


class Prints(io.TextIOBase):
    """Keeps the first lines that are written and only counts the others."""

    def __init__(self) -> None:
        self.kept, self.lines = "", 0

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        self.kept += text[: max(0, SHOWN_LINES * SHOWN_CHARACTERS - len(self.kept))]
        return len(text)

    def shown(self) -> str:
        """What to show of it, indented; empty if nothing was printed."""
        if not self.kept:
            return ""
        first = [f"  {line[:SHOWN_CHARACTERS]}" for line in self.kept.rstrip("\n").split("\n")[:SHOWN_LINES]]
        cut = [f"  … {self.lines - len(first):,} lines more, cut"] if self.lines > len(first) else []
        return "\n".join(["Your function printed:", *first, *cut])


@neutral()
def run(exercise: Exercise, function: Answer, case: Case, *, limit: float | None, seed: int = 0) -> Outcome:
    """Call ``function`` on ``case``, on leaves that ask for a gradient where the exercise compares one.

    PyTorch's, NumPy's and Python's random numbers start at ``seed``. Without a limit the call may take its time.
    """
    arguments, leaves = list(case.arguments), []
    for place in exercise.gradients:
        leaves.append(arguments[place].detach().clone().requires_grad_())
        arguments[place] = leaves[-1].clone()  # no leaf: PyTorch itself refuses to change a leaf in place
    before = snapshot([*arguments, *case.keywords.values()])
    outcome = Outcome()
    prints = Prints()
    draw_anew(seed)
    try:
        with redirect_stdout(prints):
            outcome.value = within(limit, lambda: function(*arguments, **case.keywords))
    except (Exception, SystemExit, OutOfTime) as error:
        outcome.error = error
    outcome.printed = prints.shown()
    outcome.changed = first_changed(exercise, case, arguments, before)
    if outcome.error is None and not outcome.changed:
        draw_anew(seed)  # what an answer has drawn decides nothing here
        _observe(exercise, case, outcome, leaves)
    return outcome


def first_changed(exercise: Exercise, case: Case, arguments: list[Any], before: list[Any]) -> str:
    """The name of the first argument that is no longer as ``before``, where an answer may change none."""
    if exercise.may_change:
        return ""
    pairs = enumerate(zip(before, snapshot([*arguments, *case.keywords.values()]), strict=True))
    number = next((n for n, (old, new) in pairs if difference(old, new, relative=0, absolute=0)), None)
    if number is None:
        return ""
    names = list(inspect.signature(exercise.reference).parameters)[: len(arguments)]
    return [*names, *case.keywords][number]


def _observe(exercise: Exercise, case: Case, outcome: Outcome, leaves: list[Tensor]) -> None:
    value = outcome.value
    if isinstance(value, Tensor) and leaves:
        outcome.has_graph = value.requires_grad
        if value.requires_grad:
            weights = torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
            try:
                outcome.gradients = torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True)
            except RuntimeError as error:  # something was changed in place that the gradient needs
                outcome.error = error
    try:
        outcome.observed = exercise.observe(value, case)
    except Exception as error:  # a result of another kind than the exercise asks for, or one that does not work
        outcome.observed, outcome.unusable = value, error


def gradients_differ(exercise: Exercise, expected: Outcome, got: Outcome) -> bool:
    """Whether the gradients differ; none and zero are the same."""
    return any(gradient_differences(exercise, expected, got))


def gradient_differences(exercise: Exercise, expected: Outcome, got: Outcome) -> list[Difference | None]:
    """Of each gradient that is compared the first entry that differs; none counts as zero."""
    none = (None,) * len(exercise.gradients)
    found: list[Difference | None] = []
    for pair in zip(expected.gradients or none, got.gradients or none, strict=True):
        some = next((side for side in pair if side is not None), None)
        sides = [some if some is None else torch.zeros_like(some) if side is None else side for side in pair]
        entry = difference(*sides, relative=exercise.relative, absolute=exercise.absolute)
        found.append(entry if entry and entry.kind != "dtype" else None)
    return found


def within(seconds: float | None, call: Callable[[], Any]) -> Any:
    """``call()``, or `OutOfTime` after ``seconds``: by a timer signal in the main thread, else in a helper thread."""
    if seconds is None:
        return call()
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        return _by_signal(seconds, call)
    return _by_thread(seconds, call)


def _by_signal(seconds: float, call: Callable[[], Any]) -> Any:
    armed = True

    def ring(number: int, frame: FrameType | None) -> None:
        if armed:
            raise OutOfTime

    start = time.monotonic()
    previous = signal.signal(signal.SIGALRM, ring)
    # again and again: a bare except may swallow the first
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        return call()
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if previous is None else previous)
        if left:  # the caller's own timer goes on; what ran out meanwhile rings now
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 1e-6), interval)


def _by_thread(seconds: float, call: Callable[[], Any]) -> Any:
    result: list[Any] = []
    error: list[BaseException] = []

    def work() -> None:
        try:
            result.append(call())
        except BaseException as raised:
            error.append(raised)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    for _ in range(20):  # ask the thread to stop; one that sits in C code is left behind
        if not thread.is_alive():
            break
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(OutOfTime))
        thread.join(0.05)
    if thread.is_alive() or (error and isinstance(error[0], OutOfTime)):
        raise OutOfTime
    if error:
        raise error[0]
    return result[0]


@contextmanager
def without(forbidden: tuple[str, ...], function: Answer) -> Iterator[list[str]]:
    """Inside the block the ``forbidden`` functions raise, wherever they were imported to; the list names those called.

    They are replaced where they live, in every module of `kdcourse` outside the exercises, and among the globals
    of ``function``.
    """
    called: list[str] = []
    undo: list[Callable[[], None]] = []
    try:
        for dotted in forbidden:
            home, name = find(dotted)
            original, sentinel = getattr(home, name), _sentinel(dotted, called)
            spaces = [module.__dict__ for key, module in list(sys.modules.items()) if _is_ours(key) and module]
            spaces.append(getattr(function, "__globals__", {}))
            undo.append(_replace_attribute(home, name, sentinel))
            undo += [
                _replace_item(space, key, sentinel)
                for space in spaces
                for key, value in list(space.items())
                if value is original
            ]
        yield called
    finally:
        for restore in reversed(undo):
            restore()


def _is_ours(module: str) -> bool:
    return module.startswith("kdcourse") and not module.startswith("kdcourse.exercises")


def find(dotted: str) -> tuple[Any, str]:
    """The module or class that holds a dotted name, and the name in it."""
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            home: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:-1]:
            home = getattr(home, part)
        return home, parts[-1]
    raise ImportError(dotted)


def _sentinel(dotted: str, called: list[str]) -> Answer:
    def forbidden(*arguments: Any, **keywords: Any) -> Any:
        called.append(dotted)
        raise Forbidden(dotted)

    return forbidden


def _replace_attribute(home: Any, name: str, new: Any) -> Callable[[], None]:
    own, old = name in vars(home), vars(home).get(name)
    setattr(home, name, new)
    return (lambda: setattr(home, name, old)) if own else (lambda: delattr(home, name))


def _replace_item(space: dict[str, Any], key: str, new: Any) -> Callable[[], None]:
    old = space[key]
    space[key] = new
    return lambda: space.__setitem__(key, old)
