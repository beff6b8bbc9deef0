"""Runs against each other: curves over epochs, arms over a setting, intervals, pairs of one seed."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from .style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, check_count


def curves(
    axis: Axes, runs: dict[str, Sequence[float]], *, title: str, xlabel: str = "epoch", ylabel: str, legend: bool = True
) -> Axes:
    """One line per run, told apart by colour and by dash; six at most.

    >>> figure, axis = axes_grid()
    >>> axis = curves(axis, {"alone": [0.9, 0.6], "distilled": [0.8, 0.4]}, title="Training", ylabel="loss (nats)")
    >>> [line.get_label() for line in axis.lines]
    ['alone', 'distilled']
    """
    styles = list(zip((BLUE, RED, GREEN, PURPLE, ORANGE, BLACK), ("-", "--", "-.", ":", "-", "--"), strict=True))
    check_count("runs", runs, len(styles))
    for (name, values), (colour, dash) in zip(runs.items(), styles, strict=False):
        axis.plot(range(1, len(values) + 1), values, dash, color=colour, label=name)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if legend:
        axis.legend(frameon=False)
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
    """For each arm a line through the means over its seeds at ``places`` (K values of S seeds each), and every seed.

    >>> figure, axis = axes_grid()
    >>> arms = {"pruned": [[0.97, 0.98], [0.95, 0.93]]}  # two seeds at each of two places
    >>> axis = arms_over(axis, [0.5, 0.9], arms, title="Pruning", xlabel="sparsity", ylabel="accuracy")
    >>> [round(float(mean), 3) for mean in axis.lines[0].get_ydata()]
    [0.975, 0.94]
    """
    check_count("arms", arms, 5)
    styles = zip((BLUE, RED, GREEN, PURPLE, ORANGE), ("o-", "s--", "^-.", "D:", "v-"), strict=True)
    for (name, values), (colour, style) in zip(arms.items(), styles, strict=False):
        means = [sum(seeds) / len(seeds) for seeds in values]
        axis.plot(places, means, style, color=colour, label=name, markersize=5)
        for place, seeds in zip(places, values, strict=True):
            axis.plot([place] * len(seeds), seeds, style[0], color=colour, alpha=0.25, markersize=3)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.legend(frameon=False, fontsize=8)
    return axis


def intervals(axis: Axes, rows: dict[str, tuple[float, float, float]], *, title: str, xlabel: str) -> Axes:
    """A dot and its interval for each row (mean, low, high), with a line at zero.

    >>> figure, axis = axes_grid()
    >>> axis = intervals(axis, {"distilled": (0.4, 0.1, 0.7)}, title="Gain", xlabel="points")
    >>> [label.get_text() for label in axis.get_yticklabels()]
    ['distilled']
    """
    for place, (mean, low, high) in enumerate(rows.values()):
        axis.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="o", color=BLUE, capsize=4)
    axis.axvline(0, color=BLACK, linewidth=1, linestyle="--")
    axis.set(title=title, xlabel=xlabel, yticks=range(len(rows)), yticklabels=list(rows))
    axis.invert_yaxis()
    return axis


def pairs(axis: Axes, arms: dict[str, Sequence[float]], *, title: str, ylabel: str) -> Axes:
    """One line per seed, from its result in the first arm to its result in the second.

    >>> figure, axis = axes_grid()
    >>> axis = pairs(axis, {"labels": [0.95, 0.96], "distilled": [0.97, 0.97]}, title="Two seeds", ylabel="accuracy")
    >>> len(axis.lines)
    2
    """
    (first_name, first), (second_name, second) = arms.items()
    for one, other in zip(first, second, strict=True):
        axis.plot([0, 1], [one, other], "o-", color=BLUE, alpha=0.7)
    axis.set(title=title, ylabel=ylabel, xticks=[0, 1], xticklabels=[first_name, second_name], xlim=(-0.25, 1.25))
    return axis
