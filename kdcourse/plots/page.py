"""A figure on the page: its size, and its picture with alt text."""

import base64
import hashlib
import html
import io
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .drawn import drawn

RESOLUTION = 2  # picture points to a page point, for sharp text on dense screens


def show(figure: Figure, alt: str, *, live: bool = False) -> None:
    """Display ``figure`` with ``alt``, the text that a screen reader speaks in its place, and close it.

    Beside the picture stand what it draws (`drawn`; ``live`` where another processor draws other values) and a digest
    of its bytes, so that the tests see whether the stored picture is the one that was drawn.

    >>> figure, axis = axes_grid()
    >>> show(figure, "An empty figure, to be drawn on")
    {'text/html': '<img ...', 'text/plain': 'Figure: An empty figure, to be drawn on'}
    """
    from IPython.display import display

    told = drawn(figure, live=live)
    data = _png(figure, alt, RESOLUTION)
    marks = f' data-drawn="{html.escape(told)}" data-picture="{hashlib.sha256(data).hexdigest()[:16]}"'
    display({"text/html": _image(figure, alt, data, marks), "text/plain": f"Figure: {alt}"}, raw=True)


def picture(figure: Figure, alt: str, *, resolution: int = RESOLUTION) -> str:
    """``figure`` as an HTML image with alt text; closes the figure. JupyterLab drops the alt text of bare PNGs.

    >>> figure, axis = axes_grid()
    >>> picture(figure, "An empty figure, to be drawn on")[:45]
    '<img alt="An empty figure, to be drawn on" wi'
    """
    return _image(figure, alt, _png(figure, alt, resolution))


def _png(figure: Figure, alt: str, resolution: int) -> bytes:
    if len(alt.split()) < 5:
        raise ValueError(f"alt text must say what the figure shows, got {alt!r}")
    buffer = io.BytesIO()
    _write_in_black(figure)
    with matplotlib.style.context("default"):
        figure.savefig(buffer, format="png", dpi=100 * resolution, facecolor="white")
    plt.close(figure)
    return buffer.getvalue()


def _image(figure: Figure, alt: str, data: bytes, marks: str = "") -> str:
    width = round(figure.get_size_inches()[0] * 100)
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{html.escape(alt)}" width="{width}"{marks} src="{source}">'


def _write_in_black(figure: Figure) -> None:
    """A dark style writes in white, which on our white page nobody could read; on a picture it may be meant."""
    usual = matplotlib.rcParams["text.color"]
    for axis in figure.axes:
        legend = axis.get_legend()
        if legend is not None:
            legend.get_frame().set_facecolor("white")
        texts = [*([] if axis.images else axis.texts), *(legend.get_texts() if legend else [])]
        for text in texts:
            if text.get_color() == usual:
                text.set_color("black")


def axes_grid(
    rows: int = 1, columns: int = 1, *, width: float = 7.2, height: float = 3.2, fast: bool = False
) -> tuple[Figure, Any]:
    """A figure of ``width`` × ``height`` inches whose labels are never cut, and its Axes.

    ``fast`` leaves fixed margins for one line of labels instead of measuring them: half the time to draw.

    >>> figure, (left, right) = axes_grid(1, 2, height=2.4)
    >>> figure.get_size_inches().tolist()
    [7.2, 2.4]
    """
    with matplotlib.style.context("default"):  # dark ink on white whatever style a notebook has chosen
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), layout=None if fast else "constrained")
    if fast:
        inch = {"left": 0.7 / width, "right": 1 - 0.15 / width, "bottom": 0.55 / height, "top": 1 - 0.35 / height}
        figure.subplots_adjust(**inch, wspace=0.4)
    return figure, axes
