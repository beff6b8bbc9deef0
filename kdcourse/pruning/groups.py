"""Which channels of a network can only be removed together, found by following them through its graph."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from .._base.modes import in_eval_mode
from .._base.tracing import foreign_hooks, trace
from .._base.weights import check_initialised

Example = Tensor | tuple[Tensor, ...]
CHANNELWISE = {
    "identity", "contiguous", "dropout", "dropout2d",
    "relu", "relu6", "leakyrelu", "prelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish",
    "tanh", "softsign", "tanhshrink", "hardshrink", "softshrink",
    "maxpool2d", "avgpool2d", "adaptiveavgpool2d", "adaptivemaxpool2d",
}  # fmt: skip
LAYERS = {"conv2d", "linear", "batchnorm1d", "batchnorm2d"}
MOVES_ZERO = {"sigmoid", "hardsigmoid", "softplus", "logsigmoid"}
PARAMETRISED = "whose weight is computed (a mask, a norm): make it permanent first, with remove_masks() or bake()"
SUPPORTED = (
    "Conv2d (groups=1 or depthwise), Linear, BatchNorm1d and 2d, activations, dropout, pooling, flatten from "
    "dimension 1, mean over space, and adding or multiplying two tensors with the same channels; other networks: "
    "torch-pruning (github.com/VainF/Torch-Pruning)"
)


class Follower(NamedTuple):
    """A layer that loses ``features`` neighbouring features where the group loses one channel."""

    layer: str
    features: int


class Group(NamedTuple):
    """Channels that stay or go together, named after the first layer that makes them.

    ``outputs`` make the channels, ``passengers`` (batch norms, depthwise convolutions) treat each alone, ``readers``
    take them as input. After a flatten one channel is several features. ``reason`` says why a group is not prunable.
    """

    name: str
    outputs: tuple[str, ...]
    passengers: tuple[Follower, ...]
    readers: tuple[Follower, ...]
    channels: int
    prunable: bool
    reason: str


class _Flow(NamedTuple):
    """Channels at one node: the set they belong to, and whether a masked channel is exactly zero here."""

    source: int
    channels: int
    features: int
    masked_is_zero: bool


def channel_groups(model: nn.Module, example: Example) -> list[Group]:
    """Groups of output channels that can only be removed together, in the order of the forward pass.

    ``example`` is a batch (N, C, H, W) or (N, features) for `model`, or a tuple of its inputs; `model` is traced in
    eval mode and left as it was. Channels are coupled by additions, by depthwise convolutions and by layers that are
    called twice. A group is not prunable where its channels are the network's input or output, or where a zeroed
    channel would not stay zero.

    Raises ``ValueError`` naming the operation through which channels cannot be followed.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> [(group.name, group.channels, group.prunable) for group in channel_groups(model, torch.zeros(1, 1, 8, 8))]
    [('0', 4, True), ('3', 2, False)]
    """
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if names.setdefault(id(parameter), name) != name:
            raise ValueError(f"{names[id(parameter)]} and {name} are one shared tensor: use layers of their own")
    with in_eval_mode(model):
        graph, shapes = _trace(model, example)
    ties = _Ties(dict(graph.named_modules()), shapes)
    for node in graph.graph.nodes:
        ties.follow(node)
    return ties.groups()


class _Shapes(fx.Interpreter):
    """Runs a traced network and notes the shape of every tensor."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result


def _inputs(example: Example) -> tuple[Tensor, ...]:
    return example if isinstance(example, tuple) else (example,)


def _trace(model: nn.Module, example: Example) -> tuple[fx.GraphModule, dict[fx.Node, tuple[int, ...]]]:
    check_initialised(model)
    for name, module in model.named_modules():
        if foreign_hooks(module):
            raise ValueError(f"{name or 'the model'!r} has hooks, which may change channels: remove them first")
    graph = trace(model, instead="use torch-pruning for it")
    interpreter = _Shapes(graph)
    try:
        with torch.no_grad():
            interpreter.run(*(tensor.clone() for tensor in _inputs(example)))
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        shape = ", ".join(str(tuple(tensor.shape)) for tensor in _inputs(example))
        raise ValueError(f"an example of shape {shape} does not run through the model: {error}") from error
    return graph, interpreter.shapes


class _Ties:
    """Union-find over sets of channels, filled node by node."""

    def __init__(self, modules: Mapping[str, nn.Module], shapes: Mapping[fx.Node, tuple[int, ...]]) -> None:
        self.modules, self.shapes = modules, shapes
        self.parent: list[int] = []
        self.flows: dict[fx.Node, _Flow] = {}
        self.reason: dict[int, str] = {}
        self.outputs: dict[str, _Flow] = {}
        self.passengers: dict[str, _Flow] = {}
        self.readers: dict[str, _Flow] = {}

    def find(self, source: int) -> int:
        while self.parent[source] != source:
            source = self.parent[source]
        return source

    def tie(self, first: _Flow, second: _Flow, node: fx.Node) -> None:
        if (first.channels, first.features) != (second.channels, second.features):
            raise _unsupported(node, "which joins different numbers of channels")
        self.parent[self.find(second.source)] = self.find(first.source)

    def block(self, flow: _Flow, reason: str) -> None:
        self.reason.setdefault(flow.source, reason)

    def new(self, channels: int) -> _Flow:
        self.parent.append(len(self.parent))
        return _Flow(len(self.parent) - 1, channels, features=1, masked_is_zero=True)

    def follow(self, node: fx.Node) -> None:
        """Note the layers at this node and the channels that leave it."""
        if node.op == "output":
            for source in node.all_input_nodes:
                self.block(self.flows[source], "its channels are the network's output")
            return
        if len(self.shapes.get(node, ())) not in (2, 4):
            raise _unsupported(node, f"which makes {self.shapes.get(node, 'no tensor')}, not (N, C, H, W) or (N, C)")
        if node.op == "placeholder":
            self.flows[node] = self.new(self.shapes[node][1])
            self.block(self.flows[node], "its channels are the network's input")
        else:
            self.flows[node] = self._step(node)

    def _step(self, node: fx.Node) -> _Flow:
        operation = _operation(node, self.modules)
        if operation in ("add", "mul"):
            return self._join(node, operation)
        if len(node.all_input_nodes) != 1:
            raise _unsupported(node)
        flow = self.flows[node.all_input_nodes[0]]
        if node.op == "call_module" and is_parametrized(self.modules[str(node.target)]):
            raise _unsupported(node, PARAMETRISED)
        if node.op == "call_module" and operation in LAYERS:
            return self._layer(node, flow)
        if operation in CHANNELWISE:
            return flow
        if operation in MOVES_ZERO:
            return flow._replace(masked_is_zero=False)
        if operation in ("flatten", "mean"):
            return self._fold(node, operation, flow)
        raise _unsupported(node)

    def _join(self, node: fx.Node, operation: str) -> _Flow:
        """Channels of a sum or product: coupled; zero if both terms are, or one factor."""
        operands = [*node.args[:2], *(node.kwargs[name] for name in ("input", "other") if name in node.kwargs)]
        nodes = [operand for operand in operands if isinstance(operand, fx.Node)]
        if len(nodes) != 2 or len(self.shapes[nodes[0]]) != len(self.shapes[nodes[1]]):
            raise _unsupported(node)
        first, second = (self.flows[operand] for operand in nodes)
        self.tie(first, second, node)
        zeros = first.masked_is_zero, second.masked_is_zero
        return first._replace(masked_is_zero=all(zeros) if operation == "add" else any(zeros))

    def _fold(self, node: fx.Node, operation: str, flow: _Flow) -> _Flow:
        """Channels after a flatten or a mean over height and width."""
        dimensions = len(self.shapes[node.all_input_nodes[0]])
        if operation == "mean":
            if {place % dimensions for place in _as_tuple(_argument(node, 1, "dim", ()))} != {2, 3}:
                raise _unsupported(node, "which is not a mean over height and width alone")
            return flow
        layer: Any = self.modules[str(node.target)] if node.op == "call_module" else None
        start = _argument(node, 1, "start_dim", 0) if layer is None else layer.start_dim
        if start % dimensions != 1:
            raise _unsupported(node, "which does not flatten from dimension 1")
        return flow._replace(features=self.shapes[node][1] // flow.channels)

    def _layer(self, node: fx.Node, flow: _Flow) -> _Flow:
        """Channels after a layer with weights: its own, or for a batch norm or depthwise convolution those it got."""
        name = str(node.target)
        layer: Any = self.modules[name]
        if {part for part, _ in layer.named_parameters()} - {"weight", "bias"}:
            raise _unsupported(node, PARAMETRISED)
        if isinstance(layer, nn.Linear) and len(self.shapes[node]) != 2:
            raise _unsupported(node, "a Linear on images: flatten or average first")
        if isinstance(layer, nn.Conv2d | nn.Linear) and getattr(layer, "groups", 1) == 1:
            if not flow.masked_is_zero:
                self.block(flow, f"masked channels are not 0 at {name}, after a sigmoid or a norm without shift")
            self._once(self.readers, name, flow, node)
            return self.outputs.setdefault(name, self.new(self.shapes[node][1]))
        if isinstance(layer, nn.Conv2d) and not layer.groups == layer.in_channels == layer.out_channels:
            raise _unsupported(node, f"a convolution in {layer.groups} groups that is not depthwise")
        self._once(self.passengers, name, flow, node)
        return flow._replace(masked_is_zero=layer.weight is not None)

    def _once(self, layers: dict[str, _Flow], name: str, flow: _Flow, node: fx.Node) -> None:
        self.tie(layers.setdefault(name, flow), flow, node)

    def groups(self) -> list[Group]:
        """The sets that some layer makes, each with all that belongs to it."""
        roots = dict.fromkeys(self.find(flow.source) for flow in self.outputs.values())
        reasons = {self.find(source): reason for source, reason in self.reason.items()}
        found = []
        for root in roots:
            outputs = [name for name, flow in self.outputs.items() if self.find(flow.source) == root]
            passengers, readers = (
                tuple(Follower(name, flow.features) for name, flow in layers.items() if self.find(flow.source) == root)
                for layers in (self.passengers, self.readers)
            )
            channels, reason = self.outputs[outputs[0]].channels, reasons.get(root, "")
            found.append(Group(outputs[0], tuple(outputs), passengers, readers, channels, not reason, reason))
        return found


def _operation(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """One spelling for a module, a function and a method: ``ReLU``, ``F.relu`` and ``relu_`` are all "relu"."""
    if node.op == "call_module":
        layer = modules[str(node.target)]
        if isinstance(layer, nn.PReLU) and layer.num_parameters > 1:
            return "prelu with a slope for each channel"
        name = type(layer).__name__
    else:
        name = str(getattr(node.target, "__name__", node.target))
    return name.lower().replace("_", "")


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _as_tuple(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _unsupported(node: fx.Node, detail: str = "") -> ValueError:
    what = f"{node.name} ({node.op} {getattr(node.target, '__name__', node.target)})"
    return ValueError(f"cannot follow channels through {what}{', ' + detail if detail else ''}; supported: {SUPPORTED}")
