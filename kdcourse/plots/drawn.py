"""What a figure draws, in a line of text: two figures that differ for a reader differ in it."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

FEW = 8  # values that are written out
DIGITS = 4  # significant digits, which float64 arithmetic gives on every processor
NOTHING = 1e-9  # a value this small beside an artist's largest is 0 on another processor


def drawn(figure: Figure, *, live: bool = False) -> str:
    """Titles, labels and legends of ``figure``, and every line, bar, area, image and note with its values.

    Many values are told by their number and a digest. ``live`` leaves out what another processor trains or measures
    differently: the values, and the numbers in titles and names; still told is which lines are the same.

    >>> figure, axis = axes_grid()
    >>> axis = curves(axis, {"alone": [0.9, 0.6]}, title="Training", ylabel="loss (nats)")
    >>> drawn(figure)
    'Training / epoch / loss (nats); line alone #0072b2: 1 0.9 2 0.6; legend alone'
    """
    told = [_words(text, live) for text in figure.texts]
    told += ["; ".join(_counted(_parts(axis, live))) for axis in figure.axes]
    return " ".join(" | ".join(told).split())


def _parts(axis: Axes, live: bool) -> Iterator[str]:
    """The pieces of text that tell of one of a figure's Axes."""
    heads = axis.title, axis.xaxis.label, axis.yaxis.label
    yield " / ".join(_words(text, live) for text in heads).strip(" /")
    scales = axis.get_xscale(), axis.get_yscale()
    if scales != ("linear", "linear"):
        yield " by ".join(scales)
    for name, ticks in (("x", axis.xaxis), ("y", axis.yaxis)):
        labels = [_words(label, live) for label in ticks.get_majorticklabels()]
        if isinstance(ticks.get_major_locator(), FixedLocator) and any(labels):
            yield f"{name} ticks {', '.join(labels)}"
    earlier: dict[bytes, str] = {}
    drawings = *axis.lines, *axis.patches, *axis.collections, *axis.images, *axis.tables, *axis.artists
    for artist in (*drawings, *(() if live else axis.texts)):
        yield _artist(artist, live, earlier)
    legend = axis.get_legend()
    if legend is not None:
        yield "legend " + ", ".join(_words(text, live) for text in legend.get_texts())


def _words(text: Text | str, live: bool) -> str:
    words = text if isinstance(text, str) else text.get_text()
    return re.sub(r"\d+(?:\.\d+)?", "#", words) if live else words


def _counted(parts: Iterable[str]) -> Iterator[str]:
    """Pieces of which each stands once where several in a row are the same, with their number."""
    for part, same in groupby(parts):
        number = len(list(same))
        yield part if number == 1 else f"{number} × {part}"


def _artist(artist: Any, live: bool, earlier: dict[bytes, str]) -> str:
    kind, values = _values(artist)
    label = str(artist.get_label())
    name = " ".join(filter(None, (kind, "" if label.startswith("_") else _words(label, live), _colour(artist))))
    values[np.abs(values) <= NOTHING * np.abs(values).max(initial=0)] = 0
    rounded = np.array([float(f"{value:.{DIGITS}g}") for value in values]) + 0.0  # no -0
    same = earlier.setdefault(rounded.tobytes(), name)
    if live:
        return name + (f", the same as {same}" if same != name and len(rounded) > FEW else "")
    if len(rounded) <= FEW:
        return f"{name}: " + " ".join(f"{value:g}" for value in rounded)
    digest = hashlib.sha256(rounded.tobytes()).hexdigest()[:12]
    return f"{name}: {len(rounded)} values, {rounded.min():g} to {rounded.max():g}, {digest}"


def _colour(artist: Any) -> str:
    if isinstance(artist, (Line2D, Text)):
        return to_hex(artist.get_color())
    if isinstance(artist, Patch):
        return to_hex(artist.get_facecolor()) + (f" {artist.get_hatch()}" if artist.get_hatch() else "")
    colours = [*artist.get_facecolor(), *artist.get_edgecolor()] if isinstance(artist, Collection) else []
    return to_hex(colours[0]) if colours else ""


def _values(artist: Any) -> tuple[str, NDArray[np.float64]]:
    """What kind of artist it is, and its numbers in the units of the Axes."""
    parts: list[Any]
    match artist:
        case Line2D():
            kind, parts = "line", [np.column_stack([np.asarray(it, float) for it in artist.get_data(orig=False)])]
        case Patch():
            kind, parts = "area", [artist.get_patch_transform().transform(artist.get_path().vertices)]
        case PathCollection():
            kind, parts = "dots", [artist.get_offsets(), artist.get_sizes()]
        case Collection():
            kind, parts = "lines", [path.vertices for path in artist.get_paths()]
        case AxesImage():
            kind, parts = "image", [artist.get_array(), artist.get_clim()]
        case Annotation():  # its point: where the words go depends on fonts
            kind, parts = f"note {artist.get_text()}", [artist.xy]
        case Text():
            kind, parts = f"note {artist.get_text()}", [artist.get_position()]
        case _:
            raise TypeError(f"nothing says what a {type(artist).__name__} draws: add it to kdcourse.plots.drawn")
    return kind, np.concatenate([np.empty(0), *(np.asarray(part, float).ravel() for part in parts)])
