"""02.5 which classes are similar."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def class_similarity(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    p = F.softmax(teacher_logits / temperature, dim=-1)
    return torch.stack([p[labels == label].mean(dim=0) for label in range(p.shape[1])])


def similarity_by_one_hot(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    p = F.softmax(teacher_logits / temperature, dim=-1)
    member = F.one_hot(labels, p.shape[1]).to(p.dtype)
    return (member / member.sum(dim=0)).T @ p


def similarity_by_adding(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    classes = teacher_logits.shape[1]
    sums = torch.zeros(classes, classes, dtype=teacher_logits.dtype)
    for row, label in zip(F.softmax(teacher_logits / temperature, dim=-1), labels.tolist(), strict=True):
        sums[label] += row
    return sums / torch.bincount(labels, minlength=classes)[:, None]


def grouped_by_the_named_class(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return class_similarity(teacher_logits, teacher_logits.argmax(dim=-1), temperature)


def softmax_of_the_mean(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    means = [teacher_logits[labels == label].mean(dim=0) for label in range(teacher_logits.shape[1])]
    return F.softmax(torch.stack(means) / temperature, dim=-1)


def summed_not_averaged(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return class_similarity(teacher_logits, labels, temperature) * torch.bincount(labels)[:, None]


def turned_over(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return class_similarity(teacher_logits, labels, temperature).T


def one_temperature_for_all(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return class_similarity(teacher_logits, labels, 1.0)


def multiplied(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return class_similarity(teacher_logits, labels, 1 / temperature)


def divided_by_all_rows(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return summed_not_averaged(teacher_logits, labels, temperature) / len(labels)


def divided_by_the_classes(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return summed_not_averaged(teacher_logits, labels, temperature) / teacher_logits.shape[1]


def mean_logits(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return torch.stack([teacher_logits[labels == k].mean(dim=0) / temperature for k in range(teacher_logits.shape[1])])


def softmax_over_the_images(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    p = F.softmax(teacher_logits / temperature, dim=0)
    return torch.stack([p[labels == label].mean(dim=0) for label in range(p.shape[1])])


def confusion_matrix(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    named = F.one_hot(teacher_logits.argmax(dim=1), teacher_logits.shape[1]).to(teacher_logits.dtype)
    return torch.stack([named[labels == label].mean(dim=0) for label in range(named.shape[1])])


def columns_normalised(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    table = summed_not_averaged(teacher_logits, labels, temperature)
    return table / table.sum(dim=0)


def similarity_cases() -> list[Case]:
    small = torch.tensor([[2.0, 1.0], [0.5, 1.0], [0.0, 2.3]], dtype=torch.float64)
    labels, uneven = torch.tensor([0, 0, 1]), torch.tensor([3, 0, 1, 1, 3, 2, 3, 3, 1, 0, 3, 2, 3])
    return [case(small, labels, 1.5), case(draw(12, 3, seed=6), torch.arange(12) % 3, 4.0),
            case(draw(13, 4, seed=7), uneven, 2.5)]  # fmt: skip


def drawn_similarity(generator: torch.Generator) -> Case:
    classes = integer(generator, 2, 6)
    once = torch.randperm(classes, generator=generator)
    labels = torch.cat([torch.randint(classes, (integer(generator, 1, 20),), generator=generator), once])
    return case(draw(len(labels), classes, seed=generator), labels, integer(generator, 5, 45) / 8.5)


EXERCISE = Exercise(
    id="02.5",
    title="which classes are similar",
    question=(
        "Write `my_class_similarity(teacher_logits, labels, temperature)`: a tensor (C, C). Row k is the mean of the "
        "teacher's softened probabilities over the images whose *label* is k. Every class occurs."
    ),
    skeleton=(
        'def my_class_similarity(teacher_logits, labels, temperature):\n    """Mean soft target of each class, one '
        'row per class."""\n    ...'
    ),
    reference=class_similarity,
    alternatives=(similarity_by_one_hot, similarity_by_adding),
    cases=similarity_cases,
    drawn=drawn_similarity,
    hints=(
        "Soften first or average first? Only one order gives the mean soft target.",
        "`p[labels == k]` are the soft targets of class k. Average them over the images.",
        "`torch.stack([p[labels == k].mean(dim=0) for k in range(C)])`.",
    ),
    misconceptions=(
        Misconception(
            "grouped by the teacher's prediction",
            grouped_by_the_named_class,
            "you group by the class that the teacher predicts. Its errors then move to another row, and the table "
            "looks better than the teacher is. Group by label",
        ),
        Misconception(
            "softmax of the mean logits",
            softmax_of_the_mean,
            "you average the logits and soften afterwards. The mean of probabilities is not the softmax of the mean: "
            "what only some images show gets lost",
        ),
        Misconception(
            "sum instead of mean",
            summed_not_averaged,
            "your rows do not sum to 1: divide by the number of images of the class",
        ),
        Misconception(
            "rows and columns swapped",
            turned_over,
            "rows and columns are swapped. Row k shows how the teacher sees images *labelled* k; the table is not "
            "symmetric",
        ),
        Misconception(
            "temperature never used",
            one_temperature_for_all,
            "your probabilities are those at T = 1, whatever the temperature",
        ),
        Misconception(
            "logits multiplied by the temperature",
            multiplied,
            "you multiply the logits by the temperature. That sharpens; softening divides",
        ),
        Misconception(
            "divided by all images",
            divided_by_all_rows,
            "you divide each row by the number of all images. Divide by the number of images of that class, so that "
            "each row sums to 1",
        ),
        Misconception(
            "divided by the classes",
            divided_by_the_classes,
            "you divide each row by the number of classes. Divide by the number of images of that class, so that "
            "each row sums to 1",
        ),
        Misconception(
            "mean logits",
            mean_logits,
            "these are mean logits. Soften each image's logits first, then average: the rows must sum to 1",
        ),
        Misconception(
            "softmax over the images",
            softmax_over_the_images,
            "softmax over dimension 0 makes images compete with each other. Classes are the last dimension",
        ),
        Misconception(
            "confusion matrix",
            confusion_matrix,
            "you count the teacher's predictions: that is the confusion matrix. It ignores the other classes: "
            "average the probabilities",
        ),
        Misconception(
            "columns that sum to one",
            columns_normalised,
            "your columns sum to 1. The rows must: row k is the mean over the images labelled k",
        ),
    ),
    shows="the teacher's mean soft targets show which classes are similar, which no label does.",
    derivation=(
        "The mean over the rows with label k of softmax(z / T). Each row of the table sums to 1, as its parts do."
    ),
)
