"""Channels removed, against torch-pruning, against the whole network read through hooks, and loops over the weights."""

import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models import mobilenet_v2, mobilenet_v3_small, resnet18

from kdcourse.metrics import count_macs, count_parameters
from kdcourse.models import conv_net, load_model, mlp, save_model
from kdcourse.pruning.groups import Follower, channel_groups
from kdcourse.pruning.structured import best_channels, channel_scores, mask_filters, prune_filters


class Crossings(nn.Module):
    """Ties of every spelling: sums in place and functional, depthwise, shared layers, a gate, flatten with norms."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.depth = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.again, self.depth_norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.squeeze, self.excite = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)
        self.wide, self.pool = nn.Conv2d(6, 5, 3, padding=1), nn.AdaptiveMaxPool2d(2)
        self.flat_norm, self.hidden, self.classes = nn.BatchNorm1d(20), nn.Linear(20, 7), nn.Linear(7, 4)
        self.side = nn.Linear(6, 7)

    def forward(self, x):
        x = F.leaky_relu(self.stem_norm(self.stem(x)), 0.1)
        y = F.hardswish(self.depth_norm(self.depth(x)))
        y += x
        y = torch.add(self.again(y), self.again(y.relu()), alpha=2)
        gate = self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))).sigmoid()
        y = y.mul_(gate).add_(x)
        z = self.flat_norm(self.pool(self.wide(y)).flatten(1))
        z = F.dropout(torch.tanh(self.hidden(z)), training=self.training)
        z = z + self.side(y.mean((-2, -1)))
        return self.classes(z)


def randomised(model, seed=0):
    """The model in eval mode with statistics, scales and shifts that no layer could be left out of unnoticed."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like, low, high):
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=like.dtype)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.copy_(uniform(module.weight, 0.5, 1.5))
                module.bias.copy_(uniform(module.bias, -1, 1))
                module.running_mean.copy_(uniform(module.bias, -0.5, 0.5))
                module.running_var.copy_(uniform(module.bias, 0.5, 1.5))
                module.num_batches_tracked.fill_(7)
    return model.eval()


NETWORKS = {
    "conv_net": lambda: (conv_net(seed=3), (4, 1, 28, 28)),
    "mlp": lambda: (mlp((20, 12), dropout=0.2, seed=3), (4, 1, 28, 28)),
    "crossings": lambda: (Crossings(), (4, 2, 9, 7)),
    "resnet18": lambda: (resnet18(weights=None, num_classes=10), (2, 3, 64, 64)),
    "mobilenet_v2": lambda: (mobilenet_v2(weights=None, num_classes=10, width_mult=0.25), (2, 3, 64, 64)),
    "mobilenet_v3": lambda: (mobilenet_v3_small(weights=None, num_classes=10, width_mult=0.25), (2, 3, 64, 64)),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def network(name):
    """(model, example batch), both drawn anew from the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, shape = NETWORKS[name]()
        return randomised(model), torch.randn(shape)


def some_channels(groups, seed=0):
    """About 60 % of the channels of every prunable group, drawn at random, sorted."""
    generator = torch.Generator().manual_seed(seed)
    return {
        group.name: torch.randperm(group.channels, generator=generator)[: math.ceil(0.6 * group.channels)].sort().values
        for group in groups
        if group.prunable
    }


def removed_from(group, kept):
    return [channel for channel in range(group.channels) if channel not in set(kept[group.name].tolist())]


def read_without(model, example, groups, kept):
    """Output of the whole network when every reader is handed zeros for the removed channels, by hooks alone."""
    model = copy.deepcopy(model)
    for group in groups:
        if group.name not in kept:
            continue
        for name, features in group.readers:
            places = [c * features + k for c in removed_from(group, kept) for k in range(features)]

            def blank(module, inputs, places=places):
                x = inputs[0].clone()
                x[:, places] = 0
                return x

            model.get_submodule(name).register_forward_pre_hook(blank)
    with torch.no_grad():
        return model(example)


def seen_by_readers(model, example, groups):
    """What each reader is handed, by (group, reader)."""
    seen = {}
    for group in groups:
        for name, _ in group.readers:
            model.get_submodule(name).register_forward_pre_hook(
                lambda module, inputs, key=(group.name, name): seen.__setitem__(key, inputs[0].clone())
            )
    with torch.no_grad():
        model(example)
    return seen


# --- what belongs together ------------------------------------------------------------------------------------------


def test_groups_of_conv_net_join_each_norm_and_the_next_input_across_the_flatten():
    *inner, last = channel_groups(conv_net((4, 6, 8)), torch.zeros(1, 1, 28, 28))
    assert [(group.name, group.channels, group.outputs) for group in inner] == [
        ("conv1", 4, ("conv1",)), ("conv2", 6, ("conv2",)), ("conv3", 8, ("conv3",))
    ]  # fmt: skip
    assert [group.passengers for group in inner] == [(Follower(f"norm{n}", 1),) for n in (1, 2, 3)]
    assert [group.readers for group in inner] == [
        (Follower("conv2", 1),), (Follower("conv3", 1),), (Follower("classes", 16),)
    ]  # fmt: skip
    assert all(group.prunable for group in inner)
    assert not last.prunable
    assert (last.name, last.readers, last.reason) == ("classes", (), "its channels are the network's output")


def test_groups_of_a_network_with_every_kind_of_tie_as_read_off_its_code():
    model, example = network("crossings")
    found = {group.name: group for group in channel_groups(model, example)}
    assert list(found) == ["stem", "squeeze", "wide", "hidden", "classes"]
    stem, wide, hidden = found["stem"], found["wide"], found["hidden"]
    assert set(stem.outputs) == {"stem", "again", "excite"}
    assert set(stem.passengers) == {Follower(name, 1) for name in ("stem_norm", "depth", "depth_norm")}
    assert {name for name, _ in stem.readers} == {"again", "squeeze", "wide", "side"}
    assert (wide.passengers, wide.readers) == ((Follower("flat_norm", 4),), (Follower("hidden", 4),))
    assert (hidden.outputs, hidden.readers) == (("hidden", "side"), (Follower("classes", 1),))
    assert [group.prunable for group in found.values()] == [True, True, True, True, False]


class Around(nn.Module):
    """A sum with the network's input, and one with its output."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x):
        x = x + self.first(x)
        y = self.middle(x)
        return y + self.last(torch.relu(y))


def test_channels_tied_to_the_networks_input_or_output_are_not_prunable():
    first, middle = channel_groups(Around(), torch.zeros(1, 3, 5, 5))
    assert (first.outputs, first.prunable, first.reason) == (("first",), False, "its channels are the network's input")
    assert (middle.outputs, middle.reason) == (("middle", "last"), "its channels are the network's output")
    with pytest.raises(ValueError, match="group 'first' cannot be pruned: its channels are the network's input"):
        prune_filters(Around(), {"first": torch.tensor([0])}, example=torch.zeros(1, 3, 5, 5))


@pytest.mark.parametrize("between", [nn.Sigmoid(), nn.Softplus(), nn.Hardsigmoid(), nn.BatchNorm1d(4, affine=False)])
def test_a_layer_that_would_not_leave_a_masked_channel_at_zero_makes_its_group_not_prunable(between):
    model = nn.Sequential(nn.Linear(2, 4), between, nn.Linear(4, 2))
    assert [group.prunable for group in channel_groups(model, torch.zeros(3, 2))] == [False, False]
    # a norm with a shift of its own sets it to zero again
    model = nn.Sequential(nn.Linear(2, 4), between, nn.BatchNorm1d(4), nn.Linear(4, 2))
    assert [group.prunable for group in channel_groups(model, torch.zeros(3, 2))] == [True, False]


class Gated(nn.Module):
    """A hidden layer and its sigmoid, joined by ``join``."""

    def __init__(self, join):
        super().__init__()
        self.first, self.last, self.join = nn.Linear(2, 4), nn.Linear(4, 2), join

    def forward(self, x):
        x = self.first(x)
        return self.last(self.join(x, torch.sigmoid(x)))


def test_a_gate_of_one_half_is_harmless_as_a_factor_and_not_as_a_term():
    prunable = {join: channel_groups(Gated(join), torch.zeros(3, 2))[0].prunable for join in (torch.mul, torch.add)}
    assert prunable == {torch.mul: True, torch.add: False}


class Shared(nn.Module):
    """One layer that reads two others, and is read by two others."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.both = nn.Linear(2, 5), nn.Linear(2, 5), nn.Linear(5, 3)
        self.up, self.down = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return self.up(self.both(self.left(x)).relu()) + self.down(self.both(self.right(x)).relu())


def test_a_layer_that_is_called_twice_ties_what_it_reads_and_all_that_reads_it():
    inputs, outputs, _ = channel_groups(Shared(), torch.zeros(3, 2))
    assert (set(inputs.outputs), inputs.readers) == ({"left", "right"}, (Follower("both", 1),))
    assert (outputs.outputs, {name for name, _ in outputs.readers}) == (("both",), {"up", "down"})


# --- surgery --------------------------------------------------------------------------------------------------------


@every_network
def test_slim_and_masked_network_compute_what_the_whole_one_does_when_readers_are_handed_zeros(name):
    model, example = network(name)
    before = copy.deepcopy(model.state_dict())
    groups = channel_groups(model, example)
    kept = some_channels(groups)
    assert kept
    slim, masked = (make(model, kept, example=example) for make in (prune_filters, mask_filters))
    expected = read_without(model, example, groups, kept)
    with torch.no_grad():
        whole, small, zeroed = (one(example) for one in (model, slim, masked))
    scale = expected.abs().max()
    assert (whole - expected).abs().max() > 1e-3 * scale
    torch.testing.assert_close(small / scale, expected / scale, rtol=0, atol=1e-5)
    torch.testing.assert_close(zeroed / scale, expected / scale, rtol=0, atol=1e-5)
    torch.testing.assert_close(small / scale, zeroed / scale, rtol=0, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@every_network
def test_removed_channels_are_exactly_zero_where_the_masked_network_is_read_and_the_kept_ones_are_not(name):
    model, example = network(name)
    groups = channel_groups(model, example)
    kept = some_channels(groups)
    seen = seen_by_readers(mask_filters(model, kept, example=example), example, groups)
    for group in groups:
        for reader, features in group.readers:
            x = seen[group.name, reader].unflatten(1, (group.channels, features))
            removed = removed_from(group, kept)
            assert torch.count_nonzero(x[:, removed]) == 0
            assert torch.count_nonzero(x[:, kept[group.name]]) > 0


def with_channels_removed_by_torch_pruning(model, example, group, gone):
    import torch_pruning

    root = model.get_submodule(group.name)
    remove = torch_pruning.prune_conv_out_channels if isinstance(root, nn.Conv2d) else (
        torch_pruning.prune_linear_out_channels
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own use of PyTorch is not what is tested
        graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)
        graph.get_pruning_group(root, remove, idxs=gone).prune()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "conv_net", "mlp"])
def test_group_by_group_the_same_layers_shrink_as_with_torch_pruning_and_the_output_is_the_same(name):
    model, example = network(name)
    groups = [group for group in channel_groups(model, example) if group.prunable]
    kept, theirs, so_far = some_channels(groups), copy.deepcopy(model), {}
    for group in groups:
        with_channels_removed_by_torch_pruning(theirs, example, group, removed_from(group, kept))
        so_far[group.name] = kept[group.name]
        ours = prune_filters(model, so_far, example=example)
        expected = theirs.state_dict()
        assert list(ours.state_dict()) == list(expected)
        for key, value in ours.state_dict().items():
            assert torch.equal(value, expected[key]), (group.name, key)
        assert [str(module) for module in ours.modules()] == [str(module) for module in theirs.modules()]
    with torch.no_grad():
        torch.testing.assert_close(ours(example), theirs(example))


@every_network
def test_the_slim_network_trains_and_has_fewer_parameters_and_operations(name):
    model, example = network(name)
    kept = some_channels(channel_groups(model, example))
    slim = prune_filters(model, kept, example=example).train()
    assert count_parameters(slim) < 0.7 * count_parameters(model)
    assert count_macs(slim, example[:1]) < 0.7 * count_macs(model, example[:1])
    optimizer = torch.optim.SGD(slim.parameters(), lr=0.01)
    before = [parameter.detach().clone() for parameter in slim.parameters()]
    F.cross_entropy(slim(example), torch.zeros(len(example), dtype=torch.long)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in slim.parameters())
    optimizer.step()
    assert any(not torch.equal(new, old) for new, old in zip(slim.parameters(), before, strict=True))
    assert torch.isfinite(slim.eval()(example)).all()


def test_parameters_of_the_slim_conv_net_equal_the_sum_by_hand():
    kept = {"conv1": torch.arange(3), "conv2": torch.tensor([1, 5]), "conv3": torch.tensor([0, 7, 9, 40, 47])}
    slim = prune_filters(conv_net(), kept, example=torch.zeros(1, 1, 28, 28))
    assert count_parameters(slim) == (1 * 3 + 3 * 2 + 2 * 5) * 9 + 2 * (3 + 2 + 5) + 5 * 16 * 10 + 10
    assert [(layer.in_channels, layer.out_channels) for layer in (slim.conv1, slim.conv2)] == [(1, 3), (3, 2)]
    assert (slim.norm3.num_features, slim.classes.in_features, slim.classes.out_features) == (5, 80, 10)


def test_memory_format_modes_gradient_flags_dtype_and_counters_stay():
    model = randomised(conv_net()).double().train()
    model.norm2.eval()
    model.conv2.requires_grad_(False)
    example = torch.randn(2, 1, 28, 28, dtype=torch.float64)
    kept = some_channels(channel_groups(model, example))
    slim = prune_filters(model, kept, example=example)
    assert model.norm1.num_batches_tracked == 7
    assert model.training
    assert [module.training for module in slim.modules()] == [module.training for module in model.modules()]
    assert [p.requires_grad for p in slim.parameters()] == [p.requires_grad for p in model.parameters()]
    assert all(tensor.dtype == torch.float64 for tensor in slim.parameters())
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in (slim.conv2, slim.conv3))
    assert not slim.conv2.weight.is_contiguous()
    assert slim.norm3.num_batches_tracked == 7
    plain = prune_filters(model.to(memory_format=torch.contiguous_format), kept, example=example)
    assert plain.conv2.weight.is_contiguous()


@pytest.mark.parametrize("name", ["conv_net", "mlp"])
def test_a_slim_network_of_the_course_is_saved_and_rebuilt(name, tmp_path):
    model, example = network(name)
    architecture = copy.deepcopy(model.architecture)
    groups = channel_groups(model, example)
    kept = some_channels(groups)
    del kept[groups[0].name]  # a group that is not named stays whole
    slim = prune_filters(model, kept, example=example)
    save_model(slim, tmp_path / "slim.safetensors")
    again = load_model(tmp_path / "slim.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(example), slim(example))
    assert list(again.architecture.values()) != list(architecture.values())
    assert model.architecture == architecture


def test_all_channels_kept_changes_nothing_and_pruning_twice_equals_pruning_once():
    model, example = network("resnet18")
    groups = [group for group in channel_groups(model, example) if group.prunable]
    whole = prune_filters(model, {group.name: torch.arange(group.channels) for group in groups}, example=example)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in whole.state_dict().items())
    first = {group.name: torch.arange(0, group.channels, 2) for group in groups}
    second = {group.name: torch.arange(0, group.channels // 2, 3) for group in groups}
    twice = prune_filters(prune_filters(model, first, example=example), second, example=example)
    once = prune_filters(model, {name: first[name][second[name]] for name in first}, example=example)
    assert all(torch.equal(value, once.state_dict()[key]) for key, value in twice.state_dict().items())


def test_the_order_of_the_indices_makes_no_difference():
    model, example = network("mlp")
    slims = [prune_filters(model, {"linear1": torch.tensor(i)}, example=example) for i in ([7, 2, 5], [2, 5, 7])]
    assert torch.equal(slims[0].linear1.weight, slims[1].linear1.weight)
    assert torch.equal(slims[0].linear1.weight, model.linear1.weight[[2, 5, 7]])


def test_a_slim_network_is_exported_like_any_other():
    model, example = network("mobilenet_v2")
    slim = prune_filters(model, some_channels(channel_groups(model, example)), example=example)
    exported = torch.export.export(slim, (example,)).module()
    torch.testing.assert_close(exported(example), slim(example))


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "power"), [("l1", 1), ("l2", 2)])
def test_norms_equal_loops_over_the_weights_of_all_tied_layers(kind, power):
    model, example = network("crossings")
    found = channel_scores(model, kind, example=example)
    assert list(found) == ["stem", "squeeze", "wide", "hidden"]
    for name, layers in {
        "stem": [model.stem, model.again, model.excite, model.depth], "wide": [model.wide],
        "squeeze": [model.squeeze], "hidden": [model.hidden, model.side],
    }.items():  # fmt: skip
        for channel, score in enumerate(found[name].tolist()):
            norms = [
                math.fsum(abs(w) ** power for w in layer.weight[channel].flatten().tolist()) ** (1 / power)
                for layer in layers
            ]
            assert score == pytest.approx(math.fsum(norms), rel=1e-5)


def test_batch_norm_scores_are_the_absolute_scales_added_over_tied_norms():
    model, example = network("resnet18")
    with torch.no_grad():
        model.bn1.weight.neg_()
    found = channel_scores(model, "batch_norm", example=example)
    norms = model.bn1, model.layer1[0].bn2, model.layer1[1].bn2
    torch.testing.assert_close(found["conv1"], sum(norm.weight.detach().abs() for norm in norms))
    torch.testing.assert_close(found["layer2.0.conv1"], model.layer2[0].bn1.weight.detach())
    plain = randomised(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    scaled = nn.Sequential(plain[0], nn.BatchNorm1d(4, affine=False), plain[1], plain[2])
    found = channel_scores(scaled, "batch_norm", example=torch.zeros(2, 2))["0"]
    assert torch.equal(found, plain[1].weight.detach())


def test_batch_norm_scores_need_a_batch_norm():
    with pytest.raises(ValueError, match="group 'linear1' has no batch norm"):
        channel_scores(mlp(), "batch_norm", example=torch.zeros(1, 1, 28, 28))


GATED = {
    "conv_net": {"conv1": ["norm1"], "conv2": ["norm2"], "conv3": ["norm3"]},
    "mlp": {"linear1": ["linear1"], "linear2": ["linear2"]},
    "resnet18": {"conv1": ["bn1", "layer1.0.bn2", "layer1.1.bn2"], "layer4.1.conv1": ["layer4.1.bn1"]},
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", GATED)
def test_taylor_scores_are_the_squared_gradients_of_gates_put_behind_the_layers(name, training):
    model, example = network(name)
    model.train(training)
    example = example.repeat(4, 1, 1, 1) + torch.linspace(-1, 1, 4 * len(example))[:, None, None, None]
    labels = torch.arange(len(example)) % 10

    def batch_loss():
        torch.manual_seed(0)  # the same dropout each time
        return F.cross_entropy(model(example), labels)

    found = channel_scores(model, "taylor", example=example, batch_loss=batch_loss)
    assert all(parameter.grad is None for parameter in model.parameters())
    for group, layers in GATED[name].items():
        gates = []
        for layer in layers:
            gate = torch.ones(len(found[group]), requires_grad=True)
            gates.append(gate)
            model.get_submodule(layer).register_forward_hook(
                lambda module, inputs, output, gate=gate: output * gate.view(-1, *[1] * (output.ndim - 2))
            )
        gradients = torch.autograd.grad(batch_loss(), gates)
        expected = sum(gradient.square() for gradient in gradients)
        assert expected.max() > 0
        torch.testing.assert_close(found[group] / expected.max(), expected / expected.max(), rtol=1e-3, atol=1e-4)


def test_taylor_scores_of_a_flattened_norm_gate_all_features_of_a_channel_together():
    model, example = network("crossings")
    found = channel_scores(model, "taylor", example=example, batch_loss=lambda: model(example).square().sum())["wide"]
    gate = torch.ones(5, requires_grad=True)
    model.flat_norm.register_forward_hook(lambda module, inputs, output: output * gate.repeat_interleave(4))
    expected = torch.autograd.grad(model(example).square().sum(), gate)[0].square()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.max().item())


def test_taylor_scores_need_a_loss_of_this_model_and_its_gradients():
    model, other, example = mlp(), mlp(), torch.ones(2, 1, 28, 28)
    with pytest.raises(ValueError, match="needs batch_loss"):
        channel_scores(model, "taylor", example=example)
    with pytest.raises(ValueError, match="does it run this very model"):
        channel_scores(model, "taylor", example=example, batch_loss=lambda: other(example).sum())
    model.linear1.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="requires_grad=False"):
        channel_scores(model, "taylor", example=example, batch_loss=lambda: model(example).sum())


def test_random_scores_follow_the_seed_alone():
    model, example = network("conv_net")
    state = torch.get_rng_state()
    first, same, other = (channel_scores(model, "random", example=example, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert {name: len(values) for name, values in first.items()} == {"conv1": 16, "conv2": 32, "conv3": 48}
    assert all(torch.equal(first[name], same[name]) and not torch.equal(first[name], other[name]) for name in first)
    assert not torch.equal(first["conv1"], first["conv2"][:16])


def test_an_unknown_kind_of_score_is_refused():
    with pytest.raises(ValueError, match="l1, l2, batch_norm, taylor or random, got 'l3'"):
        channel_scores(mlp(), "l3", example=torch.zeros(1, 1, 28, 28))


# --- the choice -----------------------------------------------------------------------------------------------------

SCORES = {"a": torch.tensor([0.1, 0.5, 0.3, 0.5]), "b": torch.tensor([9.0, 7.0, 8.0, 7.5, 6.0])}


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.5, {"a": [1, 3], "b": [0, 2, 3]}),  # 2.5 is rounded up
        (0.25, {"a": [1], "b": [0]}),  # of equal scores the first
        (0.01, {"a": [1], "b": [0]}),
        (1.0, {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3, 4]}),
        ({"b": 0.4}, {"a": [0, 1, 2, 3], "b": [0, 2]}),
    ],
)
def test_the_best_of_each_group_by_hand(share, expected):
    assert {name: kept.tolist() for name, kept in best_channels(SCORES, share).items()} == expected


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (5 / 9, {"a": [1], "b": [0, 1, 2, 3]}),
        (7 / 9, {"a": [1, 3], "b": [0, 1, 2, 3, 4]}),
        (0.01, {"a": [1], "b": [0]}),
        (1.0, {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3, 4]}),
    ],
)
def test_the_best_across_groups_by_hand_leaves_at_least_one_each(share, expected):
    found = best_channels(SCORES, share, across_groups=True)
    assert {name: kept.tolist() for name, kept in found.items()} == expected
    assert best_channels({}, 0.5, across_groups=True) == {}


@pytest.mark.parametrize(
    ("scores", "share", "options", "message"),
    [
        (SCORES, 0.0, {}, r"share to keep of 'a' must be in \(0, 1\], got 0.0"),
        (SCORES, 1.5, {}, "got 1.5"),
        (SCORES, math.nan, {}, "got nan"),
        (SCORES, {"conv": 0.5}, {}, "no group is named 'conv'; nearest: a, b"),
        (SCORES, {"a": 0.5}, {"across_groups": True}, "one share for all groups"),
        ({"a": torch.tensor([1.0, math.nan])}, 0.5, {}, "scores of 'a' must be finite"),
        ({"a": torch.zeros(0)}, 0.5, {}, "scores of 'a'"),
        ({"a": torch.zeros(2, 2)}, 0.5, {}, r"shape \(2, 2\)"),
    ],
)
def test_shares_and_scores_that_make_no_choice_are_refused(scores, share, options, message):
    with pytest.raises(ValueError, match=message):
        best_channels(scores, share, **options)


def test_scores_choice_and_surgery_fit_together():
    model, example = network("resnet18")
    kept = best_channels(channel_scores(model, "l2", example=example), 0.5)
    slim = prune_filters(model, kept, example=example)
    assert (slim.conv1.out_channels, slim.layer4[1].conv2.out_channels) == (32, 256)
    best = model.layer4[1].conv1.weight.detach().flatten(1).norm(dim=1).topk(256).indices
    assert set(kept["layer4.1.conv1"].tolist()) == set(best.tolist())


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surgery", [prune_filters, mask_filters])
@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"conv2": torch.tensor([], dtype=torch.int64)}, "group 'conv2' would be emptied: keep at least one of its 32"),
        ({"conv4": torch.tensor([0])}, "no group is named 'conv4'; nearest: conv"),
        ({"norm1": torch.tensor([0])}, "no group is named 'norm1'"),
        ({"conv1": torch.tensor([0, 16])}, r"kept\['conv1'\] must be within 0 .. 15, got \[0, 16\]"),
        ({"conv1": torch.tensor([-1, 2])}, r"within 0 .. 15, got \[-1, 2\]"),
        ({"conv1": torch.tensor([3, 3])}, r"names a channel twice: \[3, 3\]"),
        ({"conv1": torch.ones(16, dtype=torch.bool)}, r"int64 channel indices .* mask.nonzero"),
        ({"conv1": [0, 1]}, "must be a tensor of int64"),
        ({"conv1": torch.tensor(1)}, "must be a tensor of int64"),
        ({"classes": torch.arange(5)}, "group 'classes' cannot be pruned: its channels are the network's output"),
    ],
)
def test_channels_that_cannot_be_kept_are_refused_by_name(surgery, kept, message):
    with pytest.raises(ValueError, match=message):
        surgery(conv_net(), kept, example=torch.zeros(1, 1, 28, 28))


def test_a_tied_layer_is_answered_with_the_name_of_its_group():
    with pytest.raises(ValueError, match="'layer1.0.conv2' is tied to 'conv1'"):
        prune_filters(resnet18(weights=None), {"layer1.0.conv2": torch.arange(3)}, example=torch.zeros(1, 3, 64, 64))


class Through(nn.Module):
    """A convolution, the function under test, and what further layers it uses."""

    def __init__(self, function, *layers):
        super().__init__()
        self.conv, self.layers, self.function = nn.Conv2d(2, 4, 3, padding=1), nn.ModuleList(layers), function

    def forward(self, x):
        return self.function(self.conv(x), *self.layers)


def shared_weights(x, first, second):
    return first(x) + second(x)


TWINS = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
TWINS[1].weight = TWINS[0].weight


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Through(lambda x: torch.cat([x, x], dim=1)), r"through cat .*supported: Conv2d.*torch-pruning"),
        (Through(lambda x, g: g(x), nn.Conv2d(4, 4, 1, groups=2)), "layers_0 .* 2 groups that is not depthwise"),
        (Through(lambda x, g: g(x), nn.Conv2d(4, 8, 1, groups=4)), "layers_0 .* 4 groups that is not depthwise"),
        (Through(lambda x: x.view(x.size(0), -1)), "through size"),
        (Through(lambda x: x.reshape(-1, 4)), "through reshape"),
        (Through(lambda x: x if x.sum() > 0 else -x), "torch.fx cannot trace"),
        (Through(lambda x: F.softmax(x, dim=1)), "through softmax"),
        (Through(lambda x, p: p(x), nn.PReLU(4)), "through layers_0"),
        (Through(lambda x, p: p(x), nn.Linear(6, 6)), "a Linear on images: flatten or average first"),
        (Through(lambda x: torch.flatten(x, 2)), "flatten"),
        (Through(lambda x: torch.flatten(x)), "flatten"),
        (Through(lambda x: x.flatten(1, 2)), "flatten"),
        (Through(lambda x: x.flatten(0, 2)), "flatten from dimension 1"),
        (Through(lambda x, f: f(x), nn.Flatten(0)), "layers_0"),
        (Through(lambda x, f: f(x), nn.Flatten(1, 2)), "layers_0"),
        (Through(lambda x: x.mean((1, 2))), "not a mean over height and width"),
        (Through(lambda x: x.mean()), "mean"),
        (Through(lambda x: x.mean(3)), "mean"),
        (Through(lambda x: x + 1), "through add"),
        (Through(lambda x, one: x + one(x), nn.Conv2d(4, 1, 1)), "through add.* different numbers of channels"),
        (Through(lambda x, up, c: up(x) + c(up(x)).flatten(1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 6)), "through add"),
        (Through(lambda x, c: c(x), parametrizations.weight_norm(nn.Conv2d(4, 3, 1))), "make it permanent first"),
        (Through(shared_weights, *TWINS), "layers.0.weight and layers.1.weight are one shared tensor"),
        (Through(lambda x, a: a(x.flatten(2))[0], nn.TransformerEncoderLayer(36, 2, 8)), "through flatten"),
        (nn.Conv2d(5, 2, 1), "weight"),
        (Through(lambda x, c: c(x), nn.Conv2d(5, 2, 1)), r"shape \(6, 2, 6, 6\) does not run through the model"),
    ],
)
def test_what_channels_cannot_be_followed_through_is_refused_by_name(model, message):
    with pytest.raises(ValueError, match=message):
        channel_groups(model, torch.zeros(6, 2, 6, 6))


def test_a_weight_pruned_with_pytorchs_own_masks_has_to_be_made_permanent_first():
    model = mlp()
    prune.l1_unstructured(model.linear1, "weight", 0.5)
    with pytest.raises(ValueError, match="linear1 .*make it permanent first"):
        channel_groups(model, torch.zeros(1, 1, 28, 28))


def test_an_example_without_a_batch_dimension_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 28, 28\) does not run through the model: expected 4D"):
        channel_groups(conv_net(), torch.zeros(1, 28, 28))
    with pytest.raises(ValueError, match=r"\(1, 28, 28\), not \(N, C, H, W\) or \(N, C\)"):
        channel_groups(mlp(), torch.zeros(1, 28, 28))


def test_the_analysis_leaves_modes_statistics_and_the_example_alone():
    model = conv_net().train()
    before = copy.deepcopy(model.state_dict())
    channel_groups(model, torch.randn(4, 1, 28, 28))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    example = -torch.ones(2, 3)
    channel_groups(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)), example)
    assert torch.equal(example, -torch.ones(2, 3))
