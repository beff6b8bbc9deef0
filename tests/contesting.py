"""Files for the judge: small networks, and hostile ones, written with onnx's own helpers."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from kdcourse.contest import Digits
from kdcourse.data import Split, load_mnist

REFERENCE = Path(__file__).resolve().parent.parent / "data" / "compressed" / "model.onnx"
IMAGES = ["N", 1, 28, 28]


@cache
def few(count=40):
    """The first public digits alone."""
    split = load_mnist().validation.take(torch.arange(count))
    return Digits(split, None, "", {"clean": split.images[::4]})


def array(name, values):
    return numpy_helper.from_array(np.asarray(values), name)


def model(nodes, constants=(), *, takes=IMAGES, gives=("N", 10), kinds=(TensorProto.FLOAT, TensorProto.FLOAT), **more):
    """The content of a file of these nodes, from ``images`` to ``logits``."""
    inputs = [helper.make_tensor_value_info("images", kinds[0], takes)]
    outputs = [helper.make_tensor_value_info("logits", kinds[1], gives)]
    graph = helper.make_graph(list(nodes), "graph", inputs, outputs, list(constants))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, **more)
    return made.SerializeToString()


def linear(seed=0):
    """Nodes and constants of a linear classifier whose weights are drawn."""
    weight = np.random.default_rng(seed).normal(0, 0.1, (784, 10)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["sums"]),
    ]
    return nodes, [array("weight", weight)]


def with_tail(*tail, constants=(), **more):
    """A linear classifier whose ``sums`` become ``logits`` by these nodes."""
    nodes, weights = linear()
    return model([*nodes, *tail], [*weights, *constants], **more)


def tail(kind, inputs=("sums",), **attributes):
    return helper.make_node(kind, list(inputs), ["logits"], **attributes)


def endless():
    """A loop without an end."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["state"], ["next"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("state", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
    )
    return with_tail(tail("Loop", ["", "true", "sums"], body=body), constants=[array("true", True)])


def huge(kind):
    """Ten gigabytes, from a file of a few kilobytes."""
    size = array("size", np.array([10, 250_000_000], np.int64))
    made = {
        "ConstantOfShape": [helper.make_node("ConstantOfShape", ["size"], ["many"])],
        "Expand": [helper.make_node("Expand", ["one", "size"], ["many"])],
        "Tile": [helper.make_node("Tile", ["one", "size"], ["many"])],
    }[kind]
    total = [helper.make_node("ReduceSum", ["many"], ["all"], keepdims=0), tail("Add", ["sums", "all"])]
    return with_tail(*made, *total, constants=[size, array("one", np.zeros((1, 1), np.float32))])


def elsewhere(location, *, inside_if=False):
    """Weights in another file, of the graph or of a branch in it."""
    nodes, (weight,) = linear()
    if not inside_if:
        _move(weight, location)
        return model([*nodes, tail("Identity")], [weight])
    far = array("", np.zeros(10, np.float32))
    _move(far, location)
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Constant", [], [name], value=far)], name,
            [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [10])],
        ) for name in ("then", "else")
    }  # fmt: skip
    chosen = helper.make_node("If", ["true"], ["more"], **branches)
    return model([*nodes, chosen, tail("Add", ["sums", "more"])], [weight, array("true", True)])


def _move(tensor, location):
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def nearest(split: Split):
    """A network that holds the images of ``split`` and gives the class of the nearest."""
    order = torch.argsort(split.labels, stable=True)
    each = len(order) // 10
    held = split.images[order].flatten(1).numpy()
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "held"], ["products"]),
        helper.make_node("Sub", ["products", "halves"], ["near"]),
        helper.make_node("Reshape", ["near", "shape"], ["by class"]),
        helper.make_node("ReduceMax", ["by class", "last"], ["logits"], keepdims=0),
    ]
    constants = [array("held", held.T.copy()), array("halves", (held**2).sum(axis=1) / 2),
                 array("shape", np.array([-1, 10, each])), array("last", np.array([2]))]  # fmt: skip
    return model(nodes, constants)


def renamed(content):
    """The same network in other bytes."""
    made = onnx.load_model_from_string(content)
    made.producer_name = "somebody else"
    return made.SerializeToString()
