"""Accuracy against cost: the Pareto front, with names that cover nothing."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullLocator

from ..metrics import pareto_front
from .style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, check_count

KINDS = tuple(zip((BLUE, RED, GREEN, PURPLE, ORANGE, BLACK, SKY), "os^DvP*", strict=True))  # colour and marker
VALUE_WIDTH = 0.8  # inches that "↓ 0.10–0.35" takes


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

    >>> network = {"arm": "a", "stage": "int8"}
    >>> records = [network | {"bytes": 90, "test": 0.95}, network | {"bytes": 110, "test": 0.97}]
    >>> pareto_points(records, cost="bytes")
    [Point(name='a', kind='int8', cost=100.0, gain=0.96, seeds=[(90, 0.95), (110, 0.97)])]
    """
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in records:
        if record.get(cost) is not None:
            found.setdefault((record["arm"], record["stage"]), []).append((record[cost], record["test"]))
    # rounded, so that sums of the same values in another order stay ties
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
    What is below a hole of more than ``gap`` is drawn at the bottom edge with its value, so that a network that
    fails does not squeeze the others. Names are placed for the present Axes: in a figure of several, draw the
    others first.

    >>> figure, axis = axes_grid()
    >>> points = [Point("large", "float", 9e4, 0.98), Point("small", "int8", 1e4, 0.97), Point("bad", "int8", 2e4, 0.9)]
    >>> axis = pareto(axis, points, title="Three networks", xlabel="size (bytes)")
    >>> [text.get_text() for text in axis.texts]  # the undominated ones are named
    ['small', 'large']
    """
    styles = dict.fromkeys([*kinds, *(point.kind for point in points)])
    check_count("kinds", styles, len(KINDS))
    front = pareto_front([point.cost for point in points], [point.gain for point in points])
    if not min(point.cost for point in points) > 0:
        raise ValueError("costs must be > 0 on a logarithmic axis: leave out the points without one")
    heights = sorted((gain for p in points for _, gain in ((p.cost, p.gain), *p.seeds)), reverse=True)
    floor = next((high for high, low in pairwise(heights) if high - low > gap), heights[-1])
    spread = heights[0] - floor or 0.01
    edge = floor - 0.15 * spread  # where what is below the hole is drawn
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
