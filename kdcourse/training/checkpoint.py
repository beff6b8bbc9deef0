"""Runs that are killed and go on: what a checkpoint contains, and that it belongs to this run and no other.

It contains the weights, buffers, optimizer, PyTorch's random states, the states of a DataLoader's generators, the
history and whether the run had ended: numbers and tensors only, read without running code. It cannot store the state of
other random numbers (``random``, NumPy, persistent workers) and of ``before_step``: a run that goes on draws again.
"""

import hashlib
import io
import os
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .._base.files import read_whole, write_whole
from .._base.weights import check_initialised
from ..data import Split
from .options import History

FORM = "kdcourse.training 1"


class Running(NamedTuple):
    """Everything that a step changes."""

    student: nn.Module
    trained: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generators: list[torch.Generator]
    device: torch.device


class Checkpoint:
    """The file of one run, which ``identity()`` tells from others; without a path nothing is read or written."""

    def __init__(
        self, path: str | os.PathLike[str] | None, running: Running, identity: Callable[[], dict[str, Any]]
    ) -> None:
        self.path, self.running = None if path is None else Path(path).expanduser(), running
        if self.path is not None:
            check_initialised(running.student)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            parts = {**identity(), "network": structure(running.student), "optimizer": running.optimizer.state_dict()}
            self.identity = {name: described(value) for name, value in parts.items()}

    def load(self, history: History) -> bool:
        """Put everything where the file says it was, or begin the file; whether the run had ended."""
        if self.path is None:
            return False
        try:
            stored = _read(self.path)
        except FileNotFoundError:
            self.save(history, False)
            return False
        theirs = stored["identity"]
        changed = sorted(name for name in self.identity | theirs if self.identity.get(name) != theirs.get(name))
        if changed:
            raise ValueError(
                f"{self.path} is the checkpoint of another run, which differs in {', '.join(changed)}: "
                "name another file, or delete it to start again"
            )
        restore(self.running, stored["state"])
        vars(history).update(stored["history"])
        return bool(stored["ended"])

    def save(self, history: History, ended: bool) -> None:
        if self.path is None:
            return
        if described(structure(self.running.student)) != self.identity["network"]:
            raise ValueError(
                "the network got other parts during the run, so its checkpoint would fit no other: put masks and "
                "quantizers on before the run, or train without checkpoint="
            )
        stored = {
            "form": FORM,
            "identity": self.identity,
            "state": state_of(self.running),
            "history": vars(history),
            "ended": ended,
        }
        check_plain(stored)
        content = io.BytesIO()
        torch.save(stored, content)
        write_whole(self.path, content.getvalue())


def _read(path: Path) -> dict[str, Any]:
    content = io.BytesIO(read_whole(path))
    try:
        stored: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
        if stored["form"] == FORM:
            return stored
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError):
        pass
    raise ValueError(f"{path} is not a checkpoint of a training run, or damaged: delete it to start again")


def state_of(running: Running) -> dict[str, Any]:
    return {
        "student": running.student.state_dict(),
        "buffers": dict(running.student.named_buffers()),  # also those that state_dict() leaves out
        "optimizer": running.optimizer.state_dict(),
        "scaler": running.scaler.state_dict(),
        "random": random_state(running.device),
        "generators": [generator.get_state() for generator in running.generators],
    }


@torch.no_grad()
def restore(running: Running, state: dict[str, Any]) -> None:
    running.student.load_state_dict(state["student"])
    for name, buffer in running.student.named_buffers():
        buffer.copy_(state["buffers"][name])
    running.optimizer.load_state_dict(state["optimizer"])
    running.scaler.load_state_dict(state["scaler"])
    set_random_state(running.device, state["random"])
    for generator, kept in zip(running.generators, state["generators"], strict=True):
        generator.set_state(kept)


def check_plain(value: Any) -> None:
    """Raise unless ``value`` contains nothing but numbers, text and tensors, which are read back without "
    "running code."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            check_plain(part)
    elif not isinstance(value, (Tensor, bool, int, float, str, type(None))) or isinstance(value, np.generic):
        raise TypeError(
            f"a checkpoint holds numbers and tensors only, and the state of the network or the optimizer has a "
            f"{type(value).__name__}: train without checkpoint=, or keep that part out of the state"
        )


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of PyTorch's random numbers on the CPU and on ``device``."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states["device"] = torch.get_device_module(device).get_rng_state(*_which(device))
    return states


def set_random_state(device: torch.device, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states["device"], *_which(device))


def _which(device: torch.device) -> list[torch.device]:
    return [] if device.type == "mps" else [device]  # of which there is one


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """What the block draws does not move PyTorch's random numbers."""
    states = random_state(device)
    try:
        yield
    finally:
        set_random_state(device, states)


def generators_of(loader: Any) -> list[torch.Generator]:
    """The generators that a DataLoader and its samplers draw from, apart from PyTorch's own."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    places = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(place, "generator", None) for place in places]
    return list({id(each): each for each in found if isinstance(each, torch.Generator)}.values())


def structure(student: nn.Module) -> list[str]:
    """The network without its numbers: its parts, and the name, shape, dtype and freedom of each tensor."""
    modules = [f"{name} {type(module).__qualname__}" for name, module in student.named_modules()]
    parameters = [
        f"{name} {tuple(each.shape)} {each.dtype} {each.requires_grad}" for name, each in student.named_parameters()
    ]
    return modules + parameters + [f"{name} {tuple(each.shape)}" for name, each in student.named_buffers()]


def described(value: Any) -> str:
    """A short text that differs where the value does: numbers by value, tensors by content, functions by name."""
    if isinstance(value, Tensor):
        return digest([value])
    if isinstance(value, nn.Module):
        return f"{type(value).__qualname__} {digest(value.state_dict().values())}"
    if isinstance(value, Split):
        return digest(value)
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
    return text if len(text) < 200 else hashlib.sha256(text.encode()).hexdigest()


def digest(tensors: Iterable[Any]) -> str:
    """SHA-256 of the tensors' shapes, types and bytes."""
    found = hashlib.sha256()
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
