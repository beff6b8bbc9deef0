"""15.1 the nearest number of a format."""

import numpy as np
import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import from_significands, significands, table


def round_float(values: Tensor, *, fraction_bits: int) -> Tensor:
    mantissa, exponent = torch.frexp(values)  # values = mantissa · 2^exponent, 0.5 ≤ |mantissa| < 1
    whole = 2 ** (fraction_bits + 1)
    return torch.ldexp((mantissa * whole).round() / whole, exponent)


def round_by_numpy(values: Tensor, *, fraction_bits: int) -> Tensor:
    mantissa, exponent = np.frexp(values.numpy())
    multiples = np.rint(mantissa * 2.0 ** (fraction_bits + 1))
    return torch.from_numpy(np.ldexp(multiples, exponent - fraction_bits - 1))


def round_the_bits(values: Tensor, *, fraction_bits: int) -> Tensor:
    bits, cut = values.view(torch.int64), 52 - fraction_bits
    is_odd = (bits >> cut) & 1
    below_half = (1 << (cut - 1)) - 1
    return ((bits + below_half + is_odd) >> cut << cut).view(torch.float64)


def cut_off(values: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands(multiples.trunc(), exponent)


def rounded_down(values: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands(multiples.floor(), exponent)


def rounded_up(values: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands(multiples.ceil(), exponent)


def half_away(values: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands(multiples.sign() * (multiples.abs() + 0.5).floor(), exponent)


def half_up(values: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands((multiples + 0.5).floor(), exponent)


def a_bit_too_few(values: Tensor, *, fraction_bits: int) -> Tensor:
    return round_float(values, fraction_bits=fraction_bits - 1)


def a_bit_too_many(values: Tensor, *, fraction_bits: int) -> Tensor:
    return round_float(values, fraction_bits=fraction_bits + 1)


def rounded_twice(values: Tensor, *, fraction_bits: int) -> Tensor:
    return round_float(round_float(values, fraction_bits=fraction_bits + 1), fraction_bits=fraction_bits)


def fixed_point(values: Tensor, *, fraction_bits: int) -> Tensor:
    whole = 2**fraction_bits
    return (values * whole).round() / whole


def decimals(values: Tensor, *, fraction_bits: int) -> Tensor:
    return torch.round(values, decimals=fraction_bits)


def decimal_digits(values: Tensor, *, fraction_bits: int) -> Tensor:
    numbers = [float(f"{value:.{fraction_bits}e}") for value in values.flatten().tolist()]
    return table(numbers).reshape(values.shape)


def one_exponent(values: Tensor, *, fraction_bits: int) -> Tensor:
    step = 2.0 ** (int(torch.frexp(values.abs().max()).exponent) - 1 - fraction_bits)
    return (values / step).round() * step


def always_bfloat16(values: Tensor, *, fraction_bits: int) -> Tensor:
    return values.bfloat16().double()


def sign_lost(values: Tensor, *, fraction_bits: int) -> Tensor:
    return round_float(values.abs(), fraction_bits=fraction_bits)


def round_cases() -> list[Case]:
    halfway = table([1.125, 1.375, -1.125, -1.375, 2.25, 0.6875, -22.0])
    return [
        case(table([1.3, -2.7, 0.0, 5.0]), fraction_bits=2),
        case(halfway, fraction_bits=2),
        case(table([1.325, -1.325, 5.3, 0.66]), fraction_bits=2),  # near a tie
        case(table([1.99, -3.999, 0.49999, 1000.0, 1e-5]), fraction_bits=3),  # up to the next power of two
        case(table([1.125 + 2**-40, 3e60, -7e-60]), fraction_bits=2),  # float32 holds none of these
        case(draw(3, 4, seed=1), fraction_bits=7),
        case(draw(2, 6, seed=2) * 2.0 ** torch.arange(-12, 12, 4), fraction_bits=10),
        case(draw(5, seed=3, spread=1e4), fraction_bits=1),
    ]


def drawn_round(g: torch.Generator) -> Case:
    return case(
        draw(integer(g, 2, 6), seed=g) * 2.0 ** integer(g, -8, 8),
        fraction_bits=integer(g, 1, 10),
    )


EXERCISE = Exercise(
    id="15.1",
    title="the nearest number of a format",
    question=(
        "A floating-point number is ±1.b₁b₂…b_m · 2^e, with m fraction bits after the leading 1. Write "
        "`my_round_float(values, *, fraction_bits)`: every entry of `values`, a float64 tensor of any shape, becomes "
        "the nearest number with `fraction_bits` fraction bits (1 to 20), and the result is again a float64 tensor. "
        "If two numbers are equally near, take the one whose last bit is 0. The exponent may be any integer, so "
        "nothing overflows; 0 stays 0."
    ),
    skeleton=(
        "def my_round_float(values, *, fraction_bits):\n"
        '    """The nearest numbers with this many fraction bits, ties to even."""\n    ...'
    ),
    reference=round_float,
    alternatives=(round_by_numpy, round_the_bits),
    cases=round_cases,
    drawn=drawn_round,
    hints=(
        "How far apart are neighbouring numbers between 1 and 2? And between 2 and 4?",
        "Between 2^e and 2^(e+1) the spacing is 2^(e - fraction_bits): divide by it, round to an integer, multiply. "
        "`torch.frexp` gives the exponent, but of a mantissa between 0.5 and 1, so its exponent is e + 1.",
        "`mantissa, exponent = torch.frexp(values)`; `mantissa * 2 ** (fraction_bits + 1)` is what to `.round()`, "
        "which takes ties to even; then divide again and `torch.ldexp(…, exponent)`.",
    ),
    misconceptions=(
        Misconception(
            "cut off",
            cut_off,
            "you cut off the bits that do not fit. That is towards zero: the error is up to one spacing instead of "
            "half of it, and it always makes numbers smaller",
        ),
        Misconception(
            "rounded down",
            rounded_down,
            "you always take the lower neighbour. Take the nearer one: the error must not exceed half a spacing",
        ),
        Misconception(
            "rounded up",
            rounded_up,
            "you always take the upper neighbour. Take the nearer one: the error must not exceed half a spacing",
        ),
        Misconception(
            "ties away from zero",
            half_away,
            "only ties are wrong: you round them away from zero. Taking the even last bit, half of them go up and "
            "half go down, so that sums do not drift",
        ),
        Misconception(
            "ties up",
            half_up,
            "only ties are wrong: `floor(x + 0.5)` rounds all of them up. The even last bit wins: `torch.round` does "
            "that",
        ),
        Misconception(
            "a bit too few",
            a_bit_too_few,
            "your numbers have one fraction bit too few. The leading 1 is not stored and does not count; or you took "
            "`frexp`'s mantissa, between 0.5 and 1, for one between 1 and 2",
        ),
        Misconception(
            "a bit too many",
            a_bit_too_many,
            "your numbers have one fraction bit too many: between 1 and 2 the spacing is 2^-fraction_bits",
        ),
        Misconception(
            "rounded twice",
            rounded_twice,
            "you round twice, first to a longer format. What is just below a tie becomes a tie and then goes the "
            "wrong way. Round once",
        ),
        Misconception(
            "fixed point",
            fixed_point,
            "your spacing is 2^-fraction_bits everywhere: these are fixed-point numbers. A floating-point format "
            "doubles the spacing at every power of two",
        ),
        Misconception(
            "decimal places",
            decimals,
            "`decimals=` counts decimal places after the point. The format has binary digits after the leading 1",
        ),
        Misconception(
            "decimal digits",
            decimal_digits,
            "you keep decimal digits. The format is binary: its spacing is a power of two",
        ),
        Misconception(
            "one exponent for all",
            one_exponent,
            "you use the exponent of the largest entry for all of them. Every number has an exponent of its own, which "
            "is what keeps small numbers accurate",
        ),
        Misconception(
            "always bfloat16",
            always_bfloat16,
            "you always convert to bfloat16, which has 7 fraction bits. `fraction_bits` says how many to keep",
        ),
        Misconception("the sign lost", sign_lost, "the magnitudes are correct, but negative numbers lose their sign"),
    ),
    shows="a format with m fraction bits has a relative error of at most 2^-(m+1), whatever the size of the number.",
    derivation=(
        "For 2^e ≤ |x| < 2^(e+1) neighbours are 2^(e-m) apart, so the nearest one is at most 2^(e-m-1) away: at most "
        "2^-(m+1) of |x|. bfloat16 has m = 7, float16 m = 10, float32 m = 23. Source: IEEE 754-2019, section 4.3.1."
    ),
    relative=1e-9,
    absolute=0.0,
)
