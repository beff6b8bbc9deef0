"""02.5 which classes are alike."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw


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


def similarity_cases() -> list[Case]:
    small = torch.tensor([[2.0, 1.0], [0.5, 1.0], [0.0, 2.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    return [case(small, labels, 1.0), case(draw(12, 3, seed=6), torch.arange(12) % 3, 4.0)]


EXERCISE = Exercise(
    id="02.5",
    title="which classes are alike",
    question=(
        "Write `my_class_similarity(teacher_logits, labels, temperature)`: a tensor (C, C). Row k is the mean of the "
        "teacher's softened probabilities over the images whose *label* is k. Every class occurs."
    ),
    skeleton=(
        "def my_class_similarity(teacher_logits, labels, temperature):\n"
        '    """Mean soft target of each class, one row a class."""\n    ...'
    ),
    reference=class_similarity,
    alternatives=(similarity_by_one_hot, similarity_by_adding),
    cases=similarity_cases,
    hints=(
        "Soften first or average first? Only one of them gives the mean soft target.",
        "`p[labels == k]` are the soft targets of class k. Average them over the images.",
        "`torch.stack([p[labels == k].mean(dim=0) for k in range(C)])`.",
    ),
    misconceptions=(
        Misconception(
            "grouped by what the teacher names",
            grouped_by_the_named_class,
            "you group by the class that the teacher names. Then its mistakes move to another row, and the table looks "
            "cleaner than the teacher is. Group by label",
        ),
        Misconception(
            "softmax of the mean logits",
            softmax_of_the_mean,
            "you average the logits and soften afterwards. The mean of probabilities is not the softmax of the mean: "
            "what only some images show is lost",
        ),
        Misconception(
            "sum for mean",
            summed_not_averaged,
            "your rows do not sum to 1: divide by the number of images of the class",
        ),
        Misconception(
            "rows and columns swapped",
            turned_over,
            "rows and columns are swapped. Row k tells how images *labelled* k look to the teacher; the table is not "
            "symmetric",
        ),
    ),
    shows="the teacher's mean soft targets say which classes are alike, which no label does.",
    derivation=(
        "The mean over the rows with label k of softmax(z / T). Each row of the table sums to 1, as its parts do."
    ),
)
