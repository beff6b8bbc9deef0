"""What losses on features do around their formula: check two sets of features, look at the finished number.

The inputs are searched only when that number is not finite.
"""

import math

import torch
from torch import Tensor

from .._base.checks import widen

SIDES = "student_features", "teacher_features"


def paired(student: Tensor, teacher: Tensor, *, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both widened to one dtype, the teacher detached; raise unless they are features of ``least`` examples or more."""
    check_pair(student, teacher, least=least)
    student, teacher = widen(student), widen(teacher.detach())
    common = torch.promote_types(student.dtype, teacher.dtype)
    return student.to(common), teacher.to(common)


def check_pair(student: Tensor, teacher: Tensor, *, least: int = 1, sides: tuple[str, str] = SIDES) -> None:
    for name, features in zip(sides, (student, teacher), strict=True):
        _check_form(name, features)
    if len(student) != len(teacher):
        raise ValueError(
            f"{sides[0]} has {len(student)} examples and {sides[1]} {len(teacher)}: both networks must see the same "
            "batch"
        )
    if len(student) < least:
        raise ValueError(
            f"a relation needs at least {least} examples in the batch, got {len(student)}: with drop_last=True a "
            "loader leaves out a last batch that is too small"
        )


def _check_form(name: str, features: Tensor) -> None:
    if not isinstance(features, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, got {type(features).__name__}: of a layer that returns several, pick one, "
            "for example in loss=lambda student, teacher: hint_loss(student[0], teacher[0])"
        )
    if not features.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {features.dtype}")
    if features.ndim < 2 or features.numel() == 0:
        raise ValueError(f"{name} must be (N, ...), examples first and at least one, got {tuple(features.shape)}")


def check_maps(student: Tensor, teacher: Tensor) -> None:
    """Raise unless both are (N, C, H, W) with equal H and W, more than one position."""
    if student.ndim != 4 or teacher.ndim != 4:
        raise ValueError(
            f"maps must be (N, C, H, W), got {tuple(student.shape)} and {tuple(teacher.shape)}: name a layer that "
            "returns maps, or use a loss on features"
        )
    if student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"the student's maps are {tuple(student.shape[2:])} and the teacher's {tuple(teacher.shape[2:])}: shrink "
            "the larger ones with torch.nn.functional.adaptive_avg_pool2d, or choose layers of one resolution"
        )
    if student.shape[2:].numel() == 1:
        raise ValueError("maps of a single position look nowhere in particular: use hint_loss, or a layer before it")


def finished(loss: Tensor, student: Tensor, teacher: Tensor, *, validate: bool) -> Tensor:
    """The loss; raise where it is not finite, naming what is wrong."""
    if not validate or math.isfinite(loss.item()):
        return loss
    for name, features in zip(SIDES, (student, teacher), strict=True):
        if not torch.isfinite(features).all():
            raise ValueError(f"{name} contains NaN or infinity: look for a diverged model or a division by zero")
    raise ValueError(f"the loss overflows {loss.dtype}: the features are too large, look for a diverged model")


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Scaled to length 1 along ``dim``; a vector of zeros stays one, and gets no gradient instead of an endless one.

    One whose length overflows becomes NaN, which `finished` refuses, and not zeros.
    """
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / torch.where(length == 0, 1.0, torch.where(length == math.inf, math.nan, length))


def scaled(products: Tensor, dim: int) -> Tensor:
    """Divided by the largest along ``dim``, so that no square of a product overflows or vanishes in `unit`."""
    largest = products.detach().abs().amax(dim=dim, keepdim=True)
    return products / torch.where(largest == 0, 1.0, largest)


def product(first: Tensor, second: Tensor) -> Tensor:
    """``first @ second`` in their own precision, also under autocast."""
    with torch.autocast(first.device.type, enabled=False):
        return first @ second
