"""Corruptions against SciPy and by hand; the attack against the closed form of a linear network."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from kdcourse.models import conv_net
from kdcourse.quantization import calibrate, fake_quantize_model, fold_batchnorm, integer_network
from kdcourse.robustness import (
    CORRUPTIONS,
    add_noise,
    blur,
    cover,
    fade,
    margin_loss,
    pgd_attack,
    straight_through,
    withstands,
)

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


# --- margins, rounding, transfer --------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """The same predictions from logits that are larger."""

    def __init__(self, network, factor):
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images):
        return self.factor * self.network(images)


@pytest.fixture(scope="module")
def confident():
    """A network of two layers in float64 whose classes are far apart, and images that it is right about."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 4)).double()
    images = torch.rand(60, 1, 28, 28, dtype=torch.float64)
    with torch.no_grad():
        network[3].weight *= 40
        network[3].bias.copy_(-(network(images) - network[3].bias).mean(dim=0))
    return network, images, network(images).argmax(dim=1)


def right(network, images, labels):
    return (network(images).argmax(dim=1) == labels).double().mean().item()


def test_an_attack_on_the_margin_knows_no_scale_of_the_logits(confident):
    network, images, labels = confident
    options = {"epsilon": 0.03, "steps": 8, "loss": "margin"}
    plain = pgd_attack(network, images, labels, **options)
    assert right(network, plain, labels) < 0.3
    for factor in (0.01, 100.0):
        assert torch.equal(pgd_attack(Scaled(network, factor), images, labels, **options), plain)


def test_an_attack_on_the_cross_entropy_takes_large_logits_for_robust(confident):
    network, images, labels = confident
    sharp = Scaled(network.float(), 100.0)
    images, options = images.float(), {"epsilon": 0.03, "steps": 8}
    plain, fooled, margin = (
        right(network, pgd_attack(model, images, labels, **options, loss=loss), labels)
        for model, loss in ((network, "cross_entropy"), (sharp, "cross_entropy"), (sharp, "margin"))
    )
    network.double()
    assert fooled > plain + 0.3
    assert margin <= plain + 0.1


def test_where_the_softmax_is_saturated_for_all_images_the_sentence_says_so(confident):
    network, images, labels = confident
    with pytest.raises(ValueError, match="softmax saturates, loss='margin' helps"):
        pgd_attack(Scaled(network, 1e8), images, labels, epsilon=1e-6)


def margins_by_hand(logits, labels):
    found = []
    for row, label in zip(logits.reshape(-1, logits.shape[-1]).tolist(), labels.flatten().tolist(), strict=True):
        if label != -100:
            found.append(max(value for place, value in enumerate(row) if place != label) - row[label])
    return sum(found) / len(found)


def test_the_margin_is_the_largest_wrong_logit_less_the_labels():
    logits = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([[0, 1, -100], [4, 2, 2], [-100, -100, 3], [1, 0, 4]])
    assert margin_loss(logits, labels).item() == pytest.approx(margins_by_hand(logits, labels), abs=1e-12)
    assert margin_loss(logits.bfloat16(), labels).dtype == torch.float32
    slope = torch.func.grad(margin_loss)(logits[0, :2], labels[0, :2])
    assert slope.sum(dim=1).abs().max() < 1e-12  # unchanged by a shift
    assert slope.count_nonzero(dim=1).tolist() == [2, 2]
    with pytest.raises(ValueError, match="no position is left"):
        margin_loss(logits, torch.full_like(labels, -100))
    with pytest.raises(ValueError, match="a single class"):
        margin_loss(logits[..., :1], labels * 0)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 4\]"):
        margin_loss(logits, labels.abs())


def clamped(logits, labels):
    return margin_loss(logits, labels).clamp(min=0)


def own_logit_kept(logits, labels):
    return (logits.amax(dim=-1) - logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)).mean()


def of_probabilities(logits, labels):
    return margin_loss(logits.softmax(dim=-1), labels)


@pytest.mark.parametrize("wrong", [clamped, own_logit_kept, of_probabilities])
def test_a_mistake_in_the_margin_has_no_slope_to_attack_along(wrong, confident):
    network, images, labels = confident
    with pytest.raises(ValueError, match="no gradient reaches the images"):
        pgd_attack(Scaled(network, 1e6), images[:3], labels[:3], epsilon=1e-6, loss=wrong)
    pgd_attack(Scaled(network, 1e6), images[:3], labels[:3], epsilon=1e-6, loss=margin_loss)


def test_an_attack_takes_a_loss_of_ones_own(confident):
    network, images, labels = confident
    same = pgd_attack(network, images, labels, epsilon=0.02, loss=lambda logits, of: 3 * margin_loss(logits, of))
    assert torch.equal(same, pgd_attack(network, images, labels, epsilon=0.02, loss="margin"))
    with pytest.raises(ValueError, match="loss must be 'cross_entropy', 'margin' or a function"):
        pgd_attack(network, images, labels, epsilon=0.02, loss="hinge")
    with pytest.raises(ValueError, match=r"loss must return a 0-d tensor, got \(60,\): take the mean"):
        pgd_attack(network, images, labels, epsilon=0.02, loss=lambda logits, of: logits[:, 0])
    with pytest.raises(ValueError, match="loss must return a 0-d tensor, got float"):
        pgd_attack(network, images, labels, epsilon=0.02, loss=lambda logits, of: 1.0)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\]"):
        pgd_attack(network, images, labels + 1, epsilon=0.02)


class Rounds(nn.Module):
    """A network whose inputs and weights are rounded without a gradient."""

    def __init__(self, inner, how=torch.round):
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, images):
        return self.inner(self.how(images * 16) / 16)


WAYS = [torch.round, Tensor.round, torch.floor, Tensor.ceil, torch.trunc, lambda x: torch.round(x, decimals=0)]


@pytest.mark.parametrize("how", WAYS)
def test_rounding_without_a_gradient_is_attacked_straight_through(confident, how):
    network, images, labels = confident
    rounds = Rounds(network, how)
    with pytest.raises(ValueError, match=r"no gradient reaches the images.*straight_through\(\)"):
        pgd_attack(rounds, images, labels, epsilon=0.05, loss="margin")
    with straight_through():
        attacked = pgd_attack(rounds, images, labels, epsilon=0.05, loss="margin")
    assert right(rounds, attacked, labels) < right(rounds, images, labels) - 0.5
    assert pgd_attack(network, images, labels, epsilon=0.05) is not None  # and the block has ended:
    with pytest.raises(ValueError, match="no gradient"):
        pgd_attack(rounds, images, labels, epsilon=0.05)


def test_inside_the_block_values_are_the_same_and_slopes_one():
    values = torch.linspace(-3, 3, 61, dtype=torch.float64).requires_grad_()
    for how in (torch.round, torch.floor, torch.ceil, torch.trunc, torch.fix):
        expected = how(values.detach())
        with straight_through():
            found = how(values)
            assert torch.equal(how(values.detach()), expected)
        assert torch.equal(found, expected)
        assert torch.equal(torch.autograd.grad(found.sum(), values)[0], torch.ones_like(values))
    with straight_through():
        assert torch.equal(torch.round(input=values), torch.round(values))
        out = torch.empty(61, dtype=torch.float64)
        torch.round(values.detach(), out=out)
        with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
            torch.round(values, out=out)  # as outside
    assert torch.equal(out, torch.round(values))


@pytest.mark.parametrize("network", [lambda x: x, "integer"])
def test_what_is_no_module_is_refused_as_what_is_attacked(network):
    with pytest.raises(TypeError, match=r"must be an nn\.Module, got .*: take the network that it was made from"):
        pgd_attack(network, IMAGES, torch.arange(6), epsilon=0.1)
    with pytest.raises(TypeError, match=r"must be an nn\.Module"):
        withstands(network, IMAGES, torch.arange(6), epsilon=0.1)


def test_an_integer_network_is_attacked_through_the_one_that_it_was_made_from():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.ReLU(), nn.Linear(24, 3))
    images = torch.rand(50, 1, 28, 28)
    with torch.no_grad():
        network[3].bias.copy_(-(network(images) - network[3].bias).mean(dim=0))  # all classes are predicted
    rounded = fake_quantize_model(network, activation_bits=8, ranges=calibrate(network, [images]))
    integers = integer_network(rounded)
    labels = integers(images).argmax(dim=1)
    kept = withstands(integers, images, labels, epsilon=0.05, source=rounded, loss="margin")
    assert kept.double().mean() < 0.3
    float_kept = withstands(integers, images, labels, epsilon=0.05, source=network, loss="margin")
    assert (kept & float_kept).double().mean() <= min(kept.double().mean(), float_kept.double().mean())


def test_a_gradient_that_is_no_number_attacks_nothing():
    root = Scaled(nn.Flatten(), 0.0)
    root.forward = lambda images: (0 * images.flatten(1)).sqrt()
    with pytest.raises(ValueError, match="the gradient at the images is NaN or infinite"):
        pgd_attack(root, IMAGES, torch.arange(6), epsilon=0.1)
    with pytest.raises(ValueError, match="nothing to attack: the label is -100 everywhere"):
        pgd_attack(conv_net(), IMAGES, torch.full((6,), -100), epsilon=0.1)


def test_what_withstands_is_right_before_and_after(confident):
    network, images, labels = confident
    labels = labels.clone()
    labels[:20] = (labels[:20] + 1) % 4  # wrong from the start
    options = {"epsilon": 0.01, "steps": 4, "loss": "margin"}
    attacked = pgd_attack(network, images, labels, **options)
    expected = [
        network(image[None]).argmax().item() == network(other[None]).argmax().item() == label
        for image, other, label in zip(images, attacked, labels.tolist(), strict=True)
    ]
    found = withstands(network, images, labels, **options)
    assert found.tolist() == expected
    assert not found[:20].any()
    assert 0 < found.sum() < 40
    mirrored = Scaled(network, -1.0)  # what attacks it helps the network
    helped = pgd_attack(mirrored, images, labels, **options | {"epsilon": 0.1})
    assert (network(helped).argmax(dim=1) == labels)[:20].any()
    assert not withstands(network, images, labels, **options | {"epsilon": 0.1}, source=mirrored)[:20].any()


def test_more_is_never_weaker_and_images_made_for_another_network_are(confident):
    network, images, labels = confident
    torch.manual_seed(7)
    other = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 4)).double()
    kept = [withstands(network, images, labels, epsilon=size).sum() for size in (0.002, 0.01, 0.05, 0.5)]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == 0
    transferred = withstands(network, images, labels, epsilon=0.05, source=other)
    assert transferred.sum() > kept[2] + 20


def test_a_network_that_is_judged_is_left_as_it_was():
    network = conv_net(seed=0).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    withstands(network, IMAGES, torch.arange(6), epsilon=0.1, steps=2, source=conv_net(seed=1))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    several = Scaled(network, torch.tensor(1.0))
    several.forward = lambda images: (network(images), 0)
    found = withstands(several, IMAGES, torch.arange(6), epsilon=0.1, steps=2, output=lambda out: out[0])
    assert found.shape == (6,)
    with pytest.raises(TypeError, match="output="):
        withstands(several, IMAGES, torch.arange(6), epsilon=0.1)
