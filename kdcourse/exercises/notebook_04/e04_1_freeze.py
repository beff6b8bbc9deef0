"""04.1 a teacher that holds still."""

from typing import Any

import torch
from torch import nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import modes, small_net


def freeze(teacher: nn.Module) -> nn.Module:
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


def freeze_in_a_line(teacher: nn.Module) -> nn.Module:
    return teacher.requires_grad_(False).train(False)


def freeze_by_modules(teacher: nn.Module) -> nn.Module:
    for module in teacher.modules():
        module.training = False
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False
    return teacher


def gradients_only(teacher: nn.Module) -> nn.Module:
    return teacher.requires_grad_(False)


def eval_only(teacher: nn.Module) -> nn.Module:
    return teacher.eval()


def no_grad_here(teacher: nn.Module) -> nn.Module:
    with torch.no_grad():
        return teacher


def outermost_mode_only(teacher: nn.Module) -> nn.Module:
    teacher.training = False
    return teacher.requires_grad_(False)


def last_layer_only(teacher: nn.Module) -> nn.Module:
    *_, last = teacher.children()
    last.requires_grad_(False)
    return teacher.eval()


def is_frozen(result: Any, case: Case) -> Any:
    """What holds of the returned teacher: parameters that take gradients, modes, statistics moved by a batch."""
    if not isinstance(result, nn.Module):
        return result
    wants, found = [parameter.requires_grad for parameter in result.parameters()], modes(result)
    before = [buffer.clone() for buffer in result.buffers()]
    with torch.no_grad():
        result(draw(5, 2, seed=30))
    moved = [not torch.equal(old, new) for old, new in zip(before, result.buffers(), strict=True)]
    return {
        "the same network": result is case.arguments[0],
        "parameters that take a gradient": sum(wants),
        "parts in train mode": sum(found),
        "statistics that a batch moved": sum(moved),
    }


def freeze_cases() -> list[Case]:
    return [case(small_net(1)), case(nn.Sequential(small_net(2), nn.BatchNorm1d(3).double()))]


EXERCISE = Exercise(
    id="04.1",
    title="a teacher that holds still",
    question=(
        "Write `my_freeze(teacher)`: it makes a network hold still while a student learns from it, and returns it. "
        "Afterwards none of its parameters takes a gradient, and a batch moves none of its statistics. "
        "Change the network itself."
    ),
    skeleton='def my_freeze(teacher):\n    """Make the teacher hold still, and return it."""\n    ...',
    reference=freeze,
    alternatives=(freeze_in_a_line, freeze_by_modules),
    cases=freeze_cases,
    hints=(
        "Two different things can move in a network: what the optimizer changes, and what a forward pass changes.",
        "Batch norm keeps running statistics in train mode, even under `torch.no_grad()`.",
        "`teacher.eval()` for the statistics and `teacher.requires_grad_(False)` for the gradients.",
    ),
    misconceptions=(
        Misconception(
            "teacher left in train mode",
            gradients_only,
            "the parameters hold still, but the teacher is in train mode: every batch moves the statistics "
            "of its batch "
            "norm, and dropout makes its targets random. `torch.no_grad()` does not stop that; `eval()` does",
        ),
        Misconception(
            "teacher receives gradients",
            eval_only,
            "the teacher is in eval mode, but its parameters still take gradients. `eval()` does not stop that: memory "
            "doubles, and an optimizer that holds them lets the teacher drift towards the student",
        ),
        Misconception(
            "no_grad around nothing",
            no_grad_here,
            "the network is as before. `torch.no_grad()` acts on what is computed inside its block; it changes nothing "
            "in a network that is only passed through",
        ),
        Misconception(
            "the outermost mode only",
            outermost_mode_only,
            "setting `.training` on the outermost module reaches none of its layers: batch norm still trains. `eval()` "
            "goes through all of them",
        ),
        Misconception(
            "the last layer only",
            last_layer_only,
            "only the last layer is frozen. That is for fine-tuning; a teacher holds still as a whole",
        ),
    ),
    shows="a teacher holds still only with both: eval mode for its statistics, no gradients for its parameters.",
    derivation=(
        "`requires_grad` decides what backward computes, `training` how batch norm and dropout act forward. Neither "
        "touches the other."
    ),
    observe=is_frozen,
    may_change=True,
    forbidden=("kdcourse.training.frozen",),
)
