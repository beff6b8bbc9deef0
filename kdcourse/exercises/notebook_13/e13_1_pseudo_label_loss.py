"""13.1 pseudo-labels above a threshold."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def pseudo_label_loss(student_logits: Tensor, teacher_logits: Tensor, *, threshold: float) -> Tensor:
    confidence, classes = teacher_logits.detach().softmax(dim=1).max(dim=1)
    losses = F.cross_entropy(student_logits, classes, reduction="none")
    return (losses * (confidence >= threshold)).mean()


def pseudo_label_loss_of_the_kept(student_logits: Tensor, teacher_logits: Tensor, *, threshold: float) -> Tensor:
    probabilities = F.softmax(teacher_logits, dim=1)
    kept = probabilities.amax(dim=1) >= threshold
    total = F.cross_entropy(student_logits[kept], probabilities[kept].argmax(dim=1), reduction="sum")
    return total / len(student_logits)


def pseudo_label_loss_by_rows(student_logits: Tensor, teacher_logits: Tensor, *, threshold: float) -> Tensor:
    total = student_logits.sum() * 0
    for student, teacher in zip(student_logits, teacher_logits, strict=True):
        probabilities = teacher.softmax(dim=0)
        if probabilities.max() >= threshold:
            total = total - student.log_softmax(dim=0)[probabilities.argmax()]
    return total / len(student_logits)


def _parts(s: Tensor, t: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of each example, which are kept, and the teacher's classes."""
    confidence, classes = t.detach().softmax(dim=1).max(dim=1)
    return F.cross_entropy(s, classes, reduction="none"), (confidence >= threshold).to(s.dtype), classes


def mean_over_the_kept(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    losses, kept, _ = _parts(s, t, threshold)
    return (losses * kept).sum() / kept.sum()


def mean_over_the_kept_or_one(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    losses, kept, _ = _parts(s, t, threshold)
    return (losses * kept).sum() / kept.sum().clamp(min=1)


def all_count(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    return F.cross_entropy(s, t.argmax(dim=1))


def threshold_on_the_student(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    losses = F.cross_entropy(s, t.argmax(dim=1), reduction="none")
    return (losses * (s.softmax(dim=1).amax(dim=1) >= threshold)).mean()


def soft_labels(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    p = t.detach().softmax(dim=1)
    return (F.cross_entropy(s, p, reduction="none") * (p.amax(dim=1) >= threshold)).mean()


def above_the_threshold_only(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    confidence, classes = t.detach().softmax(dim=1).max(dim=1)
    return (F.cross_entropy(s, classes, reduction="none") * (confidence > threshold)).mean()


def logits_compared(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    highest, classes = t.detach().max(dim=1)
    return (F.cross_entropy(s, classes, reduction="none") * (highest >= threshold)).mean()


def summed(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    losses, kept, _ = _parts(s, t, threshold)
    return (losses * kept).sum()


def the_uncertain_kept(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    losses, kept, _ = _parts(s, t, threshold)
    return (losses * (1 - kept)).mean()


def classes_multiplied(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    _, kept, classes = _parts(s, t, threshold)
    return F.cross_entropy(s, classes * kept.long())


def logits_multiplied(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    _, kept, classes = _parts(s, t, threshold)
    return F.cross_entropy(s * kept[:, None], classes)


def own_classes(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    _, kept, _ = _parts(s, t, threshold)
    return (F.cross_entropy(s, s.argmax(dim=1), reduction="none") * kept).mean()


def weighted_by_confidence(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    confidence, classes = t.softmax(dim=1).max(dim=1)
    return (F.cross_entropy(s, classes, reduction="none") * confidence * (confidence >= threshold)).mean()


def softmax_twice(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    return pseudo_label_loss(s.softmax(dim=1), t, threshold=threshold)


def roles_swapped(s: Tensor, t: Tensor, *, threshold: float) -> Tensor:
    return pseudo_label_loss(t, s, threshold=threshold)


def can_be_trained(value: Any, case: Case) -> Any:
    """The loss; where no example is kept, one that `backward()` refuses does not work."""
    _, kept, _ = _parts(case.arguments[0], case.arguments[1], case.keywords["threshold"])
    number = isinstance(value, int | float) or (isinstance(value, Tensor) and not value.requires_grad)
    if number and not kept.any():
        raise TypeError(
            "no image is kept here, and this number does not depend on the student, so `backward()` raises. "
            "Multiply by the mask, or return `student_logits.sum() * 0`"
        )
    return value


def pseudo_cases() -> list[Case]:
    student = torch.tensor([[0.2, 1.0, -0.5], [0.4, -0.3, 1.5], [-1.0, 0.3, 0.1]], dtype=torch.float64)
    teacher = torch.tensor([[3.0, 0.5, 0.1], [0.2, 0.9, 0.4], [-1.0, -3.0, 4.0]], dtype=torch.float64)
    certain = torch.tensor([[1000.0, 0.0], [0.0, 2.0], [0.0, 1000.0]], dtype=torch.float64)
    return [
        case(student[:2], teacher[:2], threshold=0.8),
        case(student, teacher, threshold=0.8),
        case(student, teacher - 5, threshold=0.7),
        case(draw(3, 2, seed=1), certain, threshold=1.0),  # exactly at the threshold
        case(draw(4, 5, seed=2), draw(4, 5, seed=3, spread=0.5), threshold=0.95),  # none is kept
        case(draw(7, 4, seed=4).float(), draw(7, 4, seed=5).float(), threshold=0.75),
        case(draw(6, 3, seed=6), draw(6, 3, seed=7), threshold=0.0),
    ]


def drawn_pseudo(g: torch.Generator) -> Case:
    shape = integer(g, 2, 8), integer(g, 2, 5)
    return case(draw(*shape, seed=g), draw(*shape, seed=g), threshold=integer(g, 3, 9) / 10.3)


EXERCISE = Exercise(
    id="13.1",
    title="pseudo-labels above a threshold",
    question=(
        "Write `my_pseudo_label_loss(student_logits, teacher_logits, *, threshold)` for logits (N, C) of N unlabelled "
        "images. The class that the teacher predicts is the label. An image is kept if the teacher's largest "
        "probability is at least `threshold` (equal counts). Return the cross-entropy of the student summed over the "
        "kept images and divided by N, the number of *all* images, as a 0-dimensional tensor. The student gets a "
        "gradient, the teacher none. Where no image is kept, the loss is 0 and its gradient zero, so that "
        "`backward()` still works."
    ),
    skeleton=(
        "def my_pseudo_label_loss(student_logits, teacher_logits, *, threshold):\n"
        '    """Cross-entropy with the teacher\'s confident predictions, divided by all images."""\n    ...'
    ),
    reference=pseudo_label_loss,
    alternatives=(pseudo_label_loss_of_the_kept, pseudo_label_loss_by_rows),
    cases=pseudo_cases,
    drawn=drawn_pseudo,
    hints=(
        "Three things come from different places: the label, the decision to keep an image, and the number to divide "
        "by.",
        "`teacher_logits.softmax(dim=1).max(dim=1)` gives confidence and class. Take the cross-entropy of each image "
        '(`reduction="none"`) and set the ones you drop to 0.',
        "`(losses * (confidence >= threshold)).mean()`: a mean over all images in which the dropped ones are 0.",
    ),
    misconceptions=(
        Misconception(
            "mean over the kept",
            mean_over_the_kept,
            "you divide by the number of kept images. A batch with one confident image then weighs as much as one with "
            "a hundred, and a batch with none gives 0 / 0 = NaN, which ends the training. Divide by all N",
        ),
        Misconception(
            "mean over the kept, or over one",
            mean_over_the_kept_or_one,
            "you divide by the number of kept images. A batch with one confident image then weighs as much as one with "
            "a hundred. Divide by all N",
        ),
        Misconception(
            "the threshold has no effect",
            all_count,
            "every image counts, also those below the threshold: there the teacher's label is most often wrong",
        ),
        Misconception(
            "threshold on the student",
            threshold_on_the_student,
            "you keep the images on which the *student* is confident. It would only be confirmed in what it predicts "
            "already. The teacher's probability decides",
        ),
        Misconception(
            "soft labels",
            soft_labels,
            "you use the teacher's probabilities as the target. That is a good loss, but here the label is hard: the "
            "one class that the teacher predicts",
        ),
        Misconception(
            "equal does not count",
            above_the_threshold_only,
            "correct but for an image exactly at the threshold: the question says *at least*, `>=`",
        ),
        Misconception(
            "logits compared",
            logits_compared,
            "you compare the largest *logit* with the threshold. Logits have no scale, and adding a constant to all of "
            "them changes no probability. Take the softmax first",
        ),
        Misconception(
            "not divided",
            summed,
            "this is the sum. It grows with the batch, and so does the step. Divide by the number of all images",
        ),
        Misconception(
            "the uncertain kept",
            the_uncertain_kept,
            "the mask is inverted: you keep the images on which the teacher is *not* confident",
        ),
        Misconception(
            "classes multiplied by the mask",
            classes_multiplied,
            "you multiply the *labels* by the mask, so a dropped image is trained towards class 0. Multiply its loss",
        ),
        Misconception(
            "logits multiplied by the mask",
            logits_multiplied,
            "you multiply the *logits* by the mask. A dropped image still adds ln C, the cross-entropy of equal "
            "logits. Its gradient is zero, so training is correct, but the value is not. Multiply the loss",
        ),
        Misconception(
            "the student's own classes",
            own_classes,
            "the labels are the classes that the *student* predicts. It learns nothing but to repeat itself",
        ),
        Misconception(
            "student and teacher swapped",
            roles_swapped,
            "student and teacher are swapped: the teacher is trained with labels of the student. The student comes "
            "first in this course",
        ),
        Misconception(
            "weighted by the confidence",
            weighted_by_confidence,
            "you weight each image by the teacher's probability. Here a kept image counts fully. And that probability "
            "is not detached, so the teacher gets a gradient",
        ),
        Misconception(
            "softmax twice",
            softmax_twice,
            "you take the softmax of the student's logits before `cross_entropy`, which takes one itself. The softmax "
            "of probabilities is almost flat: the loss can hardly fall",
        ),
    ),
    shows="the teacher's confidence decides what is kept, and a batch weighs by how much of it is kept.",
    derivation=(
        "L = (1/N) Σ_i [max_k p_t,ik ≥ τ] · (-ln p_s,i,c_i) with c_i = argmax_k p_t,ik. With τ = 0 it is the "
        "cross-entropy with hard labels; with τ > 1 it is 0. The mean over the kept is L · N / kept."
    ),
    gradients=(0, 1),
    observe=can_be_trained,
)
