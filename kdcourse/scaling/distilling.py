"""The loop of `kdcourse.scaling.distill`."""

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .._base.checks import IGNORED, check_fraction, check_positive
from .._base.modes import call
from ..losses import distillation_loss
from ..seeds import seeded
from ..teacher_store import fingerprint
from ..training.batches import Batch, batch_of
from ..training.checkpoint import described, structure
from ..training.fitting import formula, rows_of
from ..training.loop import optimizer_of
from ..training.networks import Output, logits_of, parts_to_keep
from ..training.options import History, Options, Settings, settings_of
from ..training.schedules import Schedule, check_rate, checked, points
from ..training.teachers import Targets, targets_of
from .gradients import mean_gradients
from .saving import resume, save
from .sharing import agreed, shared

if TYPE_CHECKING:
    from accelerate import Accelerator

SETTINGS = "epochs", "learning_rate", "weight_decay", "optimizer", "clip_norm", "augment", "output", "seed"
TAKEN = {*SETTINGS, "schedule", "checkpoint"}


def distill(
    student: nn.Module,
    teacher: nn.Module,
    train: DataLoader[Any],
    *,
    accelerator: "Accelerator",
    temperature: float | Schedule = 4.0,
    alpha: float | Schedule = 0.9,
    teacher_output: Output | None = None,
    **options: Unpack[Options],
) -> History:
    """Train ``student`` in place in all processes of ``accelerator``, otherwise as `kdcourse.training.distill`.

    Every process calls it with the same arguments. ``train`` is the DataLoader of one process: its batch size is that
    of all together, and each takes every W-th row of a batch; it shuffles or keeps the order. A step takes
    ``accelerator.gradient_accumulation_steps`` batches, and its loss is the mean over all their positions that have a
    label. ``checkpoint`` is a folder that all processes see: a killed run goes on from the last epoch that all had
    finished, with as many processes. With two it ends bit for bit where it would have, if its randomness is PyTorch's,
    NumPy's or Python's; with more, sums may round otherwise. Trackers get each epoch's loss and learning rate.

    Of the `Options` it takes epochs, learning_rate, weight_decay, optimizer, clip_norm, augment, output, seed, schedule
    and checkpoint. Raises ``ValueError``, in every process, where their arguments differ, where one would get no rows
    of a batch, and where ``checkpoint`` is of another run. FSDP needs GPUs and a checkpoint, where the weights end.

    >>> from accelerate import Accelerator
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> loader = DataLoader(TensorDataset(torch.randn(80, 2)), batch_size=8, shuffle=True)
    >>> history = distill(student, teacher, loader, accelerator=Accelerator(cpu=True), alpha=1, epochs=2)
    >>> len(history.train_loss)
    2
    """
    weights = {
        "temperature": checked("temperature", temperature, check_positive),
        "alpha": checked("alpha", alpha, check_fraction),
    }
    share: Any = None
    settings = Settings(epochs=1)

    def facts() -> dict[str, str]:
        nonlocal share, settings
        settings = _settings(options, accelerator)
        share = shared(train, accelerator, settings.seed)
        about = _about(accelerator, student, teacher, settings) | {
            "rows": len(train.sampler),  # type: ignore[arg-type]
            "batches": (len(share), train.batch_size),
            **{name: points(each) for name, each in weights.items()},
        }
        return {name: described(value) for name, value in about.items()}

    identity = agreed(accelerator, facts)
    start, history = time.perf_counter(), History()
    seed = settings.seed + accelerator.process_index  # dropout differs between processes, the order does not
    with (
        seeded(seed, accelerator.device),
        targets_of(teacher, student, train, settings, teacher_output or settings.output) as targets,
    ):
        run = _Run(accelerator, student, targets, weights, settings, len(share))
        try:
            if settings.checkpoint is not None:
                resume(accelerator, Path(settings.checkpoint), identity, history)
            start -= history.seconds
            for epoch in range(len(history.train_loss), settings.epochs):
                share.set_epoch(epoch)
                history.train_loss.append(run.epoch(share, epoch))
                history.seconds = time.perf_counter() - start
                accelerator.log({"train_loss": history.train_loss[-1], "learning_rate": run.rate}, step=epoch)
                if settings.checkpoint is not None:
                    save(accelerator, Path(settings.checkpoint), identity, history)
        finally:
            run.end()
    return history


class _Run:
    """What a step needs: the wrapped student, its optimizer, and what the loss is made of."""

    def __init__(
        self,
        accelerator: "Accelerator",
        student: nn.Module,
        targets: Targets,
        weights: dict[str, Schedule],
        settings: Settings,
        batches: int,
    ) -> None:
        self.accelerator, self.targets, self.weights, self.settings = accelerator, targets, weights, settings
        self.kept, self.student = parts_to_keep(student), student
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        self.wrapped, self.optimizer = accelerator.prepare(student, optimizer_of(trained, settings))
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule, self.rate = checked("schedule", settings.schedule, check_rate), 0.0
        self.steps = math.ceil(batches / accelerator.gradient_accumulation_steps)

    def epoch(self, share: Iterable[Any], epoch: int) -> float:
        """Run one epoch; the mean loss over all its positions, in all processes."""
        accelerator, zero = self.accelerator, torch.zeros(2, dtype=torch.float64, device=self.accelerator.device)
        total, here, step, fewest = zero.clone(), zero.clone(), 0, zero[0] + math.inf
        self.wrapped.train()
        for part in self.kept:
            part.training = False
        for item in share:
            with accelerator.accumulate(self.wrapped):
                done = (epoch + step / self.steps) / self.settings.epochs
                loss, count = self._loss(batch_of(item, accelerator.device), done)
                accelerator.backward(loss * count)
                here += torch.stack([loss.detach().double() * count, zero[0] + count])
                if accelerator.sync_gradients:
                    fewest = fewest.minimum(self._before_step(here[1], done))
                    total, here, step = total + here, zero.clone(), step + 1
                self.optimizer.step()
                self.optimizer.zero_grad()
        return self._mean(total, fewest.item(), epoch)

    def _loss(self, batch: Batch, done: float) -> tuple[Tensor, int]:
        """The mean loss of this part of a batch, and of how many positions."""
        if self.settings.augment is not None:
            batch = batch._replace(inputs=self.settings.augment(batch.inputs))
        logits = logits_of(call(self.wrapped, batch.inputs), self.settings.output, whose="the student's output")
        with self.accelerator.autocast():
            soft = self.targets.of(batch, logits)
        if isinstance(batch.labels, Tensor) and batch.highest < 0 and bool((batch.labels == IGNORED).all()):
            return (logits * 0).sum(), 0  # others have labels, and the gradients of all are exchanged
        weights: dict[str, Any] = {name: value(done) for name, value in self.weights.items()}
        rows = rows_of(batch, logits, soft, needed=weights["alpha"] != 1)
        mixed = distillation_loss if self.targets.impossible(rows[1]) else formula
        return mixed(*rows, **weights), len(rows[0])

    def _before_step(self, positions: Tensor, done: float) -> Tensor:
        parameters = list(self.wrapped.parameters())
        everywhere = mean_gradients(self.accelerator, parameters, positions)
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(parameters, self.settings.clip_norm)
        factor = self.schedule(done)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.rate = self.rates[0] * factor
        return everywhere

    def _mean(self, total: Tensor, fewest: float, epoch: int) -> float:
        loss, positions = self.accelerator.reduce(total).tolist()
        if fewest == 0:
            raise ValueError(f"no position of a step is left in any process: its labels are {IGNORED} everywhere")
        if not math.isfinite(loss):
            self.targets.explain()
            raise ValueError(
                f"the loss is no longer finite in epoch {epoch + 1}: lower the learning rate, set clip_norm=, or look "
                "for NaN in the inputs"
            )
        return float(loss / positions)

    def end(self) -> None:
        """Take the wrapper off; the accelerator forgets this run, so that the next is saved by itself."""
        self.accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=False)
        self.accelerator.free_memory()
        self.student.eval()


def _settings(options: Options, accelerator: "Accelerator") -> Settings:
    refused = sorted(options.keys() & Options.__annotations__.keys() - TAKEN)
    if refused:
        raise ValueError(
            f"{refused[0]}= is for one process: the loader makes the batches, the accelerator knows the device, and "
            f"measuring comes after the run. Here the options are {', '.join(sorted(TAKEN))}"
        )
    settings = settings_of("distill", Options(**options, device=accelerator.device))
    if settings.checkpoint is None and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        raise ValueError("under FSDP no process has the whole student: name a folder, checkpoint=, where it ends")
    return settings


def _about(accelerator: "Accelerator", student: nn.Module, teacher: nn.Module, settings: Settings) -> dict[str, Any]:
    """What must be the same in every process, and in a run that goes on."""
    return {
        "processes": accelerator.num_processes,
        "gradient_accumulation_steps": accelerator.gradient_accumulation_steps,
        "mixed_precision": str(accelerator.mixed_precision),
        "teacher": fingerprint(teacher),
        "student": structure(student),
        "schedule": points(settings.schedule),
        **{name: getattr(settings, name) for name in SETTINGS},
    }
