"""Aligned networks: the same function, the permutation that was hidden, nothing nearer in small; paths and barriers."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse.averaging import align, average_models, barrier, interpolate, reset_batchnorm
from kdcourse.models import conv_net, mlp
from kdcourse.pruning import apply_masks, layer_magnitude_masks
from kdcourse.quantization import fake_quantize_model

IMAGES = torch.rand(24, 1, 28, 28, generator=torch.Generator().manual_seed(0)).double()
LABELS = torch.arange(24) % 10


def random_norms(model, seed):
    """Batch norms with statistics that matter, in float64."""
    torch.manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            for values in (part.running_var, part.weight):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (part.running_mean, part.bias):
                nn.init.normal_(values)
    return model.double().eval()


def deep(seed=0):
    return random_norms(mlp((9, 8, 7), seed=seed), seed)


def convolutional(seed=0):
    return random_norms(conv_net((5, 6, 4), seed=seed), seed)


def normed(seed=0):
    """Batch norm after a Flatten, pooling, nested Sequential, and no bias before a norm."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(1, 5, 3, stride=3, bias=False), nn.Tanh(), nn.AvgPool2d(3))
    head = nn.Sequential(nn.BatchNorm1d(45), nn.Linear(45, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.GELU())
    return random_norms(nn.Sequential(body, nn.Flatten(), head, nn.Linear(6, 10)), seed)


NETWORKS = {"MLP": deep, "conv net": convolutional, "other": normed}


def permuted(model, seed=0):
    """A copy with hidden units in a random order, by indices written out for each layer of a plain line."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    layers = [part for part in model.modules() if not list(part.children())]
    order = None
    with torch.no_grad():
        for number, layer in enumerate(layers):
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and order is not None:
                index = expanded(order, layer.num_features)
                for values in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                    values.copy_(values[index])
            if isinstance(layer, nn.Linear | nn.Conv2d):
                if order is not None:
                    layer.weight.copy_(layer.weight[:, expanded(order, layer.weight.shape[1])])
                order = torch.randperm(len(layer.weight), generator=generator)
                if any(isinstance(later, nn.Linear | nn.Conv2d) for later in layers[number + 1 :]):
                    layer.weight.copy_(layer.weight[order])
                    if layer.bias is not None:
                        layer.bias.copy_(layer.bias[order])
    return model


def expanded(order, features):
    return torch.arange(features).reshape(len(order), -1)[order].flatten()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def distance(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return sum((a - b).square().sum().item() for a, b in pairs)


def loss(model):
    return F.cross_entropy(model(IMAGES), LABELS)


# --- alignment --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_a_permuted_copy_comes_back_bit_for_bit(make, seed):
    reference = make()
    shuffled = permuted(reference, seed)
    torch.testing.assert_close(shuffled(IMAGES), reference(IMAGES))  # the test's own permutation is right
    assert not same(shuffled, reference)
    assert same(align(shuffled, reference), reference)


@pytest.mark.parametrize("seed", range(4))
def test_a_narrow_and_deep_permuted_copy_comes_back_also_where_descent_from_its_order_gets_stuck(seed):
    torch.manual_seed(seed)
    sizes = [3, 4, 4, 4, 4, 2]
    layers = [nn.Linear(*pair) for pair in itertools.pairwise(sizes)]
    reference = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU()))).double()
    assert same(align(permuted(reference, seed), reference), reference)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_function_stays_the_same_and_no_network_ends_farther_away(make, mode):
    model, reference = make(1), make(2)
    before = copy.deepcopy(model)
    aligned = align(model, reference)
    assert same(model, before)
    assert distance(aligned, reference) < distance(model, reference)
    for part in (*model.modules(), *aligned.modules()):
        part.training = mode == "train" and not isinstance(part, nn.Dropout)
    torch.testing.assert_close(aligned(IMAGES), model(IMAGES), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("seed", range(6))
def test_one_hidden_layer_finds_the_nearest_of_all_permutations(seed):
    torch.manual_seed(seed)
    model, reference = (nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double() for _ in range(2))
    tried = []
    for order in itertools.permutations(range(5)):
        index = list(order)
        parts = (
            (reference[0].weight, model[0].weight[index]),
            (reference[0].bias, model[0].bias[index]),
            (reference[2].weight, model[2].weight[:, index]),
            (reference[2].bias, model[2].bias),
        )
        tried.append(sum((a - b).square().sum().item() for a, b in parts))
    assert distance(align(model, reference), reference) == pytest.approx(min(tried))


def test_no_exchange_of_two_units_brings_an_aligned_network_nearer():
    aligned, reference = align(deep(1), deep(2)), deep(2)
    best = distance(aligned, reference)
    for first, second in (("linear1", "linear2"), ("linear2", "linear3"), ("linear3", "classes")):
        for one, other in itertools.combinations(range(len(aligned.get_submodule(first).weight)), 2):
            swapped, order = copy.deepcopy(aligned), list(range(len(aligned.get_submodule(first).weight)))
            order[one], order[other] = other, one
            with torch.no_grad():
                for values in (swapped.get_submodule(first).weight, swapped.get_submodule(first).bias):
                    values.copy_(values[order])
                reader = swapped.get_submodule(second).weight
                reader.copy_(reader[:, order])
            assert distance(swapped, reference) > best


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_permuted_copy_has_a_barrier_before_and_none_after(make):
    reference = make()
    shuffled = permuted(reference)
    wanted = reference(IMAGES).detach()

    def error(model):
        return F.mse_loss(model(IMAGES), wanted)

    assert barrier(shuffled, reference, error) > 1e-3
    assert barrier(align(shuffled, reference), reference, error) < 1e-20


def test_the_mean_with_a_permuted_copy_is_the_network_after_alignment():
    reference = convolutional()
    shuffled = permuted(reference)
    mean = average_models([align(shuffled, reference), reference])
    torch.testing.assert_close(mean(IMAGES), reference(IMAGES))
    assert not torch.allclose(average_models([shuffled, reference])(IMAGES), reference(IMAGES), atol=0.1)


def test_an_aligned_network_is_a_copy_with_modes_requires_grad_and_layout():
    model, reference = conv_net((5, 6)), conv_net((5, 6), seed=1)
    model.conv1.weight.requires_grad_(False)
    model.eval().norm2.train()
    aligned = align(model, reference)
    assert [part.training for part in aligned.modules()] == [part.training for part in model.modules()]
    assert [v.requires_grad for v in aligned.parameters()] == [v.requires_grad for v in model.parameters()]
    assert all(value.is_leaf for value in aligned.parameters())
    assert aligned.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    assert aligned.architecture == model.architecture
    owned = {value.data_ptr() for value in (*model.state_dict().values(), *reference.state_dict().values())}
    assert not owned & {value.data_ptr() for value in aligned.state_dict().values()}


def test_half_precision_and_a_single_layer():
    model, reference = (mlp((16,), seed=seed).to(torch.bfloat16) for seed in range(2))
    found, given = align(model, reference), align(nn.Linear(2, 3), nn.Linear(2, 3))
    assert found.linear1.weight.dtype == torch.bfloat16
    assert distance(found.double(), reference.double()) < distance(model.double(), reference.double())
    assert given.weight.shape == (3, 2)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs):
        return inputs + self.layer(inputs)


def twice():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def norm_twice():
    norm = nn.BatchNorm1d(4, affine=False)
    return nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 4), norm, nn.Linear(4, 2))


def hooked():
    model = mlp((4,))
    model.relu1.register_forward_hook(lambda part, inputs, output: output * torch.arange(4.0))
    return model


def masked():
    model = mlp((4,))
    apply_masks(model, layer_magnitude_masks(model, 0.5))
    return model


def infinite():
    model = mlp((4,))
    nn.init.constant_(model.linear1.bias, float("inf"))
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), Residual(), nn.Linear(4, 2)), "through '1', a Residual.*git-re-basin"),
        (Residual, "through a Residual"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3)), "through '0', a Conv2d"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)), "through '1', a Softmax"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)), "through '1', a LayerNorm"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.MaxPool1d(1), nn.Linear(4, 2)), "through '1', a MaxPool1d"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.MaxPool3d(1), nn.Conv2d(4, 2, 1)), "through '1', a MaxPool3d"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm1d(4), nn.Conv2d(4, 2, 1)), "'1', a BatchNorm1d"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Linear(4, 2)), "through '2', a Linear"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Flatten(), nn.Linear(8, 2)), "through '2', a Linear"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(2), nn.Linear(4, 2)), "through '1', a Flatten"),
        (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(9, 2)), "through '2', a Linear"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 1)), "'2', a ConvTranspose2d"),
        (norm_twice, "'1.running_mean' and '3.running_mean' are one shared tensor"),
        (twice, "'0.weight' and '2.weight' are one shared tensor"),
        (hooked, "'relu1' has hooks.*remove them first"),
        (masked, r"computed by a mask: remove_masks\(\)"),
        (lambda: fake_quantize_model(mlp((4,)), weight_bits=4), r"computed by WeightQuantizer.*bake\(\)"),
        (infinite, "linear1.bias contains NaN or infinity"),
    ],
)
def test_what_cannot_be_aligned_is_refused(make, words):
    model = make()
    with pytest.raises(ValueError, match=words):
        align(model, copy.deepcopy(model))


def test_networks_of_two_architectures_are_refused():
    with pytest.raises(ValueError, match="'linear1' is a Linear.* in reference and a Linear.* in model"):
        align(mlp((4,)), mlp((5,)))


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_a_point_of_the_line(fraction):
    model, other = convolutional(1), convolutional(2)
    found = interpolate(model, other, fraction=fraction)
    for name, value in found.named_parameters():
        expected = (1 - fraction) * model.get_parameter(name) + fraction * other.get_parameter(name)
        assert torch.equal(value, expected)
    torch.testing.assert_close(
        found.norm1.running_var, torch.lerp(model.norm1.running_var, other.norm1.running_var, fraction)
    )


@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_points_beyond_the_ends_are_refused(fraction):
    with pytest.raises(ValueError, match="fraction must lie in"):
        interpolate(convolutional(1), convolutional(2), fraction=fraction)


def single(weight):
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, weight)
    return model


# from -1 to 2: w = -1 + 3 f, and 2 - w² lies 9 f (1 - f) above the straight line between its ends
@pytest.mark.parametrize(("points", "expected"), [(3, 9 * 0.5 * 0.5), (6, 9 * 0.4 * 0.6)])
def test_the_barrier_of_a_parabola_is_the_one_worked_by_hand(points, expected):
    found = barrier(single(-1.0), single(2.0), lambda network: 2 - network.weight.item() ** 2, points=points)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", [lambda w: w * w, lambda w: 3 * w])
def test_a_loss_that_does_not_rise_has_no_barrier(loss):
    found = barrier(single(-1.0), single(2.0), lambda network: loss(network.weight.item()))
    assert found == pytest.approx(0, abs=1e-12)
    assert found >= 0


def test_a_network_has_no_barrier_to_itself_and_losses_run_without_gradient():
    seen = []
    model = convolutional()

    def watched(network):
        seen.append((torch.is_grad_enabled(), network is model))
        return loss(network)

    assert barrier(model, model, watched) == pytest.approx(0, abs=1e-12)
    assert seen == [(False, False)] * 11


def test_the_loss_may_reset_batch_norm():
    model, other = convolutional(1), convolutional(2)
    before = copy.deepcopy(model)
    found = barrier(model, other, lambda network: loss(reset_batchnorm(network, [IMAGES])), points=3)
    ends = [loss(reset_batchnorm(copy.deepcopy(network), [IMAGES])).item() for network in (model, other)]
    middle = loss(reset_batchnorm(average_models([model, other]), [IMAGES])).item()
    assert found == pytest.approx(max(0.0, middle - sum(ends) / 2))
    assert same(model, before)


def test_points_of_the_line_have_the_modes_of_the_first_network():
    model, other = convolutional(1).eval(), convolutional(2).train()
    modes = []
    barrier(model, other, lambda network: float(modes.append(network.training) or 0), points=3)
    barrier(other, model, lambda network: float(modes.append(network.training) or 0), points=3)
    assert modes == [False] * 3 + [True] * 3


def test_too_few_points_and_a_loss_that_is_not_finite_are_refused():
    with pytest.raises(ValueError, match="points must be an integer >= 3"):
        barrier(single(0.0), single(1.0), lambda network: 0.0, points=2)
    with pytest.raises(ValueError, match="the loss is nan at fraction 0: give a loss that is finite"):
        barrier(single(0.0), single(1.0), lambda network: float("nan"))
