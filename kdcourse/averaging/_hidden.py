"""The units of a network's hidden layers, and every tensor that has an entry for each of them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from torch import nn

from .._base.tracing import foreign_hooks, is_plain
from .._base.weights import kind_of

Layer = tuple[str, Any]
CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
# a pooling of another number of dimensions takes the channels for height
POOLS = {
    dimensions: [getattr(nn, f"{kind}Pool{dimensions}d") for kind in ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax")]
    for dimensions in (1, 2, 3)
}
UNITWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardtanh,
    nn.Hardsigmoid, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.Identity, nn.Dropout,
    nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
SUPPORTED = (
    "align() follows units through an nn.Sequential of Linear layers and convolutions without groups, BatchNorm, "
    "activations, dropout, pooling and Flatten(); for another network use the authors' code, "
    "github.com/samuela/git-re-basin"
)


class Part(NamedTuple):
    """A dimension of a tensor along which the units lie, ``each`` neighbours for every unit."""

    tensor: str
    dimension: int
    each: int = 1


class Hidden(NamedTuple):
    """A hidden layer: how many units, and all that belongs to them."""

    units: int
    parts: tuple[Part, ...]


def hidden_layers(model: nn.Module) -> list[Hidden]:
    """The hidden layers from the first to the last; refuses a network in which units cannot be followed."""
    for name, module in model.named_modules():
        if foreign_hooks(module):
            raise ValueError(f"{name or 'the model'!r} has hooks, which may tell units apart: remove them first")
    _check_untied(model)
    line = list(_line("", model))
    for name, layer in line:
        if any(True for _ in layer.parameters()) and not (_reads(layer) or is_plain(layer, *NORMS.values())):
            raise _unknown(name, layer)
    weighted = [position for position, (_, layer) in enumerate(line) if _reads(layer)]
    return [_between(line[start], line[start + 1 : end], line[end]) for start, end in pairwise(weighted)]


def _check_untied(model: nn.Module) -> None:
    first: dict[int, str] = {}
    for found in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in found:
            if first.setdefault(id(tensor), name) != name:
                raise ValueError(f"{first[id(tensor)]!r} and {name!r} are one shared tensor: use layers of their own")


def _line(name: str, module: nn.Module) -> Iterator[Layer]:
    """The layers in the order in which they run, as far as nested plain ``nn.Sequential`` say it."""
    if not is_plain(module, nn.Sequential):
        yield name, module
        return
    for child, part in module._modules.items():
        yield from _line(f"{name}.{child}".lstrip("."), part)  # type: ignore[arg-type]


def _reads(layer: Any) -> bool:
    """Whether it is a layer that reads all units and makes others."""
    return is_plain(layer, nn.Linear) or is_plain(layer, *CONVOLUTIONS) and layer.groups == 1


def _between(first: Layer, between: list[Layer], reader: Layer) -> Hidden:
    """The units that ``first`` makes and ``reader`` reads."""
    (name, layer), (reader_name, reading) = first, reader
    units, dimensions = len(layer.weight), 0 if isinstance(layer, nn.Linear) else len(layer.kernel_size)
    parts = _of(name, layer, "weight bias", 1)
    for inner_name, inner in between:
        if is_plain(inner, nn.Flatten) and (inner.start_dim, inner.end_dim) == (1, -1):
            dimensions = 0
        elif is_plain(inner, NORMS[dimensions or 1]):
            each = _each(inner.num_features, units, layer, (inner_name, inner))
            parts += _of(inner_name, inner, "weight bias running_mean running_var", each)
        elif not is_plain(inner, *UNITWISE, *POOLS.get(dimensions, ())):
            raise _unknown(inner_name, inner)
    inputs = reading.weight.shape[1]
    if dimensions != (0 if isinstance(reading, nn.Linear) else len(reading.kernel_size)):
        raise _unknown(reader_name, reading)
    return Hidden(units, (*parts, Part(f"{reader_name}.weight", 1, _each(inputs, units, layer, reader))))


def _each(features: int, units: int, layer: Any, at: Layer) -> int:
    """Features for every unit, which is more than one only after a Flatten of channels."""
    each, rest = divmod(features, units)
    if rest or (each > 1 and isinstance(layer, nn.Linear)):
        raise _unknown(*at)
    return each


def _of(name: str, layer: Any, attributes: str, each: int) -> list[Part]:
    return [
        Part(f"{name}.{attribute}", 0, each)
        for attribute in attributes.split()
        if getattr(layer, attribute) is not None
    ]


def _unknown(name: str, layer: nn.Module) -> ValueError:
    where = f"{name!r}, a {kind_of(layer)}" if name else f"a {kind_of(layer)}"
    return ValueError(f"hidden units cannot be followed through {where}: {SUPPORTED}")
