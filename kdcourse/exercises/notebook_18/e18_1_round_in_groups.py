"""18.1 a scale for every group."""

import numpy as np
import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal
from .common import table


def round_in_groups(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    outputs, inputs = weight.shape
    if inputs % group_size:
        raise ValueError(f"{inputs} inputs cannot be cut into groups of {group_size}")
    groups = weight.reshape(outputs, inputs // group_size, group_size)
    scale = groups.abs().amax(dim=2, keepdim=True) / (2 ** (bits - 1) - 1)
    scale = torch.where(scale > 0, scale, 1.0)
    return (scale * torch.round(groups / scale)).reshape(outputs, inputs)


def round_by_loops(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    if weight.shape[1] % group_size != 0:
        raise ValueError("the group size does not divide the inputs")
    result = weight.clone()
    for row in result:
        for group in row.split(group_size):
            largest = float(group.abs().max())
            if largest > 0:
                step = largest / (2 ** (bits - 1) - 1)
                group.copy_(group.div(step).round() * step)
    return result


def round_by_numpy(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    array = weight.numpy()
    rest = array.shape[1] % group_size
    if rest:
        raise ValueError(f"{rest} weights of each row are left over")
    largest = np.abs(array).reshape(-1, group_size).max(axis=1)
    steps = np.where(largest == 0, 1, largest / (2 ** (bits - 1) - 1))
    steps = np.repeat(steps, group_size).reshape(array.shape)
    return torch.from_numpy(np.rint(array / steps) * steps)


def _grouped(weight: Tensor, group_size: int) -> Tensor:
    """(outputs, groups, group_size), or the refusal."""
    if weight.shape[1] % group_size:
        raise ValueError("the group size does not divide the inputs")
    return weight.unflatten(1, (-1, group_size))


def _steps(groups: Tensor, levels: int) -> Tensor:
    """One step for the last dimension: its largest absolute value over the levels."""
    steps = groups.abs().amax(dim=-1, keepdim=True) / levels
    return torch.where(steps > 0, steps, 1.0)


def a_scale_per_row(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    _grouped(weight, group_size)
    return round_in_groups(weight, bits=bits, group_size=weight.shape[1])


def one_scale(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    _grouped(weight, group_size)
    return round_in_groups(weight.reshape(1, -1), bits=bits, group_size=weight.numel()).reshape(weight.shape)


def down_the_columns(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    _grouped(weight, group_size)
    return round_in_groups(weight.T, bits=bits, group_size=min(group_size, len(weight))).T


def every_so_many(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    _grouped(weight, group_size)
    groups = weight.unflatten(1, (group_size, -1)).transpose(1, 2)
    steps = _steps(groups, 2 ** (bits - 1) - 1)
    return (steps * (groups / steps).round()).transpose(1, 2).flatten(1)


def as_many_groups(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    _grouped(weight, group_size)
    groups = weight.unflatten(1, (group_size, -1))
    steps = _steps(groups, 2 ** (bits - 1) - 1)
    return (steps * (groups / steps).round()).flatten(1)


def a_level_too_many(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    groups = _grouped(weight, group_size)
    steps = _steps(groups, 2 ** (bits - 1))
    return (steps * (groups / steps).round()).flatten(1)


def twice_the_levels(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    groups = _grouped(weight, group_size)
    steps = _steps(groups, 2**bits - 1)
    return (steps * (groups / steps).round()).flatten(1)


def signed_maximum(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    groups = _grouped(weight, group_size)
    steps = groups.amax(dim=2, keepdim=True) / (2 ** (bits - 1) - 1)
    steps = torch.where(steps == 0, 1.0, steps)
    return (steps * (groups / steps).round()).flatten(1)


def from_the_lowest(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    groups = _grouped(weight, group_size)
    low = groups.amin(dim=2, keepdim=True)
    steps = (groups.amax(dim=2, keepdim=True) - low) / (2**bits - 1)
    steps = torch.where(steps > 0, steps, 1.0)
    return (low + steps * ((groups - low) / steps).round()).flatten(1)


def nan_for_zeros(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    groups = _grouped(weight, group_size)
    steps = groups.abs().amax(dim=2, keepdim=True) / (2 ** (bits - 1) - 1)
    return (steps * (groups / steps).round()).flatten(1)


def codes(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    groups = _grouped(weight, group_size)
    return (groups / _steps(groups, 2 ** (bits - 1) - 1)).round().flatten(1)


def cut_off(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    groups = _grouped(weight, group_size)
    steps = _steps(groups, 2 ** (bits - 1) - 1)
    return (steps * (groups / steps).trunc()).flatten(1)


def ties_away(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    groups = _grouped(weight, group_size)
    steps = _steps(groups, 2 ** (bits - 1) - 1)
    return (steps * groups.sign() * ((groups / steps).abs() + 0.5).floor()).flatten(1)


def a_shorter_last_group(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    parts = [round_in_groups(part, bits=bits, group_size=part.shape[1]) for part in weight.split(group_size, dim=1)]
    return torch.cat(parts, dim=1)


def over_the_row_ends(weight: Tensor, *, bits: int, group_size: int) -> Tensor:
    return round_in_groups(weight.reshape(1, -1), bits=bits, group_size=group_size).reshape(weight.shape)


def group_cases() -> list[Case]:
    why = "a group size that does not divide the inputs"
    return [
        case(table([[1.0, -3.0, 0.4, 0.3]]), bits=3, group_size=2),
        case(table([[0.5, 1.5, -2.5, 7.0, -0.5, -7.0, 3.5, -1.5]]), bits=4, group_size=4),  # ties
        case(table([[0.0, 0.0, 2.0, -5.0], [0.3, -0.1, 0.0, 0.0]]), bits=2, group_size=2),
        case(draw(4, 8, seed=1), bits=4, group_size=2),
        case(draw(6, 12, seed=2) * torch.logspace(-2, 1, 12, dtype=torch.float64), bits=3, group_size=3),
        case(draw(3, 6, seed=3).float(), bits=8, group_size=6),
        case(draw(5, 4, seed=4), bits=2, group_size=1),
        case(-draw(2, 6, seed=5).abs(), bits=4, group_size=3),
        refusal(why, draw(2, 6, seed=6), bits=4, group_size=4),
        refusal(why, draw(3, 5, seed=7), bits=4, group_size=2),
        refusal(why, draw(4, 3, seed=8), bits=4, group_size=4),
    ]


def drawn_groups(g: torch.Generator) -> Case:
    size = integer(g, 1, 5)
    weight = draw(integer(g, 1, 4), size * integer(g, 1, 4), seed=g)
    return case(weight, bits=integer(g, 2, 6), group_size=size)


EXERCISE = Exercise(
    id="18.1",
    title="a scale for every group",
    question=(
        "`weight` is a floating-point tensor (outputs, inputs). Write `my_round_in_groups(weight, *, bits, "
        "group_size)`. Each row is cut into groups of `group_size` consecutive weights, and each group has a scale of "
        "its own: its largest absolute value, divided by 2^(bits-1) - 1. Every weight becomes its group's scale times "
        "the integer nearest to weight / scale, ties to the even integer as in `torch.round`. A group of zeros stays "
        "zero. Return these rounded weights as a tensor of the same shape and dtype. `bits` is at least 2. If "
        "`group_size` does not divide the number of inputs, raise a `ValueError`."
    ),
    skeleton=(
        "def my_round_in_groups(weight, *, bits, group_size):\n"
        '    """The rounded weights, with a scale for every group of a row."""\n    ...'
    ),
    reference=round_in_groups,
    alternatives=(round_by_loops, round_by_numpy),
    cases=group_cases,
    drawn=drawn_groups,
    hints=(
        "You know how to round a row with one scale. What if every group were a row?",
        "`weight.reshape(outputs, inputs // group_size, group_size)` puts each group into the last dimension. One "
        "scale for each: keep that dimension, so that it broadcasts.",
        "`scale = groups.abs().amax(dim=2, keepdim=True) / (2 ** (bits - 1) - 1)`; replace a scale of 0 by 1; "
        "`scale * torch.round(groups / scale)`, back in the old shape.",
    ),
    misconceptions=(
        Misconception(
            "a scale for each row",
            a_scale_per_row,
            "you use one scale for a whole row. Its largest weight then decides how coarsely all others are rounded, "
            "which is what groups are there to avoid",
        ),
        Misconception(
            "one scale for all",
            one_scale,
            "you use one scale for the whole tensor: a single large weight makes the steps of all others coarse",
        ),
        Misconception(
            "down the columns",
            down_the_columns,
            "your groups run down the columns. They are consecutive weights of one row, that is, of one output",
        ),
        Misconception(
            "every so many weights",
            every_so_many,
            "your groups are not consecutive: the reshape puts `group_size` first, so that a group takes weights from "
            "all over the row. Shape (outputs, groups, group_size), and the maximum over the last dimension",
        ),
        Misconception(
            "so many groups",
            as_many_groups,
            "you cut each row into `group_size` groups. It is the number of weights in each group",
        ),
        Misconception(
            "a level too many",
            a_level_too_many,
            "you divide by 2^(bits-1), so the largest weight gets that code. With 4 bits the codes end at 7: divide by "
            "2^(bits-1) - 1",
        ),
        Misconception(
            "twice the levels",
            twice_the_levels,
            "you divide by 2^bits - 1. That many steps have to reach from the lowest code to the highest one; from 0 "
            "to the largest absolute value it is 2^(bits-1) - 1",
        ),
        Misconception(
            "the signed maximum",
            signed_maximum,
            "you take the largest weight, not the largest absolute value. Where a negative weight is larger in size, "
            "it gets a code that does not exist",
        ),
        Misconception(
            "from the lowest weight up",
            from_the_lowest,
            "you count steps from the lowest weight of the group. Then 0 is not a code, and the group needs a second "
            "number beside its scale. Here the codes are symmetric around 0",
        ),
        Misconception(
            "NaN for zeros",
            nan_for_zeros,
            "a group of zeros has the scale 0, and 0 / 0 is NaN. One such group destroys every output: use the scale 1 "
            "there",
        ),
        Misconception(
            "the codes",
            codes,
            "these are the codes. Multiply each by its group's scale: the question asks for the weights",
        ),
        Misconception(
            "cut off",
            cut_off,
            "you cut off the fraction. The error is up to a whole step instead of half of one, and every weight gets "
            "smaller",
        ),
        Misconception(
            "ties away from zero",
            ties_away,
            "only ties are wrong: you round them away from zero. `torch.round` takes the even integer",
        ),
        Misconception(
            "a shorter last group",
            a_shorter_last_group,
            "where the group size does not divide the inputs, your last group is shorter. A file format has room for "
            "full groups only: raise a `ValueError`",
        ),
        Misconception(
            "over the ends of rows",
            over_the_row_ends,
            "where the group size does not divide the inputs, your groups run on into the next row, so two outputs "
            "share a scale. Raise a `ValueError` there",
        ),
    ),
    shows="a large weight makes rounding coarse in its own group alone, and no longer in the whole row.",
    derivation=(
        "Rounding is off by at most half a step, scale / 2 = max|w| / (2^bits - 2). The maximum over a group is at "
        "most the maximum over its row, so no bound gets worse, and most get better. The price is one scale per group. "
        "Source: Frantar et al. 2022, arXiv:2210.17323, section 4."
    ),
    forbidden=("kdcourse.quantization.choose_qparams",),
)
