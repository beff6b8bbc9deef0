"""04.1 a frozen teacher."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
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


def attribute_of_the_module(teacher: nn.Module) -> nn.Module:
    teacher.eval().requires_grad = False  # type: ignore[assignment]
    return teacher


def gradients_switched_on(teacher: nn.Module) -> nn.Module:
    return teacher.eval().requires_grad_()


def train_mode_asked_for(teacher: nn.Module) -> nn.Module:
    return teacher.train().requires_grad_(False)


def norms_in_eval_mode_only(teacher: nn.Module) -> nn.Module:
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    return teacher.requires_grad_(False)


def a_frozen_copy(teacher: nn.Module) -> nn.Module:
    return freeze(deepcopy(teacher))


def one_level_only(teacher: nn.Module) -> nn.Module:
    for module in teacher.children():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    return teacher.eval()


def matrices_only(teacher: nn.Module) -> nn.Module:
    for name, parameter in teacher.named_parameters():
        if "weight" in name:
            parameter.requires_grad_(False)
    return teacher.eval()


class Scaled(nn.Module):
    """No list of layers: a parameter of its own, and a network inside."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(draw(3, seed=seed, spread=1.0))
        self.net = small_net(seed)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images) * self.scale
        return logits


def is_frozen(result: Any, case: Case) -> Any:
    """What is true of the returned teacher: parameters that take gradients, modes, statistics moved by a batch."""
    if not isinstance(result, nn.Module):
        return result
    wants, found = [parameter.requires_grad for parameter in result.parameters()], modes(result)
    before = [buffer.clone() for buffer in result.buffers()]
    with torch.no_grad():
        logits = result(draw(5, 2, seed=30))
    moved = [not torch.equal(old, new) for old, new in zip(before, result.buffers(), strict=True)]
    return {
        "the same network": result is case.arguments[0],
        "parameters that take a gradient": sum(wants),
        "an attribute instead": any(wants) and any("requires_grad" in vars(part) for part in result.modules()),
        "parts in train mode": sum(found),
        "statistics that a batch moved": sum(moved),
        "logits": logits.detach(),
    }


def partly_frozen(seed: int) -> nn.Sequential:
    """Some parts in eval mode already, some parameters without gradients."""
    net = small_net(seed)
    net[0].requires_grad_(False)
    net[1].eval()
    return net


def freeze_cases() -> list[Case]:
    deeper = nn.Sequential(small_net(2), nn.BatchNorm1d(3).double())
    return [case(small_net(1)), case(deeper), case(Scaled(3)), case(partly_frozen(4)), case(small_net(5).eval())]


def drawn_network(g: torch.Generator) -> Case:
    seed = integer(g, 20, 999)
    return case(Scaled(seed) if seed % 2 else small_net(seed))


EXERCISE = Exercise(
    id="04.1",
    title="a frozen teacher",
    question=(
        "Write `my_freeze(teacher)`: it freezes a network while a student learns from it, and returns it. "
        "Afterwards none of its parameters takes a gradient, and a batch moves none of its statistics. "
        "Change the network itself."
    ),
    skeleton='def my_freeze(teacher):\n    """Freeze the teacher, and return it."""\n    ...',
    reference=freeze,
    alternatives=(freeze_in_a_line, freeze_by_modules),
    cases=freeze_cases,
    drawn=drawn_network,
    hints=(
        "Two different things can move in a network: what the optimizer changes, and what a forward pass changes.",
        "Batch norm keeps running statistics in train mode, even under `torch.no_grad()`.",
        "`teacher.eval()` for the statistics and `teacher.requires_grad_(False)` for the gradients.",
    ),
    misconceptions=(
        Misconception(
            "teacher left in train mode",
            gradients_only,
            "the parameters are frozen, but the teacher is in train mode: every batch moves the statistics of its "
            "batch norm, and dropout makes its targets random. `torch.no_grad()` does not stop that; `eval()` does",
        ),
        Misconception(
            "teacher receives gradients",
            eval_only,
            "the teacher is in eval mode, but its parameters still take gradients. `eval()` does not stop that: memory "
            "doubles, and an optimizer that has them lets the teacher drift towards the student",
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
            "only the last layer is frozen. That is for fine-tuning; a teacher is frozen as a whole",
        ),
        Misconception(
            "an attribute on the network",
            attribute_of_the_module,
            "`teacher.requires_grad = False` only puts a new attribute on the network; no parameter reads it. The "
            "method with the underscore, `teacher.requires_grad_(False)`, reaches each",
        ),
        Misconception(
            "gradients switched on",
            gradients_switched_on,
            "`requires_grad_()` without an argument switches gradients *on*: say `requires_grad_(False)`",
        ),
        Misconception(
            "train mode asked for",
            train_mode_asked_for,
            "`train()` switches train mode on: batch norm's statistics move with every batch. `eval()` or "
            "`train(False)`",
        ),
        Misconception(
            "the norms in eval mode only",
            norms_in_eval_mode_only,
            "you put batch norm into eval mode, but dropout still trains, so the same image gets another target each "
            "time. `eval()` on the whole network",
        ),
        Misconception(
            "a copy is frozen",
            a_frozen_copy,
            "you freeze a copy and return that. The network that was given is as before: change it itself",
        ),
        Misconception(
            "one level only",
            one_level_only,
            "you go through the direct parts of the network only. Parameters of its own, and those of parts within "
            "parts, still take gradients: `parameters()` goes through all levels",
        ),
        Misconception(
            "weights without biases",
            matrices_only,
            "you switch off what is called a weight; the biases, and parameters of other names, still take gradients",
        ),
    ),
    shows="a teacher is frozen only with both: eval mode for its statistics, no gradients for its parameters.",
    derivation=(
        "`requires_grad` decides what backward computes, `training` how batch norm and dropout act forward. Neither "
        "touches the other."
    ),
    observe=is_frozen,
    may_change=True,
    forbidden=("kdcourse.training.frozen",),
)
