"""What predictions are worth: accuracy, agreement, entropy, calibration.

Logits are (..., C), classes last, labels (...) int64; a position labelled -100 is left out. Entropies are in nats.
Raises ``ValueError`` for NaN and infinity, for what does not pair up, for nothing left to measure and for labels that
are no class, ``TypeError`` for labels that are not int64.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from .._base.checks import check_finite_float, widen
from ._checks import check_numbers, rows_of


class Bins(NamedTuple):
    """A reliability diagram's data: mean confidence, accuracy and number of examples of each non-empty bin."""

    confidence: Tensor
    accuracy: Tensor
    examples: Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Fraction of positions whose largest logit is the label's.

    >>> accuracy(torch.tensor([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]]), torch.tensor([0, 1, 1]))
    0.6666666666666666
    """
    logits, labels = rows_of(logits, labels)
    return (logits.argmax(dim=-1) == labels).sum().item() / len(labels)


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Fraction of positions where both networks predict the same class (Stanton et al. 2021, arXiv:2106.05945).

    >>> agreement(torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([[9.0, 8.0], [1.0, 0.0]]))
    0.5
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"shapes differ: {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}")
    check_numbers("teacher_logits", teacher_logits)
    return accuracy(student_logits, teacher_logits.argmax(dim=-1))


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Counts (C, C): row = label, column = the class predicted.

    >>> confusion_matrix(torch.tensor([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]]), torch.tensor([0, 1, 1]))
    tensor([[1, 0],
            [1, 1]])
    """
    logits, labels = rows_of(logits, labels)
    classes = logits.shape[-1]
    pairs = labels * classes + logits.argmax(dim=-1)
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def entropy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Entropy (...) in nats of softmax(logits / temperature), classes last.

    >>> round(entropy(torch.tensor([0.5, 0.25, 0.25]).log()).item(), 4)  # 1.5 ln 2
    1.0397
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be > 0 and finite, got {temperature}")
    check_finite_float("logits", logits)
    log_p = F.log_softmax(widen(logits) / temperature, dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


def reliability(logits: Tensor, labels: Tensor, *, bins: int = 15) -> Bins:
    """Group the positions by confidence (the largest probability) into ``bins`` equal bins over (0, 1].

    >>> reliability(torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log(), torch.tensor([0, 1]), bins=2).examples
    tensor([2])
    """
    if bins < 1:
        raise ValueError(f"bins must be >= 1, got {bins}")
    logits, labels = rows_of(logits, labels)
    confidence, predicted = F.softmax(logits.double(), dim=-1).max(dim=-1)
    right = (predicted == labels).double()
    # bin k is (k/bins, (k+1)/bins], as in Guo et al.
    place = torch.ceil(confidence * bins).long().clamp(1, bins) - 1
    count = torch.bincount(place, minlength=bins)
    kept = count > 0
    mean_confidence = torch.bincount(place, weights=confidence, minlength=bins)[kept] / count[kept]
    mean_right = torch.bincount(place, weights=right, minlength=bins)[kept] / count[kept]
    return Bins(mean_confidence, mean_right, count[kept])


def expected_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their examples.

    Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 2.

    >>> logits = torch.tensor([[0.9, 0.1], [0.9, 0.1]], dtype=torch.float64).log()
    >>> round(expected_calibration_error(logits, torch.tensor([0, 1])), 4)  # confidence 0.9, right in half
    0.4
    """
    groups = reliability(logits, labels, bins=bins)
    fraction = groups.examples.double() / groups.examples.sum()
    return (fraction * (groups.confidence - groups.accuracy).abs()).sum().item()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The one temperature in [0.05, 20] that minimises the cross-entropy of logits / T; fit it on validation.

    Source: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599, section 4.2.

    >>> logits = torch.tensor([[4.0, 0.0]] * 4, dtype=torch.float64)  # certain of class 0, right in 3 of 4
    >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)  # 4 / ln 3
    3.641
    """
    logits, labels = rows_of(logits, labels)
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), labels).item()

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x)
