"""What a classifier sees and predicts: images, probabilities, calibration."""

import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from ..metrics import entropy, reliability
from .style import BLACK, BLUE, ORANGE, RED


def digits(axes: Sequence[Axes], images: Tensor, titles: Sequence[str] = ()) -> Sequence[Axes]:
    """One image (1, 28, 28) on each of the Axes, dark ink on white, with its title.

    >>> figure, axes = axes_grid(1, 2)
    >>> axes = digits(axes, torch.rand(2, 1, 28, 28), titles=["a 3", "a 7"])
    >>> axes[1].get_title()
    'a 7'
    """
    for place, (axis, image) in enumerate(zip(axes, images, strict=True)):
        axis.imshow(image.squeeze(0).numpy(force=True), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        if titles:
            axis.set_title(titles[place], fontsize=9)
    return axes


def class_bars(axis: Axes, probabilities: Tensor, *, title: str, label: int | None = None) -> Axes:
    """Probability (C,) of every class; the bar of ``label`` is hatched.

    >>> figure, axis = axes_grid()
    >>> axis = class_bars(axis, torch.tensor([0.1, 0.7, 0.2]), title="A digit", label=1)
    >>> [round(float(bar.get_height()), 1) for bar in axis.patches]
    [0.1, 0.7, 0.2]
    """
    bars = axis.bar(range(len(probabilities)), probabilities.tolist(), color=BLUE)
    if label is not None:
        bars[label].set(hatch="///", facecolor=ORANGE, edgecolor="black")
    axis.set(title=title, xlabel="class", ylabel="probability", xticks=range(len(probabilities)))
    return axis


def matrix(
    axis: Axes, values: Tensor, *, title: str, xlabel: str, ylabel: str, numbers: str = "{:.0f}", hide_zero: bool = True
) -> Axes:
    """A (C, C) table as shades with its numbers written in; the diagonal is left blank in the shading.

    >>> figure, axis = axes_grid()
    >>> counts = torch.tensor([[9, 1], [0, 8]])
    >>> axis = matrix(axis, counts, title="Confusions", xlabel="predicted", ylabel="label")
    >>> [text.get_text() for text in axis.texts]
    ['9', '1', '8']
    """
    shades = values.double().clone().fill_diagonal_(0)
    top = shades.max().item() or 1.0
    axis.imshow(shades.numpy(force=True), cmap="Blues", vmin=0, vmax=top)
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            if value or not hide_zero:
                dark = shades[row, column] > 0.6 * top
                axis.text(
                    column, row, numbers.format(value), ha="center", va="center", fontsize=7,
                    color="white" if dark else "black",
                )  # fmt: skip
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel, xticks=range(len(values)), yticks=range(len(values)))
    return axis


def reliability_diagram(axis: Axes, logits: Tensor, labels: Tensor, *, title: str, bins: int = 10) -> Axes:
    """Accuracy against confidence, one dot per bin, its area the fraction of examples; the dashed line is calibration.

    >>> figure, axis = axes_grid()
    >>> axis = reliability_diagram(axis, torch.randn(50, 3), torch.randint(3, (50,)), title="Random logits")
    >>> axis.get_xlabel(), axis.get_ylabel()
    ('confidence', 'accuracy')
    """
    groups = reliability(logits, labels, bins=bins)
    share = groups.examples / groups.examples.sum()
    axis.plot([0, 1], [0, 1], "--", color=BLACK, linewidth=1, label="calibrated")
    axis.scatter(groups.confidence, groups.accuracy, s=20 + 400 * share, color=BLUE, alpha=0.8, label="bin")
    axis.set(title=title, xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(-0.03, 1.03))
    return axis


def soft_target(
    axes: Sequence[Axes], image: Tensor, logits: Tensor, label: int, *, temperature: float
) -> Sequence[Axes]:
    """On three Axes: the image, the softened classes, and entropy over temperature with this temperature marked.

    >>> figure, axes = axes_grid(1, 3)
    >>> axes = soft_target(axes, torch.rand(1, 28, 28), torch.randn(10), 7, temperature=4.0)
    >>> [axis.get_title() for axis in axes]
    ['label 7', 'softened at T = 4', 'entropy']
    """
    digits(axes[:1], image.unsqueeze(0), titles=[f"label {label}"])
    class_bars(axes[1], (logits / temperature).softmax(dim=-1), title=f"softened at T = {temperature:.2g}", label=label)
    axes[1].set_ylim(0, 1)
    grid = torch.logspace(-1, 2, 60, dtype=logits.dtype)
    axes[2].semilogx(grid, entropy(logits / grid[:, None]), color=BLUE)
    axes[2].plot(temperature, entropy(logits, temperature=temperature).item(), "o", color=RED)
    axes[2].axhline(math.log(len(logits)), color=BLACK, linestyle="--", linewidth=1)
    axes[2].set(title="entropy", xlabel="temperature T", ylabel="nats", ylim=(-0.07, 2.5))
    axes[2].minorticks_off()
    return axes
