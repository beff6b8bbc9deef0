"""Corruptions against SciPy and by hand; the attack against the closed form of a linear network."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from kdcourse.models import conv_net
from kdcourse.quantization import calibrate, fake_quantize_model, fold_batchnorm
from kdcourse.robustness import CORRUPTIONS, add_noise, blur, cover, fade, pgd_attack

IMAGES = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_noise_has_the_strength_asked_for_and_stays_an_image():
    grey = torch.full((50, 1, 28, 28), 0.5)
    noisy = add_noise(grey, strength=0.05, seed=3)
    assert (noisy - grey).std().item() == pytest.approx(0.05, rel=0.02)
    assert (noisy - grey).mean().abs().item() < 0.001
    assert torch.equal(noisy, add_noise(grey, strength=0.05, seed=3))
    assert not torch.equal(noisy, add_noise(grey, strength=0.05, seed=4))
    strong = add_noise(IMAGES, strength=2.0)
    assert strong.min() == 0
    assert strong.max() == 1


@pytest.mark.parametrize("radius", [0.5, 1.5, 2.2])
def test_blur_is_scipys(radius):
    expected = [gaussian_filter(image[0].double().numpy(), radius, mode="constant", truncate=3) for image in IMAGES]
    assert np.allclose(blur(IMAGES.double(), radius=radius)[:, 0].numpy(), expected, atol=1e-12)


def test_fading_keeps_grey_and_brings_black_and_white_together():
    colours = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    assert fade(colours, share=0.7).flatten().tolist() == pytest.approx([0.35, 0.5, 0.65])
    assert fade(colours, share=1.0).flatten().tolist() == [0.5, 0.5, 0.5]


def test_a_square_is_covered_at_its_own_place_in_every_image():
    white = torch.ones(200, 1, 28, 28)
    covered = cover(white, side=8, seed=1) == 0
    assert covered.sum(dim=(1, 2, 3)).tolist() == [64] * 200
    rows, columns = covered.any(dim=3)[:, 0], covered.any(dim=2)[:, 0]
    assert rows.sum(dim=1).tolist() == columns.sum(dim=1).tolist() == [8] * 200
    # every place from the first to the last possible one
    assert rows.float().argmax(dim=1).unique().tolist() == list(range(21))
    assert columns.float().argmax(dim=1).unique().tolist() == list(range(21))
    assert torch.equal(cover(IMAGES, side=28), torch.zeros_like(IMAGES))


def test_the_corruptions_by_name_keep_images_images_and_do_what_they_say():
    assert list(CORRUPTIONS) == ["clean", "noise", "blur", "faded", "covered"]
    for name, corrupt in CORRUPTIONS.items():
        worse = corrupt(IMAGES)
        assert worse.shape == IMAGES.shape
        assert worse.min() >= 0
        assert worse.max() <= 1
        assert torch.equal(worse, IMAGES) == (name == "clean")
        assert torch.equal(worse, corrupt(IMAGES))


def test_the_corruptions_are_as_strong_as_the_stored_results_were_measured_with():
    expected = {
        "clean": IMAGES,
        "noise": add_noise(IMAGES, strength=0.1),
        "blur": blur(IMAGES, radius=1.2),
        "faded": fade(IMAGES, share=0.1),
        "covered": cover(IMAGES, side=8),
    }
    assert all(torch.equal(corrupt(IMAGES), expected[name]) for name, corrupt in CORRUPTIONS.items())


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 2))


def test_the_attack_finds_the_worst_images_of_a_linear_network(linear):
    # two classes: the loss rises fastest, everywhere, along the sign of the difference of their weights
    labels, epsilon = torch.tensor([0, 1, 0, 1, 0, 1]), 0.05
    difference = linear[1].weight[1] - linear[1].weight[0]
    away = torch.where(labels == 0, 1.0, -1.0).reshape(-1, 1) * difference.sign()
    worst = (IMAGES.flatten(1) + epsilon * away).clamp(0, 1).reshape(IMAGES.shape)
    assert torch.allclose(pgd_attack(linear, IMAGES, labels, epsilon=epsilon, steps=5), worst, atol=1e-6)


def test_the_attack_stays_in_its_box_and_leaves_the_network_alone():
    network, labels = conv_net(seed=0).train(), torch.arange(6)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    attacked = pgd_attack(network, IMAGES, labels, epsilon=0.1, steps=4)
    assert (attacked - IMAGES).abs().max() <= 0.1 + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert not attacked.requires_grad
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(attacked, pgd_attack(network, IMAGES, labels, epsilon=0.1, steps=4))


def test_the_attack_goes_through_rounding():
    folded = fold_batchnorm(conv_net(seed=0).eval())
    rounding = fake_quantize_model(folded, activation_bits=8, ranges=calibrate(folded, [IMAGES]))
    labels = folded(IMAGES).argmax(dim=1)
    attacked = pgd_attack(rounding, IMAGES, labels, epsilon=0.1)
    loss = nn.functional.cross_entropy
    assert loss(rounding(attacked), labels) > loss(rounding(IMAGES), labels) + 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: add_noise(IMAGES, strength=0), "strength must be > 0"),
        (lambda: blur(IMAGES, radius=-1), "radius must be > 0"),
        (lambda: fade(IMAGES, share=1.2), "share must be at most 1"),
        (lambda: cover(IMAGES, side=29), "side must be from 1 to 28"),
        (lambda: pgd_attack(conv_net(), IMAGES, torch.arange(6), epsilon=float("nan")), "epsilon must be > 0"),
        (lambda: pgd_attack(conv_net(), IMAGES, torch.arange(6), epsilon=0.1, steps=0), "steps must be >= 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Sharp(nn.Module):
    """Rounds without a gradient."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, images):
        return self.linear(torch.round(images).flatten(1))


def test_a_network_without_gradient_is_refused():
    with pytest.raises(ValueError, match="no gradient reaches the images"):
        pgd_attack(Sharp(), IMAGES, torch.arange(6), epsilon=0.1)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ((255 * IMAGES).to(torch.uint8), TypeError, "got torch.uint8: divide bytes by 255"),
        (IMAGES.tolist(), TypeError, "got list"),
        (IMAGES[0, 0], ValueError, r"shape \(N, C, H, W\), at least one, got \(28, 28\)"),
        (IMAGES[:0], ValueError, r"at least one, got \(0, 1, 28, 28\)"),
        (IMAGES * 255, ValueError, r"lie in \[0, 1\], found .* normalize afterwards"),
        (IMAGES * float("nan"), ValueError, r"lie in \[0, 1\], found nan"),
    ],
    ids=["bytes", "list", "rank", "empty", "range", "NaN"],
)
def test_what_are_no_images_in_the_unit_interval_is_refused(images, error, message):
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    calls = (
        lambda: add_noise(images, strength=0.1),
        lambda: blur(images, radius=1.0),
        lambda: fade(images, share=0.1),
        lambda: cover(images, side=8),
        lambda: pgd_attack(network, images, torch.zeros(6, dtype=torch.int64), epsilon=0.1),
    )
    for call in calls:
        with pytest.raises(error, match=message):
            call()
