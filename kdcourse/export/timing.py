"""Functions timed against each other."""

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

from .._base.checks import check_count


class Latency(NamedTuple):
    """Milliseconds per call: the median, and the quartiles below and above it."""

    median: float
    low: float
    high: float


def latency(
    callables: Mapping[str, Callable[[], object]], *, repeats: int = 30, warm_up: int = 5, threads: int = 1
) -> dict[str, Latency]:
    """Time functions without arguments against each other: by name, the milliseconds per call.

    Calls are interleaved, one call of each per round and another one first in every round, so that a busy machine
    slows all of them equally; ``warm_up`` rounds are not counted. PyTorch uses ``threads`` meanwhile (give a `session`
    as many), and the garbage collector rests. Raises ``ValueError`` for nothing to time or fewer than two repeats,
    ``TypeError`` for what cannot be called.

    >>> images = torch.rand(8, 784)
    >>> found = latency({"float": lambda: images @ images.T, "double": lambda: images.double() @ images.double().T})
    >>> list(found), found["float"].low <= found["float"].median <= found["float"].high
    (['float', 'double'], True)
    """
    _check(callables, repeats=repeats, warm_up=warm_up, threads=threads)
    times: dict[str, list[float]] = {name: [] for name in callables}
    names = list(callables)
    with _timing(threads), torch.inference_mode():
        for number in range(-warm_up, repeats):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                start = time.perf_counter()
                callables[name]()
                elapsed = time.perf_counter() - start
                if number >= 0:
                    times[name].append(1000 * elapsed)
    return {name: _summary(found) for name, found in times.items()}


def _check(callables: Mapping[str, Callable[[], object]], *, repeats: int, warm_up: int, threads: int) -> None:
    if not isinstance(callables, Mapping):
        raise TypeError(f"callables must be functions by name, {{'float': …}}, got {type(callables).__name__}")
    wrong = [name for name, function in callables.items() if not callable(function)]
    if wrong:
        raise TypeError(f"{wrong} cannot be called: pass functions, lambda: network(images), not their results")
    check_count("repeats", repeats, least=2)
    check_count("warm_up", warm_up, least=0)
    check_count("threads", threads, least=1)
    if not callables:
        raise ValueError("there is nothing to time: pass at least one function")


def _summary(times: list[float]) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median, low, high)


@contextlib.contextmanager
def _timing(threads: int) -> Iterator[None]:
    before, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()
