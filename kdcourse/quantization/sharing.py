"""Weight sharing: a layer's weights drawn from a small codebook, so that only an index a weight is stored."""

from typing import NamedTuple

import torch
from torch import Tensor

from .affine import check_finite


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
