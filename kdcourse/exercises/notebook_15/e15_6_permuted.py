"""15.6 the same network, its hidden units in another order."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Layers = list[tuple[Tensor, Tensor]]


def permuted(layers: Layers, orders: list[Tensor]) -> Layers:
    result = []
    for number, (weight, bias) in enumerate(layers):
        if number > 0:
            weight = weight[:, orders[number - 1]]
        if number < len(orders):
            weight, bias = weight[orders[number]], bias[orders[number]]
        result.append((weight, bias))
    return result


def permuted_by_matrices(layers: Layers, orders: list[Tensor]) -> Layers:
    """P W Qᵀ and P b, with the identity before the first and after the last layer."""
    inputs, outputs = layers[0][0].shape[1], layers[-1][0].shape[0]
    matrices = [torch.eye(len(order), dtype=torch.float64)[order] for order in orders]
    rights = [torch.eye(inputs, dtype=torch.float64), *matrices]
    lefts = [*matrices, torch.eye(outputs, dtype=torch.float64)]
    return [
        (left @ weight @ right.T, left @ bias)
        for (weight, bias), left, right in zip(layers, lefts, rights, strict=True)
    ]


def permuted_one_after_another(layers: Layers, orders: list[Tensor]) -> Layers:
    result = [(weight.clone(), bias.clone()) for weight, bias in layers]
    for place, order in enumerate(orders):
        (weight, bias), (reader, later) = result[place], result[place + 1]
        result[place] = weight.index_select(0, order), bias.index_select(0, order)
        result[place + 1] = reader.index_select(1, order), later
    return result


def _moved(tensor: Tensor, order: Tensor, dim: int) -> Tensor:
    """The entries along a dimension in another order, where there are as many."""
    return tensor.index_select(dim, order) if tensor.shape[dim] == len(order) else tensor


def columns_stay(layers: Layers, orders: list[Tensor]) -> Layers:
    moved = [(weight[order], bias[order]) for (weight, bias), order in zip(layers, orders, strict=False)]
    return [*moved, layers[-1]]


def rows_stay(layers: Layers, orders: list[Tensor]) -> Layers:
    readers = [(weight[:, order], bias) for (weight, bias), order in zip(layers[1:], orders, strict=True)]
    return [layers[0], *readers]


def biases_stay(layers: Layers, orders: list[Tensor]) -> Layers:
    return [(weight, bias) for (weight, _), (_, bias) in zip(permuted(layers, orders), layers, strict=True)]


def columns_inverted(layers: Layers, orders: list[Tensor]) -> Layers:
    right = permuted(layers, orders)
    result = right[:1]
    for number, order in enumerate(orders, start=1):
        weight = layers[number][0][:, order.argsort()]
        result.append((weight[orders[number]] if number < len(orders) else weight, right[number][1]))
    return result


def all_inverted(layers: Layers, orders: list[Tensor]) -> Layers:
    return permuted(layers, [order.argsort() for order in orders])


def only_the_first(layers: Layers, orders: list[Tensor]) -> Layers:
    return permuted(layers, [orders[0], *(torch.arange(len(order)) for order in orders[1:])])


def only_the_last(layers: Layers, orders: list[Tensor]) -> Layers:
    return permuted(layers, [*(torch.arange(len(order)) for order in orders[:-1]), orders[-1]])


def outputs_too(layers: Layers, orders: list[Tensor]) -> Layers:
    *before, (weight, bias) = permuted(layers, orders)
    return [*before, (_moved(weight, orders[-1], 0), _moved(bias, orders[-1], 0))]


def inputs_too(layers: Layers, orders: list[Tensor]) -> Layers:
    (weight, bias), *rest = permuted(layers, orders)
    return [(_moved(weight, orders[0], 1), bias), *rest]


def columns_by_their_own_order(layers: Layers, orders: list[Tensor]) -> Layers:
    result = []
    for number, (weight, bias) in enumerate(layers):
        if number < len(orders):
            weight, bias = _moved(weight[orders[number]], orders[number], 1), bias[orders[number]]
        result.append((weight, bias))
    return result


def always_the_first_order(layers: Layers, orders: list[Tensor]) -> Layers:
    return permuted(
        layers, [orders[0] if len(order) == len(orders[0]) else torch.arange(len(order)) for order in orders]
    )


def _layers(seed: int | torch.Generator, widths: list[int]) -> Layers:
    found = []
    for number, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        first, second = (seed + 2 * number, seed + 2 * number + 1) if isinstance(seed, int) else (seed, seed)
        found.append((draw(outputs, inputs, seed=first), draw(outputs, seed=second)))
    return found


def permuted_cases() -> list[Case]:
    turn, four = torch.tensor([1, 2, 0]), torch.tensor([2, 0, 3, 1])
    return [
        case(_layers(100, [2, 3, 1]), [turn]),
        case(_layers(110, [3, 3, 3]), [turn.clone()]),  # outputs and inputs of the same number
        case(_layers(120, [3, 4, 4, 2]), [four, torch.tensor([1, 3, 0, 2])]),
        case(_layers(130, [2, 3, 4, 3, 3]), [turn.clone(), four.clone(), torch.tensor([2, 0, 1])]),
        case(_layers(140, [4, 4, 4, 4]), [four.clone(), torch.tensor([3, 2, 0, 1])]),
    ]


def drawn_permuted(g: torch.Generator) -> Case:
    widths = [integer(g, 2, 5) for _ in range(integer(g, 3, 5))]
    orders = [torch.randperm(width, generator=g) for width in widths[1:-1]]
    return case(_layers(g, widths), orders)


EXERCISE = Exercise(
    id="15.6",
    title="the same network, in another order",
    question=(
        "A multilayer perceptron is a list `layers` of pairs (weight, bias): tensors of shapes (outputs, inputs) and "
        "(outputs,), with an activation between layers that works on each unit alone. `orders` has one int64 tensor "
        "per hidden layer. Write `my_permuted(layers, orders)`: the list of pairs of the network whose k-th hidden "
        "layer has the same units in another order, its unit i being the old unit `orders[k][i]`. For every input the "
        "outputs are those of the old network, in the old order."
    ),
    skeleton=(
        "def my_permuted(layers, orders):\n"
        '    """The same network with the units of its hidden layers in other orders."""\n    ...'
    ),
    reference=permuted,
    alternatives=(permuted_by_matrices, permuted_one_after_another),
    cases=permuted_cases,
    drawn=drawn_permuted,
    hints=(
        "Which tensors have an entry for each unit of one hidden layer? There are three.",
        "The rows of the layer that makes the units, its bias, and the columns of the layer that reads them. A weight "
        "between two hidden layers is moved on both sides.",
        "`weight[:, orders[k - 1]]` for every layer but the first, then `weight[orders[k]]` and `bias[orders[k]]` for "
        "every layer but the last.",
    ),
    misconceptions=(
        Misconception(
            "the columns stay",
            columns_stay,
            "you move the rows and the biases. But the next layer still reads the units in the old order: move its "
            "columns as well",
        ),
        Misconception(
            "the rows stay",
            rows_stay,
            "you move the columns of the layers that read the units. The rows and biases of the layers that make them "
            "stay where they were",
        ),
        Misconception(
            "the biases stay",
            biases_stay,
            "the weights are correct. The bias of a unit belongs to it, so it moves with its row",
        ),
        Misconception(
            "the columns inverted",
            columns_inverted,
            "you move the columns by the inverse order. New unit i is the old unit order[i], in the rows *and* in the "
            "columns that read it: index both with the same order",
        ),
        Misconception(
            "all inverted",
            all_inverted,
            "your network computes the same as the old one, but in the inverse order: the new unit i has to be the old "
            "unit `order[i]`, not the other way round",
        ),
        Misconception(
            "only the first hidden layer",
            only_the_first,
            "you move the units of the first hidden layer only. A weight between two hidden layers has two orders, "
            "one for its columns and one for its rows; the second must not replace the first",
        ),
        Misconception(
            "only the last hidden layer",
            only_the_last,
            "you move the units of the last hidden layer only. A weight between two hidden layers has two orders, one "
            "for its columns and one for its rows; the second must not replace the first",
        ),
        Misconception(
            "the outputs too",
            outputs_too,
            "you also move the outputs. Their order is not arbitrary: it says which class is which",
        ),
        Misconception(
            "the inputs too",
            inputs_too,
            "you also move the columns of the first layer. They read the inputs, whose order is given",
        ),
        Misconception(
            "columns by their own layer's order",
            columns_by_their_own_order,
            "you move the columns of a layer by the order of its *own* units. They read the units of the layer before",
        ),
        Misconception(
            "always the first order",
            always_the_first_order,
            "you use the first order for all layers. Every hidden layer has its own",
        ),
    ),
    shows="a network with h hidden units in a layer is one of h! networks that compute the same and look different.",
    derivation=(
        "With a permutation matrix P and an activation σ that works on each unit alone, σ(P a) = P σ(a). So W₂ σ(W₁ x "
        "+ b₁) = (W₂ Pᵀ) σ((P W₁) x + P b₁): rows of W₁, entries of b₁ and columns of W₂ move together. Source: "
        "Hecht-Nielsen 1990; for merging, Ainsworth, Hayase, Srinivasa 2023, arXiv:2209.04836, section 2."
    ),
)
