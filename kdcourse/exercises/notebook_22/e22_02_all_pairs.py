"""22.02 a loss of zero that proves nothing."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import GRADIENT_TOO


def all_pairs(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    distance = (student_features - teacher_features).abs()
    return (distance @ distance.T).mean()


def by_the_mean(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    return (student_features - teacher_features).abs().mean(dim=0).pow(2).sum()


def pair_by_pair(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    distances = [(one - other).abs() for one, other in zip(student_features, teacher_features, strict=True)]
    return torch.stack([(one * other).sum() for one in distances for other in distances]).mean()


def _distance(s: Tensor, t: Tensor) -> Tensor:
    return (s - t).abs()


def neighbours(s: Tensor, t: Tensor) -> Tensor:
    d = _distance(s, t)
    return (d[:-1] * d[1:]).sum(dim=1).mean()


def neighbours_in_a_ring(s: Tensor, t: Tensor) -> Tensor:
    d = _distance(s, t)
    return (d * d.roll(1, dims=0)).sum(dim=1).mean()


def never_with_itself(s: Tensor, t: Tensor) -> Tensor:
    d = _distance(s, t)
    products = d @ d.T
    return (products.sum() - products.trace()) / max(1, len(d) * (len(d) - 1))


def only_with_itself(s: Tensor, t: Tensor) -> Tensor:
    return _distance(s, t).square().sum(dim=1).mean()


def signs_kept(s: Tensor, t: Tensor) -> Tensor:
    return ((s - t) @ (s - t).T).mean()


def absolute_products(s: Tensor, t: Tensor) -> Tensor:
    return ((s - t) @ (s - t).T).abs().mean()


def summed(s: Tensor, t: Tensor) -> Tensor:
    d = _distance(s, t)
    return (d @ d.T).sum()


def per_example(s: Tensor, t: Tensor) -> Tensor:
    d = _distance(s, t)
    return (d @ d.T).sum() / len(d)


def mean_over_features(s: Tensor, t: Tensor) -> Tensor:
    d = _distance(s, t)
    return (d @ d.T).mean() / d.shape[1]


def each_pair_once(s: Tensor, t: Tensor) -> Tensor:
    d = _distance(s, t)
    products = (d @ d.T).triu()
    return products.sum() / (len(d) * (len(d) + 1) / 2)


def one_factor_detached(s: Tensor, t: Tensor) -> Tensor:
    d = _distance(s, t)
    return (d.detach() @ d.T).mean()


def all_features_with_all(s: Tensor, t: Tensor) -> Tensor:
    return _distance(s, t).sum(dim=1).mean().square()


def correlation_cases() -> list[Case]:
    small = torch.tensor([[1.0, 0.0], [3.0, -1.0], [2.0, 2.0]], dtype=torch.float64)
    other = torch.tensor([[1.0, 0.0], [1.0, 2.0], [2.0, 2.0]], dtype=torch.float64)
    wide, target = draw(6, 4, seed=222), draw(6, 4, seed=223)
    target[::2] = wide[::2]
    return [case(small, other), case(wide, target), case(draw(1, 3, seed=224), draw(1, 3, seed=225))]


def drawn_correlation(g: torch.Generator) -> Case:
    shape = integer(g, 2, 7), integer(g, 2, 5)
    return case(draw(*shape, seed=g), draw(*shape, seed=g))


EXERCISE = Exercise(
    id="22.02",
    title="a loss of zero that proves nothing",
    question=(
        "Fix `case_2` as `fixed_2(student_features, teacher_features)` for features (N, D). With δ the absolute "
        "differences, (N, D), return the mean of Σ_d δ_id δ_jd over *all* N² ordered pairs of examples (i, j), those "
        f"with i = j included: 0 only where all features agree. {GRADIENT_TOO}"
    ),
    skeleton=(
        "def fixed_2(student_features, teacher_features):\n"
        '    """The mean over all pairs of examples of the products of their differences."""\n    ...'
    ),
    reference=all_pairs,
    alternatives=(by_the_mean, pair_by_pair),
    cases=correlation_cases,
    drawn=drawn_correlation,
    hints=(
        "The loss is a sum of products. When is every product 0 and yet not every factor?",
        "`delta[:-1] * delta[1:]` pairs each example with its neighbour only. What if every second one is right?",
        "All pairs at once are `delta @ delta.T`, whose entry (i, j) is Σ_d δ_id δ_jd.",
    ),
    misconceptions=(
        Misconception(
            "neighbours only",
            neighbours,
            "each example is multiplied with its neighbour in the batch only: one right example silences both its "
            "neighbours, whatever their features are. Use all pairs",
        ),
        Misconception(
            "neighbours in a ring",
            neighbours_in_a_ring,
            "you close the ring, but it is still neighbours only: with every second example right the loss is still 0",
        ),
        Misconception(
            "no pair of an example with itself",
            never_with_itself,
            "the pairs (i, i) are missing. A single wrong example then has only right partners, and the loss is 0",
        ),
        Misconception(
            "each example only with itself",
            only_with_itself,
            "only the pairs (i, i) are left: this is the squared error. The products of different examples are missing",
        ),
        Misconception(
            "signs kept",
            signs_kept,
            "the absolute values are missing: errors of opposite sign cancel, and the loss can be 0 for wrong features",
        ),
        Misconception(
            "absolute value too late",
            absolute_products,
            "you take the absolute value of the sum over the features: within it, terms of opposite sign have "
            "cancelled already. Take it of the differences",
        ),
        Misconception(
            "summed over the pairs",
            summed,
            "N² times too large: this is the sum over the pairs. Take the mean, or the batch size changes the weight",
        ),
        Misconception(
            "divided by N",
            per_example,
            "N times too large: there are N² pairs, and you divide by N",
        ),
        Misconception(
            "mean over the features",
            mean_over_features,
            "D times too small: over the features it is a sum",
        ),
        Misconception(
            "each pair once",
            each_pair_once,
            "you count (i, j) and (j, i) as one pair and (i, i) as one as well: an example with itself then weighs "
            "twice as much as in a mean over all ordered pairs",
        ),
        Misconception(
            "one factor detached",
            one_factor_detached,
            "the value is right, the gradient is half of it: both factors are the student's",
        ),
        Misconception(
            "every feature with every other",
            all_features_with_all,
            "you multiply the sums over the features: that adds products of *different* features. Multiply feature by "
            "feature, then sum",
        ),
    ),
    shows="a loss is trusted only after you know everything that it maps to zero.",
    derivation=(
        "The mean over all pairs is Σ_d (mean_i δ_id)². It is 0 only if every δ_id is. The mean over neighbours is 0 "
        "as soon as no two neighbours are wrong in the same feature."
    ),
    gradients=(0,),
)
