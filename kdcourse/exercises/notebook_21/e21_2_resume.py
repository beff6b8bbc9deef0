"""21.2 a run that goes on as if it had never stopped."""

from typing import Any

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_21_2 import WRONG, Checkpoint


def resume(
    checkpoint: Checkpoint,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
) -> Checkpoint:
    weight, velocity = checkpoint["weight"], checkpoint["velocity"]
    order, position, done = checkpoint["order"], checkpoint["position"], checkpoint["step"]
    generator = torch.Generator()
    generator.set_state(checkpoint["random"])
    for step in range(done, done + steps):
        if position >= len(inputs):
            order, position = torch.randperm(len(inputs), generator=generator), 0
        rows = order[position : position + batch_size]
        position += len(rows)
        gradient = inputs[rows].T @ (inputs[rows] @ weight - targets[rows]) / len(rows)
        velocity = momentum * velocity + gradient
        weight = weight - learning_rate / (1 + step) * velocity
    state = {"weight": weight, "velocity": velocity, "step": done + steps}
    return state | {"order": order, "position": position, "random": generator.get_state()}


def resume_by_autograd(
    checkpoint: Checkpoint,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
) -> Checkpoint:
    new = dict(checkpoint)
    generator = torch.Generator()
    generator.set_state(checkpoint["random"])
    for _ in range(steps):
        if new["position"] == len(targets):
            new |= {"order": torch.randperm(len(targets), generator=generator), "position": 0}
        rows = new["order"][new["position"] :][:batch_size]
        weight = torch.nn.Parameter(new["weight"])
        loss = ((inputs[rows] @ weight - targets[rows]) ** 2 / 2).mean()
        (slope,) = torch.autograd.grad(loss, weight)
        velocity = new["velocity"] * momentum + slope
        rate = learning_rate / (1 + new["step"])
        new |= {"weight": new["weight"] - rate * velocity, "velocity": velocity}
        new |= {"step": new["step"] + 1, "position": new["position"] + len(rows)}
    return new | {"random": generator.get_state()}


def resume_with_the_global_generator(
    checkpoint: Checkpoint,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
) -> Checkpoint:
    new = {name: value.clone() if isinstance(value, Tensor) else value for name, value in checkpoint.items()}
    torch.set_rng_state(new["random"])
    left = new["order"][new["position"] :].tolist()
    for _ in range(steps):
        if not left:
            new["order"] = torch.randperm(len(inputs))
            left = new["order"].tolist()
        batch, left = left[:batch_size], left[batch_size:]
        slopes = [(inputs[row] @ new["weight"] - targets[row]) * inputs[row] for row in batch]
        new["velocity"] = new["velocity"] * momentum + torch.stack(slopes).mean(dim=0)
        new["weight"] = new["weight"] - new["velocity"] * learning_rate / (new["step"] + 1)
        new["step"] += 1
    new["position"], new["random"] = len(inputs) - len(left), torch.get_rng_state()
    return new


def as_the_next_step_finds_it(result: Any, case: Case) -> Any:
    """The checkpoint; where an epoch has just ended, the next order may have been drawn already."""
    rows = len(case.arguments[1])
    if not isinstance(result, dict) or result["position"] != rows:
        return result
    generator = torch.Generator()
    generator.set_state(result["random"])
    order = torch.randperm(rows, generator=generator)
    return result | {"order": order, "position": 0, "random": generator.get_state()}


def started(seed: int, rows: int, width: int, *, step: int, position: int) -> Checkpoint:
    """A checkpoint in the middle of a run."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(rows, generator=generator)
    return {
        "weight": draw(width, seed=seed + 1, spread=1.0),
        "velocity": draw(width, seed=seed + 2, spread=0.5),
        "step": step,
        "order": order,
        "position": position,
        "random": generator.get_state(),
    }


def killed(
    seed: int | torch.Generator, rows: int, width: int, *, step: int, position: int, steps: int, batch_size: int
) -> Case:
    number = seed if isinstance(seed, int) else integer(seed, 100, 999)
    inputs, targets = draw(rows, width, seed=number + 3, spread=1.0), draw(rows, seed=number + 4, spread=2.0)
    checkpoint = started(number, rows, width, step=step, position=position)
    return case(
        checkpoint,
        inputs,
        targets,
        steps=steps,
        batch_size=batch_size,
        learning_rate=0.3,
        momentum=0.5 + number % 4 / 10,
    )


def resume_cases() -> list[Case]:
    return [
        killed(1, 3, 2, step=1, position=2, steps=1, batch_size=1),
        killed(2, 5, 2, step=4, position=2, steps=2, batch_size=2),  # a short last batch
        killed(3, 5, 2, step=3, position=5, steps=1, batch_size=2),  # an epoch has just ended
        killed(4, 4, 3, step=6, position=2, steps=1, batch_size=2),  # ends with the epoch
        killed(5, 7, 3, step=9, position=4, steps=8, batch_size=3),  # over three epochs
        killed(6, 6, 2, step=2, position=3, steps=0, batch_size=3),
        killed(7, 4, 2, step=0, position=0, steps=5, batch_size=9),  # a batch is a whole epoch
        killed(8, 6, 2, step=5, position=0, steps=3, batch_size=4),  # at the beginning of an epoch
    ]


def drawn_resume(g: torch.Generator) -> Case:
    rows, batch_size = integer(g, 4, 9), integer(g, 2, 4)
    position = min(rows, batch_size * integer(g, 1, 3))
    steps = integer(g, 3, 7)
    return killed(
        g, rows, integer(g, 2, 4), step=integer(g, 1, 9), position=position, steps=steps, batch_size=batch_size
    )


EXERCISE = Exercise(
    id="21.2",
    title="a run that goes on as if it had never stopped",
    question=(
        "A run trains the linear model `inputs @ weight` on half the mean squared error of each batch by SGD with "
        "momentum. It was killed; `checkpoint` is a dict of what it had written: `weight` and `velocity`, tensors "
        "(D,); `step`, how many steps are done; `order`, the rows of the current epoch, int64 (N,); `position`, how "
        "many rows of that order are used; `random`, the state of its `torch.Generator` (`get_state()`). Write "
        "`my_resume(checkpoint, inputs, targets, *, steps, batch_size, learning_rate, momentum)`, which does `steps` "
        "more steps and returns the next checkpoint, with the same keys. `inputs` is (N, D), `targets` (N,), float64. "
        "A step that begins when all N rows are used first draws the next order, `torch.randperm(N, "
        "generator=generator)`, and sets the position to 0. A batch is the next `batch_size` rows of the order, or "
        "those that are left of the epoch. With the gradient g of the batch's loss: velocity = `momentum` · velocity + "
        "g, then weight = weight - `learning_rate` / (1 + s) · velocity, where s steps were done before this one. "
        "Three steps and then four more from the new checkpoint must end where seven end. Do not change `checkpoint`."
    ),
    skeleton=(
        "def my_resume(checkpoint, inputs, targets, *, steps, batch_size, learning_rate, momentum):\n"
        '    """The checkpoint after some more steps."""\n    ...'
    ),
    reference=resume,
    alternatives=(resume_by_autograd, resume_with_the_global_generator),
    cases=resume_cases,
    drawn=drawn_resume,
    hints=(
        "Which of the six entries does the next step read? It has to begin with just these, and leave all of them as "
        "the step after it needs them.",
        "`generator = torch.Generator(); generator.set_state(checkpoint['random'])`, and at the end "
        "`generator.get_state()`. A new order is drawn only when `position` has reached N.",
        "In each step: draw an order if needed; `rows = order[position : position + batch_size]`; "
        "`g = inputs[rows].T @ (inputs[rows] @ weight - targets[rows]) / len(rows)`; velocity; weight; position += "
        "`len(rows)`.",
    ),
    misconceptions=WRONG,
    shows="a run that was killed ends as if nothing had happened when all that its next step reads was written down.",
    derivation=(
        "A step is a function of (weight, velocity, s, order, position, random): f(x) is the next state. Seven steps "
        "are f⁷(x) = f⁴(f³(x)), whatever happens between the two, if x is whole. One entry replaced by a fresh value "
        "makes it another run."
    ),
    observe=as_the_next_step_finds_it,
    points=2,
)
