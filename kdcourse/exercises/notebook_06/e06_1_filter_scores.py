"""06.1 a score for every filter."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def filter_scores(weight: Tensor) -> Tensor:
    return weight.abs().sum(dim=(1, 2, 3))


def scores_by_norm(weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight.flatten(1), ord=1, dim=1)


def scores_one_by_one(weight: Tensor) -> Tensor:
    return torch.stack([sum(kernel.abs().sum() for kernel in filter) for filter in weight])


def scores_of_inputs(weight: Tensor) -> Tensor:
    return weight.abs().sum(dim=(0, 2, 3))


def sum_with_signs(weight: Tensor) -> Tensor:
    return weight.sum(dim=(1, 2, 3))


def sign_taken_last(weight: Tensor) -> Tensor:
    return weight.sum(dim=(1, 2, 3)).abs()


def root_of_squares(weight: Tensor) -> Tensor:
    return weight.square().sum(dim=(1, 2, 3)).sqrt()


def largest_weight(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=(1, 2, 3))


def mean_weight(weight: Tensor) -> Tensor:
    return weight.abs().mean(dim=(1, 2, 3))


def squares(weight: Tensor) -> Tensor:
    return weight.square().sum(dim=(1, 2, 3))


def total(weight: Tensor) -> Tensor:
    return weight.abs().sum()


def kernel_by_kernel(weight: Tensor) -> Tensor:
    return weight.abs().sum(dim=(2, 3))


def sizes_of_one_kept(weight: Tensor) -> Tensor:
    return weight.abs().sum(dim=(1, 2, 3), keepdim=True)


def filter_cases() -> list[Case]:
    small = torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]], [[[-4.0, 1.0]], [[0.0, -2.0]]]], dtype=torch.float64)
    return [case(small), case(draw(4, 3, 3, 3, seed=600, spread=1.0)), case(draw(3, 3, 5, 5, seed=601, spread=1.0))]


def filter_drawn(g: torch.Generator) -> Case:
    return case(draw(integer(g, 1, 5), integer(g, 1, 4), integer(g, 1, 3), integer(g, 1, 5), seed=g))


EXERCISE = Exercise(
    id="06.1",
    title="a score for every filter",
    question=(
        "`weight` belongs to a convolution and has the shape (outputs, inputs, height, width). Each output channel has "
        "one filter. Write `my_filter_scores(weight)`: the L1 norm of every filter, a tensor (outputs,)."
    ),
    skeleton=(
        'def my_filter_scores(weight):\n    """The L1 norm of each filter of a convolution, (outputs,)."""\n    ...'
    ),
    reference=filter_scores,
    alternatives=(scores_by_norm, scores_one_by_one),
    cases=filter_cases,
    drawn=filter_drawn,
    hints=(
        "Which dimension of `weight` tells the filters apart? The others are summed over.",
        "The L1 norm is the sum of the absolute values. Take them before you sum.",
        "`weight.abs().sum(dim=(1, 2, 3))`.",
    ),
    misconceptions=(
        Misconception(
            "scores of the input channels",
            scores_of_inputs,
            "you score the input channels: what all filters together read from each. A filter is `weight[k]`, so "
            "dimension 0 must stay",
        ),
        Misconception(
            "signs not taken off",
            sum_with_signs,
            "you sum the weights with their signs. Positive and negative ones cancel, so a strong edge filter would "
            "score near 0 and go first",
        ),
        Misconception(
            "absolute value of the sum",
            sign_taken_last,
            "the absolute value comes too late: inside the sum the weights have already cancelled. A strong edge "
            "filter would score near 0",
        ),
        Misconception(
            "L2 for L1",
            root_of_squares,
            "this is the L2 norm. It counts one large weight for more than many middling ones, and can order the "
            "filters differently",
        ),
        Misconception(
            "the largest weight alone",
            largest_weight,
            "this is each filter's largest weight. A filter with one spike then beats one that is strong all over",
        ),
        Misconception(
            "the mean instead of the sum",
            mean_weight,
            "this is the mean of the absolute values. Within a layer the order is the same, but layers "
            "with filters of another size compare differently",
        ),
        Misconception(
            "squares",
            squares,
            "you sum squares. The L1 norm sums absolute values; squares without their root are not a norm",
        ),
        Misconception(
            "one number for all",
            total,
            "this is one number for the whole layer. Keep dimension 0: every filter has a score of its own",
        ),
        Misconception(
            "kernel by kernel",
            kernel_by_kernel,
            "you keep the inputs apart: a score for every kernel. A filter is all kernels of an output: also sum "
            "over dimension 1",
        ),
        Misconception(
            "dimensions kept",
            sizes_of_one_kept,
            "the numbers are right, but `keepdim` leaves dimensions of size 1. The question asks for the shape "
            "(outputs,)",
        ),
    ),
    shows="a filter is all that one output channel reads, and its L1 norm is the sum of its absolute weights.",
    derivation=(
        "Filter k is weight[k], with inputs · height · width numbers: s_k = Σ |w| over them. "
        "Source: Li et al. 2017, arXiv:1608.08710."
    ),
    forbidden=("kdcourse.pruning.channel_scores",),
)
