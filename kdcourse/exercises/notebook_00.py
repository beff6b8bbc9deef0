"""Exercises of notebook 00: a share of right answers, and a gain over pairs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .core import SHAPES, Case, Exercise, Misconception, case, draw, refusal

# --- 00.1 -------------------------------------------------------------------------------------------------------------


def accuracy(logits: Tensor, labels: Tensor) -> float:
    if labels.shape != logits.shape[:1]:
        raise ValueError(f"shapes do not pair up: {tuple(logits.shape)} and {tuple(labels.shape)}")
    right = logits.argmax(dim=-1) == labels
    return right.double().mean().item()


def accuracy_by_counting(logits: Tensor, labels: Tensor) -> float:
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    return sum(row.index(max(row)) == label for row, label in rows) / len(labels)


def accuracy_by_gather(logits: Tensor, labels: Tensor) -> float:
    if len(labels) != len(logits):
        raise ValueError("not equally many")
    own = F.softmax(logits, dim=1).gather(1, labels[:, None]).squeeze(1)
    return float((own == F.softmax(logits, dim=1).amax(dim=1)).float().mean())


def right_answers(logits: Tensor, labels: Tensor) -> float:
    return accuracy(logits, labels) * len(labels)


def mean_probability_of_the_label(logits: Tensor, labels: Tensor) -> float:
    accuracy(logits, labels)
    return F.softmax(logits, dim=-1)[torch.arange(len(labels)), labels].mean().item()


def error_rate(logits: Tensor, labels: Tensor) -> float:
    return 1 - accuracy(logits, labels)


def more_than_half(logits: Tensor, labels: Tensor) -> float:
    accuracy(logits, labels)
    own = F.softmax(logits, dim=-1)[torch.arange(len(labels)), labels]
    return (own > 0.5).double().mean().item()


def largest_in_the_column(logits: Tensor, labels: Tensor) -> float:
    named = logits.argmax(dim=0)
    return (named[labels] == torch.arange(len(labels))).double().mean().item()


def accuracy_cases() -> list[Case]:
    small = torch.tensor([[2.0, 1.0, 0.0], [0.2, 0.1, 0.3], [0.0, 3.0, 1.0]], dtype=torch.float64)
    return [
        case(small, torch.tensor([0, 2, 2])),
        case(draw(9, 4, spread=1.0), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0])),
        refusal(SHAPES.format("(3, 3)", "(1,)"), small, torch.tensor([0])),
    ]


ACCURACY = Exercise(
    id="00.1",
    title="the share of right answers",
    question=(
        "A network gives every image one number a class, its **logits**. It names the class with the largest. "
        "Write `my_accuracy(logits, labels)`: `logits` has the shape (N, C), `labels` (N,) holds the right classes. "
        "Return the share of right rows as a number between 0 and 1. Raise a `ValueError` where the number of rows "
        "and of labels differ."
    ),
    skeleton='def my_accuracy(logits, labels):\n    """Share of rows whose largest logit is the label\'s."""\n    ...',
    reference=accuracy,
    alternatives=(accuracy_by_counting, accuracy_by_gather),
    cases=accuracy_cases,
    hints=(
        "Which class does the network name for one row?",
        "`logits.argmax(dim=-1)` names a class for every row. Compare it with `labels`.",
        "The mean of `(logits.argmax(dim=-1) == labels).double()` is the share. `.item()` makes it a number.",
    ),
    misconceptions=(
        Misconception(
            "the count instead of the share",
            right_answers,
            "this is how many rows are right. Divide by the number of rows, or sets of different size cannot be "
            "compared",
            "kdcourse.metrics.accuracy",
        ),
        Misconception(
            "mean probability of the label",
            mean_probability_of_the_label,
            "this is the mean probability of the right class. Accuracy asks only which class is largest: a row that "
            "is right with 40 % counts as much as one that is right with 99 %",
            "kdcourse.metrics.accuracy",
        ),
        Misconception(
            "the error",
            error_rate,
            "this is the share of wrong rows, one minus what was asked",
            "kdcourse.metrics.accuracy",
        ),
        Misconception(
            "right only above one half",
            more_than_half,
            "you count a row only if its class has more than half of the probability. With more than two classes the "
            "largest can be below one half, and is named all the same",
            "kdcourse.metrics.accuracy",
        ),
        Misconception(
            "argmax over the images",
            largest_in_the_column,
            "`argmax(dim=0)` looks for the best image of each class. Classes are the last dimension: `dim=-1`",
        ),
    ),
    shows="accuracy reads only which logit is largest, never by how much.",
    derivation="`argmax` names a class a row, the comparison gives True or False, and the mean of those is the share.",
    forbidden=("kdcourse.metrics.accuracy",),
    relative=1e-6,
)

# --- 00.2 -------------------------------------------------------------------------------------------------------------


def gain(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    differences = [100 * (one - other) for one, other in zip(distilled, alone, strict=True)]
    return sum(differences) / len(differences), sum(d > 0 for d in differences)


def gain_with_tensors(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    difference = torch.tensor(distilled, dtype=torch.float64) - torch.tensor(alone, dtype=torch.float64)
    return 100 * difference.mean().item(), int((difference > 0).sum())


def gain_of_means(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    points = 100 * (sum(distilled) - sum(alone)) / len(alone)
    return points, sum(one > other for one, other in zip(distilled, alone, strict=True))


def best_against_best(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    return 100 * (max(distilled) - max(alone)), gain(distilled, alone)[1]


def relative_gain(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    ratios = [100 * (one / other - 1) for one, other in zip(distilled, alone, strict=True)]
    return sum(ratios) / len(ratios), sum(r > 0 for r in ratios)


def sorted_pairs(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    return gain(sorted(distilled), sorted(alone))


def ties_counted(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    return gain(distilled, alone)[0], sum(one >= other for one, other in zip(distilled, alone, strict=True))


def share_for_points(distilled: list[float], alone: list[float]) -> tuple[float, int]:
    points, wins = gain(distilled, alone)
    return points / 100, wins


def gain_cases() -> list[Case]:
    return [
        case([0.95, 0.93, 0.96], [0.93, 0.94, 0.92]),
        case([0.9, 0.92, 0.91, 0.95], [0.89, 0.92, 0.93, 0.9]),
    ]


GAIN = Exercise(
    id="00.2",
    title="a gain over pairs",
    question=(
        "Two lists of accuracies between 0 and 1, one entry a seed, the same seeds in the same order. "
        "Write `my_gain(distilled, alone)`. It returns two numbers: the mean gain in **percentage points**, and in how "
        "many seeds the distilled student is strictly better."
    ),
    skeleton=(
        'def my_gain(distilled, alone):\n    """Mean gain in percentage points, and how many seeds gain."""\n    ...'
    ),
    reference=gain,
    alternatives=(gain_with_tensors, gain_of_means),
    cases=gain_cases,
    hints=(
        "What belongs together? Subtract first, then average.",
        "`zip(distilled, alone)` gives the pairs. From 93 % to 95 % are two points.",
        "`differences = [100 * (a - b) for a, b in zip(distilled, alone)]`; return their mean and how many are > 0.",
    ),
    misconceptions=(
        Misconception(
            "best against best",
            best_against_best,
            "you compare the best run of each arm. The best of several is luck as much as merit, and more runs make "
            "it better by themselves. Compare seed by seed, then average",
        ),
        Misconception(
            "relative gain",
            relative_gain,
            "this is the gain in per cent of the other arm. From 50 % to 55 % are five points, but a relative gain of "
            "10 %: say which one you mean. Points are asked here",
        ),
        Misconception(
            "pairs sorted apart",
            sorted_pairs,
            "you sort the two lists, and so tear the pairs apart. Entry k of both lists comes from the same seed",
        ),
        Misconception(
            "ties counted as gains",
            ties_counted,
            "you count ties as gains. Strictly better is >, not >=",
        ),
        Misconception(
            "a share for points",
            share_for_points,
            "your gain is a share, not points: it is 100 times too small",
        ),
    ),
    shows="a comparison goes pair by pair, and a point is not a per cent.",
    derivation=(
        "The mean of differences is the difference of means, but only pairs tell in how many seeds one is better."
    ),
)

EXERCISES = (ACCURACY, GAIN)
