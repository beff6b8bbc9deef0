"""Repeatable randomness. Ground floor: needs PyTorch alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ._base.modes import default_device

_one_thread = threading.RLock()  # threads share PyTorch's generators: two runs at once would draw each other's numbers


@contextmanager
def seeded(seed: int, device: torch.device | str | None = None) -> Iterator[None]:
    """Inside the block PyTorch's random numbers start from ``seed``; afterwards they go on as if it had not run.

    That holds for the CPU and for ``device``, by default PyTorch's default device; no other is touched. One thread at
    a time is inside.

    >>> with seeded(0):
    ...     first = torch.rand(3)
    >>> with seeded(0):
    ...     again = torch.rand(3)
    >>> torch.equal(first, again)
    True
    """
    device = default_device() if device is None else torch.device(device)
    accelerators = [] if device.type in ("cpu", "meta") else [device]
    with _one_thread, torch.random.fork_rng(accelerators, device_type=device.type if accelerators else "cuda"):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif accelerators:
            torch.get_device_module(device).manual_seed(seed)
        yield
