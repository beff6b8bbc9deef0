"""08.4 back to 8 bits."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer
from .common import whole


def requantize(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    half = 2 ** (30 + shift)
    scaled = (accumulators.long() * mantissa + half) >> (31 + shift)
    return (scaled + zero_point).clamp(0, 255).to(torch.uint8)


def requantize_by_division(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    unit = 2 ** (31 + shift)
    shifted = accumulators.to(torch.int64) * mantissa + unit // 2 + zero_point * unit
    return torch.div(shifted, unit, rounding_mode="floor").clamp(min=0, max=255).to(torch.uint8)


def requantize_one_by_one(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    factor = Fraction(mantissa, 2 ** (31 + shift))
    codes = [math.floor(int(value) * factor + Fraction(1, 2)) + zero_point for value in accumulators.flatten()]
    return torch.tensor([min(max(code, 0), 255) for code in codes], dtype=torch.uint8).reshape(accumulators.shape)


def requantize_by_float64(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    scaled = torch.floor(accumulators.double() * (mantissa / 2 ** (31 + shift)) + 0.5)
    return (scaled + zero_point).clamp(0, 255).to(torch.uint8)


def _as_codes(scaled: Tensor, zero_point: int) -> Tensor:
    return (scaled + zero_point).clamp(0, 255).to(torch.uint8)


def _scaled(accumulators: Tensor, mantissa: int, shift: int) -> Tensor:
    return (accumulators.long() * mantissa + 2 ** (30 + shift)) >> (31 + shift)


def _real(accumulators: Tensor, mantissa: int, shift: int) -> Tensor:
    return accumulators.double() * mantissa / 2 ** (31 + shift)


def shift_alone(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes((accumulators.long() * mantissa) >> (31 + shift), zero_point)


def scaled_toward_zero(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(_real(accumulators, mantissa, shift).trunc(), zero_point)


def ties_to_even(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(torch.round(_real(accumulators, mantissa, shift)), zero_point)


def zero_point_before_rounding(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(torch.round(_real(accumulators, mantissa, shift) + zero_point), 0)


def ties_away_from_zero(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    real = _real(accumulators, mantissa, shift)
    return _as_codes(real.sign() * torch.floor(real.abs() + 0.5), zero_point)


def rounded_twice(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    high = (accumulators.long() * mantissa + 2**30) >> 31
    return _as_codes((high + (2**shift >> 1)) >> shift, zero_point)


def rounded_as_gemmlowp(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    high = (accumulators.long() * mantissa + 2**30) >> 31
    below = (high < 0).long() * min(shift, 1)
    return _as_codes((high + (2**shift >> 1) - below) >> shift, zero_point)


def zero_point_before_scaling(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(_scaled(accumulators + zero_point, mantissa, shift), 0)


def codes_without_zero_point(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(_scaled(accumulators, mantissa, shift), 0)


def codes_not_clamped(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return (_scaled(accumulators, mantissa, shift) + zero_point).to(torch.uint8)


def clamped_too_early(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return (_scaled(accumulators, mantissa, shift).clamp(0, 255) + zero_point).to(torch.uint8)


def clamped_as_int8(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return (_scaled(accumulators, mantissa, shift) + zero_point).clamp(-128, 127).to(torch.uint8)


def product_in_int32(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    product = (accumulators * mantissa).long()  # wrapped around before it is widened
    return _as_codes((product + 2 ** (30 + shift)) >> (31 + shift), zero_point)


def everything_in_int32(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes((accumulators * mantissa + 2 ** (30 + shift)) >> (31 + shift), zero_point)


def in_float32(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(torch.round(accumulators.to(torch.float32) * (mantissa / 2 ** (31 + shift))), zero_point)


def shift_without_31(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes((accumulators.long() * mantissa + (2**shift >> 1)) >> shift, zero_point)


def requantize_cases() -> list[Case]:
    small = torch.tensor(
        [[2, 6, -2, 5], [-6, 1100, -400, -5]], dtype=torch.int32
    )  # times 1/4: halves, and beyond both ends
    return [
        case(small, 2**30, 1, 3),
        case(small.T.contiguous(), 2**30, 1, 128),
        case(whole(-9000, 9000, 3, 30, seed=831, dtype=torch.int32), 1717986918, 5, 120),
        case(whole(-900_000, 900_000, 4, 20, seed=832, dtype=torch.int32), 1288490189, 11, 37),
        case(whole(-40, 300, 2, 25, seed=833, dtype=torch.int32), 1932735283, 0, 0),
    ]


def requantize_drawn(g: torch.Generator) -> Case:
    shift = integer(g, 0, 12)
    values = torch.randint(-(2 ** (shift + 8)), 2 ** (shift + 8), (integer(g, 1, 4), integer(g, 2, 9)), generator=g)
    return case(values.int(), integer(g, 2**30, 2**31 - 1), shift, integer(g, 0, 255))


EXERCISE = Exercise(
    id="08.4",
    title="back to 8 bits",
    question=(
        "`accumulators` is an int32 tensor (N, O). `mantissa` and `shift` are the ints of 08.3, with "
        "2^30 ≤ mantissa < 2^31 and 0 ≤ shift ≤ 31; `zero_point` is an int from 0 to 255. Write "
        "`my_requantize(accumulators, mantissa, shift, zero_point)`: uint8 codes (N, O). The exact value of "
        "accumulator · mantissa / 2^(31 + shift) is rounded *once*, to the nearest integer, an exact half up: "
        "0.5 to 1, -0.5 to 0. Then the zero point is added, and codes beyond 0 to 255 become 0 or 255."
    ),
    skeleton=(
        "def my_requantize(accumulators, mantissa, shift, zero_point):\n"
        '    """The uint8 codes of int32 accumulators, scaled by mantissa * 2 ** (-31 - shift)."""\n    ...'
    ),
    reference=requantize,
    alternatives=(requantize_by_division, requantize_one_by_one, requantize_by_float64),
    cases=requantize_cases,
    drawn=requantize_drawn,
    hints=(
        "How many bits has the product of an int32 and a mantissa? And in which direction does a shift round?",
        "`>>` rounds down. What has to be added before it, so that it rounds to the nearest? Do all of it in int64.",
        "`(accumulators.long() * mantissa + 2 ** (30 + shift)) >> (31 + shift)`, plus the zero point, then "
        "`.clamp(0, 255).to(torch.uint8)`.",
    ),
    misconceptions=(
        Misconception(
            "shifted without rounding",
            shift_alone,
            "a shift rounds down, toward minus infinity. Every code then loses half a step on average, and layers add "
            "that up. Add half of 2^(31 + shift) first",
        ),
        Misconception(
            "truncated toward zero",
            scaled_toward_zero,
            "you truncate. That pulls every value toward 0 by half a step on average. Round to the nearest",
        ),
        Misconception(
            "halves to the even number",
            ties_to_even,
            "`torch.round` sends an exact half to the even number, 0.5 to 0. Adding half and rounding down sends it "
            "up, and that is what integers can do cheaply",
        ),
        Misconception(
            "zero point added before rounding",
            zero_point_before_rounding,
            "you add the zero point before `torch.round`, which sends a half to the even number. Now an odd zero point "
            "sends halves the other way than an even one. Round first",
        ),
        Misconception(
            "halves away from zero",
            ties_away_from_zero,
            "you send a negative half down: -0.5 to -1. Some runtimes do that, others send halves up; two that "
            "disagree here differ by one code. Half up was asked for",
        ),
        Misconception(
            "rounded twice",
            rounded_twice,
            "you round twice, after 31 bits and after the shift. The first rounding lifts some values from just below "
            "a half onto it, and the second lifts them again. Some runtimes accept that; round once here",
        ),
        Misconception(
            "rounded twice, as gemmlowp does",
            rounded_as_gemmlowp,
            "you round a half up after 31 bits, and a half away from zero after the shift. gemmlowp does, to stay in "
            "32 bits, and now and then it is one code off. Round once here",
        ),
        Misconception(
            "zero point before scaling",
            zero_point_before_scaling,
            "you add the zero point to the accumulators, so it is scaled away with them. It is a code of the output "
            "and comes after the scaling",
        ),
        Misconception(
            "zero point forgotten",
            codes_without_zero_point,
            "the zero point is missing. The value 0 has the code `zero_point` in the output, not 0",
        ),
        Misconception(
            "not clamped",
            codes_not_clamped,
            "a cast to uint8 wraps around: 278 becomes 22, and the largest value turns small. Clamp to 0 and 255 first",
        ),
        Misconception(
            "clamped before the zero point",
            clamped_too_early,
            "you clamp before the zero point is added. Every negative value is lost, and large codes still "
            "leave the range",
        ),
        Misconception(
            "clamped as int8",
            clamped_as_int8,
            "you clamp to -128 and 127, the range of int8. These codes are uint8: half of their range stays unused, "
            "and negative ones wrap around",
        ),
        Misconception(
            "product in int32",
            product_in_int32,
            "you multiply in int32. The product of a 32-bit and a 31-bit number needs up to 63 bits, and the upper "
            "ones, which you want, have wrapped away. Use int64",
        ),
        Misconception(
            "everything in int32",
            everything_in_int32,
            "all of this happens in int32. The product wraps around, and a shift by 31 or more leaves nothing of "
            "32 bits. Make the accumulators int64 first",
        ),
        Misconception(
            "in float32",
            in_float32,
            "an int32 tensor times a Python float becomes float32, with 24 bits for a factor of 31. Values near a half "
            "go astray, and a processor without floats cannot do it. Stay with integers",
        ),
        Misconception(
            "the 31 forgotten",
            shift_without_31,
            "you shift by `shift` alone. The mantissa is the factor times 2^(31 + shift), so 31 more bits must go",
        ),
    ),
    shows="accumulators become codes by one product in 64 bits, one rounding shift, the zero point and a clamp.",
    derivation=(
        "round half up: floor(a m / 2^k + 1/2) = floor((a m + 2^(k-1)) / 2^k) = (a m + 2^(k-1)) >> k, k = 31 + shift. "
        "|a m| < 2^62, so nothing overflows int64. Source: Jacob et al. 2018, arXiv:1712.05877, section 2.2; their "
        "code rounds twice, to stay in 32 bits."
    ),
    forbidden=("kdcourse.quantization.requantize", "kdcourse.quantization.arithmetic.multiply"),
    relative=0.0,
    absolute=0.0,
)
