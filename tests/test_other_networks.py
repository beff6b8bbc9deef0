"""Pruning, folding, quantization and sharing on networks that are no plain ``nn.Sequential``, and on one another.

What is right is computed in float64 by ``torch.func.functional_call``, which puts weights worked out here in their
places, and by PyTorch's own quantization operators.
"""

import copy
import functools
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize, prune

from kdcourse import pruning
from kdcourse import quantization as qz
from kdcourse.metrics import count_macs, count_parameters


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- networks ---------------------------------------------------------------------------------------------------------


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Tied(nn.Module):
    """Logits (N, L, 20) from indices (N, L), the embedding used again at the end."""

    def __init__(self):
        super().__init__()
        self.embed, self.middle, self.out = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, indices):
        return self.out(torch.relu(self.middle(self.embed(indices))))


class TiedLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))))


class UsedTwice(nn.Module):
    """One linear layer and its batch norm, called twice in a row, the layer under two names."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.last = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.again = self.layer

    def forward(self, x):
        return self.last(self.norm(self.again(torch.relu(self.norm(self.layer(x))))))


class TwoInputs(nn.Module):
    """A dictionary of outputs, from one input or two; defined in another order than it runs."""

    def __init__(self):
        super().__init__()
        self.last, self.side, self.first, self.norm = (
            nn.Linear(6, 3),
            nn.Linear(4, 6),
            nn.Linear(8, 6),
            nn.BatchNorm1d(6),
        )

    def forward(self, x, y=None):
        hidden = self.norm(self.first(x))
        if y is not None:
            hidden = hidden + self.side(y)
        return {"logits": self.last(torch.relu(hidden)), "hidden": hidden}


class Signal(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm1 = nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4)
        self.up, self.norm2 = nn.ConvTranspose1d(4, 6, 4, stride=2, groups=2), nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.relu(self.norm2(self.up(torch.relu(self.norm1(self.conv(x)))))).mean(-1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed = nn.Embedding(12, 6)
        self.layers, self.last = kind(6, 8, 2, batch_first=True, bidirectional=True), nn.Linear(16, 3)

    def forward(self, indices):
        return self.last(self.layers(self.embed(indices))[0])


class Cells(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell, self.last = kind(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.last(state[0] if isinstance(state, tuple) else state)


def convolution():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))


def with_relu_twice():
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(8, 8), relu, nn.Linear(8, 8), relu, nn.Linear(8, 3))


def with_layer_twice():
    layer = nn.Linear(8, 8)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(8, 3))


def residual():
    block = Residual(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), block, nn.Flatten(), nn.Linear(144, 5))


def volume():
    return nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1, groups=2), nn.BatchNorm3d(4), nn.ReLU(),
        nn.ConvTranspose3d(4, 4, 2, stride=2, groups=2), nn.BatchNorm3d(4),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


def transposed():
    return nn.Sequential(
        nn.ConvTranspose2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2, dilation=2),
        nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 24, batch_first=True), 2)


IMAGES = drawn(4, 3, 6, 6)
NETWORKS = {
    "convolution": (convolution, IMAGES),
    "channels last": (lambda: convolution().to(memory_format=torch.channels_last), IMAGES),
    "a subclass of Sequential": (residual, IMAGES),
    "a ReLU used twice": (with_relu_twice, drawn(4, 8)),
    "a layer used twice": (with_layer_twice, drawn(4, 8)),
    "a layer under two names": (UsedTwice, drawn(4, 8)),
    "tied with an embedding": (Tied, torch.arange(20).reshape(4, 5)),
    "tied layers": (TiedLinear, drawn(4, 8)),
    "two inputs": (TwoInputs, (drawn(4, 8), drawn(4, 4))),
    "1-d and transposed": (Signal, drawn(2, 3, 7)),
    "3-d and transposed": (volume, drawn(2, 2, 4, 4, 4)),
    "2-d, transposed, grouped": (transposed, IMAGES),
    "LSTM": (lambda: Recurrent(nn.LSTM), torch.arange(12).reshape(3, 4)),
    "GRU": (lambda: Recurrent(nn.GRU), torch.arange(12).reshape(3, 4)),
    "LSTM cell": (lambda: Cells(nn.LSTMCell), drawn(3, 4, 6)),
    "GRU cell": (lambda: Cells(nn.GRUCell), drawn(3, 4, 6)),
    "transformer": (encoder, drawn(2, 5, 16)),
    "attention": (lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True),
                  (drawn(2, 3, 8), drawn(2, 4, 6), drawn(2, 4, 4))),
    "float64": (lambda: convolution().double(), IMAGES.double()),
    "bfloat16": (lambda: convolution().bfloat16(), IMAGES.bfloat16()),
}  # fmt: skip
on_each_network = pytest.mark.parametrize("name", NETWORKS)
EMBEDDINGS_ARE_LEFT_OUT = pytest.mark.filterwarnings("ignore:left out. .*embed.*:kdcourse.pruning.CoverageWarning")


def network(name):
    """A network in eval mode, with batch norms that have seen data, and what it is called on."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        build, inputs = NETWORKS[name]
        return seen(build()), inputs


def seen(model):
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
    return model.eval()


def tensors(output):
    if isinstance(output, torch.Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output or []
    return [tensor for part in parts for tensor in tensors(part)]


def run(model, inputs, *, weights=None):
    """All outputs in one vector, without gradient; with ``weights`` those take the place of the model's."""
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad():
        output = model(*arguments) if weights is None else functional_call(model, weights, arguments)
    return torch.cat([tensor.flatten().double() for tensor in tensors(output)])


def exactly(model, inputs, weights=None):
    """`run` in float64."""

    def widen(value):
        return value.double() if value.is_floating_point() else value

    inputs = tuple(map(widen, inputs)) if isinstance(inputs, tuple) else widen(inputs)
    weights = {name: widen(value.detach()) for name, value in (weights or {}).items()}
    return run(copy.deepcopy(model).double(), inputs, weights=weights)


def close(found, expected, name=""):
    # bfloat16 keeps 8 bits of each number on the way
    return (found - expected).norm() <= (2e-2 if name == "bfloat16" else 2e-6) * expected.norm()


def parameter(model, name):
    """The full name of the parameter that a helper calls ``name``."""
    known = dict(model.named_parameters(remove_duplicate=False))
    return name if name in known else f"{name}.weight".lstrip(".")


# --- masks ------------------------------------------------------------------------------------------------------------


@EMBEDDINGS_ARE_LEFT_OUT
@on_each_network
def test_masked_networks_compute_with_zeros_and_go_back_to_what_they_were(name):
    model, inputs = network(name)
    plain = copy.deepcopy(model)
    masks = pruning.layer_magnitude_masks(model, 0.5)
    pruning.apply_masks(model, masks)
    weights = dict(plain.named_parameters(remove_duplicate=False))
    zeroed = {parameter(plain, key): weights[parameter(plain, key)] * mask for key, mask in masks.items()}
    found = run(model, inputs)
    assert close(found, exactly(plain, inputs, zeroed), name)
    assert pruning.sparsity(model) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(run(copy.deepcopy(model), inputs), found)
    effective = {key: weight.detach().clone() for key, weight in pruning.prunable_weights(model).items()}
    pruning.remove_masks(model)
    assert all(torch.equal(weight, effective[key]) for key, weight in pruning.prunable_weights(model).items())
    assert close(run(model, inputs), found)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert pruning.masks_of(model) == {}


@EMBEDDINGS_ARE_LEFT_OUT
@on_each_network
def test_pruned_weights_stay_zero_in_training_and_copies_train_apart(name):
    model, inputs = network(name)
    before = list(model.parameters())
    masks = pruning.layer_magnitude_masks(model, 0.5)
    pruning.apply_masks(model, masks)
    optimizer, twins = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1), []
    for _ in range(3):
        optimizer.zero_grad()
        arguments = inputs if isinstance(inputs, tuple) else (inputs,)
        sum(tensor.float().square().mean() for tensor in tensors(model(*arguments))).backward()
        twins.append(copy.deepcopy(model))  # after a backward pass
        optimizer.step()
    weights = {key: weight.detach().clone() for key, weight in pruning.prunable_weights(model).items()}
    assert all((weight[~masks[key]] == 0).all() for key, weight in weights.items())
    for key, weight in pruning.prunable_weights(twins[0]).items():
        assert (weight[~masks[key]] == 0).all()
        assert not torch.equal(weight, weights[key])
    found = run(model, inputs)
    pruning.remove_masks(model)
    assert all(torch.equal(weight, weights[key]) for key, weight in pruning.prunable_weights(model).items())
    assert close(run(model, inputs), found)
    assert all(one is other for one, other in zip(model.parameters(), before, strict=True))


def test_tied_weights_have_one_mask():
    model, inputs = network("tied with an embedding")
    mask = pruning.magnitude_mask(model.embed.weight, 0.5)
    pruning.apply_masks(model, {"embed": mask})
    assert pruning.masks_of(model).keys() == {"embed", "out"}
    assert torch.equal(model.out.weight, model.embed.weight)
    assert pruning.layer_sparsities(model, layers=["out", "embed"]) == {"out": 0.5, "embed": 0.5}
    assert list(pruning.prunable_weights(model)) == ["middle", "out"]  # counted once
    with pytest.raises(ValueError, match="'embed' and 'out' are one tied tensor, which can have one mask"):
        pruning.apply_masks(model, {"embed": mask, "out": ~mask})
    pruning.apply_masks(model, {"embed": ~mask, "out": ~mask})
    assert (model.embed.weight == 0).all()  # what the first mask zeroed starts at zero
    parametrize.remove_parametrizations(model.embed, "weight", leave_parametrized=False)
    with pytest.raises(ValueError, match="'out' and 'embed' are one tied tensor with different masks"):
        pruning.remove_masks(model)


def test_every_matrix_of_a_transformer_is_counted_and_what_is_not_is_named():
    model, _ = network("transformer")
    weights = pruning.prunable_weights(model)
    assert sum(map(torch.numel, weights.values())) == sum(p.numel() for p in model.parameters() if p.ndim > 1)
    model, _ = network("LSTM")
    model.place = nn.Parameter(drawn(5, 6))
    helpers = {
        "sparsity": pruning.sparsity, "quantizer": qz.fake_quantize_model, "sharing": qz.share_model,
        "masks": lambda m: pruning.global_magnitude_masks(m, 0.5),
        "bits": lambda m: qz.bit_sensitivity(m, lambda _: 0.0, [4]),
    }  # fmt: skip
    for helper in helpers.values():
        with pytest.warns(qz.CoverageWarning, match="left out: 'place', 'embed': only the weights of linear"):
            helper(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pruning.sparsity(model, layers=["embed", "place", "last"]) == 0
        qz.fake_quantize_model(model, weight_bits={"last": 4})
        qz.share_model(model, bits={"last": 4})


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_pytorchs_quantized_layers_are_named_as_left_out():
    class Packed(nn.Module):
        def weight(self):
            return None

    model = nn.Sequential(nn.Linear(3, 4), Packed())
    with pytest.warns(pruning.CoverageWarning, match="left out: '1'"):
        pruning.sparsity(model)


def test_layers_that_are_not_initialised_are_refused():
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 3))
    helpers = [
        pruning.sparsity, pruning.snapshot, qz.fake_quantize_model, qz.share_model, count_parameters,
        lambda m: count_macs(m, drawn(2, 5)), lambda m: qz.calibrate(m, [drawn(2, 5)]),
        lambda m: pruning.channel_groups(m, drawn(2, 5)),
        lambda m: qz.fold_batchnorm(nn.Sequential(nn.Linear(3, 4), nn.LazyBatchNorm1d())),
    ]  # fmt: skip
    for helper in helpers:
        with pytest.raises(ValueError, match="not initialised yet: run a batch through the model first"):
            helper(model)
    assert model[0].in_features == 0


# --- masks and quantizers ---------------------------------------------------------------------------------------------


@EMBEDDINGS_ARE_LEFT_OUT
@pytest.mark.parametrize("learned_step", [False, True])
@on_each_network
def test_masks_before_and_after_a_quantizer_are_alike_and_go_without_moving_the_outputs(name, learned_step):
    model, inputs = network(name)
    masks = pruning.layer_magnitude_masks(model, 0.5)
    after = qz.fake_quantize_model(model, weight_bits=8, learned_step=learned_step)
    state = dict(after.state_dict())
    pruning.apply_masks(after, masks)
    pruning.apply_masks(model, masks)
    before = qz.fake_quantize_model(model, weight_bits=8, learned_step=learned_step)
    if learned_step:
        before.load_state_dict(after.state_dict())  # a step starts from the weights as they are then
    found = run(after, inputs)
    assert torch.equal(found, run(before, inputs))
    assert pruning.masks_of(after).keys() == pruning.masks_of(before).keys() >= masks.keys()
    assert pruning.sparsity(after) >= 0.48
    pruning.remove_masks(after)
    assert torch.equal(run(after, inputs), found)
    assert after.state_dict().keys() == state.keys()
    assert pruning.masks_of(after) == {}


def test_a_new_mask_under_a_quantizer_leaves_the_unrounded_numbers_in_the_store():
    model, _ = network("convolution")
    quantized = qz.fake_quantize_model(model, weight_bits=2)
    masks = pruning.layer_magnitude_masks(model, 0.3)
    pruning.apply_masks(quantized, masks)
    denser = {name: mask | pruning.random_mask(model.get_submodule(name).weight, 0.5) for name, mask in masks.items()}
    pruning.apply_masks(quantized, denser)
    for name, mask in masks.items():
        stored = quantized.get_submodule(name).parametrizations.weight.original
        assert torch.equal(stored, model.get_submodule(name).weight * mask)
        assert torch.equal(pruning.masks_of(quantized)[name], denser[name])


@pytest.mark.parametrize("learned_step", [False, True])
def test_snapshot_and_rewind_know_what_stands_beside_a_mask(learned_step):
    model, inputs = network("convolution")
    ranges = qz.calibrate(model, [inputs])
    settings = {"activation_bits": 8, "ranges": ranges, "learned_step": learned_step, "quantize_output": True}
    quantized = qz.fake_quantize_model(model, weight_bits=4, **settings)
    early = pruning.snapshot(quantized)
    pruning.apply_masks(quantized, pruning.layer_magnitude_masks(model, 0.5))
    saved, found = pruning.snapshot(quantized), run(quantized, inputs)
    assert saved.keys() == early.keys()
    unmasked = copy.deepcopy(quantized)
    pruning.remove_masks(unmasked)
    assert saved.keys() == unmasked.state_dict().keys()
    with torch.no_grad():
        for tensor in (*quantized.parameters(), *unmasked.parameters()):
            tensor.add_(0.3)
    unmasked.load_state_dict(saved)
    pruning.rewind(quantized, saved)
    assert torch.equal(run(quantized, inputs), found)
    assert torch.equal(run(unmasked, inputs), found)
    pruning.rewind(quantized, early)  # taken before there was a mask
    assert torch.equal(run(quantized, inputs), found)
    if learned_step:
        assert any(key.endswith("step") for key in saved)


def test_taylor_scores_use_what_the_layer_computes_with():
    model, inputs = network("convolution")
    quantized = qz.fake_quantize_model(model, weight_bits=3, learned_step=True)  # saturates
    parametrizations.weight_norm(model[0])
    for candidate in (quantized, model, qz.fake_quantize_model(model, weight_bits=2)):
        scores = pruning.taylor_scores(candidate, lambda candidate=candidate: candidate(inputs).square().sum())
        plain = qz.bake(candidate)
        expected = torch.autograd.grad(plain(inputs).square().sum(), [plain[0].weight, plain[4].weight])
        for key, gradient in zip(("0", "4"), expected, strict=True):
            torch.testing.assert_close(scores[key], (plain.get_submodule(key).weight * gradient).square())
    tied, inputs = network("tied layers")
    scores = pruning.taylor_scores(tied, lambda: tied(inputs).square().sum())
    pruning.apply_masks(tied, {"first": torch.ones(8, 8, dtype=torch.bool)})
    masked = pruning.taylor_scores(tied, lambda: tied(inputs).square().sum())
    torch.testing.assert_close(masked["first"], scores["first"])  # both uses, masked or not


# --- folding ----------------------------------------------------------------------------------------------------------


@on_each_network
def test_folding_keeps_the_outputs_of_any_network_that_can_be_traced(name):
    model, inputs = network(name)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    attributes = {module: set(vars(module)) for module in model.modules()}
    folded = qz.fold_batchnorm(model)
    assert type(folded) is type(model)
    assert close(run(folded, inputs), exactly(model, inputs), name)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert attributes == {module: set(vars(module)) for module in model.modules()}
    for (key, before), after in zip(model.state_dict().items(), folded.state_dict().values(), strict=False):
        assert after.dtype == before.dtype, key
    if name == "channels last":
        assert folded[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "name", ["convolution", "a subclass of Sequential", "1-d and transposed", "a layer under two names"]
)
def test_folding_goes_into_the_stored_weight_under_a_mask_which_stays(name):
    model, inputs = network(name)
    pruning.apply_masks(model, pruning.layer_magnitude_masks(model, 0.5))
    with torch.no_grad():  # as momentum would
        for key in pruning.masks_of(model):
            model.get_submodule(key).parametrizations.weight.original.add_(0.1)
    folded = qz.fold_batchnorm(model)
    assert close(run(folded, inputs), exactly(model, inputs))
    assert all(torch.equal(mask, pruning.masks_of(folded)[key]) for key, mask in pruning.masks_of(model).items())
    pruning.remove_masks(folded)
    assert close(run(folded, inputs), exactly(model, inputs))


def test_folding_keeps_what_is_frozen_and_drops_an_architecture_that_is_no_longer_true():
    model, inputs = network("convolution")
    model[0].requires_grad_(False)
    model.architecture = {"name": "conv_net"}
    folded = qz.fold_batchnorm(model)
    assert [p.requires_grad for p in folded.parameters()] == [False, False, True, True]
    assert not hasattr(folded, "architecture")
    assert model.architecture == {"name": "conv_net"}
    model = seen(nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4)))
    model[1].requires_grad_(False)
    assert [p.requires_grad for p in qz.fold_batchnorm(model).parameters()] == [True, False]


class Read(nn.Module):
    """A convolution and its batch norm, used as ``function`` says."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.norm, self.function = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), function

    def forward(self, x):
        return self.function(self, x)


def with_hook(module, kind):
    hooks = {
        "forward": lambda module, inputs, output: 2 * output,
        "forward_pre": lambda module, inputs: (inputs[0] + 1,),
    }
    getattr(module, f"register_{kind}_hook")(hooks[kind])


def norm_where_it_cannot_be_folded(reason):
    built = {
        "second reader": lambda: Read(lambda m, x: m.norm(m.conv(x)) + m.conv(x)),
        "read past the layer": lambda: Read(lambda m, x: m.norm(m.conv(x)) + m.conv.weight.sum()),
        "after an activation": lambda: Read(lambda m, x: m.norm(torch.relu(m.conv(x)))),
        "before the layer": lambda: Read(lambda m, x: m.conv(m.norm(x))),
        "the same norm elsewhere": lambda: Read(lambda m, x: m.norm(m.norm(m.conv(x)) + x)),
        "not called": lambda: Read(lambda m, x: m.conv(x)),
        "an activation between": lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
    }  # fmt: skip
    if reason in built:
        return seen(built[reason]())
    model = seen(nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3), nn.ReLU()))
    kind, _, place = reason.partition(" hook on ")
    with_hook({"the layer": model[0][0], "the norm": model[1], "what holds the layer": model[0]}[place], kind)
    return model


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("second reader", "follows a layer that is also read without it"),
        ("read past the layer", "follows a layer that is also read without it"),
        ("after an activation", "does not always follow the same"),
        ("before the layer", "does not always follow the same"),
        ("the same norm elsewhere", "does not always follow the same"),
        ("not called", "does not always follow the same"),
        ("an activation between", "does not always follow the same"),
        ("forward hook on the layer", "has hooks, or the layer before it has"),
        ("forward_pre hook on the layer", "has hooks, or the layer before it has"),
        ("forward_pre hook on the norm", "has hooks, or the layer before it has"),
        ("forward hook on what holds the layer", "does not always follow the same"),
    ],
)
def test_a_batch_norm_that_cannot_be_folded_stays_with_a_warning_and_the_outputs_too(reason, message):
    model = norm_where_it_cannot_be_folded(reason)
    with pytest.warns(qz.CoverageWarning, match=f"batch norms that stay: '.*' {message}"):
        folded = qz.fold_batchnorm(model)
    assert close(run(folded, IMAGES), exactly(model, IMAGES))
    assert any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_a_layer_with_a_forward_of_its_own_is_not_folded_into():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight - self.weight.mean(), self.bias)

    class Doubled(nn.Conv2d):
        def _conv_forward(self, inputs, weight, bias):
            return 2 * super()._conv_forward(inputs, weight, bias)

    for kind in (Standardised, Doubled):
        model = seen(nn.Sequential(kind(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()))
        with pytest.warns(qz.CoverageWarning, match="'1' does not always follow"):
            folded = qz.fold_batchnorm(model)
        assert torch.equal(run(folded, IMAGES), run(model, IMAGES))


def test_calls_that_other_arguments_cause_are_looked_at_too():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.between = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()

        def forward(self, x, added=None):
            x = self.conv(x)
            return self.norm(x if added is None else self.between(x) + added)

    model = seen(Optional())
    with pytest.warns(qz.CoverageWarning, match="'norm'"):
        folded = qz.fold_batchnorm(model)
    assert close(run(folded, (IMAGES, IMAGES)), exactly(model, (IMAGES, IMAGES)))


def test_a_batch_norm_after_a_linear_layer_is_folded_for_two_dimensions_alone():
    # of (N, 5, 5) BatchNorm1d takes dimension 1, the layer dimension 2
    model = seen(nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)))
    folded = qz.fold_batchnorm(model)
    assert close(run(folded, drawn(4, 5)), exactly(model, drawn(4, 5)))
    with pytest.raises(ValueError, match=r"takes 2 dimensions, got the shape \(4, 5, 5\)"):
        folded(drawn(4, 5, 5))
    with pytest.raises(ValueError, match=r"takes 2 dimensions, got the shape \(4, 5, 5\)"):
        copy.deepcopy(folded)(drawn(4, 5, 5))


def test_networks_that_cannot_be_traced_are_refused_by_name():
    dynamic = Read(lambda m, x: m.norm(m.conv(x)) if x.sum() > 0 else x)
    with pytest.raises(ValueError, match="torch.fx cannot trace Read, fold its parts one by one"):
        qz.fold_batchnorm(dynamic)
    with pytest.raises(ValueError, match="cannot trace DataParallel, use the network inside, model.module"):
        qz.fold_batchnorm(nn.DataParallel(convolution()))
    with pytest.raises(ValueError, match="cannot trace OptimizedModule, use the network inside, model._orig_mod"):
        qz.fold_batchnorm(torch.compile(convolution(), backend="eager"))
    # a part without a batch norm needs no tracing
    model = seen(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Sequential(nn.ReLU()), Dynamic()))
    assert close(run(qz.fold_batchnorm(model), IMAGES), exactly(model, IMAGES))


class Dynamic(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


# --- weights that others compute --------------------------------------------------------------------------------------


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


COMPUTED = {
    "weight_norm": lambda layer: parametrizations.weight_norm(layer),
    "spectral_norm": lambda layer: parametrizations.spectral_norm(layer),
    "orthogonal": lambda layer: parametrizations.orthogonal(layer),
    "custom": lambda layer: parametrize.register_parametrization(layer, "weight", Halved()),
    "older weight_norm": lambda layer: nn.utils.weight_norm(layer),
    "older spectral_norm": lambda layer: nn.utils.spectral_norm(layer),
    "nn.utils.prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    "nn.utils.prune twice": lambda layer: [prune.random_unstructured(layer, "weight", 0.3) for _ in range(2)],
}
OLDER_ONES_WARN = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")


@pytest.fixture(params=COMPUTED)
def computed(request):
    """A network one of whose weights something else computes, after a backward pass."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        model = seen(convolution())
        COMPUTED[request.param](model[0])
    model.train()(IMAGES).square().sum().backward()
    return seen(model)


def test_bake_makes_any_computed_weight_permanent(computed):
    computed.train()  # in train mode spectral norm changes whenever it is read
    baked = qz.bake(computed).eval()
    assert torch.equal(run(baked, IMAGES), run(computed.eval(), IMAGES))
    assert list(baked.state_dict()) == list(convolution().state_dict())
    assert type(baked[0]) is nn.Conv2d
    assert isinstance(baked[0].weight, nn.Parameter)
    assert not baked[0]._forward_pre_hooks


def test_folding_into_a_computed_weight_is_refused_and_right_after_bake(computed):
    with pytest.raises(
        ValueError, match="batch norm '1' cannot be folded: the weight of the Conv2d is computed by .*bake"
    ):
        qz.fold_batchnorm(computed)
    assert close(run(qz.fold_batchnorm(qz.bake(computed)), IMAGES), exactly(qz.bake(computed), IMAGES))


def test_masks_on_a_computed_weight_are_refused_and_its_zeros_are_counted(computed):
    effective = qz.bake(computed)[0].weight
    state = {name: value.clone() for name, value in computed.train().state_dict().items()}
    assert torch.equal(pruning.prunable_weights(computed)["0"], effective)
    assert all(
        torch.equal(value, state[name]) for name, value in computed.state_dict().items()
    )  # looking moves nothing
    assert pruning.layer_sparsities(computed)["0"] == (effective == 0).double().mean()
    with pytest.raises(ValueError, match="'0' is parametrized already, by .*bake"):
        pruning.apply_masks(computed, pruning.layer_magnitude_masks(computed, 0.5))
    with pytest.raises(ValueError, match="'0' is computed by .*bake"):
        pruning.sensitivity_scan(computed, lambda model: 0.0, [0.5])
    with pytest.raises(ValueError, match="make it permanent first"):
        pruning.channel_groups(computed, IMAGES)


def test_sharing_and_counting_see_what_a_computed_weight_comes_out_as(computed):
    shared = qz.share_model(computed, bits=8)
    found = qz.kmeans_share(qz.bake(computed)[0].weight, bits=8, keep_zeros=True).weight()
    assert torch.equal(shared[0].weight, found.half().float())
    assert count_macs(computed, IMAGES) == count_macs(convolution(), IMAGES) == 4 * (36 * 8 * 27 + 288 * 5)


def test_a_frozen_computed_weight_is_frozen_when_it_is_permanent(computed):
    computed[0].requires_grad_(False)
    assert [p.requires_grad for p in qz.bake(computed).parameters()] == [False] * 2 + [True] * 4


def test_rounding_a_computed_weight_comes_last_or_is_refused(computed):
    hooks = bool(computed[0]._forward_pre_hooks)
    if hooks:
        with pytest.raises(ValueError, match="'0' is computed by .*a hook.*bake"):
            qz.fake_quantize_model(computed)
    plain = qz.bake(computed)
    quantized = qz.fake_quantize_model(plain if hooks else computed, weight_bits=4)
    assert torch.equal(run(quantized, IMAGES), run(qz.fake_quantize_model(plain, weight_bits=4), IMAGES))


# --- quantizers -------------------------------------------------------------------------------------------------------


def rounded_by_pytorch(weight, axis, bits=4):
    """Symmetric, per channel along ``axis``, by PyTorch's operator; half precision in float32."""
    top, weight = 2 ** (bits - 1) - 1, weight.detach() if weight.dtype == torch.float64 else weight.detach().float()
    scale = weight.abs().amax(dim=[dimension for dimension in range(weight.ndim) if dimension != axis]) / top
    zero = torch.zeros(len(scale), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale.float(), zero, axis, -top, top)


@EMBEDDINGS_ARE_LEFT_OUT
@on_each_network
def test_quantized_networks_compute_with_the_weights_that_pytorchs_operator_gives(name):
    model, inputs = network(name)
    quantized = qz.fake_quantize_model(model, weight_bits=4)
    names = [parameter(model, key) for key in pruning.prunable_weights(model)]
    names += ["second.weight"] if name == "tied layers" else []  # counted once, rounded in both places
    weights = {}
    for full in names:
        owner = model.get_submodule(full.rpartition(".")[0])
        axis = 1 if isinstance(owner, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) else 0
        weights[full] = rounded_by_pytorch(owner.get_parameter(full.rpartition(".")[2]), axis)
        computed = getattr(quantized.get_submodule(full.rpartition(".")[0]), full.rpartition(".")[2])
        torch.testing.assert_close(computed, weights[full].to(computed.dtype))
    plain = copy.deepcopy(model)
    for layer in ("out", "second"):
        if name.startswith("tied") and hasattr(plain, layer):  # the embedding is not rounded
            plain.get_submodule(layer).weight = nn.Parameter(plain.get_submodule(layer).weight.detach().clone())
    assert close(run(quantized, inputs), exactly(plain, inputs, weights), name)
    baked = qz.bake(quantized)
    assert close(run(baked, inputs), run(quantized, inputs))
    assert list(baked.state_dict()) == list(model.state_dict())
    assert [type(module) for module in baked.modules()] == [type(module) for module in model.modules()]


@pytest.mark.parametrize("learned_step", [False, True])
@pytest.mark.parametrize(
    "name", ["convolution", "two inputs", "1-d and transposed", "2-d, transposed, grouped", "float64"]
)
def test_rounded_activations_are_those_of_hooks_written_with_pytorchs_operator(name, learned_step):
    model, inputs = network(name)
    ranges = qz.calibrate(model, [inputs])
    settings = {"weight_bits": 8, "learned_step": learned_step}
    quantized = qz.fake_quantize_model(model, activation_bits=4, ranges=ranges, quantize_output=True, **settings)
    expected = qz.bake(qz.fake_quantize_model(model, **settings))
    ran = []

    def rounded(tensor, range_):
        params = qz.qparams_from_range(*range_, bits=4)
        return torch.fake_quantize_per_tensor_affine(tensor, params.scale, params.zero_point, 0, 15)

    for key in ranges:
        layer = expected.get_submodule(key)
        layer.register_forward_pre_hook(lambda layer, given, key=key: (rounded(given[0], ranges[key].inputs),))
        layer.register_forward_hook(lambda layer, given, output, key=key: ran.append(key))
    run(expected, inputs)
    assert list(ranges) == ran
    outputs = ranges[ran[-1]].outputs
    expected.get_submodule(ran[-1]).register_forward_hook(lambda layer, given, output: rounded(output, outputs))
    assert close(run(quantized, inputs), run(expected, inputs))


def test_what_is_frozen_stays_so_under_a_learned_step_and_a_codebook():
    model, inputs = network("convolution")
    model[0].requires_grad_(False)
    quantized = qz.fake_quantize_model(model, learned_step=True)
    shared = qz.share_model(model, bias_bits=2)
    for candidate in (quantized, shared):
        assert not any(parameter.requires_grad for parameter in candidate[0].parameters())
        assert all(parameter.requires_grad for parameter in candidate[4].parameters())
        candidate(inputs).sum().backward()


def test_half_precision_is_rounded_in_float32():
    model, inputs = network("bfloat16")
    ranges = qz.calibrate(model, [inputs])
    assert ranges["0"].inputs == qz.min_max_range([inputs.float()])
    for learned_step in (False, True):
        settings = {"activation_bits": 8, "ranges": ranges, "learned_step": learned_step}
        quantized = qz.fake_quantize_model(model, **settings)
        widened = qz.fake_quantize_model(copy.deepcopy(model).float(), **settings)
        for key in ("0", "4"):
            found, expected = quantized.get_submodule(key).weight, widened.get_submodule(key).weight
            assert torch.equal(found, expected.bfloat16())
        codes = quantized[0].input_quantizer(inputs)
        assert torch.equal(codes, widened[0].input_quantizer(inputs.float()).bfloat16())
        quantized(inputs).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in quantized.parameters())
        assert close(run(widened.bfloat16(), inputs), run(quantized, inputs), "bfloat16")


def test_padded_batches_run_through_an_encoder_whose_activations_are_rounded():
    model, inputs = network("transformer")
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    batch = {"src": inputs, "src_key_padding_mask": padding}
    with pytest.warns(qz.CoverageWarning, match="left out: 'layers.0.self_attn.in_proj_weight', .*only the act"):
        ranges = qz.calibrate(model, [batch])
    with pytest.warns(qz.CoverageWarning, match="the activations of .*in_proj_weight.*out_proj"):
        quantized = qz.fake_quantize_model(model, activation_bits=8, ranges=ranges)
    expected = quantized(**batch)
    with torch.no_grad():  # where PyTorch would compute whole layers in one operator
        found = quantized(**batch)
    torch.testing.assert_close(found[~padding], expected[~padding])


def test_bake_parts_tied_weights_that_are_rounded_in_one_place_only_and_ties_equal_ones():
    model, inputs = network("tied with an embedding")
    with pytest.warns(qz.CoverageWarning, match="left out: 'embed'"):
        quantized = qz.fake_quantize_model(model, weight_bits=3)
    baked = qz.bake(quantized)
    assert torch.equal(run(baked, inputs), run(quantized, inputs))
    assert torch.equal(baked.embed.weight, model.embed.weight)
    model, inputs = network("tied layers")
    assert qz.bake(qz.fake_quantize_model(model, weight_bits=3)).second.weight.shape == (8, 8)
    baked = qz.bake(qz.fake_quantize_model(model, weight_bits=3))
    assert baked.first.weight is baked.second.weight
    baked = qz.bake(qz.fake_quantize_model(model, weight_bits={"first": 3, "second": 2}))
    assert baked.first.weight is not baked.second.weight


@EMBEDDINGS_ARE_LEFT_OUT
@on_each_network
def test_shared_networks_compute_with_what_is_stored_and_loaded(name):
    model, inputs = network(name)
    if name.startswith("tied"):
        with pytest.raises(ValueError, match="(embed and out|first and second) are one tied tensor: name the"):
            qz.share_model(model)
        return
    sharing = qz.share_model(model, bits=3, bias_bits=2)
    shared = qz.shared_weights(sharing)
    plain = {full: entry.weight() for full, entry in shared.items()}
    assert close(run(sharing, inputs), exactly(model, inputs, plain), name)
    qz.load_shared(model, shared)
    assert close(run(sharing, inputs), run(model, inputs))
    matrices = sum(p.numel() for key, p in model.named_parameters() if "norm" not in key and "embed" not in key)
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm) for module in model.modules()):
        assert sum(entry.indices.numel() for entry in shared.values()) == matrices


def test_sharing_refuses_what_would_be_lost():
    model, _ = network("convolution")
    sharing = qz.share_model(model)
    with pytest.raises(ValueError, match="'0' is parametrized already, by SharedValues: .*bake"):
        pruning.apply_masks(sharing, {"0": torch.ones(8, 3, 3, 3, dtype=torch.bool)})
    with pytest.raises(ValueError, match="'0.weight' is shared, and then computed by SharedValues, WeightQuantizer"):
        qz.shared_weights(qz.fake_quantize_model(sharing))
    shared = qz.shared_weights(sharing)
    pruning.apply_masks(model, pruning.layer_magnitude_masks(model, 0.5))
    with pytest.raises(ValueError, match="'0.weight' of the model is computed by a mask: remove_masks"):
        qz.load_shared(model, shared)
    with pytest.raises(ValueError, match="'0.weight' is torch.bfloat16 in the model, which cannot hold"):
        qz.load_shared(convolution().bfloat16(), shared)
    layers = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    shared = qz.shared_weights(qz.share_model(layers))
    with pytest.raises(ValueError, match="'0.bias' is not among the shared weights and would stay behind"):
        qz.renumber_units(shared)
    assert qz.renumber_units(shared, without_biases=True).keys() == shared.keys()


# --- calibration ------------------------------------------------------------------------------------------------------


class Forms(nn.Module):
    """Takes one input or two; a layer that is never called, one whose result is no tensor."""

    def __init__(self):
        super().__init__()
        self.unused, self.last, self.first = nn.Linear(9, 9), nn.Linear(4, 2), nn.Linear(3, 4)
        self.recurrent = nn.GRU(4, 4, batch_first=True)

    def forward(self, x, more=0.0):
        return self.last(self.recurrent(self.first(x + more))[0])


@pytest.mark.filterwarnings("ignore:left out:kdcourse.pruning.CoverageWarning")
def test_calibrate_looks_at_the_layers_that_are_quantized_in_the_order_in_which_they_run():
    model, x = Forms().eval(), drawn(2, 5, 3)
    found = qz.calibrate(model, [x])
    assert list(found) == ["first", "last"]
    assert found["first"].inputs == qz.min_max_range([x])
    assert found["last"].outputs == qz.min_max_range([model(x)])
    assert qz.calibrate(model, [(x, 2 * x)]) == qz.calibrate(model, [{"more": 2 * x, "x": x}])
    assert qz.calibrate(model, [[x, 2 * x]])["first"].inputs == qz.min_max_range([3 * x])
    with pytest.raises(ValueError, match="no range for layer 'unused', which did not run .*weight_bits"):
        qz.fake_quantize_model(model, activation_bits=8, ranges=found)
    chosen = {"first": 8, "last": 8}
    quantized = qz.fake_quantize_model(model, weight_bits=chosen, activation_bits=8, ranges=found, quantize_output=True)
    assert hasattr(quantized.last, "output_quantizer")  # defined before the first, and run after it
    for layers in (nn.ReLU(), nn.MultiheadAttention(4, 2)):
        with pytest.raises(ValueError, match="no nn.Linear or nn.Conv2d, whose activations"):
            qz.calibrate(layers, [x])


def test_calibrate_sees_through_masks_quantizers_and_norms():
    model, inputs = network("convolution")
    pruning.apply_masks(model, pruning.layer_magnitude_masks(model, 0.5))
    parametrizations.weight_norm(model[4], "bias", dim=None)
    found = qz.calibrate(model, [inputs])
    assert found.keys() == {"0", "4"}
    assert found["4"].outputs == qz.min_max_range([model(inputs)])
    assert qz.calibrate(qz.fake_quantize_model(model, weight_bits=8), [inputs]).keys() == {"0", "4"}
    with pytest.raises(ValueError, match="rounds its activations already: calibrate the plain one, or bake"):
        qz.calibrate(qz.fake_quantize_model(model, activation_bits=8, ranges=found), [inputs])


@pytest.mark.parametrize("method", [
    qz.min_max_range, qz.moving_average_range, functools.partial(qz.moving_average_range, momentum=0.3),
    functools.partial(qz.percentile_range, percentile=90), functools.partial(qz.mse_range, bits=3), qz.entropy_range,
    lambda batches: qz.Range(-len(batches), max(batch.abs().max().item() for batch in batches)),
])  # fmt: skip
def test_every_method_finds_what_it_finds_of_the_whole_activations(method):
    model, inputs = network("convolution")
    batches = list((inputs * 3).split(1))
    found = qz.calibrate(model, batches, method=method)
    with torch.no_grad():
        hidden = [model[:4](batch) for batch in batches]
    assert found["0"].inputs == method(batches)
    assert found["4"].inputs == method(hidden)
    assert found["4"].outputs == method([model[4](batch) for batch in hidden])


def test_an_input_given_by_name_is_refused_instead_of_passed_over():
    model = Read(lambda m, x: m.conv(input=x))
    with pytest.raises(ValueError, match="layer 'conv' was given its input by name: put the input first"):
        qz.calibrate(model, [IMAGES])
    ranges = {"conv": qz.LayerRange(qz.Range(0, 1), qz.Range(0, 1))}
    with pytest.raises(ValueError, match="a Conv2d was given its input by name: put the input first"):
        qz.fake_quantize_model(model, activation_bits=8, ranges=ranges)(IMAGES)


MEMORY = """
import resource, sys
import torch
from torch import nn
from kdcourse import quantization as qz

layers = [nn.Conv2d(3, 16, 1)]
for _ in range(30):
    layers += [nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU()]
model, batches = nn.Sequential(*layers).eval(), [torch.rand(1, 3, 192, 192) for _ in range(4)]
if sys.argv[1] == "calibrate":
    qz.calibrate(model, batches)
else:
    with torch.no_grad():
        for batch in batches:
            model(batch)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured with the resource module's kilobytes")
def test_calibrating_takes_hardly_more_memory_than_inference():
    """Kept whole, the activations that go in and out of the 31 convolutions would take 558 MB."""
    peak = {}
    for what in ("run", "calibrate"):
        command = [sys.executable, "-c", MEMORY, what]
        peak[what] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peak["calibrate"] - peak["run"] < 60


# --- integer networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a ReLU used twice", "a layer used twice", "convolution"])
def test_integer_networks_have_every_call_of_a_layer(name):
    model, inputs = network(name)
    model = qz.fold_batchnorm(model)
    ranges = qz.calibrate(model, [inputs])
    settings = {"activation_bits": 8, "ranges": ranges, "quantize_output": name != "a layer used twice"}
    quantized = qz.fake_quantize_model(model, **settings)
    found = qz.integer_network(quantized)
    called = ["0", "2", "4"] if "twice" in name else ["0", "4"]
    assert [layer.name for layer in found.layers] == called
    assert [layer.relu for layer in found.layers] == [True] * (len(called) - 1) + [False]
    difference = (found(inputs) - quantized(inputs)).abs().max()
    step = (
        quantized.get_submodule("4").input_quantizer.scale
        if found.layers[-1].outputs is None
        else found.layers[-1].outputs.scale
    )
    assert difference <= 1.01 * step


def rounded_with(model, inputs):
    return qz.fake_quantize_model(model, activation_bits=8, ranges=qz.calibrate(model, [inputs]))


def test_integer_networks_refuse_what_they_would_lose():
    class Added(nn.Linear):
        def forward(self, x):
            return super().forward(x) + x

    inputs = drawn(4, 8)
    inner = nn.Sequential(nn.Linear(8, 8), Residual(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 3))
    hooked = with_relu_twice()
    hooked[1].register_forward_hook(lambda layer, given, output: output + 1)
    above = with_relu_twice()
    above.register_forward_pre_hook(lambda layer, given: (given[0] + 1,))
    own = with_relu_twice()
    own[1].forward = lambda x: x
    for model, message in [
        (Residual(nn.Linear(8, 8), nn.ReLU()), "a Residual may do anything with its layers: make an nn.Sequential"),
        (inner, "layer '1', Residual, has no integer counterpart"),
        (nn.Sequential(Added(8, 8)), "layer '0', Added, has no integer counterpart"),
        (own, "layer '1', ReLU, has no integer counterpart"),
        (hooked, "'1' has hooks, which would be lost"),
        (above, "'the model' has hooks, which would be lost"),
    ]:
        with pytest.raises(ValueError, match=message):
            qz.integer_network(rounded_with(model, inputs))
    half = rounded_with(with_relu_twice(), inputs).bfloat16()
    with pytest.raises(ValueError, match=r"layer '0' is torch.bfloat16: call integer_network\(model.float\(\)\)"):
        qz.integer_network(half)
    qz.integer_network(half.float())
    model, inputs = network("1-d and transposed")
    for layers, given in ((nn.Sequential(model.conv), inputs), (nn.Sequential(model.up), drawn(2, 4, 7))):
        with pytest.raises(ValueError, match="layer '0', Conv.*1d, has no integer counterpart"):
            qz.integer_network(rounded_with(layers, given))
    model = nn.Sequential(nn.Linear(8, 5))
    network_ = qz.integer_network(rounded_with(model, drawn(4, 5, 8)))
    with pytest.raises(ValueError, match=r"layer '0' takes 2 dimensions, got the shape \(4, 5, 8\)"):
        network_(drawn(4, 5, 8))


# --- counting ---------------------------------------------------------------------------------------------------------


def by_hand(kind):
    """Multiply-accumulates of the networks above, from their sizes alone."""
    attention = 5 * 16 * 48 + 2 * 5 * 5 * 16 + 5 * 16 * 16 + 2 * 5 * 16 * 24  # of one sequence and layer
    gates = {"LSTM": 4, "GRU": 3}.get(kind.split()[0], 0)
    return {
        "transformer": 2 * 2 * attention,
        "LSTM": 12 * (2 * gates * 8 * (6 + 8 + 16 + 8) + 16 * 3),
        "GRU": 12 * (2 * gates * 8 * (6 + 8 + 16 + 8) + 16 * 3),
        "LSTM cell": 3 * (4 * gates * 8 * (6 + 8) + 8 * 3),
        "GRU cell": 3 * (4 * gates * 8 * (6 + 8) + 8 * 3),
        "attention": 2 * (3 * 8 * 8 + 4 * 6 * 8 + 4 * 4 * 8 + 2 * 3 * 4 * 8 + 3 * 8 * 8),
        "two inputs": 4 * (8 * 6 + 4 * 6 + 6 * 3),
        "a layer used twice": 4 * (2 * 8 * 8 + 8 * 3),
        "tied with an embedding": 20 * (16 * 16 + 16 * 20),
        # a transposed convolution multiplies every input with the kernel of each output of its group
        "1-d and transposed": 2 * (7 * 4 * 3 * 3 + 7 * 4 * 3 * 4 + 6 * 3),
        "convolution": 4 * (36 * 8 * 27 + 288 * 5),
        "bfloat16": 4 * (36 * 8 * 27 + 288 * 5),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("name", [
    "transformer", "LSTM", "GRU", "LSTM cell", "GRU cell", "attention", "two inputs", "a layer used twice",
    "tied with an embedding", "1-d and transposed", "convolution", "bfloat16",
])  # fmt: skip
def test_multiply_accumulates_of_other_networks_equal_the_sums_by_hand(name):
    model, inputs = network(name)
    assert count_macs(model, inputs) == by_hand(name)
    assert torch.backends.mha.get_fastpath_enabled()
    pruned = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruning.apply_masks(pruned, pruning.layer_magnitude_masks(pruned, 0.5))
        assert count_macs(qz.fake_quantize_model(pruned, weight_bits=4), inputs) == by_hand(name)


def test_inputs_by_name_packed_sequences_and_products_with_vectors_are_counted():
    model, (x, y) = network("two inputs")
    assert count_macs(model, {"x": x, "y": y}) == by_hand("two inputs")
    assert count_macs(model, {"x": x}) == 4 * (8 * 6 + 6 * 3)
    packed = nn.utils.rnn.pack_sequence([drawn(3, 6), drawn(2, 6)])
    assert count_macs(nn.LSTM(6, 8), packed) == 5 * 4 * 8 * (6 + 8)
    product = Read(lambda m, x: torch.mv(x, x[0]) + torch.dot(x[0], x[1]) + torch.addmv(x[0], x, x[1]))
    assert count_macs(product, drawn(4, 4)) == 16 + 4 + 16
    assert count_macs(nn.Sequential(), drawn(2, 2)) == count_parameters(nn.Sequential()) == 0


def test_products_that_are_not_counted_are_named():
    with pytest.warns(pruning.CoverageWarning, match="not counted: aten::_trilinear"):
        assert count_macs(nn.Bilinear(3, 4, 5), (drawn(2, 3), drawn(2, 4))) == 0
    up = nn.Upsample(scale_factor=2, mode="bilinear")
    assert count_macs(up, IMAGES) == 0  # no product of matrices, and so no warning
    with torch.library._scoped_library("kdcourse_tests", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: 2 * x, "CompositeExplicitAutograd")
        with pytest.warns(pruning.CoverageWarning, match="not counted: kdcourse_tests::twice"):
            count_macs(Read(lambda m, x: torch.ops.kdcourse_tests.twice(x)), IMAGES)


# --- structured pruning -----------------------------------------------------------------------------------------------


def test_channels_of_a_network_with_hooks_are_not_touched():
    model, inputs = network("convolution")
    model[0].register_forward_hook(lambda layer, given, output: output + 1)
    with pytest.raises(ValueError, match="'0' has hooks, which may change channels: remove them first"):
        pruning.prune_filters(model, {"0": torch.arange(4)}, example=inputs)


def test_channels_of_a_network_with_two_inputs_are_followed():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x, y):
            return self.last(torch.relu(self.first(x) + self.second(y)))

    model, inputs = Joined(), (IMAGES, drawn(4, 2, 6, 6))
    kept = pruning.best_channels(pruning.channel_scores(model, "l2", example=inputs), 0.5)
    slim, masked = (surgery(model, kept, example=inputs) for surgery in (pruning.prune_filters, pruning.mask_filters))
    assert slim.second.out_channels == 2
    assert close(run(slim, inputs), run(masked, inputs))


def test_tracing_leaves_no_constants_on_the_network():
    model = Read(lambda m, x: m.conv(x) * torch.tensor(2.0))
    before = set(vars(model))
    with pytest.raises(ValueError, match="cannot follow channels through _tensor_constant0"):
        pruning.channel_groups(model, IMAGES)
    assert set(vars(model)) == before
