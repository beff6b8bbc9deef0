"""Weight sharing: a layer's weights drawn from a small codebook, so that only an index per weight is stored."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._base.checks import check_bits, check_finite, widen
from .._base.parametrizing import add_step, copied, store
from .._base.weights import COVERED, Place, all_places, matrices, owners, warn_left_out


class SharedWeight(NamedTuple):
    """``codebook`` (2^bits,) ascending, in the weight's type, and for each weight the ``indices`` into it, uint8."""

    codebook: Tensor
    indices: Tensor

    def weight(self) -> Tensor:
        """The shared weights as floats."""
        return self.codebook[self.indices.long()]


def kmeans_share(weight: Tensor, *, bits: int, keep_zeros: bool = False, iterations: int = 300) -> SharedWeight:
    """Cluster the weights by k-means into 2^bits shared values: Lloyd's algorithm on the line, in float64.

    The centroids start evenly spaced from the smallest to the largest weight: the few large weights matter, and
    random or density-based starts leave them without a centroid. Stops when no weight changes its cluster, or after
    ``iterations``. An empty cluster keeps its centroid; a weight halfway goes to the lower one. With ``keep_zeros``
    zeros (pruned weights) keep a value of their own and the other 2^bits - 1 are clustered without them.
    ``bits`` from 1 to 8. Nothing is random.

    Source: Han, Mao, Dally 2016, arXiv:1510.00149, section 3, with linear initialisation (3.2).

    >>> shared = kmeans_share(torch.tensor([0.0, 1.0, 9.0, 10.0]), bits=1)
    >>> shared.codebook, shared.indices
    (tensor([0.5000, 9.5000]), tensor([0, 0, 1, 1], dtype=torch.uint8))
    """
    check_finite("weight", weight)
    check_bits(bits, least=1)
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
    """A copy of ``model`` whose weights are codebook entries, to be trained as such.

    ∂L/∂codebook[k] = Σ of ∂L/∂w over the weights w with index k. Codebooks start from `kmeans_share` of the weights
    in use, under masks or other parametrizations, which the copy no longer has; indices do not change, and entries
    without a weight are left out. ``bits``: 1 to 8, or by layer name for those layers alone: linear, convolution and
    recurrent layers and attention; what else there is is named in a warning. ``bias_bits`` shares their biases as well.
    With ``keep_zeros`` (pruned) zeros stay exactly zero, whatever the optimizer does. The copy computes with codebooks
    rounded to float16: what it does is what `shared_weights` stores. Raises ``ValueError`` for a model without such
    layers, an unknown layer name, tied weights, or weights that float16 cannot represent.

    Source: Han, Mao, Dally 2016, arXiv:1510.00149, section 3.3.

    >>> sharing = share_model(nn.Sequential(nn.Linear(8, 4)), bits=2)
    >>> len(sharing[0].weight.unique()) <= 4
    True
    """
    found = matrices(model)
    chosen = dict(bits) if isinstance(bits, Mapping) else dict.fromkeys(found, bits)
    if not chosen or chosen.keys() - found.keys():
        raise ValueError(f"nothing to share in {sorted(chosen)}: the linear and convolution layers are {list(found)}")
    if not isinstance(bits, Mapping):
        warn_left_out(model, found.values(), COVERED)
    result = copied(model)
    places, ties = _by_parameter(result), owners(result)
    for name in (name for name in found if name in chosen):
        weight = _full_name(name, found[name].attribute)
        bits_of = {weight: chosen[name]}
        if bias_bits is not None:
            module = places[weight].module
            bits_of |= {n: bias_bits for n, p in places.items() if p.module is module and _is_bias(p)}
        for full, width in bits_of.items():
            if len(ties.get(id(places[full].stored), ())) > 1:
                tied = " and ".join(ties[id(places[full].stored)])
                raise ValueError(f"{tied} are one tied tensor: name the layers to share, and their bits, with bits=")
            _share(full, places[full], width, keep_zeros)
    return result


def shared_weights(model: nn.Module) -> dict[str, SharedWeight]:
    """The codebooks and indices of a `share_model`, by parameter name; values are exact in float16.

    ``load_shared`` of the result into a plain model gives the weights that ``model`` computes with. Raises
    ``ValueError`` for a model that shares nothing, a codebook that training has led beyond float16, or shared weights
    that are rounded on top.

    >>> shared = shared_weights(share_model(nn.Sequential(nn.Linear(8, 4)), bits=2, bias_bits=1))
    >>> {name: tuple(entry.indices.shape) for name, entry in shared.items()}
    {'0.weight': (4, 8), '0.bias': (4,)}
    """
    found: dict[str, SharedWeight] = {}
    for name, place in _by_parameter(model).items():
        if not place.steps or not isinstance(place.steps[0], SharedValues):
            continue
        if len(place.steps) > 1:
            raise ValueError(f"{name!r} is shared, and then computed by {place.computed_by}")
        _check_half(name, place.stored)
        found[name] = place.steps[0].shared(place.stored)
    if not found:
        raise ValueError("the model shares no weights: make it with share_model()")
    return found


def load_shared(model: nn.Module, shared: Mapping[str, SharedWeight]) -> None:
    """Put shared weights into the parameters of ``model`` that they are named after, in place.

    Raises ``ValueError`` naming the parameter, and changes nothing, where ``model`` has none of this name or shape, or
    one that is computed or of a type that cannot hold the values.

    >>> model = nn.Sequential(nn.Linear(8, 4))
    >>> sharing = share_model(model, bits=2)
    >>> load_shared(model, shared_weights(sharing))
    >>> torch.equal(model[0].weight, sharing[0].weight)
    True
    """
    places = _by_parameter(model)
    for name, entry in shared.items():
        if name not in places:
            raise ValueError(f"the model has no parameter {name!r}: it has {', '.join(places)}")
        if places[name].computed_by:
            raise ValueError(f"{name!r} of the model is computed by {places[name].computed_by}")
        parameter = places[name].stored
        if parameter.shape != entry.indices.shape:
            shapes = tuple(entry.indices.shape), tuple(parameter.shape)
            raise ValueError(f"{name!r} has shape {shapes[0]} as shared and {shapes[1]} in the model")
        if not torch.equal(entry.codebook.to(parameter.dtype).to(entry.codebook.dtype), entry.codebook):
            raise ValueError(f"{name!r} is {parameter.dtype} in the model, which cannot hold the shared values exactly")
    with torch.no_grad():
        for name, entry in shared.items():
            places[name].stored.copy_(entry.weight())


def _by_parameter(model: nn.Module) -> dict[str, Place]:
    return {_full_name(name, place.attribute): place for name, place in all_places(model).items()}


def _full_name(name: str, attribute: str) -> str:
    return f"{name}.weight".lstrip(".") if attribute == "weight" else name


def _is_bias(place: Place) -> bool:
    return "bias" in place.attribute and place.stored.ndim == 1


def _share(name: str, place: Place, bits: int, keep_zeros: bool) -> None:
    if place.computed_by:
        store(place)
    shared = _without_unused(kmeans_share(widen(place.stored), bits=bits, keep_zeros=keep_zeros))
    _check_half(name, shared.codebook)
    add_step(place, SharedValues(shared, keep_zeros=keep_zeros))


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
