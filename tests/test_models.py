"""The networks and their checkpoints: sizes, seeds, and what an interruption or a damaged file leads to."""

import json
import stat

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdcourse import models
from kdcourse.models import conv_net, load_model, mlp, save_model

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
    with pytest.raises(ValueError, match="channels must be a sequence of whole numbers >= 1"):
        conv_net(sizes)
    with pytest.raises(ValueError, match="hidden must be a sequence of whole numbers >= 1"):
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


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"other": "x"},
        {"architecture": "not json"},
        {"architecture": '"mlp"'},
        {"architecture": "[]"},
        {"architecture": json.dumps(MLP | {"name": "resnet"})},
        {"architecture": json.dumps({"hidden": [4]})},
        {"architecture": json.dumps(MLP | {"depth": 3})},
        {"architecture": json.dumps(MLP | {"hidden": [0]})},
        {"architecture": json.dumps(MLP | {"hidden": [5]})},
        {"architecture": json.dumps(MLP | {"hidden": [4, 4]})},
    ],
    ids=str,
)
def test_a_checkpoint_of_unknown_or_unfitting_architecture_is_named(metadata, tmp_path):
    path = tmp_path / "foreign.safetensors"
    tensors = dict(mlp((4,)).state_dict())
    save_file(tensors, path, metadata={"architecture": json.dumps(MLP)})
    load_model(path)  # the tensors are right, so what follows is about the metadata
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"foreign\.safetensors is damaged or was not written by"):
        load_model(path)


def test_the_module_states_the_shape_of_the_data():
    assert (models.IMAGE_SIZE, models.CLASSES) == (28, 10)
