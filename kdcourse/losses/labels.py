"""Losses that read labels. What they have in common with the others is explained in `kdcourse.losses.logits`."""

from __future__ import annotations  # as in logits.py

from torch import Tensor

from .._base.checks import check_fraction, check_not_negative
from ._positions import (
    Mean,
    Reduction,
    over_positions,
    refuse_any_impossible,
    refuse_label_alone,
    refuse_label_excluded,
    refuse_student_excluding,
)
from ._terms import cross_entropy, kl, split_target
from .logits import kd_loss, soft_term


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor | None,
    *,
    temperature: float | Tensor,
    alpha: float,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """The label loss and the distillation loss, mixed: (1 - alpha) · cross-entropy + alpha · `kd_loss`.

    ``labels`` (...) int64. ``alpha`` in [0, 1] weights the teacher: 0 is ordinary training, 1 needs no labels, they
    may be None. The label term sees the logits at temperature 1. -inf is as in `kd_loss`; a student that is -inf at
    the label is refused.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2. Differs from the authors' text in that the
    two weights sum to one.

    >>> student, teacher = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log()
    >>> loss = distillation_loss(student, teacher, torch.tensor([0]), temperature=1.0, alpha=0.4)
    >>> round(loss.item(), 4)  # 0.6 · ln 2 + 0.4 · ¼ ln 2
    0.4852
    """
    if validate:
        check_fraction("alpha", alpha)
    if labels is None:
        if alpha != 1:
            raise TypeError(f"labels may be None only where alpha is 1, the teacher alone; alpha is {alpha}")
        return kd_loss(
            student_logits,
            teacher_logits,
            temperature=temperature,
            mask=mask,
            reduction=reduction,
            validate=validate,
        )

    def formula(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float | Tensor, mean: Mean) -> Tensor:
        hard, soft = mean(cross_entropy(student, labels)), soft_term(student, teacher, temperature, mean)
        return (1 - alpha) * hard + alpha * soft

    def refuse_impossible(student: Tensor, teacher: Tensor, labels: Tensor) -> None:
        refuse_student_excluding(student, teacher)
        if alpha != 1:
            refuse_label_excluded(student, labels)

    return over_positions(
        formula,
        student_logits,
        teacher_logits,
        labels,
        temperature=temperature,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=refuse_impossible,
    )


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Decoupled distillation: T² · (target_weight · TCKD + non_target_weight · NCKD).

    TCKD is the divergence of "the labelled class or another", NCKD that among the other classes alone.
    Plain distillation is TCKD + (1 - p_t) · NCKD, p_t the teacher's probability of the label, so a confident
    teacher mutes NCKD; here the weight no longer depends on the image. ``labels`` (...) int64, weights >= 0.
    -inf is as in `kd_loss`; a teacher that is -inf everywhere but at the label is refused, NCKD is undefined.

    Source: Zhao, Cui, Song, Qiu, Liang 2022, arXiv:2203.08679, section 3. Differs from the authors'
    code: log-sum-exp over the other classes instead of a mask of -1000 and the log of a sum, which is
    infinite for a certain student.

    >>> student, teacher = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log()
    >>> labels = torch.tensor([0])
    >>> target = dkd_loss(student, teacher, labels, temperature=1.0, non_target_weight=0.0)
    >>> round(target.item(), 4)  # ¼ ln ½ + ¾ ln 3/2
    0.1308
    """
    if validate:
        check_not_negative("target_weight", target_weight)
        check_not_negative("non_target_weight", non_target_weight)

    def formula(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float | Tensor, mean: Mean) -> Tensor:
        target_s, others_s = split_target(student, labels, temperature)
        target_t, others_t = split_target(teacher, labels, temperature)
        return mean(target_weight * kl(target_t, target_s) + non_target_weight * kl(others_t, others_s), temperature**2)

    return over_positions(
        formula,
        student_logits,
        teacher_logits,
        labels,
        temperature=temperature,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=refuse_label_alone,
    )


def label_smoothing_loss(
    student_logits: Tensor,
    labels: Tensor,
    *,
    smoothing: float,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Cross-entropy with labels that keep 1 - smoothing and share the rest evenly over all C classes.

    The control for distillation: soft targets that know nothing of the image. ``smoothing`` in [0, 1]. -inf is
    refused where smoothing gives it probability, which makes the loss infinite, or the label does.

    Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, arXiv:1512.00567, section 7.

    >>> student = torch.tensor([[0.5, 0.5]]).log()
    >>> round(label_smoothing_loss(student, torch.tensor([0]), smoothing=0.1).item(), 4)  # ln 2 whatever the smoothing
    0.6931
    """
    if validate:
        check_fraction("smoothing", smoothing)

    def formula(student: Tensor, labels: Tensor, _: float | Tensor, mean: Mean) -> Tensor:
        return mean(cross_entropy(student, labels, smoothing=smoothing))

    def refuse_impossible(student: Tensor, labels: Tensor) -> None:
        if smoothing > 0:
            refuse_any_impossible(student)
        refuse_label_excluded(student, labels)

    return over_positions(
        formula,
        student_logits,
        labels=labels,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=refuse_impossible,
    )
