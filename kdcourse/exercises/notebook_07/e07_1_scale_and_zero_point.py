"""07.1 a scale, and a code for zero."""

import math

import torch

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Affine = tuple[float, int]


def scale_and_zero_point(minimum: float, maximum: float, *, bits: int) -> Affine:
    low, high = min(minimum, 0.0), max(maximum, 0.0)
    last = 2**bits - 1
    scale = (high - low) / last
    zero_point = min(max(round(-low / scale), 0), last)
    return scale, zero_point


def affine_by_tensors(minimum: float, maximum: float, *, bits: int) -> Affine:
    low, high = torch.tensor([minimum, maximum, 0.0], dtype=torch.float64).aminmax()
    scale = (high - low) / (2**bits - 1)
    return scale.item(), int(torch.round(-low / scale))


def affine_from_above(minimum: float, maximum: float, *, bits: int) -> Affine:
    ends, last = sorted((0.0, minimum, maximum)), (1 << bits) - 1
    scale = (ends[-1] - ends[0]) / last
    return scale, last - round(ends[-1] / scale)


def _affine(low: float, high: float, steps: int) -> Affine:
    return (high - low) / steps, round(-low * steps / (high - low))


def zero_excluded(minimum: float, maximum: float, *, bits: int) -> Affine:
    return _affine(minimum, maximum, 2**bits - 1)


def zero_excluded_and_clamped(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = _affine(minimum, maximum, 2**bits - 1)
    return scale, min(max(zero_point, 0), 2**bits - 1)


def as_many_steps_as_codes(minimum: float, maximum: float, *, bits: int) -> Affine:
    return _affine(min(minimum, 0.0), max(maximum, 0.0), 2**bits)


def one_step_too_many_and_clamped(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = as_many_steps_as_codes(minimum, maximum, bits=bits)
    return scale, min(zero_point, 2**bits - 1)


def zero_point_not_rounded(minimum: float, maximum: float, *, bits: int) -> tuple[float, float]:
    scale, _ = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, -min(minimum, 0.0) / scale


def zero_point_cut_off(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, _ = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, int(-min(minimum, 0.0) / scale + 1e-9)


def symmetric_range(minimum: float, maximum: float, *, bits: int) -> Affine:
    return max(abs(minimum), abs(maximum)) / (2 ** (bits - 1) - 1), 0


def zero_in_the_middle(minimum: float, maximum: float, *, bits: int) -> Affine:
    return 2 * max(abs(minimum), abs(maximum)) / (2**bits - 1), 2 ** (bits - 1)


def zero_point_below_zero(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, -zero_point


def zero_point_for_signed_codes(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, zero_point - 2 ** (bits - 1)


def codes_for_each_unit(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = scale_and_zero_point(minimum, maximum, bits=bits)
    return 1 / scale, zero_point


def zero_point_rounded_up(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, _ = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, min(math.ceil(-min(minimum, 0.0) / scale - 1e-9), 2**bits - 1)


def zero_point_of_the_narrow_range(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, _ = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, round(-minimum / scale)


def only_the_low_end_widened(minimum: float, maximum: float, *, bits: int) -> Affine:
    return _affine(min(minimum, 0.0), maximum, 2**bits - 1)


def only_the_high_end_widened(minimum: float, maximum: float, *, bits: int) -> Affine:
    return _affine(minimum, max(maximum, 0.0), 2**bits - 1)


def results_swapped(minimum: float, maximum: float, *, bits: int) -> tuple[int, float]:
    scale, zero_point = scale_and_zero_point(minimum, maximum, bits=bits)
    return zero_point, scale


def gaps_of_one_sign(minimum: float, maximum: float, *, bits: int) -> Affine:
    return _affine(min(minimum, 0.0), max(maximum, 0.0), 2 ** (bits - 1) - 1)


def zero_point_from_the_high_end(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, _ = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, round(max(maximum, 0.0) / scale)


def affine_cases() -> list[Case]:
    return [
        case(-1.0, 3.0, bits=8),
        case(0.5, 2.5, bits=4),
        case(-6.0, -2.0, bits=4),
        case(-1.7, 0.4, bits=3),
    ]


def affine_drawn(g: torch.Generator) -> Case:
    """A range whose zero point lies well off a tie, rounded up or down; sometimes it leaves out 0."""
    bits, step = integer(g, 3, 8), draw(1, seed=g).abs().item() + 0.01
    place = integer(g, 1, 2**bits - 3) + integer(g, 5, 45) / 100 + integer(g, 0, 1) / 2
    away = integer(g, -1, 1) * 2**bits * step if integer(g, 0, 2) == 0 else 0.0
    return case(-place * step + away, (2**bits - 1 - place) * step + away, bits=bits)


EXERCISE = Exercise(
    id="07.1",
    title="a scale, and a code for zero",
    question=(
        "A real number r is stored as an integer q, its code, with r ≈ scale · (q - zero_point). The codes are "
        "0 … 2^bits - 1. Write `my_scale_and_zero_point(minimum, maximum, *, bits)`: the tuple (scale, zero_point) "
        "that spreads the codes over the numbers from `minimum` to `maximum`, the lowest code at one end and the "
        "highest at the other. The number 0 must be exactly representable: where the range leaves it out, first widen "
        "the range until it ends at 0. `scale` is a float. `zero_point` is an int among the codes, rounded to the "
        "nearest; there are no ties here. `minimum` is below `maximum`."
    ),
    skeleton=(
        "def my_scale_and_zero_point(minimum, maximum, *, bits):\n"
        '    """Scale and zero point of the codes 0 ... 2^bits - 1 over a range."""\n    ...'
    ),
    reference=scale_and_zero_point,
    alternatives=(affine_by_tensors, affine_from_above),
    cases=affine_cases,
    drawn=affine_drawn,
    hints=(
        "Draw the range as a line with the codes on it. How many gaps are between them, and which code is at 0?",
        "Widen first: `low = min(minimum, 0.0)`, `high = max(maximum, 0.0)`. The scale is the width of one gap; the "
        "zero point counts the gaps from `low` up to 0.",
        "`scale = (high - low) / (2**bits - 1)`, `zero_point = round(-low / scale)`.",
    ),
    misconceptions=(
        Misconception(
            "a range that excludes zero",
            zero_excluded,
            "your zero point leaves the codes where the range leaves out 0. Then no code means 0, and padding and the "
            "zeros of a ReLU are no longer exact. Widen the range first",
        ),
        Misconception(
            "a range that excludes zero, then clamped",
            zero_excluded_and_clamped,
            "you clamp the zero point but keep the narrow range. Code 0 then means 0, but most of the range is "
            "beyond the last code. Widen the range to include 0 first",
        ),
        Misconception(
            "as many steps as codes",
            as_many_steps_as_codes,
            "you divide by 2^bits. That is the number of codes; between them are 2^bits - 1 gaps, as a fence has one "
            "gap fewer than posts",
        ),
        Misconception(
            "as many steps as codes, then clamped",
            one_step_too_many_and_clamped,
            "you divide by 2^bits, the number of codes: between them are 2^bits - 1 gaps. Your clamp hides that the "
            "zero point of a negative range fell beyond the last code",
        ),
        Misconception(
            "zero point not rounded",
            zero_point_not_rounded,
            "your zero point is a fraction. It is a code like any other: only an integer makes q - zero_point come "
            "out at exactly 0",
        ),
        Misconception(
            "zero point truncated",
            zero_point_cut_off,
            "you truncate the zero point instead of rounding it: `int(63.75)` is 63. The whole range is then "
            "shifted by up to one step instead of half a step",
        ),
        Misconception(
            "a symmetric range",
            symmetric_range,
            "this is a symmetric range around 0, with zero point 0. Codes from 0 up then represent no negative "
            "number at all, and an uneven range wastes codes",
        ),
        Misconception(
            "zero in the middle",
            zero_in_the_middle,
            "you make the range symmetric and put 0 in the middle. Where it reaches further to one side, codes of the "
            "other side are never used. Use both ends unchanged",
        ),
        Misconception(
            "the zero point's sign",
            zero_point_below_zero,
            "your zero point has the wrong sign. `low` has the code 0, so scale · (0 - zero_point) = low: a low end "
            "below 0 needs a zero point above 0",
        ),
        Misconception(
            "signed codes",
            zero_point_for_signed_codes,
            "your zero point is right for codes that start at -2^(bits-1). Here they start at 0",
        ),
        Misconception(
            "codes for each unit",
            codes_for_each_unit,
            "your scale is upside down: it says how many codes a unit has. In r ≈ scale · (q - zero_point) it is the "
            "width of one step",
        ),
        Misconception(
            "zero point rounded up",
            zero_point_rounded_up,
            "you round the zero point up. `math.ceil(3.2)` is 4, and `int(…) + 1` does the same: the nearest code is 3",
        ),
        Misconception(
            "the zero point of the narrow range",
            zero_point_of_the_narrow_range,
            "your scale belongs to the widened range, your zero point to the narrow one. Compute both from the "
            "widened ends",
        ),
        Misconception(
            "only the low end widened",
            only_the_low_end_widened,
            "you widen only the low end. Where all numbers are negative the high end must go up to 0 as well",
        ),
        Misconception(
            "only the high end widened",
            only_the_high_end_widened,
            "you widen only the high end. Where all numbers are positive the low end must go down to 0 as well",
        ),
        Misconception(
            "results swapped",
            results_swapped,
            "both numbers are right, in the wrong order: (scale, zero_point) is asked for",
        ),
        Misconception(
            "the gaps of one sign",
            gaps_of_one_sign,
            "you divide by 2^(bits-1) - 1. That is the last of the signed codes; from 0 to 2^bits - 1 there are "
            "2^bits - 1 gaps",
        ),
        Misconception(
            "the zero point from the high end",
            zero_point_from_the_high_end,
            "you count the gaps from 0 up to the high end. The zero point is the code of 0: count from the low end, "
            "which has the code 0",
        ),
    ),
    shows="the scale is the width of one gap between codes, and the zero point is the code that means exactly 0.",
    derivation=(
        "low = scale · (0 - z) and high = scale · (2^bits - 1 - z). Subtracted: scale = (high - low) / (2^bits - 1); "
        "the first gives z = -low / scale, rounded so that 0 has a code. As low ≤ 0 ≤ high, z lies among the codes; a "
        "clamp only guards against rounding errors. Source: Jacob et al. 2018, arXiv:1712.05877."
    ),
    forbidden=("kdcourse.quantization.qparams_from_range", "kdcourse.quantization.choose_qparams"),
)
