"""Wrong answers to 11.7."""

import torch
from torch import Tensor

from ..engine.core import Misconception


def _off(gram: Tensor) -> Tensor:
    return gram - gram.diagonal().diag()


def _estimate(first: Tensor, second: Tensor) -> float:
    n = len(first)
    means = first.sum() * second.sum() / ((n - 1) * (n - 2))
    middle = 2 * (first.sum(dim=0) @ second.sum(dim=0)) / (n - 2)
    return (((first * second).sum() + means - middle) / (n * (n - 3))).item()


def a_vector_subtracted(first: Tensor, second: Tensor) -> float:
    return _estimate(first - torch.diag(first), second - torch.diag(second))


def diagonals_kept(first: Tensor, second: Tensor) -> float:
    return _estimate(first, second)


def one_diagonal_kept(first: Tensor, second: Tensor) -> float:
    return _estimate(_off(first), second)


def centred_first(first: Tensor, second: Tensor) -> float:
    n = len(first)
    h = torch.eye(n, dtype=first.dtype) - 1 / n
    return ((h @ first @ h) * second).sum().item() / (n - 1) ** 2


def centred_and_debiased(first: Tensor, second: Tensor) -> float:
    n = len(first)
    h = torch.eye(n, dtype=first.dtype) - 1 / n
    return (_off(h @ first @ h) * _off(h @ second @ h)).sum().item() / (n * (n - 3))


def divided_by_n_squared(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _estimate(_off(first), _off(second)) * (n * (n - 3)) / n**2


def divided_by_n_times_n_minus_1(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _estimate(_off(first), _off(second)) * (n - 3) / (n - 1)


def not_divided(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _estimate(_off(first), _off(second)) * n * (n - 3)


def _terms(first: Tensor, second: Tensor) -> tuple[float, float, float]:
    """The three sums without their factors."""
    first, second = _off(first), _off(second)
    return (first * second).sum().item(), (first.sum() * second.sum()).item(), (first @ second).sum().item()


def _combined(first: Tensor, second: Tensor, whole: float, middle: float) -> float:
    n, (pairs, sums, rows) = len(first), _terms(first, second)
    return (pairs + whole * sums + middle * rows) / (n * (n - 3))


def means_subtracted(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _combined(first, second, -1 / ((n - 1) * (n - 2)), -2 / (n - 2))


def rows_added(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _combined(first, second, 1 / ((n - 1) * (n - 2)), 2 / (n - 2))


def two_missing(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _combined(first, second, 1 / ((n - 1) * (n - 2)), -1 / (n - 2))


def rows_over_n_minus_1(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _combined(first, second, 1 / ((n - 1) * (n - 2)), -2 / (n - 1))


def rows_over_both(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _combined(first, second, 1 / ((n - 1) * (n - 2)), -2 / ((n - 1) * (n - 2)))


def means_over_n_minus_1_squared(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _combined(first, second, 1 / (n - 1) ** 2, -2 / (n - 2))


def multiplied_by_n_minus_2(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _combined(first, second, (n - 2) / (n - 1), -2 / (n - 2))


def first_term_alone(first: Tensor, second: Tensor) -> float:
    return _combined(first, second, 0.0, 0.0)


def entries_for_the_trace(first: Tensor, second: Tensor) -> float:
    n, (_, sums, rows) = len(first), _terms(first, second)
    return (rows + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3))


def pairs_for_the_rows(first: Tensor, second: Tensor) -> float:
    n, (pairs, sums, _) = len(first), _terms(first, second)
    return (pairs + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * pairs) / (n * (n - 3))


def totals_for_the_rows(first: Tensor, second: Tensor) -> float:
    n, (pairs, sums, _) = len(first), _terms(first, second)
    return (pairs + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * sums) / (n * (n - 3))


def entries_multiplied_in_the_mean(first: Tensor, second: Tensor) -> float:
    n, (pairs, _, rows) = len(first), _terms(first, second)
    return (pairs + pairs / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3))


def never_negative(first: Tensor, second: Tensor) -> float:
    return max(0.0, _estimate(_off(first), _off(second)))


def few_examples_accepted(first: Tensor, second: Tensor) -> float:
    n = len(first)
    return _estimate(_off(first), _off(second)) if n != 3 else float("nan")


WRONG = (
    Misconception(
        "a vector subtracted",
        a_vector_subtracted,
        "you subtract `torch.diag(K)`, which is a *vector*: it is taken from every row. The diagonal becomes 0, "
        "but all other entries are wrong as well. `torch.diag(torch.diag(K))` is the matrix",
    ),
    Misconception(
        "diagonals kept",
        diagonals_kept,
        "the diagonals are still there. An example's product with itself is large whatever the layers share: that "
        "is the bias",
    ),
    Misconception(
        "one diagonal kept",
        one_diagonal_kept,
        "only the first matrix has its diagonal set to zero. The sums of the second one need it, too",
    ),
    Misconception(
        "the biased estimate",
        centred_first,
        "this is the biased estimate, tr(KHLH) / (N - 1)². It is large for layers that share nothing, if N is small",
    ),
    Misconception(
        "centred, then the diagonal left out",
        centred_and_debiased,
        "you centre the Gram matrices and leave out the diagonals afterwards. The two extra terms do the "
        "centring, without the diagonal: start from the matrices as they are",
    ),
    Misconception(
        "divided by N squared",
        divided_by_n_squared,
        "you divide by N². The estimate is unbiased only with N (N - 3)",
    ),
    Misconception(
        "divided by N (N - 1)",
        divided_by_n_times_n_minus_1,
        "you divide by N (N - 1), the number of entries off the diagonal. Only N (N - 3) makes the estimate unbiased",
    ),
    Misconception(
        "not divided",
        not_divided,
        "the bracket is right: divide it by N (N - 3)",
    ),
    Misconception(
        "second term subtracted",
        means_subtracted,
        "you subtract the product of the two sums. It is added: the last term has removed the mean twice",
    ),
    Misconception(
        "last term added",
        rows_added,
        "you add the last term. It is subtracted: it takes out what the means of the rows share",
    ),
    Misconception(
        "factor 2 missing",
        two_missing,
        "the last term has the factor 2: it stands for the mean over rows and the one over columns",
    ),
    Misconception(
        "last term over N - 1",
        rows_over_n_minus_1,
        "you divide the last term by N - 1. Without the diagonal it is N - 2",
    ),
    Misconception(
        "last term over both",
        rows_over_both,
        "you divide the last term by (N - 1)(N - 2), too. It is 2/(N - 2)",
    ),
    Misconception(
        "second term over (N - 1)²",
        means_over_n_minus_1_squared,
        "you divide the second term by (N - 1)². It is (N - 1)(N - 2)",
    ),
    Misconception(
        "brackets missing",
        multiplied_by_n_minus_2,
        "`a / (n - 1) * (n - 2)` multiplies by N - 2: Python goes from left to right. Put the product in brackets",
    ),
    Misconception(
        "the first term alone",
        first_term_alone,
        "this is the first term alone. The other two centre the matrices: without them a shift of the features "
        "changes the result",
    ),
    Misconception(
        "sum of the product for its trace",
        entries_for_the_trace,
        "the first term is the trace of the matrix product, not the sum of its entries. For symmetric matrices "
        "the trace is `(K * L).sum()`; `(K @ L).sum()` is the last term",
    ),
    Misconception(
        "trace for the sum of the product",
        pairs_for_the_rows,
        "the last term is the sum of all entries of the matrix product, `(K @ L).sum()`; `(K * L).sum()` is its trace",
    ),
    Misconception(
        "product of the sums in the last term",
        totals_for_the_rows,
        "the last term multiplies the two matrices first and sums afterwards: `(K @ L).sum()`. You multiply the "
        "two sums",
    ),
    Misconception(
        "sum of the products in the second term",
        entries_multiplied_in_the_mean,
        "the second term is the product of two sums, `K.sum() * L.sum()`. You sum the products",
    ),
    Misconception(
        "negative values cut off",
        never_negative,
        "correct where the estimate is positive. An unbiased estimate of 0 must sometimes fall below it: if you cut "
        "it off there, its mean is too large again",
    ),
    Misconception(
        "three examples accepted",
        few_examples_accepted,
        "correct for four examples or more. For three it divides by N - 3 = 0: infinity or NaN then spreads "
        "without a word. Raise a `ValueError` for fewer than four",
    ),
)
