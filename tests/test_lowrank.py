"""Factors against Eckart and Young and a search by hand; low-rank updates against the sum written out."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from kdcourse.lowrank import add_lora, break_even_rank, factorize, lora_parameters, merge_lora
from kdcourse.models import conv_net, mlp
from kdcourse.pruning import apply_masks, layer_magnitude_masks, masks_of, sparsity
from kdcourse.quantization import bake, calibrate, fake_quantize_model


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(inputs=9, outputs=6, *, bias=True):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias).double()


# inputs whose directions matter differently, away from zero
INPUTS = random(40, 9) * torch.linspace(0.1, 3, 9, dtype=torch.float64) + 2


def tail(values, rank):
    return values[rank:].square().sum()


def product(pair):
    """The matrix that two factors compute."""
    first, second = (part.weight.detach().flatten(1) for part in pair)
    return second @ first


# --- factors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", range(1, 6))
def test_by_weights_the_error_is_the_tail_of_the_singular_values(rank):
    layer = linear()
    pair = factorize(layer, rank, allow_larger=True)
    expected = tail(torch.linalg.svdvals(layer.weight.detach()), rank)
    torch.testing.assert_close((product(pair) - layer.weight.detach()).square().sum(), expected)
    assert torch.equal(pair[1].bias, layer.bias)
    assert pair[0].bias is None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank", range(1, 6))
def test_by_outputs_the_error_is_the_tail_of_the_centred_outputs(rank, bias):
    layer = linear(bias=bias)
    outputs = layer(INPUTS).detach()
    pair = factorize(layer, rank, inputs=INPUTS, allow_larger=True)
    error = (pair(INPUTS) - outputs).square().sum()
    torch.testing.assert_close(error, tail(torch.linalg.svdvals(outputs - outputs.mean(0)), rank))
    by_weights = (factorize(layer, rank, allow_larger=True)(INPUTS) - outputs).square().sum()
    assert error < by_weights / 1.5
    torch.testing.assert_close(pair(INPUTS).mean(0), outputs.mean(0))


def test_no_pair_that_training_finds_has_a_smaller_error_on_the_outputs():
    layer = linear()
    outputs = layer(INPUTS).detach()
    best = (factorize(layer, 2, inputs=INPUTS)(INPUTS) - outputs).square().sum()
    for seed in range(3):
        torch.manual_seed(seed)
        pair = nn.Sequential(nn.Linear(9, 2, bias=False), nn.Linear(2, 6)).double()
        optimizer = torch.optim.LBFGS(pair.parameters(), max_iter=400, line_search_fn="strong_wolfe")

        def closure(pair=pair, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (pair(INPUTS) - outputs).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        assert closure() >= best * (1 - 1e-9)
    torch.testing.assert_close(closure(), best, rtol=1e-3, atol=0)


@pytest.mark.parametrize("given", [None, INPUTS, INPUTS[:2], INPUTS[:1]], ids=["weights", "many", "two", "one"])
@pytest.mark.parametrize("shape", [(9, 6), (9, 9), (9, 12)])
def test_full_rank_reproduces_the_layer_also_on_other_inputs(given, shape):
    layer = linear(*shape)
    pair = factorize(layer, min(shape), inputs=given, allow_larger=True)
    others = random(20, 9, seed=3)
    torch.testing.assert_close(pair(others), layer(others))


def test_directions_in_which_outputs_do_not_vary_are_chosen_by_the_weights():
    layer = linear()
    pair = factorize(layer, 3, inputs=INPUTS[:1])
    expected = tail(torch.linalg.svdvals(layer.weight.detach()), 3)
    torch.testing.assert_close((product(pair) - layer.weight.detach()).square().sum(), expected)
    torch.testing.assert_close(pair(INPUTS[:1]), layer(INPUTS[:1]))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_outputs_that_are_all_zero_and_scales_of_weights_do_not_disturb(scale):
    layer = linear(bias=False)
    with torch.no_grad():
        layer.weight[2] = 0
        layer.weight.mul_(scale)
    outputs = layer(INPUTS).detach()
    error = (factorize(layer, 2, inputs=INPUTS)(INPUTS) - outputs).square().sum()
    torch.testing.assert_close(error / scale**2, tail(torch.linalg.svdvals(outputs - outputs.mean(0)), 2) / scale**2)


def test_inputs_may_have_another_dtype_than_the_layer():
    layer = linear()
    expected = factorize(layer, 2, inputs=INPUTS.float().double())
    found = factorize(layer, 2, inputs=INPUTS.float())
    assert torch.equal(found(INPUTS), expected(INPUTS))


def test_a_layer_without_a_bias_gets_one_only_for_the_mean():
    for layer in (linear(bias=False), nn.Conv2d(3, 6, 3, bias=False)):
        assert factorize(layer, 2)[1].bias is None
        assert factorize(layer, 2)[0].weight.is_contiguous()
    assert factorize(linear(bias=False), 2, inputs=INPUTS)[1].bias is not None


def test_the_factors_share_the_singular_values_evenly():
    first, second = (part.weight.detach() for part in factorize(linear(), 3))
    values = torch.linalg.svdvals(linear().weight.detach())[:3]
    torch.testing.assert_close(first @ first.T, values.diag())
    torch.testing.assert_close(second.T @ second, values.diag())


CONVOLUTIONS = {
    "1d": (nn.Conv1d(4, 5, 3, stride=2, padding=1), (6, 4, 11)),
    "2d": (nn.Conv2d(4, 5, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (3, 4, 9, 8)),
    "same": (nn.Conv2d(4, 5, 3, padding="same", padding_mode="reflect", bias=False), (3, 4, 6, 6)),
    "1×1": (nn.Conv2d(4, 5, 1), (3, 4, 5, 5)),
    "3d": (nn.Conv3d(2, 5, 2, padding=1, padding_mode="circular"), (3, 2, 4, 4, 4)),
}


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("by_outputs", [False, True])
def test_convolutions_keep_their_geometry_and_have_the_least_error(layer, shape, by_outputs):
    layer, images = copy.deepcopy(layer).double(), random(*shape) + 1
    given = images if by_outputs else None
    whole = factorize(layer, min(len(layer.weight), layer.weight[0].numel()), inputs=given, allow_larger=True)
    torch.testing.assert_close(whole(images), layer(images))
    pair = factorize(layer, 2, inputs=given, allow_larger=True)
    assert pair[0].kernel_size == layer.kernel_size
    assert set(pair[1].kernel_size) == {1}
    outputs = layer(images).detach()
    if by_outputs:
        rows = outputs.movedim(1, -1).flatten(0, -2)
        found, wanted = (pair(images) - outputs).square().sum(), torch.linalg.svdvals(rows - rows.mean(0))
    else:
        flat = layer.weight.detach().flatten(1)
        found, wanted = (product(pair) - flat).square().sum(), torch.linalg.svdvals(flat)
    torch.testing.assert_close(found, tail(wanted, 2))


@pytest.mark.parametrize(("m", "n", "rank"), [(100, 10, 5), (100, 10, 9), (784, 300, 216)])
def test_the_number_of_parameters_is_the_formula(m, n, rank):
    layer = nn.Linear(m, n)
    pair = factorize(layer, rank)
    assert sum(value.numel() for value in pair.parameters()) == rank * (m + n) + n
    assert rank < break_even_rank((n, m))
    with pytest.raises(
        ValueError, match=r"larger, 1,110 parameters instead of 1,010: use a rank below .*allow_larger=True"
    ):
        factorize(nn.Linear(100, 10), 10)


def test_a_pair_of_equal_size_is_not_larger():
    assert break_even_rank((6, 3)) == 2.0
    assert break_even_rank((1, 4)) == 0.8
    assert sum(v.numel() for v in factorize(nn.Linear(3, 6), 2).parameters()) == 6 * 3 + 6
    with pytest.raises(ValueError, match="24 parameters instead of 18"):  # the mean needs a bias
        factorize(nn.Linear(3, 6, bias=False), 2, inputs=torch.rand(9, 3))


@pytest.mark.parametrize("shape", [(3,), (0, 2), ()])
def test_what_is_no_shape_of_a_weight_has_no_break_even(shape):
    with pytest.raises(ValueError, match="shape must be that of a weight"):
        break_even_rank(shape)


def test_what_else_there_is_to_know_of_a_layer_stays():
    layer = nn.Conv2d(4, 6, 3).to(torch.bfloat16, memory_format=torch.channels_last).eval()
    layer.weight.requires_grad_(False)
    before = torch.get_rng_state()
    pair = factorize(layer, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert {value.dtype for value in pair.parameters()} == {torch.bfloat16}
    assert pair[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(part.training for part in pair.modules())
    assert [value.requires_grad for value in pair.parameters()] == [False, False, True]
    assert pair[1].bias.data_ptr() != layer.bias.data_ptr()


def test_masked_and_rounded_weights_are_approximated_as_the_layer_computes():
    model = nn.Sequential(linear())
    apply_masks(model, layer_magnitude_masks(model, 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.utils.weight_norm(linear())
    rounded = fake_quantize_model(model, weight_bits=4)[0]
    for layer in (model[0], rounded, parametrizations.weight_norm(linear()), old):
        pair = factorize(layer, 6, allow_larger=True)
        torch.testing.assert_close(pair(INPUTS), layer(INPUTS))
        assert all(value.requires_grad for value in pair.parameters())


def test_errors_of_factorized_layers_add_up_along_a_linear_network():
    """T_3 T_2 T_1 - S_3 S_2 S_1 = Σ_j (T after j) (T_j - S_j) (S before j)."""
    layers = [linear(9, 9, bias=False) for _ in range(3)]
    teacher = [layer.weight.detach() for layer in layers]
    student = [product(factorize(layer, rank)) for layer, rank in zip(layers, (4, 3, 2), strict=True)]
    total = torch.zeros(9, 9, dtype=torch.float64)
    for j in range(3):
        head, end = torch.eye(9, dtype=torch.float64), torch.eye(9, dtype=torch.float64)
        for weight in student[:j]:
            head = weight @ head
        for weight in teacher[j + 1 :]:
            end = weight @ end
        total += end @ (teacher[j] - student[j]) @ head
    difference = teacher[2] @ teacher[1] @ teacher[0] - student[2] @ student[1] @ student[0]
    torch.testing.assert_close(total, difference)


def infinite():
    layer = nn.Linear(9, 6)
    nn.init.constant_(layer.weight, float("inf"))
    return layer


def with_rounded_inputs():
    model = nn.Sequential(nn.Linear(9, 6))
    return fake_quantize_model(model, activation_bits=8, ranges=calibrate(model, [torch.rand(4, 9)]))[0]


@pytest.mark.parametrize(
    ("layer", "rank", "options", "words"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), 1, {}, "a Conv2d with 2 groups cannot be factorized"),
        (nn.ConvTranspose2d(4, 4, 3), 1, {}, "a ConvTranspose2d cannot be factorized"),
        (nn.LazyLinear(4), 1, {}, "run a batch through the model first"),
        (infinite(), 1, {}, "the layer's weight contains NaN or infinity"),
        (nn.ReLU(), 1, {}, "a ReLU cannot be factorized: give a Linear"),
        (with_rounded_inputs(), 2, {}, r"has hooks.*bake\(\)"),
        (nn.Linear(9, 6), 0, {}, "rank must be an integer >= 1"),
        (nn.Linear(9, 6), 2.0, {}, "rank must be an integer >= 1"),
        (nn.Linear(9, 6), 7, {"allow_larger": True}, "rank must be at most 6"),
        (nn.Linear(9, 6), 2, {"inputs": torch.rand(4, 6)}, r"inputs have shape \(4, 6\).* needs \(\.\.\., 9\)"),
        (nn.Conv2d(4, 4, 3), 1, {"inputs": torch.rand(4, 4, 8)}, r"Conv2d needs \(N, 4, size, size\)"),
        (nn.Linear(9, 6), 2, {"inputs": torch.full((4, 9), torch.nan)}, "inputs contains NaN"),
        (nn.Linear(9, 6), 2, {"inputs": torch.zeros(0, 9)}, "inputs must be a non-empty"),
    ],
)
def test_what_cannot_be_factorized_is_refused(layer, rank, options, words):
    with pytest.raises(ValueError, match=words):
        factorize(layer, rank, **options)


# --- low-rank updates -------------------------------------------------------------------------------------------------


def network():
    return mlp((8, 7)).double()


IMAGES = random(12, 1, 28, 28)
ATTENTION = ["self_attn.in_proj_weight", "self_attn.out_proj", "linear1"]
LAYERS = ["linear1", "linear2", "classes"]


def trained(model, steps=3):
    """A few steps of all that takes a gradient."""
    parameters = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(IMAGES), torch.arange(12) % 10).backward()
        optimizer.step()
    return model


def test_nothing_changes_at_the_start_bit_for_bit():
    for model in (network(), network().float(), conv_net((4, 6)).double().eval()):
        images = IMAGES.to(next(model.parameters()).dtype)
        before = model(images)
        layers = [name for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        add_lora(model, layers, rank=1, alpha=3.0)
        assert torch.equal(model(images), before)


def test_first_gradients_are_those_of_the_formula_and_zero_for_a():
    model, plain = network(), network()
    add_lora(model, ["linear2"], rank=2, alpha=6.0)
    down, up = lora_parameters(model)
    F.cross_entropy(model(IMAGES), torch.arange(12) % 10).backward()
    F.cross_entropy(plain(IMAGES), torch.arange(12) % 10).backward()
    assert not down.grad.any()
    torch.testing.assert_close(up.grad, 3.0 * plain.linear2.weight.grad @ down.detach().T)
    assert up.grad.abs().max() > 1e-4
    assert all(value.grad is None for name, value in model.named_parameters() if not value.requires_grad)


def test_the_update_is_alpha_over_rank_times_b_a():
    model, plain = network(), network()
    add_lora(model, ["linear2", "linear1"], rank=2, alpha=5.0)
    trained(model)
    down, up = lora_parameters(model)[2:]
    expected = plain.linear2.weight + 2.5 * up @ down
    torch.testing.assert_close(model.linear2.weight, expected)
    assert torch.linalg.matrix_rank(model.linear2.weight - plain.linear2.weight) == 2
    assert torch.equal(model.classes.weight, plain.classes.weight)


def test_a_starts_at_random_with_variance_one_over_m_and_leaves_the_random_state():
    before = torch.get_rng_state()
    models = []
    for seed in (0, 0, 1):
        models.append(mlp((64,)))
        add_lora(models[-1], ["linear1"], rank=20, alpha=1.0, seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    starts = [lora_parameters(model)[0].detach() for model in models]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert starts[0].square().mean().item() * 784 == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("alpha", [0.5, 2.0, 7.0])
def test_merged_is_unmerged_and_the_network_is_plain_again(alpha):
    model = network()
    names, identities = list(model.state_dict()), [id(value) for value in model.parameters()]
    add_lora(model, LAYERS, rank=2, alpha=alpha)
    unmerged = trained(model)(IMAGES)
    merge_lora(model)
    assert torch.equal(model(IMAGES), unmerged)
    assert not torch.allclose(unmerged, network()(IMAGES))
    assert list(model.state_dict()) == names
    assert [id(value) for value in model.parameters()] == identities
    assert lora_parameters(model) == []
    add_lora(model, LAYERS, rank=1, alpha=alpha)  # and can be updated again
    assert torch.equal(model(IMAGES), unmerged)


@pytest.mark.parametrize(
    ("make", "layers", "given"),
    [
        (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, groups=2)), ["0", "1"], IMAGES),
        (lambda: nn.Sequential(nn.ConvTranspose2d(1, 4, 3)), ["0"], IMAGES),
        (lambda: nn.LSTM(3, 4, batch_first=True), ["weight_ih_l0", "weight_hh_l0"], random(2, 5, 3)),
        (lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), ATTENTION, random(2, 5, 4)),
    ],
)
def test_convolutions_recurrent_layers_and_attention(make, layers, given):
    def output():
        found = model.eval()(given)
        return found[0] if isinstance(found, tuple) else found

    model = make().double()
    plain = output()
    add_lora(model, layers, rank=1, alpha=3.0)
    torch.testing.assert_close(output(), plain, rtol=1e-13, atol=1e-14)
    for value in lora_parameters(model):
        nn.init.normal_(value)
    unmerged = output()
    merge_lora(model)
    torch.testing.assert_close(output(), unmerged)
    assert not torch.allclose(unmerged, plain)


def test_only_the_factors_take_a_gradient_and_the_others_take_one_again():
    model = network()
    model.linear1.bias.requires_grad_(False)
    wanted = {name: value.requires_grad for name, value in model.named_parameters()}
    add_lora(model, ["linear2"], rank=2, alpha=3.0)
    trains = [value for value in model.parameters() if value.requires_grad]
    assert [id(value) for value in trains] == [id(value) for value in lora_parameters(model)]
    for again in (copy.deepcopy(model), model):
        merge_lora(again)
        assert {name: value.requires_grad for name, value in again.named_parameters()} == wanted


def test_a_learned_step_takes_a_gradient_again():
    model = fake_quantize_model(network(), weight_bits=4, learned_step=True)
    add_lora(model, ["classes"], rank=2, alpha=3.0)
    step = model.linear1.parametrizations.weight[0].step
    assert not step.requires_grad
    merge_lora(model)
    assert step.requires_grad
    assert model.linear1.parametrizations.weight.original.requires_grad


@pytest.mark.parametrize("rounded", [False, True])
def test_a_mask_keeps_its_zeros_zero_before_and_after_merging(rounded):
    model = network()
    apply_masks(model, layer_magnitude_masks(model, 0.5))
    masks = masks_of(model)
    if rounded:
        model = fake_quantize_model(model, weight_bits=4)
    before = model(IMAGES)
    add_lora(model, LAYERS, rank=2, alpha=3.0)
    assert torch.equal(model(IMAGES), before)
    unmerged = trained(model)(IMAGES)
    assert sparsity(model) == pytest.approx(0.5, abs=0.01) or rounded
    for name, mask in masks.items():
        assert not model.get_submodule(name).weight[~mask].any()
    merge_lora(model)
    assert torch.equal(model(IMAGES), unmerged)
    assert not torch.allclose(unmerged, before)
    assert all(torch.equal(masks_of(model)[name], mask) for name, mask in masks.items())


def test_a_rounded_layer_is_merged_in_floats_and_a_rounding_put_on_later_stays():
    model = fake_quantize_model(network(), weight_bits=2)
    add_lora(model, LAYERS, rank=2, alpha=3.0)
    unmerged = trained(model)(IMAGES)
    updated = bake_free(model)
    later = fake_quantize_model(updated, weight_bits=8)
    merge_lora(model)
    assert torch.equal(model(IMAGES), unmerged)
    assert type(model.linear1) is nn.Linear
    rounded = later(IMAGES)
    merge_lora(later)
    assert torch.equal(later(IMAGES), rounded)
    assert len(later.linear1.parametrizations.weight) == 1
    torch.testing.assert_close(later.linear1.parametrizations.weight.original, updated.linear1.weight)


def bake_free(model):
    """The same network with its first rounding made permanent, updates as before."""
    result = network()
    result.load_state_dict(bake(fake_quantize_model(network(), weight_bits=2)).state_dict())
    add_lora(result, LAYERS, rank=2, alpha=3.0)
    with torch.no_grad():
        for new, old in zip(lora_parameters(result), lora_parameters(model), strict=True):
            new.copy_(old)
    torch.testing.assert_close(result(IMAGES), model(IMAGES))
    return result


def test_a_state_dict_carries_factors_and_scale_and_copies_train_on_their_own():
    model, other = network(), network()
    add_lora(model, LAYERS, rank=2, alpha=3.0)
    add_lora(other, LAYERS, rank=2, alpha=8.0, seed=1)
    trained(model)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(IMAGES), model(IMAGES))
    replica, before = copy.deepcopy(model), model(IMAGES)
    trained(replica)
    assert torch.equal(model(IMAGES), before)
    assert not torch.equal(replica(IMAGES), before)
    merge_lora(other)
    merge_lora(model)
    assert torch.equal(other(IMAGES), model(IMAGES))


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("make", "layers", "options", "words"),
    [
        (network, "linear1", {}, r"write \['linear1'\]"),
        (network, [], {}, "at least one layer"),
        (network, ["linear1", "linear1"], {}, "each once"),
        (network, ["linaer1"], {}, "there is no layer 'linaer1'.*'linear1'"),
        (network, ["relu1"], {}, "there is no layer 'relu1'"),
        (network, ["linear2"], {"rank": 8}, "rank must be at most 7, that of the weight of layer 'linear2'"),
        (network, ["classes"], {"rank": 8}, "rank must be at most 7, that of the weight of layer 'classes'"),
        (network, ["linear2"], {"rank": 0}, "rank must be an integer >= 1"),
        (network, ["linear2"], {"alpha": 0.0}, "alpha must be a finite number > 0"),
        (tied, ["1"], {}, "'1' and '0' are one tied tensor"),
        (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))), ["0"], {}, r"by WeightNorm: .*bake\(\)"),
        (lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))), ["0"], {}, "SpectralNorm"),
    ],
)
def test_what_cannot_be_updated_is_refused_and_nothing_changes(make, layers, options, words):
    model = make()
    names = list(model.state_dict())
    with pytest.raises(ValueError, match=words):
        add_lora(model, layers, **{"rank": 2, "alpha": 3.0, **options})
    assert list(model.state_dict()) == names
    assert all(value.requires_grad for value in model.parameters())


def test_a_second_update_and_a_merge_of_none_are_refused():
    model = network()
    with pytest.raises(ValueError, match=r"no low-rank updates to merge: call add_lora\(\) first"):
        merge_lora(model)
    add_lora(model, ["linear1"], rank=2, alpha=3.0)
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"has low-rank updates already: merge_lora\(\) first"):
        add_lora(model, ["linear2"], rank=2, alpha=3.0)
    assert list(model.state_dict()) == list(before)
