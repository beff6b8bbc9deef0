"""22.18 a calibration error that jumps."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def calibration_error(confidences: Tensor, correct: Tensor, bins: int) -> float:
    places = (confidences * bins).long().clamp(max=bins - 1)
    error = 0.0
    for place in range(bins):
        inside = places == place
        if inside.any():
            gap = correct[inside].double().mean() - confidences[inside].mean()
            error += inside.double().mean().item() * gap.abs().item()
    return error


def by_adding_up(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    places = torch.floor(confidences * bins).long()
    places[places == bins] -= 1
    sums = torch.zeros(bins, dtype=confidences.dtype).index_add(0, places, correct.to(confidences.dtype) - confidences)
    return sums.abs().sum() / len(confidences)


def by_sorting(confidences: Tensor, correct: Tensor, bins: int) -> float:
    total: dict[int, float] = {}
    for confidence, hit in zip(confidences.tolist(), correct.tolist(), strict=True):
        place = bins - 1 if confidence >= 1 else int(confidence * bins)
        total[place] = total.get(place, 0.0) + confidence - hit
    return sum(map(abs, total.values())) / len(confidences)


def _sums(confidences: Tensor, correct: Tensor, places: Tensor, count: int) -> Tensor:
    """Of each bin the sum of correct minus confidence."""
    gaps = correct.to(confidences.dtype) - confidences
    return torch.zeros(count, dtype=confidences.dtype).index_add(0, places, gaps)


def _places(confidences: Tensor, bins: int) -> Tensor:
    return (confidences * bins).long().clamp(max=bins - 1)


def one_bin_too_many(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    return _sums(confidences, correct, (confidences * bins).long(), bins + 1).abs().sum() / len(confidences)


def last_bin_left_out(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    return _sums(confidences, correct, (confidences * bins).long(), bins + 1)[:bins].abs().sum() / len(confidences)


def certain_ones_left_out(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    below = confidences < 1
    some, hits = confidences[below], correct[below]
    return _sums(some, hits, _places(some, bins), bins).abs().sum() / max(1, len(some))


def certain_ones_in_the_first(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    return _sums(confidences, correct, (confidences * bins).long() % bins, bins).abs().sum() / len(confidences)


def edges_to_the_left(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    places = (torch.ceil(confidences * bins).long() - 1).clamp(min=0)
    return _sums(confidences, correct, places, bins).abs().sum() / len(confidences)


def rounded_places(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    places = torch.round(confidences * (bins - 1)).long()
    return _sums(confidences, correct, places, bins).abs().sum() / len(confidences)


def bins_weigh_the_same(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    places = _places(confidences, bins)
    counts = torch.bincount(places, minlength=bins).clamp(min=1)
    return (_sums(confidences, correct, places, bins) / counts).abs().sum() / bins


def the_largest_gap(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    places = _places(confidences, bins)
    counts = torch.bincount(places, minlength=bins).clamp(min=1)
    return (_sums(confidences, correct, places, bins) / counts).abs().max()


def signs_kept(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    return (confidences - correct.to(confidences.dtype)).mean()


def image_by_image(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    return (confidences - correct.to(confidences.dtype)).abs().mean()


def middles_of_bins(confidences: Tensor, correct: Tensor, bins: int) -> Tensor:
    places = _places(confidences, bins)
    return _sums((places + 0.5) / bins, correct, places, bins).abs().sum().to(confidences.dtype) / len(confidences)


def calibration_cases() -> list[Case]:
    def of(values: list[float], hits: list[int], bins: int) -> Case:
        return case(torch.tensor(values, dtype=torch.float64), torch.tensor(hits, dtype=torch.bool), bins)

    return [
        of([0.95, 1.0], [1, 0], 2),
        of([1.0, 1.0, 0.875], [0, 1, 1], 4),
        of([0.5, 0.25, 0.75, 1.0, 0.3], [0, 1, 1, 1, 0], 4),
        of([0.1, 0.9, 0.85, 0.6, 1.0, 1.0, 0.97, 0.45], [0, 1, 0, 1, 1, 0, 0, 1], 8),
        of([0.6, 0.7, 0.0], [1, 0, 0], 1),
        of([1.0], [0], 8),
    ]


def drawn_calibration(g: torch.Generator) -> Case:
    count = integer(g, 3, 30)
    confidences = draw(count, seed=g).sigmoid()
    confidences[torch.rand(count, generator=g) < 0.2] = 1.0
    return case(confidences, torch.rand(count, generator=g) < 0.7, integer(g, 1, 10))


EXERCISE = Exercise(
    id="22.18",
    title="a calibration error that jumps",
    question=(
        "Fix `case_18` as `fixed_18(confidences, correct, bins)`: the expected calibration error of N predictions. "
        "`confidences` (N,) lie in [0, 1], `correct` (N,) are booleans. The `bins` bins have equal width: bin k, "
        "counted from 0, goes from k / bins up to but not including (k + 1) / bins, and only the last one includes "
        "its upper end, 1. Return the sum over the bins of (number of its predictions / N) · |its accuracy - its mean "
        "confidence|; an empty bin adds nothing."
    ),
    skeleton=(
        "def fixed_18(confidences, correct, bins):\n"
        '    """The expected calibration error, with confidences of exactly 1 in the last bin."""\n    ...'
    ),
    reference=calibration_error,
    alternatives=(by_adding_up, by_sorting),
    cases=calibration_cases,
    drawn=drawn_calibration,
    hints=(
        "Into how many bins do the predictions fall? Count them for confidences of 0.95 and 1.",
        "A softmax reaches exactly 1 in floating point. Which bin number is `int(1.0 * bins)`?",
        "Put it into the last one: `(confidences * bins).long().clamp(max=bins - 1)`.",
    ),
    misconceptions=(
        Misconception(
            "one bin too many",
            one_bin_too_many,
            "confidences of exactly 1 get a bin of their own, one more than `bins`. There they are averaged without "
            "the other confident predictions, and gaps that belong together are counted apart",
        ),
        Misconception(
            "the certain ones not counted",
            last_bin_left_out,
            "confidences of exactly 1 fall out of all bins: the most confident mistakes cost nothing",
        ),
        Misconception(
            "the certain ones removed",
            certain_ones_left_out,
            "you remove the predictions with confidence 1, and divide by what is left: the error is that of the others",
        ),
        Misconception(
            "the certain ones in the first bin",
            certain_ones_in_the_first,
            "confidences of exactly 1 wrap around into bin 0, among the least confident ones",
        ),
        Misconception(
            "edges to the lower bin",
            edges_to_the_left,
            "a confidence on the edge of two bins belongs to the upper one; only 1 itself belongs to the bin below. "
            "You put all edges into the lower bin",
        ),
        Misconception(
            "rounded to a bin",
            rounded_places,
            "you round to the nearest of `bins` points: the first and the last bin are then half as wide as the others",
        ),
        Misconception(
            "bins of equal weight",
            bins_weigh_the_same,
            "each bin counts the same. Weight it by the fraction of the predictions in it",
        ),
        Misconception(
            "the largest gap",
            the_largest_gap,
            "this is the largest gap of all bins, the maximum calibration error. The expected one weights all bins",
        ),
        Misconception(
            "signs kept",
            signs_kept,
            "without absolute values the bins cancel: this is the mean confidence minus the accuracy, whatever the "
            "bins",
        ),
        Misconception(
            "image by image",
            image_by_image,
            "you take the gap of every single prediction: a calibrated confidence of 0.7 would still cost 0.42 on "
            "average. Average within a bin first",
        ),
        Misconception(
            "middles of the bins",
            middles_of_bins,
            "you compare the accuracy with the middle of the bin. Compare it with the mean confidence in the bin",
        ),
    ),
    shows="floating-point numbers reach the ends of their range, so an edge belongs to a bin or to nobody.",
    derivation=(
        "Within a bin gaps of opposite sign cancel, between bins they do not: splitting a bin never lowers the error, "
        "and usually raises it. An extra bin at exactly 1 is such a split, and how much it changes depends on rounding."
    ),
)
