"""What losses on features check before their formula: two sets of features of the same examples."""

import torch
from torch import Tensor

from .._base.checks import widen

MAPS = "maps must be (N, C, H, W)"


def paired(student: Tensor, teacher: Tensor, *, validate: bool, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both widened, the teacher detached; raise unless they are features of the same ``least`` examples or more."""
    check_pair(student, teacher, validate=validate, least=least)
    return widen(student), widen(teacher.detach())


def check_pair(student: Tensor, teacher: Tensor, *, validate: bool, least: int = 1) -> None:
    for name, features in (("student_features", student), ("teacher_features", teacher)):
        _check_form(name, features)
    if len(student) != len(teacher):
        raise ValueError(
            f"student_features has {len(student)} examples and teacher_features {len(teacher)}: "
            "both networks must see the same batch"
        )
    if len(student) < least:
        raise ValueError(
            f"a relation needs at least {least} examples in the batch, got {len(student)}: with drop_last=True a "
            "loader leaves out a last batch that is too small"
        )
    for name, features in (("student_features", student), ("teacher_features", teacher)):
        if validate and not torch.isfinite(features).all():
            raise ValueError(f"{name} contains NaN or infinity: look for a diverged model or a division by zero")


def _check_form(name: str, features: Tensor) -> None:
    if not isinstance(features, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(features).__name__}")
    if not features.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {features.dtype}")
    if features.ndim < 2 or features.numel() == 0:
        raise ValueError(f"{name} must be (N, ...), examples first and at least one, got {tuple(features.shape)}")


def check_maps(student: Tensor, teacher: Tensor) -> None:
    """Raise unless both are (N, C, H, W) with equal H and W."""
    if student.ndim != 4 or teacher.ndim != 4:
        raise ValueError(f"{MAPS}, got {tuple(student.shape)} and {tuple(teacher.shape)}")
    if student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"the student's maps are {tuple(student.shape[2:])} and the teacher's {tuple(teacher.shape[2:])}: shrink "
            "the larger ones with torch.nn.functional.adaptive_avg_pool2d, or choose layers of one resolution"
        )


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Scaled to length 1 along ``dim``; a vector of zeros stays one, and gets no gradient instead of an endless one."""
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    zero = length == 0
    return vectors * torch.where(zero, 0.0, 1 / torch.where(zero, 1.0, length))
