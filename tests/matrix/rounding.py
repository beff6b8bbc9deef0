"""Rounded, folded and shared weights: how they are made and what must hold."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse import quantization

from . import oracles
from .judging import Twin, demand, near, said_of
from .masks import Way, check_same_and_plain, left_out, power

Change = Callable[[Tensor, int], Tensor]
"""A weight and the dimension of its output channels to the rounded weight."""


def four(weight: Tensor, axis: int) -> Tensor:
    return oracles.rounded(weight, 4, axis)


def eight(weight: Tensor, axis: int) -> Tensor:
    return oracles.rounded(weight, 8, axis)


def step(weight: Tensor, axis: int) -> Tensor:
    return oracles.learned(weight, 4)


def quantizing(change: Change, *, activations: bool = False, output: bool = False, **options: Any) -> Way:
    """Act and check of `fake_quantize_model`, where ``change`` rounds a weight by hand."""

    def act(twin: Twin) -> nn.Module:
        if not activations:
            return quantization.fake_quantize_model(twin.real, **options)
        ranges = quantization.calibrate(twin.real, [twin.example])
        return quantization.fake_quantize_model(
            twin.real, activation_bits=8, ranges=ranges, quantize_output=output, **options
        )

    def check(twin: Twin, result: nn.Module, said: str) -> None:
        seen = oracles.observed(twin.plain, twin.wide)
        covered, left = replaced(twin, result, change)
        if activations:
            layers = [name for name in called(twin, seen) if f"{name}.weight" in covered]
            left += [name for name in covered if oracles.short(name) not in layers]
            twin.inputs_rounded |= {name: (oracles.bounds(seen[name][0]), 8) for name in layers}
        if output:
            twin.outputs_rounded[layers[-1]] = oracles.bounds(seen[layers[-1]][1]), 8
        said_of(left, said, "weights or inputs")
        demand(left or not said, f"a warning, and nothing left out: {said}")
        twin.real = result
        twin.hold(result, "rounded")

    return act, check


def replaced(twin: Twin, result: nn.Module, change: Change) -> tuple[list[str], list[str]]:
    """Names of the weights that are changed as by hand, and of those that are as before."""
    twin.plain = oracles.untied(twin.plain)
    covered, left = [], []
    for name in oracles.matrices(twin.plain):
        found, before = oracles.effective(result, name).double(), oracles.effective(twin.plain, name)
        axis = oracles.axis_of(twin.plain, name)
        wanted = change(before, axis)
        # halfway between two levels, the last bit of the scale decides
        halfway = ((found + wanted) / 2 - before).abs() <= 0.02 * (found - wanted).abs()
        wanted = torch.where(halfway, found, wanted)
        if torch.allclose(found, wanted, rtol=1e-5 if twin.kind.dtype != torch.bfloat16 else 0.02, atol=1e-7):
            covered.append(name)
            if change is not step:  # a learned step stays as it is
                twin.before_rounding[oracles.short(name)] = before.clone(), partial(change, axis=axis)
            before.copy_(wanted)
        else:
            near(found, before, twin.kind, f"{name} is neither rounded as by hand nor as before: weights")
            left.append(name)
    return covered, left


def fold(twin: Twin) -> nn.Module:
    return quantization.fold_batchnorm(twin.real)


def check_fold(twin: Twin, result: nn.Module, said: str) -> None:
    twin.hold(result, "folded")
    norms = [name for name, part in result.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    said_of(norms, said, "batch norms")
    demand(norms or not said, f"a warning, and nothing left out: {said}")
    twin.real = result
    for name, mask in list(twin.masks.items()):
        weight = oracles.effective(result, name)
        demand(not weight[~mask].any(), f"pruned weights of {name!r} came back")
    twin.read()


def share(twin: Twin) -> nn.Module:
    return quantization.share_model(twin.real, bits=3)


def check_share(twin: Twin, result: nn.Module, said: str) -> None:
    left = []
    twin.plain = oracles.untied(twin.plain)
    for name, before in oracles.matrices(twin.plain).items():
        found = oracles.effective(result, name).double()
        demand(found.shape == before.shape, f"{name} has shape {tuple(found.shape)}, must have {tuple(before.shape)}")
        if len(found.unique()) > 8 or (found.equal(before) and len(before.unique()) > 8):
            near(found, before, twin.kind, f"{name} is neither shared nor as before: weights")
            left.append(name)
            continue
        demand(not found[before == 0].any(), f"zeros of {name!r} are no longer zero")
        # k-means starts from 7 evenly spaced values, and can only come nearer on average
        spread = (before.max() - before.min()) / 6 / 2
        demand((found - before).square().mean() <= spread**2, f"{name!r} is far from the weights that it shares")
        before.copy_(found)
    said_of(left, said, "weights")
    demand(left or not said, f"a warning, and nothing left out: {said}")
    twin.hold(result, "shared")
    twin.real, twin.masks = result, {}


def check_calibrate(twin: Twin, found: Any, said: str) -> None:
    """Ranges of every linear and convolution layer that is called, right for whatever layer they are of."""
    seen = oracles.observed(twin.plain, twin.wide)
    for name, range_ in found.items():
        demand(name in seen, f"a range for {name!r}, which is no layer of the network")
        wanted = [oracles.bounds(part) for part in seen[name]]
        slack = 1 / 255 if twin.inputs_rounded else 0.0  # measured before rounding or after
        near([tuple(end) for end in range_], wanted, twin.kind, f"ranges of {name!r}", slack)
    missing = [name for name in called(twin, seen) if name not in found]
    demand(not missing, f"no ranges of {missing}")


def called(twin: Twin, seen: dict[str, Any]) -> list[str]:
    """The linear and convolution layers that were called, in their order."""
    kinds = nn.Linear | nn.modules.conv._ConvNd
    return [name for name in seen if isinstance(twin.plain.get_submodule(name), kinds)]


def check_integers(twin: Twin, network: Any, said: str) -> None:
    wanted = oracles.tensors(twin.expected())
    found = oracles.tensors(network(twin.example))
    near(found, wanted, twin.kind, "in integers: outputs", 0.03)


def check_bit_sensitivity(twin: Twin, found: dict[str, dict[int, float]], said: str) -> None:
    before = oracles.tensors(twin.expected()).square().mean()
    for name, damages in found.items():
        alone = twin.aside(untied=True)
        weight = oracles.effective(alone.plain, name)
        weight.copy_(oracles.rounded(weight, 4, oracles.axis_of(alone.plain, name)))
        wanted = oracles.tensors(alone.expected()).square().mean()
        near(damages[4] + before, wanted, twin.kind, f"measured with {name!r} rounded: values")
    free = twin.aside(untied=True)
    left_out(free, found, said)


def bits_of_layers(twin: Twin) -> dict[str, dict[int, float]]:
    return quantization.bit_sensitivity(twin.real, lambda model: power(model, twin.example), (4,))


QUANTIZERS = "WeightQuantizer LearnedStep ActivationQuantizer"
FOLD = fold, check_fold
FOUR = quantizing(four, weight_bits=4)
EIGHT = quantizing(eight)
LEARNED = quantizing(step, weight_bits=4, learned_step=True)
ACTIVATIONS = quantizing(eight, activations=True)
OUTPUTS = quantizing(eight, activations=True, output=True)
BAKE = lambda twin: quantization.bake(twin.real), check_same_and_plain(QUANTIZERS)
INTEGERS = lambda twin: quantization.integer_network(twin.real), check_integers
CALIBRATE = lambda twin: quantization.calibrate(twin.real, [twin.example]), check_calibrate
BITS = bits_of_layers, check_bit_sensitivity
SHARE = share, check_share
