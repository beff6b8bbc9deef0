"""What every loss on logits does around its formula: leave positions out, reduce, and look at the finished number.

The inputs are searched only when that number is not finite. Then either something is wrong, and is named, or some
class was declared impossible by -inf, which the formulas cannot digest (0 · -inf), and they are evaluated again.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from .._base.checks import (
    IGNORED,
    check_classes,
    check_label_range,
    check_labels,
    check_logits,
    check_mask,
    check_no_nan,
    check_same_shape,
    check_temperature,
    refuse_where,
    widen,
)

Reduction = Literal["mean", "sum", "none"]
Mean = Callable[..., Tensor]
"""``mean(values, weight)``, as the formula of a loss gets it: see `over_positions`."""


def over_positions(
    formula: Callable[..., Tensor],
    student: Tensor,
    teacher: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    temperature: float | Tensor = 1.0,
    mask: Tensor | None,
    reduction: Reduction,
    validate: bool,
    refuse_impossible: Callable[..., None],
    exclusive: bool = True,
) -> Tensor:
    """``formula(student[, teacher][, labels], temperature, mean)`` over the positions that count.

    ``mean(values, weight)`` is the weighted mean, or what ``reduction`` says, of values (...).
    ``refuse_impossible(student[, teacher][, labels])`` raises where -inf among the logits makes the loss infinite.
    Classes that are ``exclusive`` are two at least.
    """
    _check_forms(student, teacher, labels, temperature, mask, validate=validate)
    if exclusive:
        check_classes("student_logits", student)
    logits = [widen(student)] if teacher is None else [widen(student), widen(teacher.detach())]
    if isinstance(temperature, Tensor):
        temperature = temperature.to(logits[0].dtype)
    keep, labels, cleared = _kept(mask, labels, student.shape[-1], validate=validate)
    if keep is not None and cleared:  # whatever is there must not reach the gradient, not even as 0 · NaN
        logits = [torch.where(keep.unsqueeze(-1), each, 0.0) for each in logits]
    indices = [] if labels is None else [labels]
    mean = partial(_reduce, keep=keep, reduction=reduction)
    loss = formula(*logits, *indices, temperature, mean)
    if not validate or _is_finite(loss):
        return loss
    _name_what_is_wrong(*logits)
    refuse_impossible(*logits, *indices)
    logits = [_underflowing(each, temperature) for each in logits]
    loss = formula(*logits, *indices, temperature, mean)
    if _is_finite(loss):
        return loss
    raise ValueError(f"the loss overflows {loss.dtype}: the logits lie too far apart, or the temperature is extreme")


def _check_forms(
    student: Tensor,
    teacher: Tensor | None,
    labels: Tensor | None,
    temperature: float | Tensor,
    mask: Tensor | None,
    *,
    validate: bool,
) -> None:
    check_logits("student_logits", student)
    if teacher is not None:
        check_logits("teacher_logits", teacher)
        check_same_shape(student, teacher)
    if labels is not None:
        check_labels(labels, student)
    if mask is not None:
        check_mask(mask, student.shape[:-1])
    check_temperature(temperature, student.shape[:-1], validate=validate)


def _kept(
    mask: Tensor | None, labels: Tensor | None, classes: int, *, validate: bool
) -> tuple[Tensor | None, Tensor | None, bool]:
    """Which positions count (None: all), labels that can index, and whether the logits elsewhere are to be cleared."""
    keep, cleared = mask, mask is not None
    if labels is not None:
        labels = labels if mask is None else torch.where(mask, labels, IGNORED)
        if not validate or check_label_range(labels, classes):
            keep, cleared = labels != IGNORED, cleared or validate
            labels = torch.where(keep, labels, 0)
    if validate and keep is not None and not keep.any():
        raise ValueError(f"no position is left: the mask is False, or the label {IGNORED}, everywhere")
    return keep, labels, cleared


def _reduce(
    values: Tensor, weight: float | Tensor | None = None, *, keep: Tensor | None, reduction: Reduction
) -> Tensor:
    if isinstance(weight, Tensor):  # by position; a number waits until there is a single value to multiply
        return _reduce(weight * values, keep=keep, reduction=reduction)
    if keep is not None:
        values = torch.where(keep, values, 0.0)
    if reduction == "mean":
        values = values.mean() if keep is None else values.sum() / keep.sum()
    elif reduction == "sum":
        values = values.sum()
    elif reduction != "none":
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    return values if weight is None else weight * values


def _is_finite(loss: Tensor) -> bool:
    return math.isfinite(loss.item()) if loss.ndim == 0 else bool(torch.isfinite(loss).all())


def _name_what_is_wrong(*logits: Tensor) -> None:
    for name, each in zip(("student_logits", "teacher_logits"), logits, strict=False):
        check_no_nan(name, each)


def _underflowing(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Logits with each -inf replaced by a number so low that its probability is exactly 0, also in float64.

    So no term is 0 · -inf, which is NaN, and a temperature that learns gets a gradient that is finite.
    """
    impossible = logits == -math.inf
    lowest = torch.where(impossible, math.inf, logits.detach()).amin(dim=-1, keepdim=True)
    hottest = max(1.0, torch.as_tensor(temperature).max().item())
    return torch.where(impossible, lowest - lowest.abs() - 1000 * hottest, logits)


# --- where -inf makes a loss infinite or undefined --------------------------------------------------------------------


def refuse_student_excluding(student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> None:
    refuse_where(
        (student == -math.inf) & (teacher != -math.inf),
        "student_logits is -inf where teacher_logits is not, so the loss is infinite: "
        "a class that only the student holds impossible can never be learned",
    )


def refuse_label_excluded(student: Tensor, labels: Tensor) -> None:
    at_label = student.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    refuse_where(at_label == -math.inf, "student_logits is -inf at the label, so the loss is infinite")


def refuse_teacher_excluding(student: Tensor, teacher: Tensor) -> None:
    refuse_where(
        (teacher == -math.inf) & (student != -math.inf),
        "teacher_logits is -inf where student_logits is not, so the loss is infinite: the student gives probability "
        "to a class that cannot be. Set the student's logits to -inf there, too, or use kd_loss or js_loss",
    )


def refuse_label_alone(student: Tensor, teacher: Tensor, labels: Tensor) -> None:
    refuse_student_excluding(student, teacher)
    others = teacher.scatter(-1, labels.unsqueeze(-1), -math.inf)
    refuse_where(
        (others == -math.inf).all(dim=-1),
        "teacher_logits is -inf everywhere but at the label, so NCKD, the divergence among the other classes, "
        "is undefined",
    )


def refuse_any_impossible(*logits: Tensor) -> None:
    for name, each in zip(("student_logits", "teacher_logits"), logits, strict=False):
        refuse_where(each == -math.inf, f"{name} contains -inf, a class that cannot be: leave that class out")
