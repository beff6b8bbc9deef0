"""A linear or convolution layer as two thin ones."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from .._base.checks import check_count, check_weight
from .._base.tracing import HOOKS, is_plain
from .._base.weights import Place, check_initialised, hooked, kind_of

CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d


def break_even_rank(shape: Sequence[int]) -> float:
    """The rank at which two factors have as many weights as a layer whose weight has ``shape``: m·n / (m + n).

    n = shape[0] outputs, m = the product of the other sizes, inputs (in a convolution times the kernel's size). Factors
    of rank r have r · (m + n) weights: only lower ranks save any.

    >>> break_even_rank((10, 90)), break_even_rank(nn.Conv2d(2, 9, 3).weight.shape)
    (9.0, 6.0)
    """
    if len(shape) < 2 or any(size < 1 for size in shape):
        raise ValueError(f"shape must be that of a weight, with two sizes >= 1 or more, got {tuple(shape)}")
    outputs, inputs = shape[0], math.prod(shape[1:])
    return inputs * outputs / (inputs + outputs)


@torch.no_grad()
def factorize(
    layer: nn.Module, rank: int, *, inputs: Tensor | None = None, allow_larger: bool = False
) -> nn.Sequential:
    """Two layers in place of a linear or convolution layer, the first with ``rank`` outputs: its best approximation.

    W (n, m) becomes U·V with V (rank, m) without bias and U (n, rank) with the layer's: rank · (m + n) + n parameters.
    A convolution becomes one with its own kernel, stride, padding and dilation to ``rank`` channels, then a 1×1
    convolution; m counts the weights of a filter.

    - Without ``inputs`` the weights are approximated best: ‖W - UV‖² = Σ_{k > rank} s_k², s the singular values of W
      (Eckart, Young 1936).
    - With ``inputs``, a batch as the layer is given it, (..., m) or (N, C, ...), the layer's *outputs* Y on them are:
      W' = P·W and b' = b + (I - P)·mean(W·x), P the projection on the first ``rank`` principal directions of Y. The
      squared error over the outputs is Σ_{k > rank} s_k(Y - mean Y)². The mean goes into the bias: a layer without one
      gets it. Directions in which the outputs do not vary are chosen by the weights.

    Computed in float64; dtype, device, mode, ``requires_grad`` and memory format are the layer's. What is approximated
    is the weight that it computes with, which masks and quantizers are part of. Raises ``ValueError`` for another kind
    of layer, groups, hooks (rounded activations are one), a rank above min(m, n), one that makes the layer larger
    unless ``allow_larger``, inputs of another width, NaN and infinity.

    Source: Denton et al. 2014, arXiv:1404.0736; by outputs Zhang et al. 2015, arXiv:1411.4229, section 2.1.

    >>> layer, inputs = nn.Linear(100, 10), torch.rand(50, 100)
    >>> thin = factorize(layer, 5, inputs=inputs)
    >>> [tuple(part.weight.shape) for part in thin], sum(value.numel() for value in thin.parameters())
    ([(5, 100), (10, 5)], 560)
    """
    _check_layer(layer)
    place, has_bias = Place(layer, "weight"), cast(Any, layer).bias is not None
    weight = place.effective.double()
    check_weight("the layer's weight", weight)
    _check_rank(rank, weight.shape, has_bias, inputs is not None, allow_larger)
    matrix = weight.flatten(1)
    bias = Place(layer, "bias").effective if has_bias else matrix.new_zeros(len(matrix))
    if inputs is not None:
        outputs = _outputs(layer, weight, inputs)
        projection = _principal(outputs, matrix, rank)
        matrix, mean = projection @ matrix, outputs.mean(0)
        bias = bias + mean - projection @ mean
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    root = singular[:rank].sqrt()  # shared evenly: what trains best
    result = _pair(layer, rank, with_bias=has_bias or inputs is not None)
    values = [root[:, None] * right[:rank], left[:, :rank] * root, bias]
    for parameter, value in zip(result.parameters(), values, strict=False):  # there may be no bias
        parameter.copy_(value.reshape(parameter.shape))
    return result


def _check_layer(layer: nn.Module) -> None:
    check_initialised(layer)
    if not is_plain(layer, nn.Linear, *CONVOLUTIONS) or getattr(layer, "groups", 1) != 1:
        groups = f" with {layer.groups} groups" if getattr(layer, "groups", 1) != 1 else ""
        known = "a Linear, or a Conv1d, Conv2d or Conv3d with groups=1"
        raise ValueError(f"a {kind_of(layer)}{groups} cannot be factorized: give {known}")
    weights = hooked(layer).values()
    if any(hook not in weights for kind in HOOKS for hook in getattr(layer, kind).values()):
        raise ValueError("the layer has hooks, which two layers would lose: remove them first, of rounding by bake()")


def _check_rank(rank: int, shape: Sequence[int], has_bias: bool, needs_bias: bool, allow_larger: bool) -> None:
    outputs, inputs = shape[0], math.prod(shape[1:])
    check_count("rank", rank, least=1)
    if rank > min(inputs, outputs):
        raise ValueError(
            f"rank must be at most {min(inputs, outputs)}, all that {outputs} × {inputs} can have; got {rank}"
        )
    before = outputs * inputs + outputs * has_bias
    after = rank * (inputs + outputs) + outputs * (has_bias or needs_bias)
    if after > before and not allow_larger:
        raise ValueError(
            f"rank {rank} makes the layer larger, {after:,} parameters instead of {before:,}: use a rank below "
            f"{break_even_rank(shape):.4g}, or pass allow_larger=True"
        )


def _outputs(layer: Any, weight: Tensor, inputs: Tensor) -> Tensor:
    """What the layer makes of the inputs, in float64 and without its bias: (rows, n)."""
    check_weight("inputs", inputs)
    axis, dimensions = (-1, inputs.ndim) if isinstance(layer, nn.Linear) else (1, weight.ndim)
    if inputs.ndim != dimensions or inputs.shape[axis] != weight.shape[1]:
        wanted = f"(..., {weight.shape[1]})" if axis == -1 else f"(N, {weight.shape[1]}{', size' * (weight.ndim - 2)})"
        raise ValueError(f"inputs have shape {tuple(inputs.shape)}: this {kind_of(layer)} needs {wanted}")
    wide = inputs.to(weight)
    found: Tensor = F.linear(wide, weight) if axis == -1 else layer._conv_forward(wide, weight, None)
    return found.movedim(axis, -1).flatten(0, -2)


def _principal(outputs: Tensor, matrix: Tensor, rank: int) -> Tensor:
    """The projection (n, n) on the first principal directions of the outputs."""
    centred = outputs - outputs.mean(0)
    # too little to matter, except for directions in which the outputs are constant
    little = float(1e-8 * centred.norm() / matrix.norm()) if centred.any() else 1.0
    rows = torch.cat([centred, little * matrix.T])
    directions: Tensor = torch.linalg.svd(rows, full_matrices=False).Vh[:rank]
    return directions.T @ directions


def _pair(layer: Any, rank: int, *, with_bias: bool) -> nn.Sequential:
    """Two layers without values yet; no random numbers are drawn."""
    place = Place(layer, "weight")
    like: dict[str, Any] = {"device": place.stored.device, "dtype": place.stored.dtype}
    if isinstance(layer, nn.Linear):
        first = skip_init(nn.Linear, layer.in_features, rank, bias=False, **like)
        second = skip_init(nn.Linear, rank, layer.out_features, bias=with_bias, **like)
    else:
        kind = next(kind for kind in CONVOLUTIONS if isinstance(layer, kind))
        settings = {
            name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        }
        first = skip_init(kind, layer.in_channels, rank, bias=False, **settings, **like)
        second = skip_init(kind, rank, layer.out_channels, 1, bias=with_bias, **like)
    result = nn.Sequential(first, second).train(layer.training)
    result.requires_grad_(any(original.requires_grad for original in place.originals))
    if layer.bias is not None:
        second.bias.requires_grad_(any(original.requires_grad for original in Place(layer, "bias").originals))
    weight = place.stored
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous():
        result.to(memory_format=torch.channels_last)
    return result
