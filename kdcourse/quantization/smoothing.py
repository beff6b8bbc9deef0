"""Scales moved from a norm into the weights that read it: the same function, with other numbers to be rounded.

A norm's output x is divided by s, its readers' weights W are multiplied by it, input by input: (x / s)·(W·s)ᵀ = x·Wᵀ.
All readers of the norm must be named, and nothing else may read it: the network is run on ``example`` before and after
in float64, and refused where an output changes.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from .._base.checks import check_count, check_fraction, check_weight, widen
from .._base.hessians import input_hessian
from .._base.modes import Inputs, call, in_eval_mode, layer_by_layer
from .._base.parametrizing import copied
from .._base.weights import Place, all_places
from .affine import choose_qparams, fake_quantize_formula

Model = TypeVar("Model", bound=nn.Module)
SAME = 1e-5  # of the largest output: far above rounding in float64, far below what a reader left out changes


class _Seen(NamedTuple):
    """What the norm returned, (positions, channels) in float64, and the outputs of the network."""

    inputs: Tensor
    outputs: list[Tensor]


@torch.no_grad()
def smooth(model: Model, example: Inputs, *, norm: str, readers: Sequence[str], alpha: float = 0.5) -> Model:
    """A copy in which large activations after a norm are small, and its readers' weights larger: SmoothQuant.

    s_j = max|x_j|^alpha / max|W_j|^(1 - alpha), over all positions of ``example`` and all rows of all readers. A
    channel that is zero throughout, or that no reader uses, keeps s = 1.

    ``example`` is a batch as the model takes it; ``norm`` is the name of a layer norm, RMS norm or another module
    whose weight and bias (C,) scale its last dimension; ``readers`` name the weights (outputs, C) that it feeds:
    linear layers, or attention's ``in_proj_weight``. ``alpha`` in [0, 1] is how much of the range moves. Raises
    ``ValueError`` for names and shapes that do not fit, weights that are computed, and outputs that change.

    Source: Xiao et al. 2022, arXiv:2211.10438, section 4, equation 4.

    >>> model, x = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), torch.rand(8, 4)
    >>> with torch.no_grad():
    ...     _ = model[0].weight[1].mul_(100)
    >>> smoothed = smooth(model, x, norm="0", readers=["1"])
    >>> torch.allclose(smoothed(x), model(x), rtol=1e-4), smoothed[0](x).abs().max() < model[0](x).abs().max()
    (True, tensor(True))
    """
    check_fraction("alpha", alpha)
    weights = _readers(model, norm, readers)
    seen = _run(model, example, norm)
    largest = seen.inputs.abs().amax(dim=0)
    used = torch.stack([weight.abs().amax(dim=0) for weight in weights]).amax(dim=0)
    moved = (largest > 0) & (used > 0)
    scales = torch.where(moved, largest**alpha / used ** (1 - alpha), 1.0)
    return _rescaled(model, example, norm, readers, scales, seen)


@torch.no_grad()
def awq(
    model: Model,
    example: Inputs,
    *,
    norm: str,
    readers: Sequence[str],
    bits: int,
    group_size: int | None = None,
    symmetric: bool = False,
    steps: int = 20,
) -> Model:
    """A copy whose readers of a norm lose less when their weights are rounded afterwards: activation-aware scales.

    s_j = mean|x_j|^β, divided by √(max s · min s), with the β of 0, 1/steps … 1 that has the smallest error
    Σ over readers of ‖x·(W - Ŵ)ᵀ‖², Ŵ = fake_quantize(W·s) / s. β = 0 is plain rounding: on ``example`` it cannot get
    worse. The weights are not rounded yet: `choose_qparams` with the same bits and groups (``axis=0`` without), or
    `gptq`, does that. The norm, which takes 1 / s, stays in floats.

    Everything else is as in `smooth`; also raises ``ValueError`` for a group size that does not divide.

    Source: Lin et al. 2023, arXiv:2306.00978, section 3.2, without clipping.

    >>> model, x = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), torch.rand(8, 4)
    >>> torch.allclose(awq(model, x, norm="0", readers=["1"], bits=3)(x), model(x), atol=1e-5)
    True
    """
    check_count("steps", steps, least=1)
    weights = _readers(model, norm, readers)
    seen = _run(model, example, norm)
    sizes, hessian = seen.inputs.abs().mean(dim=0), input_hessian(seen.inputs)
    if not sizes.any():
        raise ValueError(f"norm {norm!r} returned zeros alone on this example: there is nothing to go by")
    sizes = torch.where(sizes > 0, sizes, sizes[sizes > 0].min())

    def scaled(step: int) -> Tensor:
        powers = sizes ** (step / steps)
        return powers / (powers.max() * powers.min()).sqrt()

    def error(scales: Tensor) -> float:
        total = 0.0
        for weight in weights:
            grown = (weight.double() * scales).to(weight.dtype)
            params = choose_qparams(grown, bits=bits, symmetric=symmetric, axis=0, group_size=group_size)
            lost = fake_quantize_formula(grown, params).double() / scales - weight.double()
            total += ((lost @ hessian) * lost).sum().item()
        return total

    best = min(map(scaled, range(steps + 1)), key=error)  # of equal ones the first: the least change
    return _rescaled(model, example, norm, readers, best, seen)


def _places(model: nn.Module, names: Sequence[str]) -> list[Place]:
    known = all_places(model)
    for name in names:
        if name not in known:
            nearest = ", ".join(map(repr, get_close_matches(name, known, n=3, cutoff=0.0)))
            raise ValueError(f"the model has no {name!r} with a weight; the nearest names are {nearest}")
        if known[name].computed_by:
            raise ValueError(f"the weight of {name!r} is computed by {known[name].computed_by}")
    return [known[name] for name in names]


def _norm_parts(model: nn.Module, norm: str) -> list[Tensor]:
    """The norm's weight and, where it has one, its bias."""
    names = [norm] + [f"{norm}.bias"] * (f"{norm}.bias".lstrip(".") in all_places(model))
    parts = [place.stored for place in _places(model, names)]
    if any(part.ndim != 1 for part in parts):
        raise ValueError(f"{norm!r} is not a norm: its weight has shape {tuple(parts[0].shape)}, not (channels,)")
    return parts


def _readers(model: nn.Module, norm: str, readers: Sequence[str]) -> list[Tensor]:
    """The readers' weights, checked, half precision widened."""
    if isinstance(readers, str) or not readers:
        raise ValueError(f"readers must be a list of one name or more, got {readers!r}")
    channels = len(_norm_parts(model, norm)[0])
    weights = [place.stored.detach() for place in _places(model, readers)]
    for name, weight in zip(readers, weights, strict=True):
        if weight.ndim != 2 or weight.shape[1] != channels:
            shape = tuple(weight.shape)
            raise ValueError(f"{name!r} {shape} does not read the {channels} channels of {norm!r}")
        check_weight(f"the weight of {name!r}", weight)
    return [widen(weight) for weight in weights]


def _run(model: nn.Module, example: Inputs, norm: str) -> _Seen:
    """A copy of the network in float64 on the example."""
    wide, found = copied(model).double(), list[Any]()
    handle = wide.get_submodule(norm).register_forward_hook(lambda module, given, output: found.append(output))
    outputs = _outputs(wide, example)
    handle.remove()
    if not found:
        raise ValueError(f"norm {norm!r} was not called on this example")
    channels = len(_norm_parts(model, norm)[0])
    if any(not isinstance(part, Tensor) or part.shape[-1] != channels for part in found):
        raise ValueError(f"norm {norm!r} did not return (..., {channels})")
    inputs = torch.cat([part.reshape(-1, channels) for part in found]).double()
    check_weight(f"what norm {norm!r} returned", inputs)
    return _Seen(inputs, outputs)


def _outputs(wide: nn.Module, example: Inputs) -> list[Tensor]:
    given: Any = dict(example) if isinstance(example, Mapping) else example
    given = tree_map_only(Tensor, lambda part: part.double() if part.is_floating_point() else part, given)
    with in_eval_mode(wide), layer_by_layer():
        output = call(wide, given)
    found = [part for part in tree_leaves(output) if isinstance(part, Tensor) and part.is_floating_point()]
    if not found:
        raise ValueError("the model returned no floating-point tensor to compare: pass one that returns its outputs")
    return found


def _rescaled(model: Model, example: Inputs, norm: str, readers: Sequence[str], scales: Tensor, seen: _Seen) -> Model:
    """A copy with the norm divided by ``scales`` and its readers multiplied, after trying that in float64."""
    tried = copied(model).double()
    _scale(tried, norm, readers, scales)
    for before, after in zip(seen.outputs, _outputs(tried, example), strict=True):
        largest = torch.nan_to_num(before, 0.0, 0.0, 0.0).abs().max().item() if before.numel() else 0.0
        if not torch.allclose(after, before, rtol=0, atol=SAME * largest, equal_nan=True):
            raise ValueError(
                f"the outputs change: something besides {', '.join(map(repr, readers))} reads {norm!r}, or shares one "
                "of these weights. Name all readers; where a sum takes the norm's output, too, no scale can move"
            )
    result = copied(model)
    _scale(result, norm, readers, scales)
    return result


def _scale(model: nn.Module, norm: str, readers: Sequence[str], scales: Tensor) -> None:
    for part in _norm_parts(model, norm):
        part.copy_(part.double() / scales)
    weights = {id(place.stored): place.stored for place in _places(model, readers)}  # tied ones once
    for weight in weights.values():
        weight.copy_(weight.double() * scales)
        check_weight("a reader's weight after scaling", weight)
