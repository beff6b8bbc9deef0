"""How similar what two networks compute is, whatever the axes in which they compute it."""

import math

from torch import Tensor

from ._checks import check_numbers


def cka(first: Tensor, second: Tensor, *, debiased: bool = False) -> float:
    """Linear centred kernel alignment of two networks' features (N, ...) for the same N examples, at most 1.

    HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)) with K = X Xᵀ. 1 for features that differ by a rotation, a scale and a
    shift. Features that have nothing in common are near 0 only if N is far above their number; ``debiased`` takes the
    unbiased estimate of HSIC instead (N >= 4), which is near 0 then, and may fall below it.

    Source: Kornblith et al. 2019, arXiv:1905.00414, section 3; debiased: Song et al. 2012, JMLR 13, equation 5.
    Raises ``ValueError`` for fewer than three examples, and for features that are the same for all of them.

    >>> features = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0]])
    >>> round(cka(features, 2 * features + 5), 6)
    1.0
    """
    least = 4 if debiased else 3  # two examples always agree
    for name, features in (("first", first), ("second", second)):
        check_numbers(name, features)
        if features.ndim < 2 or features.numel() == 0:
            raise ValueError(f"{name} must be features (N, ...), examples first, got {tuple(features.shape)}")
    if len(first) != len(second) or len(first) < least:
        raise ValueError(f"need features of the same {least} examples or more, got {len(first)} and {len(second)}")
    grams = []
    for name, features in (("first", first), ("second", second)):
        features = features.detach().double().flatten(1)
        centred = features - features.mean(dim=0)  # also before debiasing, which is unchanged by a shift
        if centred.abs().max() <= 1e-12 * features.abs().max():
            raise ValueError(f"the {name} features are the same for all examples: CKA is undefined")
        centred = centred / centred.abs().max()  # no scale matters, and no square overflows
        grams.append(centred @ centred.T)
    hsic = _hsic_debiased if debiased else lambda one, other: (one * other).sum().item()
    own = [hsic(gram, gram) for gram in grams]
    if min(own) <= 0:
        raise ValueError(f"{len(first)} examples are too few for the debiased estimate of these features")
    return min(1.0, hsic(*grams) / math.sqrt(own[0]) / math.sqrt(own[1]))  # 1 and no rounding above it


def _hsic_debiased(first: Tensor, second: Tensor) -> float:
    """The unbiased estimate, with all diagonals left out, from Gram matrices (N, N)."""
    n = len(first)
    first, second = (gram - gram.diagonal().diag() for gram in (first, second))  # diag() of a vector is a matrix
    whole = first.sum() * second.sum() / ((n - 1) * (n - 2))
    found = (first * second).sum() + whole - 2 * first.sum(dim=0) @ second.sum(dim=0) / (n - 2)
    return found.item() / (n * (n - 3))
