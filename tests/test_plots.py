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
from torch import Tensor, nn

from kdcourse import metrics, models, plots
from kdcourse.pruning import channel_groups

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


def _lettering(axis: Axes) -> tuple[str, str, str]:
    return axis.get_title(), axis.get_xlabel(), axis.get_ylabel()


def _legend(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_weight_histogram_counts_every_layer_in_the_same_bins_and_shades_the_threshold_on_both_sides(axis):
    weights = {"first": torch.tensor([[-0.5, -0.25], [0.5, 1.5]]), "second": torch.tensor([-2.0, 0.5, 0.75])}
    assert plots.weight_histogram(axis, weights, threshold=0.125, bins=4) is axis
    first, second, band = axis.patches
    for layer, counts in ((first, [0.5, 2, 1, 1]), (second, [1, 0.5, 2, 0.5])):  # half a weight stands for none
        assert layer.get_data().edges.tolist() == [-2, -1, 0, 1, 2]
        assert layer.get_data().values.tolist() == counts
    assert first.get_edgecolor() != second.get_edgecolor()
    assert first.get_linestyle() != second.get_linestyle()
    assert (band.get_x(), band.get_x() + band.get_width()) == (-0.125, 0.125)
    assert _legend(axis) == ["first", "second", "pruned"]
    assert _lettering(axis) == ("threshold 0.125", "weight", "count")
    assert (axis.get_xscale(), axis.get_yscale()) == ("linear", "log")


def test_arms_over_joins_the_means_of_each_arm_and_leaves_its_seeds_as_loose_fainter_markers(axis):
    places = [1.0, 4.0]
    arms = {"first": [[1.0, 2.0, 6.0], [4.0, 5.0, 9.0]], "second": [[0.0, 3.0], [-1.0, 8.0]]}
    assert plots.arms_over(axis, places, arms, title="A title", xlabel="bits", ylabel="points") is axis
    assert len(axis.lines) == 6
    for lines, (name, values), means in zip(
        (axis.lines[:3], axis.lines[3:]), arms.items(), ([3, 6], [1.5, 3.5]), strict=True
    ):
        line, *clouds = lines
        assert (line.get_label(), list(line.get_xdata()), list(line.get_ydata())) == (name, places, means)
        assert line.get_linestyle() != "None"
        assert [(set(cloud.get_xdata()), list(cloud.get_ydata())) for cloud in clouds] == [
            ({place}, seeds) for place, seeds in zip(places, values, strict=True)
        ]
        for cloud in clouds:
            assert (cloud.get_marker(), cloud.get_color()) == (line.get_marker(), line.get_color())
            assert cloud.get_linestyle() == "None"
            assert 0 < cloud.get_alpha() < 1
    assert len({(line.get_color(), line.get_marker()) for line in axis.lines}) == 2
    assert _legend(axis) == ["first", "second"]
    assert _lettering(axis) == ("A title", "bits", "points")


def _drawn_ties(axis: Axes) -> set[tuple[float, str, str]]:
    """Every marker as its place, the name of its row and what the legend says of its shape and colour."""
    meaning = {
        (line.get_marker(), line.get_color()): line.get_label() for line in axis.lines if not len(line.get_xdata())
    }
    rows = dict(zip(axis.get_yticks().tolist(), [text.get_text() for text in axis.get_yticklabels()], strict=True))
    return {
        (round(float(x), 6), rows[float(y)], meaning[line.get_marker(), line.get_color()])
        for line in axis.lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_channel_ties_puts_layers_in_the_order_of_the_network_and_groups_in_the_order_given(axis, order):
    model = models.conv_net((4, 6))
    groups = channel_groups(model, torch.zeros(1, 1, 28, 28))
    assert plots.channel_ties(axis, model, [groups[place] for place in order], title="A title") is axis
    assert [text.get_text() for text in axis.get_yticklabels()] == ["conv1", "norm1", "conv2", "norm2", "classes"]
    assert axis.yaxis_inverted()
    assert list(axis.get_xticks()) == [0, 1, 2]
    assert [text.get_text() for text in axis.get_xticklabels()] == [("4", "6", "10 (stay)")[place] for place in order]
    of_conv1, of_conv2, of_classes = (order.index(place) for place in range(3))
    assert _drawn_ties(axis) == {
        (of_conv1, "conv1", "makes"), (of_conv1, "norm1", "carries"), (of_conv1, "conv2", "reads"),
        (of_conv2, "conv2", "makes"), (of_conv2, "norm2", "carries"), (of_conv2, "classes", "reads"),
        (of_classes, "classes", "makes"),
    }  # fmt: skip
    joined = {tuple(map(tuple, segment.tolist())) for lines in axis.collections for segment in lines.get_segments()}
    assert joined == {
        ((of_conv1, 0), (of_conv1, 2)),
        ((of_conv2, 2), (of_conv2, 4)),
        ((of_classes, 4), (of_classes, 4)),
    }
    assert _legend(axis) == ["makes", "carries", "reads"]
    assert (axis.get_title(), axis.get_xlabel()) == ("A title", "channels of the group")


class _Shortcut(nn.Module):
    """Its second layer reads the channels to which it adds its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.classes = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        return self.classes(hidden + self.second(hidden))


def test_channel_ties_shows_both_roles_of_a_layer_that_makes_and_reads_the_same_channels(axis):
    model = _Shortcut()
    plots.channel_ties(axis, model, channel_groups(model, torch.zeros(1, 3)), title="A title")
    drawn = _drawn_ties(axis)
    (made,) = (x for x, row, role in drawn if (row, role) == ("second", "makes"))
    assert -0.5 < made < 0
    assert drawn == {
        (0, "first", "makes"), (made, "second", "makes"), (0, "second", "reads"), (0, "classes", "reads"),
        (1, "classes", "makes"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("peak", "corners", "heights"),
    [(40.0, [0.5, 4, 48], [5, 40, 40]), (1.0, [0.5, 0.5, 48], [1, 1, 1]), (800.0, [0.5, 80, 80], [5, 800, 800])],
    ids=["corner among the layers", "all layers at the peak", "all layers on the slope"],
)
def test_roofline_bends_where_the_bandwidth_reaches_the_peak(axis, peak, corners, heights):
    plots.roofline(axis, {"float32": (peak, 10.0)}, {"float32": [("a", 16.0, 0.5), ("b", 1.5, 0.25)]}, title="A title")
    assert list(axis.lines[0].get_xdata()) == corners
    assert list(axis.lines[0].get_ydata()) == heights


def test_roofline_marks_and_names_every_measured_layer_under_the_roof_of_its_kind(axis):
    roofs = {"float32": (40.0, 10.0), "int8": (100.0, 20.0)}
    points = {"int8": [("conv1", 3.0, 50.0)], "float32": [("conv1", 1.5, 8.0), ("conv2", 16.0, 35.0)]}
    assert plots.roofline(axis, roofs, points, title="A title") is axis
    drawn = {line.get_label(): line for line in axis.lines}
    assert list(drawn["int8, bound"].get_ydata()) == [10, 100, 100]
    for kind, layers in points.items():
        bound, measured = drawn[f"{kind}, bound"], drawn[f"{kind}, measured"]
        assert list(zip(measured.get_xdata(), measured.get_ydata(), strict=True)) == [layer[1:] for layer in layers]
        assert measured.get_linestyle() == bound.get_marker() == "None"
        assert measured.get_color() == bound.get_color()
    assert len({line.get_color() for line in axis.lines}) == 2
    assert len({drawn[f"{kind}, measured"].get_marker() for kind in roofs}) == 2
    names = {(text.get_text(), *text.xy, text.get_color()) for text in axis.texts}
    assert names == {(*layer, drawn[f"{kind}, measured"].get_color()) for kind in points for layer in points[kind]}
    first, second, _ = (text.xyann[1] for text in axis.texts)
    assert first * second < 0  # neighbours' names on different sides
    assert _legend(axis) == ["float32, bound", "float32, measured", "int8, bound", "int8, measured"]
    assert _lettering(axis) == ("A title", "multiply-accumulates a byte", "10⁹ multiply-accumulates a second")
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")


def test_grid_histogram_counts_the_values_and_marks_every_level_on_the_axis(axis):
    values = torch.tensor([[0.0, 0.5], [1.5, 3.0]], requires_grad=True)
    levels = torch.tensor([-1.0, 0.25, 2.0, 4.0, 5.0])
    assert plots.grid_histogram(axis, values, levels=levels, bins=3) is axis
    (bars,) = axis.patches
    assert bars.get_data().edges.tolist() == [0, 1, 2, 3]
    assert bars.get_data().values.tolist() == [2, 1, 1]
    (ticks,) = axis.lines
    assert (list(ticks.get_xdata()), set(ticks.get_ydata())) == (levels.tolist(), {0.0})
    assert (ticks.get_marker(), ticks.get_linestyle()) == ("|", "None")
    assert _lettering(axis) == ("5 levels", "value", "count")


def test_more_than_can_be_told_apart_is_refused(axis):
    with pytest.raises(ValueError, match="at most 5 arms can be told apart in one figure, got 6"):
        plots.arms_over(axis, [1], {str(n): [[1.0]] for n in range(6)}, title="t", xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match="at most 4 layers"):
        plots.weight_histogram(axis, {str(n): torch.ones(3) for n in range(5)}, threshold=0.1)
