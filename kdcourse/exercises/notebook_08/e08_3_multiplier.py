"""08.3 a factor without a fraction."""

import math
from fractions import Fraction

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer

Pair = tuple[int, int]


def multiplier(real: float) -> Pair:
    fraction, exponent = math.frexp(real)
    mantissa = round(fraction * 2**31)
    if mantissa == 2**31:
        return 2**30, -exponent - 1
    return mantissa, -exponent


def multiplier_by_doubling(real: float) -> Pair:
    shift = 0
    while round(real * 2 ** (31 + shift)) < 2**30:
        shift += 1
    while (mantissa := round(real * 2 ** (31 + shift))) >= 2**31:
        shift -= 1
    return mantissa, shift


def multiplier_exactly(real: float) -> Pair:
    return next(
        (mantissa, shift)
        for shift in range(-1, 100)
        if 2**30 <= (mantissa := round(Fraction(real) * 2 ** (31 + shift))) < 2**31
    )


def multiplier_by_tensor(real: float) -> tuple[int, ...]:
    fraction, exponent = torch.frexp(torch.tensor(real, dtype=torch.float64))
    mantissa = torch.round(fraction * 2**31).long()
    full = mantissa >> 31
    return int(mantissa >> full), int(-exponent - full)


def _normal(real: float, bits: int = 31) -> Pair:
    """Rounded to so many bits, and not looked at again."""
    fraction, exponent = math.frexp(real)
    return round(fraction * 2**bits) << (31 - bits), -exponent


def always_shift_zero(real: float) -> Pair:
    return round(real * 2**31), 0


def one_bit_given_away(real: float) -> Pair:
    fraction, exponent = math.frexp(real)
    return round(fraction * 2**30), -exponent - 1


def shift_off_by_one(real: float) -> Pair:
    mantissa, shift = multiplier(real)
    return mantissa, shift + 1


def shift_one_too_few(real: float) -> Pair:
    mantissa, shift = multiplier(real)
    return mantissa, shift - 1


def whole_shift(real: float) -> Pair:
    mantissa, shift = multiplier(real)
    return mantissa, 31 + shift


def exponent_for_shift(real: float) -> Pair:
    mantissa, shift = multiplier(real)
    return mantissa, -shift


def mantissa_cut_off(real: float) -> Pair:
    fraction, exponent = math.frexp(real)
    return int(fraction * 2**31), -exponent


def sixteen_bits(real: float) -> Pair:
    return _normal(real, 15)


def single_precision(real: float) -> Pair:
    return _normal(torch.tensor(real, dtype=torch.float32).item())


def half_precision(real: float) -> Pair:
    return _normal(torch.tensor(real, dtype=torch.float16).item())


def overflow_left(real: float) -> Pair:
    return _normal(real)


def overflow_capped(real: float) -> Pair:
    mantissa, shift = _normal(real)
    return min(mantissa, 2**31 - 1), shift


def overflow_without_shift(real: float) -> Pair:
    mantissa, shift = _normal(real)
    return (mantissa // 2 if mantissa == 2**31 else mantissa), shift


def by_logarithm(real: float) -> Pair:
    shift = math.floor(-math.log2(real))
    return round(real * 2 ** (31 + shift)), shift


def results_swapped(real: float) -> Pair:
    mantissa, shift = multiplier(real)
    return shift, mantissa


def mantissa_not_rounded(real: float) -> tuple[float, int]:
    fraction, exponent = math.frexp(real)
    return fraction * 2**31, -exponent


def overflow_shifted_the_other_way(real: float) -> Pair:
    mantissa, shift = _normal(real)
    return (2**30, shift + 1) if mantissa == 2**31 else (mantissa, shift)


def thirty_bits(real: float) -> Pair:
    fraction, exponent = math.frexp(real)
    return round(fraction * 2**30), -exponent


def multiplier_cases() -> list[Case]:
    reals = (0.3, 0.0047, 0.5, 0.7310585786, 0.00012345, 0.25 - 2.0**-40, 0.015625)
    return [case(real) for real in reals]


EXERCISE = Exercise(
    id="08.3",
    title="a factor without a fraction",
    question=(
        "Between two layers an accumulator is multiplied by a real factor, 0 < `real` < 1, in integers only. "
        "Write `my_multiplier(real)`: two ints `(mantissa, shift)` with `real` ≈ mantissa · 2^(-31 - shift) and "
        "2^30 ≤ mantissa < 2^31. Of all such pairs return the one that comes nearest to `real`, a Python float. No "
        "`real` here has two that are equally near, and every shift is 0 or more."
    ),
    skeleton=(
        'def my_multiplier(real):\n    """(mantissa, shift): real is about mantissa * 2 ** (-31 - shift)."""\n    ...'
    ),
    reference=multiplier,
    alternatives=(multiplier_by_doubling, multiplier_exactly, multiplier_by_tensor),
    cases=multiplier_cases,
    drawn=lambda g: case(
        (1 - torch.rand((), generator=g, dtype=torch.float64).item()) * 0.999 * 2.0 ** -integer(g, 0, 9)
    ),
    hints=(
        "As in scientific notation: first move the point until the number has no zeros in front, and count the moves.",
        "`math.frexp(real)` gives a fraction from 0.5 up to 1 and an exponent. The fraction takes 31 bits. And if it "
        "rounds up to a whole 1?",
        "`fraction, exponent = math.frexp(real)`, then `round(fraction * 2**31)` and `-exponent`. If the mantissa "
        "became 2**31, return half of it and one shift fewer.",
    ),
    misconceptions=(
        Misconception(
            "not normalized",
            always_shift_zero,
            "your shift is always 0, so a small factor leaves a mantissa with few bits: below 2^30 precision is given "
            "away. Move the leading 1 to bit 30, and count the moves",
        ),
        Misconception(
            "a mantissa below 2^30",
            one_bit_given_away,
            "your mantissa is from 2^29 to 2^30: one bit stays unused, and the error doubles. The leading 1 belongs "
            "in bit 30",
        ),
        Misconception(
            "one shift too many",
            shift_off_by_one,
            "your shift is one too large, so every output is halved. `math.frexp` gives a fraction from 0.5 to 1; "
            "one from 1 to 2 has another exponent",
        ),
        Misconception(
            "one shift too few",
            shift_one_too_few,
            "your shift is one too small, so every output is doubled. Test it: mantissa * 2 ** (-31 - shift)",
        ),
        Misconception(
            "the 31 in the shift",
            whole_shift,
            "you return the whole shift, 31 + shift. The formula adds the 31 again, and everything becomes 0",
        ),
        Misconception(
            "the exponent for the shift",
            exponent_for_shift,
            "your shift has the wrong sign. `math.frexp` says by which power of two the fraction is multiplied; a "
            "shift to the right divides",
        ),
        Misconception(
            "mantissa truncated",
            mantissa_cut_off,
            "`int(…)` truncates the mantissa. It is then too small every time, and up to twice as wrong as a rounded "
            "one",
        ),
        Misconception(
            "a mantissa of 16 bits",
            sixteen_bits,
            "the lower half of your mantissa is empty: 15 bits are used of 31. An accumulator has up to 32 bits, and "
            "a large one comes out wrong",
        ),
        Misconception(
            "through float32",
            single_precision,
            "your factor went through float32, which keeps 24 bits, so the last 7 of your mantissa are lost. A Python "
            "float has 53 bits; a tensor made of one by default does not",
        ),
        Misconception(
            "through float16",
            half_precision,
            "your factor went through float16, which keeps 11 bits at most. That is an error of up to 1 in 2000 in "
            "every output",
        ),
        Misconception(
            "overflow to 2^31",
            overflow_left,
            "right but for one thing: a fraction just below 1 rounds up to a mantissa of 2^31, one more than int32 "
            "holds. Halve it and shift by one less",
        ),
        Misconception(
            "overflow capped",
            overflow_capped,
            "a fraction just below 1 rounds up to 2^31, and you cap it at 2^31 - 1. 2^30 with one shift fewer is "
            "nearer",
        ),
        Misconception(
            "overflow halved alone",
            overflow_without_shift,
            "where the mantissa rounds up to 2^31 you halve it, but leave the shift as it was. The factor is then "
            "half as large",
        ),
        Misconception(
            "2^31 at powers of two",
            by_logarithm,
            "at 1/2, 1/4, 1/8, … your mantissa is 2^31, one more than int32 holds. There `-math.log2(real)` is an "
            "integer, and the shift is one less than that",
        ),
        Misconception(
            "results swapped",
            results_swapped,
            "both numbers are right, in the wrong order: (mantissa, shift)",
        ),
        Misconception(
            "a mantissa not rounded",
            mantissa_not_rounded,
            "your mantissa is not rounded. It is an integer: `round(fraction * 2**31)`",
        ),
        Misconception(
            "the overflow shifted the other way",
            overflow_shifted_the_other_way,
            "where the mantissa becomes 2^31 you take half of it, but one shift more. Half the mantissa needs one "
            "shift fewer",
        ),
        Misconception(
            "30 bits, the shift of 31",
            thirty_bits,
            "you multiply by 2^30, but keep the shift that belongs to 2^31: the factor is halved",
        ),
    ),
    shows="a real factor becomes 31 significant bits and a shift.",
    derivation=(
        "real = f · 2^e with f in [0.5, 1): mantissa = round(f · 2^31), shift = -e, relative error at most 2^-31. "
        "f above 1 - 2^-32 rounds up to 2^31 = 2 · 2^30. Source: Jacob et al. 2018, arXiv:1712.05877, equation 6."
    ),
    forbidden=("kdcourse.quantization.fixed_point",),
    relative=0.0,
    absolute=0.0,
)
