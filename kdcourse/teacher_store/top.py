"""The most probable classes of a teacher, and what is left for all others."""

from typing import NamedTuple

import torch
from torch import Tensor

from .._base.checks import check_classes, check_count, check_logits, check_no_nan, check_positive, widen


class TopK(NamedTuple):
    """The k most probable classes at each position, the most probable first."""

    log_probs: Tensor
    """(..., k), log softmax(logits / T)"""
    indices: Tensor
    """(..., k) int64"""
    log_rest: Tensor
    """(...), the logarithm of what is left for the other classes; -inf where nothing is"""


def top_k(logits: Tensor, *, k: int, temperature: float) -> TopK:
    """The k most probable of C classes and the logarithm of the rest, ln(1 - Σ_k p) with p = softmax(logits / T).

    Logits are (..., C). Half precision is computed in float32. The rest is summed over its own classes, so that a
    small one is not lost to rounding. Raises ``ValueError`` for k outside 1 to C, NaN and +inf.

    >>> top = top_k(torch.tensor([[0.25, 0.5, 0.125, 0.125]]).log(), k=2, temperature=1.0)
    >>> top.indices.tolist(), top.log_probs.exp(), top.log_rest.exp()
    ([[1, 0]], tensor([[0.5000, 0.2500]]), tensor([0.2500]))
    """
    check_logits("logits", logits)
    check_classes("logits", logits)
    check_count("k", k, least=1)
    check_positive("temperature", temperature)
    if k > logits.shape[-1]:
        raise ValueError(f"k must be at most the number of classes, {logits.shape[-1]}, got {k}")
    scaled = widen(logits.detach()) / temperature
    values, indices = scaled.topk(k, dim=-1)
    largest = values[..., :1]  # taken off first, so that large logits lose no digits
    weights = scaled.sub_(largest).exp_()
    total = weights.sum(dim=-1).log()
    if not torch.isfinite(total).all():
        check_no_nan("logits", logits)
    rest = weights.scatter_(-1, indices, 0.0).sum(dim=-1).log()
    return TopK(values - largest - total.unsqueeze(-1), indices, rest - total)


def normalised(top: TopK) -> TopK:
    """Rounded probabilities scaled so that they and the rest, which was not rounded, sum to 1 again."""
    kept = torch.log1p(-top.log_rest.exp()).unsqueeze(-1)
    return top._replace(log_probs=top.log_probs.log_softmax(dim=-1) + kept)
