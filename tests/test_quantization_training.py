"""Training through quantization, weight sharing and mixed precision against closed forms and other libraries."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.cluster.vq import kmeans2
from sklearn.cluster import KMeans
from torch import nn
from torch.nn.utils import parametrize

from kdcourse import quantization as qz
from kdcourse.data import Split, load_mnist
from kdcourse.models import conv_net, mlp
from kdcourse.quantization.qat import LearnedStep
from kdcourse.training import distill, evaluate, fit


def sample(*shape: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


IMAGES = sample(32, 1, 28, 28)


def builtin(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Symmetric weights per output channel by PyTorch's own operator."""
    top = 2 ** (bits - 1) - 1
    scale = weight.detach().flatten(1).abs().amax(dim=1) / top
    return torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros(len(scale), dtype=torch.int32), 0, -top, top
    )


def builtin_input(images: torch.Tensor, range_: qz.Range, bits: int) -> torch.Tensor:
    params = qz.qparams_from_range(*range_, bits=bits)
    return torch.fake_quantize_per_tensor_affine(images, params.scale, params.zero_point, 0, 2**bits - 1)


# --- the copy computes, and learns, as PyTorch's operators do ---------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("layer", [nn.Conv2d(1, 3, 3, stride=2), nn.Linear(28, 5)], ids=["conv", "linear"])
def test_forward_and_every_gradient_equal_a_layer_written_with_pytorchs_fake_quantize(layer, bits):
    model = nn.Sequential(layer)
    model.zero_grad()
    ranges = qz.calibrate(model, [IMAGES / 2])  # half as wide as the images, so that some saturate
    quantized = qz.fake_quantize_model(model, weight_bits=bits, activation_bits=bits, ranges=ranges)
    ours, theirs = (IMAGES.clone().requires_grad_() for _ in range(2))
    weight, images = builtin(layer.weight, bits), builtin_input(theirs, ranges["0"].inputs, bits)
    if layer.weight.ndim == 4:
        expected = F.conv2d(images, weight, layer.bias, stride=2)
    else:
        expected = F.linear(images, weight, layer.bias)
    found = quantized(ours)
    assert torch.equal(quantized[0].weight, weight)
    torch.testing.assert_close(found, expected)
    found.square().mean().backward()
    expected.square().mean().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.equal(ours.grad == 0, theirs.grad == 0)
    assert 0 < (ours.grad == 0).double().mean() < 1
    torch.testing.assert_close(quantized[0].parametrizations.weight.original.grad, layer.weight.grad)
    torch.testing.assert_close(quantized[0].bias.grad, layer.bias.grad)


def test_the_model_given_is_left_alone_and_scales_follow_the_weights():
    model = mlp((4,))
    before = copy.deepcopy(model.state_dict())
    quantized = qz.fake_quantize_model(model, weight_bits=3)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        quantized.classes.parametrizations.weight.original.mul_(10)
    assert torch.allclose(quantized.classes.weight, 10 * builtin(model.classes.weight, 3))
    assert torch.equal(model.classes.weight, before["classes.weight"])


def test_quantized_output_lies_on_the_grid_of_the_last_layers_range():
    model = mlp((4,))
    ranges = qz.calibrate(model, [IMAGES])
    settings = {"activation_bits": 4, "ranges": ranges}
    plain = qz.fake_quantize_model(model, **settings)(IMAGES)
    found = qz.fake_quantize_model(model, quantize_output=True, **settings)(IMAGES)
    torch.testing.assert_close(found, builtin_input(plain, ranges["classes"].outputs, 4))
    assert len(found.unique()) <= 16


def test_bits_by_layer_name_leave_the_other_layers_real():
    model = mlp((4,))
    quantized = qz.fake_quantize_model(model, weight_bits={"classes": 2})
    assert torch.equal(quantized.linear1.weight, model.linear1.weight)
    assert torch.equal(quantized.classes.weight, builtin(model.classes.weight, 2))


def test_a_dead_output_channel_stays_zero_and_has_a_finite_gradient():
    model = mlp((4,))
    with torch.no_grad():
        model.linear1.weight[2] = 0
    quantized = qz.fake_quantize_model(model, weight_bits=4)
    quantized(IMAGES).sum().backward()
    assert torch.equal(quantized.linear1.weight[2], torch.zeros(784))
    assert all(torch.isfinite(parameter.grad).all() for parameter in quantized.parameters())


@pytest.mark.parametrize("learned_step", [False, True])
def test_copies_and_state_dicts_carry_everything(learned_step):
    model = qz.fold_batchnorm(conv_net((4,)))
    ranges = qz.calibrate(model, [IMAGES])
    other_ranges = {name: qz.LayerRange(qz.Range(-9, 9), qz.Range(-9, 9)) for name in ranges}
    settings = {"weight_bits": 3, "activation_bits": 4, "learned_step": learned_step, "quantize_output": True}
    first = qz.fake_quantize_model(model, ranges=ranges, **settings)
    second = qz.fake_quantize_model(qz.fold_batchnorm(conv_net((4,), seed=1)), ranges=other_ranges, **settings)
    assert not torch.equal(first(IMAGES), second(IMAGES))
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(IMAGES), second(IMAGES))
    twin = copy.deepcopy(first)
    torch.testing.assert_close(first(IMAGES), twin(IMAGES))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    torch.testing.assert_close(first(IMAGES), second(IMAGES))


@pytest.mark.parametrize("learned_step", [False, True])
def test_bake_returns_a_plain_network_with_the_rounded_weights(learned_step):
    model = mlp((4,))
    ranges = qz.calibrate(model, [IMAGES])
    settings = {"weight_bits": 3, "learned_step": learned_step}
    quantized = qz.fake_quantize_model(model, activation_bits=3, ranges=ranges, quantize_output=True, **settings)
    baked = qz.bake(quantized)
    assert baked.state_dict().keys() == model.state_dict().keys()
    assert [type(module) for module in baked.modules()] == [type(module) for module in model.modules()]
    torch.testing.assert_close(baked(IMAGES), qz.fake_quantize_model(model, **settings)(IMAGES))
    assert len(baked.classes.weight[0].unique()) <= 8
    assert not torch.equal(quantized(IMAGES), baked(IMAGES))  # the one given still rounds its activations
    again = qz.fake_quantize_model(baked, weight_bits=3)
    if not learned_step:
        torch.testing.assert_close(again(IMAGES), baked(IMAGES))  # rounding what is on the grid changes nothing


def test_weights_that_are_parametrized_already_stay_so_and_are_rounded_last():
    class Halved(nn.Module):
        def forward(self, weight):
            return weight / 2

    model = mlp((4,))
    before = model(IMAGES)
    parametrize.register_parametrization(model.linear1, "weight", Halved())
    parametrize.register_parametrization(model.classes, "bias", Halved())
    halved = model(IMAGES)
    quantized = qz.fake_quantize_model(model, weight_bits=3)
    assert torch.equal(quantized.linear1.weight, builtin(model.linear1.weight, 3))
    torch.testing.assert_close(model(IMAGES), halved)
    baked = qz.bake(quantized)
    torch.testing.assert_close(baked(IMAGES), quantized(IMAGES))
    torch.testing.assert_close(model(IMAGES), halved)
    assert not torch.equal(before, halved)


def test_refuses_what_cannot_be_quantized():
    model = mlp((4,))
    ranges = qz.calibrate(model, [IMAGES])
    with pytest.raises(ValueError, match="no nn.Linear or nn.Conv2d"):
        qz.fake_quantize_model(nn.ReLU())
    with pytest.raises(ValueError, match=r"nothing to quantize in \['head'\].*'linear1', 'classes'"):
        qz.fake_quantize_model(model, weight_bits={"head": 4})
    with pytest.raises(ValueError, match="no range for layer 'linear1'"):
        qz.fake_quantize_model(model, activation_bits=8)
    with pytest.raises(ValueError, match="no range for layer 'classes'"):
        qz.fake_quantize_model(model, activation_bits=8, ranges={"linear1": ranges["linear1"]})
    with pytest.raises(ValueError, match="quantize_output needs activation_bits"):
        qz.fake_quantize_model(model, quantize_output=True)
    with pytest.raises(ValueError, match="quantized already"):
        qz.fake_quantize_model(qz.fake_quantize_model(model))
    with pytest.raises(ValueError, match="bits must be an integer from 2 to 8"):
        qz.fake_quantize_model(model, weight_bits=1)


# --- learned step size ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("qmin", "qmax"), [(-4, 3), (0, 7), (-128, 127)])
@pytest.mark.parametrize("gradient_scale", [1.0, 0.125])
def test_learned_steps_gradient_equals_the_closed_form_value_by_value(qmin, qmax, gradient_scale):
    values = torch.cat([sample(60, spread=qmax / 4), torch.linspace(qmin - 2, qmax + 2, 53) * 0.37]).double()
    values.requires_grad_()
    step = torch.tensor(0.37, dtype=torch.float64, requires_grad=True)
    upstream = sample(len(values), seed=1).double()
    found = qz.learned_step_quantize(values, step, qmin=qmin, qmax=qmax, gradient_scale=gradient_scale)
    found.backward(upstream)
    forward, for_values, for_step = [], [], 0.0
    for value, weight in zip(values.tolist(), upstream.tolist(), strict=True):
        ratio = value / 0.37
        code = round(min(max(ratio, qmin), qmax))
        forward.append(code * 0.37)
        inside = qmin < ratio < qmax
        for_values.append(weight if inside else 0.0)
        for_step += weight * (code - ratio if inside else (qmin if ratio <= qmin else qmax))
    assert found.tolist() == pytest.approx(forward)
    assert values.grad.tolist() == pytest.approx(for_values)
    assert step.grad.item() == pytest.approx(for_step * gradient_scale)
    assert {0.0, 1.0} <= {float(g != 0) for g in values.grad}


def test_learned_steps_gradient_equals_pytorchs_learnable_operator_away_from_the_ends():
    values = torch.cat([sample(500).clamp(-1.9, 1.7), torch.tensor([-5.0, 5.0])])
    ours, theirs = (torch.tensor(0.25, requires_grad=True) for _ in range(2))
    qz.learned_step_quantize(values, ours, qmin=-8, qmax=7, gradient_scale=0.3).square().sum().backward()
    expected = torch._fake_quantize_learnable_per_tensor_affine(values, theirs.reshape(1), torch.zeros(1), -8, 7, 0.3)
    expected.square().sum().backward()
    assert ours.grad.item() == pytest.approx(theirs.grad.item(), rel=1e-4)


def test_a_learned_step_starts_and_is_scaled_as_in_the_paper():
    weight = sample(6, 50)
    quantizer = LearnedStep(weight, 4)
    assert quantizer.step.item() == pytest.approx(2 * weight.abs().mean().item() / math.sqrt(7))
    step = quantizer.step.detach().clone().requires_grad_()
    expected = qz.learned_step_quantize(weight, step, qmin=-8, qmax=7, gradient_scale=1 / math.sqrt(300 * 7))
    expected.square().sum().backward()
    quantizer(weight).square().sum().backward()
    assert quantizer.step.grad.item() == pytest.approx(step.grad.item())
    found = qz.fake_quantize(weight, quantizer.qparams(weight))
    assert torch.equal(found, quantizer(weight))
    assert LearnedStep(torch.zeros(2, 2), 4)(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="0-d"):
        qz.learned_step_quantize(weight, torch.ones(6), qmin=-8, qmax=7)


def test_gradient_descent_on_the_step_alone_finds_the_step_that_a_search_finds():
    weight = sample(4000)
    grid = torch.linspace(0.1, 1.5, 141)
    errors = [
        (qz.learned_step_quantize(weight, step, qmin=-4, qmax=3) - weight).square().mean().item() for step in grid
    ]
    quantizer = LearnedStep(weight, 3)
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=3.0)
    for _ in range(300):
        optimizer.zero_grad()
        (quantizer(weight) - weight).square().mean().backward()
        optimizer.step()
    assert (quantizer(weight) - weight).square().mean().item() == pytest.approx(min(errors), rel=0.02)


# --- training with the course's loops ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_mnist().train.take(torch.arange(0, 3500, 4))


@pytest.fixture(scope="module")
def trained(digits) -> nn.Module:
    model = mlp((32,))
    fit(model, digits, epochs=6, progress=False)
    return model


@pytest.mark.parametrize("learned_step", [False, True])
def test_training_through_two_bits_wins_back_what_rounding_costs(digits, trained, learned_step):
    ranges = qz.calibrate(trained, [digits.images[:256]])
    settings = {"weight_bits": 2, "activation_bits": 8, "ranges": ranges, "learned_step": learned_step}
    quantized = qz.fake_quantize_model(trained, **settings)
    before = evaluate(quantized, digits)
    history = distill(quantized, trained, digits, epochs=8, learning_rate=1e-2, alpha=0.5, progress=False)
    after = evaluate(quantized, digits)
    assert after.cross_entropy < 0.75 * before.cross_entropy
    assert after.accuracy > before.accuracy + 0.08
    assert history.train_loss[-1] < history.train_loss[0]
    for name, parameter in quantized.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    kept = qz.bake(quantized)
    assert all(len(row.unique()) <= 4 for row in kept.linear1.weight)


def test_training_a_copy_does_not_train_the_model_it_was_made_from(digits, trained):
    before = copy.deepcopy(trained.state_dict())
    quantized = qz.fake_quantize_model(trained, weight_bits=4)
    start = quantized.linear1.weight.clone()
    fit(quantized, digits, epochs=1, progress=False)
    assert not torch.equal(start, quantized.linear1.weight)
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())


# --- weight sharing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_kmeans_share_equals_scipy_and_scikit_learn_from_the_same_start(bits):
    weight = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (40, 50)) ** 3).float()
    flat = weight.double().numpy().reshape(-1, 1)
    start = np.linspace(flat.min(), flat.max(), 2**bits)[:, None]
    found = qz.kmeans_share(weight, bits=bits)
    theirs = KMeans(2**bits, init=start, n_init=1, max_iter=1000, tol=0, algorithm="lloyd").fit(flat)
    assert found.codebook.tolist() == pytest.approx(theirs.cluster_centers_[:, 0].tolist(), abs=1e-6)
    assert np.array_equal(found.indices.flatten().numpy(), theirs.labels_)
    for iterations in (1, 5):
        # SciPy assigns before its last update of the centroids, ours after it
        codebook, _ = kmeans2(flat, start, iter=iterations, minit="matrix")
        early = qz.kmeans_share(weight, bits=bits, iterations=iterations)
        assert early.codebook.tolist() == pytest.approx(codebook[:, 0].tolist(), abs=1e-6)


def test_kmeans_share_of_six_weights_worked_by_hand():
    # start 0, 10/3, 20/3, 10; members {0, 1}, {}, {}, {9, 9, 10, 10}: the empty clusters keep their centroids
    weight = torch.tensor([[0.0, 1.0, 9.0], [9.0, 10.0, 10.0]])
    found = qz.kmeans_share(weight, bits=2)
    assert found.codebook.tolist() == pytest.approx([0.5, 10 / 3, 20 / 3, 9.5])
    assert found.indices.tolist() == [[0, 0, 3], [3, 3, 3]]
    assert found.indices.dtype == torch.uint8
    assert found.weight().tolist() == [pytest.approx([0.5, 0.5, 9.5]), pytest.approx([9.5, 9.5, 9.5])]


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_kmeans_share_keeps_pruned_weights_at_exactly_zero(bits):
    weight = sample(20, 30)
    weight[weight.abs() < 0.5] = 0
    found = qz.kmeans_share(weight, bits=bits, keep_zeros=True)
    assert len(found.codebook) == 2**bits
    assert torch.equal(found.weight() == 0, weight == 0)
    assert torch.equal(found.codebook, found.codebook.sort().values)
    values = weight[weight != 0]
    values = weight[weight != 0].double().numpy()[:, None]
    if bits == 3:
        start = np.linspace(values.min(), values.max(), 7)[:, None]
        theirs = KMeans(7, init=start, n_init=1, tol=0, algorithm="lloyd").fit(values).cluster_centers_[:, 0]
        assert found.codebook[found.codebook != 0].tolist() == pytest.approx(theirs.tolist(), abs=1e-6)


def test_kmeans_share_is_exact_where_there_are_enough_values_and_beats_the_linear_grid():
    weight = torch.tensor([-3.0, 0.25, 0.25, 7.0, 1.5])
    assert torch.equal(qz.kmeans_share(weight, bits=8).weight(), weight)
    assert torch.equal(qz.kmeans_share(torch.zeros(3), bits=2, keep_zeros=True).weight(), torch.zeros(3))
    weight = sample(50, 50)
    grid = qz.fake_quantize(weight, qz.choose_qparams(weight, bits=3))
    assert qz.sqnr_db(weight, qz.kmeans_share(weight, bits=3).weight()) > qz.sqnr_db(weight, grid) + 3


def test_kmeans_share_refuses_bits_that_make_no_codebook():
    for bits in (0, 9):
        with pytest.raises(ValueError, match="from 1 to 8"):
            qz.kmeans_share(torch.ones(2), bits=bits)
    with pytest.raises(ValueError, match="empty"):
        qz.kmeans_share(torch.ones(0), bits=2)


# --- mixed precision --------------------------------------------------------------------------------------------------


def test_bit_sensitivity_is_the_rise_when_one_layer_alone_is_quantized():
    model = mlp((6,), dropout=0.5).train()
    target = sample(32, 10, seed=3)

    def measure(candidate: nn.Module) -> float:
        return F.mse_loss(candidate(IMAGES), target).item()

    found = qz.bit_sensitivity(model, measure, (2, 8))
    assert model.training
    plain = copy.deepcopy(model).eval()
    assert list(found) == ["linear1", "classes"]
    for name in found:
        for bits in (2, 8):
            rounded = copy.deepcopy(plain)
            layer = rounded.get_submodule(name)
            layer.weight = nn.Parameter(builtin(layer.weight, bits).detach())
            assert found[name][bits] == pytest.approx(measure(rounded) - measure(plain), abs=1e-7)
        assert abs(found[name][2]) > abs(found[name][8])
    with pytest.raises(ValueError, match="no bits to try"):
        qz.bit_sensitivity(model, measure, ())


@pytest.mark.parametrize("seed", range(20))
def test_choose_bits_equals_brute_force(seed):
    generator = np.random.default_rng(seed)
    names, bits = ["a", "b", "c", "d"], (2, 3, 4, 8)
    sizes = {name: int(generator.integers(1, 500)) for name in names}
    # seed 0 to 9: rounding hurts less with more bits, as it mostly does; from 10: in any order, also below zero
    sensitivity = {
        name: dict(zip(bits, (np.sort(row)[::-1] if seed < 10 else row - 0.5).tolist(), strict=True))
        for name, row in zip(names, generator.random((4, 4)), strict=True)
    }
    choices = [dict(zip(names, choice, strict=True)) for choice in itertools.product(bits, repeat=4)]

    def cost(choice) -> float:
        return sum(sizes[name] * width for name, width in choice.items()) / 8

    def damage(choice) -> float:
        return sum(sensitivity[name][width] for name, width in choice.items())

    for share in (0.25, 0.4, 0.7, 1.0):
        budget = sum(sizes.values()) * share
        fitting = [choice for choice in choices if cost(choice) <= budget]
        found = qz.choose_bits(sensitivity, sizes, budget)
        assert cost(found) <= budget
        assert damage(found) == pytest.approx(min(map(damage, fitting)))


def test_choose_bits_takes_the_fewer_bytes_of_equal_damage_and_refuses_what_cannot_be_met():
    assert qz.choose_bits({"a": {8: 1.0, 4: 1.0, 2: 3.0}}, {"a": 8}, 100) == {"a": 4}
    assert qz.choose_bits({"a": {4: 1.0, 2: 3.0}}, {"a": 8}, 4.0) == {"a": 4}  # 8 weights of 4 bits are 4 bytes
    assert qz.choose_bits({"a": {4: 1.0, 2: 3.0}}, {"a": 8}, 3.9) == {"a": 2}
    with pytest.raises(ValueError, match="the fewest bits take 2 bytes"):
        qz.choose_bits({"a": {4: 1.0, 2: 3.0}}, {"a": 8}, 1.9)
    with pytest.raises(ValueError, match=r"no sizes for the layers \['b'\]"):
        qz.choose_bits({"a": {4: 1.0}, "b": {4: 1.0}}, {"a": 8}, 100)
    with pytest.raises(ValueError, match="no layers"):
        qz.choose_bits({}, {}, 100)
    with pytest.raises(ValueError, match="layer 'a' is empty or not finite"):
        qz.choose_bits({"a": {4: math.nan}}, {"a": 8}, 100)
