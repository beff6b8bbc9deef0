"""ONNX files, int8 ones among them, run by onnxruntime, and latencies that can be compared."""

import contextlib
import gc
import io
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._base.extras import needed
from ._base.files import write_whole
from .training import frozen

StrPath = str | os.PathLike[str]


class Latency(NamedTuple):
    """Milliseconds a call: the median, and the quartiles below and above it."""

    median: float
    low: float
    high: float


def to_onnx(model: nn.Module, path: StrPath, example: Tensor, *, opset: int = 20) -> None:
    """Write ``model``, in eval mode, as one checked ONNX file with input "images", output "logits", any batch size.

    ``example`` is a batch like those to come. The file is written beside ``path`` and renamed when whole; the
    model's modes are restored. A fake-quantized model has to be baked first. Raises ``ValueError`` naming the first
    layer that cannot be exported.
    """
    onnx = needed("onnx", extra="export")
    needed("onnxscript", extra="export")
    if example.ndim == 0 or len(example) == 0:
        raise ValueError(f"example must be a batch of at least one input, got shape {tuple(example.shape)}")
    with frozen(model), _quiet():
        try:
            exported = _export(model, example, opset)
        except Exception as error:  # the exporter raises many kinds
            culprit, why = _culprit(model, example, opset), _head(error.__cause__ or error)
            # the exporter's own message is pages long
            raise ValueError(f"{culprit} cannot be exported to ONNX: {why}") from None
        for part in (exported.graph, *exported.graph.node, *exported.graph.value_info, *exported.graph.input):
            part.ClearField("metadata_props")  # where in which source file each operator came from
        onnx.checker.check_model(exported, full_check=True)
    write_whole(path, exported.SerializeToString())


def quantize_static(
    float_path: StrPath,
    path: StrPath,
    batches: Iterable[Tensor],
    *,
    per_channel: bool = True,
    reduce_range: bool = False,
    symmetric_activations: bool = False,
) -> None:
    """Write an int8 copy of an ONNX file: uint8 activations, int8 weights, the ranges the extremes over ``batches``.

    Quantize and dequantize operators are put around the real ones (QDQ), for the runtime to fuse. ``per_channel``:
    a weight scale for each output channel; ``reduce_range``: 7-bit weights, for x86 processors without VNNI, whose
    16-bit sums may saturate; ``symmetric_activations``: zero in the middle. Raises ``ValueError`` for no batches or
    a file that is no ONNX model, ``FileNotFoundError`` for none.
    """
    quantization = needed("onnxruntime.quantization", extra="export")
    preprocess = needed("onnxruntime.quantization.shape_inference", extra="export").quant_pre_process
    reader = _batch_reader(_input_name(float_path), batches)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        preprocess(os.fspath(float_path), os.fspath(prepared))
        quantization.quantize_static(
            prepared,
            quantized,
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=per_channel,
            reduce_range=reduce_range,
            extra_options={"ActivationSymmetric": symmetric_activations},
        )
        content = quantized.read_bytes()
    write_whole(path, content)


def session(path: StrPath, *, threads: int = 1) -> Callable[[Tensor], Tensor]:
    """Load an ONNX file into onnxruntime, on the CPU; the function returned takes images and gives logits.

    Raises ``FileNotFoundError``, or ``ValueError`` when the file is damaged.
    """
    onnxruntime = needed("onnxruntime", extra="export")
    _check_is_file(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone
    try:
        loaded = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base but this
        raise ValueError(f"{path} is no ONNX model that onnxruntime can run: {_head(error)}") from error
    name = loaded.get_inputs()[0].name

    def call(images: Tensor) -> Tensor:
        return torch.from_numpy(loaded.run(None, {name: images.detach().cpu().numpy()})[0])

    return call


def run(path: StrPath, images: Tensor, *, threads: int = 1) -> Tensor:
    """Logits of ``images`` from an ONNX file: `session` for one call."""
    return session(path, threads=threads)(images)


def latency(
    callables: Mapping[str, Callable[[], object]], *, repeats: int = 30, warm_up: int = 5, threads: int = 1
) -> dict[str, Latency]:
    """Time functions without arguments against each other: by name, the milliseconds of a call.

    They take turns, one call each a round and another one first in every round, so that a busy machine hurts all
    alike; ``warm_up`` rounds are not counted. PyTorch uses ``threads`` meanwhile (give a `session` as many), and
    the garbage collector rests. Raises ``ValueError`` for nothing to time or fewer than two repeats.
    """
    if not callables or repeats < 2 or warm_up < 0:
        raise ValueError(f"need functions, repeats >= 2 and warm_up >= 0, got {list(callables)}, {repeats}, {warm_up}")
    times: dict[str, list[float]] = {name: [] for name in callables}
    names = list(callables)
    with _timing(threads), torch.inference_mode():
        for number in range(-warm_up, repeats):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                start = time.perf_counter()
                callables[name]()
                elapsed = time.perf_counter() - start
                if number >= 0:
                    times[name].append(1000 * elapsed)
    return {name: _summary(found) for name, found in times.items()}


def file_bytes(path: StrPath) -> int:
    """Size of a file in bytes."""
    return Path(path).stat().st_size


def _summary(times: list[float]) -> Latency:
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Latency(median, low, high)


def _export(model: nn.Module, example: Tensor, opset: int) -> Any:
    # a batch of one would be taken for a constant
    batch = example if len(example) > 1 else torch.cat([example, example])
    program = torch.onnx.export(
        model,
        (batch,),
        input_names=["images"],
        output_names=["logits"],
        opset_version=opset,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _culprit(model: nn.Module, example: Tensor, opset: int) -> str:
    """The first layer that cannot be exported on its own, to name in a message."""
    given: dict[str, Tensor] = {}
    names = {module: name for name, module in model.named_modules() if not list(module.children())}

    def keep(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if len(arguments) == 1 and isinstance(arguments[0], Tensor):
            given.setdefault(names[module], arguments[0])

    handles = [module.register_forward_pre_hook(keep) for module in names]
    try:
        with torch.no_grad():
            model(example)
    except Exception as error:  # whatever the layers raise
        return f"the model, which does not run on this example ({_head(error)}),"
    finally:
        for handle in handles:
            handle.remove()
    for name, inputs in given.items():
        layer = model.get_submodule(name)
        try:
            _export(layer, inputs, opset)
        except Exception:
            return f"layer {name!r}, {type(layer).__name__},"
    return "the model (each of its layers alone can be)"


def _head(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _check_is_file(path: StrPath) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no ONNX file at {path}: to_onnx() writes one")


def _input_name(path: StrPath) -> str:
    onnx = needed("onnx", extra="export")
    _check_is_file(path)
    try:
        return str(onnx.load(os.fspath(path)).graph.input[0].name)
    except Exception as error:
        raise ValueError(f"{path} is damaged or no ONNX model: {_head(error)}") from error


def _batch_reader(name: str, batches: Iterable[Tensor]) -> Any:
    """What onnxruntime pulls calibration batches from."""
    arrays = [{name: batch.detach().cpu().numpy()} for batch in batches]
    if not arrays or any(batch[name].size == 0 for batch in arrays):
        raise ValueError("no batches to calibrate on, or an empty one: pass at least one batch of images")
    base = needed("onnxruntime.quantization", extra="export").CalibrationDataReader
    left = iter(arrays)
    return type("BatchReader", (base,), {"get_next": lambda self: next(left, None)})()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings, prints and log lines out of a notebook; errors still arrive as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        unread = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _timing(threads: int) -> Iterator[None]:
    before, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()
