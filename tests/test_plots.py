"""Figures: what is drawn, that Axes come back, and that a picture cannot go out without its description."""

import base64
import html
import re
from itertools import combinations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
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


def test_pairs_leads_each_seed_from_the_first_arm_to_the_second(axis):
    assert plots.pairs(axis, {"alone": [0.8, 0.7], "distilled": [0.9, 0.95]}, title="A title", ylabel="y") is axis
    named = dict(zip(axis.get_xticks().tolist(), [label.get_text() for label in axis.get_xticklabels()], strict=True))
    assert named == {0: "alone", 1: "distilled"}
    lines = [dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axis.lines]
    assert lines == [{0: 0.8, 1: 0.9}, {0: 0.7, 1: 0.95}]


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
    assert _lettering(axis) == ("A title", "arithmetic intensity (MACs per byte)", "10⁹ MACs per second")
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


POINTS = [
    plots.Point("big", "float", 8000.0, 0.98, seeds=[(7900.0, 0.97), (8100.0, 0.99)]),
    plots.Point("small", "int8", 1000.0, 0.9),
    plots.Point("middle", "int8", 2000.0, 0.96),
    plots.Point("worse", "float", 4000.0, 0.95),
    plots.Point("twin", "float", 2000.0, 0.96),
]


def _drawn(axis: Axes, hollow: bool) -> set[tuple[float, float, str]]:
    """Cost, gain and kind of every large marker with a white or a coloured face."""
    labels = {
        (line.get_marker(), line.get_color()): line.get_label() for line in axis.lines if not len(line.get_xdata())
    }
    return {
        (x, y, labels[line.get_marker(), line.get_color()])
        for line in axis.lines
        if line.get_linestyle() == "None" and line.get_marker() != "." and len(line.get_xdata())
        if (line.get_markerfacecolor() == "white") == hollow
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


@pytest.mark.parametrize("fast", [False, True])
def test_pareto_fills_names_and_joins_the_undominated_and_leaves_the_others_hollow(fast):
    axis = plots.axes_grid(fast=fast)[1]
    assert plots.pareto(axis, POINTS, title="A title", xlabel="size (bytes)") is axis
    best = {(1000, 0.9, "int8"), (2000, 0.96, "int8"), (2000, 0.96, "float"), (8000, 0.98, "float")}
    assert _drawn(axis, hollow=False) == best
    assert _drawn(axis, hollow=True) == {(4000, 0.95, "float")}
    names = sorted((text.get_text(), *text.xy) for text in axis.texts)
    assert names == [("big", 8000, 0.98), ("middle", 2000, 0.96), ("small", 1000, 0.9), ("twin", 2000, 0.96)]
    (stairs,) = (line for line in axis.lines if line.get_drawstyle() == "steps-post")
    assert list(stairs.get_xdata()) == [1000, 2000, 2000, 8000]
    assert list(stairs.get_ydata()) == [0.9, 0.96, 0.96, 0.98]
    dots = [line for line in axis.lines if line.get_marker() == "." and len(line.get_xdata())]
    assert [(list(dot.get_xdata()), list(dot.get_ydata())) for dot in dots] == [([7900, 8100], [0.97, 0.99])]
    assert _legend(axis) == ["float", "int8", "undominated, filled", "dominated, hollow", "one seed"]
    assert _lettering(axis) == ("A title", "size (bytes)", "accuracy")
    assert axis.get_xscale() == "log"


def _looks(axis: Axes) -> dict[str, tuple[str, str]]:
    return {
        line.get_label(): (line.get_marker(), line.get_color())
        for line in axis.lines
        if line.get_linestyle() == "None" and not line.get_label().startswith("_")
    }


def test_pareto_gives_a_kind_its_colour_and_marker_also_when_others_are_missing(axis):
    kinds = [str(number) for number in range(7)]
    points = [plots.Point(f"name {kind}", kind, 10.0 + int(kind), 0.5 + int(kind) / 100) for kind in kinds]
    plots.pareto(axis, points, title="t", xlabel="x")
    every = _looks(axis)
    assert list(every) == kinds
    assert len({marker for marker, _ in every.values()}) == len({colour for _, colour in every.values()}) == 7
    fewer = plots.axes_grid()[1]
    plots.pareto(fewer, points[4:6], title="t", xlabel="x", kinds=kinds, legend=False)
    assert _looks(fewer) == {kind: every[kind] for kind in ("4", "5")}
    assert fewer.get_legend() is None
    with pytest.raises(ValueError, match="at most 7 kinds can be told apart in one figure, got 8"):
        plots.pareto(axis, [*points, plots.Point("one more", "more", 1.0, 0.5)], title="t", xlabel="x")


def test_pareto_refuses_no_points_and_costs_that_a_logarithm_cannot_show(axis):
    with pytest.raises(ValueError, match="at least one point"):
        plots.pareto(axis, [], title="t", xlabel="x")
    with pytest.raises(ValueError, match="costs must be > 0"):
        plots.pareto(axis, [*POINTS, plots.Point("free", "int8", 0.0, 0.1)], title="t", xlabel="x")


def test_pareto_draws_failed_networks_at_the_bottom_with_their_value_and_the_others_as_without_them(axis):
    cheap = plots.Point("cheap", "int8", 500.0, 0.08)
    failed = [plots.Point("failed", "float", 3000.0, 0.104), plots.Point("also", "float", 3100.0, 0.3)]
    unlucky = plots.Point("unlucky", "int8", 60_000.0, 0.97, seeds=[(60_000.0, 0.98), (60_000.0, 0.123)])
    plots.pareto(axis, [*POINTS, cheap, *failed, unlucky], title="t", xlabel="x")
    low, high = axis.get_ylim()
    edge = {y for x, y, _ in _drawn(axis, hollow=False) | _drawn(axis, hollow=True) if x in (500, 3000, 3100)}
    assert len(edge) == 1
    assert low < edge.pop() < 0.9 <= 0.99 < high
    assert high - low < 2 * (0.99 - 0.9), "nothing is squeezed"
    (dots,) = (line for line in axis.lines if line.get_marker() == "." and 60_000 in line.get_xdata())
    assert low < min(dots.get_ydata()) < 0.9
    said = {text.get_text() for text in axis.texts}
    assert said == {"cheap ↓ 0.08", "small", "middle", "twin", "big", "↓ 0.10–0.30", "↓ 0.12"}
    assert _clear(axis)


@pytest.mark.parametrize(("gap", "written"), [(0.2, {"a", "b"}), (0.05, {"a ↓ 0.80", "b"})])
def test_pareto_takes_a_hole_wider_than_gap_for_a_failure(axis, gap, written):
    points = [plots.Point("a", "k", 1.0, 0.8), plots.Point("b", "k", 2.0, 0.9)]
    plots.pareto(axis, points, title="t", xlabel="x", gap=gap)
    assert {text.get_text() for text in axis.texts} == written


def _clear(axis: Axes) -> bool:
    """Whether, once drawn, all writing lies in the Axes, the legend beside them, and no two texts cover each other."""
    figure = axis.get_figure()
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axis.texts]
    inside = all(axis.bbox.x0 <= b.x0 and b.x1 <= axis.bbox.x1 and axis.bbox.y0 <= b.y0 and b.y1 <= axis.bbox.y1
                 for b in boxes)  # fmt: skip
    apart = not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    legend = axis.get_legend().get_window_extent()
    return inside and apart and legend.x1 <= figure.bbox.x1 and legend.x0 >= axis.bbox.x1 - 1


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_names_in_a_pareto_picture_are_never_cut_and_cover_neither_one_another_nor_a_point(fast, seed):
    generator = torch.Generator().manual_seed(seed)
    axis = plots.axes_grid(height=3.8, fast=fast)[1]
    costs = (10 ** (4 + 2 * torch.rand(24, generator=generator))).tolist()
    noise = (0.002 * torch.randn(24, generator=generator)).tolist()
    # along a flat front, so that many are undominated and lie close together
    gains = [0.93 + 0.01 * torch.tensor(cost).log10().item() + error for cost, error in zip(costs, noise, strict=True)]
    gains[seed] = 0.1
    points = [
        plots.Point(f"a network named {k}", f"kind {k % 5}", *at) for k, at in enumerate(zip(costs, gains, strict=True))
    ]
    plots.pareto(axis, points, title="A title", xlabel="size (bytes)")
    front = metrics.pareto_front(costs, gains)
    assert len(front) >= 4
    assert _clear(axis)
    text = [text.get_window_extent() for text in axis.texts if not text.get_text().startswith("↓")]
    at = axis.transData.transform([(cost, gain) for cost, gain in zip(costs, gains, strict=True) if gain > 0.5])
    assert not any(box.contains(x, y) for box in text for x, y in at)


def test_pareto_points_are_the_means_over_the_seeds_of_the_records_that_have_this_cost():
    records = [
        {"arm": "a", "stage": "float", "seed": 0, "test": 0.9, "bytes": 100, "milliseconds": 1.0},
        {"arm": "a", "stage": "float", "seed": 1, "test": 0.8, "bytes": 300, "milliseconds": None},
        {"arm": "a", "stage": "int8", "seed": 0, "test": 0.7, "bytes": 50},
    ]
    seeds = [(100, 0.9), (300, 0.8)]
    by_bytes = plots.pareto_points(records, cost="bytes")
    assert by_bytes == [("a", "float", 200, pytest.approx(0.85), seeds), ("a", "int8", 50, 0.7, ())]
    assert plots.pareto_points(records, cost="milliseconds") == [("a", "float", 1.0, 0.9, ())]
    assert plots.pareto_points(records, cost="joules") == []


def test_equal_means_are_ties_in_whatever_way_they_came_about():
    arms = {"a": (0.1, 0.2, 0.3), "b": (0.3, 0.2, 0.1), "c": (0.2, 0.2, 0.2), "d": (0.3, 0.3, 0.0)}
    records = [{"arm": arm, "stage": "s", "test": test, "bytes": 3} for arm, tests in arms.items() for test in tests]
    points = plots.pareto_points(records, cost="bytes")
    assert metrics.pareto_front([p.cost for p in points], [p.gain for p in points]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("reach", "labels"),
    [
        ((0.02, 0.4), ["0.02", "0.05", "0.1", "0.2"]),
        ((9e3, 2.1e6), ["10k", "20k", "50k", "100k", "200k", "500k", "1M", "2M"]),
    ],
)
def test_costs_are_labelled_in_few_digits(axis, reach, labels):
    points = [plots.Point("n", "k", cost, gain) for cost, gain in zip(reach, (0.8, 0.9), strict=True)]
    plots.pareto(axis, points, title="t", xlabel="x")
    axis.get_figure().canvas.draw()
    low, high = axis.get_xlim()
    shown = [tick.label1.get_text() for tick in axis.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert [text for text in shown if text in labels] == labels


def test_more_than_can_be_told_apart_is_refused(axis):
    with pytest.raises(ValueError, match="at most 5 arms can be told apart in one figure, got 6"):
        plots.arms_over(axis, [1], {str(n): [[1.0]] for n in range(6)}, title="t", xlabel="x", ylabel="y")
    with pytest.raises(ValueError, match="at most 4 layers"):
        plots.weight_histogram(axis, {str(n): torch.ones(3) for n in range(5)}, threshold=0.1)


# simulations of colour blindness, on linear RGB: Machado, Oliveira, Fernandes 2009, severity 1
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def seen(colour, blindness):
    """CIELAB of a colour as somebody with this colour blindness sees it."""
    rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(BLINDNESS[blindness]) @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_stay_apart_for_the_colour_blind(blindness):
    names = ("BLACK", "ORANGE", "SKY", "GREEN", "YELLOW", "BLUE", "RED", "PURPLE")
    colours = [seen(getattr(plots, name), blindness) for name in names]
    distances = [np.linalg.norm(one - other) for one, other in combinations(colours, 2)]
    assert min(distances) > 12  # about 2 can just be told apart side by side
