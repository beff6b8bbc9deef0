"""Hidden units of one network put in the order of another's, so that their weights can be averaged."""

from collections.abc import Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from .._base.checks import check_weight
from .._base.parametrizing import copied
from .._base.weights import all_places
from ._alike import check_alike, tensors
from ._hidden import Hidden, Part, hidden_layers

Orders = list[Tensor]
"""For each hidden layer the units, by their number in the network, in their new order."""


@torch.no_grad()
def align(model: nn.Module, reference: nn.Module) -> nn.Module:
    """A copy of ``model`` that computes the same, its hidden units in an order that brings it near ``reference``.

    The order of the units of a layer is arbitrary: permuting the rows of its weights, all that is per unit after it,
    and the columns of the layer that reads them changes nothing but the order of sums. Permutations P are chosen to
    make ‖θ_reference - P(θ_model)‖² small, over all parameters: one layer after another takes its best permutation
    given the others (an assignment, solved exactly), until none improves. That is a local minimum; of two starts, the
    order as it is and layers matched from the first to the last by what makes them, the nearer result is taken. So a
    permuted copy of ``reference`` comes back as ``reference``, and no network ends farther away than it was.

    For plain ``nn.Sequential``, also nested, of linear layers on (N, features), convolutions without groups, batch norm
    and what works on each channel alone: the course's networks. Raises ``ValueError`` for anything else, networks
    that differ in architecture or dtype, hooks, tied or computed weights, NaN and infinity. With batch norm, follow the
    average with `reset_batchnorm`.

    Source: Ainsworth, Hayase, Srinivasa 2023, arXiv:2209.04836, section 3.2 and algorithm 1.

    >>> reference = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> other = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> aligned, inputs = align(other, reference), torch.rand(4, 2)
    >>> torch.allclose(aligned(inputs), other(inputs))
    True
    """
    check_alike([model, reference], ["model", "reference"])
    for name, place in all_places(model).items():
        if place.computed_by:
            raise ValueError(f"the weight {name!r} is computed by {place.computed_by}")
    hidden, result = hidden_layers(model), copied(model)
    matching = _Matching(hidden, _weights(hidden, result), _weights(hidden, reference))
    starts = [torch.arange(layer.units) for layer in hidden], matching.start()
    orders = min(map(matching.descend, starts), key=matching.distance)
    everything = tensors(result)
    for layer, order in zip(hidden, orders, strict=True):
        for part in layer.parts:
            everything[part.tensor].copy_(_permuted(everything[part.tensor], part, order))
    return result


def _weights(hidden: Sequence[Hidden], model: nn.Module) -> dict[str, Tensor]:
    """The parameters among the parts, in float64."""
    parameters, found = dict(model.named_parameters()), {}
    for name in (part.tensor for layer in hidden for part in layer.parts if part.tensor in parameters):
        check_weight(name, parameters[name])
        found[name] = parameters[name].double().cpu()
    return found


def _permuted(tensor: Tensor, part: Part, order: Tensor) -> Tensor:
    places = order[:, None] * part.each + torch.arange(part.each)
    return tensor.index_select(part.dimension, places.flatten().to(tensor.device))


class _Matching:
    """Two networks, and the distance between them by the orders of the first one's units."""

    def __init__(self, hidden: Sequence[Hidden], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
        self.hidden, self.ours, self.theirs = hidden, ours, theirs

    def reordered(self, name: str, orders: Orders, *, but: int = -1) -> Tensor:
        """A tensor of the first network with all its units in their new orders, ``but`` those of one layer."""
        tensor = self.ours[name]
        for number, layer in enumerate(self.hidden):
            for part in layer.parts:
                if part.tensor == name and number != but:
                    tensor = _permuted(tensor, part, orders[number])
        return tensor

    def distance(self, orders: Orders) -> float:
        return sum(float((self.theirs[name] - self.reordered(name, orders)).square().sum()) for name in self.ours)

    def gains(self, number: int, orders: Orders, *, made_by: bool = False) -> Tensor:
        """Inner products of the reference's units with ours; with ``made_by`` of what they are made by alone."""
        layer = self.hidden[number]
        total = torch.zeros(layer.units, layer.units, dtype=torch.float64)
        for part in layer.parts:
            if part.tensor in self.ours and not (made_by and part.dimension):
                rows = self.theirs[part.tensor], self.reordered(part.tensor, orders, but=number)
                first, second = (value.movedim(part.dimension, 0).reshape(layer.units, -1) for value in rows)
                total += first @ second.T
        return total

    def start(self) -> Orders:
        """Each layer matched by what its units are made by, from the first to the last."""
        orders = [torch.arange(layer.units) for layer in self.hidden]
        for number in range(len(self.hidden)):
            orders[number] = _assigned(self.gains(number, orders, made_by=True))
        return orders

    def descend(self, orders: Orders) -> Orders:
        """Layer after layer its best order given the others, until none comes nearer."""
        orders, nearest = list(orders), self.distance(orders)
        while True:
            before = nearest
            for number in range(len(self.hidden)):
                tried = [*orders[:number], _assigned(self.gains(number, orders)), *orders[number + 1 :]]
                if (distance := self.distance(tried)) < nearest * (1 - 1e-12):
                    orders, nearest = tried, distance
            if nearest == before:
                return orders


def _assigned(gains: Tensor) -> Tensor:
    return torch.as_tensor(linear_sum_assignment(gains.numpy(), maximize=True)[1])
