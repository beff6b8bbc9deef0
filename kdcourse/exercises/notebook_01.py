"""Exercises of notebook 01: a split without leaks, an honest score, operations by hand, calibration."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .core import Case, Exercise, Misconception, case, draw

# --- 01.1 -------------------------------------------------------------------------------------------------------------

Rows = tuple[list[int], list[int]]


def split_rows(labels: list[int], per_class: int) -> Rows:
    taken = dict.fromkeys(labels, 0)
    train: list[int] = []
    validation: list[int] = []
    for row, label in enumerate(labels):
        taken[label] += 1
        (validation if taken[label] <= per_class else train).append(row)
    return train, validation


def split_by_sets(labels: list[int], per_class: int) -> Rows:
    held = {r for c in set(labels) for r in [i for i, label in enumerate(labels) if label == c][:per_class]}
    return [row for row in range(len(labels)) if row not in held], sorted(held)


def split_by_sorting(labels: list[int], per_class: int) -> Rows:
    order = torch.tensor(labels).argsort(stable=True)
    counts = torch.bincount(torch.tensor(labels))
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    held = torch.arange(len(labels)) - first < per_class
    return order[~held].sort().values.tolist(), order[held].sort().values.tolist()


def leaking(labels: list[int], per_class: int) -> Rows:
    return list(range(len(labels))), split_rows(labels, per_class)[1]


def first_rows_of_all(labels: list[int], per_class: int) -> Rows:
    held = per_class * len(set(labels))
    return list(range(held, len(labels))), list(range(held))


def too_few_in_all(labels: list[int], per_class: int) -> Rows:
    return list(range(per_class, len(labels))), list(range(per_class))


def parts_swapped(labels: list[int], per_class: int) -> Rows:
    train, validation = split_rows(labels, per_class)
    return validation, train


def split_cases() -> list[Case]:
    return [case([0, 0, 1, 0, 1], 1), case([2, 0, 1, 1, 0, 2, 2, 0, 1, 2, 1, 0], 2)]


SPLIT = Exercise(
    id="01.1",
    title="a split without leaks",
    question=(
        "Write `my_split_rows(labels, per_class)`. `labels` is a list of class numbers, one a row. Return two lists of "
        "row numbers, `train` and `validation`, both ascending: validation holds the first `per_class` rows of every "
        "class, train all others."
    ),
    skeleton=(
        'def my_split_rows(labels, per_class):\n    """Row numbers for train and for validation, both '
        'ascending."""\n    ...'
    ),
    reference=split_rows,
    alternatives=(split_by_sets, split_by_sorting),
    cases=split_cases,
    hints=(
        "Every row must be in exactly one of the two lists.",
        "Count for each class how many of its rows you have already put into validation.",
        "Go through `enumerate(labels)`; a row goes to validation while its class has fewer than `per_class` there.",
    ),
    misconceptions=(
        Misconception(
            "train keeps the validation rows",
            leaking,
            "your train list still holds the validation rows. The network is then measured on images it has learned "
            "by heart, and every score is too good",
        ),
        Misconception(
            "the first rows, whatever their class",
            first_rows_of_all,
            "you take the first rows whatever their class. Files are often sorted by class: validation then holds "
            "some classes too often and others never",
        ),
        Misconception(
            "per_class in all",
            too_few_in_all,
            "validation has `per_class` rows in all. It is to have as many of *every* class",
        ),
        Misconception(
            "train and validation swapped",
            parts_swapped,
            "the two lists are swapped: train comes first. You would train on the small part",
        ),
    ),
    shows="a split is honest when every row is in one part only and every class in both.",
    derivation=(
        "One pass over the rows: each goes to validation until its class is full there, and to train afterwards."
    ),
)

# --- 01.2 -------------------------------------------------------------------------------------------------------------


def honest_score(validation: list[float], test: list[float]) -> float:
    return test[validation.index(max(validation))]


def honest_by_sorting(validation: list[float], test: list[float]) -> float:
    return max(zip(validation, test, strict=True), key=lambda pair: pair[0])[1]


def honest_with_tensors(validation: list[float], test: list[float]) -> float:
    return float(torch.tensor(test, dtype=torch.float64)[torch.tensor(validation).argmax()])


def best_on_test(validation: list[float], test: list[float]) -> float:
    return max(test)


def the_score_it_was_chosen_by(validation: list[float], test: list[float]) -> float:
    return max(validation)


def last_epoch(validation: list[float], test: list[float]) -> float:
    return test[-1]


def mean_over_epochs(validation: list[float], test: list[float]) -> float:
    return sum(test) / len(test)


def honest_cases() -> list[Case]:
    return [case([0.9, 0.95, 0.93], [0.92, 0.91, 0.94]), case([0.97, 0.98, 0.96, 0.975], [0.965, 0.962, 0.97, 0.968])]


HONEST = Exercise(
    id="01.2",
    title="the score that may be reported",
    question=(
        "After every epoch a network was measured on validation and on test. Write "
        "`my_honest_score(validation, test)`, "
        "two lists of accuracies, one entry an epoch: return the number that may be reported."
    ),
    skeleton='def my_honest_score(validation, test):\n    """The accuracy that may be reported."""\n    ...',
    reference=honest_score,
    alternatives=(honest_by_sorting, honest_with_tensors),
    cases=honest_cases,
    hints=(
        "Choosing is one thing, reporting another.",
        "Choose the epoch by the list that may flatter you. Report from the list that took no part in the choice.",
        "The epoch is `validation.index(max(validation))`. Return `test` at that epoch.",
    ),
    misconceptions=(
        Misconception(
            "best epoch picked on the test set",
            best_on_test,
            "you pick the best epoch by its test score. The maximum picks out the luck too, so the number is "
            "optimistic: test has become a second validation set",
        ),
        Misconception(
            "the validation score reported",
            the_score_it_was_chosen_by,
            "you report the very score you chose by. It is the largest of several, so it flatters. Report the test "
            "score of the same epoch",
        ),
        Misconception(
            "the last epoch",
            last_epoch,
            "you report the last epoch. That is honest, but it throws away what validation told: choose the best there",
        ),
        Misconception(
            "the mean over epochs",
            mean_over_epochs,
            "you average over epochs, and so report networks that nobody would use",
        ),
    ),
    shows="what was chosen by a score cannot be reported by it.",
    derivation=(
        "Each score is truth plus luck. The maximum of validation contains the luck of validation. The test score of "
        "that epoch took no part in the choice, so its luck has mean zero."
    ),
)

# --- 01.3 -------------------------------------------------------------------------------------------------------------


def conv_macs(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    new_side = (side + 2 * padding - kernel) // stride + 1
    return outputs * new_side**2 * inputs * kernel**2


def macs_by_running(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    image, weight = torch.zeros(1, inputs, side, side), torch.zeros(outputs, inputs, kernel, kernel)
    return F.conv2d(image, weight, stride=stride, padding=padding).numel() * weight[0].numel()


def macs_by_positions(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    starts = range(-padding, side + padding - kernel + 1, stride)
    return sum(inputs * kernel * kernel for _ in range(outputs) for _ in starts for _ in starts)


def input_side(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return outputs * side**2 * inputs * kernel**2


def weights_only(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return outputs * inputs * kernel**2


def one_input_channel(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return conv_macs(1, outputs, kernel, side, stride, padding)


def additions_too(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return 2 * conv_macs(inputs, outputs, kernel, side, stride, padding)


def padding_on_one_side(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return outputs * ((side + padding - kernel) // stride + 1) ** 2 * inputs * kernel**2


def macs_cases() -> list[Case]:
    # the last has a side that the stride does not divide
    return [case(3, 4, 3, 8, 1, 0), case(16, 32, 3, 14, 2, 1), case(2, 5, 5, 9, 1, 2), case(2, 3, 3, 7, 2, 1)]


MACS = Exercise(
    id="01.3",
    title="the work of a convolution",
    question=(
        "Write `my_conv_macs(inputs, outputs, kernel, side, stride, padding)`: the number of "
        "multiply-accumulates of one "
        "convolution on one square image. `inputs` and `outputs` count channels, `side` is the image's side *before* "
        "the convolution, `padding` is added at each edge. Biases are not counted."
    ),
    skeleton=(
        "def my_conv_macs(inputs, outputs, kernel, side, stride, padding):\n"
        '    """Multiply-accumulates of one convolution on one image."""\n    ...'
    ),
    reference=conv_macs,
    alternatives=(macs_by_running, macs_by_positions),
    cases=macs_cases,
    hints=(
        "How many numbers come out, and what does one of them cost?",
        "One output number costs inputs × kernel × kernel. There are outputs × new side × new side of them.",
        "The new side is `(side + 2 * padding - kernel) // stride + 1`.",
    ),
    misconceptions=(
        Misconception(
            "the side before the convolution",
            input_side,
            "you use the side before the convolution. The filter stops only at every stride-th place: count the places "
            "of the *output*",
        ),
        Misconception(
            "weights for work",
            weights_only,
            "this is the number of weights. Each weight is used again at every place of the output: weights are not "
            "work",
        ),
        Misconception(
            "one input channel",
            one_input_channel,
            "you forget the input channels. Each output channel has a filter of its own for every one of them",
        ),
        Misconception(
            "operations for multiply-accumulates",
            additions_too,
            "twice too large: you count multiplication and addition apart. A multiply-accumulate is both at once. "
            "Published numbers mix the two, so a ratio of exactly two deserves suspicion",
        ),
        Misconception(
            "padding at one edge",
            padding_on_one_side,
            "padding is added at both edges, so the side grows by twice as much",
        ),
    ),
    shows="work is weights times places, which is why an early layer with few weights can cost most.",
    derivation=(
        "A filter fits at (side + 2·padding - kernel) // stride + 1 places along a side. Each of the outputs · places² "
        "numbers is a sum of inputs · kernel² products."
    ),
    forbidden=("kdcourse.metrics.count_macs",),
)

# --- 01.4 -------------------------------------------------------------------------------------------------------------


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


def calibration_cases() -> list[Case]:
    small = torch.tensor([[0.9, 0.1], [0.85, 0.15], [0.6, 0.4], [0.3, 0.7]], dtype=torch.float64).log()
    sure = 1.3 * draw(60, 4, seed=2)
    modest = 0.3 * draw(40, 3, seed=3)
    return [
        case(small, torch.tensor([0, 1, 0, 1]), bins=5),
        case(sure, (sure + draw(60, 4, seed=4)).argmax(dim=1), bins=15),
        case(modest, modest.argmax(dim=1), bins=4),
    ]


_ECE = "kdcourse.metrics.expected_calibration_error"
CALIBRATION = Exercise(
    id="01.4",
    title="the calibration error",
    question=(
        "A row's *confidence* is its largest probability. Sort the rows by confidence into `bins` equal bins "
        "over (0, 1]; an edge belongs to the bin below it. Write `my_calibration_error(logits, labels, *, "
        "bins=15)`: the "
        "distance of mean confidence and accuracy in each bin, averaged with the bins' shares of the rows as weights. "
        "Return a number."
    ),
    skeleton=(
        "def my_calibration_error(logits, labels, *, bins=15):\n"
        '    """Expected calibration error (Guo et al. 2017)."""\n    ...'
    ),
    reference=calibration_error,
    alternatives=(calibration_by_sums, calibration_by_loops),
    cases=calibration_cases,
    hints=(
        "Begin with a confidence and a right-or-wrong for each row.",
        "`torch.ceil(confidence * bins)` numbers the bins from 1. Skip the empty ones.",
        "For each bin: (rows in it / all rows) × |mean confidence - share right|. Sum over the bins.",
    ),
    misconceptions=(
        Misconception(
            "all bins weigh the same",
            bins_alike,
            "you average over the bins alike, so a bin with one row weighs as much as one with a thousand. Weight each "
            "by its share of the rows",
            _ECE,
        ),
        Misconception(
            "signed gaps",
            signed_gaps,
            "you sum gaps with their sign. Bins that are too sure and bins that are too modest cancel, and a badly "
            "calibrated network gets zero. Take the absolute value in each bin",
            _ECE,
        ),
        Misconception(
            "one bin",
            one_bin,
            "this is |mean confidence - accuracy| over all rows at once, or the absolute value was taken after the "
            "sum: faults of opposite sign cancel. Take it bin by bin",
            _ECE,
        ),
        Misconception(
            "the worst bin",
            worst_bin,
            "this is the largest gap of any bin, the *maximum* calibration error. It is another measure, and a single "
            "row can decide it",
            _ECE,
        ),
        Misconception(
            "confidence in the right class",
            confidence_of_the_label,
            "you use the probability of the label as confidence. The network does not know the label: its confidence "
            "is the largest probability, whichever class that is",
            _ECE,
        ),
    ),
    shows="calibration compares what a network says of itself with how often that is true, among alike answers.",
    derivation=(
        "ECE = Σ_b n_b/N · |conf(b) - acc(b)|. As n_b · (conf - acc) is the sum of confidence - right over the bin, it "
        "is also Σ_b |Σ_(i in b) (confidence_i - right_i)| / N. Source: Guo et al. 2017, arXiv:1706.04599, section 2."
    ),
    forbidden=(_ECE, "kdcourse.metrics.reliability"),
    relative=1e-4,
    points=2,
)

EXERCISES = (SPLIT, HONEST, MACS, CALIBRATION)
