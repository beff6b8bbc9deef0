"""Attributions against closed forms, plain loops in float64, and SciPy's rank correlation."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from kdcourse.attribution import Attribution, integrated_gradients, occlusion, rank_correlation
from kdcourse.models import conv_net
from kdcourse.quantization import calibrate, fake_quantize_model, fold_batchnorm, integer_network


def images(n=3, size=6, seed=0):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TARGETS = torch.tensor([2, 0, 1])


def network(kind=nn.Tanh, seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), kind(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)
    model = nn.Sequential(*layers).double()
    model[1].running_mean.uniform_(-0.1, 0.1)
    return model.train()


class Function(nn.Module):
    """A network that computes what it is given."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, inputs):
        return self.formula(inputs)


# --- integrated gradients ---------------------------------------------------------------------------------------------


def by_loops(model, inputs, targets, baseline, steps):
    """Image by image and step by step, from the definition."""
    model.eval()
    found = []
    for image, target in zip(inputs, targets, strict=True):
        start, total = torch.full_like(image, baseline), torch.zeros_like(image)
        for k in range(1, steps + 1):
            at = start + (k - 0.5) / steps * (image - start)
            jacobian = torch.func.jacrev(lambda x: model(x.unsqueeze(0))[0])(at)
            total += jacobian[target]
        found.append((image - start) * total / steps)
    model.train()
    return torch.stack(found)


def judge_gradients(function):
    inputs, model = images(), network()
    for baseline in (0.0, 0.4):
        found = function(model, inputs, TARGETS, baseline=baseline, steps=5)
        torch.testing.assert_close(found.values, by_loops(model, inputs, TARGETS, baseline, 5))
    # a product is shared equally, and the midpoint rule is exact
    product = Function(lambda x: torch.stack([x.flatten(1).prod(dim=1), x.flatten(1).sum(dim=1)], dim=1))
    pair = torch.tensor([[2.0, 3.0], [-1.0, 4.0]])
    found = function(product, pair, torch.tensor([0, 0]), baseline=0.0, steps=3)
    torch.testing.assert_close(found.values, torch.tensor([[3.0, 3.0], [-2.0, -2.0]]))


def test_integrated_gradients_are_those_of_the_definition():
    judge_gradients(integrated_gradients)


def test_the_parts_add_up_to_the_change_of_the_logit_as_steps_grow():
    inputs, model, before = images(), network(), math.inf
    for steps in (4, 16, 64):
        found = integrated_gradients(model, inputs, TARGETS, baseline=0.2, steps=steps)
        model.eval()
        change = (model(inputs) - model(torch.full_like(inputs, 0.2))).gather(1, TARGETS[:, None])[:, 0]
        model.train()
        torch.testing.assert_close(found.gap, found.values.sum(dim=(1, 2, 3)) - change)
        gap = found.gap.abs().max().item()
        assert gap < before / 10  # the error of midpoints falls by 16
        before = gap
    assert before < 1e-4


def test_a_linear_network_gives_weight_times_way_and_no_gap():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).double()
    start = images(1, seed=5)[0]
    found = integrated_gradients(model, images(), TARGETS, baseline=start, steps=1)
    expected = (images() - start) * model[1].weight[TARGETS].reshape(3, 1, 6, 6)
    torch.testing.assert_close(found.values, expected.detach())
    assert found.gap.abs().max() < 1e-12


def wrong_path(shift, scale=1.0, factor=True, squash=False):
    def wrong(model, inputs, targets, *, baseline, steps):
        model.eval()
        start, total = torch.full_like(inputs, baseline), torch.zeros_like(inputs)
        for k in range(1, steps + 1):
            alpha = 1.0 if shift is None else (k - shift) / steps
            point = (start + alpha * (inputs - start)).requires_grad_()
            logits = model(point).softmax(dim=1) if squash else model(point)
            (slope,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), point)
            total += scale * slope / steps
        model.train()
        return Attribution((inputs - start) * total if factor else total, total)

    return wrong


@pytest.mark.parametrize(
    "wrong",
    [
        wrong_path(0.0),
        wrong_path(1.0),
        wrong_path(None),
        wrong_path(0.5, scale=5.0),
        wrong_path(0.5, factor=False),
        wrong_path(0.5, squash=True),
    ],
    ids=["right ends", "left ends", "at the image", "sum", "no way", "softmax"],
)
def test_a_mistake_in_integrated_gradients_is_killed(wrong):
    with pytest.raises(AssertionError):
        judge_gradients(wrong)


def test_a_network_that_rounds_straight_through_shows_its_gap():
    model = conv_net((2, 4), seed=0).eval()
    inputs = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    folded = fold_batchnorm(model)
    rounded = fake_quantize_model(folded, weight_bits=2, activation_bits=8, ranges=calibrate(folded, [inputs]))
    plain, found = (
        integrated_gradients(each, inputs, torch.arange(4), baseline=0.0, steps=32) for each in (folded, rounded)
    )
    assert found.values.any()
    assert found.gap.abs().max() > 2 * plain.gap.abs().max()


class WithoutGraph(nn.Module):
    @torch.no_grad()
    def forward(self, inputs):
        return 2 * inputs.flatten(1)[:, :3]


STEEP = Function(lambda x: torch.round(3 * x.flatten(1))[:, :3])
NOWHERE = Function(lambda x: torch.stack([x.detach().flatten(1).sum(dim=1)] * 3, dim=1).requires_grad_())


@pytest.mark.parametrize("model", [STEEP, NOWHERE, WithoutGraph()], ids=["rounds", "detaches", "no graph"])
def test_a_network_that_is_not_differentiable_is_refused_and_can_be_covered(model):
    with pytest.raises(ValueError, match="no gradient reaches the images: the model rounds"):
        integrated_gradients(model, images(), TARGETS, baseline=0.0)
    assert occlusion(model, images() + 1, TARGETS, size=3).any()


def test_a_logit_that_does_not_change_has_no_parts():
    flat = Function(lambda x: 0 * x.flatten(1)[:, :3])
    assert not integrated_gradients(flat, images(), TARGETS, baseline=0.0).values.any()
    same = images()
    assert not integrated_gradients(network(), same, TARGETS, baseline=same).values.any()


# --- occlusion --------------------------------------------------------------------------------------------------------


def covered_by_loops(model, inputs, targets, size, stride, fill):
    model.eval()
    n, _, height, width = inputs.shape
    found = torch.zeros(n, height, width, dtype=torch.float64)
    tops, lefts = (sorted({*range(0, end - size + 1, stride), end - size}) for end in (height, width))
    for k in range(n):
        for y in range(height):
            for x in range(width):
                drops = []
                for top in tops:
                    for left in lefts:
                        if top <= y < top + size and left <= x < left + size:
                            copy = inputs[k : k + 1].clone()
                            copy[:, :, top : top + size, left : left + size] = fill
                            with torch.no_grad():
                                drops.append((model(inputs[k : k + 1]) - model(copy))[0, targets[k]].item())
                found[k, y, x] = np.mean(drops)
    model.train()
    return found


@pytest.mark.parametrize(("size", "stride", "fill"), [(2, 1, 0.0), (3, 2, 0.5), (6, 4, 1.0)])
def test_occlusion_is_that_of_plain_loops(size, stride, fill):
    inputs, model = images(), network()
    before = inputs.clone()
    found = occlusion(model, inputs, TARGETS, size=size, stride=stride, fill=fill)
    torch.testing.assert_close(found, covered_by_loops(model, inputs, TARGETS, size, stride, fill))
    assert torch.equal(inputs, before)


def test_occlusion_covers_all_channels_of_images_that_are_not_square():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, 3)).double()
    inputs = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    found = occlusion(model, inputs, torch.tensor([0, 1]), size=1)
    weight = model[1].weight[:2].detach().reshape(2, 3, 4, 6)
    torch.testing.assert_close(found, (weight * inputs).sum(dim=1))


# --- both -------------------------------------------------------------------------------------------------------------


def explained(model, inputs, targets, **more):
    yield integrated_gradients(model, inputs, targets, baseline=0.0, steps=4, **more).values
    yield occlusion(model, inputs, targets, size=3, stride=2, **more)


def test_the_network_is_left_as_it_was():
    model = network()
    model[0].weight.requires_grad_(False)
    model[1].eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    for found in explained(model, images().requires_grad_(), TARGETS):
        assert not found.requires_grad
    assert [part.training for part in model.modules()] == modes
    assert [each.requires_grad for each in model.parameters()] == [False, True, True, True, True, True]
    assert all(each.grad is None for each in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_layouts_dtypes_and_frozen_networks_give_the_same():
    expected = list(explained(network(), images(), TARGETS))
    frozen = network().requires_grad_(False)
    layout = network().to(memory_format=torch.channels_last), images().to(memory_format=torch.channels_last)
    for model, inputs in ((frozen, images()), layout):
        for found, wanted in zip(explained(model, inputs, TARGETS), expected, strict=True):
            torch.testing.assert_close(found, wanted)
    for dtype, error in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        for found, wanted in zip(explained(network().to(dtype), images().to(dtype), TARGETS), expected, strict=True):
            assert found.dtype == torch.float32
            assert (found - wanted).norm() < error * wanted.norm()


def test_the_logits_are_picked_from_several_outputs():
    model = network()
    pair = Function(lambda x: (model(x), model(x).sum(dim=1)))
    pair.inner = model
    for found, wanted in zip(
        explained(pair, images(), TARGETS, output=lambda out: out[0]),
        explained(model, images(), TARGETS),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)
    with pytest.raises(TypeError, match="pass output="):
        integrated_gradients(pair, images(), TARGETS, baseline=0.0)


SHARP = Function(lambda x: (0 * x.flatten(1)[:, :3]).sqrt())  # its slope at 0 is infinite, times 0
GOOD = {"model": network(), "images": images(), "targets": TARGETS, "baseline": 0.0}
GOOD_COVER = {"model": network(), "images": images(), "targets": TARGETS, "size": 2}
EVERYONE = [
    ({"images": (images() * 255).to(torch.uint8)}, TypeError, "divide bytes by 255"),
    ({"images": [1.0]}, TypeError, "got list"),
    ({"images": images()[:0]}, ValueError, "N >= 1"),
    ({"images": images() * torch.nan}, ValueError, "finite values"),
    ({"targets": torch.tensor([0, 1, 3])}, ValueError, r"labels must lie in \[0, 2\]"),
    ({"targets": torch.tensor([0, 1, -100])}, ValueError, "targets must be classes"),
    ({"targets": torch.tensor([0, 1])}, ValueError, "one label is needed"),
    ({"targets": torch.tensor([0.0, 1, 2])}, TypeError, "int64"),
    ({"model": lambda x: x}, TypeError, "must be an nn.Module, got function"),
    ({"model": nn.LazyLinear(3)}, ValueError, "run a batch through the model first"),
    ({"model": nn.Conv2d(1, 3, 3).double()}, ValueError, "an attribution needs one row"),
]
GRADIENTS = [
    ({"steps": 0}, ValueError, "steps must be an integer >= 1"),
    ({"baseline": math.nan}, ValueError, "baseline contains NaN"),
    ({"baseline": torch.zeros(5)}, ValueError, "baseline must be a number or broadcast"),
    ({"model": SHARP, "images": images() - 2}, ValueError, "the gradient at the images is NaN or infinite"),
]
COVERED = [
    ({"size": 7}, ValueError, "size <= 6 pixels"),
    ({"size": 0}, ValueError, "size must be an integer >= 1"),
    ({"stride": 3}, ValueError, "so that every pixel is covered"),
    ({"stride": 0}, ValueError, "stride must be an integer >= 1"),
    ({"fill": math.inf}, ValueError, "fill contains NaN"),
    ({"images": images()[:, 0]}, ValueError, r"must have shape \(N, C, H, W\)"),
]


@pytest.mark.parametrize(("changed", "error", "message"), EVERYONE + GRADIENTS)
def test_integrated_gradients_refuse_in_a_sentence(changed, error, message):
    with pytest.raises(error, match=message):
        integrated_gradients(**(GOOD | changed))


@pytest.mark.parametrize(("changed", "error", "message"), EVERYONE + COVERED)
def test_occlusion_refuses_in_a_sentence(changed, error, message):
    with pytest.raises(error, match=message):
        occlusion(**(GOOD_COVER | changed))


def test_an_integer_network_is_refused_with_a_way_out():
    model, inputs = nn.Sequential(nn.Linear(4, 2)), torch.rand(8, 4)
    integers = integer_network(fake_quantize_model(model, activation_bits=8, ranges=calibrate(model, [inputs])))
    with pytest.raises(TypeError, match="got IntegerNetwork: take the network that it was made from"):
        integrated_gradients(integers, inputs, torch.zeros(8, dtype=torch.int64), baseline=0.0)


# --- agreement of two -------------------------------------------------------------------------------------------------


def test_rank_correlation_is_scipys():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(5, 1, 4, 4, generator=generator).round(decimals=1) for _ in range(2))  # with ties
    expected = [spearmanr(one.flatten(), other.flatten()).statistic for one, other in zip(first, second, strict=True)]
    assert rank_correlation(first, second).tolist() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(rank_correlation(first, first**3), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(rank_correlation(first, -first), -torch.ones(5, dtype=torch.float64))


def test_rank_correlation_refuses_what_has_no_ranks():
    maps = images()
    with pytest.raises(ValueError, match="second is the same for all pixels of image 1"):
        rank_correlation(maps, maps * torch.tensor([1.0, 0.0, 1.0]).reshape(3, 1, 1, 1))
    with pytest.raises(ValueError, match="two attributions"):
        rank_correlation(maps, maps[:2])
    with pytest.raises(ValueError, match="first contains NaN"):
        rank_correlation(maps / 0, maps)
