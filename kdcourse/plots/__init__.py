"""Figures: functions that take Axes and return them, and `show`, which puts a figure with alt text on the page."""

from .._base.extras import missing

try:
    from .drawn import drawn
    from .fronts import KINDS, Point, pareto, pareto_points
    from .networks import channel_ties, roofline
    from .page import RESOLUTION, axes_grid, picture, show
    from .predictions import class_bars, digits, matrix, reliability_diagram, soft_target
    from .runs import arms_over, curves, intervals, pairs
    from .style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, YELLOW
    from .values import grid_histogram, two_peaks, weight_histogram
except ImportError as error:
    raise missing(error, extra="plots") from error

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "KINDS",
    "ORANGE",
    "PURPLE",
    "Point",
    "RED",
    "RESOLUTION",
    "SKY",
    "YELLOW",
    "arms_over",
    "axes_grid",
    "channel_ties",
    "class_bars",
    "curves",
    "digits",
    "drawn",
    "grid_histogram",
    "intervals",
    "matrix",
    "pairs",
    "pareto",
    "pareto_points",
    "picture",
    "reliability_diagram",
    "roofline",
    "show",
    "soft_target",
    "two_peaks",
    "weight_histogram",
]
