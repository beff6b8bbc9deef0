"""15.2 rounding that is right on average."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import from_significands, significands, table, uniform


def stochastic_round(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    mantissa, exponent = torch.frexp(values)
    multiples = mantissa * 2 ** (fraction_bits + 1)
    lower = multiples.floor()
    chosen = lower + (draws < multiples - lower)
    return torch.ldexp(chosen / 2 ** (fraction_bits + 1), exponent)


def stochastic_by_ceiling(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    step = torch.ldexp(torch.ones_like(values), torch.frexp(values).exponent - 1 - fraction_bits)
    return torch.ceil(values / step - draws) * step


def stochastic_by_neighbours(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    spacing = 2.0 ** (torch.frexp(values).exponent.double() - 1 - fraction_bits)
    below = torch.div(values, spacing, rounding_mode="floor") * spacing
    return torch.where(draws * spacing < values - below, below + spacing, below)


def nearest(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands(multiples.round(), exponent)


def a_fair_coin(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands(torch.where(draws < 0.5, multiples.ceil(), multiples.floor()), exponent)


def probability_reversed(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    lower, upper = multiples.floor(), multiples.ceil()
    return from_significands(torch.where(draws < upper - multiples, upper, lower), exponent)


def draw_reversed(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands((multiples + draws).floor(), exponent)


def noise_then_nearest(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands((multiples + draws).round(), exponent)


def cut_towards_zero(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    lower = multiples.trunc()
    return from_significands(lower + (draws < multiples - lower), exponent)


def by_magnitude(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    return values.sign() * stochastic_round(values.abs(), draws, fraction_bits=fraction_bits)


def one_draw_for_all(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    return stochastic_round(values, draws.flatten()[0].expand_as(values), fraction_bits=fraction_bits)


def fixed_point(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples = values * 2**fraction_bits
    lower = multiples.floor()
    return (lower + (draws < multiples - lower)) / 2**fraction_bits


def a_bit_too_few(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    return stochastic_round(values, draws, fraction_bits=fraction_bits - 1)


def fraction_of_the_value(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    up = draws < values - values.floor()
    return from_significands(torch.where(up, multiples.ceil(), multiples.floor()), exponent)


def representable_moves(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    lower = multiples.floor()
    return from_significands(lower + (draws <= multiples - lower), exponent)


def unrounded_noise(values: Tensor, draws: Tensor, *, fraction_bits: int) -> Tensor:
    multiples, exponent = significands(values, fraction_bits)
    return from_significands(multiples + draws - 0.5, exponent)


def stochastic_cases() -> list[Case]:
    return [
        case(table([1.3, -2.6]), table([0.1, 0.9]), fraction_bits=2),
        case(table([1.3, -2.6, 1.1, -1.1]), table([0.3, 0.1, 0.45, 0.5]), fraction_bits=2),
        case(table([1.25, -3.0, 0.0, 1.125, -1.125]), table([0.0, 0.0, 0.0, 0.5, 0.5]), fraction_bits=2),
        case(table([1.99, -1.99, 7.9]), table([0.2, 0.2, 0.6]), fraction_bits=3),  # up to a power of two
        case(draw(3, 4, seed=11), uniform(3, 4, seed=12), fraction_bits=7),
        case(draw(8, seed=13) * 2.0 ** torch.arange(-8, 8, 2), uniform(8, seed=14), fraction_bits=3),
    ]


def drawn_stochastic(g: torch.Generator) -> Case:
    count = integer(g, 3, 8)
    values = draw(count, seed=g) * 2.0 ** integer(g, -6, 6)
    return case(values, uniform(count, seed=g), fraction_bits=integer(g, 1, 8))


EXERCISE = Exercise(
    id="15.2",
    title="rounding that is right on average",
    question=(
        "In the format of the exercise before (`fraction_bits` bits after the leading 1, any exponent), a value x that "
        "cannot be represented lies between two neighbours, lower < x < upper. Write `my_stochastic_round(values, "
        "draws, *, fraction_bits)` for two float64 tensors of the same shape: x becomes its *upper* neighbour where "
        "its entry of `draws`, a uniform random number in [0, 1), is smaller than (x - lower) / (upper - lower), and "
        "its lower neighbour otherwise. Upper means the larger number, also for negative values. A value that can be "
        "represented (0 is one) stays as it is. Return a float64 tensor."
    ),
    skeleton=(
        "def my_stochastic_round(values, draws, *, fraction_bits):\n"
        '    """Up with a probability that makes the result right on average."""\n    ...'
    ),
    reference=stochastic_round,
    alternatives=(stochastic_by_ceiling, stochastic_by_neighbours),
    cases=stochastic_cases,
    drawn=drawn_stochastic,
    hints=(
        "In units of the spacing the lower neighbour is an integer. Which one, for -2.6?",
        "`multiples.floor()` is the lower neighbour in units of the spacing, also for negative numbers. What is left, "
        "`multiples - lower`, is the probability of going up.",
        "`lower + (draws < multiples - lower)`, then back to the old scale as in the exercise before.",
    ),
    misconceptions=(
        Misconception(
            "to the nearest",
            nearest,
            "you round to the nearest number and never look at `draws`. An update below half a spacing is then lost "
            "every time; rounded at random it sometimes counts",
        ),
        Misconception(
            "a fair coin",
            a_fair_coin,
            "you go up with probability one half, wherever the value is. The nearer neighbour must be the likelier "
            "one, or the mean is not the value",
        ),
        Misconception(
            "probability reversed",
            probability_reversed,
            "the probabilities are exchanged: you go up with (upper - x) / spacing. The nearer x is to the upper "
            "neighbour, the more often it has to go there",
        ),
        Misconception(
            "the draw reversed",
            draw_reversed,
            "the probabilities are correct, but you go up where the draw is *large*. The question says: where it is "
            "smaller than the fraction. `floor(x + draw)` does it the other way round",
        ),
        Misconception(
            "noise, then the nearest",
            noise_then_nearest,
            "you add noise from 0 to 1 spacing and round to the nearest. Both shift the result: on average it is half "
            "a spacing too large",
        ),
        Misconception(
            "cut towards zero",
            cut_towards_zero,
            "positive values are correct. For negative ones `trunc` gives the *upper* neighbour, the rest is negative, "
            "and no draw is below it. `floor` gives the lower one",
        ),
        Misconception(
            "by magnitude",
            by_magnitude,
            "you round the magnitude and put the sign back, so that for negative values a small draw leads to the "
            "lower neighbour. On average that is right as well, but the question fixes which draw goes where",
        ),
        Misconception(
            "one draw for all",
            one_draw_for_all,
            "you use one draw for all entries. Their errors then no longer cancel: every entry has its own draw",
        ),
        Misconception(
            "fixed point",
            fixed_point,
            "your spacing is 2^-fraction_bits everywhere. It doubles at every power of two",
        ),
        Misconception(
            "a bit too few",
            a_bit_too_few,
            "your neighbours are twice as far apart as they should be: `frexp`'s mantissa is between 0.5 and 1, so "
            "that its exponent is one too large",
        ),
        Misconception(
            "the fraction of the value",
            fraction_of_the_value,
            "you compare the draw with x - floor(x), the part after the point. What counts is how far x is between its "
            "two *neighbours*",
        ),
        Misconception(
            "representable values move",
            representable_moves,
            "you compare with ≤. A draw of exactly 0 then moves a value that can be represented, and one equal to the "
            "fraction goes up: smaller, not smaller or equal",
        ),
        Misconception(
            "noise that is not rounded",
            unrounded_noise,
            "you only add noise. The result must be a number of the format: one of the two neighbours",
        ),
    ),
    shows="stochastic rounding makes a larger error on each number, and none on average.",
    derivation=(
        "With f = (x - lower) / spacing the mean is (1 - f) · lower + f · upper = x, and the variance spacing² · f · "
        "(1 - f): at most a quarter of spacing². Rounding to nearest errs by at most half a spacing, but by the same "
        "amount each time. Source: Gupta, Agrawal, Gopalakrishnan, Narayanan 2015, arXiv:1502.02551, section 3."
    ),
    relative=1e-9,
    absolute=0.0,
)
