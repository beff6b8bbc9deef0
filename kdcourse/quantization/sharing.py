"""Weight sharing: a layer's weights drawn from a small codebook, so that only an index a weight is stored."""

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .affine import check_finite
from .qat import _own_class


class SharedWeight(NamedTuple):
    """``codebook`` (2^bits,) ascending, in the weight's type, and for each weight the ``indices`` into it, uint8."""

    codebook: Tensor
    indices: Tensor

    def weight(self) -> Tensor:
        """The shared weights as reals."""
        return self.codebook[self.indices.long()]


def kmeans_share(weight: Tensor, *, bits: int, keep_zeros: bool = False, iterations: int = 300) -> SharedWeight:
    """Cluster the weights by k-means into 2^bits shared values: Lloyd's algorithm on the line, in float64.

    The centroids start evenly spaced from the smallest to the largest weight: the few large weights matter, and
    random or density-based starts leave them without a centroid. Stops when no weight changes its cluster, or after
    ``iterations``. An empty cluster keeps its centroid; a weight halfway goes to the lower one. With ``keep_zeros``
    zeros (pruned weights) keep a value of their own and the other 2^bits - 1 are clustered without them.
    ``bits`` from 1 to 8. Nothing is random.

    Source: Han, Mao, Dally 2016, arXiv:1510.00149, section 3, with linear initialisation (3.2).
    """
    check_finite("weight", weight)
    if not isinstance(bits, int) or not 1 <= bits <= 8:
        raise ValueError(f"bits must be a whole number from 1 to 8, got {bits!r}")
    values = weight.detach().double().flatten()
    clustered = values[values != 0] if keep_zeros else values
    empty = clustered.new_zeros(0)
    centroids = _lloyd(clustered, 2**bits - keep_zeros, iterations) if len(clustered) else empty
    indices = _nearest(values, centroids)
    if keep_zeros:
        zero_at = int((centroids < 0).sum())
        centroids = torch.cat([centroids[:zero_at], centroids.new_zeros(1), centroids[zero_at:]])
        indices = torch.where(values == 0, zero_at, indices + (indices >= zero_at))
    return SharedWeight(centroids.to(weight.dtype), indices.reshape(weight.shape).to(torch.uint8))


class SharedValues(nn.Module):
    """Computes a weight from its codebook, which is then the parameter: ``layer.parametrizations.weight.original``.

    The codebook is rounded to float16, as it will be stored, its gradient passing straight through. With
    ``keep_zeros`` the weights that are zero have no parameter at all. Assigning to ``layer.weight`` makes each entry
    the mean of its new weights.
    """

    places: Tensor
    members: Tensor
    kept: Tensor

    def __init__(self, shared: SharedWeight, *, keep_zeros: bool) -> None:
        super().__init__()
        kept = shared.codebook != 0 if keep_zeros else torch.ones_like(shared.codebook, dtype=torch.bool)
        indices = shared.indices.flatten().long()
        places = kept[indices].nonzero().squeeze(1)
        self.shape = shared.indices.shape
        self.register_buffer("kept", kept)
        self.register_buffer("places", places)
        self.register_buffer("members", indices[places])

    def forward(self, codebook: Tensor) -> Tensor:
        # scattering the few kept ones is faster than indexing for all
        flat: Tensor = codebook.new_zeros(self.shape.numel())
        weight: Tensor = flat.index_copy(0, self.places, self.rounded(codebook)[self.members]).view(self.shape)
        return weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        sums = weight.new_zeros(len(self.kept), dtype=torch.float64)
        sums.index_add_(0, self.members, weight.flatten()[self.places].double())
        counts = torch.bincount(self.members, minlength=len(self.kept)).clamp(min=1)
        return (sums / counts).to(weight.dtype)

    def rounded(self, codebook: Tensor) -> Tensor:
        """The codebook as it is stored."""
        entries = torch.where(self.kept, codebook, 0)
        return entries + (entries.half().to(entries.dtype) - entries).detach()

    def shared(self, codebook: Tensor) -> SharedWeight:
        """What is stored, the codebook ascending: training may have changed its order."""
        values, order = self.rounded(codebook.detach()).float().sort(stable=True)
        ranks = order.argsort().to(torch.uint8)
        indices = ranks[(~self.kept).long().argmax()].repeat(self.shape.numel())
        indices[self.places] = ranks[self.members]
        return SharedWeight(values + 0.0, indices.view(self.shape))


def share_model(
    model: nn.Module, *, bits: int | Mapping[str, int] = 4, bias_bits: int | None = None, keep_zeros: bool = True
) -> nn.Module:
    """A copy of ``model`` whose linear and convolution weights are codebook entries, to be trained as such.

    ∂L/∂codebook[k] = Σ of ∂L/∂w over the weights w with index k. Codebooks start from `kmeans_share` of the weights
    in use, under masks or other parametrizations, which the copy no longer has; indices stay as they are, and entries
    without a weight are left out. ``bits``: 1 to 8, or by layer name for those layers alone. ``bias_bits`` shares their
    biases, too. With ``keep_zeros`` (pruned) zeros stay exactly zero, whatever the optimizer does. The copy computes
    with codebooks rounded to float16: what it does is what `shared_weights` stores. Raises ``ValueError`` for a model
    without such layers, an unknown layer name, or weights that float16 cannot hold.

    Source: Han, Mao, Dally 2016, arXiv:1510.00149, section 3.3.
    """
    found = [name for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    chosen = dict(bits) if isinstance(bits, Mapping) else dict.fromkeys(found, bits)
    if not chosen or chosen.keys() - set(found):
        raise ValueError(f"nothing to share in {sorted(chosen)}: the linear and convolution layers are {found}")
    result = copy.deepcopy(model)
    for name in (name for name in found if name in chosen):
        layer = result.get_submodule(name)
        _share(layer, name, "weight", chosen[name], keep_zeros)
        if bias_bits is not None and layer.bias is not None:
            _share(layer, name, "bias", bias_bits, keep_zeros)
    return result


def shared_weights(model: nn.Module) -> dict[str, SharedWeight]:
    """The codebooks and indices of a `share_model`, by parameter name; values are float32 that float16 holds exactly.

    ``load_shared`` of the result into a plain model gives the weights that ``model`` computes with. Raises
    ``ValueError`` for a model that shares nothing, or a codebook that training has led beyond float16.
    """
    found: dict[str, SharedWeight] = {}
    for path, layer in model.named_modules():
        if not parametrize.is_parametrized(layer):
            continue
        for attribute, steps in cast(nn.ModuleDict, layer.parametrizations).items():
            values = cast(nn.ModuleList, steps)[0]
            if isinstance(values, SharedValues):
                name = f"{path}.{attribute}".lstrip(".")
                _check_half(name, cast(Tensor, steps.original))
                found[name] = values.shared(cast(Tensor, steps.original))
    if not found:
        raise ValueError("the model shares no weights: make it with share_model()")
    return found


def load_shared(model: nn.Module, shared: Mapping[str, SharedWeight]) -> None:
    """Put shared weights into the parameters of ``model`` that they are named after, in place.

    Raises ``ValueError`` naming the parameter, and changes nothing, where ``model`` has none of this name or shape.
    """
    parameters = dict(model.named_parameters())
    for name, entry in shared.items():
        if name not in parameters:
            raise ValueError(f"the model has no parameter {name!r}: it has {', '.join(parameters)}")
        if parameters[name].shape != entry.indices.shape:
            shapes = tuple(entry.indices.shape), tuple(parameters[name].shape)
            raise ValueError(f"{name!r} has shape {shapes[0]} as shared and {shapes[1]} in the model")
    with torch.no_grad():
        for name, entry in shared.items():
            parameters[name].copy_(entry.weight())


def drop_dead_units(shared: Mapping[str, SharedWeight]) -> dict[str, SharedWeight]:
    """The same network, without the weights into hidden units that no weight leaves: its outputs stay as they are.

    For multilayer perceptrons, ``shared`` holding the weights in the order of the layers. Such a unit's weights become
    zero, where the codebook has a zero, and its bias the commonest entry: both take fewer bytes in a coded file.
    Raises ``ValueError`` where two weights in a row do not fit together.
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


def renumber_units(shared: Mapping[str, SharedWeight]) -> dict[str, SharedWeight]:
    """The same network with its hidden units in another order, by bias and then by the number of outgoing weights.

    Outputs stay the same up to rounding in sums, and a coded file gets smaller: of n! equal networks it need not say
    which. For multilayer perceptrons, ``shared`` holding the weights in the order of the layers. Raises ``ValueError``
    where two weights in a row do not fit together.
    """
    result = dict(shared)
    for name, bias, following in _hidden_layers(shared):
        outgoing = (result[following].weight() != 0).sum(dim=0)
        order = outgoing.argsort(stable=True)
        if bias in result:
            order = order[result[bias].indices[order].argsort(stable=True)]
            result[bias] = result[bias]._replace(indices=result[bias].indices[order])
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


def _share(layer: nn.Module, name: str, attribute: str, bits: int, keep_zeros: bool) -> None:
    if parametrize.is_parametrized(layer, attribute):
        _own_class(layer)
        parametrize.remove_parametrizations(layer, attribute)
    parameter = cast(nn.Parameter, getattr(layer, attribute))
    shared = _without_unused(kmeans_share(parameter, bits=bits, keep_zeros=keep_zeros))
    _check_half(f"{name}.{attribute}", shared.codebook)
    if parametrize.is_parametrized(layer):
        _own_class(layer)
    parametrize.register_parametrization(layer, attribute, SharedValues(shared, keep_zeros=keep_zeros))


def _without_unused(shared: SharedWeight) -> SharedWeight:
    used, indices = shared.indices.unique(return_inverse=True)
    return SharedWeight(shared.codebook[used.long()], indices.to(torch.uint8))


def _check_half(name: str, codebook: Tensor) -> None:
    if not torch.isfinite(codebook.half()).all():
        raise ValueError(f"{name!r} has values that float16 cannot hold, up to {codebook.abs().max().item():g}")


def _lloyd(values: Tensor, clusters: int, iterations: int) -> Tensor:
    low, high = torch.aminmax(values)
    centroids = torch.linspace(0, 1, clusters, dtype=torch.float64) * (high - low) + low
    members = _nearest(values, centroids)
    for _ in range(iterations):
        sums, counts = (torch.bincount(members, weights, clusters) for weights in (values, torch.ones_like(values)))
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
        before, members = members, _nearest(values, centroids)
        if torch.equal(before, members):
            break
    return centroids


def _nearest(values: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest of ascending centroids: on a line, the cell borders are the midpoints."""
    return torch.bucketize(values, (centroids[1:] + centroids[:-1]) / 2)
