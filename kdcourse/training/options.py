"""What `fit` and `distill` are told, and what they tell."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict

import torch
from torch import nn

from .._base.checks import check_positive
from .batches import Data, check_data
from .networks import Output
from .schedules import Schedule, cosine

Augment = Callable[[Any], Any]
Optimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@dataclass(repr=False)
class History:
    """What a training run recorded, one entry per epoch."""

    train_loss: list[float] = field(default_factory=list)
    """mean over the batches, each weighted by its number of examples"""
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def __repr__(self) -> str:
        return f"History of {len(self.train_loss)} epochs, {self.seconds:.1f} s"


class Options(TypedDict, total=False):
    """What `fit` and `distill` both take, all optional but ``epochs``; the defaults are in brackets."""

    epochs: Required[int]
    validation: Data | None
    """a `Split` or a loader, on which the accuracy is measured after every epoch [none]"""
    batch_size: int | None
    """of a `Split`; a loader has its own [128]"""
    drop_last: bool
    """leave out a `Split`'s last batch where it is smaller than the others [False]"""
    steps_per_epoch: int | None
    """batches that an epoch takes from a loader, one without end for example [all of them]"""
    learning_rate: float | None
    """of AdamW, multiplied by ``schedule(fraction of training done)`` every step [2e-3]"""
    weight_decay: float | None
    """of AdamW [0.01]"""
    optimizer: Optimizer | None
    """makes another optimizer of the list of parameters that take a gradient; ``schedule`` multiplies the rate of each
    of its groups [AdamW]"""
    schedule: Schedule
    """[`cosine`]"""
    clip_norm: float | None
    """the largest norm of the whole gradient; a longer one is scaled down to it [none]"""
    augment: Augment | None
    """applied to the inputs of every batch [none]"""
    before_step: Callable[[float], None] | None
    """called before every step with the fraction of training done, to tighten masks or grids on the way [none]"""
    on_epoch: Callable[[int, History], bool | None] | None
    """called after every epoch with its number, from 0, and the history so far; True ends the run [none]"""
    output: Output | None
    """picks the logits (..., C) from what the network returns [a tensor, or what only "logits" can be]"""
    checkpoint: str | os.PathLike[str] | None
    """a file written before the first and after every epoch; a run that finds its own goes on from there: bit for bit,
    if all its randomness is PyTorch's or comes from a DataLoader's generators [none]"""
    seed: int
    """of batch order, augmentation and dropout, as far as PyTorch draws them [0]"""
    device: str | torch.device
    """"cuda" trains on a GPU, "mps" on Apple's ["cpu"]"""
    progress: bool
    """show a bar [True]"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The `Options` of one run with the defaults."""

    epochs: int
    validation: Data | None = None
    batch_size: int | None = None
    drop_last: bool = False
    steps_per_epoch: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    optimizer: Optimizer | None = None
    schedule: Schedule = cosine
    clip_norm: float | None = None
    augment: Augment | None = None
    before_step: Callable[[float], None] | None = None
    on_epoch: Callable[[int, History], bool | None] | None = None
    output: Output | None = None
    checkpoint: str | os.PathLike[str] | None = None
    seed: int = 0
    device: str | torch.device = "cpu"
    progress: bool = True


def settings_of(function: str, options: Options) -> Settings:
    """The settings that the ``options`` of a public ``function`` stand for; raise in its name for one that is none."""
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    if unknown:
        raise TypeError(
            f"{function}() got an unexpected keyword argument {unknown[0]!r}: its options are "
            f"{', '.join(Options.__annotations__)}"
        )
    if "epochs" not in options:
        raise TypeError(f"{function}() missing 1 required keyword-only argument: 'epochs'")
    settings = Settings(**options)
    if settings.epochs < 1 or (settings.batch_size is not None and settings.batch_size < 1):
        raise ValueError(f"epochs and batch_size must be >= 1, got {settings.epochs} and {settings.batch_size}")
    if settings.clip_norm is not None:
        check_positive("clip_norm", settings.clip_norm)
    if settings.validation is not None:
        check_data(settings.validation)
    return settings
