"""A network's inside: which channels belong together, and what bounds each layer's speed."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from torch import nn

from .style import BLUE, GREEN, ORANGE, RED, SKY


def channel_ties(axis: Axes, model: nn.Module, groups: Sequence[Any], *, title: str) -> Axes:
    """Groups of channels (`kdcourse.pruning.Group`) as a table: which layer makes, carries or reads which.

    >>> from kdcourse.pruning import channel_groups
    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> figure, axis = axes_grid()
    >>> axis = channel_ties(axis, network, channel_groups(network, torch.zeros(1, 4)), title="Two layers")
    >>> [label.get_text() for label in axis.get_yticklabels()]
    ['0', '2']
    """
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
    """For each kind of number a roof (peak in 10⁹ MAC/s, bandwidth in GB/s) and layers (name, MAC/byte, 10⁹ MAC/s).

    >>> figure, axis = axes_grid()
    >>> roofs, points = {"float32": (50.0, 10.0)}, {"float32": [("conv1", 2.0, 15.0), ("classes", 0.5, 4.0)]}
    >>> axis = roofline(axis, roofs, points, title="Two layers on one core")
    >>> [text.get_text() for text in axis.texts]
    ['conv1', 'classes']
    """
    reach = [intensity for layers in points.values() for _, intensity, _ in layers]
    low, high = min(reach) / 3, max(reach) * 3
    for (kind, (peak, bandwidth)), colour, dash, marker in zip(
        roofs.items(), (BLUE, RED, GREEN), ("-", "--", "-."), ("o", "s", "^"), strict=False
    ):
        ridge = peak / bandwidth  # where the slope meets the flat roof
        corners = [low, max(low, ridge), max(high, ridge)]
        axis.plot(
            corners, [min(peak, bandwidth * x) for x in corners], dash, color=colour, label=f"{kind}, bound", zorder=2
        )
        layers = points.get(kind, ())
        axis.plot(
            [x for _, x, _ in layers],
            [y for _, _, y in layers],
            marker,
            color=colour,
            label=f"{kind}, measured",
            zorder=3,
        )
        for number, (name, x, y) in enumerate(layers):
            place, side = ((7, 5), "left") if number % 2 else ((-7, -11), "right")  # neighbours on different sides
            halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}  # where a bound passes
            options: dict[str, Any] = {"fontsize": 8, "color": colour, "ha": side, "bbox": halo, "zorder": 2.2}
            axis.annotate(name, (x, y), xytext=place, textcoords="offset points", **options)
    axis.margins(y=0.15)
    axis.set(title=title, xlabel="arithmetic intensity (MACs per byte)", ylabel="10⁹ MACs per second")
    axis.set(xscale="log", yscale="log")
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ticks.set_minor_locator(NullLocator())
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    return axis
