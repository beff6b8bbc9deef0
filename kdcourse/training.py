"""Training loops that a claim can rest on: seeded, alike for a student alone and a distilled one, teacher frozen."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Required, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ._base.checks import check_finite_float, check_fraction, check_positive, widen
from ._base.modes import in_eval_mode
from .data import Split
from .losses.logits import kd_formula
from .metrics import accuracy, expected_calibration_error
from .seeds import seeded

Schedule = Callable[[float], float]
"""From the share of training done, in [0, 1], to a factor or a value."""
Augment = Callable[[Tensor], Tensor]


@dataclass(repr=False)
class History:
    """What a training run recorded, one entry an epoch."""

    train_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def __repr__(self) -> str:
        return f"History of {len(self.train_loss)} epochs, {self.seconds:.1f} s"


class Scores(NamedTuple):
    """What `evaluate` measures: two shares in [0, 1] and the mean cross-entropy in nats."""

    accuracy: float
    cross_entropy: float
    calibration_error: float


def cosine(progress: float) -> float:
    """Learning-rate factor: a linear warm-up from 0.1 to 1 over the first tenth, then half a cosine down to zero."""
    if progress < 0.1:
        return 0.1 + 9 * progress
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def constant(progress: float) -> float:
    """Learning-rate factor: 1 throughout."""
    return 1.0


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Inside the block ``model`` is in eval mode and its parameters take no gradient; both are restored after.

    Eval mode matters apart from gradients: in train mode batch norm keeps updating its statistics
    even under ``torch.no_grad()``.
    """
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        with in_eval_mode(model):
            model.requires_grad_(False)
            yield model
    finally:
        for parameter, needs in wanted.items():
            parameter.requires_grad_(needs)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Logits (N, C) of ``images`` (N, 1, 28, 28) in eval mode, without gradient, on the model's device."""
    device = next(model.parameters()).device
    with frozen(model):
        return torch.cat([model(batch.to(device)) for batch in images.split(batch_size)])


def evaluate(model: nn.Module, split: Split) -> Scores:
    """Accuracy, cross-entropy (nats) and expected calibration error of ``model`` on ``split``."""
    logits = predict(model, split.images).cpu()
    return Scores(
        accuracy(logits, split.labels),
        F.cross_entropy(logits, split.labels).item(),
        expected_calibration_error(logits, split.labels),
    )


class Options(TypedDict, total=False):
    """What `fit` and `distill` take alike, all optional but ``epochs``; the defaults stand in brackets."""

    epochs: Required[int]
    validation: Split | None
    """measured after every epoch [none]"""
    batch_size: int
    """[128]"""
    learning_rate: float
    """of AdamW, multiplied by ``schedule(share of training done)`` every step [2e-3]"""
    weight_decay: float
    """[0.01]"""
    schedule: Schedule
    """[`cosine`]"""
    augment: Augment | None
    """applied to every batch of images [none]"""
    before_step: Callable[[float], None] | None
    """called before every step with the share of training done, to tighten masks or grids on the way [none]"""
    seed: int
    """of batch order, augmentation and dropout [0]"""
    device: str
    """"cuda" trains on a GPU ["cpu"]"""
    progress: bool
    """show a bar [True]"""


def fit(
    student: nn.Module,
    train: Split,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    **options: Unpack[Options],
) -> History:
    """Train ``student`` in place on the labels: AdamW, ``loss(logits, labels)``, everything else in `Options`.

    The same arguments give bit-identical weights on the same machine. The student ends in eval mode, on
    ``device``. Raises ``ValueError`` for a split whose parts do not pair up or a loss that is no longer finite.
    """
    labels = _paired_labels(train).to(options.get("device", "cpu"))

    def batch_loss(logits: Tensor, images: Tensor, rows: Tensor, done: float) -> Tensor:
        return loss(logits, labels[rows])

    return _train(student, train.images, batch_loss, **options)


def distill(
    student: nn.Module,
    teacher: nn.Module | Tensor,
    train: Split,
    *,
    temperature: float | Schedule = 4.0,
    alpha: float | Schedule = 0.9,
    loss: Callable[..., Tensor] | None = None,
    **options: Unpack[Options],
) -> History:
    """Train ``student`` in place against ``teacher``; otherwise as `fit`, with the same `Options`.

    ``teacher`` is a network, or its logits (N, C) for ``train.images`` in the same order. A network runs over
    the images once and its logits are kept by image, so shuffling cannot mix them up; with ``augment`` it runs
    on every augmented batch instead, and bare logits are refused. It is moved to ``device`` and frozen throughout.
    ``temperature`` and ``alpha`` (the teacher's weight, as in `kdcourse.losses.distillation_loss`) are numbers or
    schedules of the share of training done. ``loss`` replaces the distillation loss and is called as
    ``loss(student_logits, teacher_logits, labels, temperature=…, alpha=…)``.
    """
    device, augment = options.get("device", "cpu"), options.get("augment")
    labels = _paired_labels(train).to(device)
    temperature_at, alpha_at = _as_schedule(temperature), _as_schedule(alpha)
    for done in (0.0, 0.5, 1.0):
        check_positive("temperature", temperature_at(done))
        check_fraction("alpha", alpha_at(done))
    mixed = loss or _distillation_formula
    with frozen(teacher.to(device)) if isinstance(teacher, nn.Module) else nullcontext():
        targets = _target_source(teacher, train.images, augment, device)

        def batch_loss(logits: Tensor, images: Tensor, rows: Tensor, done: float) -> Tensor:
            soft = targets(images, rows)
            if soft.shape != logits.shape:
                raise ValueError(
                    f"logits of shape {tuple(logits.shape)} and teacher logits of {tuple(soft.shape)} differ"
                )
            return mixed(logits, soft, labels[rows], temperature=temperature_at(done), alpha=alpha_at(done))

        return _train(student, train.images, batch_loss, **options)


def _train(
    student: nn.Module,
    images: Tensor,
    batch_loss: Callable[[Tensor, Tensor, Tensor, float], Tensor],
    *,
    epochs: int,
    validation: Split | None = None,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-2,
    schedule: Schedule = cosine,
    augment: Augment | None = None,
    before_step: Callable[[float], None] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> History:
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs and batch_size must be >= 1, got {epochs} and {batch_size}")
    student.to(device)
    images = images.to(device)
    optimizer = torch.optim.AdamW(student.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    history, steps, step = History(), epochs * math.ceil(len(images) / batch_size), 0
    start = time.perf_counter()
    try:
        with seeded(seed, device):
            for epoch in tqdm(range(epochs), desc="epoch", leave=False, disable=not progress):
                student.train()
                total = torch.zeros((), device=device)
                for rows in torch.randperm(len(images)).to(device).split(batch_size):
                    done, step = step / steps, step + 1
                    if before_step is not None:
                        before_step(done)
                    batch = images[rows] if augment is None else augment(images[rows])
                    loss = batch_loss(student(batch), batch, rows, done)
                    for group in optimizer.param_groups:
                        group["lr"] = learning_rate * schedule(done)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    total += loss.detach() * len(rows)
                history.train_loss.append(total.item() / len(images))
                if not math.isfinite(history.train_loss[-1]):
                    raise ValueError(f"the loss is no longer finite in epoch {epoch + 1}: lower the learning rate")
                if validation is not None:
                    logits = predict(student, validation.images).cpu()
                    history.validation_accuracy.append(accuracy(logits, validation.labels))
    finally:
        student.eval()
        history.seconds = time.perf_counter() - start
    return history


def _target_source(
    teacher: nn.Module | Tensor, images: Tensor, augment: Augment | None, device: str
) -> Callable[[Tensor, Tensor], Tensor]:
    """How to get a batch's teacher logits: from the kept ones by row, or anew where the images are augmented."""
    if isinstance(teacher, nn.Module) and augment is not None:
        return lambda batch, rows: _without_gradient(teacher, batch)
    if augment is not None:
        raise ValueError("with augment the teacher must see each augmented image: pass the network, not its logits")
    logits = predict(teacher, images) if isinstance(teacher, nn.Module) else teacher
    check_finite_float("teacher logits", logits)
    if len(logits) != len(images):
        raise ValueError(f"{len(logits)} rows of teacher logits for {len(images)} images: they must pair up")
    kept = widen(logits.detach()).to(device)
    return lambda batch, rows: kept[rows]


@torch.no_grad()
def _without_gradient(teacher: nn.Module, batch: Tensor) -> Tensor:
    logits: Tensor = teacher(batch)
    return logits


def _distillation_formula(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    soft = kd_formula(student_logits, teacher_logits, temperature)
    return (1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * soft


def _as_schedule(value: float | Schedule) -> Schedule:
    return value if callable(value) else lambda progress: value


def _paired_labels(split: Split) -> Tensor:
    if len(split.images) != len(split.labels) or len(split.labels) == 0:
        raise ValueError(f"{len(split.images)} images and {len(split.labels)} labels: they must pair up, at least one")
    return split.labels
