"""Input checks: say what was wrong and what to do, before broadcasting can hide it."""

import math

import torch
from torch import Tensor

IGNORED = -100
"""The label of a position that is left out, as in `torch.nn.functional.cross_entropy`."""


def check_logits(name: str, logits: Tensor) -> None:
    """Raise unless ``logits`` is a non-empty floating-point tensor with a class dimension. Reads no numbers."""
    if not isinstance(logits, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(logits).__name__}")
    if not logits.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {logits.dtype}: pass logits, not class indices")
    if logits.ndim == 0 or logits.numel() == 0:
        raise ValueError(f"{name} is empty or has no class dimension: shape {tuple(logits.shape)}")


def check_same_shape(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise unless the two shapes are equal."""
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits has shape {tuple(student_logits.shape)} and teacher_logits "
            f"{tuple(teacher_logits.shape)}: they must be equal, broadcasting would hide a mistake"
        )


def check_classes(name: str, logits: Tensor) -> None:
    """Raise if there is a single class."""
    if logits.shape[-1] == 1:
        raise ValueError(
            f"{name} has a single class, shape {tuple(logits.shape)}: its softmax is 1 whatever the logit is. "
            "A loss on logits needs at least two classes, in the last dimension; for a single output z, stack (0, z)"
        )


def check_mask(mask: Tensor, leading: torch.Size) -> None:
    """Raise unless ``mask`` is a bool tensor of shape ``leading``. Reads no numbers."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a bool tensor, True where a position counts, got {found}: use mask.bool()")
    if mask.shape != leading:
        raise ValueError(f"mask has shape {tuple(mask.shape)}: it needs one bool for each position, {tuple(leading)}")


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Raise unless ``labels`` is int64 with one label for every leading position of ``logits``. Reads no numbers."""
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        found = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be an int64 tensor of class indices, got {found}")
    if labels.shape != logits.shape[:-1]:
        classes_second = logits.ndim > 2 and labels.shape == (logits.shape[0], *logits.shape[2:])
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, the logits {tuple(logits.shape)}: "
            f"one label is needed for each leading position, {tuple(logits.shape[:-1])}"
            + (". Classes come last here: pass logits.movedim(1, -1)" if classes_second else "")
        )


def check_label_range(labels: Tensor, classes: int) -> bool:
    """Raise unless every label is a class or -100; return whether any is -100."""
    low, high = labels.aminmax()
    if low.item() >= 0 and high.item() < classes:
        return False
    wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= classes))]
    if len(wrong):
        raise ValueError(
            f"labels must lie in [0, {classes - 1}], or be {IGNORED} where a position is left out, "
            f"found {wrong.unique()[:5].tolist()}"
        )
    return True


def check_no_nan(name: str, logits: Tensor) -> None:
    """Raise where ``logits`` holds NaN or +inf, or a row that is -inf throughout; -inf is a class that cannot be."""
    refuse_where(
        ~(logits < math.inf), f"{name} contains NaN or infinity: look for a diverged model or a division by zero"
    )
    refuse_where(
        (logits == -math.inf).all(dim=-1), f"{name} is -inf for every class of a position: one must be possible"
    )


def refuse_where(wrong: Tensor, sentence: str) -> None:
    """Raise ``sentence`` and the first place at which ``wrong`` is true, if there is one."""
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(f"{sentence} (first at index {place})" if place else sentence)


def check_temperature(temperature: float | Tensor, leading: torch.Size, *, validate: bool) -> None:
    """Raise unless ``temperature`` is a number, or a tensor that broadcasts over ``leading``, finite and above zero."""
    if not isinstance(temperature, Tensor):
        if validate:
            check_positive("temperature", temperature)
        return
    if temperature.dtype == torch.bool or temperature.is_complex():
        raise TypeError(f"temperature must hold real numbers, got {temperature.dtype}")
    trailing = leading[len(leading) - temperature.ndim :]
    fits = all(size in (1, whole) for size, whole in zip(temperature.shape, trailing, strict=False))
    if temperature.ndim > len(leading) or not fits:
        raise ValueError(
            f"temperature has shape {tuple(temperature.shape)}: it must broadcast over the leading dimensions of the "
            f"logits, {tuple(leading)}, without adding any"
        )
    if validate:
        refuse_where(
            ~((temperature > 0) & (temperature < math.inf)), "temperature must be a finite number > 0 everywhere"
        )


def check_finite_float(name: str, logits: Tensor) -> None:
    """Raise unless ``logits`` is a non-empty floating-point tensor with a class dimension, without NaN or infinity."""
    check_logits(name, logits)
    if not torch.isfinite(logits).all():
        raise ValueError(f"{name} contains NaN or infinity: look for a diverged model or a division by zero")


def check_positive(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number above zero."""
    if not (_is_finite_number(name, value) and value > 0):
        raise ValueError(f"{name} must be a finite number > 0, got {value}")


def check_not_negative(name: str, value: float) -> None:
    """Raise unless ``value`` is a finite number, zero or above."""
    if not (_is_finite_number(name, value) and value >= 0):
        raise ValueError(f"{name} must be a finite number >= 0, got {value}")


def check_count(name: str, value: int, *, least: int) -> None:
    """Raise unless ``value`` is an integer of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")


def check_bits(bits: int, *, least: int) -> None:
    """Raise unless codes of so many bits fit a byte."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not least <= bits <= 8:
        raise ValueError(f"bits must be an integer from {least} to 8, got {bits!r}")


def check_fraction(name: str, value: float) -> None:
    """Raise unless ``value`` lies in [0, 1]."""
    if not (_is_finite_number(name, value) and 0.0 <= value <= 1.0):
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def _is_finite_number(name: str, value: float) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor of several elements
        raise TypeError(f"{name} must be a number, got {type(value).__name__}") from None


def widen(logits: Tensor) -> Tensor:
    """Half precision to float32, where exponentials neither overflow nor vanish; anything else unchanged."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def check_float_images(images: Tensor, where: str = "") -> None:
    """Raise unless ``images`` is a floating-point tensor; ``where`` says which numbers it should hold."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        found = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a floating-point tensor{where}, got {found}: divide bytes by 255")


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise unless ``tensor`` is a non-empty float32 or float64 tensor without NaN or infinity."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be float32 or float64, got {tensor.dtype}: convert it first")
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: shape {tuple(tensor.shape)}")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} contains NaN or infinity: look for a diverged model or a division by zero")


def check_weight(name: str, weight: Tensor) -> None:
    """Raise unless ``weight`` is a non-empty floating-point tensor of finite numbers."""
    if not weight.is_floating_point() or weight.numel() == 0:
        raise ValueError(f"{name} must be a non-empty floating-point tensor, got {weight.dtype} {tuple(weight.shape)}")
    if not torch.isfinite(weight).all():
        raise ValueError(f"{name} contains NaN or infinity: it cannot be ranked; look for a diverged model")


def check_matrix(name: str, weight: Tensor) -> None:
    """Raise unless ``weight`` is (outputs, inputs)."""
    if weight.ndim != 2:
        raise ValueError(
            f"{name} must be a weight (outputs, inputs), got shape {tuple(weight.shape)}: "
            "of a convolution's pass weight.flatten(1)"
        )
