"""What to measure before a compressed network takes the place of another: one card, on the same images."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import metrics
from ._base.checks import IGNORED
from .data import Split
from .metrics import Flips, Interval
from .robustness import CORRUPTIONS
from .training.batches import EMPTY, Data, check_data
from .training.networks import Output, labelled_logits

Change = Callable[[Tensor], Tensor]


class Side(NamedTuple):
    """One network's measures: fractions, and bytes."""

    accuracy: Interval
    calibration_error: float
    temperature: float
    """fitted on validation"""
    refitted_error: float
    """the calibration error at that temperature"""
    corrupted: dict[str, float]
    """accuracy, by the name of the corruption"""
    size: int | None


class Card(NamedTuple):
    """What `compare` measures; printed, it is a table."""

    before: Side
    after: Side
    change: Interval
    """of the accuracy"""
    flips: Flips
    worst_class: tuple[int, float, float]
    """the class, and its accuracy before and after"""

    def __str__(self) -> str:
        """The table."""
        sides, (label, *worst) = (self.before, self.after), self.worst_class
        rows = [("", "before", "after"), ("accuracy", *(_percent(*side.accuracy) for side in sides))]
        rows.append(("  change", "", _percent(*self.change)))
        rows.append(("predictions changed", "", f"{self.flips.changed} of {self.flips.positions}"))
        rows.append(("  broken / fixed", "", f"{self.flips.broken} / {self.flips.fixed}"))
        rows.append((f"worst class, {label}", *map(_percent, worst)))
        rows.append(("calibration error", *(_percent(side.calibration_error) for side in sides)))
        rows.append(("  temperature refitted", *(_percent(side.refitted_error) for side in sides)))
        for name in self.before.corrupted:
            rows.append((f"accuracy, {name}", *(_percent(side.corrupted[name]) for side in sides)))
        rows.append(("bytes", *("not given" if side.size is None else f"{side.size:,}" for side in sides)))
        return "\n".join(f"{name:<24}{one:>24}{two:>24}".rstrip() for name, one, two in rows)


def compare(
    before: Callable[..., Any],
    after: Callable[..., Any],
    data: Data,
    *,
    validation: Data,
    corrupted: Mapping[str, Change] | None = None,
    sizes: tuple[int, int] | None = None,
    output: Output | None = None,
) -> Card:
    """The card of ``after``, the compressed network, beside ``before``, on the test ``data``, a `Split` or a loader.

    Both see each batch in turn, so a loader may shuffle. They are networks, or anything that maps images to logits: an
    `integer_network`, or ``lambda images: run(path, images)``. ``validation`` are other examples, for the temperature.
    ``corrupted`` are changes of the images by name, by default noise of strength 0.1; ``{}`` for inputs that are no
    images. ``sizes`` are the bytes of the two files, such as ``path.stat().st_size``. The worst class is the one whose
    accuracy falls most, the first of equals. Two seeds of one network differ, too: compare them before you blame
    compression. Raises ``ValueError`` for no examples, for different classes, and where ``validation`` is ``data``.

    >>> from kdcourse.data import Split
    >>> test, validation = (Split(torch.rand(50, 1, 4, 4), torch.arange(50) % 3) for _ in range(2))
    >>> dense = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    >>> compare(dense, lambda images: 2 * dense(images), test, validation=validation).flips.changed
    0
    """
    if validation is data:
        raise ValueError("validation is data: fit the temperature on other examples than those that judge it")
    changes = {"noise": CORRUPTIONS["noise"]} if corrupted is None else dict(corrupted)
    models = [_Called(model, change) for model in (before, after) for change in (None, *changes.values())]
    second = len(models) // 2
    logits, labels = _logits(models, data, output)
    fitted, known = _logits([models[0], models[second]], validation, output)
    one, two = (
        _side(own, labels, metrics.fit_temperature(other, known), list(changes), None if sizes is None else sizes[k])
        for k, (own, other) in enumerate(zip((logits[:second], logits[second:]), fitted, strict=True))
    )
    flipped = metrics.flips(logits[0], logits[second], labels)
    change = metrics.change_interval(flipped.broken or 0, flipped.fixed or 0, len(labels))
    return Card(one, two, change, flipped, _worst_class(logits[0], logits[second], labels))


def _side(logits: list[Tensor], labels: Tensor, temperature: float, names: list[str], size: int | None) -> Side:
    """From the logits on the images as they are, and on those corrupted by ``names``."""
    clean, *worse = logits
    right = int((clean.argmax(dim=1) == labels).sum())
    errors = [metrics.expected_calibration_error(clean.double() / by, labels) for by in (1.0, temperature)]
    corrupted = {name: metrics.accuracy(each, labels) for name, each in zip(names, worse, strict=True)}
    return Side(metrics.accuracy_interval(right, len(labels)), errors[0], temperature, errors[1], corrupted, size)


class _Called(nn.Module):
    """A network or function, called on images that were changed before."""

    def __init__(self, model: Any, change: Change | None) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if self.change is not None:
            if len(inputs) != 1 or named:
                raise TypeError("only one tensor of images can be corrupted: pass corrupted={}")
            inputs = (self.change(inputs[0]),)
        return self.model(*inputs, **named)


def _logits(models: list[_Called], data: Data, output: Output | None) -> tuple[list[Tensor], Tensor]:
    """Each one's logits (M, C) and the labels (M,) of the positions that have one, batch by batch."""
    check_data(data)
    if isinstance(data, Split):
        data = [(images, labels) for images, labels in zip(*(part.split(1000) for part in data), strict=True)]
    found = [[labelled_logits(model, [batch], output) for model in models] for batch in data]
    if not found:
        raise ValueError(EMPTY)
    labels = torch.cat([batch[0][1] for batch in found])
    kept = labels != IGNORED
    return [torch.cat([batch[k][0] for batch in found])[kept] for k in range(len(models))], labels[kept]


def _worst_class(first: Tensor, second: Tensor, labels: Tensor) -> tuple[int, float, float]:
    tables = [metrics.confusion_matrix(logits, labels).double() for logits in (first, second)]
    was, now = (table.diagonal() / table.sum(dim=1) for table in tables)
    label = int((now - was).nan_to_num(2.0).argmin())  # a class without examples is no class of these
    return label, was[label].item(), now[label].item()


def _percent(value: float, *ends: float) -> str:
    between = f" ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})" if ends else ""
    return f"{100 * value:.1f} %{between}"
