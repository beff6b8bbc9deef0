"""What a figure draws is told: figures that differ for a reader differ in it, and a digest stands for the picture."""

import base64
import hashlib
import html
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

from kdcourse import plots
from kdcourse.pruning import channel_groups

SEEDS = [[0.95, 0.97], [0.94, 0.96], [0.9, 0.92]]
OTHER = [[0.95, 0.98], [0.95, 0.97], [0.93, 0.94]]
ALT = "Accuracy over the sparsity, for a few arms"


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def arms(distilled=OTHER, labels=SEEDS, places=(0.5, 0.8, 0.9), title="Pruned", scale="linear", over="All"):
    figure, axis = plots.axes_grid()
    figure.suptitle(over)
    named = {"distilled": distilled, "labels": labels}
    plots.arms_over(axis, list(places), named, title=title, xlabel="sparsity", ylabel="accuracy")
    axis.set_xscale(scale)
    return figure


ALTERED = {
    "one seed by five points": arms(labels=[[0.95, 0.97], [0.94, 0.91], [0.9, 0.92]]),
    "one curve under both names": arms(labels=OTHER),
    "curves exchanged": arms(distilled=SEEDS, labels=OTHER),
    "places": arms(places=(0.5, 0.8, 0.95)),
    "title": arms(title="Quantized"),
    "scale": arms(scale="log"),
    "title of the whole": arms(over="Some"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_what_a_reader_would_see_is_told(name):
    assert plots.drawn(ALTERED[name]) != plots.drawn(arms())


def test_the_same_figure_drawn_again_is_told_in_the_same_words():
    assert plots.drawn(arms()) == plots.drawn(arms())
    shifted = [[value * (1 + 1e-12) for value in seeds] for seeds in SEEDS]
    assert plots.drawn(arms(labels=shifted)) == plots.drawn(arms())
    assert plots.drawn(arms(places=(0.0, 0.8, 0.9))) == plots.drawn(arms(places=(-1e-17, 0.8, 0.9)))


def test_live_figures_are_told_by_their_structure():
    shifted = [[value * 0.99 for value in seeds] for seeds in SEEDS]
    assert plots.drawn(arms(labels=shifted), live=True) == plots.drawn(arms(), live=True)
    assert plots.drawn(arms(title="Quantized"), live=True) != plots.drawn(arms(), live=True)
    assert plots.drawn(arms(title="9 → 4, 93 %"), live=True) == plots.drawn(arms(title="7 → 1, 100 %"), live=True)
    assert "line distilled #0072b2; 3 × line #0072b2" in plots.drawn(arms(), live=True)


def test_a_curve_drawn_twice_under_two_names_is_told_of_live_figures_too():
    for runs, same in (({"a": [0.9, 0.5, 0.4, 0.3, 0.2]}, False), ({"a": [0.9, 0.5, 0.4, 0.3, 0.1]}, True)):
        figure, axis = plots.axes_grid()
        plots.curves(axis, {**runs, "b": [0.9, 0.5, 0.4, 0.3, 0.1]}, title="A", ylabel="loss")
        assert ("line b #d55e00, the same as line a #0072b2" in plots.drawn(figure, live=True)) is same


VALUES = torch.tensor([0.1, 0.2, 0.4, 0.3])
LOGITS = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
TIES = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
POINTS = [plots.Point("a", "float", 10.0, 0.9, [(9.0, 0.9), (11.0, 0.9)]), plots.Point("b", "int8", 5.0, 0.8)]

DRAWINGS = {
    "curves": lambda axis, x: plots.curves(axis, {"a": (x * VALUES).tolist()}, title="A", ylabel="loss"),
    "intervals": lambda axis, x: plots.intervals(axis, {"a": (0.4, 0.4 - 0.1 * x, 0.7)}, title="A", xlabel="points"),
    "pairs": lambda axis, x: plots.pairs(axis, {"a": [0.9 * x], "b": [0.8]}, title="A", ylabel="accuracy"),
    "digits": lambda axis, x: plots.digits([axis], x * VALUES.reshape(1, 1, 2, 2) / 2),
    "bars": lambda axis, x: plots.class_bars(axis, x * VALUES, title="A", label=1),
    "label of bars": lambda axis, x: plots.class_bars(axis, VALUES, title="A", label=x),
    "matrix": lambda axis, x: plots.matrix(axis, (x * VALUES).reshape(2, 2), title="A", xlabel="x", ylabel="y"),
    "reliability": lambda axis, x: plots.reliability_diagram(axis, x * LOGITS, torch.arange(60) % 4, title="A"),
    "weights": lambda axis, x: plots.weight_histogram(axis, {"a": VALUES, "b": VALUES}, threshold=0.1 * x),
    "grid": lambda axis, x: plots.grid_histogram(axis, VALUES, levels=x * VALUES),
    "peaks": lambda axis, x: plots.two_peaks(axis, torch.arange(4.0), VALUES, {"fit": x * VALUES}),
    "target of peaks": lambda axis, x: plots.two_peaks(axis, torch.arange(4.0), x * VALUES, {"fit": VALUES}),
    "ties": lambda axis, x: plots.channel_ties(
        axis, TIES[x - 1], channel_groups(TIES[x - 1], torch.zeros(1, 4)), title="A"
    ),
    "roofs": lambda axis, x: plots.roofline(axis, {"f": (50.0 * x, 10.0)}, {"f": [("c", 2.0, 15.0)]}, title="A"),
    "front": lambda axis, x: plots.pareto(
        axis, [POINTS[0]._replace(gain=0.9 * x), POINTS[1]], title="A", xlabel="bytes"
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_drawing_of_the_course_is_told_with_its_values(name):
    def told(x):
        figure, axis = plots.axes_grid()
        DRAWINGS[name](axis, x)
        return plots.drawn(figure)

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_notes_are_told_by_their_point_and_on_one_line():
    figure, axis = plots.axes_grid()
    axis.annotate("two\nlines", (1, 0.5), xytext=(7, 9))
    axis.text(2, 0.25, "plain")
    assert plots.drawn(figure).endswith("note two lines #000000: 1 0.5; note plain #000000: 2 0.25")


def test_an_artist_that_nobody_can_tell_is_refused():
    figure, axis = plots.axes_grid()
    axis.table([["0.95"]])
    with pytest.raises(TypeError, match="what a Table draws: add it"):
        plots.drawn(figure)


def test_a_shown_figure_carries_what_it_draws_and_a_digest_of_its_bytes(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append(data["text/html"]))
    told = plots.drawn(arms())
    plots.show(arms(), ALT)
    plots.show(arms(), ALT, live=True)
    for found, live in zip(shown, (False, True), strict=True):
        pattern = r'<img alt="[^"]+" width="720" data-drawn="([^"]+)" data-picture="(\w{16})" src="[^,]+,([^"]+)">'
        text, digest, data = re.fullmatch(pattern, found).groups()
        assert html.unescape(text) == (plots.drawn(arms(), live=True) if live else told)
        assert hashlib.sha256(base64.b64decode(data)).hexdigest()[:16] == digest
