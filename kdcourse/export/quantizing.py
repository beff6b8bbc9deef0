"""ONNX files in 8-bit integers, written by onnxruntime's quantizer and compared with the float file."""

import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .._base.extras import needed
from .._base.files import write_whole
from ._grid import check_constants, check_outputs, constants, float_matrices
from ._quiet import quiet
from .running import Batch, StrPath, feed_batch, head, inputs_of, load

# the quantizer's grid for a tensor of zeros has steps of 1, which swallow the bias of a dead channel
LEAST_RANGE = 1e-12


def quantize_static(
    float_path: StrPath,
    path: StrPath,
    batches: Iterable[Batch],
    *,
    per_channel: bool = True,
    reduce_range: bool = False,
    symmetric_activations: bool = False,
) -> None:
    """Write an int8 copy of an ONNX file: uint8 activations, int8 weights, the ranges the extremes over ``batches``.

    A batch is a tensor, or for several inputs a tuple or a dict by name. Quantize and dequantize operators are put
    around the real ones (QDQ), for the runtime to fuse. ``per_channel``: a weight scale per output channel;
    ``reduce_range``: 7-bit weights, for x86 processors without VNNI, whose 16-bit sums may saturate;
    ``symmetric_activations``: zero in the middle. Before the file leaves, its weights and biases are compared with
    the float file's, and its outputs on the batches; what stays in floats is named in a warning.

    Raises ``ValueError`` for batches that are absent, not finite or not what the file takes, a file that is not
    a float32 ONNX model or has nothing to quantize, and an int8 file that its grids do not explain;
    ``FileNotFoundError`` for no file.

    >>> network, images = nn.Linear(16, 3), torch.rand(64, 16)
    >>> to_onnx(network, "float.onnx", images)
    >>> quantize_static("float.onnx", "int8.onnx", [images])
    >>> (run("int8.onnx", images) - run("float.onnx", images)).abs().max() < 0.05
    tensor(True)
    """
    options = {
        "per_channel": per_channel,
        "reduce_range": reduce_range,
        "extra_options": {"ActivationSymmetric": symmetric_activations, "MinimumRealRange": LEAST_RANGE},
    }
    feeds = _feeds(float_path, batches)
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        try:
            with quiet():
                _quantize(float_path, prepared, quantized, feeds, options)
        except Exception as error:  # it raises many kinds
            hint = ", per_channel=False may help" if per_channel else ""
            raise ValueError(f"onnxruntime cannot quantize {float_path}{hint}: {head(error)}") from error
        read = needed("onnx", extra="export").load
        exact, rounded = constants(read(prepared)), read(quantized)
        left = _left_in_float(float_path, exact, rounded)
        check_constants(rounded, exact, steps=64 if reduce_range else 127, per_channel=per_channel)
        check_outputs(prepared, quantized, feeds)
        content = quantized.read_bytes()
    write_whole(path, content)
    if left:
        warnings.warn(f"these weights stay in floats: {', '.join(left)}", stacklevel=2)


def _feeds(path: StrPath, batches: Iterable[Batch]) -> list[dict[str, Any]]:
    """Arrays by input name; raises for no batches, and for what is not finite: a range would be."""
    if isinstance(batches, Tensor | Mapping):
        raise TypeError("batches must be several: a list of batches, or images.split(128)")
    inputs = inputs_of(load(path))
    feeds = [feed_batch(inputs, batch) for batch in batches]
    if not feeds or any(array.size == 0 for feed in feeds for array in feed.values()):
        raise ValueError("no batches to calibrate on, or an empty one: pass at least one batch of images")
    for number, feed in enumerate(feeds):
        for name, array in feed.items():
            if not np.isfinite(array).all():
                raise ValueError(f"input {name!r} of batch {number} contains NaN or infinity, which no grid has")
    return feeds


def _quantize(
    float_path: StrPath, prepared: Path, quantized: Path, feeds: list[dict[str, Any]], options: dict[str, Any]
) -> None:
    quantization = needed("onnxruntime.quantization", extra="export")
    preprocess = needed("onnxruntime.quantization.shape_inference", extra="export").quant_pre_process
    preprocess(os.fspath(float_path), os.fspath(prepared))
    left = iter(feeds)
    reader = type("Batches", (quantization.CalibrationDataReader,), {"get_next": lambda self: next(left, None)})
    quantization.quantize_static(
        prepared,
        quantized,
        reader(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        **options,
    )


def _left_in_float(path: StrPath, exact: Mapping[str, Any], rounded: Any) -> list[str]:
    """Operators that no grid reaches; raises where it reaches none."""
    other = sorted({array.dtype.name for array in exact.values()} & {"float16", "float64", "bfloat16"})
    operators = sorted({node.op_type for node in rounded.graph.node})
    if other or "DequantizeLinear" not in operators:
        why = f"its weights are {other}, not float32" if other else f"its operators are {operators}"
        raise ValueError(f"nothing in {path} can be quantized: {why}")
    return float_matrices(rounded)
