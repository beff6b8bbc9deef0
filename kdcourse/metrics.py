"""What is measured: accuracy, agreement, calibration, intervals, sizes. Needs nothing else of `kdcourse`.

Logits are (..., C), classes last, labels (...) int64; a position labelled -100 is left out. Entropies are in nats.
Raises ``ValueError`` for NaN and infinity, for what does not pair up, for nothing left to measure and for labels that
are no class, ``TypeError`` for labels that are not int64.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, t
from torch import Tensor, nn

from ._base.checks import IGNORED, check_finite_float, check_label_range, check_labels, widen
from ._base.modes import Inputs, call, in_eval_mode, layer_by_layer
from ._base.operators import count_operations
from ._base.parametrizing import copied, make_permanent
from ._base.weights import CoverageWarning, all_places, check_initialised


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    mean: float
    low: float
    high: float


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
    logits, labels = _rows(logits, labels)
    return (logits.argmax(dim=-1) == labels).sum().item() / len(labels)


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Fraction of positions where both networks predict the same class (Stanton et al. 2021, arXiv:2106.05945).

    >>> agreement(torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([[9.0, 8.0], [1.0, 0.0]]))
    0.5
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"shapes differ: {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}")
    _check_numbers("teacher_logits", teacher_logits)
    return accuracy(student_logits, teacher_logits.argmax(dim=-1))


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """Counts (C, C): row = label, column = the class predicted.

    >>> confusion_matrix(torch.tensor([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0]]), torch.tensor([0, 1, 1]))
    tensor([[1, 0],
            [1, 1]])
    """
    logits, labels = _rows(logits, labels)
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
    logits, labels = _rows(logits, labels)
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
    logits, labels = _rows(logits, labels)
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), labels).item()

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x)


def accuracy_interval(correct: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a fraction of right answers: what another test set of this size might have shown.

    >>> low, high = accuracy_interval(981, 1000)[1:]
    >>> round(low, 4), round(high, 4)
    (0.9705, 0.9878)
    """
    _check_confidence(confidence)
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"need 0 <= correct <= total and total >= 1, got {correct} of {total}")
    found = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return Interval(correct / total, float(found.low), float(found.high))


def paired_interval(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of first - second, one pair a seed.

    Pairing removes what both arms share: the split, and a seed's initial weights and batch order.

    >>> interval = paired_interval([0.95, 0.97, 0.96], [0.94, 0.94, 0.94])
    >>> round(interval.mean, 4), round(interval.low, 4), round(interval.high, 4)
    (0.02, -0.0048, 0.0448)
    """
    _check_confidence(confidence)
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"need equally many results, at least 2, got {len(first)} and {len(second)}")
    if not all(math.isfinite(result) for result in (*first, *second)):
        raise ValueError("the results must not be NaN or infinite: leave out the pairs that were not measured")
    differences = torch.tensor(first, dtype=torch.float64) - torch.tensor(second, dtype=torch.float64)
    mean, error = differences.mean().item(), differences.std().item() / math.sqrt(len(differences))
    reach = float(t.ppf((1 + confidence) / 2, len(differences) - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


def cka(first: Tensor, second: Tensor, *, debiased: bool = False) -> float:
    """Linear centred kernel alignment of two networks' features (N, ...) for the same N examples, at most 1.

    HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)) with K = X Xᵀ. 1 for features that differ by a rotation, a scale and a
    shift. Features that have nothing in common are near 0 only if N is far above their number; ``debiased`` takes the
    unbiased estimate of HSIC instead (N >= 4), which is near 0 then, and may fall below it.

    Source: Kornblith et al. 2019, arXiv:1905.00414, section 3; debiased: Song et al. 2012, JMLR 13, equation 5.
    Raises ``ValueError`` for features that are the same for all examples.

    >>> features = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0]])
    >>> round(cka(features, 2 * features + 5), 6)
    1.0
    """
    least = 4 if debiased else 2
    if len(first) != len(second) or len(first) < least:
        raise ValueError(f"need features of the same {least} examples or more, got {len(first)} and {len(second)}")
    grams = []
    for name, features in (("first", first), ("second", second)):
        _check_numbers(name, features)
        features = features.detach().double().flatten(1)
        centred = features - features.mean(dim=0)  # also before debiasing, which is unchanged by a shift
        if centred.abs().max() <= 1e-12 * features.abs().max():
            raise ValueError(f"the {name} features are the same for all examples: CKA is undefined")
        grams.append(centred @ centred.T)
    hsic = _hsic_debiased if debiased else lambda one, other: (one * other).sum().item()
    own = [hsic(gram, gram) for gram in grams]
    if min(own) <= 0:
        raise ValueError(f"{len(first)} examples are too few for the debiased estimate of these features")
    return hsic(*grams) / math.sqrt(own[0] * own[1])


def _hsic_debiased(first: Tensor, second: Tensor) -> float:
    """The unbiased estimate, with all diagonals left out, from Gram matrices (N, N)."""
    n = len(first)
    first, second = (gram - gram.diagonal().diag() for gram in (first, second))  # diag() of a vector is a matrix
    whole = first.sum() * second.sum() / ((n - 1) * (n - 2))
    found = (first * second).sum() + whole - 2 * first.sum(dim=0) @ second.sum(dim=0) / (n - 2)
    return found.item() / (n * (n - 3))


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices, by rising cost, of the points that no other dominates; equal undominated points all stay.

    A point dominates another if it costs no more and gains no less, and is strictly better in one of the two.
    Raises ``ValueError`` for no points, unequally many costs and gains, or NaN, which nothing is better than; infinity
    has its place in the order.

    >>> pareto_front([30, 20, 10], [0.97, 0.90, 0.95])  # 20 costs more than 10 and gains less
    [2, 0]
    """
    if len(costs) != len(gains) or len(costs) == 0:
        raise ValueError(f"need one gain a cost and at least one point, got {len(costs)} costs and {len(gains)} gains")
    if any(math.isnan(value) for value in (*costs, *gains)):
        raise ValueError("costs and gains must not be NaN: leave out the points that were not measured")
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda index: (costs[index], -gains[index])):
        last = front[-1] if front else index
        equal = (costs[index], gains[index]) == (costs[last], gains[last])
        if equal or gains[index] > gains[last]:
            front.append(index)
    return front


def count_parameters(model: nn.Module) -> int:
    """How many numbers training may change; tied ones count once, those behind a computed weight as they are stored.

    Raises ``ValueError`` for a layer that is not initialised yet.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    check_initialised(model)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_macs(model: nn.Module, example: Inputs) -> int:
    """Multiply-accumulates of convolutions and matrix products for the batch ``example``, biases not counted.

    ``example`` is a tensor, a tuple of the model's inputs, or a dictionary of them by name. Attention and recurrent
    layers are counted as the matrix products that they are, whatever single operator computes them; what it takes to
    compute a weight is not counted. An operator that multiplies matrices and is not counted is named in a warning.

    >>> count_macs(nn.Linear(3, 2), torch.zeros(5, 3))
    30
    """
    if any(place.computed_by for place in all_places(model).values()):
        model = copied(model)
        make_permanent(model)
    with in_eval_mode(model), layer_by_layer(), torch.no_grad():
        operations, uncounted = count_operations(lambda: call(model, example))
    if uncounted:
        warnings.warn(f"not counted: {', '.join(uncounted)}", CoverageWarning, stacklevel=2)
    return operations // 2


def _rows(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (M, C) and labels (M,) of the positions that are not labelled -100."""
    _check_numbers("logits", logits)
    pairs = not isinstance(labels, Tensor) or labels.shape == logits.shape[:-1]
    if logits.ndim < 2 or logits.numel() == 0 or not pairs:
        shapes = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"need logits (N, C) and labels (N,), N >= 1, or both of a higher rank, got {shapes}")
    check_labels(labels, logits)
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    if check_label_range(labels, logits.shape[-1]):
        kept = labels != IGNORED
        logits, labels = logits[kept], labels[kept]
        if len(labels) == 0:
            raise ValueError(f"nothing is left to measure: the labels are {IGNORED} everywhere")
    return logits, labels


def _check_numbers(name: str, logits: Tensor) -> None:
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(logits).__name__}")
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name} contains NaN or infinity: look for a diverged model or a division by zero")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
