"""Explorers: a few controls over one picture drawn by `kdcourse.plots`, and a line that says its numbers.

Controls take the keyboard (Tab to reach one, arrow keys to move it, Space to tick a box). The picture is an HTML
image with alt text, so nothing but ipywidgets' basic controls is needed.
"""

import copy
import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._base.extras import missing
from .data import Split
from .metrics import accuracy, entropy, pareto_front
from .pruning import apply_masks, global_magnitude_masks, prunable_weights
from .quantization import dequantize, fake_quantize, qparams_from_range, sqnr_db
from .training import predict

try:
    import ipywidgets

    from . import plots
except ImportError as error:
    raise missing(error, extra="widgets") from error

WIDE = ipywidgets.Layout(width="420px")
NARROW, ROWS = ipywidgets.Layout(width="auto"), ipywidgets.Layout(flex_flow="row wrap")
Draw = Callable[..., tuple[str, str]]
AXES = {"bytes": ("size (bytes)", "{:,.0f} bytes"), "milliseconds": ("latency (ms)", "{:.4g} ms")}


def explore_temperature(images: Tensor, logits: Tensor, labels: Tensor) -> ipywidgets.VBox:
    """Sliders for the image (N, 1, 28, 28) and the temperature; its softened classes (N, C) and their entropy.

    >>> explorer = explore_temperature(torch.rand(3, 1, 28, 28), torch.randn(3, 10), torch.tensor([7, 2, 1]))
    >>> explorer.children[1].value = 4.0
    >>> explorer.children[-2].value[:31]
    "<p aria-live='polite'>T = 4.00:"
    """
    number = ipywidgets.IntSlider(0, 0, len(images) - 1, description="image", layout=WIDE)
    temperature = ipywidgets.FloatLogSlider(1.0, min=-1, max=2, step=0.05, description="T", layout=WIDE)

    def draw(number: int, temperature: float) -> tuple[str, str]:
        nats = entropy(logits[number], temperature=temperature).item()
        top = (logits[number] / temperature).softmax(dim=-1).max().item()
        says = f"T = {temperature:.2f}: entropy {nats:.3f} nats, largest probability {top:.3f}"
        figure, axes = plots.axes_grid(1, 3, height=2.4, fast=True)
        label = int(labels[number])
        plots.soft_target(axes, images[number], logits[number], label, temperature=temperature)
        return plots.picture(
            figure, f"Image of a {label}, its softened classes and their entropy. {says}", resolution=1
        ), says

    return _explorer(draw, number=number, temperature=temperature)


def explore_kl(grid: Tensor, target: Tensor) -> ipywidgets.VBox:
    """Sliders for the mean and width of one normal density q on ``grid``; KL(p ‖ q) and KL(q ‖ p) to ``target``.

    >>> grid = torch.linspace(-8, 8, 401)
    >>> explorer = explore_kl(grid, 0.5 * normal(grid, -2, 0.7) + 0.5 * normal(grid, 2, 0.7))
    >>> explorer.children[0].description, explorer.children[1].description
    ('mean', 'width')
    """
    mean = ipywidgets.FloatSlider(0.0, min=-5, max=5, step=0.1, description="mean", layout=WIDE)
    width = ipywidgets.FloatSlider(1.0, min=0.3, max=4, step=0.1, description="width", layout=WIDE)

    def draw(mean: float, width: float) -> tuple[str, str]:
        fit = normal(grid, mean, width)
        forward, reverse = divergence(target, fit, grid), divergence(fit, target, grid)
        says = f"KL(p ‖ q) = {forward:.3f} nats, KL(q ‖ p) = {reverse:.3f} nats"
        figure, axis = plots.axes_grid(width=5.2, height=2.6, fast=True)
        plots.two_peaks(axis, grid, target, {"your q": fit})
        return plots.picture(
            figure, f"A target with two peaks and one normal density over it. {says}", resolution=1
        ), says

    return _explorer(draw, mean=mean, width=width)


def explore_threshold(network: nn.Module, split: Split) -> ipywidgets.VBox:
    """A slider for the fraction of weights pruned; where the threshold lies, and the accuracy on ``split`` then.

    >>> from kdcourse.data import Split
    >>> from kdcourse.models import mlp
    >>> explorer = explore_threshold(mlp((8,)), Split(torch.rand(20, 1, 28, 28), torch.randint(10, (20,))))
    >>> explorer.children[0].value = 0.9
    >>> explorer.children[-2].value[:34]
    "<p aria-live='polite'>90% pruned, "
    """
    share = ipywidgets.FloatSlider(0.5, min=0.0, max=0.99, step=0.01, description="pruned", layout=WIDE)
    weights = {name: weight.detach() for name, weight in prunable_weights(network).items()}
    sizes = torch.cat([weight.flatten() for weight in weights.values()]).abs()

    def draw(share: float) -> tuple[str, str]:
        pruned = copy.deepcopy(network)
        apply_masks(pruned, global_magnitude_masks(network, share))
        threshold = sizes.kthvalue(max(1, round(share * len(sizes)))).values.item() if share else 0.0
        right = accuracy(predict(pruned, split.images), split.labels)
        says = f"{share:.0%} pruned, threshold {threshold:.3f}: accuracy {right:.3f}"
        figure, axis = plots.axes_grid(width=5.2, height=2.6, fast=True)
        plots.weight_histogram(axis, weights, threshold=threshold)
        return plots.picture(figure, f"Weights by size, with the threshold. {says}", resolution=1), says

    return _explorer(draw, share=share)


def explore_grid(values: Tensor) -> ipywidgets.VBox:
    """Sliders for bits and range over a symmetric grid; where the ``values`` (any shape) fall, and what it costs.

    >>> explorer = explore_grid(torch.randn(100))
    >>> explorer.children[0].value = 3
    >>> explorer.children[-2].value[:28]
    "<p aria-live='polite'>3 bits"
    """
    reach = values.detach().abs().max().item()
    bits = ipywidgets.IntSlider(4, min=2, max=8, description="bits", layout=WIDE)
    share = ipywidgets.FloatSlider(1.0, min=0.05, max=1.0, step=0.05, description="range", layout=WIDE)

    def draw(bits: int, share: float) -> tuple[str, str]:
        params = qparams_from_range(-share * reach, share * reach, bits=bits, symmetric=True)
        decibels = sqnr_db(values.detach(), fake_quantize(values.detach(), params)).item()
        outside = (values.detach().abs() > share * reach).double().mean().item()
        says = f"{bits} bits, range ±{share * reach:.3f}: {decibels:.2f} dB, {outside:.1%} clipped"
        figure, axis = plots.axes_grid(width=5.2, height=2.6, fast=True)
        plots.grid_histogram(axis, values, levels=dequantize(torch.arange(params.qmin, params.qmax + 1), params))
        return plots.picture(figure, f"Values and the grid they are rounded to. {says}", resolution=1), says

    return _explorer(draw, bits=bits, share=share)


def explore_pareto(records: Sequence[Mapping[str, Any]]) -> ipywidgets.VBox:
    """Controls for the cost, the seeds and the stages; accuracy against cost of ``records``, and who is undominated.

    A record has "arm", "stage", "seed", "test" (accuracy), "bytes" and "milliseconds". Without one of
    the first four it is not a network's and left out; without one of the last two it is left out of that axis.

    >>> network = {"arm": "a", "stage": "int8", "seed": 0, "test": 0.97, "bytes": 9000, "milliseconds": 1.5}
    >>> explorer = explore_pareto([network, {**network, "seed": 1, "test": 0.96}])
    >>> explorer.children[1].value = 0  # the first seed alone
    >>> explorer.children[-2].value
    "<p aria-live='polite'>1 network shown (seed 0), 1 undominated: a (int8): 0.9700 at 9,000 bytes</p>"
    """
    networks = [record for record in records if {"arm", "stage", "seed", "test"} <= record.keys()]
    if not networks:
        raise ValueError('no record has "arm", "stage", "seed" and "test"')
    stages = list(dict.fromkeys(record["stage"] for record in networks))
    each = [(f"seed {seed}", seed) for seed in sorted({record["seed"] for record in networks})]
    # buttons, since JupyterLab takes a Dropdown's arrow keys for moving from cell to cell
    cost, seeds = (
        ipywidgets.ToggleButtons(options=options, description=name, style={"button_width": "auto"})
        for name, options in (("cost", list(AXES)), ("seeds", [("mean of all", None), *each]))
    )
    boxes = {
        f"stage {stage}": ipywidgets.Checkbox(True, description=stage, indent=False, layout=NARROW) for stage in stages
    }

    def draw(cost: str, seeds: int | None, **ticked: bool) -> tuple[str, str]:
        chosen = [r for r in networks if ticked[f"stage {r['stage']}"] and seeds in (None, r["seed"])]
        points = plots.pareto_points(chosen, cost=cost)
        if not points:
            return "", f"No network to show: tick a stage whose {cost} were measured."
        label, unit = AXES[cost]
        front = [points[index] for index in pareto_front([p.cost for p in points], [p.gain for p in points])]
        best = "; ".join(f"{p.name} ({p.kind}): {p.gain:.4f} at {unit.format(p.cost)}" for p in front)
        which = "mean of all seeds" if seeds is None else f"seed {seeds}"
        says = f"{len(points)} network{'s' * (len(points) > 1)} shown ({which}), {len(front)} undominated: {best}"
        figure, axis = plots.axes_grid(height=3.8, fast=True)
        figure.subplots_adjust(left=0.13)  # accuracies have four digits
        plots.pareto(axis, points, title=f"Accuracy against {cost}", xlabel=label, kinds=stages)
        return plots.picture(figure, f"Networks by accuracy and {cost}. {says}", resolution=1), html.escape(says)

    return _explorer(draw, cost=cost, seeds=seeds, **boxes)


def normal(grid: Tensor, mean: float, width: float) -> Tensor:
    """Density of a normal distribution on ``grid`` (K,), scaled so that its sum over the grid is one integral.

    >>> grid = torch.linspace(-8, 8, 401)
    >>> round(normal(grid, 0.0, 1.0).max().item(), 4)  # 1 / √(2π)
    0.3989
    """
    density = torch.exp(-0.5 * ((grid - mean) / width) ** 2)
    return density / (density.sum() * (grid[1] - grid[0]))


def divergence(p: Tensor, q: Tensor, grid: Tensor) -> float:
    """KL(p ‖ q) in nats of two densities on an even ``grid``; a point where p is 0 counts nothing.

    >>> grid = torch.linspace(-8, 8, 401, dtype=torch.float64)
    >>> round(divergence(normal(grid, 0, 1), normal(grid, 1, 1), grid), 4)  # half of the squared distance
    0.5
    """
    terms = torch.special.xlogy(p, p) - torch.special.xlogy(p, q)
    return float(terms.sum() * (grid[1] - grid[0]))


def _explorer(draw: Draw, **controls: ipywidgets.Widget) -> ipywidgets.VBox:
    """Redraw the picture and the line of numbers whenever a control changes; boxes to tick share a row."""
    picture, says = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(change: object = None) -> None:
        picture.value, text = draw(**{name: control.value for name, control in controls.items()})
        says.value = f"<p aria-live='polite'>{text}</p>"

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    boxes = [control for control in controls.values() if isinstance(control, ipywidgets.Checkbox)]
    others = [control for control in controls.values() if control not in boxes]
    row = [ipywidgets.Box(boxes, layout=ROWS)] if boxes else []
    return ipywidgets.VBox([*others, *row, says, picture])
