"""00.1 accuracy."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import SHAPES, Case, Exercise, Misconception, case, draw, integer, refusal


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


def in_per_cent(logits: Tensor, labels: Tensor) -> float:
    return 100 * accuracy(logits, labels)


def smallest_logit(logits: Tensor, labels: Tensor) -> float:
    return accuracy(-logits, labels)


def divided_by_the_classes(logits: Tensor, labels: Tensor) -> float:
    return right_answers(logits, labels) / logits.shape[1]


def rounded(logits: Tensor, labels: Tensor) -> float:
    return round(accuracy(logits, labels), 2)


def positive_logit(logits: Tensor, labels: Tensor) -> float:
    accuracy(logits, labels)
    return (logits.gather(1, labels[:, None]) > 0).double().mean().item()


def every_row_with_every_label(logits: Tensor, labels: Tensor) -> float:
    accuracy(logits, labels)
    return (logits.argmax(dim=1, keepdim=True) == labels).double().mean().item()


def largest_absolute_logit(logits: Tensor, labels: Tensor) -> float:
    return accuracy(logits.abs(), labels)


def named_as_often(logits: Tensor, labels: Tensor) -> float:
    accuracy(logits, labels)
    pair = (torch.bincount(each, minlength=logits.shape[1]) for each in (logits.argmax(dim=1), labels))
    return torch.minimum(*pair).sum().item() / len(labels)


def mean_over_classes(logits: Tensor, labels: Tensor) -> float:
    each = [accuracy(logits[labels == label], labels[labels == label]) for label in labels.unique()]
    return sum(each) / len(each)


def argmax_over_the_images(logits: Tensor, labels: Tensor) -> float:
    accuracy(logits, labels)
    rows, classes = logits.shape
    return (logits.argmax(dim=0)[:rows] == labels[:classes]).double().mean().item()


def accuracy_cases() -> list[Case]:
    small = torch.tensor([[2.0, 1.0, 0.0], [0.2, 0.1, 0.3], [0.0, 3.0, 1.0]], dtype=torch.float64)
    below = draw(7, 5, seed=1, spread=1.0) - 4  # no logit above zero; classes 0 and 4 are not among the labels
    return [
        case(small, torch.tensor([0, 2, 2])),
        case(draw(9, 4, spread=1.0), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0])),
        case(below, torch.tensor([1, 3, 2, 2, 3, 1, 3])),
        case(below.float(), below.argmax(dim=1)),  # all right
        case(below, (below.argmax(dim=1) + 1) % 5),  # none right
        case(draw(1, 2, seed=2), torch.tensor([1])),
        refusal(SHAPES.format("(3, 3)", "(1,)"), small, torch.tensor([0])),
        refusal(SHAPES.format("(1, 3)", "(3,)"), small[:1], torch.tensor([0, 2, 2])),
        refusal(SHAPES.format("(3, 3)", "(2,)"), small, torch.tensor([0, 2])),
    ]


def drawn_rows(generator: torch.Generator) -> Case:
    logits = draw(integer(generator, 2, 15), integer(generator, 2, 6), seed=generator)
    return case(logits, (logits + draw(*logits.shape, seed=generator)).argmax(dim=1))


EXERCISE = Exercise(
    id="00.1",
    title="accuracy",
    question=(
        "For each image a network outputs one number per class, its **logits**, and predicts the class with the "
        "largest. Write `my_accuracy(logits, labels)`: `logits` has the shape (N, C), `labels` (N,) contains the "
        "correct classes. Return the fraction of correct predictions, a number between 0 and 1. Raise a `ValueError` "
        "if the number of rows and the number of labels differ."
    ),
    skeleton=(
        'def my_accuracy(logits, labels):\n    """Fraction of rows whose largest logit is the label\'s."""\n    ...'
    ),
    reference=accuracy,
    alternatives=(accuracy_by_counting, accuracy_by_gather),
    cases=accuracy_cases,
    drawn=drawn_rows,
    hints=(
        "Which class does the network predict for one row?",
        "`logits.argmax(dim=-1)` is the predicted class of each row. Compare it with `labels`.",
        "The mean of `(logits.argmax(dim=-1) == labels).double()` is the fraction. `.item()` makes it a number.",
    ),
    misconceptions=(
        Misconception(
            "the count instead of the fraction",
            right_answers,
            "this is the number of correct rows. Divide by the number of rows; otherwise sets of different sizes "
            "cannot be compared",
            "kdcourse.metrics.accuracy",
        ),
        Misconception(
            "mean probability of the label",
            mean_probability_of_the_label,
            "this is the mean probability of the correct class. Accuracy only asks which class is largest: a row that "
            "is correct with 40 % counts as much as one that is correct with 99 %",
            "kdcourse.metrics.accuracy",
        ),
        Misconception(
            "the error",
            error_rate,
            "this is the fraction of wrong rows, one minus the accuracy",
            "kdcourse.metrics.accuracy",
        ),
        Misconception(
            "right only above one half",
            more_than_half,
            "you count a row only if its class has more than half of the probability. With more than two classes the "
            "largest can be below one half, and it is still the prediction",
            "kdcourse.metrics.accuracy",
        ),
        Misconception(
            "argmax over the images",
            largest_in_the_column,
            "`argmax(dim=0)` looks for the best image of each class. Classes are the last dimension: `dim=-1`",
        ),
        Misconception(
            "in per cent",
            in_per_cent,
            "exactly 100 times too large: you return per cent. Return a number between 0 and 1",
        ),
        Misconception(
            "the smallest logit",
            smallest_logit,
            "you take the class with the *smallest* logit: `argmax`, not `argmin`",
        ),
        Misconception(
            "divided by the classes",
            divided_by_the_classes,
            "you divide the number of correct rows by the number of classes. Divide by the number of rows",
        ),
        Misconception(
            "rounded",
            rounded,
            "correct to two digits: you round. Return the number itself, and round only what you print",
        ),
        Misconception(
            "a positive logit",
            positive_logit,
            "you count a row if its label's logit is above 0. A logit by itself says nothing: the row is correct if no "
            "other logit is larger",
        ),
        Misconception(
            "every row with every label",
            every_row_with_every_label,
            "you compare every row with every label: shapes (N, 1) and (N,) give (N, N). Compare row by row, "
            "without `keepdim`",
        ),
        Misconception(
            "the largest absolute logit",
            largest_absolute_logit,
            "you take the class whose logit is farthest from 0. A very negative logit means that the class is "
            "*unlikely*",
        ),
        Misconception(
            "how often each class is predicted",
            named_as_often,
            "you compare how often each class is predicted with how often it occurs. The right number of cats "
            "can be predicted with every cat wrong: compare row by row",
        ),
        Misconception(
            "mean over classes",
            mean_over_classes,
            "you average the accuracies of the classes. That is the balanced accuracy; here every row weighs the same",
        ),
        Misconception(
            "argmax over the images, cut",
            argmax_over_the_images,
            "`argmax(dim=0)` looks for the best image of each class, and cutting to equal lengths only hides "
            "it. Classes are the last dimension: `dim=-1`",
        ),
    ),
    shows="accuracy depends only on which logit is largest, never on by how much.",
    derivation=(
        "`argmax` predicts one class per row, the comparison gives True or False, and their mean is the accuracy."
    ),
    forbidden=("kdcourse.metrics.accuracy",),
    relative=1e-6,
)
