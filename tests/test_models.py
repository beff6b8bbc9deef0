"""The networks and their checkpoints: sizes, seeds, and what an interruption or a damaged file leads to."""

import copy
import json
import re
import stat
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdcourse import models
from kdcourse.models import conv_net, load_model, mlp, save_model
from kdcourse.pruning import apply_masks, layer_magnitude_masks, mask_filters, prune_filters, remove_masks
from kdcourse.quantization import fake_quantize_model, fold_batchnorm, share_model

IMAGES = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
BUILDERS = {"conv_net": conv_net, "mlp": mlp, "mlp with dropout": lambda seed=0: mlp((16, 8), dropout=0.3, seed=seed)}
every_network = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_conv_net_has_the_number_of_parameters_that_its_docstring_states():
    assert f"{sum(parameter.numel() for parameter in conv_net().parameters()):,}" == "26,458"
    assert "26,458" in conv_net.__doc__


def test_conv_net_halves_the_side_with_strides_and_holds_no_pooling():
    model, sides, values = conv_net().eval(), [], IMAGES
    for name, layer in model.named_children():
        values = layer(values)
        if name.startswith("conv"):
            sides.append(tuple(values.shape[1:]))
    assert sides == [(16, 14, 14), (32, 7, 7), (48, 4, 4)]
    assert values.shape == (5, 10)
    assert {type(layer).__name__ for layer in model} == {"Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Linear"}


@pytest.mark.parametrize("channels", [(), (3,), (4, 5, 6, 7, 8, 9)])
def test_conv_net_takes_any_depth(channels):
    assert conv_net(channels).eval()(IMAGES).shape == (5, 10)


def test_mlp_has_relu_and_dropout_after_every_hidden_layer_and_not_after_the_last():
    kinds = [type(layer).__name__ for layer in mlp((16, 8), dropout=0.3)]
    assert kinds == ["Flatten", *["Linear", "ReLU", "Dropout"] * 2, "Linear"]
    assert mlp((16,), dropout=0.3).dropout1.p == 0.3
    assert [type(layer).__name__ for layer in mlp((16,))] == ["Flatten", "Linear", "ReLU", "Linear"]


def test_mlp_without_hidden_layers_is_multinomial_logistic_regression():
    model = mlp(())
    expected = IMAGES.reshape(5, 784) @ model.classes.weight.T + model.classes.bias
    torch.testing.assert_close(model(IMAGES), expected)


@every_network
def test_the_same_seed_gives_bit_identical_weights_and_another_seed_others(build):
    assert same_weights(build(seed=3), build(seed=3))
    assert not same_weights(build(seed=3), build(seed=4))


@every_network
def test_building_neither_reads_nor_moves_the_global_random_state(build):
    torch.manual_seed(1)
    first = build(seed=3)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same_weights(build(seed=3), first)


@pytest.mark.parametrize("sizes", [16, (16, 0), (-1,), (1.5,), ("16",)])
def test_sizes_that_are_not_whole_numbers_above_zero_are_refused(sizes):
    with pytest.raises(ValueError, match="channels must be a sequence of integers >= 1"):
        conv_net(sizes)
    with pytest.raises(ValueError, match="hidden must be a sequence of integers >= 1"):
        mlp(sizes)


@every_network
def test_a_checkpoint_gives_back_the_network_bit_for_bit_in_eval_mode(build, tmp_path):
    model = build(seed=3).train()
    model(IMAGES)  # moves the batch-norm statistics, which belong to the checkpoint
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert same_weights(loaded, model)
    assert not loaded.training
    assert torch.equal(loaded(IMAGES), model.eval()(IMAGES))
    assert repr(loaded) == repr(model)
    assert loaded.architecture == model.architecture


def test_loading_does_not_move_the_global_random_state(tmp_path):
    save_model(conv_net(), tmp_path / "model.safetensors")
    state = torch.get_rng_state()
    load_model(tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_saved_checkpoint_is_the_only_file_and_readable_for_others(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(mlp((4,)), path)
    save_model(mlp((5,)), path)  # over the old one
    assert list(tmp_path.iterdir()) == [path]
    assert load_model(path).linear1.out_features == 5
    assert path.stat().st_mode & stat.S_IROTH


@pytest.mark.parametrize("interrupted", ["pathlib.Path.write_bytes", "os.replace"])
def test_an_interrupted_write_leaves_the_old_checkpoint_whole_and_no_scraps(interrupted, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_model(mlp((4,), seed=1), path)
    before = path.read_bytes()

    def interrupt(*arguments):
        if interrupted == "pathlib.Path.write_bytes":
            with open(arguments[0], "wb") as file:
                file.write(arguments[1][:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(interrupted, interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_model(mlp((4,), seed=2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_network_that_could_not_be_rebuilt_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"no \.architecture"):
        save_model(nn.Linear(2, 2), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.safetensors"):
        load_model(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_a_truncated_checkpoint_is_named(keep, tmp_path):
    path = tmp_path / "cut.safetensors"
    save_model(mlp((4,)), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut\.safetensors is damaged"):
        load_model(path)


MLP = {"name": "mlp", "hidden": [4], "dropout": 0.0}


def foreign(path, metadata):
    """A file whose tensors are right, with other metadata."""
    tensors = dict(mlp((4,)).state_dict())
    save_file(tensors, path, metadata={"architecture": json.dumps(MLP)})
    load_model(path)
    save_file(tensors, path, metadata=metadata)


@pytest.mark.parametrize("metadata", [None, {"other": "x"}], ids=str)
def test_a_file_that_save_model_has_not_written_is_named(metadata, tmp_path):
    foreign(tmp_path / "foreign.safetensors", metadata)
    with pytest.raises(ValueError, match=r"foreign\.safetensors was not written by"):
        load_model(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize(
    "architecture",
    [
        "not json",
        '"mlp"',
        "[]",
        json.dumps(MLP | {"name": "resnet"}),
        json.dumps({"hidden": [4]}),
        json.dumps(MLP | {"depth": 3}),
        json.dumps(MLP | {"hidden": [0]}),
        json.dumps(MLP | {"hidden": [5]}),
        json.dumps(MLP | {"hidden": [4, 4]}),
        json.dumps(MLP | {"hidden": [10**9, 10**9]}),
        json.dumps(MLP | {"dropout": float("nan")}),
        "[" * 10**5,
    ],
    ids=lambda text: text[:60],
)
def test_an_unknown_or_unfitting_architecture_is_named(architecture, tmp_path):
    foreign(tmp_path / "foreign.safetensors", {"architecture": architecture})
    with pytest.raises(ValueError, match=r"foreign\.safetensors holds a network that cannot be rebuilt"):
        load_model(tmp_path / "foreign.safetensors")


def test_tensors_of_another_type_are_not_rounded_on_the_way(tmp_path):
    tensors = {name: tensor.double() for name, tensor in mlp((4,)).state_dict().items()}
    save_file(tensors, tmp_path / "file", metadata={"architecture": json.dumps(MLP)})
    with pytest.raises(ValueError, match="cannot be rebuilt.*float64"):
        load_model(tmp_path / "file")


def test_a_flipped_bit_is_damage(tmp_path):
    path = tmp_path / "file"
    save_model(mlp((4,)), path)
    content = path.read_bytes()
    for place in range(len(content) - 1000, len(content), 37):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match="file is damaged"):
            load_model(path)


# ---- what cannot be rebuilt is refused, by name


def changed(name, **attributes):
    def change(model):
        for attribute, value in attributes.items():
            setattr(model.get_submodule(name), attribute, value)
        return model

    return change


def renamed(model):
    model._modules["other"] = model._modules.pop("classes")
    return model


def reordered(model):
    layers = dict(model._modules)
    model._modules.clear()
    model._modules.update({"relu1": layers.pop("relu1"), **layers})
    return model


def subclassed(model):
    class Twice(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    other = Twice(OrderedDict(model._modules))
    other.architecture = model.architecture
    return other


def tied(model):
    model.conv2.weight = nn.Parameter(torch.zeros(4, 4, 3, 3).to(memory_format=torch.channels_last))
    model.norm1.weight = model.norm2.weight
    return model


def masked(model):
    apply_masks(model, layer_magnitude_masks(model, 0.5))
    return model


def hooked(model):
    model.conv1.register_forward_hook(lambda *arguments: None)
    return model


def hooked_tensor(model):
    model.classes.weight.register_hook(lambda gradient: 2 * gradient)
    return model


def pruned_by_torch(model):
    nn.utils.prune.l1_unstructured(model.conv1, "weight", 0.5)
    return model


def shared(model):
    return share_model(model, bits=2)


def half_compiled(model):
    model.conv1 = torch.compile(model.conv1)
    return model


UNLOADABLE = {
    "masked": (masked, "'conv1' computes its weights"),
    "rounded": (lambda m: fake_quantize_model(m), "'conv1' computes its weights"),
    "shared": (shared, "'conv1' computes its weights"),
    "spectral norm": (changed("", conv1=nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 3))), "computes its w"),
    "pruned by torch": (pruned_by_torch, "'conv1' has hooks"),
    "a layer compiled": (half_compiled, "layer 'conv1._orig_mod' where it has 'norm1'"),
    "replaced": (changed("", relu1=nn.GELU()), "'relu1' is GELU, not ReLU"),
    "a subclass": (changed("", relu1=type("Mine", (nn.ReLU,), {})()), "'relu1' is Mine, not ReLU"),
    "added": (changed("", more=nn.Identity()), "there is layer 'more' where it has None"),
    "removed": (lambda m: m[:-1], "no .architecture"),
    "renamed": (renamed, "layer 'other' where it has 'classes'"),
    "reordered": (reordered, "layer 'relu1' where it has 'conv1'"),
    "its own forward": (subclassed, "it is Twice, not Sequential"),
    "a patched forward": (changed("relu1", forward=lambda x: x), "'relu1' has a forward of its own"),
    "another eps": (changed("norm1", eps=0.1), "'norm1' has eps = 0.1, not 1e-05"),
    "another momentum": (changed("norm2", momentum=None), "'norm2' has momentum = None"),
    "another stride": (changed("conv2", stride=(1, 1)), "'conv2' has stride"),
    "in place": (changed("relu2", inplace=True), "'relu2' has inplace = True"),
    "no bias": (changed("classes", bias=None), "'classes' has bias more or less"),
    "other width": (changed("", classes=nn.Linear(196, 11)), "'classes' has out_features = 11"),
    "float64": (lambda m: m.double(), "'conv1' has weight in torch.float64"),
    "bfloat16": (lambda m: m.bfloat16(), "'conv1' has weight in torch.bfloat16"),
    "meta": (lambda m: m.to("meta"), "no plain weight"),
    "hooks": (hooked, "'conv1' has hooks"),
    "a hook on a tensor": (hooked_tensor, "'classes' has a hook on weight"),
    "tied": (tied, "'norm2' is tied to 'norm1'"),
    "a layer used twice": (lambda m: changed("", relu2=m.relu1)(m), "'relu2' is tied to 'relu1'"),
    "another architecture": (lambda m: changed("", architecture={"name": "mlp", "hidden": [3]})(m), "where it has"),
    "no architecture of ours": (lambda m: changed("", architecture={"name": "resnet"})(m), "no network can be rebuilt"),
    "architecture of odd kind": (lambda m: changed("", architecture=[3])(m), "no network can be rebuilt"),
    "folded": (fold_batchnorm, "no .architecture"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), UNLOADABLE.values(), ids=UNLOADABLE)
def test_what_cannot_be_rebuilt_is_refused_by_name_before_anything_is_written(change, said, tmp_path):
    model = change(conv_net((4, 4)).eval())
    with pytest.raises(ValueError, match=re.escape(said)):
        save_model(model, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_another_dropout_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'dropout1' has p = 0.1, not 0.3"):
        save_model(changed("dropout1", p=0.1)(mlp((4,), dropout=0.3)), tmp_path / "file")


def pruned(model):
    kept = {"conv1": torch.tensor([0, 2]), "conv2": torch.tensor([1])}
    return prune_filters(model, kept, example=IMAGES)


def unmasked(model):
    remove_masks(masked(model))
    return model


def one_storage(model):
    """All weights as pieces of one long vector."""
    flat = torch.cat([p.detach().permute(0, 2, 3, 1).flatten() if p.ndim == 4 else p.detach().flatten()
                      for p in model.parameters()])  # fmt: skip
    start = 0
    for p in model.parameters():
        piece = flat[start : start + p.numel()]
        rows, *window = p.shape
        p.data = (
            piece.reshape(rows, *window[1:], window[0]).permute(0, 3, 1, 2) if window[1:] else piece.reshape(p.shape)
        )
        start += p.numel()
    return model


REBUILT = {
    "compiled": torch.compile,
    "compiled in place": lambda m: m.compile() or m,
    "data parallel": nn.DataParallel,
    "both": lambda m: torch.compile(nn.DataParallel(m)),
    "pruned": pruned,
    "filters at zero": lambda m: mask_filters(m, {"conv1": torch.tensor([1])}, example=IMAGES),
    "masks removed": unmasked,
    "frozen": lambda m: m.requires_grad_(False),
    "with notes": lambda m: changed("", note="mine")(m),
    "one storage": one_storage,
    "copied": copy.deepcopy,
    "another order in memory": lambda m: m.to(memory_format=torch.contiguous_format),
}  # fmt: skip


@pytest.mark.parametrize("change", REBUILT.values(), ids=REBUILT)
def test_what_wraps_or_leaves_no_trace_is_saved_and_comes_back_bit_for_bit(change, tmp_path):
    model = change(conv_net((4, 4)).eval())
    save_model(model, tmp_path / "file")
    inner = getattr(model, "_orig_mod", model)
    inner = getattr(getattr(inner, "module", inner), "_orig_mod", getattr(inner, "module", inner))
    assert torch.equal(load_model(tmp_path / "file")(IMAGES), inner(IMAGES))


def test_what_is_no_module_is_refused(tmp_path):
    with pytest.raises(TypeError, match="needs an nn.Module, got function"):
        save_model(torch.compile(torch.compile(mlp((4,)))), tmp_path / "file")


@pytest.mark.parametrize("order", ["[1]", "[0, 0, 0, 0]", "[9e99, 1, 1, 1]", "[1000000000000, 1, 1, 1]", "NaN", "{}"])
def test_a_damaged_order_in_memory_is_named(order, tmp_path):
    model = conv_net((4,))
    about = {"architecture": json.dumps(model.architecture), "strides of conv1.weight": order}
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, tmp_path / "file", metadata=about)
    with pytest.raises(ValueError, match="cannot be rebuilt"):
        load_model(tmp_path / "file")


@pytest.mark.parametrize("defaults", [torch.float64, torch.bfloat16], ids=str)
def test_the_defaults_of_the_moment_change_nothing(defaults, tmp_path):
    model = conv_net((4, 4)).eval()
    torch.set_default_dtype(defaults)
    try:
        with torch.device("meta"):
            save_model(model, tmp_path / "file")
            loaded = load_model(tmp_path / "file")
        with pytest.raises(ValueError, match="'conv1' has weight in"):
            save_model(conv_net((4, 4)), tmp_path / "other")
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(loaded(IMAGES), model(IMAGES))


def test_the_module_states_the_shape_of_the_data():
    assert (models.IMAGE_SIZE, models.CLASSES) == (28, 10)
