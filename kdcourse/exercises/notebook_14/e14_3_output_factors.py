"""14.3 nearest in what comes out."""

from typing import Any

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import pair_of_tensors, table

Layer = tuple[Tensor, Tensor]


def output_factors(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    outputs = inputs @ weight.T
    mean = outputs.mean(dim=0)
    directions = torch.linalg.svd(outputs - mean, full_matrices=False).Vh[:rank]
    projection = directions.T @ directions
    return projection @ weight, bias + mean - projection @ mean


def around_the_mean_output(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    outputs = torch.nn.functional.linear(inputs, weight, bias)
    directions = torch.linalg.eigh(outputs.T.cov()).eigenvectors[:, -rank:]
    mean = outputs.mean(dim=0)
    return directions @ (directions.T @ weight), mean + directions @ (directions.T @ (bias - mean))


def as_a_regression(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    outputs, mean = inputs @ weight.T + bias, inputs.mean(dim=0)
    left, singular, right = torch.linalg.svd(outputs - outputs.mean(dim=0), full_matrices=False)
    wanted = (left[:, :rank] * singular[:rank]) @ right[:rank]
    found = (torch.linalg.pinv(inputs - mean) @ wanted).T
    return found, outputs.mean(dim=0) - found @ mean


def by_its_outputs(result: Any, case: Case) -> Any:
    """What the layer returns for the inputs, whether its rank is low enough, and the two shapes."""
    if not pair_of_tensors(result):
        return result
    weight, bias = result
    _, _, inputs, rank = case.arguments
    shapes = [list(weight.shape), list(bias.shape)]
    if shapes != [list(part.shape) for part in case.arguments[:2]]:
        return [None, {"shapes": shapes}]
    values = torch.linalg.svdvals(weight.double())
    low = bool((values[rank:] <= 1e-4 * values[0] + 1e-9).all())
    return [inputs @ weight.T + bias, {"shapes": shapes, "rank low enough": low}]


def _nearest(weight: Tensor, rank: int) -> Tensor:
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    return (left[:, :rank] * singular[:rank]) @ right[:rank]


def _principal(rows: Tensor, rank: int) -> Tensor:
    """The projection on the first directions of the rows."""
    directions = torch.linalg.svd(rows, full_matrices=False).Vh[:rank]
    return directions.T @ directions


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(dim=0)


def _mean_kept(projection: Tensor, weight: Tensor, bias: Tensor, inputs: Tensor) -> Layer:
    mean = (inputs @ weight.T).mean(dim=0)
    return projection @ weight, bias + mean - projection @ mean


def weight_alone(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    return _nearest(weight, rank), bias


def weight_alone_mean_kept(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    near = _nearest(weight, rank)
    return near, bias + (weight - near) @ inputs.mean(dim=0)


def not_centred(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    return _principal(inputs @ weight.T, rank) @ weight, bias


def not_centred_mean_kept(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    return _mean_kept(_principal(inputs @ weight.T, rank), weight, bias, inputs)


def bias_projected(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    projection = _principal(inputs @ weight.T + bias, rank)
    return projection @ weight, projection @ bias


def bias_as_it_was(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    return _principal(_centred(inputs @ weight.T), rank) @ weight, bias


def centred_bias_projected(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    projection = _principal(_centred(inputs @ weight.T), rank)
    return projection @ weight, projection @ bias


def mean_alone(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    new, offset = _mean_kept(_principal(_centred(inputs @ weight.T), rank), weight, bias, inputs)
    return new, offset - bias


def wrong_sign(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    new, offset = _mean_kept(_principal(_centred(inputs @ weight.T), rank), weight, bias, inputs)
    return new, 2 * bias - offset


def directions_of_the_inputs(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    near = weight @ _principal(_centred(inputs), rank)
    return near, bias + (weight - near) @ inputs.mean(dim=0)


def smallest_kept(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    directions = torch.linalg.svd(_centred(inputs @ weight.T), full_matrices=False).Vh[-rank:]
    return _mean_kept(directions.T @ directions, weight, bias, inputs)


def one_too_few(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    return _mean_kept(_principal(_centred(inputs @ weight.T), rank - 1), weight, bias, inputs)


def one_too_many(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    return _mean_kept(_principal(_centred(inputs @ weight.T), rank + 1), weight, bias, inputs)


def nothing_replaced(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    return weight.clone(), bias.clone()


def centred_over_the_outputs(weight: Tensor, bias: Tensor, inputs: Tensor, rank: int) -> Layer:
    outputs = inputs @ weight.T
    return _mean_kept(_principal(outputs - outputs.mean(dim=1, keepdim=True), rank), weight, bias, inputs)


WRONG = (
    Misconception(
        "the weight alone",
        weight_alone,
        "you take the nearest weight, and do not look at `inputs`. An error in a direction in which the inputs vary "
        "much costs more than one in which they hardly vary: take the outputs apart",
    ),
    Misconception(
        "the weight alone, mean kept",
        weight_alone_mean_kept,
        "the mean output is right, but the directions come from the weight alone. Take those of the outputs: they know "
        "how much each input varies",
    ),
    Misconception(
        "not centred",
        not_centred,
        "you do not centre the outputs. The bias reproduces their mean at no cost; otherwise the mean uses up one of "
        "the few directions",
    ),
    Misconception(
        "not centred, mean kept",
        not_centred_mean_kept,
        "your bias keeps the mean output, but the directions were found before it was subtracted: one of them is "
        "spent on the mean. Centre first",
    ),
    Misconception(
        "not centred, bias projected",
        bias_projected,
        "you project the outputs with their bias. The replacement may have any bias, so the mean costs no direction: "
        "subtract it first",
    ),
    Misconception(
        "the bias as it was",
        bias_as_it_was,
        "the weight is right, but the bias is the old one. P W changes the mean output by P mean(W x) - mean(W x): "
        "the bias has to take that back",
    ),
    Misconception(
        "the bias projected",
        centred_bias_projected,
        "the weight is right, but you project the bias. Keep it, and correct the mean: b' = b + mean(W x) - P mean(W "
        "x)",
    ),
    Misconception(
        "the old bias lost",
        mean_alone,
        "the correction is right, but the layer's own bias is missing. b' = b + mean(W x) - P mean(W x)",
    ),
    Misconception(
        "the correction's sign",
        wrong_sign,
        "you subtract the correction of the mean. P W x lacks (I - P) mean(W x): add it",
    ),
    Misconception(
        "directions of the inputs",
        directions_of_the_inputs,
        "you keep the directions in which the *inputs* vary most. The layer may multiply those by nearly 0. What "
        "counts are the directions of the outputs",
    ),
    Misconception(
        "the smallest kept",
        smallest_kept,
        "you keep the directions in which the outputs vary least. `svd` sorts from large to small, `eigh` the other "
        "way",
    ),
    Misconception(
        "one direction too few",
        one_too_few,
        "you keep `rank` - 1 directions. The mean needs none: it is in the bias",
    ),
    Misconception(
        "one direction too many",
        one_too_many,
        "your weight has a rank above `rank`. The mean is in the bias, not in another direction",
    ),
    Misconception(
        "nothing replaced",
        nothing_replaced,
        "this is the layer itself. Its weight has a higher rank than allowed",
    ),
    Misconception(
        "centred over the outputs",
        centred_over_the_outputs,
        "you subtract each example's mean over its outputs. The bias is the same for all examples and has one entry "
        "for each output: `mean(dim=0)`",
    ),
)


def mixed(count: int, inputs: int, seed: int) -> Tensor:
    """Inputs that vary much in some directions and little in others, with a mean."""
    scale = 3.0 * 2.0 ** -torch.arange(inputs)
    turned = (draw(count, inputs, seed=seed, spread=1.0) * scale) @ draw(inputs, inputs, seed=seed + 50, spread=1.0)
    return turned + draw(inputs, seed=seed + 70, spread=2.0)


def output_cases() -> list[Case]:
    inputs = table([[1.0, 2.0], [3.0, -1.0], [0.0, 4.0], [2.0, 2.5]])
    layer = table([[1.0, 0.5], [-2.0, 1.0], [0.5, 3.0]]), torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    square = draw(4, 4, seed=4), draw(4, seed=5)
    return [
        case(*layer, inputs, 1),
        case(draw(5, 3, seed=1), draw(5, seed=2), mixed(8, 3, 3), 2),
        case(*square, mixed(9, 4, 6), 2),
        case(draw(6, 7, seed=8), draw(6, seed=9), mixed(4, 7, 10), 2),  # fewer examples than inputs
        case(draw(3, 5, seed=11), draw(3, seed=12), mixed(12, 5, 13), 3),  # all that it can have
        case(draw(5, 4, seed=14).float(), draw(5, seed=15).float(), mixed(10, 4, 16).float(), 2),
    ]


def drawn_outputs(g: torch.Generator) -> Case:
    n, m, seed = integer(g, 2, 6), integer(g, 2, 6), integer(g, 100, 999)
    layer = draw(n, m, seed=g), draw(n, seed=g)
    return case(*layer, mixed(integer(g, 7, 12), m, seed), integer(g, 1, min(n, m)))


EXERCISE = Exercise(
    id="14.3",
    title="nearest in what comes out",
    question=(
        "A linear layer has the tensors `weight` (n, m) and `bias` (n,); `inputs` (N, m), N ≥ 2, are examples of what "
        "comes in. Its replacement is a linear layer whose weight has at most the rank `rank`, with any bias. Write "
        "`my_output_factors(weight, bias, inputs, rank)`: it returns the replacement's weight (n, m) and bias (n,), "
        "such that the squared difference of the two layers' *outputs*, summed over the N examples and the n outputs, "
        "is as small as it can be. `rank` is at least 1 and at most the smaller of n and m. Return the weight as one "
        "matrix; that it is a product of two thin ones follows from its rank. Different weights may have the same "
        "outputs on these examples: each of them is right."
    ),
    skeleton=(
        "def my_output_factors(weight, bias, inputs, rank):\n"
        '    """Weight and bias of the layer of this rank whose outputs are nearest."""\n    ...'
    ),
    reference=output_factors,
    alternatives=(around_the_mean_output, as_a_regression),
    cases=output_cases,
    drawn=drawn_outputs,
    hints=(
        "Forget the weight for a moment: which N × n matrix of low rank, plus one row added to all of its rows, is "
        "nearest to the outputs?",
        "Centre the outputs and keep their first `rank` principal directions: the projection P = DᵀD, with the "
        "directions as rows of D. What is the weight of a layer that projects its own outputs?",
        "W' = P W. The mean output must stay: b' = b + mean(W x) - P mean(W x).",
    ),
    misconceptions=WRONG,
    shows="a layer is judged by what comes out of it: the best replacement depends on what goes in.",
    derivation=(
        "The best bias makes the mean error 0, which centres the outputs Y. No matrix of rank r is nearer to them "
        "than Y DᵀD, and (x - mean)ᵀWᵀDᵀD shows that a layer can compute it. The error is Σ s_k² over k > r, s the "
        "singular values of the centred outputs. Source: Zhang et al. 2015, arXiv:1411.4229, section 2.1."
    ),
    observe=by_its_outputs,
    forbidden=("kdcourse.lowrank.factorize",),
    relative=1e-4,
    absolute=1e-3,
)
