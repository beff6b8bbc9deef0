"""Wrong answers to 21.2, each with its diagnosis."""

from typing import Any

import torch
from torch import Tensor

from ..engine.core import Misconception

Checkpoint = dict[str, Any]


def _generator(state: Tensor) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state)
    return generator


def _run(
    checkpoint: Checkpoint,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    generator: torch.Generator | None = None,
    reshuffles: bool = True,
    short: str = "kept",
    sums: bool = False,
    after: int = 0,
    dampening: float = 0.0,
) -> Checkpoint:
    """The right run, but for what the options say."""
    new, rows_in_all = dict(checkpoint), len(inputs)
    generator = generator or _generator(checkpoint["random"])
    for _ in range(steps):
        left = rows_in_all - new["position"]
        if left <= 0 or (short == "dropped" and left < min(batch_size, rows_in_all)):
            order = torch.randperm(rows_in_all, generator=generator) if reshuffles else new["order"]
            new |= {"order": order, "position": 0}
        rows = new["order"][new["position"] : new["position"] + batch_size]
        new["position"] += len(rows)
        if short == "filled" and len(rows) < min(batch_size, rows_in_all):
            new["order"] = torch.randperm(rows_in_all, generator=generator)
            new["position"] = batch_size - len(rows)
            rows = torch.cat([rows, new["order"][: new["position"]]])
        gradient = inputs[rows].T @ (inputs[rows] @ new["weight"] - targets[rows]) / (1 if sums else len(rows))
        new["velocity"] = momentum * new["velocity"] + (1 - dampening) * gradient
        new["weight"] = new["weight"] - learning_rate / (1 + new["step"] + after) * new["velocity"]
        new["step"] += 1
    return new | {"random": generator.get_state()}


def velocity_from_zero(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    still = checkpoint | {"velocity": torch.zeros_like(checkpoint["velocity"])}
    return _run(still, inputs, targets, **how)


def schedule_from_zero(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    new = _run(checkpoint | {"step": 0}, inputs, targets, **how)
    return new | {"step": checkpoint["step"] + how["steps"]}


def counter_from_zero(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint | {"step": 0}, inputs, targets, **how)


def epoch_again(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint | {"position": 0}, inputs, targets, **how)


def new_order_at_once(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint | {"position": len(inputs)}, inputs, targets, **how)


def seeded_again(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, generator=torch.Generator().manual_seed(0), **how)


def global_generator(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    torch.manual_seed(0)
    new = _run(checkpoint, inputs, targets, generator=torch.default_generator, **how)
    return new | {"random": checkpoint["random"]}


def old_generator(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, **how) | {"random": checkpoint["random"]}


def old_velocity(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, **how) | {"velocity": checkpoint["velocity"]}


def old_position(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, **how) | {"position": checkpoint["position"]}


def old_order(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, **how) | {"order": checkpoint["order"]}


def never_reshuffled(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, reshuffles=False, **how)


def short_batch_dropped(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, short="dropped", **how)


def short_batch_filled(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, short="filled", **how)


def sum_for_mean(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, sums=True, **how)


def one_step_late(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, after=1, **how)


def dampened(checkpoint: Checkpoint, inputs: Tensor, targets: Tensor, **how: Any) -> Checkpoint:
    return _run(checkpoint, inputs, targets, dampening=how["momentum"], **how)


WRONG = (
    Misconception(
        "velocity from zero",
        velocity_from_zero,
        "you begin with a velocity of zero. The optimizer's memory is part of the run: without it the first steps "
        "after the restart are too small",
    ),
    Misconception(
        "the schedule from the beginning",
        schedule_from_zero,
        "the learning rate starts again as in the first step: you count the steps of this call only. Use `step` of the "
        "checkpoint",
    ),
    Misconception(
        "the counter from zero",
        counter_from_zero,
        "you begin with step 0. The schedule then starts again with its largest learning rate, and the next "
        "checkpoint counts wrongly",
    ),
    Misconception(
        "the epoch from its beginning",
        epoch_again,
        "you begin the order again at position 0: the first rows of this epoch are used twice",
    ),
    Misconception(
        "a new order right away",
        new_order_at_once,
        "you draw a new order when you start. The rows that were left of the interrupted epoch are never used in it. "
        "Go on in the order of the checkpoint from its position",
    ),
    Misconception(
        "seeded again",
        seeded_again,
        "you make a generator with a seed of your own. The next orders are then not those of the uninterrupted run, "
        "and perhaps those of its first epochs: `set_state(checkpoint['random'])`",
    ),
    Misconception(
        "another generator",
        global_generator,
        "you draw the orders from a generator other than that of the checkpoint. Set its state to "
        "`checkpoint['random']`, draw from it, and store its new state",
    ),
    Misconception(
        "the generator's old state",
        old_generator,
        "you return the old state of the generator. After the next interruption the same order would be drawn again: "
        "`generator.get_state()` at the end",
    ),
    Misconception(
        "the old velocity", old_velocity, "you return the old velocity: write down the one after the last step"
    ),
    Misconception(
        "the old position",
        old_position,
        "you return the old position: the rows of these steps would be used again. Write down the one after the last "
        "step",
    ),
    Misconception(
        "the old order",
        old_order,
        "you return the old order also where a new one was drawn. The next run would go on in the wrong epoch",
    ),
    Misconception(
        "one order for all epochs",
        never_reshuffled,
        "you use the same order in every epoch. When all rows are used, the generator draws the next one",
    ),
    Misconception(
        "short batches dropped",
        short_batch_dropped,
        "you drop the last batch of an epoch where it is shorter. Here it counts",
    ),
    Misconception(
        "short batches filled up",
        short_batch_filled,
        "you fill up the last batch of an epoch with rows of the next one. Here it stays short",
    ),
    Misconception(
        "a sum for the mean",
        sum_for_mean,
        "you add up the gradients of a batch's rows. The loss is a mean: divide by the number of rows in the batch, "
        "which is smaller for the last one",
    ),
    Misconception(
        "one step late",
        one_step_late,
        "the learning rate is one step ahead: s is the number of steps *before* this one, 0 for the very first",
    ),
    Misconception(
        "dampened",
        dampened,
        "you multiply the gradient by (1 - momentum). That is a moving average; PyTorch's SGD adds the whole gradient",
    ),
)
