"""What runs a submission, in a process of its own: NumPy, onnxruntime and the coded format's decoder, no PyTorch.

It is given images and no labels, and gives back logits and times. Every image is run alone: a network that looks at the
other images of its batch gains nothing.
"""

import gc
import importlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Network = Callable[[Array], Any]
CODED = b"KDC\x01"
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
"""of the operators that onnxruntime itself brings"""
ELSEWHERE = {"EPContext"}
"""operators that name a file"""
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
BATCH = 32
WARM_UP = 20
TIMED = 300
TIMED_SECONDS = 2.0


class Refused(Exception):
    """Why a submission is not run, as the rest of a sentence about it."""


def main(plan: dict[str, Any]) -> None:
    """Run the submission in the folder of the plan, and leave there what it gave and what limits there were."""
    os.chdir(plan["folder"])
    content, reference = Path("submission").read_bytes(), Path("reference").read_bytes()
    images = np.load("images.npy")
    with open("logits.npy", "wb") as logits, open("told.json", "wb") as told:
        try:
            runtime = imported(content)
        except Exception as error:
            told.write(json.dumps({"broken": f"{type(error).__name__}: {error}"}).encode())
            return
        missing = enclose(plan)
        try:
            found, result = tried(content, reference, images, runtime)
            np.save(logits, result)
        except Refused as error:
            found = {"refused": str(error)[:2000]}
        except MemoryError:
            found = {"memory": True}
        except Exception as error:  # onnxruntime's share no base but this
            found = {"error": f"{type(error).__name__}: {error}"[:2000]}
        told.write(json.dumps(found | {"missing": missing}).encode())


def imported(content: bytes) -> Any:
    """All libraries, while files can be opened."""
    onnxruntime = importlib.import_module("onnxruntime")

    from .._base import calls  # noqa: F401

    if content[:4] == CODED:
        importlib.import_module("constriction")
        from ..quantization import _decoding  # noqa: F401
    else:
        import onnx  # noqa: F401
    return onnxruntime


def enclose(plan: dict[str, Any]) -> list[str]:
    """Limit this process: memory, processor time, files; no other process, no socket. What could not be had."""
    missing = []
    try:
        import resource

        seconds = math.ceil(plan["seconds"])
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # the first is told from other ends
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan["written"], plan["written"]))
        most = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + plan["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, OSError, ValueError):
        missing.append("memory")
    try:
        from .._base import calls, namespaces

        namespaces.drop_rights()
        calls.install()
    except (AttributeError, OSError, AssertionError):
        missing.append("calls")
    return missing


def tried(content: bytes, reference: bytes, images: Array, runtime: Any) -> tuple[dict[str, Any], Array]:
    """The logits of each image alone, and what was found on the way."""
    network, free, spent = coded_network(content) if content[:4] == CODED else onnx_network(content, runtime)
    logits = np.empty((len(images), 10), np.float32)
    for number in range(len(images)):
        logits[number] = checked(network(images[number : number + 1]), 1)
    for number in range(min(BATCH, len(images))):
        if not np.array_equal(checked(network(images[number : number + 1]), 1)[0], logits[number]):
            raise Refused("gives other outputs for the same image each time")
    found: dict[str, Any] = {"batch": in_a_batch(network, images, logits) if free else "", "spent": spent}
    some = images[np.arange(TIMED) * len(images) // TIMED]  # of all sets: a file may recognise the public digits
    found["times"] = times(network, onnx_network(reference, runtime)[0], some)
    return found, logits


def checked(found: Any, rows: int) -> Array:
    """An output, if it is logits."""
    if not isinstance(found, np.ndarray) or found.dtype != np.float32:
        kind = found.dtype if isinstance(found, np.ndarray) else type(found).__name__
        raise Refused(f"gives outputs of type {kind}, and logits are float32")
    if found.shape != (rows, 10):
        raise Refused(f"gives an output of shape {found.shape} for {rows} image{'s' * (rows > 1)}, not ({rows}, 10)")
    if not np.isfinite(found).all():
        raise Refused("gives NaN or infinity: hand in logits that are finite")
    return found


def in_a_batch(network: Network, images: Array, alone: Array) -> str:
    """In which way the outputs of a batch, in another order, are others; empty where they are not."""
    order = np.arange(min(BATCH, len(images)))[::-1]
    try:
        found = network(images[order])
    except Exception:
        return "it fails on a batch of images and was judged on each alone"
    found = checked(found, len(order))
    changed = int((found.argmax(axis=1) != alone[order].argmax(axis=1)).sum())
    gap = float(np.abs(found - alone[order]).max() / max(float(np.abs(alone[order]).max()), 1e-30))
    if changed or gap > 0.05:
        return (
            f"what it gives for an image depends on the others of its batch ({changed} of {len(order)} predictions "
            "changed): every image was judged alone"
        )
    return ""


def times(network: Network, reference: Network, images: Array) -> list[list[float]]:
    """Milliseconds of one image alone: pairs of the submission and the reference, interleaved."""
    found, begun = [], time.perf_counter()
    gc.collect()
    gc.disable()
    for number in range(-WARM_UP, TIMED):
        image, pair = images[number % len(images)][None], [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            (network, reference)[which](image)
            pair[which] = 1000 * (time.perf_counter() - start)
        if number >= 0:
            found.append(pair)
            if len(found) >= 20 and time.perf_counter() - begun > TIMED_SECONDS:
                break
    gc.enable()
    return found


# --- ONNX -------------------------------------------------------------------------------------------------------------


def onnx_network(content: bytes, runtime: Any) -> tuple[Network, bool, dict[str, int]]:
    """The network in an ONNX file, whether it takes any number of images, and what its bytes tell; raises `Refused`."""
    weights = inspect(content)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")  # what was inspected, and nothing else
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise Refused(f"has {len(inputs)} inputs and {len(outputs)} outputs: it must have one of each")
    shape = list(inputs[0].shape)
    fits = len(shape) == 4 and all(
        not isinstance(size, int) or size == wanted for size, wanted in zip(shape, (1, 1, 28, 28), strict=True)
    )
    if inputs[0].type != "tensor(float)" or not fits:
        raise Refused(f"takes {inputs[0].type} {shape}: it must take float32 (N, 1, 28, 28), or (1, 1, 28, 28)")
    given, asked = inputs[0].name, [outputs[0].name]
    spent = {"weights and constants": weights, "graph": len(content) - weights}
    return lambda images: session.run(asked, {given: images})[0], not isinstance(shape[0], int), spent


def inspect(content: bytes) -> int:
    """The bytes of weights and constants, with their names and shapes.

    Raises `Refused` for what is not a whole ONNX file, for others' operators, and for weights in other files.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except MemoryError:
        raise
    except Exception:
        raise Refused("is neither a whole ONNX file nor one of the coded format") from None
    if not model.graph.node:
        raise Refused("is not an ONNX file: it has no operators")
    if model.functions:
        raise Refused(f"brings an operator of its own, {model.functions[0].name!r}: inline its functions first")
    graphs, weights = [model.graph], 0
    for graph in graphs:  # grows meanwhile
        tensors = [*graph.initializer]
        tensors += [part for sparse in graph.sparse_initializer for part in (sparse.values, sparse.indices)]
        for node in graph.node:
            if node.domain not in DOMAINS or node.op_type in ELSEWHERE:
                name = f"{node.domain}.{node.op_type}".strip(".")
                raise Refused(f"has an operator that onnxruntime does not bring, or that reads files: {name!r}")
            if node.op_type in RANDOM:
                raise Refused(f"draws random numbers ({node.op_type}): the same image must give the same outputs")
            for attribute in node.attribute:
                graphs += [attribute.g, *attribute.graphs]
                tensors += [attribute.t, *attribute.tensors]
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    tensors += [sparse.values, sparse.indices]
        if any(tensor.external_data or tensor.data_location for tensor in tensors):
            raise Refused("keeps weights in another file: a submission is one file")
        weights += sum(tensor.ByteSize() for tensor in tensors)
    return weights


# --- the coded format -------------------------------------------------------------------------------------------------


def coded_network(content: bytes) -> tuple[Network, bool, dict[str, int]]:
    """The network whose weights a coded file holds, in NumPy: its layers in their order, ReLU between them.

    And that it takes any number of images, and what the file's bytes tell.

    A matrix is a linear layer; four dimensions are a convolution of stride 2 and padding k // 2, as in the course's
    conv_net with its batch norm folded. ``NAME.bias`` goes with ``NAME.weight``, and may be absent.
    """
    from ..quantization._decoding import decode_and_measure

    try:
        decoded, spent = decode_and_measure(content)
    except ValueError as error:
        raise Refused(str(error)) from None
    tensors = {name: codebook[indices] for name, (codebook, indices) in decoded.items()}
    layers, shape = list[tuple[Array, Array]](), tuple[int, ...]((1, 28, 28))
    for name, weight in tensors.items():
        stem, _, kind = name.rpartition(".")
        if kind == "bias" and f"{stem}.weight" in tensors:
            continue
        if kind != "weight" or weight.ndim not in (2, 4):
            raise Refused(f"holds {name!r} of shape {weight.shape}, which is neither a linear layer nor a convolution")
        bias = tensors.get(f"{stem}.bias", np.zeros(len(weight), np.float32))
        shape = after(shape, name, weight)
        if bias.shape != weight.shape[:1]:
            raise Refused(f"holds {len(weight)} outputs of {stem!r} and a bias of shape {bias.shape}")
        layers.append((np.ascontiguousarray(weight), bias))
    if shape != (10,):
        raise Refused(f"ends in outputs of shape {shape}, not (10,)")

    def network(images: Array) -> Array:
        values = images
        for number, (weight, bias) in enumerate(layers):
            values = linear(values, weight, bias) if weight.ndim == 2 else convolution(values, weight, bias)
            if number < len(layers) - 1:
                np.maximum(values, 0, out=values)
        return values

    return network, True, spent


def after(shape: tuple[int, ...], name: str, weight: Array) -> tuple[int, ...]:
    """The shape of a layer's outputs; raises `Refused` where it does not take what comes before it."""
    if weight.ndim == 2 and weight.shape[1] == np.prod(shape):
        return (len(weight),)
    if weight.ndim == 4 and len(shape) == 3 and weight.shape[1] == shape[0]:
        high, wide = weight.shape[2:]
        if high % 2 and wide == high:
            return (len(weight), (shape[1] + 1) // 2, (shape[2] + 1) // 2)
    raise Refused(f"holds {name!r} of shape {weight.shape}, behind outputs of shape {shape}")


def linear(values: Array, weight: Array, bias: Array) -> Array:
    result: Array = values.reshape(len(values), -1) @ weight.T + bias
    return result


def convolution(values: Array, weight: Array, bias: Array) -> Array:
    """Stride 2, padding k // 2."""
    size, (count, channels, high, wide) = weight.shape[2], values.shape
    edge, rows, columns = size // 2, (high + 1) // 2, (wide + 1) // 2
    padded = np.zeros((count, channels, high + 2 * edge, wide + 2 * edge), np.float32)
    padded[:, :, edge : edge + high, edge : edge + wide] = values
    image, channel, row, column = padded.strides  # np.pad and sliding_window_view take most of the time of one image
    steps = image, 2 * row, 2 * column, channel, row, column
    windows = np.ndarray((count, rows, columns, channels, size, size), np.float32, padded, 0, steps)
    cells = windows.reshape(count, rows * columns, -1)
    result: Array = (cells @ weight.reshape(len(weight), -1).T + bias).transpose(0, 2, 1)
    return np.ascontiguousarray(result).reshape(count, len(weight), rows, columns)
