"""What is stored: codes of a few bits in real bytes, and the bits per weight with scales and zero points counted."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._base.checks import check_bits, check_count
from .affine import group_width


def bits_per_weight(
    shape: Sequence[int], *, bits: int, group_size: int | None = None, symmetric: bool = False, scale_bits: int = 16
) -> float:
    """Bits stored per weight of a weight (outputs, inputs): its code, and its part of a scale and a zero point.

    bits + (scale_bits + zero_point_bits) / group_size, where a zero point is a code, too, and symmetric codes have
    none. Without ``group_size`` a group is all inputs of an output: in a convolution, the product of the other sizes.
    ``scale_bits`` is 32 where scales stay in float32. Raises ``ValueError`` for a group size that does not divide.

    >>> bits_per_weight((64, 128), bits=4, group_size=32), bits_per_weight((64, 128), bits=4, symmetric=True)
    (4.625, 4.125)
    """
    check_bits(bits, least=1)
    check_count("scale_bits", scale_bits, least=0)
    if len(shape) < 2 or any(size < 1 for size in shape):
        raise ValueError(f"shape must be that of a weight, with two sizes >= 1 or more, got {tuple(shape)}")
    inputs = math.prod(shape[1:])
    return bits + (scale_bits + (0 if symmetric else bits)) / group_width(inputs, group_size)


def pack_codes(codes: Tensor, *, bits: int) -> Tensor:
    """Codes in 0 … 2^bits - 1 of any shape as ⌈numel · bits / 8⌉ bytes, uint8 (bytes,): several codes in each.

    In memory order, the lowest bits of a byte first; unused bits at the end are 0. ``bits`` from 1 to 8. Raises
    ``TypeError`` for codes that are not integers, and ``ValueError`` for codes outside the range: add 2^(bits - 1) to
    signed ones.

    >>> pack_codes(torch.tensor([1, 2, 3], dtype=torch.uint8), bits=4)  # 0x21, 0x03
    tensor([33,  3], dtype=torch.uint8)
    """
    check_bits(bits, least=1)
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise TypeError(f"codes must be integers, got {codes.dtype}: quantize() gives them")
    if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= 2**bits):
        raise ValueError(
            f"codes lie in {int(codes.min())} … {int(codes.max())}, and {bits} bits hold 0 … {2**bits - 1}: "
            f"add {2 ** (bits - 1)} to signed codes before packing"
        )
    flat = codes.flatten().to(torch.int64).unsqueeze(1)
    stream = (flat >> torch.arange(bits, device=codes.device) & 1).flatten()
    stream = torch.nn.functional.pad(stream, (0, -len(stream) % 8))
    return (stream.reshape(-1, 8) << torch.arange(8, device=codes.device)).sum(dim=1).to(torch.uint8)


def unpack_codes(packed: Tensor, *, bits: int, shape: Sequence[int]) -> Tensor:
    """The codes that `pack_codes` packed, uint8 of ``shape``.

    Raises ``ValueError`` where the bytes are not exactly those of so many codes, or bits beyond the last one are set.

    >>> unpack_codes(torch.tensor([33, 3], dtype=torch.uint8), bits=4, shape=(3,))
    tensor([1, 2, 3], dtype=torch.uint8)
    """
    check_bits(bits, least=1)
    if packed.dtype != torch.uint8 or packed.ndim != 1:
        raise ValueError(f"packed codes are uint8 (bytes,), got {packed.dtype} {tuple(packed.shape)}")
    if any(size < 0 for size in shape):
        raise ValueError(f"shape must have sizes >= 0, got {tuple(shape)}")
    used = math.prod(shape) * bits
    if len(packed) != -(-used // 8):
        raise ValueError(f"{tuple(shape)} codes of {bits} bits take {-(-used // 8)} bytes, got {len(packed)}")
    stream = (packed.to(torch.int64).unsqueeze(1) >> torch.arange(8, device=packed.device) & 1).flatten()
    if stream[used:].any():
        raise ValueError(f"bits beyond the last of {tuple(shape)} codes are set: other bits or another shape?")
    values = stream[:used].reshape(-1, bits) << torch.arange(bits, device=packed.device)
    return values.sum(dim=1).to(torch.uint8).reshape(tuple(shape))
