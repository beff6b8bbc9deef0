"""Arithmetic of integer networks: int32 accumulators, and a multiplication and a shift in place of a real factor."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .affine import QuantParams

INT32 = torch.iinfo(torch.int32)


class FixedPoint(NamedTuple):
    """A positive real factor as multiplier · 2^-(31 + shift), multiplier int64 in [2^30, 2^31), shift any sign."""

    multiplier: Tensor
    shift: Tensor


def integer_linear(
    codes: Tensor, weight: Tensor, bias: Tensor, *, input_zero_point: int, accumulator: torch.dtype = torch.int32
) -> Tensor:
    """Σ_i (q_i - z) · w_ji + b_j for codes (N, in), int8 weight (out, in), int32 bias (out,): int32 (N, out).

    ``accumulator`` is the type that every product and sum is kept in; a narrower one wraps around, which shows why
    32 bits are needed: two products of 255 · 127 already exceed int16.

    >>> codes, weight = torch.tensor([[3, 5]], dtype=torch.uint8), torch.tensor([[2, -1]], dtype=torch.int8)
    >>> integer_linear(codes, weight, torch.tensor([10], dtype=torch.int32), input_zero_point=1)  # 2·2 - 1·4 + 10
    tensor([[10]], dtype=torch.int32)
    """
    centred = codes.to(accumulator) - input_zero_point
    return centred @ weight.to(accumulator).T + bias.to(accumulator)


def integer_conv2d(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    input_zero_point: int,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    accumulator: torch.dtype = torch.int32,
) -> Tensor:
    """Convolution of codes (N, in, H, W) as `integer_linear` of every patch: int32 (N, out, H', W').

    The border is padded with the zero point, the code of 0.

    >>> codes, weight = torch.full((1, 1, 2, 2), 7, dtype=torch.uint8), torch.ones(1, 1, 2, 2, dtype=torch.int8)
    >>> integer_conv2d(codes, weight, torch.zeros(1, dtype=torch.int32), input_zero_point=2)  # four times 7 - 2
    tensor([[[[20]]]], dtype=torch.int32)
    """
    vertical, horizontal = padding
    padded = F.pad(codes, (horizontal, horizontal, vertical, vertical), value=input_zero_point)
    outputs, _, height, width = weight.shape
    # (N, in, H', W', height, width) -> (N, H', W', in · height · width)
    patches = padded.unfold(2, height, stride[0]).unfold(3, width, stride[1]).permute(0, 2, 3, 1, 4, 5).flatten(3)
    flat = integer_linear(
        patches.flatten(0, 2), weight.flatten(1), bias, input_zero_point=input_zero_point, accumulator=accumulator
    )
    return flat.reshape(*patches.shape[:3], outputs).permute(0, 3, 1, 2)


def fixed_point(factor: Tensor | float) -> FixedPoint:
    """A positive factor below 2^31 with a 31-bit multiplier: factor ≈ multiplier · 2^-(31 + shift), right to 2^-31.

    Source: Jacob et al. 2018, arXiv:1712.05877, equation 6, M = 2^-n · M0 with M0 in [0.5, 1).

    >>> found = fixed_point(0.375)  # 1.5 · 2^30 · 2^-(31 + 1)
    >>> found.multiplier.item() / 2**30, found.shift.item()
    (1.5, 1)
    """
    factor = torch.as_tensor(factor, dtype=torch.float64)
    if not ((factor > 0) & (factor < 2**31)).all():
        raise ValueError(f"factors must lie between 0 and 2^31, got {factor.min().item():g} to {factor.max().item():g}")
    mantissa, exponent = torch.frexp(factor)
    multiplier = torch.round(mantissa * 2**31).to(torch.int64)
    full = multiplier == 2**31  # a mantissa a hair below 1
    return FixedPoint(torch.where(full, multiplier // 2, multiplier), -exponent.long() - full.long())


def multiply(integers: Tensor, factor: FixedPoint) -> Tensor:
    """The integers (N, C, …) times the factor, 0-d or (C,), rounded to int64, in integer arithmetic alone.

    Two roundings, as in gemmlowp: the product's upper 31 bits with half up, then the right shift with half away
    from zero. A factor above 1 shifts left first, and saturates at int32.
    """
    shape = [-1] + [1] * (integers.ndim - 2) if factor.multiplier.ndim else []
    multiplier, shift = factor.multiplier.reshape(shape), factor.shift.reshape(shape)
    shifted = (integers.long() << (-shift).clamp(min=0)).clamp(INT32.min, INT32.max)
    high = (shifted * multiplier + 2**30) >> 31
    right = shift.clamp(0, 62)
    half = (torch.ones_like(right) << right) >> 1  # 0 where there is nothing to shift
    return (high + half - ((high < 0) & (right > 0)).long()) >> right


def requantize(accumulators: Tensor, factor: FixedPoint, outputs: QuantParams) -> Tensor:
    """int32 accumulators to the next layer's codes: multiply, add the zero point, saturate.

    >>> outputs = qparams_from_range(-1.0, 1.0, symmetric=True)
    >>> requantize(torch.tensor([[100, -1000]]), fixed_point(0.25), outputs)
    tensor([[  25, -127]], dtype=torch.int8)
    """
    codes = (multiply(accumulators, factor) + int(outputs.zero_point)).clamp(outputs.qmin, outputs.qmax)
    return codes.to(torch.uint8 if outputs.qmin >= 0 else torch.int8)
