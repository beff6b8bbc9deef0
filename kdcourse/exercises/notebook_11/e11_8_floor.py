"""11.8 as far as a narrow layer can get."""

import numpy as np
import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import table


def floor(teacher_features: Tensor, width: int) -> float:
    centred = teacher_features - teacher_features.mean(dim=0)
    values = torch.linalg.svdvals(centred)
    return (values[width:].square().sum() / teacher_features.numel()).item()


def floor_by_eigenvalues(teacher_features: Tensor, width: int) -> float:
    covariance = torch.cov(teacher_features.double().T, correction=0).reshape(2 * [teacher_features.shape[1]])
    rising = torch.linalg.eigvalsh(covariance)
    return float(rising[: max(0, len(rising) - width)].sum() / len(rising))


def floor_by_projecting(teacher_features: Tensor, width: int) -> float:
    features = teacher_features.detach().numpy().astype(float)
    centred = features - features.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:width]
    missed = centred - centred @ directions.T @ directions
    return float((missed**2).mean())


def _values(features: Tensor) -> Tensor:
    return torch.linalg.svdvals(features - features.mean(dim=0))


def not_centred(features: Tensor, width: int) -> float:
    return torch.linalg.svdvals(features)[width:].square().sum().item() / features.numel()


def centred_over_units(features: Tensor, width: int) -> float:
    values = torch.linalg.svdvals(features - features.mean(dim=1, keepdim=True))
    return values[width:].square().sum().item() / features.numel()


def centred_by_one_mean(features: Tensor, width: int) -> float:
    return torch.linalg.svdvals(features - features.mean())[width:].square().sum().item() / features.numel()


def not_squared(features: Tensor, width: int) -> float:
    return _values(features)[width:].sum().item() / features.numel()


def square_of_the_sum(features: Tensor, width: int) -> float:
    return _values(features)[width:].sum().square().item() / features.numel()


def root(features: Tensor, width: int) -> float:
    return floor(features, width) ** 0.5


def what_is_reached(features: Tensor, width: int) -> float:
    return _values(features)[:width].square().sum().item() / features.numel()


def one_too_few(features: Tensor, width: int) -> float:
    return floor(features, width - 1)


def one_too_many(features: Tensor, width: int) -> float:
    return floor(features, width + 1)


def next_value_only(features: Tensor, width: int) -> float:
    return _values(features)[width : width + 1].square().sum().item() / features.numel()


def smallest_kept(features: Tensor, width: int) -> float:
    values = _values(features)
    return values[: max(0, len(values) - width)].square().sum().item() / features.numel()


def not_divided(features: Tensor, width: int) -> float:
    return floor(features, width) * features.numel()


def divided_by_examples_only(features: Tensor, width: int) -> float:
    return floor(features, width) * features.shape[1]


def divided_by_units_only(features: Tensor, width: int) -> float:
    return floor(features, width) * len(features)


def divided_by_n_minus_1(features: Tensor, width: int) -> float:
    return floor(features, width) * len(features) / (len(features) - 1)


def mean_of_the_rest(features: Tensor, width: int) -> float:
    rest = _values(features)[width:].square()
    return rest.sum().item() / max(1, len(rest))


def fraction_missed(features: Tensor, width: int) -> float:
    squares = _values(features).square()
    return (squares[width:].sum() / squares.sum()).item()


def fraction_reached(features: Tensor, width: int) -> float:
    return 1 - fraction_missed(features, width)


def best_units_copied(features: Tensor, width: int) -> float:
    variances = features.var(dim=0, correction=0).sort(descending=True).values
    return (variances[width:].sum() / features.shape[1]).item()


def floor_cases() -> list[Case]:
    small = table([[1.0, 2.0], [3.0, -1.0], [0.0, 4.0]])
    flat = draw(6, 2, seed=3) @ draw(2, 4, seed=4) + 3  # two directions hold it all
    return [
        case(small, 1),
        case(small, 2),
        case(draw(7, 4, seed=1) + 2, 2),
        case(draw(3, 6, seed=2) - 1, 1),  # more units than examples
        case(flat, 1),
        case(flat, 2),
        case(draw(4, 1, seed=7), 1),
        case(draw(5, 3, seed=5) + 1, 8),  # wider than the teacher: everything can be reached
        case(draw(8, 5, seed=6).float() + 1, 2),
    ]


def drawn_floor(g: torch.Generator) -> Case:
    units = integer(g, 2, 7)
    scale = 2.0 ** -torch.arange(units)
    return case(draw(integer(g, 4, 12), units, seed=g) * scale + integer(g, -3, 3), integer(g, 1, units + 1))


EXERCISE = Exercise(
    id="11.8",
    title="as far as a narrow layer can get",
    question=(
        "A student's layer has `width` units (at least 1). Its features go through a linear regressor with a bias to "
        "the teacher's, `teacher_features`, a tensor of shape (N, D). Write `my_floor(teacher_features, width)`: the "
        "smallest mean squared hint, over examples and entries, that *any* student and *any* such regressor can reach "
        "on these N examples. Return a number; where everything can be reached, it is 0."
    ),
    skeleton=(
        "def my_floor(teacher_features, width):\n"
        '    """The smallest mean squared hint that a student layer of this width can reach."""\n    ...'
    ),
    reference=floor,
    alternatives=(floor_by_eigenvalues, floor_by_projecting),
    cases=floor_cases,
    drawn=drawn_floor,
    hints=(
        "What the regressor returns has rank `width` at most, plus the same bias in every row. Which matrix of that "
        "rank is nearest?",
        "The bias takes care of the mean: centre each column. By Eckart and Young, the squared error that is left is "
        "the sum of the squared singular values beyond the first `width`.",
        "`torch.linalg.svdvals(centred)[width:].square().sum() / teacher_features.numel()`.",
    ),
    misconceptions=(
        Misconception(
            "not centred",
            not_centred,
            "you do not centre. The regressor's bias reaches the mean of every unit for nothing: subtract "
            "`teacher_features.mean(dim=0)` first",
        ),
        Misconception(
            "centred over the units",
            centred_over_units,
            "you subtract each example's mean over its units. The bias is the same for all examples and differs "
            "between units: `mean(dim=0)`",
        ),
        Misconception(
            "centred by one mean",
            centred_by_one_mean,
            "you subtract one mean of all entries. The bias has one entry for each unit: `mean(dim=0)`",
        ),
        Misconception(
            "not squared",
            not_squared,
            "you add the singular values. The squared error is the sum of their *squares*",
        ),
        Misconception(
            "square of the sum",
            square_of_the_sum,
            "you square the sum of the singular values. Square each one, then add",
        ),
        Misconception(
            "a root",
            root,
            "this is the square root of the result: the hint is a mean of squares, without a root",
        ),
        Misconception(
            "what is reached",
            what_is_reached,
            "you add the first `width` values: that is what the student can reach. What is left over are those beyond",
        ),
        Misconception(
            "one unit too few",
            one_too_few,
            "you keep one direction too few: `width` units reach the first `width`, so what is left begins at index "
            "`width`, counted from 0",
        ),
        Misconception(
            "one unit too many",
            one_too_many,
            "you keep one direction too many. The bias is not another unit here: it is used up by the mean",
        ),
        Misconception(
            "the next value only",
            next_value_only,
            "you take only the first singular value that is missed. That is the error in the spectral norm; the mean "
            "of squares adds all of them",
        ),
        Misconception(
            "the smallest kept",
            smallest_kept,
            "you keep the `width` smallest values. `eigvalsh` returns them in rising order, `svdvals` in falling "
            "order: a student does best with the largest",
        ),
        Misconception(
            "not divided",
            not_divided,
            "this is the sum of squares. The hint is a mean over examples and entries: divide by N · D",
        ),
        Misconception(
            "divided by the examples only",
            divided_by_examples_only,
            "you divide by N only. The hint is a mean over examples *and* entries: divide by N · D",
        ),
        Misconception(
            "divided by the units only",
            divided_by_units_only,
            "you divide by D only. The hint is a mean over examples *and* entries: divide by N · D",
        ),
        Misconception(
            "divided by N - 1",
            divided_by_n_minus_1,
            "you divide by N - 1, as `torch.cov` and `var` do by default. The hint is a mean over N examples: "
            "`correction=0`",
        ),
        Misconception(
            "mean of what is left",
            mean_of_the_rest,
            "you average the squared values that are left. Their *sum* is the squared error; divide it by N · D",
        ),
        Misconception(
            "fraction missed",
            fraction_missed,
            "this is the fraction of the variance that is missed. The hint is not relative: divide by N · D, not by "
            "the sum of all squares",
        ),
        Misconception(
            "fraction reached",
            fraction_reached,
            "this is the fraction of the variance that is reached. The hint is the squared error that is left, over "
            "N · D",
        ),
        Misconception(
            "the best units copied",
            best_units_copied,
            "you let the student copy the `width` units of largest variance. It can do better: a direction may mix all "
            "units, which the singular values allow for",
        ),
    ),
    shows="a hint that does not fall to 0 is not a bug: a narrow layer cannot reach more directions than it has units.",
    derivation=(
        "Prediction S Wᵀ + 1bᵀ. For any S and W the best b is the mean of what is left, which centres both sides; the "
        "rest is the nearest matrix of rank `width` to the centred features. Its squared error is the sum of s_k² for "
        "k > width. Source: Eckart, Young 1936; with bias, this is principal component analysis."
    ),
    relative=1e-4,
)
