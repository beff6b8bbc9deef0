"""The explorers say and draw the right numbers, not only other ones, when a slider moves."""

import html
import re

import numpy as np
import pytest
import torch

from kdcourse import widgets
from kdcourse.data import Split
from kdcourse.models import mlp


@pytest.fixture(autouse=True)
def headless(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")


def parts(explorer):
    """Its sliders by name, and its two HTML parts: the line of numbers and the picture."""
    *sliders, says, picture = explorer.children
    return {slider.description: slider for slider in sliders}, says, picture


def numbers(says):
    return [float(found) for found in re.findall(r"-?\d+\.\d+", says.value)]


def nats_by_hand(logits, temperature):
    weights = np.exp(np.asarray(logits, dtype=np.float64) / temperature)
    p = weights / weights.sum()
    return -(p * np.log(p)).sum(), p.max()


LOGITS = torch.tensor([[2.0, 0.0, -1.0, 0.5], [0.0, 1.0, 3.0, -2.0]])


def test_temperature_explorer_follows_both_sliders():
    explorer = widgets.explore_temperature(torch.rand(2, 1, 28, 28), LOGITS, torch.tensor([0, 2]))
    sliders, says, picture = parts(explorer)
    for image, temperature in ((0, 1.0), (0, 10.0), (1, 10.0), (1, 0.1)):
        sliders["image"].value, sliders["T"].value = image, temperature
        shown_temperature, nats, top = numbers(says)
        expected_nats, expected_top = nats_by_hand(LOGITS[image], temperature)
        assert shown_temperature == pytest.approx(temperature, abs=0.005)
        assert nats == pytest.approx(expected_nats, abs=6e-4)
        assert top == pytest.approx(expected_top, abs=6e-4)
        assert f"{nats:.3f} nats" in picture.value, "the alt text says the same"


def test_picture_is_drawn_anew():
    explorer = widgets.explore_temperature(torch.rand(2, 1, 28, 28), LOGITS, torch.tensor([0, 2]))
    sliders, _, picture = parts(explorer)
    before = re.search(r'src="([^"]+)"', picture.value)[1]
    sliders["T"].value = 10.0
    assert re.search(r'src="([^"]+)"', picture.value)[1] != before


def test_kl_explorer_gives_both_directions():
    grid = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    explorer = widgets.explore_kl(grid, widgets.normal(grid, 0.0, 1.0))
    sliders, says, _ = parts(explorer)
    sliders["mean"].value, sliders["width"].value = 1.0, 2.0
    forward, reverse = numbers(says)
    # closed form for two normal distributions: ln(s_q / s_p) + (s_p² + d²) / 2 s_q² - 1/2
    assert forward == pytest.approx(np.log(2) + (1 + 1) / 8 - 0.5, abs=1e-3)
    assert reverse == pytest.approx(-np.log(2) + (4 + 1) / 2 - 0.5, abs=1e-3)


def test_threshold_explorer_gives_the_accuracy_of_the_pruned_network():
    network, digits = mlp((8,), seed=0), Split(torch.rand(50, 1, 28, 28), torch.arange(50) % 10)
    explorer = widgets.explore_threshold(network, digits)
    sliders, says, _ = parts(explorer)
    sizes = np.sort(
        np.concatenate(
            [network[1].weight.detach().abs().numpy().ravel(), network[3].weight.detach().abs().numpy().ravel()]
        )
    )
    for share in (0.3, 0.9):
        sliders["pruned"].value = share
        threshold, right = numbers(says)
        expected = sizes[round(share * len(sizes)) - 1]
        hidden = np.maximum(
            digits.images.flatten(1).numpy() @ cut(network[1], expected).T + network[1].bias.detach().numpy(), 0
        )
        named = (hidden @ cut(network[3], expected).T + network[3].bias.detach().numpy()).argmax(axis=1)
        assert threshold == pytest.approx(expected, abs=6e-4)
        assert right == pytest.approx((named == digits.labels.numpy()).mean(), abs=6e-4)


def test_grid_explorer_gives_the_noise_and_what_is_clipped():
    values = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    explorer = widgets.explore_grid(values)
    sliders, says, _ = parts(explorer)
    for bits, share in ((3, 1.0), (6, 0.5)):
        sliders["bits"].value, sliders["range"].value = bits, share
        top = 2 ** (bits - 1) - 1
        step = share / top
        rounded = np.clip(np.round(values.numpy() / step), -top, top) * step
        expected = 10 * np.log10((values.numpy() ** 2).sum() / ((values.numpy() - rounded) ** 2).sum())
        reach, decibels, outside = numbers(says)
        assert reach == pytest.approx(share)
        assert decibels == pytest.approx(expected, abs=0.02)
        assert outside == pytest.approx(100 * (1 - share), abs=0.1)


def record(arm, stage, seed, test, **costs):
    return {"arm": arm, "stage": stage, "seed": seed, "test": test, "other": [1, 2]} | costs


NETWORKS = [
    record("dense", "float", 0, 0.97, bytes=100_000, milliseconds=2.0),
    record("dense", "float", 1, 0.99, bytes=100_000, milliseconds=3.0),
    record("half", "pruned", 0, 0.96, bytes=50_000, milliseconds=0.5),
    record("half", "pruned", 1, 0.92, bytes=54_000, milliseconds=0.75),
    record("wide", "pruned", 0, 0.95, bytes=80_000, milliseconds=0.25),
    record("wide", "pruned", 1, 0.97, bytes=80_000, milliseconds=0.25),
    record("half <2>", "int8", 0, 0.1, bytes=13_000),
    record("half <2>", "int8", 1, 0.12, bytes=13_000),
    {"arm": "half", "stage": "never run", "seed": 0, "bytes": 10},
    {"timed": "1", "milliseconds": {"dense": [1.0, 2.0]}},
]


def controls(explorer):
    """Its lists and boxes by name, its line of numbers as one reads it, and its picture."""
    cost, seeds, boxes, says, picture = explorer.children
    named = {control.description: control for control in (cost, seeds, *boxes.children)}
    return named, lambda: html.unescape(re.fullmatch(r"<p aria-live='polite'>([^<>]*)</p>", says.value)[1]), picture


def test_pareto_explorer_names_the_undominated_with_their_means_or_those_of_one_seed():
    named, says, picture = controls(widgets.explore_pareto(NETWORKS))
    assert list(named) == ["cost", "seeds", "float", "pruned", "int8"]
    all_bytes = (
        "4 networks shown (mean of all seeds), 4 undominated: half <2> (int8): 0.1100 at 13,000 bytes; half (pruned): "
        "0.9400 at 52,000 bytes; wide (pruned): 0.9600 at 80,000 bytes; dense (float): 0.9800 at 100,000 bytes"
    )
    assert says() == all_bytes
    assert f'alt="Networks by accuracy and bytes. {html.escape(all_bytes)}"' in picture.value
    named["seeds"].value = 0
    assert says() == (
        "4 networks shown (seed 0), 3 undominated: half <2> (int8): 0.1000 at 13,000 bytes; half (pruned): 0.9600 at "
        "50,000 bytes; dense (float): 0.9700 at 100,000 bytes"
    )
    named["cost"].value = "milliseconds"
    assert says() == (
        "3 networks shown (seed 0), 3 undominated: wide (pruned): 0.9500 at 0.25 ms; half (pruned): 0.9600 at 0.5 ms; "
        "dense (float): 0.9700 at 2 ms"
    )
    named["seeds"].value = None
    assert says() == (
        "3 networks shown (mean of all seeds), 2 undominated: wide (pruned): 0.9600 at 0.25 ms; "
        "dense (float): 0.9800 at 2.5 ms"
    )


def test_pareto_explorer_forgets_stages_that_are_not_ticked_and_says_so_when_none_is_left():
    named, says, picture = controls(widgets.explore_pareto(NETWORKS))
    named["pruned"].value = False
    assert says() == (
        "2 networks shown (mean of all seeds), 2 undominated: half <2> (int8): 0.1100 at 13,000 bytes; "
        "dense (float): 0.9800 at 100,000 bytes"
    )
    named["float"].value = False
    named["cost"].value = "milliseconds"  # which no int8 network has
    assert (says(), picture.value) == ("No network to show: tick a stage whose milliseconds were measured.", "")
    named["cost"].value = "bytes"
    assert says().startswith("1 network shown (mean of all seeds), 1 undominated: half <2>")
    assert "<img" in picture.value
    named["int8"].value = False
    assert (says(), picture.value) == ("No network to show: tick a stage whose bytes were measured.", "")
    named["float"].value = True
    assert says() == "1 network shown (mean of all seeds), 1 undominated: dense (float): 0.9800 at 100,000 bytes"


def test_pareto_explorer_draws_what_it_says(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        widgets.plots, "pareto", lambda axis, points, **options: drawn.append((points, options)) or axis
    )
    named, _, _ = controls(widgets.explore_pareto(NETWORKS))
    named["pruned"].value = False
    named["cost"].value = "milliseconds"
    assert [len(points) for points, _ in drawn] == [4, 2, 1]
    points, options = drawn[-1]
    assert points == [("dense", "float", 2.5, 0.98, [(2.0, 0.97), (3.0, 0.99)])]
    assert options["kinds"] == ["float", "pruned", "int8"]
    assert (options["title"], options["xlabel"]) == ("Accuracy against milliseconds", "latency (ms)")


def test_pareto_explorer_refuses_records_of_something_else():
    with pytest.raises(ValueError, match='no record has "arm", "stage", "seed" and "test"'):
        widgets.explore_pareto(NETWORKS[-2:])


def cut(layer, threshold):
    weight = layer.weight.detach().numpy()
    return np.where(np.abs(weight) > threshold, weight, 0)


def test_normal_is_a_density_on_its_grid():
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    for mean, width in ((0.0, 1.0), (5.0, 4.0)):
        assert float(widgets.normal(grid, mean, width).sum() * 0.02) == pytest.approx(1, abs=1e-12)


def test_divergence_of_a_density_from_itself_is_zero_also_where_it_vanishes():
    grid = torch.linspace(-8, 8, 801, dtype=torch.float64)
    narrow = widgets.normal(grid, 0.0, 0.05)
    assert (narrow == 0).any()
    assert widgets.divergence(narrow, narrow, grid) == 0
