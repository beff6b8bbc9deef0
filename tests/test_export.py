"""ONNX files against eager PyTorch, our integers against onnxruntime's, and a stopwatch with a clock of its own."""

import ast
import gc
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from kdcourse import export
from kdcourse import quantization as qz
from kdcourse.data import data_dir, load_mnist
from kdcourse.metrics import accuracy, agreement
from kdcourse.models import conv_net, load_model


def sample(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def digits():
    return load_mnist()


@pytest.fixture(scope="module")
def calibration(digits):
    return digits.train.images[:512].split(128)


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    return load_model(data_dir() / "teacher.safetensors")


@pytest.fixture(scope="module")
def files(tmp_path_factory, teacher, digits, calibration):
    """The shipped teacher as float and as int8 files."""
    folder = tmp_path_factory.mktemp("onnx")
    export.to_onnx(teacher, folder / "float.onnx", digits.test.images[:1])
    export.quantize_static(folder / "float.onnx", folder / "int8.onnx", calibration)
    return folder


def constants(path) -> dict[str, np.ndarray]:
    return {part.name: numpy_helper.to_array(part) for part in onnx.load(path).graph.initializer}


class Branching(nn.Module):
    """A layer whose course depends on its data."""

    def forward(self, images):
        return images * 2 if images.sum() > 0 else images


# --- to_onnx ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 200])
def test_the_file_computes_what_the_model_does_on_any_batch_size(files, teacher, digits, batch):
    images = digits.test.images[:batch]
    with torch.no_grad():
        expected = teacher(images)
    torch.testing.assert_close(export.run(files / "float.onnx", images), expected, rtol=1e-4, atol=1e-4)
    two_threads = export.session(files / "float.onnx", threads=2)(images)
    torch.testing.assert_close(two_threads, expected, rtol=1e-4, atol=1e-4)


def test_the_file_is_one_valid_model_without_traces_of_the_machine(files):
    assert sorted(path.name for path in files.iterdir()) == ["float.onnx", "int8.onnx"]
    for name in ("float.onnx", "int8.onnx"):
        onnx.checker.check_model(files / name, full_check=True)
    model = onnx.load(files / "float.onnx", load_external_data=False)
    assert [part.name for part in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    assert [opset.version for opset in model.opset_import] == [20]
    content = (files / "float.onnx").read_bytes()
    assert b".py" not in content
    assert b"kdcourse" not in content


def test_exports_in_eval_mode_moves_no_statistics_and_restores_modes_silently(tmp_path, capfd):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.BatchNorm1d(4), nn.Dropout(0.9)).train()
    model[2].running_mean.fill_(3.0)
    model[3].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export.to_onnx(model, tmp_path / "net.onnx", sample(4, 1, 28, 28), opset=18)
    assert [module.training for module in model] == [True, True, True, False]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    images = sample(5, 1, 28, 28, seed=1)
    torch.testing.assert_close(export.run(tmp_path / "net.onnx", images), model.eval()(images).detach())
    assert [opset.version for opset in onnx.load(tmp_path / "net.onnx").opset_import] == [18]
    assert capfd.readouterr() == ("", "")


def test_names_the_layer_that_cannot_be_exported_and_keeps_the_old_file(tmp_path, capfd):
    (tmp_path / "net.onnx").write_text("the file before")
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(784, 4), Branching()), nn.ReLU()).train()
    with pytest.raises(ValueError, match="layer '1.1', Branching, cannot be exported to ONNX: .*data-dependent"):
        export.to_onnx(model, tmp_path / "net.onnx", sample(2, 1, 28, 28))
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_text() == "the file before"
    assert capfd.readouterr() == ("", "")


def test_an_example_that_does_not_fit_is_the_examples_fault(tmp_path):
    with pytest.raises(ValueError, match="does not run on this example"):
        export.to_onnx(conv_net((4,)), tmp_path / "net.onnx", torch.zeros(2, 3))
    for shape in ((0, 1, 28, 28), ()):
        with pytest.raises(ValueError, match="at least one input"):
            export.to_onnx(conv_net((4,)), tmp_path / "net.onnx", torch.zeros(shape))


# --- quantize_static and run ------------------------------------------------------------------------------------------


def test_onnxruntimes_integers_equal_ours_to_the_last_one(files, teacher, calibration):
    folded = qz.fold_batchnorm(teacher)
    ranges = qz.calibrate(folded, calibration)
    model = qz.fake_quantize_model(folded, activation_bits=8, ranges=ranges, quantize_output=True)
    network = qz.integer_network(model)
    theirs = constants(files / "int8.onnx")
    activations = ["images", "relu", "relu_1", "relu_2", "logits"]
    params = [layer.inputs for layer in network.layers] + [network.layers[-1].outputs]
    for name, ours in zip(activations, params, strict=True):
        assert theirs[f"{name}_scale"] == pytest.approx(ours.scale.item(), rel=1e-5), name
        assert theirs[f"{name}_zero_point"] == ours.zero_point.item(), name
    for layer in network.layers:
        assert np.array_equal(theirs[f"{layer.name}.weight_quantized"], layer.weight.numpy())
        np.testing.assert_allclose(theirs[f"{layer.name}.weight_scale"], layer.weight_scale.numpy(), rtol=1e-5)
        biases = [part for part in theirs.values() if part.dtype == np.int32 and part.shape == layer.bias.shape]
        assert any(np.array_equal(part, layer.bias.numpy()) for part in biases), layer.name


def test_the_int8_file_agrees_with_our_integers_and_keeps_the_accuracy(files, teacher, digits, calibration):
    folded = qz.fold_batchnorm(teacher)
    ranges = qz.calibrate(folded, calibration)
    network = qz.integer_network(qz.fake_quantize_model(folded, activation_bits=8, ranges=ranges, quantize_output=True))
    test = digits.test
    theirs, ours = export.run(files / "int8.onnx", test.images), network(test.images)
    assert agreement(theirs, ours) >= 0.995
    # the same file without fusion, so that this holds also where a processor's 16-bit sums saturate
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    unfused = onnxruntime.InferenceSession(files / "int8.onnx", options, providers=["CPUExecutionProvider"])
    logits = torch.from_numpy(unfused.run(None, {"images": test.images.numpy()})[0])
    units = ((logits - ours) / network.layers[-1].outputs.scale).abs()
    assert units.max() <= 1 + 1e-3
    assert (units > 0.5).double().mean() < 0.08
    with torch.no_grad():
        assert accuracy(theirs, test.labels) >= accuracy(teacher(test.images), test.labels) - 0.005


def test_the_int8_file_is_a_third_of_the_size(files):
    assert export.file_bytes(files / "float.onnx") == len((files / "float.onnx").read_bytes())
    assert export.file_bytes(files / "int8.onnx") < 0.36 * export.file_bytes(files / "float.onnx")


@pytest.mark.parametrize(
    "settings", [{"per_channel": False}, {"reduce_range": True}, {"symmetric_activations": True}], ids=str
)
def test_options_reach_the_runtime(files, tmp_path, calibration, digits, settings, capfd):
    export.quantize_static(files / "float.onnx", tmp_path / "int8.onnx", calibration, **settings)
    assert capfd.readouterr() == ("", "")
    found = constants(tmp_path / "int8.onnx")
    assert found["conv2.weight_scale"].shape == (() if "per_channel" in settings else (32,))
    assert abs(found["conv2.weight_quantized"].astype(int)).max() == (64 if "reduce_range" in settings else 127)
    assert int(found["logits_zero_point"]) in ({127, 128} if "symmetric_activations" in settings else range(140, 160))
    logits = export.run(tmp_path / "int8.onnx", digits.test.images)
    assert accuracy(logits, digits.test.labels) > 0.97


def test_refuses_files_and_batches_that_are_not_there_or_damaged(files, tmp_path, calibration):
    for call in (export.run, lambda path, images: export.quantize_static(path, tmp_path / "int8.onnx", [images])):
        with pytest.raises(FileNotFoundError, match="missing.onnx"):
            call(tmp_path / "missing.onnx", calibration[0])
        (tmp_path / "damaged.onnx").write_bytes((files / "float.onnx").read_bytes()[:5000])
        with pytest.raises(ValueError, match="damaged.onnx"):
            call(tmp_path / "damaged.onnx", calibration[0])
    for batches in ([], [calibration[0][:0]]):
        with pytest.raises(ValueError, match="no batches to calibrate on"):
            export.quantize_static(files / "float.onnx", tmp_path / "int8.onnx", batches)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.onnx"]


def test_onnx_is_imported_only_when_it_is_needed_and_its_absence_says_what_to_install(monkeypatch, tmp_path):
    for path in Path(export.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = [part for part in ast.walk(tree) if isinstance(part, ast.Import | ast.ImportFrom)]
        assert not any("onnx" in ast.unparse(part) for part in imported if not getattr(part, "level", 0))
    (tmp_path / "net.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"onnxruntime is not installed: pip install 'kdcourse\[export\]'"):
        export.run(tmp_path / "net.onnx", torch.zeros(1))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match="onnxscript is not installed"):
        export.to_onnx(nn.Flatten(), tmp_path / "net.onnx", torch.zeros(2, 3))


# --- latency, on a clock that only the timed functions move -----------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch):
        self.now, self.calls = 100.0, []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def taking(self, name: str, *milliseconds: float):
        left = list(milliseconds)

        def call() -> None:
            self.calls.append((name, torch.get_num_threads(), gc.isenabled(), torch.is_inference_mode_enabled()))
            self.now += left.pop(0) / 1000

        return call


def test_latency_gives_median_and_quartiles_without_the_warm_up(monkeypatch):
    clock = Clock(monkeypatch)
    slow_start = clock.taking("a", 900, 800, 1, 2, 3, 4, 50)
    steady = clock.taking("b", *[7] * 7)
    found = export.latency({"a": slow_start, "b": steady}, repeats=5, warm_up=2)
    assert list(found) == ["a", "b"]
    assert found["a"] == pytest.approx((3, 2, 4))
    assert found["b"] == pytest.approx((7, 7, 7))
    assert found["a"].median == pytest.approx(3)
    assert found["a"].low == pytest.approx(2)


def test_latency_takes_turns_and_changes_who_goes_first(monkeypatch):
    clock = Clock(monkeypatch)
    export.latency({name: clock.taking(name, *[1] * 4) for name in "abc"}, repeats=3, warm_up=1)
    assert "".join(name for name, *_ in clock.calls) == "cab" + "abc" + "bca" + "cab"


@pytest.mark.parametrize("fails", [False, True])
def test_latency_fixes_threads_and_rests_the_collector_and_restores_both(monkeypatch, fails):
    clock, before = Clock(monkeypatch), torch.get_num_threads()
    calls = {"a": clock.taking("a", *([1] * 2 if fails else [1] * 3))}
    try:
        torch.set_num_threads(2)
        if fails:
            with pytest.raises(IndexError):
                export.latency(calls, repeats=3, warm_up=0)
        else:
            export.latency(calls, repeats=3, warm_up=0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert gc.isenabled()
    assert {call[1:] for call in clock.calls} == {(1, False, True)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repeats": 1}, "repeats must be an integer >= 2, got 1"),
        ({"repeats": 2.5}, "repeats must be an integer >= 2, got 2.5"),
        ({"warm_up": -1}, "warm_up must be an integer >= 0, got -1"),
        ({"threads": 0}, "threads must be an integer >= 1, got 0"),
        ({"threads": True}, "threads must be an integer >= 1, got True"),
    ],
)
def test_latency_refuses_settings_that_are_no_counts(settings, message):
    with pytest.raises(ValueError, match=message):
        export.latency({"a": list}, **settings)


def test_latency_refuses_nothing_to_time():
    with pytest.raises(ValueError, match="nothing to time"):
        export.latency({})
    with pytest.raises(TypeError, match=r"\['b'\] cannot be called: pass functions"):
        export.latency({"a": list, "b": torch.zeros(3)})
    with pytest.raises(TypeError, match="functions by name"):
        export.latency([list])
