"""The explorers say and draw the right numbers, not only other ones, when a slider moves."""

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


def bits_by_hand(logits, temperature):
    weights = np.exp(np.asarray(logits, dtype=np.float64) / temperature)
    p = weights / weights.sum()
    return -(p * np.log2(p)).sum(), p.max()


LOGITS = torch.tensor([[2.0, 0.0, -1.0, 0.5], [0.0, 1.0, 3.0, -2.0]])


def test_temperature_explorer_follows_both_sliders():
    explorer = widgets.explore_temperature(torch.rand(2, 1, 28, 28), LOGITS, torch.tensor([0, 2]))
    sliders, says, picture = parts(explorer)
    for image, temperature in ((0, 1.0), (0, 10.0), (1, 10.0), (1, 0.1)):
        sliders["image"].value, sliders["T"].value = image, temperature
        shown_temperature, bits, top = numbers(says)
        expected_bits, expected_top = bits_by_hand(LOGITS[image], temperature)
        assert shown_temperature == pytest.approx(temperature, abs=0.005)
        assert bits == pytest.approx(expected_bits, abs=6e-4)
        assert top == pytest.approx(expected_top, abs=6e-4)
        assert f"{bits:.3f} bits" in picture.value, "the alt text says the same"


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
