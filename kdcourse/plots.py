"""Figures: functions that take Axes and return them, and `show`, which puts a figure with alt text on the page."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullLocator
from torch import Tensor, nn

from .metrics import entropy, pareto_front, reliability

# Okabe and Ito's palette, told apart in the common kinds of colour blindness
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
KINDS = tuple(zip((BLUE, RED, GREEN, PURPLE, ORANGE, BLACK, SKY), "os^DvP*", strict=True))  # colour and marker
VALUE_WIDTH = 0.8  # inches that "↓ 0.10–0.35" takes
RESOLUTION = 2  # picture points to a page point, for sharp text on dense screens


def show(figure: Figure, alt: str) -> None:
    """Display ``figure`` with ``alt``, the text that a screen reader speaks in its place, and close it."""
    from IPython.display import display

    display({"text/html": picture(figure, alt), "text/plain": f"Figure: {alt}"}, raw=True)


def picture(figure: Figure, alt: str, *, resolution: int = RESOLUTION) -> str:
    """``figure`` as an HTML image with alt text; closes the figure. JupyterLab drops the alt text of bare PNGs."""
    if len(alt.split()) < 5:
        raise ValueError(f"alt text must say what the figure shows, got {alt!r}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100 * resolution, facecolor="white")
    plt.close(figure)
    width = round(figure.get_size_inches()[0] * 100)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" width="{width}" src="data:image/png;base64,{data}">'


def axes_grid(
    rows: int = 1, columns: int = 1, *, width: float = 7.2, height: float = 3.2, fast: bool = False
) -> tuple[Figure, Any]:
    """A figure of ``width`` × ``height`` inches whose labels are never cut, and its Axes.

    ``fast`` leaves fixed margins for one line of labels instead of measuring them: half the time to draw.
    """
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), layout=None if fast else "constrained")
    if fast:
        inch = {"left": 0.7 / width, "right": 1 - 0.15 / width, "bottom": 0.55 / height, "top": 1 - 0.35 / height}
        figure.subplots_adjust(**inch, wspace=0.4)
    return figure, axes


def digits(axes: Sequence[Axes], images: Tensor, titles: Sequence[str] = ()) -> Sequence[Axes]:
    """One image (1, 28, 28) on each of the Axes, dark ink on white, with its title."""
    for place, (axis, image) in enumerate(zip(axes, images, strict=True)):
        axis.imshow(image.squeeze(0).numpy(force=True), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        if titles:
            axis.set_title(titles[place], fontsize=9)
    return axes


def curves(
    axis: Axes, runs: dict[str, Sequence[float]], *, title: str, xlabel: str = "epoch", ylabel: str, legend: bool = True
) -> Axes:
    """One line a run, told apart by colour and by dash; six at most."""
    styles = list(zip((BLUE, RED, GREEN, PURPLE, ORANGE, BLACK), ("-", "--", "-.", ":", "-", "--"), strict=True))
    _check_count("runs", runs, len(styles))
    for (name, values), (colour, dash) in zip(runs.items(), styles, strict=False):
        axis.plot(range(1, len(values) + 1), values, dash, color=colour, label=name)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if legend:
        axis.legend(frameon=False)
    return axis


def class_bars(axis: Axes, probabilities: Tensor, *, title: str, label: int | None = None) -> Axes:
    """Probability (C,) of every class; the bar of ``label`` is hatched."""
    bars = axis.bar(range(len(probabilities)), probabilities.tolist(), color=BLUE)
    if label is not None:
        bars[label].set(hatch="///", facecolor=ORANGE, edgecolor="black")
    axis.set(title=title, xlabel="class", ylabel="probability", xticks=range(len(probabilities)))
    return axis


def matrix(
    axis: Axes, values: Tensor, *, title: str, xlabel: str, ylabel: str, numbers: str = "{:.0f}", hide_zero: bool = True
) -> Axes:
    """A (C, C) table as shades with its numbers written in; the diagonal is left blank in the shading."""
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
    """Accuracy against confidence, a dot a bin, its area the share of examples; the dashed line is calibration."""
    groups = reliability(logits, labels, bins=bins)
    share = groups.examples / groups.examples.sum()
    axis.plot([0, 1], [0, 1], "--", color=BLACK, linewidth=1, label="calibrated")
    axis.scatter(groups.confidence, groups.accuracy, s=20 + 400 * share, color=BLUE, alpha=0.8, label="bin")
    axis.set(title=title, xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(-0.03, 1.03))
    return axis


def intervals(axis: Axes, rows: dict[str, tuple[float, float, float]], *, title: str, xlabel: str) -> Axes:
    """A dot and its interval for each row (mean, low, high), with a line at zero."""
    for place, (mean, low, high) in enumerate(rows.values()):
        axis.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="o", color=BLUE, capsize=4)
    axis.axvline(0, color=BLACK, linewidth=1, linestyle="--")
    axis.set(title=title, xlabel=xlabel, yticks=range(len(rows)), yticklabels=list(rows))
    axis.invert_yaxis()
    return axis


def pairs(axis: Axes, arms: dict[str, Sequence[float]], *, title: str, ylabel: str) -> Axes:
    """One line a seed from its result in the first arm to its result in the second."""
    (first_name, first), (second_name, second) = arms.items()
    for one, other in zip(first, second, strict=True):
        axis.plot([0, 1], [one, other], "o-", color=BLUE, alpha=0.7)
    axis.set(title=title, ylabel=ylabel, xticks=[0, 1], xticklabels=[first_name, second_name], xlim=(-0.25, 1.25))
    return axis


def soft_target(
    axes: Sequence[Axes], image: Tensor, logits: Tensor, label: int, *, temperature: float
) -> Sequence[Axes]:
    """On three Axes: the image, the softened classes, and entropy over temperature with this temperature marked."""
    digits(axes[:1], image.unsqueeze(0), titles=[f"label {label}"])
    class_bars(axes[1], (logits / temperature).softmax(dim=-1), title=f"softened at T = {temperature:.2g}", label=label)
    axes[1].set_ylim(0, 1)
    grid = torch.logspace(-1, 2, 60, dtype=logits.dtype)
    axes[2].semilogx(grid, entropy(logits / grid[:, None]) / math.log(2), color=BLUE)
    axes[2].plot(temperature, entropy(logits, temperature=temperature).item() / math.log(2), "o", color=RED)
    axes[2].axhline(math.log2(len(logits)), color=BLACK, linestyle="--", linewidth=1)
    axes[2].set(title="entropy", xlabel="temperature T", ylabel="bits", ylim=(-0.1, 3.6))
    axes[2].minorticks_off()
    return axes


def two_peaks(axis: Axes, grid: Tensor, target: Tensor, fits: dict[str, Tensor]) -> Axes:
    """A target density over ``grid``, filled, and the densities fitted to it, told apart by colour and dash."""
    axis.fill_between(grid, target, color="0.85", label="target p")
    for (name, density), colour, dash in zip(fits.items(), (BLUE, RED, GREEN), ("-", "--", "-."), strict=False):
        axis.plot(grid, density, dash, color=colour, label=name)
    axis.set(title="One peak for two", xlabel="x", ylabel="density")
    axis.legend(frameon=False, fontsize=8)
    return axis


def weight_histogram(axis: Axes, weights: Mapping[str, Tensor], *, threshold: float, bins: int = 81) -> Axes:
    """How often each weight's value occurs, a line a layer, on a logarithmic scale; what lies in the band is pruned."""
    _check_count("layers", weights, 4)
    reach = max(weight.abs().max().item() for weight in weights.values())
    styles = zip((BLUE, RED, GREEN, PURPLE), ("-", "--", "-.", ":"), strict=True)
    for (name, weight), (colour, dash) in zip(weights.items(), styles, strict=False):
        counts, edges = torch.histogram(weight.detach().flatten().float().cpu(), bins=bins, range=(-reach, reach))
        axis.stairs(counts.clamp(min=0.5), edges, color=colour, linestyle=dash, label=name)
    axis.axvspan(-threshold, threshold, color="0.85", label="pruned")
    axis.set(title=f"threshold {threshold:.3f}", xlabel="weight", ylabel="count", yscale="log")
    axis.legend(frameon=False, fontsize=8)
    return axis


def arms_over(
    axis: Axes,
    places: Sequence[float],
    arms: Mapping[str, Sequence[Sequence[float]]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
) -> Axes:
    """For each arm a line through the means over its seeds at ``places`` (K values of S seeds each), and every seed."""
    _check_count("arms", arms, 5)
    styles = zip((BLUE, RED, GREEN, PURPLE, ORANGE), ("o-", "s--", "^-.", "D:", "v-"), strict=True)
    for (name, values), (colour, style) in zip(arms.items(), styles, strict=False):
        means = [sum(seeds) / len(seeds) for seeds in values]
        axis.plot(places, means, style, color=colour, label=name, markersize=5)
        for place, seeds in zip(places, values, strict=True):
            axis.plot([place] * len(seeds), seeds, style[0], color=colour, alpha=0.25, markersize=3)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.legend(frameon=False, fontsize=8)
    return axis


def channel_ties(axis: Axes, model: nn.Module, groups: Sequence[Any], *, title: str) -> Axes:
    """Groups of channels (`kdcourse.pruning.Group`) as a table: which layer makes, carries or reads which."""
    followers = {follower.layer for group in groups for follower in (*group.passengers, *group.readers)}
    touched = followers | {name for group in groups for name in group.outputs}
    rows = [name for name, _ in model.named_modules() if name in touched]
    for column, group in enumerate(groups):
        roles = {f.layer: ("reads", ORANGE, "v") for f in group.readers}
        roles |= {f.layer: ("carries", SKY, "s") for f in group.passengers}
        made = {name: ("makes", BLUE, "o") for name in group.outputs}
        for name, (role, colour, marker) in [*roles.items(), *made.items()]:
            both = name in roles and name in made and role == "makes"
            axis.plot(column - 0.12 * both, rows.index(name), marker, color=colour, markersize=9)
        places = [rows.index(name) for name in roles | made]
        axis.vlines(column, min(places), max(places), color="0.8", zorder=0)
    for name, colour, marker in (("makes", BLUE, "o"), ("carries", SKY, "s"), ("reads", ORANGE, "v")):
        axis.plot([], [], marker, color=colour, label=name)
    labels = [f"{group.channels}{'' if group.prunable else ' (stay)'}" for group in groups]
    axis.set(title=title, xlabel="channels of the group", yticks=range(len(rows)), yticklabels=rows)
    axis.set(xticks=range(len(groups)), xticklabels=labels, xlim=(-0.6, len(groups) - 0.4))
    axis.invert_yaxis()
    axis.legend(frameon=False, fontsize=8, loc="upper right")
    return axis


def roofline(
    axis: Axes,
    roofs: Mapping[str, tuple[float, float]],
    points: Mapping[str, Sequence[tuple[str, float, float]]],
    *,
    title: str,
) -> Axes:
    """For each kind of number a roof (peak in 10⁹ MAC/s, bandwidth in GB/s) and layers (name, MAC/byte, 10⁹ MAC/s)."""
    reach = [intensity for layers in points.values() for _, intensity, _ in layers]
    low, high = min(reach) / 3, max(reach) * 3
    for (kind, (peak, bandwidth)), colour, dash, marker in zip(
        roofs.items(), (BLUE, RED, GREEN), ("-", "--", "-."), ("o", "s", "^"), strict=False
    ):
        ridge = peak / bandwidth  # where the slope meets the flat roof
        corners = [low, max(low, ridge), max(high, ridge)]
        axis.plot(corners, [min(peak, bandwidth * x) for x in corners], dash, color=colour, label=f"{kind}, bound")
        layers = points.get(kind, ())
        axis.plot([x for _, x, _ in layers], [y for _, _, y in layers], marker, color=colour, label=f"{kind}, measured")
        for number, (name, x, y) in enumerate(layers):
            place = (-6, 6) if number % 2 else (-6, -13)  # neighbours on different sides
            axis.annotate(name, (x, y), xytext=place, textcoords="offset points", fontsize=8, color=colour)
    axis.margins(y=0.15)
    axis.set(title=title, xlabel="multiply-accumulates a byte", ylabel="10⁹ multiply-accumulates a second")
    axis.set(xscale="log", yscale="log")
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    return axis


def grid_histogram(axis: Axes, values: Tensor, *, levels: Tensor, bins: int = 121) -> Axes:
    """How often each value occurs, and below it the grid of ``levels`` (L,) that it is rounded to."""
    counts, edges = torch.histogram(values.detach().flatten().float().cpu(), bins=bins)
    axis.stairs(counts, edges, color=BLUE, fill=True, alpha=0.6)
    axis.plot(levels.tolist(), [0.0] * len(levels), "|", color=RED, markersize=14)
    axis.set(title=f"{len(levels)} levels", xlabel="value", ylabel="count")
    return axis


class Point(NamedTuple):
    """A network in a Pareto picture; ``seeds`` are the pairs (cost, gain) that its own are the means of."""

    name: str
    kind: str
    cost: float
    gain: float
    seeds: Sequence[tuple[float, float]] = ()


def pareto_points(records: Sequence[Mapping[str, Any]], *, cost: str) -> list[Point]:
    """One point for each "arm" and "stage" of ``records``: the means over its seeds of record[cost] and "test".

    A record without this cost, or with None for it, is left out.
    """
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in records:
        if record.get(cost) is not None:
            found.setdefault((record["arm"], record["stage"]), []).append((record[cost], record["test"]))
    # rounded, so that sums of the same shares in another order stay ties
    means = {key: [round(fmean(column), 12) for column in _columns(seeds)] for key, seeds in found.items()}
    return [
        Point(arm, stage, cost=means[arm, stage][0], gain=means[arm, stage][1], seeds=seeds if len(seeds) > 1 else ())
        for (arm, stage), seeds in found.items()
    ]


def pareto(
    axis: Axes,
    points: Sequence[Point],
    *,
    title: str,
    xlabel: str,
    ylabel: str = "accuracy",
    kinds: Sequence[str] = (),
    gap: float = 0.2,
    legend: bool = True,
) -> Axes:
    """Gain over cost (logarithmic): a staircase and names for the undominated points, hollow markers for the rest.

    Colour and marker tell the kind, seven at most; ``kinds`` fixes their order when not all are there. Seeds are dots.
    What lies below a hole of more than ``gap`` is drawn at the bottom edge with its value, so that a network that
    fails does not squeeze the others. Names are placed for the Axes as they are now: in a figure of several, draw the
    others first.
    """
    styles = dict.fromkeys([*kinds, *(point.kind for point in points)])
    _check_count("kinds", styles, len(KINDS))
    front = pareto_front([point.cost for point in points], [point.gain for point in points])
    if not min(point.cost for point in points) > 0:
        raise ValueError("costs must be > 0 on a logarithmic axis: leave out the points without one")
    heights = sorted((gain for p in points for _, gain in ((p.cost, p.gain), *p.seeds)), reverse=True)
    floor = next((high for high, low in pairwise(heights) if high - low > gap), heights[-1])
    spread = heights[0] - floor or 0.01
    edge = floor - 0.15 * spread  # where what lies below the hole is drawn
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel, xscale="log")
    axis.set_ylim((edge if heights[-1] < floor else floor) - 0.08 * spread, heights[0] + 0.08 * spread)
    shown = [p._replace(gain=_raised(p.gain, floor, edge), seeds=[(x, _raised(y, floor, edge)) for x, y in p.seeds])
             for p in points]  # fmt: skip
    _mark(axis, shown, front, dict(zip(styles, KINDS, strict=False)))
    if legend:
        _legend_beside(axis)
    names = [(shown[k], points[k].name + f" ↓ {points[k].gain:.2f}" * (points[k].gain < floor)) for k in front]
    rest = [p for k, p in enumerate(points) if k not in front]
    fallen = [(p.cost, p.gain) for p in rest if p.gain < floor]
    fallen += [seed for p in points for seed in p.seeds if seed[1] < floor <= p.gain]
    _name(axis, names, fallen, edge)
    return axis


def _raised(gain: float, floor: float, edge: float) -> float:
    return gain if gain >= floor else edge


def _mark(axis: Axes, points: Sequence[Point], front: Sequence[int], styles: Mapping[str, tuple[str, str]]) -> None:
    """Every point and its seeds, and the staircase under the undominated ones."""
    looks: tuple[dict[str, Any], ...] = (
        {"markerfacecolor": "white", "alpha": 0.75, "markersize": 6},
        {"markeredgecolor": "black", "markersize": 8, "zorder": 4},
    )
    for kind, (colour, marker) in styles.items():
        own = [(point, index in front) for index, point in enumerate(points) if point.kind == kind]
        if not own:
            continue
        seeds = [seed for point, _ in own for seed in point.seeds]
        axis.plot(*_columns(seeds), ".", color=colour, alpha=0.4, markersize=4)
        for best, look in enumerate(looks):
            chosen = [(point.cost, point.gain) for point, undominated in own if undominated == best]
            axis.plot(*_columns(chosen), marker, color=colour, **look)
        axis.plot([], [], marker, color=colour, markersize=7, label=kind)
    stairs = [(points[index].cost, points[index].gain) for index in front]
    axis.plot(
        *_columns(stairs), color="0.35", linewidth=1, zorder=1.5, drawstyle="steps-post", label="undominated, filled"
    )
    if len(front) < len(points):
        axis.plot([], [], "o", color="0.35", **looks[0], label="dominated, hollow")
    if any(point.seeds for point in points):
        axis.plot([], [], ".", color="0.35", alpha=0.6, markersize=4, label="one seed")


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _legend_beside(axis: Axes) -> None:
    """A legend right of the Axes, which make room for it where no layout engine does."""
    legend = axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0.2)
    figure = _figure(axis)
    if figure.get_layout_engine() is None:
        box, width = axis.get_position(), legend.get_window_extent().width / figure.bbox.width
        axis.set_position((box.x0, box.y0, 1 - width - 0.01 - box.x0, box.height))


def _name(axis: Axes, names: Sequence[tuple[Point, str]], fallen: Sequence[tuple[float, float]], edge: float) -> None:
    """Names to the left of and above their points, where a front has nothing, each raised until it covers no other."""
    figure = _figure(axis)
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
    looks: dict[str, Any] = {
        "textcoords": "offset points",
        "ha": "right",
        "fontsize": 8,
        "parse_math": False,
        "annotation_clip": False,
    }
    looks["path_effects"] = [withStroke(linewidth=2, foreground="white")]
    labels = [axis.annotate(name, (at.cost, at.gain), xytext=(-4, 5), zorder=5, **looks) for at, name in names]
    widths = [label.get_window_extent().width / figure.dpi for label in labels]
    ends = [(at.cost, width) for (at, _), width in zip(names, widths, strict=True)]
    _limit_costs(axis, [*ends, *((cost, VALUE_WIDTH) for cost, _ in fallen)])
    values = [axis.annotate(text, (cost, edge), xytext=(4, 5), color="0.35", **looks)
              for cost, text in _values(axis, fallen)]  # fmt: skip
    for _ in range(20):
        taken = [value.get_window_extent() for value in values]
        for label in labels:
            label.xyann = (-4, 5)
            own = label.get_window_extent()
            while over := [box.y1 for box in taken if box.overlaps(own)]:
                label.xyann = (-4, label.xyann[1] + (max(over) - own.y0 + 1) * 72 / figure.dpi)
                own = label.get_window_extent()
            taken.append(own)
        low, high = axis.get_ylim()
        above = max(box.y1 for box in taken) + 3 - axis.bbox.y1
        if above <= 0:
            break
        axis.set_ylim(top=high + (high - low) * above / axis.bbox.height)
    to_data = axis.transData.inverted()
    tops = [to_data.transform((0, label.get_window_extent().y0))[1] for label in labels]
    axis.vlines(*_columns([(at.cost, at.gain) for at, _ in names]), tops, color="0.5", linewidth=0.6, zorder=1)


def _limit_costs(axis: Axes, widths: Sequence[tuple[float, float]]) -> None:
    """Lower the left limit of a logarithmic axis until texts (x of the right end, inches) begin within the Axes."""
    low, high = (math.log10(limit) for limit in axis.get_xlim())
    for x, inches in widths:
        share = min(0.8, (inches + 0.15) * _figure(axis).dpi / axis.bbox.width)
        low = min(low, (math.log10(x) - share * high) / (1 - share))
    axis.set_xlim(10**low, 10**high)
    ticks = LogLocator(subs=(1, 2, 5) if high - low < 3.5 else (1,))
    axis.xaxis.set(major_locator=ticks, major_formatter=_short, minor_locator=NullLocator())


def _short(value: float, place: object = None) -> str:
    power, sign = next((pair for pair in ((1e6, "M"), (1e3, "k")) if value >= pair[0]), (1, ""))
    return f"{value / power:.10g}{sign}"


def _values(axis: Axes, fallen: Sequence[tuple[float, float]]) -> list[tuple[float, str]]:
    """What to write at which cost for gains that are drawn at the edge; close neighbours share one text."""
    groups: list[list[tuple[float, float]]] = []
    for cost, gain in sorted(fallen):
        if groups:
            here, last = axis.transData.transform([(cost, 0), (groups[-1][-1][0], 0)])[:, 0]
        if groups and here - last < VALUE_WIDTH * _figure(axis).dpi:
            groups[-1].append((cost, gain))
        else:
            groups.append([(cost, gain)])
    texts = [dict.fromkeys(f"{end(_columns(group)[1]):.2f}" for end in (min, max)) for group in groups]
    return [(group[-1][0], "↓ " + "–".join(text)) for group, text in zip(groups, texts, strict=True)]


def _figure(axis: Axes) -> Figure:
    figure = axis.get_figure(root=True)
    assert figure is not None
    return figure


def _check_count(what: str, things: Mapping[str, Any], most: int) -> None:
    if len(things) > most:
        raise ValueError(f"at most {most} {what} can be told apart in one figure, got {len(things)}")
