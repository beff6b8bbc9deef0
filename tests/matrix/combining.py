"""Averages, aligned units, statistics of batch norm, and low rank: how they are made and what must hold."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kdcourse import averaging, lowrank

from . import oracles
from .judging import Failed, Twin, demand, near
from .masks import copy_of

OURS, THEIRS = 0.75, 0.25


def moved(twin: Twin) -> nn.Module:
    """The network, all its numbers a little other; variances stay above zero."""
    model, generator = copy_of(twin.real), torch.Generator().manual_seed(4)
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            if value.is_floating_point() and not is_lazy(value):
                value.mul_(0.5 + torch.rand(value.shape, generator=generator).to(value))
    return model


def tensors(plain: nn.Module) -> dict[str, Tensor]:
    return {**dict(plain.named_parameters()), **dict(plain.named_buffers())}


def combine(twin: Twin, other: nn.Module, *, counters: bool) -> None:
    """The weighted mean of the plain network and the plain other one, put in its place."""
    ours, theirs = tensors(twin.plain), tensors(other)
    demand(set(ours) <= set(theirs), "the matrix itself: two plain networks differ in names")
    with torch.no_grad():
        for name, value in ours.items():
            if value.is_floating_point():
                value.copy_(OURS * value + THEIRS * theirs[name])
            elif counters:
                value.copy_(theirs[name])


def moving(twin: Twin) -> nn.Module:
    other = moved(twin)
    averaging.moving_average(twin.real, other, decay=OURS)
    return oracles.strip(other).double()


def check_moved(twin: Twin, other: nn.Module, said: str) -> None:
    combine(twin, other, counters=True)
    demand(not said, f"a warning: {said}")
    twin.hold(twin.real, "moved")


def averaging_two(twin: Twin) -> tuple[nn.Module, nn.Module]:
    other = moved(twin)
    return averaging.average_models([twin.real, other], [OURS, THEIRS]), oracles.strip(other).double()


def check_average(twin: Twin, result: tuple[nn.Module, nn.Module], said: str) -> None:
    twin.real, other = result
    combine(twin, other, counters=False)
    demand(not said, f"a warning: {said}")
    twin.hold(twin.real, "averaged")


def check_aligned(twin: Twin, result: nn.Module, said: str) -> None:
    demand(not said, f"a warning: {said}")
    twin.real = result
    twin.hold(result, "aligned")


def check_reset(twin: Twin, result: nn.Module, said: str) -> None:
    """A batch norm with momentum 1 that is alone in train mode keeps the statistics of its one batch."""
    demand(result is twin.real and not said, f"another network, or a warning: {said}")
    twin.plain.eval()
    for part in twin.plain.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = 1.0
            part.train()
    with torch.no_grad():
        twin.plain(*twin.wide) if isinstance(twin.wide, tuple) else twin.plain(twin.wide)
    twin.hold(twin.real, "with statistics of its own batch")


def called(plain: nn.Module) -> list[str]:
    """Names of linear and convolution layers, without those whose weights attention and encoders read by themselves."""
    readers = nn.MultiheadAttention, nn.TransformerEncoderLayer
    inside = {child for part in plain.modules() if isinstance(part, readers) for child in part.modules()}
    kinds = nn.Linear, nn.modules.conv._ConvNd
    return [name for name, part in plain.named_modules() if isinstance(part, kinds) and part not in inside]


def factorizing(twin: Twin) -> nn.Module:
    model = copy_of(twin.real)
    for name in called(model):
        layer, (path, _, attribute) = model.get_submodule(name), name.rpartition(".")
        rank = 1 if is_lazy(layer.weight) else min(len(layer.weight), layer.weight[0].numel())
        setattr(model.get_submodule(path), attribute, lowrank.factorize(layer, rank, allow_larger=True))
    return model


def check_factorized(twin: Twin, result: nn.Module, said: str) -> None:
    demand(not said, f"a warning: {said}")
    twin.hold(result, "of full rank")


def updating(twin: Twin) -> tuple[Tensor, dict[str, Tensor]]:
    """Updates with random factors, merged; with what the network returned before, and the updates by hand."""
    kinds = nn.Linear, nn.modules.conv._ConvNd
    names = [name for name, part in twin.real.named_modules() if isinstance(part, kinds)]
    read = [name for name in names if not is_lazy(twin.real.get_submodule(name).weight)]
    before = [oracles.effective(twin.real, name).clone() for name in read]
    lowrank.add_lora(twin.real, names, rank=1, alpha=0.5)
    for name, weight in zip(names, before, strict=True):
        if not torch.equal(oracles.effective(twin.real, name), weight):
            raise Failed(f"an update that is zero changes the weight of {name!r}")
    factors, by_hand = lowrank.lora_parameters(twin.real), {}
    generator = torch.Generator().manual_seed(6)
    for name, down, up in zip(names, factors[::2], factors[1::2], strict=True):
        with torch.no_grad():
            up.copy_(torch.randn(up.shape, generator=generator))
        by_hand[name] = 0.5 * torch.outer(up.detach().double().flatten(), down.detach().double().flatten())
    unmerged = oracles.tensors(oracles.run(twin.real, twin.example))
    lowrank.merge_lora(twin.real)
    return unmerged, by_hand


def check_updated(twin: Twin, result: tuple[Tensor, dict[str, Tensor]], said: str) -> None:
    unmerged, by_hand = result
    for name, update in by_hand.items():
        weight = oracles.effective(twin.plain, name)
        weight += update.reshape(weight.shape) * twin.masks.get(name, torch.ones(()))
    twin.before_rounding = {}
    near(unmerged, oracles.tensors(twin.expected()), twin.kind, "unmerged: outputs", twin.slack)
    twin.hold(twin.real, "merged")


MOVE: Any = moving, check_moved
MEAN: Any = averaging_two, check_average
ALIGN: Any = lambda twin: averaging.align(twin.real, moved(twin)), check_aligned
RESET: Any = lambda twin: averaging.reset_batchnorm(twin.real, [twin.example]), check_reset
FACTORS: Any = factorizing, check_factorized
LORA: Any = updating, check_updated
