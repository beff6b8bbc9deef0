"""How values are distributed: weights and a threshold, activations and a grid, densities."""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from torch import Tensor

from .style import BLUE, GREEN, PURPLE, RED, check_count


def weight_histogram(axis: Axes, weights: Mapping[str, Tensor], *, threshold: float, bins: int = 81) -> Axes:
    """How often each weight's value occurs, one line per layer, on a log scale; what is in the band is pruned.

    >>> figure, axis = axes_grid()
    >>> axis = weight_histogram(axis, {"first": torch.randn(100), "last": torch.randn(50)}, threshold=0.5)
    >>> axis.get_title()
    'threshold 0.500'
    """
    check_count("layers", weights, 4)
    reach = max(weight.abs().max().item() for weight in weights.values())
    styles = zip((BLUE, RED, GREEN, PURPLE), ("-", "--", "-.", ":"), strict=True)
    for (name, weight), (colour, dash) in zip(weights.items(), styles, strict=False):
        counts, edges = torch.histogram(weight.detach().flatten().float().cpu(), bins=bins, range=(-reach, reach))
        axis.stairs(counts.clamp(min=0.5), edges, color=colour, linestyle=dash, label=name)
    axis.axvspan(-threshold, threshold, color="0.85", label="pruned")
    axis.set(title=f"threshold {threshold:.3f}", xlabel="weight", ylabel="count", yscale="log")
    axis.legend(frameon=False, fontsize=8)
    return axis


def grid_histogram(axis: Axes, values: Tensor, *, levels: Tensor, bins: int = 121) -> Axes:
    """How often each value occurs, and below it the grid of ``levels`` (L,) that it is rounded to.

    >>> figure, axis = axes_grid()
    >>> axis = grid_histogram(axis, torch.randn(100), levels=torch.linspace(-2, 2, 15))
    >>> axis.get_title()
    '15 levels'
    """
    counts, edges = torch.histogram(values.detach().flatten().float().cpu(), bins=bins)
    axis.stairs(counts, edges, color=BLUE, fill=True, alpha=0.6)
    axis.plot(levels.tolist(), [0.0] * len(levels), "|", color=RED, markersize=14)
    axis.set(title=f"{len(levels)} levels", xlabel="value", ylabel="count")
    return axis


def two_peaks(axis: Axes, grid: Tensor, target: Tensor, fits: dict[str, Tensor]) -> Axes:
    """A target density over ``grid``, filled, and the densities fitted to it, told apart by colour and dash.

    >>> figure, axis = axes_grid()
    >>> grid = torch.linspace(-4, 4, 81)
    >>> axis = two_peaks(axis, grid, torch.exp(-(grid**2)), {"a fit": torch.exp(-((grid - 1) ** 2))})
    >>> [text.get_text() for text in axis.get_legend().get_texts()]
    ['target p', 'a fit']
    """
    axis.fill_between(grid, target, color="0.85", label="target p")
    for (name, density), colour, dash in zip(fits.items(), (BLUE, RED, GREEN), ("-", "--", "-."), strict=False):
        axis.plot(grid, density, dash, color=colour, label=name)
    axis.set(title="One peak for two", xlabel="x", ylabel="density")
    axis.legend(frameon=False, fontsize=8)
    return axis
