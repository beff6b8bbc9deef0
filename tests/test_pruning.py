"""Unstructured pruning against PyTorch's own and loops. Functions are reached as ``pruning.NAME`` so that a wrong
one can be put in place and these tests watched to fail."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize, prune

from kdcourse import pruning
from kdcourse.models import conv_net, load_model, save_model

SHAPES = [(7,), (6, 10), (8, 4, 3, 3)]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def weight_of(*shape, seed=0):
    """Numbers no two of which have the same absolute value, so that no choice depends on how ties are settled."""
    generator = torch.Generator().manual_seed(seed)
    n = math.prod(shape)
    signs = torch.randint(0, 2, (n,), generator=generator) * 2 - 1
    return ((torch.randperm(n, generator=generator) + 1) / n * signs).reshape(shape)


def network(seed=0):
    """A convolution, a batch norm and two linear layers on (N, 1, 4, 4), every parameter trained."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    )


def batch(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, 1, 4, 4, generator=generator), torch.randint(3, (12,), generator=generator)


def loss_of(model):
    images, labels = batch()
    return F.cross_entropy(model(images), labels)


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def pruned_network(share=0.5, seed=0):
    model = network(seed)
    masks = pruning.layer_magnitude_masks(model, share)
    pruning.apply_masks(model, masks)
    return model, masks


def same_state(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.93])
def test_magnitude_mask_is_pytorchs_l1_unstructured(shape, share):
    holder = nn.ParameterDict({"weight": nn.Parameter(weight_of(*shape))})
    mask = pruning.magnitude_mask(holder["weight"], share)
    prune.l1_unstructured(holder, "weight", share)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, holder.weight_mask.bool())


@pytest.mark.parametrize("shape", [(8, 4, 3, 3)])
def test_magnitude_mask_does_not_depend_on_the_memory_layout(shape):
    weight = weight_of(*shape)
    mask = pruning.magnitude_mask(weight.to(memory_format=torch.channels_last), 0.4)
    assert torch.equal(mask, pruning.magnitude_mask(weight, 0.4))


def test_magnitude_mask_by_hand():
    weight = torch.tensor([[0.3, -0.1, 0.0], [-0.9, 0.2, -0.4]])
    kept = [[True, False, False], [True, False, True]]
    assert pruning.magnitude_mask(weight, 0.5).tolist() == kept
    # 0.6 · 6 = 3.6 rounds to 4, and 2.5 of 5 to the even 2
    assert int(pruning.magnitude_mask(weight, 0.6).sum()) == 2
    assert int(pruning.magnitude_mask(torch.arange(5.0), 0.5).sum()) == 3


def test_equal_weights_are_pruned_in_order_so_that_masks_are_nested():
    weight = torch.tensor([1.0, -1.0] * 40)
    masks = [pruning.magnitude_mask(weight, share) for share in (0.25, 0.5, 0.75)]
    assert [int(mask.to(torch.uint8).argmax()) for mask in masks] == [20, 40, 60]
    assert [int(mask.sum()) for mask in masks] == [60, 40, 20]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.77])
def test_random_mask_prunes_as_many_as_pytorchs_random_unstructured(share):
    layer = nn.Linear(9, 7)
    mask = pruning.random_mask(layer.weight, share, seed=3)
    prune.random_unstructured(layer, "weight", share)
    assert mask.dtype == torch.bool
    assert mask.shape == (7, 9)
    assert int(mask.sum()) == int(layer.weight_mask.sum())


def test_random_mask_prunes_every_weight_equally_often():
    draws = 2000
    kept = sum(pruning.random_mask(torch.ones(4, 5), 0.3, seed=seed).double() for seed in range(draws)) / draws
    # five standard errors of a share of 0.7
    assert (kept - 0.7).abs().max() < 5 * math.sqrt(0.7 * 0.3 / draws)


def test_random_mask_repeats_with_its_seed_and_leaves_the_global_random_state_alone():
    weight, before = torch.ones(40), torch.get_rng_state()
    one, same, other = (pruning.random_mask(weight, 0.5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_nm_mask_by_hand():
    weight = torch.tensor([[0.1, -0.9, 0.3, -0.2, 5.0, 4.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]])
    kept = [[0, 1, 1, 0, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1, 0, 0]]
    assert pruning.nm_mask(weight).int().tolist() == kept
    assert pruning.nm_mask(weight, n=1, m=8).nonzero().tolist() == [[0, 4], [1, 4]]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (3, 4), (2, 8)])
@pytest.mark.parametrize("shape", [(3, 16), (5, 8, 2, 3), (2, 8, 3)])
def test_nm_mask_is_the_loop_over_outputs_and_kernel_positions(shape, n, m):
    weight = weight_of(*shape)
    expected = np.zeros(shape, dtype=bool)
    for out, *position in itertools.product(range(shape[0]), *map(range, shape[2:])):
        row = weight[(out, slice(None), *position)].tolist()
        for start in range(0, shape[1], m):
            largest = sorted(range(start, start + m), key=lambda i, row=row: -abs(row[i]))[:n]
            expected[(out, largest, *position)] = True
    assert np.array_equal(pruning.nm_mask(weight, n=n, m=m).numpy(), expected)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_global_magnitude_masks_are_pytorchs_global_unstructured(share):
    model = network()
    masks = pruning.global_magnitude_masks(model, share)
    layers = [(model[i], "weight") for i in (0, 4, 6)]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=share)
    assert list(masks) == ["0", "4", "6"]
    assert all(torch.equal(masks[name], model.get_submodule(name).weight_mask.bool()) for name in masks)


def test_global_masks_by_hand_share_one_threshold():
    scores = {"a": torch.tensor([[1.0, 8.0], [2.0, 9.0]]), "b": torch.tensor([3.0, 4.0])}
    masks = pruning.global_masks(scores, 0.5)
    assert masks["a"].tolist() == [[False, True], [False, True]]
    assert masks["b"].tolist() == [False, True]


def test_global_masks_refuse_to_empty_a_layer_and_name_it():
    scores = {"large": torch.arange(10.0, 20.0), "small": torch.arange(4.0)}
    assert int(pruning.global_masks(scores, 3 / 14)["small"].sum()) == 1
    with pytest.raises(ValueError, match=r"'small' would lose all of its 4 .* less sparsity"):
        pruning.global_masks(scores, 4 / 14)


def test_layer_magnitude_masks_take_one_sparsity_or_one_for_each_layer():
    model = network()
    uniform = pruning.layer_magnitude_masks(model, 0.4, layers=["0", "6"])
    assert uniform.keys() == {"0", "6"}
    chosen = pruning.layer_magnitude_masks(model, {"6": 0.75, "4": 0.25})
    assert pruning.layer_sparsities(chosen) == {"6": 0.75, "4": 0.25}
    for masks, shares in ((uniform, {"0": 0.4, "6": 0.4}), (chosen, {"6": 0.75, "4": 0.25})):
        for name, mask in masks.items():
            assert torch.equal(mask, pruning.magnitude_mask(model.get_submodule(name).weight, shares[name]))


def test_layer_magnitude_masks_refuse_to_empty_a_layer_and_a_mapping_with_layers():
    tiny = nn.Sequential(nn.Linear(2, 1))
    with pytest.raises(ValueError, match="'0' would lose all of its 2"):
        pruning.layer_magnitude_masks(tiny, 0.8)
    with pytest.raises(ValueError, match="leave layers"):
        pruning.layer_magnitude_masks(tiny, {"0": 0.5}, layers=["0"])


def test_prunable_weights_are_linear_and_convolution_weights_unless_others_are_named():
    model = network()
    found = pruning.prunable_weights(model)
    assert list(found) == ["0", "4", "6"]
    assert all(found[name] is model.get_submodule(name).weight for name in found)
    asked = pruning.prunable_weights(model, ["6.weight", "1", "4.bias"])
    assert list(asked) == ["6", "1", "4.bias"]
    assert asked["1"] is model[1].weight
    assert asked["4.bias"] is model[4].bias
    # a layer by itself has the empty name
    layer = nn.Linear(3, 2)
    assert pruning.prunable_weights(layer)[""] is pruning.prunable_weights(layer, ["weight"])[""] is layer.weight


def test_prunable_weights_of_a_masked_model_are_the_masked_ones():
    model, masks = pruned_network()
    with torch.no_grad():
        model[4].parametrizations.weight.original.fill_(7)
    found = pruning.prunable_weights(model)
    assert list(found) == ["0", "4", "6"]
    assert torch.equal(found["4"], 7.0 * masks["4"])
    with pytest.raises(ValueError, match="no layer '4.parametrizations.weight.original'"):
        pruning.prunable_weights(model, ["4.parametrizations.weight.original"])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["features"], "no layer 'features'.*nearest names are .*feature"),
        (["classes.wait"], "no layer 'classes.wait'"),
        ("classes", "list of names"),
        ([], "at least one layer"),
        (["classes", "classes.weight"], "each once"),
    ],
)
def test_unknown_layers_are_refused_with_the_nearest_names(layers, message):
    model = nn.Sequential()
    model.add_module("feature", nn.Conv2d(1, 2, 3))
    model.add_module("classes", nn.Linear(2, 2))
    with pytest.raises(ValueError, match=message):
        pruning.prunable_weights(model, layers)


def test_a_model_without_layers_to_prune_is_refused():
    with pytest.raises(ValueError, match="no Linear or Conv2d"):
        pruning.prunable_weights(nn.Sequential(nn.BatchNorm1d(3)))


@pytest.mark.parametrize("share", [-0.1, 1.0, 50, math.nan])
def test_sparsities_outside_zero_to_one_are_refused(share):
    model = network()
    calls = [
        lambda: pruning.magnitude_mask(torch.ones(4), share),
        lambda: pruning.random_mask(torch.ones(4), share),
        lambda: pruning.global_masks({"a": torch.ones(4)}, share),
        lambda: pruning.global_magnitude_masks(model, share),
        lambda: pruning.layer_magnitude_masks(model, {"4": share}),
        lambda: pruning.sensitivity_scan(model, lambda m: 0.0, [share]),
        lambda: pruning.polynomial_sparsity(0.5, final=share),
        lambda: pruning.polynomial_sparsity(0.5, final=0.5, initial=share),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
            call()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_and_scores_that_are_not_finite_are_refused(bad):
    weight = torch.ones(2, 4)
    weight[1, 2] = bad
    calls = [
        lambda: pruning.magnitude_mask(weight, 0.5),
        lambda: pruning.random_mask(weight, 0.5),
        lambda: pruning.nm_mask(weight),
        lambda: pruning.global_masks({"fine": torch.ones(3), "broken": weight}, 0.5),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="NaN or infinity"):
            call()
    with pytest.raises(ValueError, match="'broken'"):
        calls[-1]()


@pytest.mark.parametrize("weight", [torch.ones(4, 4, dtype=torch.int64), torch.ones(0, 4)])
def test_weights_that_cannot_be_ranked_are_refused(weight):
    with pytest.raises(ValueError, match="non-empty floating-point"):
        pruning.magnitude_mask(weight, 0.5)


@pytest.mark.parametrize(("shape", "n", "m"), [((3, 6), 2, 4), ((8,), 2, 4), ((3, 8), 0, 4), ((3, 8), 4, 4)])
def test_nm_mask_refuses_groups_that_do_not_fit(shape, n, m):
    with pytest.raises(ValueError, match=r"n:m must keep|I a multiple of 4, got"):
        pruning.nm_mask(torch.ones(shape), n=n, m=m)


def test_no_scores_are_refused():
    with pytest.raises(ValueError, match="empty"):
        pruning.global_masks({}, 0.5)


# --- counting, schedule, scores ---------------------------------------------------------------------------------------


def test_sparsity_counts_zeros_of_prunable_weights_only():
    model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0, 1, 2, 0], [0, 3, 4, 5]]))
        model[2].weight.copy_(torch.tensor([[0.0, 6]]))
        model[0].bias.zero_()
        model[1].weight.zero_()
    assert pruning.sparsity(model) == pytest.approx(4 / 10)
    assert pruning.layer_sparsities(model) == {"0": pytest.approx(3 / 8), "2": pytest.approx(1 / 2)}
    assert pruning.sparsity(model, layers=["2"]) == pytest.approx(1 / 2)
    masks = {"a": torch.tensor([True, False, False]), "b": torch.tensor([True])}
    assert pruning.sparsity(masks) == pytest.approx(1 / 2)
    assert pruning.layer_sparsities(masks) == {"a": pytest.approx(2 / 3), "b": 0}
    assert pruning.layer_sparsities(masks, layers=["b"]) == {"b": 0}
    for nothing, layers in (({}, None), (masks, ["c"]), (masks, [])):
        with pytest.raises(ValueError, match="cannot count"):
            pruning.sparsity(nothing, layers=layers)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_sparsity_of_a_masked_model_is_that_of_its_masks_also_after_baking(share):
    model, masks = pruned_network(share)
    assert pruning.sparsity(model) == pytest.approx(pruning.sparsity(masks))
    assert pruning.sparsity(masks) == pytest.approx(share, abs=0.01)
    pruning.remove_masks(model)
    assert pruning.sparsity(model) == pytest.approx(pruning.sparsity(masks))


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.1), (0.2, 0.1), (0.4, 0.9 - 0.8 * 0.75**3), (0.6, 0.8), (0.8, 0.9 - 0.8 / 64), (1.0, 0.9)],
)
def test_polynomial_sparsity_by_hand(progress, expected):
    # from 0.1 to 0.9 while the progress goes from 0.2 to 1: halfway 0.9 - 0.8 / 8 = 0.8
    found = pruning.polynomial_sparsity(progress, final=0.9, initial=0.1, begin=0.2)
    assert found == pytest.approx(expected, abs=1e-12)


def test_polynomial_sparsity_rises_and_stays_when_it_has_ended():
    values = [pruning.polynomial_sparsity(k / 20, final=0.8, begin=0.1, end=0.6) for k in range(21)]
    assert values == sorted(values)
    assert values[:3] == [0.0, 0.0, 0.0]
    assert values[3] == pytest.approx(0.8 * (1 - 0.9**3))
    assert values[12:] == [0.8] * 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"progress": 3}, "fraction of training done"),
        ({"progress": math.nan}, "fraction of training done"),
        ({"progress": 0.5, "begin": 0.5, "end": 0.5}, "begin < end"),
        ({"progress": 0.5, "end": 10}, "begin < end"),
    ],
)
def test_polynomial_sparsity_refuses_steps_and_epochs_for_shares(arguments, message):
    with pytest.raises(ValueError, match=message):
        pruning.polynomial_sparsity(**arguments, final=0.5)


def test_taylor_scores_are_the_squared_change_where_the_loss_is_linear_in_each_weight():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False)).double()
    images = torch.randn(5, 3, dtype=torch.float64)

    def loss():
        return model(images).sum()

    scores = pruning.taylor_scores(model, loss)
    assert scores.keys() == {"0", "1"}
    for name, score in scores.items():
        weight = model.get_submodule(name).weight
        for place in np.ndindex(*weight.shape):
            with torch.no_grad():
                before, value = loss(), weight[place].item()
                weight[place] = 0
                change = (loss() - before).item()
                weight[place] = value
            assert score[place].item() == pytest.approx(change**2, rel=1e-9, abs=1e-12)


def test_taylor_scores_leave_gradients_modes_and_statistics_as_they_were():
    model = nn.Sequential(*network(), nn.Dropout(0.5)).train()
    model[1].eval()
    loss_of(model).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    modes, state = [m.training for m in model.modules()], pruning.snapshot(model)
    with torch.no_grad():
        scores = [pruning.taylor_scores(model, lambda: loss_of(model), layers=["4", "4.bias"]) for _ in range(2)]
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert same_state(model.state_dict(), state)
    assert same_state(*scores)  # dropout is off
    assert scores[0]["4.bias"].shape == (8,)


def test_taylor_scores_of_pruned_weights_are_zero_and_of_others_those_of_the_baked_model():
    model, masks = pruned_network()
    with torch.no_grad():
        model[4].parametrizations.weight.original.masked_fill_(~masks["4"], math.nan)
    scores = pruning.taylor_scores(model, lambda: loss_of(model))
    pruning.remove_masks(model)
    baked = pruning.taylor_scores(model, lambda: loss_of(model))
    assert all(torch.equal(scores[name], baked[name]) for name in baked)
    assert all((scores[name][~masks[name]] == 0).all() for name in masks)


def test_taylor_scores_refuse_frozen_and_unused_layers():
    model = network()
    with pytest.raises(ValueError, match="does not depend on layer '6'"):
        pruning.taylor_scores(model, lambda: model[:5](batch()[0]).sum())
    model[4].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="layer '4' is frozen"):
        pruning.taylor_scores(model, lambda: loss_of(model))


def test_sensitivity_scan_measures_each_layer_pruned_alone_and_puts_it_back():
    model = network().train()
    modes, state, shares = [m.training for m in model.modules()], pruning.snapshot(model), [0.9, 0.0, 0.5]
    found = pruning.sensitivity_scan(model, lambda m: loss_of(m).item(), shares)
    assert same_state(model.state_dict(), state)
    assert [m.training for m in model.modules()] == modes
    assert list(found) == ["0", "4", "6"]
    for name, index in (("0", 0), ("4", 4), ("6", 6)):
        for share, value in zip(shares, found[name], strict=True):
            alone = network().eval()
            prune.l1_unstructured(alone[index], "weight", share)
            assert value == pytest.approx(loss_of(alone).item(), abs=1e-6)


def test_sensitivity_scan_puts_weights_and_modes_back_when_measuring_fails():
    model, calls = network().train(), itertools.count()
    state = pruning.snapshot(model)

    def fails(_):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        pruning.sensitivity_scan(model, fails, [0.5, 0.9])
    assert same_state(model.state_dict(), state)
    assert model.training


def test_sensitivity_scan_of_a_masked_model_starts_from_its_masks():
    model, masks = pruned_network(0.5)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    pruning.sensitivity_scan(model, lambda m: seen.append(pruning.layer_sparsities(m)) or 0.0, [0.75], layers=["4"])
    assert seen == [pruning.layer_sparsities(masks) | {"4": 0.75}]
    assert same_state(model.state_dict(), state)


# --- keeping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("built", ["before", "after"])
def test_pruned_weights_stay_zero_and_the_others_train_through_every_optimizer(name, built):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 3)  # so that the optimizer carries momentum of weights that are pruned now
    masks = pruning.global_magnitude_masks(model, 0.6)
    pruning.apply_masks(model, masks)
    if built == "after":
        optimizer = OPTIMIZERS[name](model.parameters())
    start = {key: value.detach().clone() for key, value in pruning.prunable_weights(model).items()}
    train(model, optimizer, 20)
    for key, weight in pruning.prunable_weights(model).items():
        assert (weight[~masks[key]] == 0).all()
        assert (weight != start[key])[masks[key]].float().mean() > 0.9
    images, _ = batch()
    logits = model.eval()(images)
    pruning.remove_masks(model)
    assert torch.equal(model(images), logits)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_under_masks_follows_pytorchs_custom_from_mask(name):
    ours, theirs = network(), network()
    masks = pruning.layer_magnitude_masks(ours, 0.5)
    pruning.apply_masks(ours, masks)
    for key, mask in masks.items():
        prune.custom_from_mask(theirs.get_submodule(key), "weight", mask)
    for model in (ours, theirs):
        train(model, OPTIMIZERS[name](model.parameters()), 10)
        model(batch()[0])  # theirs computes the weight in the forward pass
    for key, weight in pruning.prunable_weights(ours).items():
        assert torch.allclose(weight, theirs.get_submodule(key).weight, atol=1e-6)


def test_gradients_are_those_of_a_dense_model_with_the_same_zeros_and_none_for_pruned_weights():
    model, masks = pruned_network()
    dense = network()
    with torch.no_grad():
        for key, mask in masks.items():
            dense.get_submodule(key).weight.mul_(mask)
    loss_of(model).backward()
    loss_of(dense).backward()
    for key, mask in masks.items():
        found = model.get_submodule(key).parametrizations.weight.original.grad
        assert torch.equal(found, dense.get_submodule(key).weight.grad * mask)
        assert torch.equal(model.get_submodule(key).bias.grad, dense.get_submodule(key).bias.grad)


def test_the_parameters_are_the_same_objects_under_masks_and_after():
    model = network()
    before = dict(model.named_parameters())
    pruning.apply_masks(model, pruning.layer_magnitude_masks(model, 0.5))
    assert {id(p) for p in model.parameters()} == {id(p) for p in before.values()}
    pruning.remove_masks(model)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_a_masked_weight_is_zero_whatever_is_stored_and_keeps_its_memory_layout():
    model = conv_net((4, 6, 8))
    pruning.apply_masks(model, pruning.layer_magnitude_masks(model, 0.5))
    for value in (math.nan, math.inf, 3.0):
        stored = model.conv2.parametrizations.weight.original
        with torch.no_grad():
            stored.masked_fill_(~pruning.masks_of(model)["conv2"], value)
        assert pruning.layer_sparsities(model)["conv2"] == 0.5
    assert model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    model.double()
    assert model.conv2.weight.dtype == torch.float64


def test_masks_of_returns_copies_and_apply_masks_takes_copies():
    model, masks = pruned_network()
    found = pruning.masks_of(model)
    assert same_state(found, masks)
    for mask in (*found.values(), *masks.values()):
        mask.logical_not_()
    assert same_state(pruning.masks_of(model), {key: ~mask for key, mask in masks.items()})
    plain = network()
    pruning.apply_masks(plain, {})
    assert pruning.masks_of(plain) == {}


def test_new_masks_replace_old_ones_and_weights_that_come_back_start_at_zero():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    train(model, optimizer, 3)
    sparse = pruning.layer_magnitude_masks(model, 0.8, layers=["4", "6"])
    pruning.apply_masks(model, sparse)
    train(model, optimizer, 3)  # momentum moves what is stored under the mask
    stored = model[4].parametrizations.weight.original
    assert (stored[~sparse["4"]] != 0).any()
    kept = model[4].weight[sparse["4"]].detach()

    everything = torch.ones_like(sparse["4"])
    pruning.apply_masks(model, {"4": everything})
    assert len(model[4].parametrizations.weight) == 1
    assert torch.equal(pruning.masks_of(model)["4"], everything)
    assert torch.equal(pruning.masks_of(model)["6"], sparse["6"])
    assert (model[4].weight[~sparse["4"]] == 0).all()
    assert torch.equal(model[4].weight[sparse["4"]], kept)
    train(model, optimizer, 1)
    assert (model[4].weight != 0).float().mean() > 0.9


def test_pruned_numbers_are_forgotten_at_once():
    model = network()
    pruning.apply_masks(model, {"4": torch.eye(8, 16, dtype=torch.bool)})
    assert int((model[4].parametrizations.weight.original != 0).sum()) == 8


def test_state_dict_carries_masks_and_weights_to_another_masked_model():
    model, _ = pruned_network(0.5)
    train(model, OPTIMIZERS["adam"](model.parameters()), 3)
    other, _ = pruned_network(0.2, seed=7)
    other.load_state_dict(model.state_dict())
    assert same_state(pruning.masks_of(other), pruning.masks_of(model))
    assert torch.equal(other.eval()(batch()[0]), model.eval()(batch()[0]))
    train(other, OPTIMIZERS["adam"](other.parameters()), 3)
    assert pruning.sparsity(other) == pruning.sparsity(pruning.masks_of(model))


def test_a_deepcopy_trains_under_its_own_masks_and_leaves_the_original_alone():
    model, masks = pruned_network()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    twin = copy.deepcopy(model)
    train(twin, OPTIMIZERS["adamw"](twin.parameters()), 5)
    assert all((w[~masks[key]] == 0).all() for key, w in pruning.prunable_weights(twin).items())
    assert not torch.equal(twin[4].weight, model[4].weight)
    pruning.apply_masks(twin, {"4": ~masks["4"], "4.bias": torch.arange(8) < 4})
    assert same_state(model.state_dict(), state)
    assert torch.equal(model[4].weight != 0, masks["4"])
    assert isinstance(model[4].bias, nn.Parameter)


@pytest.mark.parametrize("which", ["copy", "original"])
def test_baking_a_deepcopy_or_its_original_leaves_the_other_masked(which):
    model, masks = pruned_network()
    twin = copy.deepcopy(model)
    baked, masked = (twin, model) if which == "copy" else (model, twin)
    pruning.remove_masks(baked)
    assert not pruning.masks_of(baked)
    assert same_state(pruning.masks_of(masked), masks)
    assert torch.equal(masked.eval()(batch()[0]), baked.eval()(batch()[0]))
    pruning.remove_masks(masked)
    assert type(masked[4]) is type(baked[4]) is nn.Linear


def test_remove_masks_bakes_zeros_into_a_plain_model_that_can_be_saved(tmp_path):
    model = conv_net((4, 6, 8))
    keys = list(model.state_dict())
    masks = pruning.layer_magnitude_masks(model, 0.5)
    pruning.apply_masks(model, masks)
    with torch.no_grad():
        for layer in (model.conv1, model.classes):
            layer.parametrizations.weight.original.add_(1)  # as momentum would
    pruning.remove_masks(model)
    assert list(model.state_dict()) == keys
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    assert all(torch.equal(w != 0, masks[key]) for key, w in pruning.prunable_weights(model).items())
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert same_state(again.state_dict(), model.state_dict())
    assert pruning.sparsity(again) == 0.5


def test_biases_norms_and_a_single_layer_can_be_masked_by_name():
    model = network()
    keys = list(model.state_dict())
    masks = {"1": torch.tensor([True, False, True, True]), "6.bias": torch.tensor([False, True, True])}
    pruning.apply_masks(model, masks | {"6": torch.eye(3, 8, dtype=torch.bool)})
    with torch.no_grad():
        model[6].parametrizations.bias.original.fill_(2)
    assert model[6].bias.tolist() == [0, 2, 2]
    assert model[1].weight[1] == 0
    pruning.remove_masks(model)
    assert sorted(model.state_dict()) == sorted(keys)
    assert model[6].bias.tolist() == [0, 2, 2]

    layer = nn.Linear(2, 2)
    pruning.apply_masks(layer, {"": torch.eye(2, dtype=torch.bool)})
    initial = pruning.snapshot(layer)
    assert initial.keys() == {"weight", "bias"}
    pruning.rewind(layer, initial)
    assert pruning.sparsity(layer) == 0.5


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"4": torch.ones(16, 8, dtype=torch.bool)}, r"'4' has shape \(16, 8\), its weight \(8, 16\)"),
        ({"4": torch.ones(1, 16, dtype=torch.bool)}, "they must be equal"),
        ({"4": torch.ones(8, 16)}, "'4' must be a bool tensor.*float32"),
        ({"4": [True]}, "'4' must be a bool tensor.*list"),
        ({"4": torch.zeros(8, 16, dtype=torch.bool)}, "'4' would lose all"),
        ({"fc": torch.ones(8, 16, dtype=torch.bool)}, "no layer 'fc'"),
    ],
)
def test_bad_masks_are_refused_before_anything_is_changed(masks, message):
    model, good = network(), torch.eye(4, 9, dtype=torch.bool).reshape(4, 1, 3, 3)
    state = pruning.snapshot(model)
    with pytest.raises(ValueError, match=message):
        pruning.apply_masks(model, {"0": good} | masks)
    assert same_state(model.state_dict(), state)


def test_a_weight_that_something_else_parametrizes_is_refused():
    model = network()
    nn.utils.parametrizations.weight_norm(model[4])
    with pytest.raises(ValueError, match="layer '4' is parametrized already"):
        pruning.apply_masks(model, pruning.layer_magnitude_masks(model, 0.5))
    assert not pruning.masks_of(model)


# --- rewinding --------------------------------------------------------------------------------------------------------


def test_rewind_brings_back_the_initial_weights_and_statistics_under_the_masks():
    model = network()
    initial, expected = pruning.snapshot(model), copy.deepcopy(model)
    train(model, OPTIMIZERS["adam"](model.parameters()), 5)
    masks = pruning.global_magnitude_masks(model, 0.5)
    pruning.apply_masks(model, masks)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, 5)
    pruning.rewind(model, initial)
    assert same_state(pruning.masks_of(model), masks)
    with torch.no_grad():
        for key, mask in masks.items():
            expected.get_submodule(key).weight.mul_(mask)
    assert same_state(pruning.snapshot(model), expected.state_dict())
    # nor does the store remember what is pruned
    assert all((model.get_submodule(k).parametrizations.weight.original[~masks[k]] == 0).all() for k in masks)
    train(model, optimizer, 1)
    assert not torch.equal(model[4].weight, expected[4].weight)


def test_a_snapshot_is_not_changed_by_training_nor_by_a_later_mask():
    model = network()
    initial, same = pruning.snapshot(model), copy.deepcopy(model.state_dict())
    pruning.apply_masks(model, pruning.layer_magnitude_masks(model, 0.5))
    train(model, OPTIMIZERS["sgd"](model.parameters()), 5)
    assert same_state(initial, same)
    assert not torch.equal(initial["1.running_mean"], model[1].running_mean)


def test_a_snapshot_of_a_masked_model_fits_the_plain_model():
    model, masks = pruned_network()
    with torch.no_grad():
        model[4].parametrizations.weight.original.add_(1)
    plain = network(seed=5)
    plain.load_state_dict(pruning.snapshot(model))
    assert torch.equal(plain[4].weight, model[4].weight)
    assert torch.equal(plain[4].weight != 0, masks["4"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"4.weight": None}, r"missing \['4.weight'\]"),
        ({"1.running_var": None}, r"missing \['1.running_var'\]"),
        ({"5.weight": torch.ones(2)}, r"unknown \['5.weight'\]"),
        ({"4.bias": torch.ones(1)}, r"4.bias has shape \(1,\) in the saved state, \(8,\) here"),
    ],
)
def test_rewind_refuses_a_state_that_does_not_fit_and_changes_nothing(changes, message):
    model, _ = pruned_network()
    state = {name: value + 1 for name, value in pruning.snapshot(model).items()} | changes
    before = pruning.snapshot(model)
    with pytest.raises(ValueError, match=message):
        pruning.rewind(model, {name: value for name, value in state.items() if value is not None})
    assert same_state(pruning.snapshot(model), before)


def test_rewind_refuses_a_state_that_follows_the_training():
    model = network()
    by_reference = dict(model.state_dict())
    pruning.apply_masks(model, pruning.layer_magnitude_masks(model, 0.5))
    train(model, OPTIMIZERS["sgd"](model.parameters()), 1)
    with pytest.raises(ValueError, match="saved state is the model's own.*snapshot"):
        pruning.rewind(model, by_reference)
