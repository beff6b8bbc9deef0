"""13.4 batch norm on another domain."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, case, draw, integer
from .common import changed, norms_of, other_gradients, other_modes, remembering, starting_here
from .wrong_13_4 import WRONG

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def reset_batchnorm(model: nn.Module, images: Tensor) -> nn.Module:
    norms = [module for module in model.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, training in modes:
        module.training = training
    return model


def reset_through_a_copy(model: nn.Module, images: Tensor) -> nn.Module:
    copy = deepcopy(model).eval()
    for module in copy.modules():
        if isinstance(module, NORMS):
            module.reset_running_stats()
            module.train().momentum = None
    copy(images)
    new = dict(copy.named_buffers())
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(new[name])
    return model


def reset_by_hooks(model: nn.Module, images: Tensor) -> nn.Module:
    def measure(norm: Any, arguments: tuple[Tensor, ...]) -> None:
        columns = arguments[0].transpose(0, 1).flatten(1)
        norm.running_mean.copy_(columns.mean(dim=1))
        norm.running_var.copy_(columns.var(dim=1))

    before = {module: module.training for module in model.modules()}
    model.train(False)
    norms = [module for module in before if isinstance(module, NORMS)]
    hooks = [norm.train().register_forward_pre_hook(measure) for norm in norms]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    for module, training in before.items():
        module.training = training
    return model


def after_the_reset(result: Any, case: Case) -> Any:
    """The statistics, and what else is not as before."""
    if not isinstance(result, nn.Module):
        return result
    given: Any = case.arguments[0]
    norms = norms_of(result)
    return {
        "the same network": result is given,
        "parameters that changed": changed(given, nn.Parameter),
        "parameters whose requires_grad changed": other_gradients(given, result),
        "statistics with a history": sum(buffer.requires_grad for buffer in result.buffers()),
        "modules in another mode": other_modes(given, result),
        "norms with another momentum": sum(
            norm.momentum != old for norm, old in zip(norms, given.momenta, strict=True)
        ),
        "hooks left behind": sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in result.modules()),
        "running means": [norm.running_mean.detach().clone() for norm in norms],
        "running variances": [norm.running_var.detach().clone() for norm in norms],
    }


class Dropping(nn.Module):
    """Dropout as a function: it follows the mode of the module that calls it. A norm without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3, affine=False, momentum=0.3)

    def forward(self, features: Tensor) -> Tensor:
        normed: Tensor = self.norm(F.dropout(self.layer(features), 0.5, self.training))
        return normed


def ready(net: Any, seed: int) -> Any:
    net = remembering(net.double(), seed)
    net.momenta = [norm.momentum for norm in norms_of(net)]
    return net


def two_norms(seed: int) -> Any:
    return ready(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3), nn.Tanh(), nn.BatchNorm1d(3)), seed)


def with_dropout(seed: int) -> Any:
    inner = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.BatchNorm1d(4, momentum=0.2), nn.ReLU())
    return ready(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), inner, Dropping()), seed)


def of_images(seed: int) -> Any:
    layers = nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3, momentum=None), nn.ReLU(), nn.Dropout2d(0.5), nn.Flatten()
    return ready(nn.Sequential(*layers, nn.Linear(12, 2), nn.BatchNorm1d(2)), seed)


def in_mixed_modes(net: Any) -> Any:
    for number, part in enumerate(net.modules()):
        part.training = number % 3 != 1
    return starting_here(net)


def reset_cases() -> list[Case]:
    return [
        case(two_norms(1).eval(), draw(4, 2, seed=40) + 1),
        case(starting_here(with_dropout(2).eval()), draw(6, 2, seed=41)),
        case(of_images(3), draw(5, 1, 3, 3, seed=42) - 2),
        case(in_mixed_modes(with_dropout(4)), draw(5, 2, seed=43)),
        case(starting_here(of_images(5).eval()), draw(3, 1, 3, 3, seed=44)),
    ]


def drawn_reset(g: torch.Generator) -> Case:
    make = with_dropout if integer(g, 0, 1) else two_norms
    return case(make(integer(g, 6, 99)), draw(integer(g, 3, 6), 2, seed=g) + 1)


EXERCISE = Exercise(
    id="13.4",
    title="batch norm on another domain",
    question=(
        "A network with batch norm was trained on one domain, and `images` is one batch without labels from another. "
        "Write `my_reset_batchnorm(model, images)`: it replaces the running mean and variance of every batch norm in "
        "`model`, at any depth, by the mean and the unbiased variance, per channel, of the inputs that this norm gets "
        "in one forward pass of `images`. In that pass every batch norm is in train mode and all other modules are in "
        "eval mode, so that dropout is off. Nothing of the old statistics is left, and nothing else changes: "
        "parameters, the norms' `momentum` and the mode of every single module are as before. `num_batches_tracked` "
        "does not matter. Change `model` itself and return it."
    ),
    skeleton=(
        "def my_reset_batchnorm(model, images):\n"
        '    """Re-estimate the running statistics of every batch norm on one batch."""\n    ...'
    ),
    reference=reset_batchnorm,
    alternatives=(reset_through_a_copy, reset_by_hooks),
    cases=reset_cases,
    drawn=drawn_reset,
    hints=(
        "In train mode batch norm updates its running statistics by itself. By how much of the batch?",
        "new = (1 - momentum) · old + momentum · batch. With which momentum is nothing of the old left? Write down "
        "`momentum` and `training` of every module before you change them.",
        "`model.eval()`; each norm `.train()` with `momentum = 1.0`; one pass under `torch.no_grad()`; then put back "
        "each momentum and each `module.training`.",
    ),
    misconceptions=WRONG,
    shows="a batch norm's statistics belong to a domain, its weights to a task: the first need no labels.",
    derivation=(
        "running = (1 - m) · running + m · batch, with the unbiased variance: at m = 1 only the batch is left. In "
        "train mode each norm passes on what it normalized with the batch, which is what the new statistics will do. "
        "Source: Li, Wang, Shi, Liu, Hou 2016 (AdaBN), arXiv:1603.04779."
    ),
    observe=after_the_reset,
    forbidden=("kdcourse.averaging.reset_batchnorm",),
    may_change=True,
    points=2,
)
