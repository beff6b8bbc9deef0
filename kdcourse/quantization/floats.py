"""Codes whose values are quantiles of a normal distribution (NF4), and a cache of keys and values in few bits."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .._base.checks import check_bits, check_finite, check_matrix
from .affine import choose_qparams, fake_quantize, group_width, invertible


class NormalFloats(NamedTuple):
    """Weights as indices into a codebook, times a scale: ``codes`` uint8 (O, I), ``scale`` (O, groups)."""

    codes: Tensor
    scale: Tensor
    codebook: Tensor

    def weight(self) -> Tensor:
        """The weights that the codes stand for, in the scale's floating-point type."""
        width = self.codes.shape[1] // self.scale.shape[1]
        return self.codebook[self.codes.long()] * self.scale.repeat_interleave(width, dim=1)


def normal_float_codebook(bits: int = 4) -> Tensor:
    """The 2^bits values in [-1, 1] of normal-float codes, ascending, float64 (2^bits,): 0, ±1 and normal quantiles.

    The quantiles at 2^(bits-1) + 1 even steps from ½ to p above zero, and at 2^(bits-1) below, divided by that of
    p = 1 - ½ · (½ · 2^-bits + ½ / (2^bits - 1)). ``bits`` from 2 to 8; 4 gives NF4's 16 published numbers. They are
    called information-theoretically optimal, and are not: not all are used equally often (arXiv:2306.06965).

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 3 and appendix E.

    >>> normal_float_codebook(2)
    tensor([-1.0000,  0.0000,  0.4358,  1.0000], dtype=torch.float64)
    """
    check_bits(bits, least=2)
    half = 2 ** (bits - 1)
    edge = 1 - (1 / 2 ** (bits + 1) + 1 / (2 ** (bits + 1) - 2)) / 2
    above, below = (torch.special.ndtri(torch.linspace(0.5, edge, n, dtype=torch.float64)) for n in (half + 1, half))
    codebook: Tensor = torch.cat([-below[1:].flip(0), above]) / above[-1]
    return codebook


def normal_floats(weight: Tensor, *, bits: int = 4, group_size: int | None = 64) -> NormalFloats:
    """A weight (outputs, inputs) in normal-float codes: scale = max|w| of each group, and the nearest value times it.

    A group is ``group_size`` consecutive inputs, or with None all inputs of an output; of two values equally near the
    lower. A group of zeros has scale 1, which gives exact zeros. Raises ``ValueError`` for a weight that is not
    (outputs, inputs) and a group size that does not divide the inputs.

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 2, without the second quantization, of the scales.

    >>> found = normal_floats(torch.tensor([[-2.0, 0.1, 1.4, 2.0]]), group_size=4)
    >>> found.codes, found.weight()
    (tensor([[ 0,  8, 14, 15]], dtype=torch.uint8), tensor([[-2.0000,  0.1592,  1.4459,  2.0000]]))
    """
    check_finite("weight", weight)
    check_matrix("weight", weight)
    width = group_width(weight.shape[1], group_size)
    codebook = normal_float_codebook(bits)
    grouped = weight.detach().unflatten(1, (-1, width))
    scale = invertible(grouped.abs().amax(dim=2))
    borders = ((codebook[1:] + codebook[:-1]) / 2).to(weight.device)
    codes = torch.bucketize((grouped.double() / scale.double().unsqueeze(2)), borders)
    return NormalFloats(codes.flatten(1).to(torch.uint8), scale, codebook.to(weight))


def quantize_cache(cache: Tensor, *, bits: int, by: Literal["channel", "token"]) -> Tensor:
    """Keys or values (..., tokens, channels) as their codes stand for them: `fake_quantize`, per channel or per token.

    x̂ = m + scale · round((x - m) / scale) with scale = (max - m) / (2^bits - 1), m and max over the tokens of each
    channel of each leading index, or over the channels of each token. m is stored as a float: unlike elsewhere the
    range need not include zero, for channels of keys lie far from it. Pass the tokens alone: padding would widen the
    range of a channel. Keys go per channel, since few of them are large and a shift of all keys changes no attention;
    values, which are summed over tokens, per token.

    Source: Liu et al. 2024, arXiv:2402.02750, sections 3 and 4.1, without its groups of tokens.

    >>> quantize_cache(torch.tensor([[10.0, -1.0], [13.0, 1.0], [11.2, 0.3]]), bits=2, by="channel")
    tensor([[10.0000, -1.0000],
            [13.0000,  1.0000],
            [11.0000,  0.3333]])
    """
    check_finite("cache", cache)
    if cache.ndim < 2:
        raise ValueError(f"the cache must be (..., tokens, channels), got shape {tuple(cache.shape)}")
    if by not in ("channel", "token"):
        raise ValueError(f"by must be 'channel' (for keys) or 'token' (for values), got {by!r}")
    rows = cache.transpose(-1, -2) if by == "channel" else cache
    flat = rows.reshape(-1, rows.shape[-1])
    low = flat.amin(dim=1, keepdim=True)
    shifted = flat - low
    rounded = low + fake_quantize(shifted, choose_qparams(shifted, bits=bits, axis=0))
    rounded = rounded.reshape(rows.shape)
    return rounded.transpose(-1, -2).contiguous() if by == "channel" else rounded
