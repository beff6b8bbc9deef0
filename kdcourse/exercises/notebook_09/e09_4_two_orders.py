"""09.4 prune, then round, or round, then prune."""

import math
from statistics import fmean

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import Errors, pruned, rounded
from .wrong_09_4 import (
    against_the_step_before,
    all_ties_kept,
    all_ties_pruned,
    codes_for_weights,
    cut_to_the_grid,
    each_step_alone,
    errors_added,
    grid_of_each_row,
    grid_one_step_longer,
    last_ties_pruned,
    one_mask_for_both,
    pruned_row_by_row,
    share_kept,
    sign_bit_forgotten,
    signed_order,
)


def two_orders(weight: Tensor, sparsity: float, bits: int) -> Errors:
    pruned_first = rounded(pruned(weight, sparsity), bits)
    rounded_first = pruned(rounded(weight, bits), sparsity)
    return (pruned_first - weight).square().mean().item(), (rounded_first - weight).square().mean().item()


def orders_by_codes(weight: Tensor, sparsity: float, bits: int) -> Errors:
    flat = weight.flatten()
    scale = flat.abs().max() / (2 ** (bits - 1) - 1)
    codes = torch.round(flat / scale).long()
    count, errors = round(sparsity * len(flat)), []
    for scores in (flat, codes):
        order = torch.sort(scores.abs(), stable=True).indices
        kept = torch.ones_like(codes).index_fill(0, order[:count], 0)
        errors.append(torch.mean((kept * codes * scale - flat) ** 2).item())
    return errors[0], errors[1]


def orders_by_lists(weight: Tensor, sparsity: float, bits: int) -> Errors:
    values = weight.flatten().tolist()
    scale = max(map(abs, values)) / (2 ** (bits - 1) - 1)
    codes = [round(value / scale) for value in values]
    count, errors = round(sparsity * len(values)), []
    for scores in (values, codes):
        gone = set(sorted(range(len(values)), key=lambda place: abs(scores[place]))[:count])
        squares = [
            (value - (0 if place in gone else code * scale)) ** 2
            for place, (value, code) in enumerate(zip(values, codes, strict=True))
        ]
        errors.append(fmean(squares))
    return errors[0], errors[1]


def orders_swapped(weight: Tensor, sparsity: float, bits: int) -> Errors:
    one, other = two_orders(weight, sparsity, bits)
    return other, one


def sums_of_squares(weight: Tensor, sparsity: float, bits: int) -> Errors:
    one, other = two_orders(weight, sparsity, bits)
    return one * weight.numel(), other * weight.numel()


def roots_of_means(weight: Tensor, sparsity: float, bits: int) -> Errors:
    one, other = two_orders(weight, sparsity, bits)
    return math.sqrt(one), math.sqrt(other)


def order_cases() -> list[Case]:
    small = torch.tensor([[0.9, -0.4, 0.55], [-0.61, 0.35, 3.0]], dtype=torch.float64)
    return [
        case(small, 0.5, 3),
        case(draw(6, 10, seed=940, spread=1.0), 0.6, 3),
        case(draw(5, 8, seed=941, spread=0.1), 0.34, 4),
        case(draw(8, 12, seed=942, spread=1.0), 0.75, 5),
    ]


def drawn_weight(g: torch.Generator) -> Case:
    return case(draw(integer(g, 2, 5), integer(g, 4, 8), seed=g), integer(g, 2, 7) / 10, integer(g, 3, 5))


EXERCISE = Exercise(
    id="09.4",
    title="prune, then round, or round, then prune",
    question=(
        "Predict first: which order loses less, and does the grid differ between them? To prune `weight` sets the "
        "`round(sparsity * n)` of its n numbers that are smallest in absolute value to 0; of equal ones those that "
        "come first in `weight.flatten()` go first. To round it uses one symmetric grid: scale = largest absolute "
        "value of *what is being rounded* / (2^(bits - 1) - 1), each number to the nearest multiple of the scale. "
        "Write `my_two_orders(weight, sparsity, bits)`: two floats, the mean squared difference from `weight` after "
        "pruning and then rounding, and after rounding and then pruning. The second step sees only what the first has "
        "left. `weight` is (O, I), float64; something is always left."
    ),
    skeleton=(
        "def my_two_orders(weight, sparsity, bits):\n"
        '    """Mean squared errors: (pruned, then rounded), (rounded, then pruned)."""\n    ...'
    ),
    reference=two_orders,
    alternatives=(orders_by_codes, orders_by_lists),
    cases=order_cases,
    drawn=drawn_weight,
    hints=(
        "Write two small functions first, `prune(weight, sparsity)` and `to_grid(weight, bits)`. Then the two orders "
        "are two lines. What can pruning still tell apart after rounding?",
        "To prune: flatten, clone, `abs().argsort(stable=True)[:count]`, set to 0, reshape. To round: "
        "`torch.round(weight / scale) * scale`. Both errors are taken against the weight you were given.",
        "`one = to_grid(prune(weight, sparsity), bits)`, `other = prune(to_grid(weight, bits), sparsity)`, and of each "
        "`(… - weight).square().mean().item()`.",
    ),
    misconceptions=(
        Misconception(
            "one mask for both",
            one_mask_for_both,
            "you take the mask of the float weights in both orders. Then the orders are the same, and that would "
            "help; but if you round first, only the rounded weights are left to choose from",
        ),
        Misconception(
            "the two swapped",
            orders_swapped,
            "the right numbers, swapped. First comes the error of pruning, then rounding",
        ),
        Misconception(
            "measured against the step before",
            against_the_step_before,
            "you measure what the second step lost against what the first had left. What the first lost is then "
            "forgotten: compare with the weight you were given",
        ),
        Misconception(
            "the errors added",
            errors_added,
            "you add what each step loses alone. A pruned weight is not rounded as well: its error is there once. And "
            "a sum does not depend on the order",
        ),
        Misconception(
            "each step alone",
            each_step_alone,
            "you apply each step to the given weight and stop. The second step is to work on what the first has left",
        ),
        Misconception(
            "all equals pruned",
            all_ties_pruned,
            "you prune by a threshold, so all weights equal to it go. After rounding many are equal, and far more than "
            "the sparsity asks for go. Choose positions, not values",
        ),
        Misconception(
            "all equals kept",
            all_ties_kept,
            "you keep every weight that equals the threshold. After rounding many do, and fewer than asked for go. "
            "Choose positions, not values",
        ),
        Misconception(
            "the last of equals pruned",
            last_ties_pruned,
            "of equal weights you prune the last ones, as sorting the other way round does. It is as good, but not "
            "what was agreed on: the first ones go",
        ),
        Misconception(
            "the fraction that is kept",
            share_kept,
            "you keep what should go. Sparsity is the fraction of zeros",
        ),
        Misconception(
            "the order of signed values",
            signed_order,
            "you prune the lowest values, so the most negative weights go. They are among the strongest: sort by "
            "absolute value",
        ),
        Misconception(
            "pruned row by row",
            pruned_row_by_row,
            "you prune each row separately. Here the smallest of the whole tensor go, wherever they are",
        ),
        Misconception(
            "a step too many in the grid",
            grid_one_step_longer,
            "you divide by 2^(bits - 1). A symmetric grid of 3 bits ends at 3, not at 4: the code would not fit",
        ),
        Misconception(
            "the sign's bit forgotten",
            sign_bit_forgotten,
            "your grid has 2^bits - 1 steps on each side. One bit is for the sign: 2^(bits - 1) - 1",
        ),
        Misconception(
            "truncated instead of rounded",
            cut_to_the_grid,
            "you truncate. Every weight then shrinks by half a step on average, and many more become 0. "
            "Round to the nearest",
        ),
        Misconception(
            "codes for weights",
            codes_for_weights,
            "you compare codes with weights. A code counts steps: times the scale it is a weight again",
        ),
        Misconception(
            "a grid for every row",
            grid_of_each_row,
            "you give every row a scale of its own. That is often better, but one scale for the whole tensor was asked "
            "for",
        ),
        Misconception(
            "sums instead of means",
            sums_of_squares,
            "you sum the squares. Layers of unequal size then cannot be compared: take the mean",
        ),
        Misconception(
            "roots of the means",
            roots_of_means,
            "you take the root of the mean. The mean of the squares itself is asked for",
        ),
    ),
    shows="after rounding, pruning cannot tell equal codes apart: prune first, and it never loses more.",
    derivation=(
        "The grid is the same: the largest weight survives. A weight w with code k costs w² if pruned and "
        "(|w| - s|k|)² if kept, so keeping it saves s|k| (2|w| - s|k|), and that never falls as |w| grows. "
        "So keeping the largest is best for the rounded weights as well. After rounding, all |w| with the same code "
        "are equal, and their position decides. With few bits many are equal, with 8 bits hardly any. Where whole "
        "channels go, the largest weight may go with them: then the grid differs as well, and is finer if it is "
        "fitted afterwards."
    ),
)
