"""An int8 file compared with the float file that it was made from: what its grids do not explain is a fault."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._base.extras import needed
from .running import execute, load

WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")
Array = np.ndarray[Any, np.dtype[Any]]


def constants(model: Any) -> dict[str, Array]:
    """The stored arrays of an ONNX model by name."""
    to_array = needed("onnx.numpy_helper", extra="export").to_array
    return {part.name: to_array(part) for part in model.graph.initializer}


def float_matrices(model: Any) -> list[str]:
    """Operators that compute with a matrix of floats that no grid rounds."""
    wide = {name for name, array in constants(model).items() if array.ndim > 1 and array.dtype.kind == "f"}
    return [f"{node.op_type} {node.name!r}" for node in model.graph.node if wide & set(node.input)]


def check_constants(quantized: Any, exact: Mapping[str, Array], *, steps: int, per_channel: bool) -> None:
    """Raise where a channel's weights or its bias are further from their values than their grids explain.

    That is half a step for a weight, the largest weight being ``steps`` of them, and for a bias half of the product
    of this step and the input's; a channel whose bias would not fit into 32 bits of these has longer ones.
    """
    stored = constants(quantized)
    grids = {node.output[0]: list(node.input) for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    for node in quantized.graph.node:
        parts = [grids[name] for name in node.input[:3] if name in grids]
        originals: list[Any] = [exact.get(code.removesuffix("_quantized")) for code, *_ in parts]
        if node.op_type not in WITH_BIAS or len(parts) < 3 or originals[1] is None or originals[2] is None:
            continue
        input_scale, weight_scale, bias_scale = (stored[scale].astype(np.float64) for _, scale, *_ in parts)
        axis = 0 if node.op_type == "Conv" or any(part.name == "transB" and part.i for part in node.attribute) else 1
        weight, rounded = _rows(originals[1], axis), _rows(stored[parts[1][0]], axis) * weight_scale.reshape(-1, 1)
        bias = originals[2].astype(np.float64)
        largest = np.abs(weight).max(axis=1) if per_channel else np.abs(weight).max()
        step = np.resize(largest / steps, bias.shape)
        forced = np.abs(bias) * 2.0**-30 / input_scale
        error = np.resize(np.abs(rounded - weight).max(axis=1), bias.shape)
        _raise_where("weights", node.name, error, 0.501 * (step + forced), per_channel)
        error = np.abs(stored[parts[2][0]] * bias_scale - bias)
        _raise_where("bias", node.name, error, 0.501 * step * input_scale + 1e-6 * np.abs(bias), per_channel)


def _rows(array: Array, axis: int) -> Array:
    """One row of weights per output channel."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.float64)


def _raise_where(what: str, operator: str, error: Array, allowed: Array, per_channel: bool) -> None:
    channel = int((error - allowed).argmax())
    if error[channel] > allowed[channel]:
        raise ValueError(
            f"onnxruntime's quantizer moved the {what} of channel {channel} of {operator!r} by {error[channel]:.3g}, "
            f"which its grid does not explain: try per_channel={not per_channel}"
        )


def check_outputs(float_path: Path, path: Path, feeds: Sequence[Mapping[str, Array]]) -> None:
    """Raise where little of an output is left: an error of more than half of its energy (zeros would have all)."""
    exact, rounded = load(float_path), load(path, fused=False)
    energy: dict[str, list[float]] = {}
    for feed in feeds:
        found = execute(rounded, feed)
        for name, output in execute(exact, feed).items():
            if output.is_floating_point():
                sums = energy.setdefault(name, [0.0, 0.0])
                sums[0] += (found[name].double() - output.double()).square().sum().item()
                sums[1] += output.double().square().sum().item()
    lost = [name for name, (error, signal) in energy.items() if not error <= signal / 2]
    if lost:
        raise ValueError(
            f"8 bits do not suffice for this file: on these batches the error of {lost} has more than half of the "
            "output's energy. Look for weights or activations of very unequal size"
        )
