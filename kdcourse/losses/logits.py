"""Losses on logits: (..., C) tensors, classes last, returned as a 0-d mean over all leading dimensions.

The student comes first, the teacher second and detached. Unless said otherwise, bad input raises
``ValueError`` (unequal shapes, an empty batch, NaN or infinity, a temperature <= 0) or ``TypeError``
(integer logits). Half precision is computed, and returned, in float32; float64 stays float64.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._base.checks import check_finite_float, check_fraction, check_labels, check_logits, check_positive, widen


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Distillation loss: the divergence of the student's softened classes from the teacher's.

    T² · KL(p_t ‖ p_s) in nats, with p = softmax(logits / T). T² keeps the gradient's size as T grows.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2; the gradient is their equation 2 times T².
    """
    check_positive("temperature", temperature)
    student_logits, teacher_logits = check_logits(student_logits, teacher_logits)
    return kd_formula(student_logits, teacher_logits, temperature)


def kd_formula(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """`kd_loss` without its checks, for a training loop that has made them once."""
    log_p_student = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * _kl(log_p_teacher, log_p_student).mean()


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    """The label loss and the distillation loss, mixed: (1 - alpha) · cross-entropy + alpha · `kd_loss`.

    ``labels`` (...) int64. ``alpha`` in [0, 1] weights the teacher: 0 is ordinary training, 1 needs no labels.
    The label term sees the logits at temperature 1.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2. Differs from the authors' text in that the
    two weights sum to one.
    """
    check_fraction("alpha", alpha)
    soft = kd_loss(student_logits, teacher_logits, temperature=temperature)
    check_labels(student_logits, labels)
    return (1 - alpha) * _cross_entropy(widen(student_logits), labels) + alpha * soft


def logit_mse_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Half the mean squared difference of the logits, each row centred over its classes: Σ_c (z_s - z_t)² / 2C.

    It is the limit of `kd_loss` as T → ∞. Centring removes the shift that softmax cannot see.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.1, equation 4. Differs from the authors' text:
    they assume zero-mean logits, here they are made so.
    """
    student_logits, teacher_logits = check_logits(student_logits, teacher_logits)
    difference = student_logits - teacher_logits
    centred = difference - difference.mean(dim=-1, keepdim=True)
    return 0.5 * centred.square().mean()


def reverse_kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """The other direction, T² · KL(p_s ‖ p_t): the student settles on one of the teacher's peaks.

    Source: Gu, Dong, Wei, Huang 2024 (MiniLLM), arXiv:2306.08543, section 2, for whole sequences; here per position.
    """
    check_positive("temperature", temperature)
    student_logits, teacher_logits = check_logits(student_logits, teacher_logits)
    log_p_student = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * _kl(log_p_student, log_p_teacher).mean()


def js_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Jensen-Shannon divergence times T²: half KL(p_t ‖ m) + half KL(p_s ‖ m), with m = (p_t + p_s) / 2.

    Symmetric in student and teacher, and never above T² · ln 2.

    Source: Lin 1991, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37(1), section IV.
    """
    check_positive("temperature", temperature)
    student_logits, teacher_logits = check_logits(student_logits, teacher_logits)
    log_p_student = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    log_m = torch.logaddexp(log_p_student, log_p_teacher) - math.log(2)
    divergence = (_kl(log_p_teacher, log_m) + _kl(log_p_student, log_m)) / 2
    return temperature**2 * divergence.mean()


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    target_weight: float = 1.0,
    non_target_weight: float = 8.0,
) -> Tensor:
    """Decoupled distillation: T² · (target_weight · TCKD + non_target_weight · NCKD).

    TCKD is the divergence of "the labelled class or another", NCKD that among the other classes alone.
    Plain distillation is TCKD + (1 - p_t) · NCKD, p_t the teacher's probability of the label, so a sure
    teacher mutes NCKD; here the weight no longer depends on the image. ``labels`` (...) int64, C >= 2,
    weights >= 0.

    Source: Zhao, Cui, Song, Qiu, Liang 2022, arXiv:2203.08679, section 3. Differs from the authors'
    code: log-sum-exp over the other classes instead of a mask of -1000 and the log of a sum, which is
    infinite for a sure student.
    """
    check_positive("temperature", temperature)
    for name, weight in (("target_weight", target_weight), ("non_target_weight", non_target_weight)):
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"{name} must be a finite number >= 0, got {weight}")
    student_logits, teacher_logits = check_logits(student_logits, teacher_logits)
    check_labels(student_logits, labels)
    if student_logits.shape[-1] < 2:
        raise ValueError("dkd_loss needs at least two classes: with one there are no non-target classes")
    target_s, others_s = _split_target(student_logits / temperature, labels)
    target_t, others_t = _split_target(teacher_logits / temperature, labels)
    tckd = _kl(target_t, target_s).mean()
    nckd = _kl(others_t, others_s).mean()
    return temperature**2 * (target_weight * tckd + non_target_weight * nckd)


def label_smoothing_loss(student_logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Cross-entropy with labels that keep 1 - smoothing and share the rest evenly over all C classes.

    The control for distillation: soft targets that know nothing of the image. ``smoothing`` in [0, 1].

    Source: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, arXiv:1512.00567, section 7.
    """
    check_fraction("smoothing", smoothing)
    check_finite_float("student_logits", student_logits)
    check_labels(student_logits, labels)
    student_logits = widen(student_logits)
    log_p = F.log_softmax(student_logits, dim=-1)
    uniform = -log_p.mean(dim=-1).mean()
    return (1 - smoothing) * _cross_entropy(student_logits, labels) + smoothing * uniform


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) over the last dimension from log-probabilities; a term with p = 0 is 0."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def _split_target(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of (label, not label), shape (..., 2), and of the others among themselves, (..., C - 1)."""
    classes = logits.shape[-1]
    index = labels.unsqueeze(-1)
    target = logits.gather(-1, index)
    is_other = torch.ones_like(logits, dtype=torch.bool).scatter(-1, index, False)
    others = logits[is_other].reshape(*logits.shape[:-1], classes - 1)
    both = torch.cat([target, others.logsumexp(dim=-1, keepdim=True)], dim=-1)
    return F.log_softmax(both, dim=-1), F.log_softmax(others, dim=-1)
