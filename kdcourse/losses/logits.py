"""Losses on logits: (..., C) tensors, classes last, of any rank; the student first, the teacher second and detached.

All of them take:

- ``mask`` (...) bool: positions where it is False count for nothing; what is there is not read, it may be NaN.
- ``labels`` (...) int64: a position labelled -100 is left out, of every term, the teacher's as well.
- ``reduction``: "mean" over the positions that count, "sum", or "none" for (...), with 0 at positions left out.
- ``temperature``: a number, or a tensor that broadcasts over the leading dimensions; T² is taken position by
  position. A gradient flows into it.
- ``validate=False``: only types and shapes are checked, no number is looked at. That is the bare formula: it compiles
  with ``fullgraph=True`` and goes through ``torch.func``. Then it is for you to see that logits are finite wherever
  ``mask`` is not False (also at labels of -100), labels are classes or -100, weights and temperature are in range,
  and a position is left: what breaks this is not noticed.

A logit of -inf says that a class cannot be; each loss says what that means for it. Half precision and autocast are
computed, and returned, in float32; float64 stays float64. Bad input raises ``ValueError`` (unequal shapes, an empty
batch, no position left, a single class, NaN or +inf, a row of nothing but -inf, a temperature <= 0) or ``TypeError``
(integer logits, a mask that is not bool).
"""

from __future__ import annotations  # torch.compile of PyTorch 2.8 cannot read `float | Tensor` in an inner function

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ._positions import (
    Mean,
    Reduction,
    over_positions,
    refuse_any_impossible,
    refuse_student_excluding,
    refuse_teacher_excluding,
)
from ._terms import kl, log_p, log_yes_no


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Distillation loss: the divergence of the student's softened classes from the teacher's.

    T² · KL(p_t ‖ p_s) in nats, with p = softmax(logits / T). T² keeps the gradient's size as T grows.
    A class that is -inf for the teacher adds 0; the student pays for the probability that it gives away there.
    -inf for the student alone is refused, the loss is infinite.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2; the gradient is their equation 2 times T².

    >>> student, teacher = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log()
    >>> round(kd_loss(student, teacher, temperature=1.0).item(), 4)  # ¼ ln 2
    0.1733
    """

    return over_positions(
        soft_term,
        student_logits,
        teacher_logits,
        temperature=temperature,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=refuse_student_excluding,
    )


def logit_mse_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Half the mean squared difference of the logits, each row centred over its classes: Σ_c (z_s - z_t)² / 2C.

    It is the limit of `kd_loss` as T → ∞. Centring removes the shift that softmax cannot see. -inf is refused: it
    has no distance from a number.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.1, equation 4. Differs from the authors' text:
    they assume zero-mean logits, here they are made so.

    >>> student, teacher = torch.tensor([[1.0, 3.0, 6.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    >>> round(logit_mse_loss(student, teacher).item(), 4)  # differences 1, 2, 6, centred -2, -1, 3: 14 / 6
    2.3333
    """

    def formula(student: Tensor, teacher: Tensor, _: float | Tensor, mean: Mean) -> Tensor:
        student, teacher = (logits - logits.mean(dim=-1, keepdim=True) for logits in (student, teacher))
        return mean(F.mse_loss(student, teacher, reduction="none").sum(dim=-1), 0.5 / student.shape[-1])

    return over_positions(
        formula,
        student_logits,
        teacher_logits,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=refuse_any_impossible,
    )


def reverse_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """The other direction, T² · KL(p_s ‖ p_t): the student settles on one of the teacher's peaks.

    A class that is -inf for the student adds 0. -inf for the teacher alone is refused, the loss is infinite: the
    student gives probability to a class that cannot be.

    Source: Gu, Dong, Wei, Huang 2024 (MiniLLM), arXiv:2306.08543, section 2, for whole sequences; here per position.

    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    >>> round(reverse_kd_loss(student, teacher, temperature=1.0).item(), 4)  # ln 2 - ½ ln 3
    0.1438
    """

    def formula(student: Tensor, teacher: Tensor, temperature: float | Tensor, mean: Mean) -> Tensor:
        return mean(kl(log_p(student, temperature), log_p(teacher, temperature)), temperature**2)

    return over_positions(
        formula,
        student_logits,
        teacher_logits,
        temperature=temperature,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=refuse_teacher_excluding,
    )


def js_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Jensen-Shannon divergence times T²: half KL(p_t ‖ m) + half KL(p_s ‖ m), with m = (p_t + p_s) / 2.

    Symmetric in student and teacher, and never above T² · ln 2. -inf may be anywhere on either side: the term of
    a class with probability 0 is 0.

    Source: Lin 1991, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37(1), section IV.

    >>> student, teacher = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()  # each other's opposite
    >>> round(js_loss(student, teacher, temperature=1.0).item(), 4)  # ln 2
    0.6931
    """

    def formula(student: Tensor, teacher: Tensor, temperature: float | Tensor, mean: Mean) -> Tensor:
        log_p_student, log_p_teacher = log_p(student, temperature), log_p(teacher, temperature)
        log_m = torch.logaddexp(log_p_student, log_p_teacher) - math.log(2)
        return mean((kl(log_p_teacher, log_m) + kl(log_p_student, log_m)) / 2, temperature**2)

    return over_positions(
        formula,
        student_logits,
        teacher_logits,
        temperature=temperature,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=lambda student, teacher: None,
    )


def multilabel_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float | Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Distillation where several classes, or none, may be present: one divergence per class, T² · Σ_c KL(p_c ‖ q_c).

    p_c and q_c are the teacher's and the student's probabilities σ(z_c / T) of class c, each a choice of yes or no. For
    exclusive classes use `kd_loss`: softmax probabilities do not fit here. A single class is fine; -inf is refused.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2, for each class as a problem of its own.

    >>> student, teacher = torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]).log()  # q = ½, ½ and p = ½, ¾
    >>> round(multilabel_kd_loss(student, teacher, temperature=1.0).item(), 4)  # ¾ ln 3 - ln 2
    0.1308
    """

    def formula(student: Tensor, teacher: Tensor, temperature: float | Tensor, mean: Mean) -> Tensor:
        yes_student, no_student = log_yes_no(student, temperature)
        yes_teacher, no_teacher = log_yes_no(teacher, temperature)
        yes = yes_teacher.exp() * (yes_teacher - yes_student)
        return mean((yes + no_teacher.exp() * (no_teacher - no_student)).sum(dim=-1), temperature**2)

    return over_positions(
        formula,
        student_logits,
        teacher_logits,
        temperature=temperature,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=refuse_any_impossible,
        exclusive=False,
    )


def soft_term(student: Tensor, teacher: Tensor, temperature: float | Tensor, mean: Mean) -> Tensor:
    """T² · KL(p_t ‖ p_s), averaged by ``mean``: all of `kd_loss`, and the teacher's part of `distillation_loss`."""
    return mean(kl(log_p(teacher, temperature), log_p(student, temperature)), temperature**2)
