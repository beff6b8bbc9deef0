"""Wrong answers to 11.4."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Misconception
from .common import mean_square


def _right(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s), F.pdist(t.detach())
    return mean_square(student / student.mean(), teacher / teacher.mean())


def _tables(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """All distances, the zeros of the diagonal included, (N, N)."""
    s, t = ((features.unsqueeze(1) - features).norm(dim=2) for features in (s, t.detach()))
    return s, t


def diagonal_in_both_means(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = _tables(s, t)
    return mean_square(student / student.mean(), teacher / teacher.mean())


def diagonal_in_the_norm(s: Tensor, t: Tensor) -> Tensor:
    return _right(s, t) * (len(s) / (len(s) - 1)) ** 2


def diagonal_in_the_loss(s: Tensor, t: Tensor) -> Tensor:
    return _right(s, t) * (len(s) - 1) / len(s)


def not_normalised(s: Tensor, t: Tensor) -> Tensor:
    return mean_square(F.pdist(s), F.pdist(t.detach()))


def squared_distances(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s).square(), F.pdist(t.detach()).square()
    return mean_square(student / student.mean(), teacher / teacher.mean())


def normalised_by_the_largest(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s), F.pdist(t.detach())
    return mean_square(student / student.max(), teacher / teacher.max())


def normalised_by_the_sum(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s), F.pdist(t.detach())
    return mean_square(student / student.sum(), teacher / teacher.sum())


def both_by_the_teachers_mean(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s), F.pdist(t.detach())
    return mean_square(student / teacher.mean(), teacher / teacher.mean())


def student_with_teacher(s: Tensor, t: Tensor) -> Tensor:
    return torch.cdist(s, t.detach()).square().mean()


def rows_normalised(s: Tensor, t: Tensor) -> Tensor:
    different = ~torch.eye(len(s), dtype=torch.bool)
    sides = [table / (table.sum(dim=1, keepdim=True) / (len(s) - 1)) for table in _tables(s, t)]
    return mean_square(sides[0][different], sides[1][different])


def equal_rows_left_out(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s), F.pdist(t.detach())
    return mean_square(student / student[student > 0].mean(), teacher / teacher[teacher > 0].mean())


def nan_at_equal_rows(s: Tensor, t: Tensor) -> Tensor:
    first, second = torch.triu_indices(len(s), len(s), offset=1)
    student, teacher = ((x[first] - x[second]).square().sum(dim=1).sqrt() for x in (s, t.detach()))
    return mean_square(student / student.mean(), teacher / teacher.mean())


def nan_on_the_diagonal(s: Tensor, t: Tensor) -> Tensor:
    different = ~torch.eye(len(s), dtype=torch.bool)
    sides = [(x.unsqueeze(1) - x).square().sum(dim=2).sqrt()[different] for x in (s, t.detach())]
    return mean_square(sides[0] / sides[0].mean(), sides[1] / sides[1].mean())


def mean_held_constant(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s), F.pdist(t.detach())
    return mean_square(student / student.mean().detach(), teacher / teacher.mean())


def huber(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s), F.pdist(t.detach())
    return F.smooth_l1_loss(student / student.mean(), teacher / teacher.mean())


def authors_code(s: Tensor, t: Tensor) -> Tensor:
    return huber(s, t) * (len(s) - 1) / len(s)


def halved(s: Tensor, t: Tensor) -> Tensor:
    return 0.5 * _right(s, t)


def summed_over_pairs(s: Tensor, t: Tensor) -> Tensor:
    return _right(s, t) * (len(s) * (len(s) - 1) / 2)


def summed_over_all_pairs_twice(s: Tensor, t: Tensor) -> Tensor:
    return _right(s, t) * (len(s) * (len(s) - 1))


def absolute_difference(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s), F.pdist(t.detach())
    return F.l1_loss(student / student.mean(), teacher / teacher.mean())


def inner_products(s: Tensor, t: Tensor) -> Tensor:
    different = ~torch.eye(len(s), dtype=torch.bool)
    student, teacher = ((x @ x.T)[different] for x in (s, t.detach()))
    return mean_square(student / student.mean(), teacher / teacher.mean())


def rows_of_length_one(s: Tensor, t: Tensor) -> Tensor:
    return _right(F.normalize(s, dim=1), F.normalize(t, dim=1))


def city_block(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s, p=1.0), F.pdist(t.detach(), p=1.0)
    return mean_square(student / student.mean(), teacher / teacher.mean())


def distances_of_units(s: Tensor, t: Tensor) -> Tensor:
    return _right(s.T, t.T)


def teacher_not_detached(s: Tensor, t: Tensor) -> Tensor:
    student, teacher = F.pdist(s), F.pdist(t)
    return mean_square(student / student.mean(), teacher / teacher.mean())


def student_detached(s: Tensor, t: Tensor) -> Tensor:
    return _right(t, s)


WRONG = (
    Misconception(
        "diagonal in both means",
        diagonal_in_both_means,
        "both means run over N² entries, the N zeros of the diagonal included. No example is a pair with itself: "
        "the loss then depends on the batch size",
    ),
    Misconception(
        "diagonal in the normalising mean",
        diagonal_in_the_norm,
        "the mean that you divide by counts the N zeros of the diagonal. It is too small by the factor (N - 1)/N, "
        "which matters most in small batches: take it over pairs of different examples",
    ),
    Misconception(
        "diagonal in the loss",
        diagonal_in_the_loss,
        "the distances are right, but the mean at the end counts the N zeros of the diagonal, so the loss is too "
        "small by the factor (N - 1)/N",
    ),
    Misconception(
        "not normalised",
        not_normalised,
        "you compare the distances as they are. Networks have different scales and widths: divide each side's by "
        "their mean",
    ),
    Misconception(
        "squared distances",
        squared_distances,
        "you use squared distances. That makes far pairs count even more: take the root, safely at 0",
    ),
    Misconception(
        "normalised by the largest",
        normalised_by_the_largest,
        "you divide by the largest distance. One outlier then scales the whole batch: divide by the mean",
    ),
    Misconception(
        "normalised by the sum",
        normalised_by_the_sum,
        "you divide by the sum. Then the distances shrink as the batch grows: divide by the mean",
    ),
    Misconception(
        "both by the teacher's mean",
        both_by_the_teachers_mean,
        "you divide both sides by the teacher's mean. Then the student must also copy the teacher's scale. Each "
        "side has its own mean",
    ),
    Misconception(
        "student with teacher",
        student_with_teacher,
        "these are distances from the student's features to the teacher's. That needs equal widths and says "
        "nothing about how examples relate: take distances within each side",
    ),
    Misconception(
        "each row by its own mean",
        rows_normalised,
        "you divide each example's distances by a mean of its own. One mean over all pairs of a side is asked for: "
        "a far example must stay far",
    ),
    Misconception(
        "equal rows left out",
        equal_rows_left_out,
        "correct without equal rows. `d[d > 0].mean()` leaves out not only the diagonal but also pairs of two "
        "examples with equal features, and they are pairs, too",
    ),
    Misconception(
        "NaN at equal rows",
        nan_at_equal_rows,
        "the value is correct, but the slope of the square root at 0 is infinite: two equal rows make the "
        "gradient NaN, and with it every weight. `F.pdist`, `torch.cdist` and `.norm` take 0 there",
    ),
    Misconception(
        "NaN on the diagonal",
        nan_on_the_diagonal,
        "the value is correct, but the gradient is NaN in every batch: the root of the zeros on the diagonal has "
        "an infinite slope, and 0 · ∞ is NaN, even if you leave the diagonal out afterwards",
    ),
    Misconception(
        "mean held constant",
        mean_held_constant,
        "the value is correct, but you cut the mean of the student's distances off from the gradient. It depends on "
        "the student's features: without its part, the gradient also tries to change their scale, which the loss does "
        "not see",
    ),
    Misconception(
        "Huber loss",
        huber,
        "this is the Huber loss of the paper: half the square up to a difference of 1, linear beyond. Here the "
        "plain square is asked for",
    ),
    Misconception(
        "the authors' code",
        authors_code,
        "this is what the authors' code computes: a Huber loss, and its mean also counts the N zeros of the diagonal. "
        "Here the plain square is asked for, over pairs of different examples",
    ),
    Misconception(
        "halved",
        halved,
        "exactly half: either you have the factor 1/2 of a Huber loss, or you sum over each pair once and divide by N "
        "(N - 1), which counts it twice",
    ),
    Misconception(
        "summed over the pairs",
        summed_over_pairs,
        "you sum over the pairs. There are N (N - 1)/2 of them, so the loss grows with the square of the batch",
    ),
    Misconception(
        "summed over pairs in both orders",
        summed_over_all_pairs_twice,
        "you sum over the N (N - 1) pairs in both orders, so the loss grows with the square of the batch. Take the "
        "mean",
    ),
    Misconception(
        "absolute difference",
        absolute_difference,
        "you take absolute differences of the relative distances instead of squares",
    ),
    Misconception(
        "inner products",
        inner_products,
        "you compare inner products. They change when the features are shifted; distances do not",
    ),
    Misconception(
        "rows of length 1",
        rows_of_length_one,
        "you scale each row to length 1 first. That leaves only directions: two examples in one direction, near "
        "and far, become the same",
    ),
    Misconception(
        "city-block distance",
        city_block,
        "you add absolute differences of the entries (p = 1). The Euclidean distance is the root of their squares' "
        "sum, which a rotation of the features does not change",
    ),
    Misconception(
        "distances between units",
        distances_of_units,
        "these are distances between columns, the units of the layer. Examples are the rows",
    ),
    Misconception(
        "teacher not detached",
        teacher_not_detached,
        "the value is correct, but the teacher gets a gradient too. Detach its features",
    ),
    Misconception(
        "student detached",
        student_detached,
        "the value is correct, because a square is symmetric. But the gradient flows to the teacher, and the "
        "student never changes",
    ),
)
