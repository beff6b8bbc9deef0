"""11.7 two layers that share nothing."""

import numpy as np
import torch
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer, refusal
from .wrong_11_7 import WRONG


def debiased_hsic(first_gram: Tensor, second_gram: Tensor) -> float:
    n = len(first_gram)
    if n < 4:
        raise ValueError(f"need four examples or more, got {n}")
    first = first_gram - torch.diag(first_gram.diagonal())
    second = second_gram - torch.diag(second_gram.diagonal())
    means = first.sum() * second.sum() / ((n - 1) * (n - 2))
    middle = 2 * (first.sum(dim=0) @ second.sum(dim=0)) / (n - 2)
    return (((first * second).sum() + means - middle) / (n * (n - 3))).item()


def debiased_by_matrices(first_gram: Tensor, second_gram: Tensor) -> float:
    n, ones = len(first_gram), first_gram.new_ones(len(first_gram))
    if n <= 3:
        raise ValueError("the estimate divides by N - 3")
    first, second = (gram.clone().fill_diagonal_(0) for gram in (first_gram, second_gram))
    total = torch.trace(first @ second) + (ones @ first @ ones) * (ones @ second @ ones) / (n - 1) / (n - 2)
    return float((total - 2 / (n - 2) * (ones @ first @ second @ ones)) / n / (n - 3))


def debiased_by_numpy(first_gram: Tensor, second_gram: Tensor) -> float:
    first, second = (np.array(gram, dtype=float) for gram in (first_gram, second_gram))
    n = first.shape[0]
    if n < 4:
        raise ValueError("too few examples")
    off = 1 - np.eye(n)
    first, second = first * off, second * off
    # double centring that leaves the diagonal out: one sum is then enough
    for gram in (first, second):
        rows = gram.sum(axis=1)
        gram -= (rows[:, None] + rows) / (n - 2) - rows.sum() / ((n - 1) * (n - 2))
    return float((first * second * off).sum() / (n * (n - 3)))


def _gram(count: int, width: int, seed: int | torch.Generator) -> Tensor:
    features = draw(count, width, seed=seed, spread=1.5) + 0.5
    return features @ features.T


def hsic_cases() -> list[Case]:
    why = "Gram matrices of {} examples"
    return [
        case(_gram(4, 2, 1), _gram(4, 3, 2)),
        case(_gram(5, 2, 3), _gram(5, 6, 4)),
        case(_gram(7, 3, 5).float(), _gram(7, 1, 6).float()),
        refusal(why.format(3), _gram(3, 2, 7), _gram(3, 2, 8)),
        refusal(why.format(2), _gram(2, 2, 9), _gram(2, 2, 10)),
    ]


def drawn_hsic(g: torch.Generator) -> Case:
    count = integer(g, 4, 9)
    return case(*(_gram(count, integer(g, 1, 6), g) for _ in range(2)))


EXERCISE = Exercise(
    id="11.7",
    title="two layers that share nothing",
    question=(
        "Write `my_debiased_hsic(first_gram, second_gram)`, the unbiased estimate of HSIC from two symmetric Gram "
        "matrices $K$ and $L$, tensors of shape (N, N), not centred. With $\\tilde K$ and $\\tilde L$ the same "
        "matrices with zeros on the diagonal, and $\\mathbf 1$ the vector of N ones, it is $$\\frac{1}{N (N - 3)} "
        "\\left[ \\operatorname{tr}(\\tilde K \\tilde L) + \\frac{\\mathbf 1^\\top \\tilde K \\mathbf 1 \\; \\mathbf "
        "1^\\top \\tilde L \\mathbf 1}{(N - 1)(N - 2)} - \\frac{2}{N - 2} \\, \\mathbf 1^\\top \\tilde K \\tilde L "
        "\\mathbf 1 \\right].$$ Return a number, which may be negative. Do not change the matrices. Raise a "
        "`ValueError` for fewer than four examples."
    ),
    skeleton=(
        "def my_debiased_hsic(first_gram, second_gram):\n"
        '    """The unbiased estimate of HSIC, with the diagonals left out."""\n    ...'
    ),
    reference=debiased_hsic,
    alternatives=(debiased_by_matrices, debiased_by_numpy),
    cases=hsic_cases,
    drawn=drawn_hsic,
    hints=(
        "What does `torch.diag` return for a matrix, and what for a vector? Print `K - torch.diag(K)`.",
        "`K.clone().fill_diagonal_(0)`, or `K - torch.diag(torch.diag(K))`. For symmetric matrices the trace of the "
        "product is `(K * L).sum()`.",
        "Of K̃ and L̃: `(K * L).sum()`, then `K.sum() * L.sum() / ((n - 1) * (n - 2))`, and "
        "`2 / (n - 2) * (K @ L).sum()` to subtract; all over `n * (n - 3)`.",
    ),
    misconceptions=WRONG,
    shows="without the diagonals, layers that share nothing have an HSIC near 0, in small batches too.",
    derivation=(
        "The two extra terms replace the means of rows and of the whole matrix by means without the diagonal, so that "
        "every product is one of different examples, whose expectation is exact. Source: Song et al. 2012, JMLR 13, "
        "equation 5."
    ),
    relative=1e-4,
)
