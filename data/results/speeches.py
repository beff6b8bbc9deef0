"""What the jobs of notebook 18 share: the stored language model, texts to calibrate and to judge on, and what a
compressed copy is judged by."""

import argparse
import copy
import inspect
import json
import math
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdcourse._base.hessians import input_hessian
from kdcourse.data import data_dir
from kdcourse.language import Decoder
from kdcourse.metrics import flips
from kdcourse.models import language_teacher
from kdcourse.seeds import seeded
from kdcourse.text import Speeches, Vocabulary, load_speeches

DRAWS = range(5)
JUDGED = {"validation": 32, "test": 64}  # windows, evenly spread over a split
CALIBRATION = 16  # windows of a draw
BATCH = 16
PARTS = "query", "key", "value", "out", "up", "down"
READERS = {"norm1": ("query", "key", "value"), "norm2": ("up",)}


@cache
def teacher() -> tuple[Decoder, Vocabulary]:
    return language_teacher()


def digest() -> str:
    """Of the stored model: results of another one do not compare."""
    return str(json.loads((data_dir() / "language_teacher.json").read_text(encoding="utf-8"))["digest"])


@cache
def texts() -> Speeches:
    return load_speeches()


@cache
def tokens(split: str) -> Tensor:
    """All speeches of a split, one after the other."""
    return teacher()[1].encode("".join(speech.text for speech in getattr(texts(), split)))


def length() -> int:
    return teacher()[0].context


def unseen() -> int:
    """How many tokens of a window are read before the first that counts: a quarter."""
    return length() // 4


def cut(stream: Tensor, starts: Iterable[int], size: int) -> Tensor:
    return torch.stack([stream[start : start + size] for start in starts])


def judged(split: str) -> Tensor:
    """Windows (N, L) at even distances."""
    stream = tokens(split)
    count = JUDGED[split]
    return cut(stream, ((len(stream) - length()) * number // count for number in range(count)), length())


def drawn(kind: str, draw: int, count: int = CALIBRATION) -> Tensor:
    """Windows (N, L) to calibrate on, of one kind of text; of each kind the same for the same ``draw``."""
    vocabulary = teacher()[1]
    with seeded(1800 + draw):
        if kind == "random characters":
            return torch.randint(len(vocabulary), (count, length()))
        stream = program() if kind == "program code" else tokens("train")
        found = cut(stream, torch.randint(len(stream) - length(), (count,)).tolist(), length())
        if kind == "shuffled":  # as frequent as in the speeches, in no order
            return found.flatten()[torch.randperm(found.numel())].reshape(found.shape)
        return found


@cache
def program() -> Tensor:
    """Modules of Python's own library, characters outside the vocabulary left out."""
    vocabulary = teacher()[1]
    text = "".join(inspect.getsource(module) for module in (argparse, inspect, typing))
    return vocabulary.encode("".join(filter(set(vocabulary.characters).__contains__, text)))


# --- what a copy is judged by -----------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """Logits (N, L', V) of the tokens that count, and these (N, L')."""

    logits: Tensor
    targets: Tensor


@torch.no_grad()
def logits_on(model: nn.Module, windows: Tensor) -> Judged:
    model.eval()
    found = [model(part[:, :-1])[:, unseen() - 1 :] for part in windows.split(BATCH)]
    return Judged(torch.cat(found), windows[:, unseen() :])


@cache
def reference(split: str) -> Judged:
    return logits_on(teacher()[0], judged(split))


def bits_of(found: Judged) -> float:
    picked = found.logits.double().log_softmax(dim=-1).gather(-1, found.targets.unsqueeze(-1))
    return -picked.mean().item() / math.log(2)


def compare(found: Judged, before: Judged) -> dict[str, float]:
    """Bits per character, and beside that KL(float ‖ copy) in bits and what was changed, broken and fixed."""
    log_p, log_q = (each.logits.double().log_softmax(dim=-1) for each in (before, found))
    apart = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean().item() / math.log(2)
    changed = flips(before.logits, found.logits, found.targets)
    parts = {name: getattr(changed, name) / changed.positions for name in ("changed", "broken", "fixed")}
    return {"bits per character": bits_of(found), "kl": apart} | parts


def judge(model: nn.Module, split: str = "test") -> dict[str, float]:
    return compare(logits_on(model, judged(split)), reference(split))


# --- the weights ------------------------------------------------------------------------------------------------------


def names(model: Decoder) -> list[str]:
    """The weight matrices of the blocks, which are compressed: 12 · layers · width² weights."""
    return [f"blocks.{number}.{part}" for number in range(len(model.blocks)) for part in PARTS]


def changed(model: Decoder, change: Callable[[str, Tensor], Tensor], which: Sequence[str] | None = None) -> Decoder:
    """A copy whose matrices are what ``change`` makes of name and weight."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for name in which or names(model):
            layer = result.get_submodule(name)
            layer.weight.copy_(change(name, layer.weight))
    return result


@torch.no_grad()
def hessians(model: Decoder, windows: Tensor, which: Sequence[str] | None = None) -> dict[str, Tensor]:
    """XᵀX of what each matrix reads, over all positions of the windows, float64."""
    which = list(which or names(model))
    found: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name] = found.get(name, 0) + input_hessian(inputs[0])

        return hook

    def source(name: str) -> str:  # three matrices read the same
        return name.rpartition(".")[0] + ".query" if name.endswith((".key", ".value")) else name

    handles = [model.get_submodule(name).register_forward_pre_hook(keep(name)) for name in {source(n) for n in which}]
    model.eval()
    for part in windows.split(BATCH):
        model(part)
    for handle in handles:
        handle.remove()
    return {name: found[source(name)] for name in which}
