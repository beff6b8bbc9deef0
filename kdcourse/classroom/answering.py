"""An answer as the judge sees it: a child that is asked, case by case, and what comes back as an `Outcome`."""

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .._base.neutral import draw_anew, neutral
from ..exercises.engine.checking import Trial
from ..exercises.engine.comparing import snapshot
from ..exercises.engine.core import Answer, Case, Exercise
from ..exercises.engine.running import Forbidden, Outcome, OutOfTime, first_changed, within
from . import sending
from .extracting import Answer as Found
from .inside import frames
from .inside.encoding import objects
from .receiving import Damaged, Decoder, identifier
from .renewing import renew
from .sandbox import Alone, Child, Limits, Server

DEFINED = 60.0
"""seconds that the statements of an answer may take: imports among them"""
OBSERVED = 60.0
"""seconds for looking at what came back"""
REPORTS = 20
TOO_LARGE = "your function returns more than can be looked at: 64 MiB of numbers, or very many parts"
GRACE = 2.0
"""a call may take so much longer by the clock than it may take the processor: other work goes on beside it"""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Lost(Exception):
    """The answer is over: ``kind`` of the mark, and what to say."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


def clean(text: Any, most: int = 4_000) -> str:
    """A text as it may be shown: without what moves a cursor, and cut."""
    return CONTROL.sub("", text)[:most] if isinstance(text, str) else ""


@dataclass(frozen=True, eq=False)
class Away(Trial):
    """A trial whose answer lives in a child; references and misconceptions run here."""

    drawn: int = 0
    """how many of the drawn cases are tried"""

    def cases(self) -> list[Case]:
        return super().cases()[: len(self.exercise.cases()) + self.drawn]

    def run(self, function: Answer, case: Case, seed: int = 0) -> Outcome:
        if isinstance(function, Session):
            return function.outcome(self.exercise, case, seed)
        return super().run(function, case, seed)


@dataclass(eq=False)
class Session:
    """One answer's child and all that it said beside its results."""

    server: Server | Alone
    exercise: Exercise
    limits: Limits
    child: Child = field(init=False)
    reached: list[str] = field(default_factory=list)
    printed: str = ""
    called: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.child = self.server.start(self.exercise, self.limits)

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("an answer is called in its child alone")

    def define(self, found: Found) -> dict[str, Any]:
        """Have the statements of the answer run; what the child says of the asked-for name."""
        cells = [
            [f"<answer {n}>", cell.source, 0x1000000 if _postponed(cell) else 0] for n, cell in enumerate(found.cells)
        ]
        chosen = sorted({cell for cell, _ in found.order})
        numbers = {cell: number for number, cell in enumerate(chosen)}
        given: dict[str, Any] = {}
        for case in self.exercise.tried(0):
            given |= sending.pickled([list(case.arguments), case.keywords])[1]
        self.given = given
        asked = {"given": sending.source_of(given), "cells": [cells[cell] for cell in chosen],
                 "order": [[numbers[cell], place] for cell, place in found.order], "name": self.exercise.name,
                 "forbidden": list(self.exercise.forbidden)}  # fmt: skip
        told, _ = self._ask(asked, b"", DEFINED)
        return told

    def outcome(self, exercise: Exercise, case: Case, seed: int) -> Outcome:
        """One call in the child, its result and what has become of the arguments, looked at here."""
        arguments, outcome = list(case.arguments), Outcome()
        known = list(objects([arguments, case.keywords]))[1:]
        logs = sending.logs(known)
        before = snapshot([*arguments, *case.keywords.values()])
        asked = {"name": exercise.name, "seed": seed, "gradients": list(exercise.gradients), "logs": logs}
        try:
            told, body = self._ask(asked, sending.pickled([arguments, case.keywords])[0], self.limits.call)
        except TimeoutError:
            outcome.error = OutOfTime()
            return outcome
        outcome.printed = shown(told)
        with _as_damage():
            decoder = Decoder(told, body, known, self.given, self._probe, self._slopes)
            renew(decoder, told["known"], arguments, case.keywords, {log for _, log in logs})
            outcome.value = decoder.value(told["value"])
            gradients = decoder.value(told["gradients"])
            error = told["error"]
        if error is not None:
            outcome.error = raised(error)
            if type(outcome.error).__name__ == "TooMuch":
                raise Lost("memory", TOO_LARGE)
        if outcome.error is None and isinstance(outcome.value, Tensor) and exercise.gradients:
            outcome.has_graph = bool(told["graph"])
            if outcome.has_graph:
                outcome.value = outcome.value.detach().requires_grad_()  # as it was in the child
                outcome.gradients = _gradients(gradients, len(exercise.gradients))
        outcome.changed = first_changed(exercise, case, arguments, before)
        if outcome.error is None and not outcome.changed:
            _observe(exercise, case, outcome, seed)
        return outcome

    def _probe(
        self, number: int, inputs: tuple[Any, ...], state: dict[str, Tensor], modes: dict[str, bool]
    ) -> tuple[Any, dict[str, Tensor]]:
        """What a network of the answer's own returns; raises what it raises."""
        plain = [value.detach() if isinstance(value, Tensor) else value for value in inputs]
        told, body = self._ask({"probe": number}, sending.pickled((plain, state, modes))[0], self.limits.call)
        with _as_damage():
            decoder = Decoder(told, body, [], self.given, self._probe)
            value, buffers = decoder.value(told["value"]), decoder.value(told["buffers"])
            error = told["error"]
        if error is not None:
            failed = raised(error)
            raise RuntimeError(str(failed)) if not isinstance(failed, Exception) else failed
        return value, buffers if isinstance(buffers, dict) else {}

    def _slopes(self, number: int, weights: Tensor) -> list[Any]:
        """The gradients of a result of the last call to the case's own tensors; raises what autograd raises."""
        told, body = self._ask({"slopes": number}, sending.pickled(weights.detach().clone())[0], self.limits.call)
        with _as_damage():
            found, error = Decoder(told, body, [], self.given, self._probe).value(told["value"]), told["error"]
        if error is not None:
            raise RuntimeError(str(raised(error)))
        return found if isinstance(found, list) else []

    def _ask(self, header: dict[str, Any], body: bytes, limit: float) -> tuple[dict[str, Any], bytes]:
        """The child's reply. Raises ``TimeoutError`` after the limit, `Lost` where the child is gone."""
        until = time.monotonic() + GRACE * limit
        try:
            self.child.link.settimeout(GRACE * limit)
            frames.send(self.child.link, header, body)
            while True:
                told, stored = frames.receive(self.child.link, most=self.limits.result, until=until)
                if not isinstance(told, dict):
                    raise Damaged
                if "reached" not in told:
                    break
                if len(self.reached) < REPORTS:
                    self.reached.append(clean(told["reached"], 120))
        except TimeoutError:
            raise
        except frames.TooLong:
            raise Lost("memory", TOO_LARGE) from None
        except (frames.Closed, ConnectionError, BrokenPipeError):
            raise self._gone() from None
        except (ValueError, RecursionError, Damaged):
            raise Lost("damaged", "what your function's process sent back cannot be read") from None
        self.printed = self.printed or shown(told)
        self.called += [clean(name, 100) for name in told.get("called", [])[:1]]
        return told, stored

    def _gone(self) -> Lost:
        code = self.child.stop()
        if code in (77, 137):
            return Lost("memory", "your function's process took more memory than it may, and was ended")
        how = f"by signal {code - 128}" if code > 128 else f"with status {code}"
        return Lost(
            "died", f"your function's process ended before its answer was there ({how}): does something call exit?"
        )


def _postponed(cell: Any) -> bool:
    return "from __future__ import annotations" in cell.source


def shown(told: Mapping[str, Any]) -> str:
    """The first lines of what was printed, on either stream."""
    text, count = clean(told.get("printed")), told.get("lines")
    lines = text.rstrip("\n").split("\n")
    more = count - 8 if type(count) is int and count > 8 else 0
    cut = [f"… {more:,} lines more, cut"] if more else []
    return "\n".join([*(line[:100] for line in lines[:8]), *cut]) if text.strip() else ""


def raised(told: Any) -> BaseException:
    """A stand-in for what was raised in the child, of a type with the same name."""
    name, message, is_value_error, line, source = told
    base = ValueError if is_value_error is True else Forbidden if name == "Forbidden" else Exception
    error: BaseException = type(identifier(name), (base,), {})(clean(message, 400))
    if isinstance(line, int):
        error.own_place = (line, clean(source, 200))  # type: ignore[attr-defined]
    return error


@contextlib.contextmanager
def _as_damage() -> Any:
    """Whatever goes wrong while what was sent is read is the sender's doing."""
    try:
        yield
    except Lost:
        raise
    except Exception:
        raise Lost("damaged", "what your function's process sent back cannot be read") from None


def _gradients(sent: Any, count: int) -> tuple[Tensor | None, ...]:
    if not isinstance(sent, tuple) or len(sent) != count:
        raise Lost("damaged", "what your function's process sent back cannot be read")
    return tuple(value if isinstance(value, Tensor) else None for value in sent)


@neutral()
def _observe(exercise: Exercise, case: Case, outcome: Outcome, seed: int) -> None:
    draw_anew(seed)
    try:
        outcome.observed = within(OBSERVED, lambda: exercise.observe(outcome.value, case))
    except (Lost, TimeoutError):
        raise
    except Exception as error:
        outcome.observed, outcome.unusable = outcome.value, error
