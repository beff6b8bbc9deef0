"""The loop that `fit` and `distill` share: seeded, the same steps for a student on labels only and a distilled one."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from .._base.modes import call
from ..data import Split
from ..metrics import accuracy
from ..seeds import seeded
from .batches import Batch, Batches, Data, read
from .checkpoint import Checkpoint, Running, generators_of, random_state_kept
from .networks import fresh_casts, labelled_logits, logits_of, parts_to_keep
from .options import History, Settings
from .schedules import check_rate, checked, points
from .terms import Pupil

BatchLoss = Callable[[Tensor, Batch, float], Tensor]
"""From the student's logits, the batch and the fraction of training done to the loss."""


def optimise(
    student: nn.Module,
    data: Data,
    batch_loss: BatchLoss,
    settings: Settings,
    *,
    identity: Callable[[], dict[str, Any]],
    explain: Callable[[], None] = lambda: None,
) -> History:
    """Train ``student`` on ``data``; ``identity()`` tells this run from others, whose checkpoints it refuses.

    ``explain()`` is called where the loss is not finite, and may raise a better error.
    """
    start, history = time.perf_counter(), History()
    student.to(settings.device)
    running = _running(student, data, settings)
    batches = read(
        data,
        running.device,
        batch_size=settings.batch_size,
        drop_last=settings.drop_last,
        steps_per_epoch=settings.steps_per_epoch,
        progress=settings.progress,
    )
    step, kept = _stepper(running, batch_loss, settings), parts_to_keep(student)
    saved = Checkpoint(settings.checkpoint, running, lambda: _identity(data, batches, settings) | identity())
    try:
        with seeded(settings.seed, running.device), torch.inference_mode(False), torch.enable_grad(), fresh_casts():
            ended = saved.load(history)
            start -= history.seconds
            for epoch in _bar(len(history.train_loss), settings):
                if ended:
                    break
                student.train()
                for part in kept:
                    part.training = False
                history.train_loss.append(_epoch(step, batches, epoch, settings.epochs, running.device))
                if not math.isfinite(history.train_loss[-1]):
                    explain()
                    raise ValueError(
                        f"the loss is no longer finite in epoch {epoch + 1}: lower the learning rate, set clip_norm=, "
                        "or look for NaN in the inputs"
                    )
                _check_nothing_unfrozen(running)
                ended = _after_epoch(epoch, history, running, settings)
                history.seconds = time.perf_counter() - start
                saved.save(history, ended)
    finally:
        student.eval()
        history.seconds = time.perf_counter() - start
    return history


def _bar(first: int, settings: Settings) -> Any:
    epochs = range(first, settings.epochs)
    quiet = not settings.progress
    return tqdm(epochs, desc="epoch", initial=first, total=settings.epochs, leave=False, disable=quiet)


def _epoch(
    step: Callable[[Batch, float], Tensor], batches: Batches, epoch: int, epochs: int, device: torch.device
) -> float:
    """Run one epoch; the mean of its losses."""
    total, examples = torch.zeros((), device=device), 0
    for place, batch in enumerate(batches.epoch()):
        total += step(batch, (epoch * batches.steps + place) / (epochs * batches.steps))
        examples += batch.size
    return total.item() / examples


def _stepper(running: Running, batch_loss: BatchLoss, settings: Settings) -> Callable[[Batch, float], Tensor]:
    """The function that makes one step, and returns its loss times the number of examples."""
    student, optimizer, scaler = running.student, running.optimizer, running.scaler
    augment, before_step, clip_norm = settings.augment, settings.before_step, settings.clip_norm
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = checked("schedule", settings.schedule, check_rate)
    begun = False

    def step(batch: Batch, done: float) -> Tensor:
        nonlocal begun
        if before_step is not None:
            before_step(done)
        if augment is not None:
            batch = batch._replace(inputs=augment(batch.inputs))
        logits = logits_of(call(student, batch.inputs), settings.output, whose="the student's output")
        loss = batch_loss(logits, batch, done)
        if not begun:
            _check_first(logits, loss)
            begun = True
        factor = schedule(done)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if clip_norm is not None:
            scaler.unscale_(optimizer)
            clip_grad_norm_(running.trained, clip_norm)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach() * batch.size

    return step


def _check_first(logits: Tensor, loss: Tensor) -> None:
    """What can be known before the first step, and would otherwise be blamed on the learning rate."""
    if not isinstance(loss, Tensor) or loss.ndim != 0:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"the loss must be a 0-d tensor, the mean over the batch, got {found}")
    if not loss.requires_grad:
        raise ValueError("the loss does not depend on the student's parameters: nothing would be learned")
    if not (logits < math.inf).all():  # -inf is a class that cannot be
        raise ValueError(
            "the student's logits contain NaN or infinity before the first step: look at its weights and the inputs"
        )


def _after_epoch(epoch: int, history: History, running: Running, settings: Settings) -> bool:
    """Measure and report, which leaves PyTorch's random numbers where they were; whether the run is to end."""
    with random_state_kept(running.device):
        if settings.validation is not None:
            logits, labels = labelled_logits(running.student, settings.validation, settings.output)
            history.validation_accuracy.append(accuracy(logits, labels))
        ends: Any = None if settings.on_epoch is None else settings.on_epoch(epoch, history)
    ends = ends.item() if hasattr(ends, "item") else ends
    if ends is not None and not isinstance(ends, bool):
        raise TypeError(f"on_epoch must return True to end the run, or False or None, got {ends!r}")
    return bool(ends)


def _running(student: nn.Module, data: Data, settings: Settings) -> Running:
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("there is nothing to train: the network has no parameter that takes a gradient")
    if any(parameter.dtype == torch.float16 for parameter in trained):
        raise TypeError(
            "float16 weights cannot be trained, their updates round to nothing: keep the weights in float32 and call "
            "this inside torch.autocast(device, torch.float16), or use bfloat16"
        )
    device = torch.device(settings.device)
    # float16 under autocast needs its gradients scaled into range; otherwise this does nothing
    half = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    optimizer = optimizer_of(trained, settings)
    _check_regressors(student, optimizer)
    return Running(student, trained, optimizer, scaler, generators_of(data), device)


def optimizer_of(trained: list[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer is None:
        rate, decay = 2e-3 if rate is None else rate, 1e-2 if decay is None else decay
        return torch.optim.AdamW(trained, lr=rate, weight_decay=decay, fused=True)
    if rate is not None or decay is not None:
        raise ValueError("learning_rate= and weight_decay= are AdamW's: give them to the optimizer that you make")
    optimizer = settings.optimizer(trained)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer= must return a torch.optim.Optimizer, got {type(optimizer).__name__}")
    theirs = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if theirs.isdisjoint(map(id, trained)):
        raise ValueError("the optimizer holds no parameter of the student: make it of the list that it is called with")
    return optimizer


def _check_regressors(student: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    theirs = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in student.named_parameters() if isinstance(student, Pupil) else ():
        if name.startswith("regressors.") and parameter.requires_grad and id(parameter) not in theirs:
            raise ValueError(
                f"the optimizer does not hold the regressor's {name.partition('.')[2]}: make it of the list that it "
                "is called with, or freeze the regressor, regressor.requires_grad_(False)"
            )


def _check_nothing_unfrozen(running: Running) -> None:
    known = set(map(id, running.trained))
    for name, parameter in running.student.named_parameters():
        if parameter.requires_grad and id(parameter) not in known:
            raise ValueError(
                f"{name} takes a gradient only since the run began, and the optimizer does not know it: "
                "let it take one before, with a rate of 0 until then, or train in two runs"
            )


def _identity(data: Data, batches: Batches, settings: Settings) -> dict[str, Any]:
    return {
        "train": data if isinstance(data, Split) else type(data).__name__,
        "steps": batches.steps,
        "schedule": points(settings.schedule),
        "validation": settings.validation is not None,
        "device": torch.device(settings.device).type,
        **{
            name: getattr(settings, name)
            for name in ("epochs", "batch_size", "drop_last", "clip_norm", "augment", "output", "seed")
        },
    }
