"""14.1 two thin layers for one."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import pair_of_tensors, table

Factors = tuple[Tensor, Tensor]


def low_rank(weight: Tensor, rank: int) -> Factors:
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    return right[:rank], left[:, :rank] * singular[:rank]


def by_projecting_the_inputs(weight: Tensor, rank: int) -> Factors:
    directions = torch.linalg.eigh(weight.T @ weight).eigenvectors[:, -rank:]
    return directions.T, weight @ directions


def with_shared_roots(weight: Tensor, rank: int) -> Factors:
    left, singular, right = np.linalg.svd(weight.numpy(), full_matrices=False)
    root = np.diag(np.sqrt(singular[:rank]))
    return torch.from_numpy(root @ right[:rank]), torch.from_numpy(left[:, :rank] @ root)


def as_one_layer(result: Any, case: Case) -> Any:
    """The product, which is what the two layers compute, and the shapes of the two factors."""
    if not pair_of_tensors(result):
        return result
    first, second = result
    shapes = [list(first.shape), list(second.shape)]
    fit = first.ndim == second.ndim == 2 and second.shape[1] == first.shape[0]
    return [second @ first if fit else None, shapes]


def right_transposed(weight: Tensor, rank: int) -> Factors:
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    return right[:, :rank].T, left[:, :rank] * singular[:rank]


def values_missing(weight: Tensor, rank: int) -> Factors:
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    return right[:rank], left[:, :rank]


def values_twice(weight: Tensor, rank: int) -> Factors:
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    return singular[:rank, None] * right[:rank], left[:, :rank] * singular[:rank]


def root_on_one_side(weight: Tensor, rank: int) -> Factors:
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    return right[:rank], left[:, :rank] * singular[:rank].sqrt()


def values_over_the_rows(weight: Tensor, rank: int) -> Factors:
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    return right[:rank], left[:, :rank] / singular[:rank]


def smallest_kept(weight: Tensor, rank: int) -> Factors:
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    return right[-rank:], left[:, -rank:] * singular[-rank:]


def one_too_few(weight: Tensor, rank: int) -> Factors:
    return low_rank(weight, rank - 1)


def one_too_many(weight: Tensor, rank: int) -> Factors:
    return low_rank(weight, rank + 1)


def the_wrong_way_round(weight: Tensor, rank: int) -> Factors:
    first, second = low_rank(weight, rank)
    return second, first


def of_the_transposed_weight(weight: Tensor, rank: int) -> Factors:
    return low_rank(weight.T, rank)


def centred(weight: Tensor, rank: int) -> Factors:
    return low_rank(weight - weight.mean(dim=0), rank)


def strongest_outputs(weight: Tensor, rank: int) -> Factors:
    rows = weight.norm(dim=1).topk(min(rank, len(weight))).indices
    second = torch.zeros(len(weight), len(rows), dtype=weight.dtype)
    second[rows, torch.arange(len(rows))] = 1
    return weight[rows], second


def strongest_inputs(weight: Tensor, rank: int) -> Factors:
    columns = weight.norm(dim=0).topk(min(rank, weight.shape[1])).indices
    first = torch.zeros(len(columns), weight.shape[1], dtype=weight.dtype)
    first[torch.arange(len(columns)), columns] = 1
    return first, weight[:, columns]


def first_outputs_repeated(weight: Tensor, rank: int) -> Factors:
    first = weight[:rank]
    return first, weight @ first.T


def low_rank_cases() -> list[Case]:
    known = draw(6, 2, seed=5) @ draw(2, 4, seed=6)  # of rank 2: two directions reproduce it
    return [
        case(table([[3.0, 1.0], [0.5, 2.0], [1.0, 0.0]]), 1),
        case(draw(3, 5, seed=1), 2),
        case(draw(4, 4, seed=2), 2),  # square: a transposed factor raises no error
        case(draw(10, 7, seed=3) + 1, 5),
        case(draw(3, 4, seed=4), 3),  # all that it can have
        case(known, 2),
        case(draw(5, 6, seed=7).float(), 2),
    ]


def drawn_low_rank(g: torch.Generator) -> Case:
    outputs, inputs = integer(g, 2, 7), integer(g, 2, 7)
    return case(draw(outputs, inputs, seed=g) + 0.5, integer(g, 1, min(outputs, inputs)))


EXERCISE = Exercise(
    id="14.1",
    title="two thin layers for one",
    question=(
        "A linear layer has a tensor `weight` of shape (n, m): n outputs, m inputs. Two layers are to replace it, m "
        "inputs to `rank` values and these to n outputs, with nothing in between. Write `my_low_rank(weight, rank)`: "
        "it returns their two weights, `first` of shape (rank, m) and `second` of shape (n, rank), such that the sum "
        "of the squared entries of `weight - second @ first` is as small as it can be. `rank` is at least 1 and at "
        "most the smaller of n and m. Many pairs have the same product: each of them is right."
    ),
    skeleton=(
        'def my_low_rank(weight, rank):\n    """The weights of the two layers that come nearest to the one."""\n    ...'
    ),
    reference=low_rank,
    alternatives=(by_projecting_the_inputs, with_shared_roots),
    cases=low_rank_cases,
    drawn=drawn_low_rank,
    hints=(
        "Which matrix of rank `rank` is nearest to a given one? Eckart and Young answered it in 1936.",
        "`torch.linalg.svd(weight, full_matrices=False)` returns U, the singular values from large to small, and Vᵀ. "
        "Keep the first `rank` of each.",
        "`first = Vh[:rank]`, and the singular values go into one of the two: `second = U[:, :rank] * S[:rank]`.",
    ),
    misconceptions=(
        Misconception(
            "Vᵀ taken for V",
            right_transposed,
            "you take columns of the third result. `torch.linalg.svd` returns Vᵀ, whose *rows* are the directions; "
            "the older `torch.svd` returned V. For a square weight the mistake raises no error",
        ),
        Misconception(
            "singular values missing",
            values_missing,
            "the directions are right, but the singular values are in neither factor: all directions count equally. "
            "Multiply one of the two by them",
        ),
        Misconception(
            "singular values twice",
            values_twice,
            "the singular values are in both factors, so their product contains the squares. Multiply one factor, or "
            "both by the roots",
        ),
        Misconception(
            "roots on one side only",
            root_on_one_side,
            "one factor has the roots of the singular values, the other one nothing. Both need the roots, or one the "
            "values themselves",
        ),
        Misconception(
            "divided by the singular values",
            values_over_the_rows,
            "you divide by the singular values. That is what an inverse needs; here they are multiplied",
        ),
        Misconception(
            "the smallest kept",
            smallest_kept,
            "you keep the smallest singular values. `torch.linalg.svd` sorts from large to small: take the first, "
            "not the last. (`torch.linalg.eigh` sorts the other way.)",
        ),
        Misconception(
            "one direction too few",
            one_too_few,
            "you keep `rank` - 1 directions. `[:rank]` has `rank` entries",
        ),
        Misconception(
            "one direction too many",
            one_too_many,
            "you keep `rank` + 1 directions: the layer in the middle is one too wide",
        ),
        Misconception(
            "second before first",
            the_wrong_way_round,
            "both factors are right, but in the wrong order. The first layer takes the m inputs: its weight has the "
            "shape (rank, m)",
        ),
        Misconception(
            "the weight transposed",
            of_the_transposed_weight,
            "you take the transposed weight apart. `nn.Linear` keeps (outputs, inputs), so `second @ first` has that "
            "shape",
        ),
        Misconception(
            "centred first",
            centred,
            "you subtract the mean first, as in principal component analysis. The two layers have to reproduce the "
            "weight itself, its mean included",
        ),
        Misconception(
            "the strongest outputs kept",
            strongest_outputs,
            "you keep the outputs with the longest rows and leave the others at 0. That is a product of the right "
            "shape, but not the nearest: directions may mix all outputs",
        ),
        Misconception(
            "the strongest inputs kept",
            strongest_inputs,
            "you keep the inputs with the longest columns and drop the others. Directions may mix all inputs, which "
            "comes nearer",
        ),
        Misconception(
            "rows that are not orthonormal",
            first_outputs_repeated,
            "you project on the first rows of the weight, as if they had length 1 and right angles. Take the "
            "directions of the largest singular values",
        ),
    ),
    shows=(
        "the best that a narrow middle can do is known in advance: it keeps the directions of the largest singular "
        "values."
    ),
    derivation=(
        "W = Σ s_k u_k v_kᵀ. Any product of rank r misses at least Σ s_k² over k > r, and the first r terms reach "
        "that. Source: Eckart, Young 1936; Mirsky 1960 for every norm that rotations leave as it is."
    ),
    observe=as_one_layer,
    forbidden=("kdcourse.lowrank.factorize",),
    relative=1e-4,
    absolute=1e-4,
)
