"""18.6 which weights the outputs need."""

import numpy as np
import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal
from .common import table


def wanda_mask(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    if weight.shape[1] % m:
        raise ValueError(f"{weight.shape[1]} inputs cannot be cut into groups of {m}")
    norms = inputs.reshape(-1, weight.shape[1]).square().sum(dim=0).sqrt()
    scores = (weight.abs() * norms).reshape(len(weight), -1, m)
    best = scores.sort(dim=2, descending=True, stable=True).indices[:, :, :n]
    mask = torch.zeros(scores.shape, dtype=torch.bool).scatter(2, best, True)
    return mask.reshape(weight.shape)


def mask_by_loops(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    if weight.shape[1] % m > 0:
        raise ValueError("m does not divide the inputs")
    norms = inputs.flatten(0, -2).norm(dim=0)
    mask = torch.full(weight.shape, False)
    for i, row in enumerate((weight * norms).abs().tolist()):
        for start in range(0, len(row), m):
            places = sorted(range(start, start + m), key=lambda place: -row[place])
            mask[i, places[:n]] = True
    return mask


def mask_by_counting(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    """Kept is a weight that fewer than n of its group come before: by a larger score, or the same one further left."""
    columns = inputs.numpy().reshape(-1, weight.shape[1])
    groups, rest = divmod(columns.shape[1], m)
    if rest:
        raise ValueError("the last group is not full")
    scores = np.square(weight.numpy()) * np.square(columns).sum(axis=0)
    mine = scores.reshape(len(scores), groups, m, 1)
    others = np.swapaxes(mine, 2, 3)
    left = np.tri(m, k=-1, dtype=bool)
    before = (others > mine) | (left & (others == mine))
    return torch.from_numpy((before.sum(axis=3) < n).reshape(scores.shape))


def _best(scores: Tensor, n: int, m: int) -> Tensor:
    """The mask for scores (rows, inputs), or the refusal."""
    if scores.shape[1] % m:
        raise ValueError("m does not divide the inputs")
    order = scores.unflatten(1, (-1, m)).argsort(dim=2, descending=True, stable=True)
    return torch.zeros(order.shape, dtype=torch.bool).scatter(2, order[:, :, :n], True).flatten(1)


def _norms(inputs: Tensor) -> Tensor:
    return inputs.flatten(0, -2).norm(dim=0)


def magnitude(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best(weight.abs(), n, m)


def signed_weights(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best(weight * _norms(inputs), n, m)


def squared_norms(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best(weight.abs() * _norms(inputs).square(), n, m)


def absolute_sums(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best(weight.abs() * inputs.flatten(0, -2).abs().sum(dim=0), n, m)


def sizes_of_sums(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best(weight.abs() * inputs.flatten(0, -2).sum(dim=0).abs(), n, m)


def spreads(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best(weight.abs() * inputs.flatten(0, -2).std(dim=0, correction=0), n, m)


def first_sequence(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best(weight.abs() * _norms(inputs[:1] if inputs.ndim > 2 else inputs), n, m)


def pruned_ones(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return ~wanda_mask(weight, inputs, n=n, m=m)


def n_pruned(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best(weight.abs() * _norms(inputs), m - n, m)


def last_of_equals(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best((weight.abs() * _norms(inputs)).flip(1), n, m).flip(1)


def any_of_equals(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    _best(weight, n, m)
    order = (weight.abs() * _norms(inputs)).unflatten(1, (-1, m)).argsort(dim=2, descending=True)
    return torch.zeros(order.shape, dtype=torch.bool).scatter(2, order[:, :, :n], True).flatten(1)


def any_of_the_top(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    _best(weight, n, m)
    best = (weight.abs() * _norms(inputs)).unflatten(1, (-1, m)).topk(n, dim=2).indices
    return torch.zeros(len(weight), weight.shape[1] // m, m, dtype=torch.bool).scatter(2, best, True).flatten(1)


def all_equals(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    scores = (weight.abs() * _norms(inputs)).unflatten(1, (-1, m)) if weight.shape[1] % m == 0 else _best(weight, n, m)
    return (scores >= scores.topk(n, dim=2).values[:, :, -1:]).flatten(1)


def down_the_columns(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best((weight.abs() * _norms(inputs)).T.contiguous(), n, m).T


def every_so_many(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    scores = weight.abs() * _norms(inputs)
    groups = scores.unflatten(1, (m, -1)).transpose(1, 2).flatten(1) if scores.shape[1] % m == 0 else scores
    return _best(groups, n, m).unflatten(1, (-1, m)).transpose(1, 2).flatten(1)


def in_each_row(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    _best(weight, n, m)
    return _best(weight.abs() * _norms(inputs), weight.shape[1] // m * n, weight.shape[1])


def over_the_row_ends(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    return _best((weight.abs() * _norms(inputs)).reshape(1, -1), n, m).reshape(weight.shape)


def a_shorter_last_group(weight: Tensor, inputs: Tensor, *, n: int, m: int) -> Tensor:
    scores = weight.abs() * _norms(inputs)
    return torch.cat([_best(part, n, part.shape[1]) for part in scores.split(m, dim=1)], dim=1)


def _inputs(seed: int | torch.Generator, *shape: int) -> Tensor:
    """Activations whose channels differ in size and in mean."""
    x = draw(*shape, seed=seed, spread=1.0)
    return (x + draw(shape[-1], seed=seed if isinstance(seed, torch.Generator) else seed + 1)) * x[..., :1].abs()


def wanda_cases() -> list[Case]:
    why = "an m that does not divide the inputs"
    ties = table([[2.0, -1.0, 1.0, 4.0], [0.0, 0.0, 0.0, 0.0], [-3.0, 3.0, 3.0, -3.0]])
    return [
        case(table([[3.0, -2.0]]), table([[1.0, 4.0], [-1.0, 0.0]]), n=1, m=2),
        case(ties, table([[1.0, 2.0, 2.0, 1.0]]), n=2, m=4),
        case(draw(3, 8, seed=1), _inputs(11, 5, 8), n=2, m=4),
        case(draw(12, 12, seed=2), _inputs(12, 2, 4, 12), n=1, m=3),
        case(draw(4, 4, seed=3), _inputs(13, 6, 4), n=1, m=4),
        case(draw(2, 9, seed=4), _inputs(14, 3, 2, 9), n=2, m=3),
        case(draw(5, 8, seed=5).float(), _inputs(15, 7, 8).float(), n=3, m=4),
        case(draw(3, 4, seed=6), _inputs(16, 4, 4), n=1, m=2),
        case(draw(2, 40, seed=10, spread=1.0).round(), torch.ones(3, 40, dtype=torch.float64), n=7, m=20),
        refusal(why, draw(2, 6, seed=7), _inputs(17, 3, 6), n=2, m=4),
        refusal(why, draw(3, 5, seed=8), _inputs(18, 3, 5), n=1, m=2),
        refusal(why, draw(4, 3, seed=9), _inputs(19, 3, 3), n=2, m=4),
    ]


def drawn_wanda(g: torch.Generator) -> Case:
    m = integer(g, 2, 4)
    width = m * integer(g, 1, 3)
    shape = (integer(g, 2, 3), integer(g, 2, 5), width)[integer(g, 0, 1) :]
    return case(draw(integer(g, 1, 4), width, seed=g), _inputs(g, *shape), n=integer(g, 1, m - 1), m=m)


EXERCISE = Exercise(
    id="18.6",
    title="which weights the outputs need",
    question=(
        "A linear layer has the weight tensor `weight`, (outputs, inputs), and reads `inputs`, a tensor of two or more "
        "dimensions, of which the last one runs over the layer's inputs and all others over sequences and positions. "
        "The score of the weight from input j to output i is |w_ij| · ‖x_j‖, the second factor being the Euclidean "
        "norm of input j over all positions. Write `my_wanda_mask(weight, inputs, *, n, m)`: a bool tensor of the "
        "shape of `weight`, `True` = kept. Each row is cut into groups of m consecutive weights, and in each group the "
        "n weights of highest score are kept (1 <= n < m), of equal scores the first ones. If m does not divide the "
        "number of inputs, raise a `ValueError`."
    ),
    skeleton=(
        "def my_wanda_mask(weight, inputs, *, n, m):\n"
        '    """Which n of every m weights of a row to keep, by weight and input."""\n    ...'
    ),
    reference=wanda_mask,
    alternatives=(mask_by_loops, mask_by_counting),
    cases=wanda_cases,
    drawn=drawn_wanda,
    hints=(
        "A large weight on an input that is almost always 0: does the output need it?",
        "One norm per input, over all positions. The scores have the shape of the weight: reshape them to (outputs, "
        "groups, m), and rank in the last dimension. A threshold keeps too many where scores are equal.",
        "`scores.sort(dim=2, descending=True, stable=True).indices[:, :, :n]` are what to keep; "
        "`torch.zeros(scores.shape, dtype=torch.bool).scatter(2, best, True)` makes the mask of them.",
    ),
    misconceptions=(
        Misconception(
            "magnitude",
            magnitude,
            "you rank by |w| alone. A large weight on an input that is hardly ever active does little: multiply by the "
            "input's norm",
        ),
        Misconception(
            "signed weights",
            signed_weights,
            "you rank by w instead of |w|: large negative weights go first",
        ),
        Misconception(
            "squared norms",
            squared_norms,
            "you multiply |w| by the *square* of the norm. What a weight adds to the squared outputs is (|w| · ‖x‖)²: "
            "either both are squared, or neither",
        ),
        Misconception(
            "absolute sums",
            absolute_sums,
            "you add up absolute inputs, or average them. The squared error of the outputs asks for the Euclidean "
            "norm: few large inputs count more than many small ones",
        ),
        Misconception(
            "the size of the sum",
            sizes_of_sums,
            "you add up the inputs with their signs. What is positive here and negative there cancels, but both need "
            "the weight",
        ),
        Misconception(
            "the standard deviation",
            spreads,
            "you subtract the mean of the inputs. A constant input changes the outputs, too: the norm is about 0",
        ),
        Misconception(
            "the first sequence",
            first_sequence,
            "with more than two dimensions you look at the first sequence only. The norm is over all positions of all",
        ),
        Misconception(
            "the pruned ones",
            pruned_ones,
            "your mask is `True` where a weight is pruned. It is to say what is kept",
        ),
        Misconception("n pruned", n_pruned, "you prune n of every m. n is the number of weights that are kept"),
        Misconception(
            "the last of equals",
            last_of_equals,
            "only equal scores are wrong: you keep the last ones, as a sort in ascending order does, read from its end",
        ),
        Misconception(
            "any of equals in a sort",
            any_of_equals,
            "only equal scores in long groups are wrong: without `stable=True` a sort may return equals in any order",
        ),
        Misconception(
            "any of equals in topk",
            any_of_the_top,
            "only equal scores are wrong: `topk` returns any of them. A sort with `stable=True` keeps their order",
        ),
        Misconception(
            "all equals",
            all_equals,
            "where scores are equal you keep more than n. A chip for 2:4 has room for two: count, do not compare with "
            "a threshold",
        ),
        Misconception(
            "down the columns",
            down_the_columns,
            "your groups run down the columns. They are weights of one row: of one output, which adds them up",
        ),
        Misconception(
            "every so many weights",
            every_so_many,
            "your groups are not consecutive: the reshape puts m first. Shape (outputs, groups, m)",
        ),
        Misconception(
            "in each row",
            in_each_row,
            "you rank the whole row. As many weights are kept, but a group of m may have more or fewer than n",
        ),
        Misconception(
            "over the ends of rows",
            over_the_row_ends,
            "where m does not divide the inputs, your groups run on into the next row. Raise a `ValueError` there",
        ),
        Misconception(
            "a shorter last group",
            a_shorter_last_group,
            "where m does not divide the inputs, your last group is shorter. Raise a `ValueError` there",
        ),
    ),
    shows="what a weight does to an output is decided by the weight and its input together.",
    derivation=(
        "Without w_ij output i changes by w_ij · x_j: over all positions its squared error is (|w_ij| · ‖x_j‖)², and "
        "nothing else is looked at. If the other weights may make up for it, the cost is w² / [H⁻¹]_jj with H = XᵀX "
        "(Optimal Brain Surgeon); a diagonal H gives the score of this exercise, and H = 1 magnitude. Source: Sun et "
        "al. 2023, arXiv:2306.11695, section 3."
    ),
    forbidden=("kdcourse.pruning.wanda_mask",),
)
