"""07.2 from numbers to codes."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def quantize(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    codes = torch.round(x / scale) + zero_point
    return codes.clamp(0, 2**bits - 1).to(torch.int32)


def quantize_in_integers(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    steps = (x / scale).round().to(torch.int32)
    return torch.clip(steps + zero_point, min=0, max=(1 << bits) - 1)


def quantize_one_by_one(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    codes = [min(max(round(value / scale) + zero_point, 0), 2**bits - 1) for value in x.flatten().tolist()]
    return torch.tensor(codes, dtype=torch.int32).reshape(x.shape)


def _saturated(codes: Tensor, bits: int) -> Tensor:
    return codes.clamp(0, 2**bits - 1).to(torch.int32)


def never_clamped(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return (torch.round(x / scale) + zero_point).to(torch.int32)


def cast_without_clamping(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    # by way of int64: what a float outside of uint8 becomes directly depends on the machine
    return never_clamped(x, scale, zero_point, bits=bits).to(torch.int64).to(torch.uint8).to(torch.int32)


def signed_cast_without_clamping(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return never_clamped(x, scale, zero_point, bits=bits).to(torch.int8).to(torch.int32)


def wrapped_into_the_bits(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return never_clamped(x, scale, zero_point, bits=bits) % 2**bits


def stored_as_signed(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return quantize(x, scale, zero_point, bits=bits).to(torch.int8).to(torch.int32)


def truncated(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.trunc(x / scale) + zero_point, bits)


def floored(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.floor(x / scale) + zero_point, bits)


def ties_away_from_zero(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    steps = x / scale
    return _saturated(steps.sign() * torch.floor(steps.abs() + 0.5) + zero_point, bits)


def ties_up(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.floor(x / scale + 0.5) + zero_point, bits)


def zero_point_before_rounding(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x / scale + zero_point), bits)


def clamped_before_the_zero_point(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x / scale), bits) + zero_point


def zero_point_forgotten(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x / scale), bits)


def zero_point_subtracted(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x / scale) - zero_point, bits)


def zero_point_in_reals(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round((x + zero_point) / scale), bits)


def times_the_scale(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x * scale) + zero_point, bits)


def clamped_to_signed_codes(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    half = 2 ** (bits - 1)
    return (torch.round(x / scale) + zero_point).clamp(-half, half - 1).to(torch.int32)


def one_code_too_many(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return (torch.round(x / scale) + zero_point).clamp(0, 2**bits).to(torch.int32)


def reals_again(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return (quantize(x, scale, zero_point, bits=bits) - zero_point) * scale


def quantize_cases() -> list[Case]:
    # halves and quarters are exact in floating point, so ties are ties
    small = torch.tensor([-0.4, -0.25, -0.75, 0.25, 0.75, 0.4, 4.0, -4.0, 130.0], dtype=torch.float64)
    ties = torch.arange(-9, 10, dtype=torch.float64).reshape(1, 19) / 8
    return [
        case(small, 0.5, 3, bits=4),
        case(ties, 0.25, 131, bits=8),
        case(draw(6, 8, seed=700), 0.0317, 117, bits=8),
        case(draw(2, 3, 4, seed=701), 0.4, 9, bits=4),
        case(draw(7, seed=702).float(), 0.11, 2, bits=5),
    ]


def quantize_drawn(g: torch.Generator) -> Case:
    bits = integer(g, 2, 8)
    scale = draw(1, seed=g).abs().item() / 2**bits + 0.01
    return case(draw(integer(g, 1, 4), integer(g, 1, 9), seed=g), scale, integer(g, 0, 2**bits - 1), bits=bits)


EXERCISE = Exercise(
    id="07.2",
    title="from numbers to codes",
    question=(
        "Write `my_quantize(x, scale, zero_point, *, bits)` for a float tensor `x` of any shape: its codes, a tensor "
        "of the same shape, dtype `torch.int32`. The codes are 0 … 2^bits - 1. Divide by the scale, round to the "
        "nearest integer, half to even as `torch.round` does, and then add the zero point. Values beyond the "
        "codes saturate: they get the nearest code."
    ),
    skeleton=(
        "def my_quantize(x, scale, zero_point, *, bits):\n"
        '    """The codes 0 ... 2^bits - 1 of a float tensor, int32."""\n    ...'
    ),
    reference=quantize,
    alternatives=(quantize_in_integers, quantize_one_by_one),
    cases=quantize_cases,
    drawn=quantize_drawn,
    hints=(
        "Four steps: into steps of the scale, to integers, shifted, kept within the codes. Their order matters.",
        "Converting a dtype neither rounds nor saturates: it truncates, and what does not fit wraps around.",
        "`codes = torch.round(x / scale) + zero_point`, then `.clamp(0, 2**bits - 1)`, then `.to(torch.int32)`.",
    ),
    misconceptions=(
        Misconception(
            "never clamped",
            never_clamped,
            "numbers beyond the range get codes that do not exist. With 4 bits there is no code 16: clamp to "
            "0 … 2^bits - 1",
        ),
        Misconception(
            "cast without clamping",
            cast_without_clamping,
            "you cast without clamping. A cast to `uint8` wraps around: 263 becomes 7, so the largest numbers turn "
            "into small ones. And it ignores that there are only 4 bits",
        ),
        Misconception(
            "signed cast without clamping",
            signed_cast_without_clamping,
            "you cast to `int8` without clamping. It wraps around: 130 becomes -126, so the largest numbers turn into "
            "the smallest",
        ),
        Misconception(
            "wrapped into the bits",
            wrapped_into_the_bits,
            "you keep the last bits of the code. That wraps around: with 4 bits 17 becomes 1. A number too large must "
            "get the largest code",
        ),
        Misconception(
            "stored as signed",
            stored_as_signed,
            "you clamp correctly, but then convert to `int8`, which ends at 127, so 130 becomes -126. Codes up to "
            "255 need `uint8` or something wider",
        ),
        Misconception(
            "truncated",
            truncated,
            "you truncate instead of rounding, as a conversion to integers does. Every number moves towards 0, by half "
            "a step on average",
        ),
        Misconception(
            "rounded down",
            floored,
            "you always round down, as `floor` does, or a conversion to integers after the zero point is added. That "
            "is a bias of half a step",
        ),
        Misconception(
            "ties away from zero",
            ties_away_from_zero,
            "only ties are wrong: you round 0.5 to 1 and -0.5 to -1. `torch.round` takes the even neighbour, here 0, "
            "so that ties push neither outwards nor inwards",
        ),
        Misconception(
            "ties up",
            ties_up,
            "only ties are wrong: `floor(r + 0.5)` rounds all of them up. `torch.round` takes the even neighbour, "
            "which is down as often as up",
        ),
        Misconception(
            "zero point before rounding",
            zero_point_before_rounding,
            "only ties are wrong: you add the zero point before rounding. With an odd one, even and odd change places, "
            "so ties fall the other way than in the reference",
        ),
        Misconception(
            "clamped before the zero point",
            clamped_before_the_zero_point,
            "you clamp first and add the zero point then. So all negative numbers become 0, and the largest get codes "
            "that do not exist",
        ),
        Misconception(
            "zero point forgotten",
            zero_point_forgotten,
            "the zero point is missing. So the number 0 gets the code 0, and every negative number with it",
        ),
        Misconception(
            "zero point subtracted",
            zero_point_subtracted,
            "you subtract the zero point. That belongs to the way back: r ≈ scale · (q - zero_point), so "
            "q ≈ r / scale + zero_point",
        ),
        Misconception(
            "zero point added to x",
            zero_point_in_reals,
            "you add the zero point to x. It counts codes, not units of x: add it after dividing by the scale",
        ),
        Misconception(
            "times the scale",
            times_the_scale,
            "you multiply by the scale. It is the width of a step: how many steps fit into x is x / scale",
        ),
        Misconception(
            "clamped to signed codes",
            clamped_to_signed_codes,
            "you clamp to -2^(bits-1) … 2^(bits-1) - 1. Those are signed codes; these go from 0 to 2^bits - 1",
        ),
        Misconception(
            "one code too many",
            one_code_too_many,
            "you clamp at 2^bits. With 0 among them the codes end at 2^bits - 1: with 8 bits, 256 does not fit into a "
            "byte",
        ),
        Misconception(
            "dequantized",
            reals_again,
            "these are the dequantized values. Return the codes themselves",
        ),
    ),
    shows="quantizing is divide, round, shift, saturate, in this order, and a cast neither rounds nor saturates.",
    derivation=(
        "q = clamp(round(r / scale) + zero_point, 0, 2^bits - 1). Half to even has no bias: of 0.5, 1.5, 2.5, 3.5 two "
        "go down and two up. The zero point comes after rounding, since round(n + ½ + z) = round(n + ½) + z only for "
        "even z. Source: Jacob et al. 2018, arXiv:1712.05877."
    ),
    forbidden=("kdcourse.quantization.quantize",),
)
