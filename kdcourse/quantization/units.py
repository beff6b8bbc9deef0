"""Shared weights of multilayer perceptrons, rewritten so that their outputs stay and their coded file gets smaller."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from .sharing import SharedWeight


def drop_dead_units(shared: Mapping[str, SharedWeight]) -> dict[str, SharedWeight]:
    """The same network, without the weights into hidden units that no weight leaves: its outputs do not change.

    For multilayer perceptrons, ``shared`` holding the weights in the order of the layers. Such a unit's weights become
    zero, where the codebook has a zero, and its bias the commonest entry: both take fewer bytes in a coded file.
    Raises ``ValueError`` where two weights in a row do not fit together.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> with torch.no_grad():
    ...     _ = model[0].weight[0].zero_()  # so that the codebook has a zero
    ...     _ = model[2].weight[:, 1].zero_()  # nothing leaves unit 1
    >>> dropped = drop_dead_units(shared_weights(share_model(model)))
    >>> dropped["0.weight"].weight()[1]
    tensor([0., 0.])
    """
    result = dict(shared)
    for name, bias, following in reversed(_hidden_layers(shared)):
        dead = (result[following].weight() == 0).all(dim=0)
        result[name] = _with_zeros(result[name], dead.unsqueeze(1))
        if bias in result:
            entry = result[bias]
            indices = torch.where(dead, entry.indices.mode().values, entry.indices)
            result[bias] = entry._replace(indices=indices)
    return result


def renumber_units(shared: Mapping[str, SharedWeight], *, without_biases: bool = False) -> dict[str, SharedWeight]:
    """The same network with its hidden units in another order, by bias and then by the number of outgoing weights.

    Outputs stay the same up to rounding in sums, and a coded file gets smaller: of n! equal networks it need not say
    which. For multilayer perceptrons, ``shared`` holding the weights in the order of the layers, and the biases, unless
    the layers have none, which ``without_biases`` says. Raises ``ValueError`` where two weights in a row do not fit
    together, or a bias is missing.

    >>> model, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.ones(1, 2)
    >>> shared = shared_weights(share_model(model, bits=8, bias_bits=8))
    >>> load_shared(model, shared)
    >>> before = model(x)
    >>> load_shared(model, renumber_units(shared))
    >>> torch.allclose(model(x), before)
    True
    """
    result = dict(shared)
    for name, bias, following in _hidden_layers(shared):
        outgoing = (result[following].weight() != 0).sum(dim=0)
        order = outgoing.argsort(stable=True)
        if bias in result:
            order = order[result[bias].indices[order].argsort(stable=True)]
            result[bias] = result[bias]._replace(indices=result[bias].indices[order])
        elif not without_biases:
            raise ValueError(f"{bias!r} is not among the shared weights and would stay behind when its units move")
        result[name] = result[name]._replace(indices=result[name].indices[order])
        result[following] = result[following]._replace(indices=result[following].indices[:, order])
    return result


def _hidden_layers(shared: Mapping[str, SharedWeight]) -> list[tuple[str, str, str]]:
    """Weight, bias and following weight of every hidden layer, checked to fit."""
    weights = [name for name in shared if name.endswith("weight")]
    for name, following in pairwise(weights):
        shapes = tuple(shared[name].indices.shape), tuple(shared[following].indices.shape)
        if [len(shape) for shape in shapes] != [2, 2] or shapes[0][0] != shapes[1][1]:
            raise ValueError(
                f"{following!r} {shapes[1]} does not follow {name!r} {shapes[0]}: need linear layers, in their order"
            )
    return [(name, name.removesuffix("weight") + "bias", following) for name, following in pairwise(weights)]


def _with_zeros(entry: SharedWeight, where: Tensor) -> SharedWeight:
    zero = (entry.codebook == 0).nonzero()
    return entry if len(zero) == 0 else entry._replace(indices=entry.indices.masked_fill(where, int(zero[0, 0])))
