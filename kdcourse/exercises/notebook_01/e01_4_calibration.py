"""01.4 the calibration error."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def calibration_error(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    confidence, named = F.softmax(logits.double(), dim=-1).max(dim=-1)
    right = (named == labels).double()
    place = torch.ceil(confidence * bins)
    error = 0.0
    for number in place.unique():
        inside = place == number
        gap = (confidence[inside].mean() - right[inside].mean()).abs()
        error += (inside.double().mean() * gap).item()
    return error


def calibration_by_sums(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    confidence, named = F.softmax(logits.double(), dim=-1).max(dim=-1)
    place = (confidence * bins).ceil().long() - 1
    surplus = torch.zeros(bins, dtype=torch.float64).index_add(0, place, confidence - (named == labels).double())
    return surplus.abs().sum().item() / len(labels)


def calibration_by_loops(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    sums = [0.0] * bins
    for row, label in zip(F.softmax(logits, dim=1).tolist(), labels.tolist(), strict=True):
        place = next(k for k in range(bins) if max(row) <= (k + 1) / bins + 1e-12)
        sums[place] += max(row) - (row.index(max(row)) == label)
    return sum(abs(total) for total in sums) / len(labels)


def _bins(logits: Tensor, labels: Tensor, bins: int) -> list[tuple[float, float]]:
    confidence, named = F.softmax(logits.double(), dim=-1).max(dim=-1)
    surplus = confidence - (named == labels).double()
    place = torch.ceil(confidence * bins)
    inside = [place == number for number in place.unique()]
    return [(surplus[rows].mean().item(), rows.double().mean().item()) for rows in inside]


def bins_alike(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    found = _bins(logits, labels, bins)
    return sum(abs(gap) for gap, _ in found) / len(found)


def signed_gaps(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return sum(gap * share for gap, share in _bins(logits, labels, bins))


def one_bin(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return abs(signed_gaps(logits, labels, bins=bins))


def worst_bin(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return max(abs(gap) for gap, _ in _bins(logits, labels, bins))


def confidence_of_the_label(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    p = F.softmax(logits.double(), dim=-1)
    confidence, right = p[torch.arange(len(labels)), labels], (p.argmax(dim=-1) == labels).double()
    place = torch.ceil(confidence * bins).clamp(min=1).long() - 1
    return torch.bincount(place, weights=confidence - right, minlength=bins).abs().sum().item() / len(labels)


def _loop(confidence: Tensor, right: Tensor, bins: int, *, closed_below: bool = False) -> float:
    """Bin by bin; a row outside all bins is lost."""
    error = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = (
            (confidence >= low) & (confidence < high) if closed_below else (confidence > low) & (confidence <= high)
        )
        error += abs((confidence[inside] - right[inside]).sum().item()) / len(right)
    return error


def _rows(logits: Tensor, labels: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    confidence, named = F.softmax(logits.double(), dim=dim).max(dim=-1)
    return confidence, (named == labels).double()


def empty_bins_too(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return sum(abs(gap) for gap, _ in _bins(logits, labels, bins)) / bins


def logits_for_confidence(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    confidence, named = logits.double().max(dim=-1)
    return _loop(confidence, (named == labels).double(), bins)


def softmax_over_the_batch(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return _loop(*_rows(logits, labels, dim=0), bins)


def edges_to_the_bin_above(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    confidence, right = _rows(logits, labels)
    place = (confidence * bins).long().clamp(max=bins - 1)
    return torch.bincount(place, weights=confidence - right).abs().sum().item() / len(labels)


def the_surest_lost(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return _loop(*_rows(logits, labels), bins, closed_below=True)


def always_fifteen(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return calibration_error(logits, labels, bins=15)


def always_ten(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return calibration_error(logits, labels, bins=10)


def mean_of_nothing(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    confidence, _ = _rows(logits, labels)
    empty = len(torch.ceil(confidence * bins).unique()) < bins
    return float("nan") if empty else calibration_error(logits, labels, bins=bins)


def root_of_squares(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return float(sum(gap**2 * share for gap, share in _bins(logits, labels, bins)) ** 0.5)


def middle_of_the_bin(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    confidence, right = _rows(logits, labels)
    middle = (torch.ceil(confidence * bins) - 0.5) / bins
    place = torch.ceil(confidence * bins).long() - 1
    return torch.bincount(place, weights=middle - right).abs().sum().item() / len(labels)


def bins_of_equal_counts(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    confidence, right = _rows(logits, labels)
    parts = (confidence - right)[confidence.argsort()].tensor_split(bins)
    return sum(abs(part.sum().item()) for part in parts) / len(labels)


def in_per_cent(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    return 100 * calibration_error(logits, labels, bins=bins)


def calibration_cases() -> list[Case]:
    small = torch.tensor([[0.9, 0.1], [0.85, 0.15], [0.6, 0.4], [0.3, 0.7]], dtype=torch.float64).log()
    sure = 1.3 * draw(60, 4, seed=2)
    modest = 0.3 * draw(40, 3, seed=3)
    mixed = draw(50, 5, seed=5, spread=1.5)
    labels = (mixed + draw(50, 5, seed=6, spread=2.0)).argmax(dim=1)
    # two rows of confidence 1/2 exactly, on an edge, and wrong whichever of the equals is named; one of exactly 1
    nothing = -2000.0
    edges = torch.tensor(
        [[0.0, 0.0, nothing], [0.7, 0.6, 0.5], [0.0, nothing, 0.0], [1.2, 0.0, 0.0], [0.0, 2000.0, 0.0]]
    )
    return [
        case(small, torch.tensor([0, 1, 0, 1]), bins=5),
        case(sure, (sure + draw(60, 4, seed=4)).argmax(dim=1), bins=15),
        case(modest, modest.argmax(dim=1), bins=4),
        case(edges.double(), torch.tensor([2, 0, 1, 0, 0]), bins=4),
        case(edges, torch.tensor([2, 0, 1, 0, 1]), bins=2),
        case(mixed, labels),
        case(mixed, labels, bins=1),
        case(mixed.float(), labels, bins=7),
    ]


def drawn_rows(generator: torch.Generator) -> Case:
    logits = draw(integer(generator, 10, 40), integer(generator, 2, 6), seed=generator, spread=1.5)
    labels = (logits + draw(*logits.shape, seed=generator, spread=2.0)).argmax(dim=1)
    return case(logits, labels, bins=integer(generator, 2, 20))


_ECE = "kdcourse.metrics.expected_calibration_error"
EXERCISE = Exercise(
    id="01.4",
    title="the calibration error",
    question=(
        "A row's *confidence* is its largest probability. Sort the rows by confidence into `bins` bins of equal "
        "width over (0, 1]; an edge belongs to the bin below it. Write `my_calibration_error(logits, labels, *, "
        "bins=15)`: the absolute difference between mean confidence and accuracy in each bin, averaged over the "
        "bins, each weighted by its fraction of the rows. Return a number."
    ),
    skeleton=(
        "def my_calibration_error(logits, labels, *, bins=15):\n"
        '    """Expected calibration error (Guo et al. 2017)."""\n    ...'
    ),
    reference=calibration_error,
    alternatives=(calibration_by_sums, calibration_by_loops),
    cases=calibration_cases,
    drawn=drawn_rows,
    hints=(
        "Start with the confidence of each row and whether its prediction is correct.",
        "`torch.ceil(confidence * bins)` numbers the bins from 1. Skip the empty ones.",
        "For each bin: (rows in it / all rows) × |mean confidence - accuracy|. Sum over the bins.",
    ),
    misconceptions=(
        Misconception(
            "all bins weighted equally",
            bins_alike,
            "you weight all bins equally, so a bin with one row counts as much as one with a thousand. Weight each "
            "by its fraction of the rows",
            _ECE,
        ),
        Misconception(
            "signed gaps",
            signed_gaps,
            "you sum the gaps with their signs. Overconfident and underconfident bins cancel, and a badly calibrated "
            "network gets zero. Take the absolute value in each bin",
            _ECE,
        ),
        Misconception(
            "one bin",
            one_bin,
            "this is |mean confidence - accuracy| over all rows at once, or you took the absolute value after the "
            "sum: errors of opposite sign cancel. Take it bin by bin",
            _ECE,
        ),
        Misconception(
            "the worst bin",
            worst_bin,
            "this is the largest gap of any bin, the *maximum* calibration error. That is a different measure, and a "
            "single row can determine it",
            _ECE,
        ),
        Misconception(
            "confidence in the correct class",
            confidence_of_the_label,
            "you use the probability of the label as confidence. The network does not know the label: its confidence "
            "is the largest probability, whichever class that is",
            _ECE,
        ),
        Misconception(
            "empty bins counted",
            empty_bins_too,
            "you divide by the number of bins, so empty bins count as perfect and one row counts as much as a "
            "thousand. Weight each bin by its fraction of the rows",
        ),
        Misconception(
            "logits instead of confidence",
            logits_for_confidence,
            "you use the largest logit as the confidence. A logit is not a probability: apply softmax first",
        ),
        Misconception(
            "softmax over the batch",
            softmax_over_the_batch,
            "softmax over dimension 0 makes rows compete with one another. Classes are the last dimension",
        ),
        Misconception(
            "edges in the bin above",
            edges_to_the_bin_above,
            "correct except for rows on an edge: rounding down puts them into the bin above. An edge belongs to the "
            "bin below it: round up",
        ),
        Misconception(
            "the most confident rows lost",
            the_surest_lost,
            "your bins include their lower edge and not the upper one. A row with confidence 1 is then in no bin at "
            "all, and other edges are in the bin above: low < confidence <= high",
        ),
        Misconception("bins ignored, fifteen", always_fifteen, "you always use 15 bins, whatever `bins` says"),
        Misconception("bins ignored, ten", always_ten, "you always use 10 bins, whatever `bins` says"),
        Misconception(
            "the mean of an empty bin",
            mean_of_nothing,
            "correct until a bin is empty: the mean of nothing is not a number, and its weight of 0 does not help. "
            "Skip it",
        ),
        Misconception(
            "root of the mean square",
            root_of_squares,
            "you average squares and take the root. That is a different measure; here the absolute differences are "
            "averaged",
        ),
        Misconception(
            "the middle of the bin",
            middle_of_the_bin,
            "you use the middle of each bin as its confidence. Use the mean confidence of the rows in it",
        ),
        Misconception(
            "bins of equal counts",
            bins_of_equal_counts,
            "your bins contain equally many rows. Here they are equally wide",
        ),
        Misconception("in per cent", in_per_cent, "exactly 100 times too large: you return per cent"),
    ),
    shows=(
        "calibration compares a network's confidence with how often it is correct, among predictions of similar "
        "confidence."
    ),
    derivation=(
        "ECE = Σ_b n_b/N · |conf(b) - acc(b)|. As n_b · (conf - acc) is the sum of confidence - correct over the "
        "bin, it is also Σ_b |Σ_(i in b) (confidence_i - correct_i)| / N. Source: Guo et al. 2017, arXiv:1706.04599, "
        "section 2."
    ),
    forbidden=(_ECE, "kdcourse.metrics.reliability"),
    relative=1e-4,
    points=2,
)
