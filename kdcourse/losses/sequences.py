"""Losses on sequences: logits (..., L, C) over L positions, tokens (..., L) int64.

A language model's logits at position i predict token i + 1. `shift` alone pairs them, and says which pairs count; all
else is a loss by position that takes its mask. ``mask``, ``reduction``, ``temperature``, ``validate``, what -inf means,
dtypes and what is raised are as in `kdcourse.losses.logits`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._base.checks import (
    IGNORED,
    check_fraction,
    check_labels,
    check_logits,
    check_mask,
    refuse_where,
    widen,
)
from ._positions import (
    Mean,
    Reduction,
    _underflowing,
    over_positions,
    refuse_student_excluding,
    refuse_teacher_excluding,
)
from ._terms import _divided, kl, log_p
from .labels import label_smoothing_loss

__all__ = ["generalized_js_loss", "sequence_kd", "shift", "top_k_kd_loss"]


def shift(logits: Tensor, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Each prediction beside the token that it is of: logits (..., L - 1, C), tokens and mask (..., L - 1).

    ``mask`` (..., L) bool is True at tokens to be learned: False at the prompt and at padding. A pair counts where its
    token does, so the last token of a prompt predicts the first that counts. A token of -100 never counts.

    Raises ``ValueError`` for shapes that do not fit and for sequences of one token, which predict nothing.

    >>> tokens = torch.tensor([[7, 5, 2]])
    >>> logits, targets, mask = shift(torch.zeros(1, 3, 8), tokens, tokens != 7)
    >>> targets.tolist(), mask.tolist(), logits.shape
    ([[5, 2]], [[True, True]], torch.Size([1, 2, 8]))
    """
    check_logits("logits", logits)
    check_labels(tokens, logits)
    if tokens.ndim == 0 or tokens.shape[-1] < 2:
        raise ValueError(
            f"tokens has shape {tuple(tokens.shape)}: a sequence needs two tokens or more, one to predict the next from"
        )
    counts = tokens != IGNORED
    if mask is not None:
        check_mask(mask, tokens.shape)
        counts = counts & mask
    return logits[..., :-1, :], tokens[..., 1:], counts[..., 1:]


def sequence_kd(
    student_logits: Tensor,
    tokens: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Sequence-level distillation: cross-entropy on sequences that the teacher has written, in nats.

    ``student_logits`` (..., L, C) are the student's on ``tokens`` (..., L); both as the network takes them, `shift` is
    applied here. ``mask`` (..., L) is True at the tokens that the teacher wrote, False at prompt and padding. Summed
    over a sequence, its mean over the teacher's samples is KL(teacher ‖ student) of whole sequences plus the teacher's
    entropy. With "none" it is (..., L - 1).

    Source: Kim, Rush 2016, arXiv:1606.07947, section 3.2. Differs from the authors' text: samples, not the mode that
    beam search finds.

    >>> logits = torch.tensor([[[0.5, 0.5], [0.75, 0.25], [0.5, 0.5]]]).log()
    >>> round(sequence_kd(logits, torch.tensor([[0, 1, 0]])).item(), 4)  # ½ (ln 2 + ln 4/3)
    0.4904
    """
    logits, targets, counts = shift(student_logits, tokens, mask)
    return label_smoothing_loss(logits, targets, smoothing=0.0, mask=counts, reduction=reduction, validate=validate)


def generalized_js_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float,
    temperature: float | Tensor,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """A family of divergences that runs from one KL through Jensen-Shannon to the other.

    T² · ((1 - β) KL(p_t ‖ m) + β KL(p_s ‖ m)), with m = β p_t + (1 - β) p_s.

    β = 0 is `kd_loss`, ½ is `js_loss`, 1 is `reverse_kd_loss`. m mixes probabilities, not logits, and sums to 1.
    -inf may be anywhere for 0 < β < 1; at the ends it is refused as those two losses refuse it.

    Source: Agarwal et al. 2024 (GKD), arXiv:2306.13649, section 2. Differs from the paper: there the two weights are
    exchanged, β KL(p_t ‖ m) + (1 - β) KL(p_s ‖ m), which tends to 0 at both ends, so that β acts as a learning rate.

    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    >>> round(generalized_js_loss(student, teacher, beta=1.0, temperature=1.0).item(), 4)  # ln 2 - ½ ln 3
    0.1438
    """
    check_fraction("beta", beta)

    def formula(student: Tensor, teacher: Tensor, temperature: float | Tensor, mean: Mean) -> Tensor:
        log_s, log_t = log_p(student, temperature), log_p(teacher, temperature)
        if beta == 0:
            return mean(kl(log_t, log_s), temperature**2)
        if beta == 1:
            return mean(kl(log_s, log_t), temperature**2)
        log_m = torch.logaddexp(log_t + math.log(beta), log_s + math.log1p(-beta))
        return mean((1 - beta) * kl(log_t, log_m) + beta * kl(log_s, log_m), temperature**2)

    refusals = {0.0: refuse_student_excluding, 1.0: refuse_teacher_excluding}
    return over_positions(
        formula,
        student_logits,
        teacher_logits,
        temperature=temperature,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=refusals.get(float(beta), lambda student, teacher: None),
    )


def top_k_kd_loss(
    student_logits: Tensor,
    top_log_probs: Tensor,
    top_indices: Tensor,
    *,
    temperature: float | Tensor,
    tail: bool = True,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Distillation from a stored teacher that kept k of C classes: T² · KL over those k and one class for the rest.

    ``top_log_probs`` (..., k) are log softmax(teacher / T) at ``top_indices`` (..., k) int64, at this temperature. With
    s = Σ_k p the loss is T² · (Σ_k p ln(p / q) + (1 - s) ln((1 - s) / (1 - Σ_k q))), at most `kd_loss`, and equal to it
    where teacher and student agree within the rest, or k = C. ``tail=False`` renormalises both sides over the k
    classes: what the student gives to all others then costs nothing. It reads those k alone; with a tail all C are read
    and get a gradient, which takes most of the time of `kd_loss`.

    Raises ``ValueError`` also for probabilities that sum above 1, or, of all classes, below; for an index twice, and
    one outside the classes.

    >>> student = torch.tensor([[0.5, 0.25, 0.25]]).log()
    >>> top = torch.tensor([[0.25]]).log(), torch.tensor([[0]])  # the teacher's rest is ¾, the student's ½
    >>> round(top_k_kd_loss(student, *top, temperature=1.0).item(), 4)  # ¾ ln 3 - ln 2
    0.1308
    """
    check_logits("student_logits", student_logits)
    _check_top_forms(student_logits, top_log_probs, top_indices, tail)
    top, indices = widen(top_log_probs.detach()), top_indices
    if mask is not None:
        check_mask(mask, student_logits.shape[:-1])
        top, indices = (torch.where(mask.unsqueeze(-1), each, 0) for each in (top, indices))
    if validate:
        _check_top_numbers(top, indices, student_logits.shape[-1], mask, torch.finfo(top_log_probs.dtype).eps)
    rest = tail and top.shape[-1] < student_logits.shape[-1]

    def refuse(student: Tensor) -> None:
        _refuse_excluding(student, top, indices, rest)

    def formula(student: Tensor, temperature: float | Tensor, mean: Mean) -> Tensor:
        if validate and isinstance(temperature, Tensor) and not torch.isnan(student).any():
            refuse(student)
            student = _underflowing(student, temperature)  # so that the gradient of T is finite
        chosen = student.gather(-1, indices)
        if not tail:  # no class but those kept is read
            return mean(_terms(top.log_softmax(dim=-1), log_p(chosen, temperature)), temperature**2)
        if not rest:
            return mean(_terms(top, log_p(chosen, temperature)), temperature**2)
        # one sum over all classes; 1 - Σ q would round an unlikely rest to 0
        scaled = _divided(student, temperature)  # before -inf is put in, whose gradient to T would be NaN
        others = scaled.scatter(-1, indices, -math.inf).logsumexp(dim=-1, keepdim=True)
        log_q = torch.cat([scaled.gather(-1, indices), others], dim=-1).log_softmax(dim=-1)
        return mean(_terms(torch.cat([top, _log_rest(top)], dim=-1), log_q), temperature**2)

    return over_positions(
        formula,
        student_logits,
        temperature=temperature,
        mask=mask,
        reduction=reduction,
        validate=validate,
        refuse_impossible=refuse,
    )


def _terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Σ p ln(p / q), in which p = 0 adds 0 whatever q is."""
    return torch.where(log_p == -math.inf, 0.0, log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _log_rest(top: Tensor) -> Tensor:
    """log(1 - Σ p), -inf where nothing is left."""
    return (1 - top.exp().sum(dim=-1, keepdim=True)).clamp_min(0).log()


def _check_top_forms(student: Tensor, top: Tensor, indices: Tensor, tail: bool) -> None:
    check_logits("top_log_probs", top)
    if not isinstance(indices, Tensor) or indices.dtype != torch.int64:
        found = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
        raise TypeError(f"top_indices must be an int64 tensor of class indices, got {found}: use indices.long()")
    if top.shape != indices.shape or top.shape[:-1] != student.shape[:-1] or top.shape[-1] > student.shape[-1]:
        raise ValueError(
            f"top_log_probs has shape {tuple(top.shape)}, top_indices {tuple(indices.shape)}, student_logits "
            f"{tuple(student.shape)}: both must be (..., k) for logits (..., C), with k <= C"
        )
    if not tail and top.shape[-1] == 1:
        raise ValueError("one class renormalised has probability 1 on both sides: keep two classes, or use tail=True")


def _check_top_numbers(top: Tensor, indices: Tensor, classes: int, mask: Tensor | None, eps: float) -> None:
    keep = torch.ones_like(top[..., 0], dtype=torch.bool) if mask is None else mask
    refuse_where(
        keep & ~(top < math.inf).all(dim=-1),
        "top_log_probs contains NaN or infinity: look for a diverged model or a division by zero",
    )
    refuse_where(
        keep & (top == -math.inf).all(dim=-1), "top_log_probs is -inf for every class kept: one must be possible"
    )
    rounding = (1 + math.log(top.shape[-1])) * eps + 1e-5  # of the dtype in which they were stored
    refuse_where(
        keep & (top.exp().sum(dim=-1) > 1 + rounding),
        "top_log_probs are probabilities that sum above 1: pass log_softmax(teacher_logits / temperature) at "
        "top_indices, not logits",
    )
    if top.shape[-1] == classes:
        refuse_where(
            keep & (top.exp().sum(dim=-1) < 1 - rounding),
            "top_log_probs holds all classes, and their probabilities sum to less than 1: pass "
            "log_softmax(teacher_logits / temperature) at top_indices, not logits",
        )
    refuse_where(
        keep & ((indices < 0) | (indices >= classes)).any(dim=-1), f"top_indices must lie in [0, {classes - 1}]"
    )
    ordered = indices.sort(dim=-1).values
    refuse_where(
        keep & (ordered[..., 1:] == ordered[..., :-1]).any(dim=-1), "top_indices holds a class twice at a position"
    )


def _refuse_excluding(student: Tensor, top: Tensor, indices: Tensor, rest: bool) -> None:
    refuse_where(
        (student.gather(-1, indices) == -math.inf) & (top != -math.inf),
        "student_logits is -inf at a class that top_log_probs holds possible, so the loss is infinite",
    )
    if rest:
        outside = student.scatter(-1, indices, -math.inf)
        refuse_where(
            (outside == -math.inf).all(dim=-1) & (_log_rest(top).squeeze(-1) > -math.inf),
            "student_logits is -inf at all classes but the top_indices, where the teacher leaves something to the "
            "rest, so the loss is infinite",
        )
