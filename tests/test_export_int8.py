"""int8 files of networks with channels that are dead, tiny or unequal, and of those that cannot be quantized."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from kdcourse.export import _grid, quantize_static, quantizing, run, to_onnx

ROWS = torch.rand(64, 8, generator=torch.Generator().manual_seed(0))
IMAGES = torch.linspace(0, 100, 4 * 2 * 64).reshape(4, 2, 8, 8)
SETTINGS = [{}, {"per_channel": False}, {"symmetric_activations": True}, {"reduce_range": True}]


def step(path, name="logits"):
    """The spacing of the levels that an output is rounded to."""
    (found,) = (part for part in onnx.load(path).graph.initializer if part.name == f"{name}_scale")
    return float(numpy_helper.to_array(found))


def dead(layer, *channels, weight=0.0, bias=0.15):
    """The layer with these output channels' weights replaced, so that they give their bias alone."""
    with torch.no_grad():
        axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        layer.weight.index_fill_(axis, torch.tensor(channels), weight)
        layer.bias[list(channels)] = bias
    return layer


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


CASES = {
    "convolution": (lambda: dead(nn.Conv2d(2, 3, 1), 1), IMAGES),
    "linear": (lambda: dead(nn.Linear(8, 3), 0), 100 * ROWS),
    "tiny weights": (lambda: dead(nn.Linear(8, 3), 0, weight=1e-37), 100 * ROWS),
    "all channels": (lambda: dead(nn.Linear(8, 3), 0, 1, 2), 100 * ROWS),
    "depthwise": (lambda: dead(nn.Conv2d(2, 4, 3, groups=2), 0, 3), IMAGES),
    "transposed": (lambda: dead(nn.ConvTranspose2d(2, 3, 1), 2), IMAGES),
    "dead input": (
        lambda: nn.Sequential(dead(nn.Linear(8, 4), 0, 1, 2, 3, bias=-1.0), nn.ReLU(), nn.Linear(4, 3)),
        ROWS,
    ),
}


@pytest.fixture(scope="module", params=CASES)
def dying(request, tmp_path_factory):
    """A network with a dead part, its inputs and its float file."""
    make, inputs = CASES[request.param]
    model, path = seeded(make), tmp_path_factory.mktemp("dying") / "float.onnx"
    to_onnx(model, path, inputs[:2])
    return model, inputs, path


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_bias_of_a_dead_channel_survives(dying, tmp_path, settings):
    model, inputs, path = dying
    quantize_static(path, tmp_path / "int8.onnx", [inputs], **settings)
    with torch.no_grad():
        wanted = model(inputs)
    found = run(tmp_path / "int8.onnx", inputs)
    channels = wanted.transpose(0, 1).flatten(1)
    constant = (channels == channels[:, :1]).all(dim=1)
    assert constant.any()
    gap = (found - wanted)[:, constant].abs().max()
    assert gap <= 0.501 * step(tmp_path / "int8.onnx"), "more than the output's own rounding"


def test_a_grid_that_swallows_a_bias_is_a_fault(tmp_path, monkeypatch):
    """What onnxruntime does by itself: a dead channel's step is 1."""
    make, inputs = CASES["linear"]
    to_onnx(seeded(make), tmp_path / "float.onnx", inputs)
    monkeypatch.setattr(quantizing, "LEAST_RANGE", None)
    with pytest.raises(ValueError, match=r"moved the bias of channel 0 of 'node_linear' by 0\.15.*per_channel=False"):
        quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", [inputs])
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]


def test_weights_that_another_channels_bias_rounds_away_are_a_fault(tmp_path):
    """One step for all weights, which 32 bits for the huge bias make longer than any weight."""
    layer = seeded(lambda: nn.Linear(8, 3))
    with torch.no_grad():
        layer.bias[1] = -1e6
    rows = 1e-3 * ROWS
    to_onnx(nn.Sequential(layer, nn.ReLU()), tmp_path / "float.onnx", rows)
    with pytest.raises(ValueError, match=r"moved the weights of channel \d of 'node_linear'.*try per_channel=True"):
        quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", [rows], per_channel=False)
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", [rows])
    with torch.no_grad():
        gap = (run(tmp_path / "int8.onnx", rows) - layer(rows).relu()).abs().max()
    assert gap < 4 * step(tmp_path / "int8.onnx")


def test_an_output_of_which_nothing_is_left_is_a_fault(tmp_path):
    """The difference of two large numbers, each rounded to a grid that is wider than it."""
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0]]))
    rows = 1000 * ROWS[:, :1].repeat(1, 2) + torch.stack([0.1 * ROWS[:, 1], torch.zeros(64)], dim=1)
    to_onnx(layer, tmp_path / "float.onnx", rows)
    with pytest.raises(ValueError, match=r"8 bits do not suffice.*\['logits'\]"):
        quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", [rows])


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    path = tmp_path_factory.mktemp("linear") / "float.onnx"
    to_onnx(seeded(lambda: nn.Linear(8, 3)), path, ROWS)
    return path


def spoilt(value):
    rows = ROWS.clone()
    rows[3, 2] = value
    return rows


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([ROWS, spoilt(float("nan"))], ValueError, "input 'images' of batch 1 contains NaN or infinity"),
        ([spoilt(float("-inf"))], ValueError, "input 'images' of batch 0 contains NaN or infinity"),
        ([ROWS.to(torch.uint8)], TypeError, "'images' must be torch.float32, got torch.uint8"),
        ([ROWS[:, :4]], ValueError, r"'images' must have shape \(batch, 8\), batch = 64, got \(64, 4\)"),
        (ROWS, TypeError, "batches must be several"),
        ([(ROWS, ROWS)], ValueError, r"inputs are \['images'\], got 2 in order"),
    ],
    ids=["NaN", "infinity", "uint8", "shape", "one tensor", "two inputs"],
)
def test_batches_that_the_file_cannot_be_calibrated_on_are_refused(linear, tmp_path, batches, error, message):
    with pytest.raises(error, match=message):
        quantize_static(linear, tmp_path / "int8.onnx", batches)
    assert not list(tmp_path.iterdir())


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 3), nn.Linear(4, 3)

    def forward(self, wide, narrow):
        return self.left(wide) + self.right(narrow)


def test_several_inputs_are_calibrated_in_order_or_by_name(tmp_path):
    model, narrow = seeded(Sum), 5 * ROWS[:, :4] - 1
    to_onnx(model, tmp_path / "float.onnx", (ROWS, narrow))
    quantize_static(tmp_path / "float.onnx", tmp_path / "tuple.onnx", [(ROWS, narrow)])
    quantize_static(tmp_path / "float.onnx", tmp_path / "dict.onnx", [{"narrow": narrow, "wide": ROWS}])
    assert (tmp_path / "tuple.onnx").read_bytes() == (tmp_path / "dict.onnx").read_bytes()
    with torch.no_grad():
        gap = (run(tmp_path / "dict.onnx", ROWS, narrow) - model(ROWS, narrow)).abs().max()
    assert gap < 5 * step(tmp_path / "dict.onnx")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.ReLU()), ROWS, r"nothing in .*float.onnx can be quantized: .*'Relu'"),
        (nn.LSTM(8, 4, batch_first=True), ROWS[:, None], "can be quantized: .*'LSTM'"),
        (nn.Linear(8, 3).half(), ROWS.half(), r"its weights are \['float16'\], not float32"),
        (nn.Linear(8, 3).double(), ROWS.double(), r"its weights are \['float64'\], not float32"),
        (nn.ConvTranspose2d(2, 4, 1, groups=2), IMAGES, "onnxruntime cannot quantize .*, per_channel=False may help"),
    ],
    ids=["no weights", "LSTM", "float16", "float64", "groups"],
)
def test_what_cannot_be_quantized_is_refused(tmp_path, model, rows, message):
    to_onnx(model, tmp_path / "float.onnx", rows)
    with pytest.raises(ValueError, match=message):
        quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", [rows])
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]


class Tagged(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory, self.out = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, rows):
        return self.out(self.memory(rows)[0].flatten(1))


def test_what_stays_in_floats_is_named(tmp_path):
    model = seeded(Tagged)
    to_onnx(model, tmp_path / "float.onnx", ROWS[:, None])
    with pytest.warns(UserWarning, match=r"stay in floats: LSTM 'node_lstm"):
        quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", [ROWS[:, None]])


def test_the_constants_of_a_sound_file_pass_and_altered_ones_do_not(linear, tmp_path):
    quantize_static(linear, tmp_path / "int8.onnx", [ROWS])
    rounded, exact = onnx.load(tmp_path / "int8.onnx"), _grid.constants(onnx.load(linear))
    _grid.check_constants(rounded, exact, steps=127, per_channel=True)
    for name, what in (("weight", "weights"), ("bias", "bias")):
        moved = {key: value.copy() for key, value in exact.items()}
        moved[name][2] += np.float32(0.05)
        with pytest.raises(ValueError, match=f"moved the {what} of channel 2"):
            _grid.check_constants(rounded, moved, steps=127, per_channel=True)
