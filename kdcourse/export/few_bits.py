"""ONNX files whose matrices are codes of a few bits, which onnxruntime multiplies without unpacking them first."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .._base.extras import needed
from .._base.files import write_whole
from ..quantization import QuantParams, dequantize, pack_codes
from .running import StrPath

BITS, LEAST_GROUP = (2, 4, 8), 16
DOMAIN, OPERATOR = "com.microsoft", "MatMulNBits"
INT8 = 4  # the operator's accuracy_level for activations of 8 bits


def pack_matmuls(
    float_path: StrPath,
    path: StrPath,
    packed: Mapping[str, tuple[Tensor, QuantParams]],
    *,
    integer_products: bool = False,
) -> list[str]:
    """Write a copy of an ONNX file whose matrix products with packed weights read the codes; the weights replaced.

    ``packed`` is what `kdcourse.quantization.read_codes` returns: codes (O, I) and their `QuantParams`, 2, 4 or 8 bits
    in groups of 16, 32, 64 … inputs. A product is replaced where its second factor is such a weight's transpose,
    number by number: export the network that computes with them. The operator, MatMulNBits, is onnxruntime's own, and
    in no ONNX standard. Activations stay floats, so that nothing is lost beyond rounding in sums; with
    ``integer_products`` the operator may round them to 8 bits, too, which is faster. Returns the names of the weights.

    Raises ``ValueError`` for other bits and groups, and for a weight that the file multiplies by nowhere.

    >>> from kdcourse.quantization import choose_qparams, dequantize, quantize
    >>> layer = nn.Linear(64, 8)
    >>> params = choose_qparams(layer.weight, bits=4, group_size=32)
    >>> codes = quantize(layer.weight.detach(), params)
    >>> layer.weight.data = dequantize(codes, params)
    >>> to_onnx(layer, "float.onnx", torch.rand(3, 1, 64))
    >>> pack_matmuls("float.onnx", "packed.onnx", {"weight": (codes, params)})
    ['weight']
    >>> x = torch.rand(5, 1, 64)
    >>> torch.allclose(run("packed.onnx", x), layer(x), atol=1e-4)
    True
    """
    onnx = needed("onnx", extra="export")
    model = onnx.load(float_path)
    graph = model.graph
    matrices = {part.name: onnx.numpy_helper.to_array(part) for part in graph.initializer}
    wanted = {name: _checked(name, *pair) for name, pair in packed.items()}
    done: set[str] = set()
    for node in graph.node:
        matrix = matrices.get(node.input[1]) if node.op_type == "MatMul" else None
        name = next((each for each, value in wanted.items() if matrix is not None and _is(matrix, value)), None)
        if name is not None:
            _replace(onnx, graph, node, name, *packed[name])
            if integer_products:
                node.attribute.append(onnx.helper.make_attribute("accuracy_level", INT8))
            done.add(name)
    if wanted.keys() - done:
        raise ValueError(
            f"{float_path} multiplies by none of {sorted(wanted.keys() - done)}: export the network that has these "
            "weights, with inputs (N, L, channels)"
        )
    used = {name for node in graph.node for name in node.input}
    kept = [part for part in graph.initializer if part.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if DOMAIN not in {each.domain for each in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    write_whole(path, model.SerializeToString())
    return sorted(done)


def _checked(name: str, codes: Tensor, params: QuantParams) -> np.ndarray:
    """The weight's transpose (I, O); raises for what the operator does not take."""
    group = params.group_size
    if params.bits not in BITS or group is None or group < LEAST_GROUP or group & (group - 1):
        raise ValueError(
            f"{name!r} has {params.bits} bits in groups of {group}: {OPERATOR} takes {BITS} bits and groups of 16, 32 …"
        )
    transposed: np.ndarray = dequantize(codes, params).T.numpy()
    return transposed


def _is(matrix: np.ndarray, weight: np.ndarray) -> bool:
    return matrix.shape == weight.shape and bool((matrix == weight).all())


def _replace(onnx: Any, graph: Any, node: Any, name: str, codes: Tensor, params: QuantParams) -> None:
    """Let ``node`` read codes (O, groups, bytes), scales and zero points, which lie between 0 and 2^bits - 1."""
    outputs, inputs = codes.shape
    group, bits = params.group_size or inputs, params.bits
    half = 2 ** (bits - 1) if params.qmin < 0 else 0  # signed codes are stored with this added
    zero = params.zero_point.int() + half
    zero = F.pad(zero, (0, -zero.shape[1] % (8 // bits)))  # each output's begin with a byte
    parts = {
        "codes": pack_codes(codes.int() + half, bits=bits).reshape(outputs, inputs // group, -1).numpy(),
        "scale": params.scale.float().numpy(),
        "zero": pack_codes(zero, bits=bits).reshape(outputs, -1).numpy(),
    }
    names = [f"{name}.{part}" for part in parts]
    if names[0] not in {part.name for part in graph.initializer}:
        graph.initializer.extend(
            onnx.numpy_helper.from_array(np.ascontiguousarray(value), full)
            for full, value in zip(names, parts.values(), strict=True)
        )
    given = node.input[0]
    del node.input[:]
    node.input.extend([given, *names])
    node.op_type, node.domain = OPERATOR, DOMAIN
    settings = {"K": inputs, "N": outputs, "bits": bits, "block_size": group}
    node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in settings.items())
