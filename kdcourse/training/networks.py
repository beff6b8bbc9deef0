"""Networks as they are run: in which mode, on which inputs, and which of their outputs are the logits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base.checks import check_labels, widen
from .._base.modes import call, in_eval_mode, switched_off
from ..data import Split
from ..metrics import accuracy, expected_calibration_error
from .batches import EMPTY, Data, batch_of, check_data, moved

Output = Callable[[Any], Tensor]
"""From what a network returns to its logits (..., C)."""


class Scores(NamedTuple):
    """What `evaluate` measures: two fractions in [0, 1] and the mean cross-entropy in nats."""

    accuracy: float
    cross_entropy: float
    calibration_error: float


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Inside the block ``model`` is in eval mode and its parameters take no gradient; both are restored after.

    Eval mode matters apart from gradients: in train mode batch norm keeps updating its statistics
    even under ``torch.no_grad()``. Several threads may use one model: the last to end restores it.

    >>> model = nn.Linear(2, 2)
    >>> with frozen(model):
    ...     print(model.training, model.weight.requires_grad)
    False False
    >>> print(model.training, model.weight.requires_grad)
    True True
    """
    with in_eval_mode(model), switched_off(model.parameters(), "requires_grad"):
        yield model


def predict(model: nn.Module, inputs: Tensor | Data, *, batch_size: int = 1000, output: Output | None = None) -> Tensor:
    """Logits (N, ..., C) of ``inputs`` (N, ...) in eval mode, without gradient, on the model's device.

    ``inputs`` is a tensor, a `Split` or a loader, whose labels are not read. ``output`` picks the logits from what the
    model returns, as in `fit`. Half precision is returned in float32.

    >>> model = nn.Linear(2, 3)
    >>> predict(model, torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """
    if isinstance(inputs, Split):
        inputs = inputs.images
    if isinstance(inputs, Tensor):
        batches: Iterable[Any] = inputs.split(batch_size)
    else:
        check_data(inputs)
        batches = (batch_of(item, None).inputs for item in inputs)
    return logits_of_batches(model, batches, output)


@torch.no_grad()
def logits_of_batches(model: nn.Module, batches: Iterable[Any], output: Output | None, **names: str) -> Tensor:
    """The logits of all batches of inputs, in eval mode; ``names`` are for `logits_of`."""
    device = device_of(model)
    with in_eval_mode(model), fresh_casts():
        found = [logits_of(call(model, moved(batch, device)), output, **names) for batch in batches]
    if not found:
        raise ValueError(EMPTY)
    return torch.cat(found)


def evaluate(model: nn.Module, data: Data, *, output: Output | None = None) -> Scores:
    """Accuracy, cross-entropy (nats) and expected calibration error of ``model`` on a `Split` or a loader.

    Every position that has a label counts once; those labelled -100 are left out.

    >>> from kdcourse.data import Split
    >>> evaluate(nn.Identity(), Split(torch.eye(2), torch.tensor([0, 0]))).accuracy  # the images are the logits
    0.5
    """
    logits, labels = labelled_logits(model, data, output)
    return Scores(
        accuracy(logits, labels), F.cross_entropy(logits, labels).item(), expected_calibration_error(logits, labels)
    )


def labelled_logits(model: nn.Module, data: Data, output: Output | None) -> tuple[Tensor, Tensor]:
    """Logits (M, C) and labels (M,) of every position, on the CPU."""
    check_data(data)
    if isinstance(data, Split):
        return _flat(predict(model, data.images, output=output), data.labels)
    found = []
    for item in data:
        batch = batch_of(item, device_of(model))
        found.append(_flat(logits_of_batches(model, [batch.inputs], output), batch.labels))
    if not found:
        raise ValueError(EMPTY)
    logits, labels = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(labels)


def _flat(logits: Tensor, labels: Any) -> tuple[Tensor, Tensor]:
    check_class_labels(labels, logits)
    return logits.cpu().reshape(-1, logits.shape[-1]), labels.cpu().reshape(-1)


def check_class_labels(labels: Any, logits: Tensor) -> None:
    """Raise unless ``labels`` is an int64 tensor with one label for each leading position of ``logits``."""
    if labels is None:
        raise TypeError("labels are needed here, and the loader gives none (distillation with alpha=1 needs none)")
    check_labels(labels, logits)


def logits_of(
    found: Any, output: Output | None, *, whose: str = "the network's output", option: str = "output="
) -> Tensor:
    """The logits in what a network returned, half precision widened: picked by ``output``, or where there is no doubt.

    No doubt is a tensor, or a dict or object (a Hugging Face ``ModelOutput``) of whose names "logits" alone speaks of
    logits. Raises ``TypeError`` for anything else, naming the ``option`` that helps.
    """
    if output is not None:
        found = output(found)
    elif not isinstance(found, Tensor):
        found = _named_logits(found)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"{whose} is a {type(found).__name__}, not a tensor: pass {option}, a function that picks the logits from "
            f"what the network returns, for example {option}lambda out: out[0]"
        )
    if not found.is_floating_point():
        raise TypeError(f"{whose} is {found.dtype}: logits must be floating point")
    return widen(found)


def _named_logits(found: Any) -> Any:
    """The entry "logits", if it is the only one whose name speaks of logits; else what was there."""
    if isinstance(found, Mapping):
        fields = found
    else:  # a named tuple, or an object with attributes
        fields = found._asdict() if hasattr(found, "_asdict") else getattr(found, "__dict__", {})
    speaking = [name for name, value in fields.items() if "logits" in str(name) and value is not None]
    return fields["logits"] if speaking == ["logits"] else found


def device_of(model: nn.Module) -> torch.device | None:
    """The device of the model's first parameter or buffer; None for a model that has neither."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return None if first is None else first.device


@contextmanager
def fresh_casts() -> Iterator[None]:
    """Inside the block autocast casts weights again every time: what it keeps until its own end, a step makes stale."""
    before = torch.is_autocast_cache_enabled()
    torch.clear_autocast_cache()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def parts_to_keep(student: nn.Module) -> set[nn.Module]:
    """Parts that stay in eval mode in training: in eval mode now, with parameters none of which takes a gradient."""
    kept: set[nn.Module] = set()
    for module in student.modules():
        parameters = list(module.parameters())
        if not module.training and parameters and not any(parameter.requires_grad for parameter in parameters):
            kept.update(part for part in module.modules() if not part.training)
    return kept
