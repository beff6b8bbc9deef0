"""22.17 rows that lose their largest weights."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def rounded_symmetrically(weight: Tensor, *, bits: int) -> Tensor:
    middle = 2 ** (bits - 1)
    scale = weight.abs().amax(dim=1, keepdim=True) / (middle - 1)
    scale = torch.where(scale > 0, scale, 1.0)
    codes = (torch.round(weight / scale) + middle).clamp(0, 2 * middle - 1)
    return scale * (codes - middle)


def row_by_row(weight: Tensor, *, bits: int) -> Tensor:
    rows = []
    for row in weight:
        largest = row.abs().max()
        steps = 2 ** (bits - 1) - 1
        rows.append(torch.round(row * steps / largest) * largest / steps if largest > 0 else torch.zeros_like(row))
    return torch.stack(rows)


def by_nearest_level(weight: Tensor, *, bits: int) -> Tensor:
    top = 2 ** (bits - 1) - 1
    levels = torch.arange(-top, top + 1, dtype=weight.dtype) / top
    largest = torch.maximum(weight.amax(dim=1), -weight.amin(dim=1))
    distance = (weight[..., None] - largest[:, None, None] * levels).abs()
    return levels[distance.argmin(dim=-1)] * largest[:, None]


def _rounded(weight: Tensor, scale: Tensor, zero: Tensor | int, bits: int) -> Tensor:
    scale = torch.where(scale > 0, scale, 1.0)
    codes = (torch.round(weight / scale) + zero).clamp(0, 2**bits - 1)
    return scale * (codes - zero)


def _range(weight: Tensor) -> tuple[Tensor, Tensor]:
    return weight.amin(dim=1, keepdim=True).clamp(max=0), weight.amax(dim=1, keepdim=True).clamp(min=0)


def range_from_zero(weight: Tensor, *, bits: int) -> Tensor:
    low, high = _range(weight)
    largest = torch.maximum(-low, high)
    one_sided = low == 0
    scale = torch.where(one_sided, largest / (2**bits - 1), largest / (2 ** (bits - 1) - 1))
    return _rounded(weight, scale, 2 ** (bits - 1), bits)


def zero_point_moved(weight: Tensor, *, bits: int) -> Tensor:
    low, high = _range(weight)
    largest = torch.maximum(-low, high)
    one_sided = low == 0
    scale = torch.where(one_sided, largest / (2**bits - 1), largest / (2 ** (bits - 1) - 1))
    return _rounded(weight, scale, torch.where(one_sided, 0, 2 ** (bits - 1)), bits)


def range_of_the_row(weight: Tensor, *, bits: int) -> Tensor:
    low, high = _range(weight)
    scale = (high - low) / (2**bits - 1)
    return _rounded(weight, scale, torch.round(-low / torch.where(scale > 0, scale, 1.0)), bits)


def signed_largest(weight: Tensor, *, bits: int) -> Tensor:
    scale = weight.amax(dim=1, keepdim=True).abs() / (2 ** (bits - 1) - 1)
    return _rounded(weight, scale, 2 ** (bits - 1), bits)


def one_level_more(weight: Tensor, *, bits: int) -> Tensor:
    scale = weight.abs().amax(dim=1, keepdim=True) / 2 ** (bits - 1)
    return _rounded(weight, scale, 2 ** (bits - 1), bits)


def half_a_step_more(weight: Tensor, *, bits: int) -> Tensor:
    scale = 2 * weight.abs().amax(dim=1, keepdim=True) / (2**bits - 1)
    return _rounded(weight, scale, 2 ** (bits - 1), bits)


def for_the_whole_matrix(weight: Tensor, *, bits: int) -> Tensor:
    return _rounded(weight, weight.abs().max() / (2 ** (bits - 1) - 1), 2 ** (bits - 1), bits)


def down_the_columns(weight: Tensor, *, bits: int) -> Tensor:
    return rounded_symmetrically(weight.T, bits=bits).T


def cut_off(weight: Tensor, *, bits: int) -> Tensor:
    scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    scale = torch.where(scale > 0, scale, 1.0)
    return scale * torch.trunc(weight / scale)


def no_number_for_zeros(weight: Tensor, *, bits: int) -> Tensor:
    steps = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(dim=1, keepdim=True) / steps
    return scale * torch.round(weight / scale)


def codes_returned(weight: Tensor, *, bits: int) -> Tensor:
    middle = 2 ** (bits - 1)
    scale = weight.abs().amax(dim=1, keepdim=True) / (middle - 1)
    return torch.round(weight / torch.where(scale > 0, scale, 1.0)) + middle


def sign_cases() -> list[Case]:
    small = torch.tensor([[1.0, 7.0, 3.2], [-2.0, 0.6, 7.0]], dtype=torch.float64)
    mixed = draw(5, 6, seed=392)
    mixed[1], mixed[2], mixed[3] = mixed[1].abs(), -mixed[2].abs(), 0.0
    return [
        case(small, bits=4),
        case(small[:1], bits=3),
        case(mixed, bits=4),
        case(draw(3, 4, seed=393).abs(), bits=2),
        case(mixed.flip(1), bits=8),
        case(-draw(2, 5, seed=394).abs(), bits=3),
        case(draw(2, 5, seed=396, spread=0.02), bits=4),
    ]


def drawn_signs(g: torch.Generator) -> Case:
    weight = draw(integer(g, 1, 4), integer(g, 2, 6), seed=g)
    return case(weight.abs() if integer(g, 0, 1) else weight, bits=integer(g, 2, 6))


EXERCISE = Exercise(
    id="22.17",
    title="rows that lose their largest weights",
    question=(
        "Fix `case_17` as `fixed_17(weight, *, bits)`, symmetric rounding per row with codes from 0 to 2^bits - 1 and "
        "the zero point in the middle, 2^(bits-1). The scale of a row of `weight` (outputs, inputs), a tensor, is its "
        "largest absolute value divided by 2^(bits-1) - 1, whatever the signs in the row. Return the weights that the "
        "codes stand for, scale · (code - zero point), with ties rounded to even. A row of zeros stays zero; `bits` "
        "is 2 or more."
    ),
    skeleton=('def fixed_17(weight, *, bits):\n    """The weights, rounded symmetrically per row."""\n    ...'),
    reference=rounded_symmetrically,
    alternatives=(row_by_row, by_nearest_level),
    cases=sign_cases,
    drawn=drawn_signs,
    hints=(
        "Only some rows are clipped. What do their weights have in common?",
        "A row without a negative weight gets the range 0 to max, but its zero point stays in the middle. How many "
        "codes are left above it?",
        "Take the range from -max|w| to max|w| for every row: `scale = w.abs().amax(dim=1) / (2 ** (bits - 1) - 1)`.",
    ),
    misconceptions=(
        Misconception(
            "range from 0",
            range_from_zero,
            "for a row without negative weights the range begins at 0, which halves its scale, while the zero point "
            "stays in the middle: everything above half of the largest weight is clipped",
        ),
        Misconception(
            "the zero point moved",
            zero_point_moved,
            "for a row without negative weights you move the zero point to 0. Nothing is clipped then, and it is "
            "finer, but the codes are no longer symmetric: a kernel that takes the middle for granted reads them "
            "wrongly",
        ),
        Misconception(
            "asymmetric",
            range_of_the_row,
            "this is asymmetric rounding, with a zero point of its own for every row. Here it is in the middle",
        ),
        Misconception(
            "largest without its sign",
            signed_largest,
            "you take the largest weight instead of the largest absolute value: rows whose largest weight is negative "
            "are clipped",
        ),
        Misconception(
            "one level more",
            one_level_more,
            "you divide by 2^(bits-1): the largest positive weight then needs a code that does not exist, and is "
            "clipped by a step",
        ),
        Misconception(
            "all levels used",
            half_a_step_more,
            "you divide the whole range by 2^bits - 1 steps: with the zero point on a code, one side of the range is "
            "half a step too long. The scale is max|w| / (2^(bits-1) - 1)",
        ),
        Misconception(
            "one scale for the matrix",
            for_the_whole_matrix,
            "you use one scale for the whole matrix. Each row has its own",
        ),
        Misconception(
            "down the columns",
            down_the_columns,
            "your scales belong to the columns, the inputs. Each row has its own",
        ),
        Misconception(
            "cut off",
            cut_off,
            "you cut off the fraction instead of rounding to the nearest code",
        ),
        Misconception(
            "NaN for zeros",
            no_number_for_zeros,
            "right but for a row of zeros: its scale is 0, and 0 / 0 is NaN",
        ),
        Misconception(
            "codes returned",
            codes_returned,
            "you return the codes. The weights that they stand for are asked for",
        ),
    ),
    shows="scale and zero point belong together: change the range for one of them alone, and weights are clipped.",
    derivation=(
        "Above the middle there are 2^(bits-1) - 1 codes. With the scale max / (2^bits - 1) they reach up to "
        "(2^(bits-1) - 1) / (2^bits - 1) of max, a little less than half."
    ),
)
