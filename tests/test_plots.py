"""Figures: what is drawn, that Axes come back, and that a picture cannot go out without its description."""

import base64
import html
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.axes import Axes

from kdcourse import metrics, plots

ALT = 'Accuracy rises with "epochs" & levels off: student < teacher'


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def axis() -> Axes:
    return plots.axes_grid()[1]


@pytest.mark.parametrize("alt", ["", "a figure", "   ", "one two three four"])
def test_a_picture_without_a_sentence_for_alt_text_is_refused(alt):
    figure, _ = plots.axes_grid()
    with pytest.raises(ValueError, match="alt text must say what the figure shows"):
        plots.picture(figure, alt)


def test_a_picture_carries_its_alt_text_escaped_and_a_png_inside():
    figure, _ = plots.axes_grid(width=5.0)
    found = plots.picture(figure, ALT)
    match = re.fullmatch(r'<img alt="([^"<>]*)" width="(\d+)" src="data:image/png;base64,([^"]+)">', found)
    assert match is not None
    alt, width, data = match.groups()
    assert alt != ALT
    assert html.unescape(alt) == ALT
    assert int(width) == 500
    png = base64.b64decode(data)
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 500 * plots.RESOLUTION


def test_a_picture_closes_its_figure():
    figure, _ = plots.axes_grid()
    assert plt.fignum_exists(figure.number)
    plots.picture(figure, ALT)
    assert not plt.fignum_exists(figure.number)


def test_show_displays_the_picture_and_its_text_for_pages_without_images(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append((data, options)))
    plots.show(plots.axes_grid()[0], ALT)
    (data, options), = shown  # fmt: skip
    assert data["text/html"].startswith("<img alt=")
    assert data["text/plain"] == f"Figure: {ALT}"
    assert options == {"raw": True}


def test_digits_draws_one_image_on_each_of_the_axes_and_returns_them():
    _, axes = plots.axes_grid(1, 3)
    images = torch.rand(3, 1, 28, 28)
    assert plots.digits(axes, images, ["a", "b", "c"]) is axes
    assert [axis.get_title() for axis in axes] == ["a", "b", "c"]
    for axis, image in zip(axes, images, strict=True):
        assert torch.equal(torch.as_tensor(axis.images[0].get_array().data), image[0])
        assert axis.images[0].get_clim() == (0, 1)


def test_digits_refuses_more_or_fewer_images_than_axes():
    _, axes = plots.axes_grid(1, 3)
    with pytest.raises(ValueError, match="zip"):
        plots.digits(axes, torch.rand(2, 1, 28, 28))


def test_curves_draws_every_run_by_epoch_from_one_with_its_own_colour_and_dash(axis):
    runs = {f"run {k}": [0.1 * k, 0.2 * k, 0.3 * k] for k in range(1, 7)}
    assert plots.curves(axis, runs, title="A title", ylabel="loss (nats)") is axis
    assert len(axis.lines) == 6
    for line, (name, values) in zip(axis.lines, runs.items(), strict=True):
        assert line.get_label() == name
        assert list(line.get_xdata()) == [1, 2, 3]
        assert list(line.get_ydata()) == values
    assert len({(line.get_color(), line.get_linestyle()) for line in axis.lines}) == 6
    assert (axis.get_title(), axis.get_xlabel(), axis.get_ylabel()) == ("A title", "epoch", "loss (nats)")
    assert axis.get_legend() is not None


def test_curves_refuses_more_runs_than_it_can_tell_apart_instead_of_leaving_some_out(axis):
    with pytest.raises(ValueError, match="at most 6 runs"):
        plots.curves(axis, {str(k): [1.0] for k in range(7)}, title="A title", ylabel="loss (nats)")


def test_class_bars_have_the_probabilities_as_heights_and_hatch_the_label(axis):
    probabilities = torch.tensor([0.125, 0.625, 0.25])
    assert plots.class_bars(axis, probabilities, title="A title", label=1) is axis
    assert [bar.get_height() for bar in axis.patches] == [0.125, 0.625, 0.25]
    assert [bool(bar.get_hatch()) for bar in axis.patches] == [False, True, False]
    assert (axis.get_title(), axis.get_xlabel(), axis.get_ylabel()) == ("A title", "class", "probability")


def test_matrix_writes_numbers_where_they_belong_and_leaves_the_diagonal_out_of_the_shading(axis):
    values = torch.tensor([[90, 3, 0], [0, 80, 7], [1, 0, 70]])
    before = values.clone()
    assert plots.matrix(axis, values, title="A title", xlabel="named", ylabel="label") is axis
    texts = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axis.texts}
    assert texts == {(0, 0): "90", (0, 1): "3", (1, 1): "80", (1, 2): "7", (2, 0): "1", (2, 2): "70"}
    shades = axis.images[0].get_array()
    assert shades.diagonal().tolist() == [0, 0, 0]
    assert shades[1, 2] == 7
    assert torch.equal(values, before)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("named", "label")


def test_matrix_without_any_error_still_draws(axis):
    plots.matrix(axis, torch.eye(3), title="A title", xlabel="named", ylabel="label", hide_zero=False)
    assert len(axis.texts) == 9


def test_reliability_diagram_draws_the_bins_that_metrics_finds(axis):
    logits = torch.randn(300, 4, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.arange(300) % 4
    assert plots.reliability_diagram(axis, logits, labels, title="A title", bins=10) is axis
    groups = metrics.reliability(logits, labels, bins=10)
    dots = torch.as_tensor(axis.collections[0].get_offsets().data)
    torch.testing.assert_close(dots, torch.stack([groups.confidence, groups.accuracy], dim=1))
    sizes = torch.as_tensor(axis.collections[0].get_sizes())
    assert sizes.argmax() == groups.examples.argmax()


def test_intervals_draw_mean_and_both_ends_of_every_row_with_a_line_at_zero(axis):
    rows = {"first": (1.0, 0.5, 1.75), "second": (-0.5, -1.5, 0.25)}
    assert plots.intervals(axis, rows, title="A title", xlabel="points") is axis
    drawn = [container.lines[2][0].get_segments()[0][:, 0].tolist() for container in axis.containers]
    assert drawn == [[0.5, 1.75], [-1.5, 0.25]]
    assert [container.lines[0].get_xdata()[0] for container in axis.containers] == [1.0, -0.5]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["first", "second"]
    assert any(list(line.get_xdata()) == [0, 0] for line in axis.lines)
