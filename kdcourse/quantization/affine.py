"""Uniform quantization: a real number r as an integer q, with r ≈ scale · (q - zero_point).

Per tensor (one scale), per channel (one scale for each index along ``axis``) or, for a weight (outputs, inputs), per
group (one scale for every ``group_size`` consecutive inputs of each output); 2 to 8 bits. The range always includes
zero, so padding and ReLU's zeros stay exact. Unless said otherwise, bad input raises ``ValueError`` (NaN or infinity,
an empty tensor, an axis out of range, a group size that does not divide the inputs, bits outside 2 to 8) or
``TypeError`` (not floating point).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._base.checks import check_bits, check_count, check_finite, check_matrix


class QuantParams(NamedTuple):
    """How floats become integers in [qmin, qmax]: ``scale`` and ``zero_point`` are 0-d, or (C,) along ``axis``.

    With ``group_size`` they are (outputs, inputs / group_size), and ``axis`` is 0.
    """

    scale: Tensor
    zero_point: Tensor
    bits: int
    qmin: int
    qmax: int
    axis: int | None = None
    group_size: int | None = None


def integer_range(bits: int, *, symmetric: bool, signed: bool | None = None) -> tuple[int, int]:
    """Smallest and largest integer: symmetric ±(2^(bits-1) - 1), affine 0 … 2^bits - 1 or, signed, half below zero.

    The symmetric range leaves out -2^(bits-1), so that -r has the code -q and 2 bits are the ternary {-1, 0, 1}.

    >>> integer_range(8, symmetric=True), integer_range(8, symmetric=False), integer_range(2, symmetric=True)
    ((-127, 127), (0, 255), (-1, 1))
    """
    check_bits(bits, least=2)
    if symmetric and signed is False:
        raise ValueError("symmetric codes lie around zero: use signed=True, or symmetric=False for unsigned ones")
    half = 2 ** (bits - 1)
    if symmetric:
        return 1 - half, half - 1
    return (-half, half - 1) if signed else (0, 2 * half - 1)


def choose_qparams(
    tensor: Tensor,
    *,
    bits: int = 8,
    symmetric: bool = False,
    signed: bool | None = None,
    axis: int | None = None,
    group_size: int | None = None,
) -> QuantParams:
    """The parameters under which no element of ``tensor`` saturates: `qparams_from_range` of its extremes.

    With ``axis``, one scale for each index along that dimension (0 is the output channel of a weight). With
    ``group_size``, which must divide the inputs, one for every so many consecutive inputs of each output of a weight
    (outputs, inputs); of a convolution's pass ``weight.flatten(1)``. ``axis`` is then 0 or left out.

    >>> params = choose_qparams(torch.tensor([-1.0, 0.0, 4.1]), bits=8)
    >>> round(params.scale.item(), 4), params.zero_point.item()
    (0.02, 50)
    """
    check_finite("tensor", tensor)
    if group_size is not None:
        check_matrix("tensor", tensor)
        group_width(tensor.shape[1], group_size)
        axis = None if axis is None else _positive_axis(axis, tensor)
        minimum, maximum = torch.aminmax(tensor.detach().unflatten(1, (-1, group_size)), dim=2)
    elif axis is None:
        minimum, maximum = torch.aminmax(tensor.detach())
    else:
        axis = _positive_axis(axis, tensor)
        channels = tensor.detach().movedim(axis, 0).flatten(1) if tensor.ndim > 1 else tensor.detach().unsqueeze(1)
        minimum, maximum = torch.aminmax(channels, dim=1)
    return qparams_from_range(
        minimum, maximum, bits=bits, symmetric=symmetric, signed=signed, axis=axis, group_size=group_size
    )


def qparams_from_range(
    minimum: Tensor | float,
    maximum: Tensor | float,
    *,
    bits: int = 8,
    symmetric: bool = False,
    signed: bool | None = None,
    axis: int | None = None,
    group_size: int | None = None,
) -> QuantParams:
    """The parameters that spread the integers over [minimum, maximum], first widened to include zero.

    affine: scale = (max - min) / (qmax - qmin), zero_point = qmin - round(min / scale), clamped to [qmin, qmax];
    symmetric: scale = max(|min|, |max|) / qmax, zero_point = 0. Both limits 0-d, (C,) with ``axis``, or (outputs,
    groups) with ``group_size``.
    A range of zero width (a dead channel) has scale 1, which gives exact zeros.
    Also raises ``ValueError`` for minimum > maximum, or limits so far apart that the scale overflows.

    Source: Jacob et al. 2018, arXiv:1712.05877, sections 2.1 and 3.

    >>> qparams_from_range(-1.0, 4.1).zero_point
    tensor(50, dtype=torch.int32)
    """
    qmin, qmax = integer_range(bits, symmetric=symmetric, signed=signed)
    if group_size is not None:
        check_count("group_size", group_size, least=1)
        if axis not in (None, 0):
            raise ValueError(f"groups run along the inputs of each output: axis must be 0 or left out, got {axis}")
        axis = 0
    low, high = _limits(minimum, maximum, axis, group_size)
    scale = torch.maximum(-low, high) / qmax if symmetric else (high - low) / (qmax - qmin)
    if not torch.isfinite(scale).all():
        raise ValueError(f"the range {low.min().item():g} to {high.max().item():g} is too wide for {scale.dtype}")
    scale = invertible(scale)
    zero_point = torch.zeros_like(scale) if symmetric else (qmin - torch.round(low / scale)).clamp(qmin, qmax)
    return QuantParams(scale, zero_point.to(torch.int32), bits, qmin, qmax, axis, group_size)


def quantize(tensor: Tensor, params: QuantParams) -> Tensor:
    """Integers clamp(round(r / scale) + zero_point, qmin, qmax), int8, or uint8 where qmin is 0.

    Ties go to the even integer, and the zero point is added after rounding: before, ties would move with it.

    >>> quantize(torch.tensor([-1.0, 0.0, 4.0]), qparams_from_range(-1.0, 4.1))
    tensor([  0,  50, 250], dtype=torch.uint8)
    """
    check_finite("tensor", tensor)
    _check_channels(tensor, params)
    codes = unclamped_codes(tensor, params).clamp(params.qmin, params.qmax)
    return codes.to(torch.uint8 if params.qmin >= 0 else torch.int8)


def dequantize(codes: Tensor, params: QuantParams) -> Tensor:
    """Reals scale · (q - zero_point) from integers, in the scale's floating-point type.

    >>> params = qparams_from_range(-1.0, 4.1)
    >>> dequantize(torch.tensor([50, 250], dtype=torch.uint8), params)
    tensor([0., 4.])
    """
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise TypeError(f"codes must be integers, got {codes.dtype}")
    _check_channels(codes, params)
    scale, zero_point = _broadcast(params, codes.ndim)
    return (codes.to(scale.dtype) - zero_point) * scale


def fake_quantize(tensor: Tensor, params: QuantParams) -> Tensor:
    """``dequantize(quantize(tensor))``: the rounding without the integers, differentiable straight through.

    The gradient passes unchanged where the integer before clamping is in [qmin, qmax], and is 0 elsewhere.

    Source: Bengio, Léonard, Courville 2013, arXiv:1308.3432 (straight-through); Jacob et al. 2018,
    arXiv:1712.05877, section 3.

    >>> fake_quantize(torch.tensor([-0.4, 0.9, 5.0]), qparams_from_range(0.0, 3.0, bits=2))
    tensor([0., 1., 3.])
    """
    check_finite("tensor", tensor)
    _check_channels(tensor, params)
    return fake_quantize_formula(tensor, params)


def fake_quantize_formula(tensor: Tensor, params: QuantParams) -> Tensor:
    """`fake_quantize` without its checks, for a training loop that has made them once."""
    result: Tensor = _StraightThrough.apply(tensor, params)
    return result


def sqnr_db(signal: Tensor, approximation: Tensor, *, axis: int | None = None) -> Tensor:
    """Signal-to-quantization-noise ratio 10 · log10(Σ r² / Σ (r - r̂)²) in decibels, float64.

    0-d, or (C,) with ``axis``. Equal tensors give +infinity, also where both are zero; a zero signal that was not
    kept gives -infinity. A uniform signal gains 20 · log10(2) ≈ 6.02 dB per bit.

    >>> round(sqnr_db(torch.tensor([10.0]), torch.tensor([9.0])).item(), 2)
    20.0
    """
    check_finite("signal", signal)
    check_finite("approximation", approximation)
    if signal.shape != approximation.shape:
        raise ValueError(f"shapes differ: {tuple(signal.shape)} and {tuple(approximation.shape)}")
    power, noise = signal.double().square(), (signal.double() - approximation.double()).square()
    if axis is None:
        power, noise = power.sum(), noise.sum()
    else:
        others = [dimension for dimension in range(signal.ndim) if dimension != _positive_axis(axis, signal)]
        power, noise = (part.sum(dim=others) if others else part for part in (power, noise))
    return torch.where(noise == 0, torch.full_like(noise, torch.inf), 10 * torch.log10(power / noise))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, params: QuantParams) -> Tensor:
        codes = unclamped_codes(tensor, params)
        ctx.save_for_backward((codes >= params.qmin) & (codes <= params.qmax))
        scale, zero_point = _broadcast(params, tensor.ndim)
        return (codes.clamp(params.qmin, params.qmax) - zero_point) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


def unclamped_codes(tensor: Tensor, params: QuantParams) -> Tensor:
    """round(r / scale) + zero_point, as floating point, before saturation."""
    scale, zero_point = _broadcast(params, tensor.ndim)
    # times the inverse, as PyTorch does: dividing differs in the last bit, and so now and then in the integer
    return torch.round(tensor * (1.0 / scale)) + zero_point


def invertible(scale: Tensor) -> Tensor:
    """Scales of 1 where 1 / scale would overflow: below the smallest normal number."""
    return torch.where(scale < torch.finfo(scale.dtype).tiny, torch.ones_like(scale), scale)


def _limits(
    minimum: Tensor | float, maximum: Tensor | float, axis: int | None, group_size: int | None
) -> tuple[Tensor, Tensor]:
    dtype = minimum.dtype if isinstance(minimum, Tensor) else torch.float32
    low, high = (torch.as_tensor(limit, dtype=dtype) for limit in (minimum, maximum))
    for name, limit in (("minimum", low), ("maximum", high)):
        check_finite(name, limit)
    dimensions = (axis is not None) + (group_size is not None)
    if low.shape != high.shape or low.ndim != dimensions:
        wanted = ("0-d without axis", "(C,) with axis", "(outputs, groups) with group_size")[dimensions]
        raise ValueError(f"minimum {tuple(low.shape)} and maximum {tuple(high.shape)} must both be {wanted}")
    if (low > high).any():
        raise ValueError("minimum is above maximum: were they swapped?")
    return low.clamp(max=0), high.clamp(min=0)


def _positive_axis(axis: int, tensor: Tensor) -> int:
    if not -tensor.ndim <= axis < tensor.ndim:
        raise ValueError(f"axis {axis} is out of range for a tensor of shape {tuple(tensor.shape)}")
    return axis % tensor.ndim


def group_width(inputs: int, group_size: int | None) -> int:
    """Inputs of a group, all of them where no size is given; refused where it does not divide them."""
    if group_size is None:
        return inputs
    check_count("group_size", group_size, least=1)
    if inputs % group_size:
        raise ValueError(f"group_size {group_size} does not divide the {inputs} inputs: choose one that does")
    return group_size


def _check_channels(tensor: Tensor, params: QuantParams) -> None:
    if params.axis is None:
        return
    if params.group_size is not None:
        outputs, groups = params.scale.shape
        if tensor.shape != (outputs, groups * params.group_size):
            raise ValueError(
                f"scales of {groups} groups of {params.group_size} inputs for {outputs} outputs do not fit the shape "
                f"{tuple(tensor.shape)}"
            )
        return
    channels = tensor.shape[_positive_axis(params.axis, tensor)]
    if len(params.scale) != channels:
        raise ValueError(f"{len(params.scale)} scales for {channels} channels along axis {params.axis}: wrong axis?")


def _broadcast(params: QuantParams, ndim: int) -> tuple[Tensor, Tensor]:
    if params.axis is None:
        return params.scale, params.zero_point
    if params.group_size is not None:
        scale, zero_point = (part.repeat_interleave(params.group_size, dim=1) for part in params[:2])
        return scale, zero_point
    shape = [1] * ndim
    shape[params.axis] = -1
    return params.scale.reshape(shape), params.zero_point.reshape(shape)
