"""05.1 which weights go."""

import math

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    pruned = round(sparsity * weight.numel())
    order = weight.abs().flatten().argsort(stable=True)
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[:pruned]] = False
    return mask.reshape(weight.shape)


def mask_by_rank(weight: Tensor, sparsity: float) -> Tensor:
    rank = weight.detach().square().flatten().argsort(stable=True).argsort()
    return (rank >= round(sparsity * weight.numel())).reshape(weight.shape)


def mask_by_threshold(weight: Tensor, sparsity: float) -> Tensor:
    ranked = weight.abs().flatten().sort().values.tolist()
    return weight.abs() > [-1.0, *ranked][round(sparsity * weight.numel())]


def mask_by_topk(weight: Tensor, sparsity: float) -> Tensor:
    kept = weight.numel() - round(sparsity * weight.numel())
    places = weight.abs().flatten().topk(kept).indices
    return torch.zeros(weight.numel()).scatter(0, places, 1.0).bool().reshape(weight.shape)


def keeps_below_the_threshold(weight: Tensor, sparsity: float) -> Tensor:
    return ~magnitude_mask(weight, sparsity)


def prunes_the_largest(weight: Tensor, sparsity: float) -> Tensor:
    return ~magnitude_mask(weight, 1 - sparsity)


def keeps_the_share(weight: Tensor, sparsity: float) -> Tensor:
    return magnitude_mask(weight, 1 - sparsity)


def by_value(weight: Tensor, sparsity: float) -> Tensor:
    return magnitude_mask(weight - weight.min(), sparsity)


def share_of_the_maximum(weight: Tensor, sparsity: float) -> Tensor:
    return weight.abs() > sparsity * weight.abs().max()


def norm_of_the_tensor(weight: Tensor, sparsity: float) -> Tensor:
    return torch.full_like(weight, weight.norm().item() > sparsity * weight.abs().max().item(), dtype=torch.bool)


def row_by_row(weight: Tensor, sparsity: float) -> Tensor:
    return torch.stack([magnitude_mask(row, sparsity) for row in weight])


def rounded_down(weight: Tensor, sparsity: float) -> Tensor:
    return magnitude_mask(weight, int(sparsity * weight.numel()) / weight.numel())


def by_quantile(weight: Tensor, sparsity: float) -> Tensor:
    return weight.abs() > weight.abs().flatten().quantile(sparsity)


def threshold_itself_kept(weight: Tensor, sparsity: float) -> Tensor:
    return magnitude_mask(weight, (round(sparsity * weight.numel()) - 1) / weight.numel())


def _with_count(weight: Tensor, pruned: int) -> Tensor:
    return magnitude_mask(weight, pruned / weight.numel())


def rounded_up(weight: Tensor, sparsity: float) -> Tensor:
    return _with_count(weight, math.ceil(sparsity * weight.numel()))


def halves_rounded_up(weight: Tensor, sparsity: float) -> Tensor:
    return _with_count(weight, int(sparsity * weight.numel() + 0.5))


def all_pruned_for_none(weight: Tensor, sparsity: float) -> Tensor:
    return _with_count(weight, round(sparsity * weight.numel()) or weight.numel())


def along(weight: Tensor, sparsity: float, dimension: int) -> Tensor:
    count = round(sparsity * weight.shape[dimension])
    smallest = weight.abs().argsort(dim=dimension).narrow(dimension, 0, count)
    return torch.ones_like(weight, dtype=torch.bool).scatter(dimension, smallest, False)


def along_the_last_dimension(weight: Tensor, sparsity: float) -> Tensor:
    return along(weight, sparsity, -1)


def along_the_first_dimension(weight: Tensor, sparsity: float) -> Tensor:
    return along(weight, sparsity, 0)


def pruned_weights_returned(weight: Tensor, sparsity: float) -> Tensor:
    return weight * magnitude_mask(weight, sparsity)


def mask_cases() -> list[Case]:
    small = torch.tensor([[0.3, -0.1, 0.05], [-0.9, 0.2, -0.4]], dtype=torch.float64)
    return [
        case(small, 0.4),
        case(draw(2, 5, seed=52), 0.25),  # 2.5 weights: round() goes to the even number
        case(draw(4, 6, seed=50), 0.9),
        case(draw(3, 2, 3, 3, seed=51) - 1, 0.65),
        case(small, 0.0),
        case(small, 1.0),
    ]


def mask_drawn(g: torch.Generator) -> Case:
    return case(draw(integer(g, 1, 5), integer(g, 1, 6), seed=g), integer(g, 0, 20) / 20)


_MASK = "kdcourse.pruning.magnitude_mask"
EXERCISE = Exercise(
    id="05.1",
    title="which weights go",
    question=(
        "Write `my_magnitude_mask(weight, sparsity)` for a tensor of any shape with n weights. It returns a mask: a "
        "bool tensor of the same shape, `True` = kept. The `round(sparsity * n)` weights of smallest absolute value "
        "in the whole tensor are pruned; that number may be 0 or n. No two weights here have the same "
        "absolute value."
    ),
    skeleton=(
        "def my_magnitude_mask(weight, sparsity):\n"
        '    """True for the weights that are kept when the smallest are pruned."""\n    ...'
    ),
    reference=magnitude_mask,
    alternatives=(mask_by_rank, mask_by_threshold, mask_by_topk),
    cases=mask_cases,
    drawn=mask_drawn,
    hints=(
        "A weight of -0.9 and one of 0.9 matter equally. What do you sort by?",
        "Count first: `pruned = round(sparsity * weight.numel())`. Then find the positions of that many smallest "
        "absolute values.",
        "`order = weight.abs().flatten().argsort()`; a mask of `True` gets `False` at `order[:pruned]` and then the "
        "shape of the weight.",
    ),
    misconceptions=(
        Misconception(
            "keeps the weights below the threshold",
            keeps_below_the_threshold,
            "your mask is inverted: `True` is where weights are pruned. A formula in several tutorials "
            "keeps |w| below the threshold too: the important weights go and the useless ones stay",
            _MASK,
        ),
        Misconception(
            "prunes the largest",
            prunes_the_largest,
            "you prune the right number of weights, but the largest. A weight near zero changes the output "
            "least, so the small ones go",
            _MASK,
        ),
        Misconception(
            "sparsity taken for the fraction kept",
            keeps_the_share,
            "you keep the fraction `sparsity` and prune the rest. Sparsity is the fraction of zeros: 0.9 leaves "
            "one weight in ten",
            _MASK,
        ),
        Misconception(
            "ordered by value",
            by_value,
            "you order by value, so the most negative weights go first. They are large: it is the absolute value that "
            "says how much a weight does",
            _MASK,
        ),
        Misconception(
            "sparsity times the maximum",
            share_of_the_maximum,
            "you prune below sparsity × the largest magnitude. That does not determine how many go: weights "
            "crowd around zero, so far more do. A fraction of weights is a matter of ranks",
            _MASK,
        ),
        Misconception(
            "the norm of the whole tensor",
            norm_of_the_tensor,
            "your mask keeps everything. So does some public code: it compares one norm of the whole tensor with "
            "the threshold, and so prunes nothing or all. Compare each weight",
            _MASK,
        ),
        Misconception(
            "row by row",
            row_by_row,
            "you prune the same fraction of every row. A row of large weights then loses some that matter more "
            "than what its neighbour keeps. Rank the whole tensor",
            _MASK,
        ),
        Misconception(
            "rounded down",
            rounded_down,
            "one weight too few is pruned here and there: you cut off where the count was to be rounded. "
            "`int(4.8)` is 4, `round(4.8)` is 5",
            _MASK,
        ),
        Misconception(
            "a quantile for the threshold",
            by_quantile,
            "a quantile interpolates over n - 1 gaps, so the number of weights below it is not always "
            "round(sparsity · n). Count and rank instead",
            _MASK,
        ),
        Misconception(
            "the threshold itself kept",
            threshold_itself_kept,
            "one weight too few is pruned, every time: your threshold is the largest weight that was to go, and you "
            "keep it",
            _MASK,
        ),
        Misconception(
            "rounded up",
            rounded_up,
            "one weight too many is pruned here and there: you round the count up. `math.ceil(2.4)` is 3, "
            "`round(2.4)` is 2",
        ),
        Misconception(
            "halves rounded up",
            halves_rounded_up,
            "you round halves up. `round(2.5)` is 2: Python rounds a half to the even number",
        ),
        Misconception(
            "all pruned for none",
            all_pruned_for_none,
            "right, except where no weight is to be pruned: `values[k - 1]` is then `values[-1]`, the largest, and "
            "all weights go",
        ),
        Misconception(
            "along the last dimension",
            along_the_last_dimension,
            "you rank along the last dimension, each row separately. The question asks for one ranking of the "
            "whole tensor: flatten it first",
        ),
        Misconception(
            "along the first dimension",
            along_the_first_dimension,
            "you rank along the first dimension, each column separately. The question asks for one ranking of "
            "the whole tensor: flatten it first",
        ),
        Misconception(
            "the pruned weights returned",
            pruned_weights_returned,
            "these are the pruned weights. The question asks for the mask alone: `True` where a weight is kept",
        ),
    ),
    shows="a magnitude mask is a ranking: it counts first, then prunes that many of the smallest absolute values.",
    derivation=(
        "To keep Σ (w - ŵ)² smallest with k weights set to zero, zero the k smallest w²: the error is just the sum of "
        "those. That the loss follows this error is an assumption. Source: Han, Pool, Tran, Dally 2015, "
        "arXiv:1506.02626."
    ),
    forbidden=(_MASK,),
)
