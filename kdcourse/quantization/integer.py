"""Inference in integers: int8 weights, int32 accumulators, and a multiplication and a shift between layers.

Every step from the quantized image to the last layer's result is an operation on integer tensors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .._base.tracing import foreign_hooks, is_plain
from .._base.weights import kind_of
from .affine import QuantParams, dequantize, quantize
from .arithmetic import FixedPoint, fixed_point, integer_conv2d, integer_linear, requantize
from .qat import ActivationQuantizer, weight_quantizer

OTHERWISE = "quantize an exported file, kdcourse.export.quantize_static()"


class IntegerLayer(NamedTuple):
    """A linear or convolution layer in integers, with the ReLU after it and the flattening before it."""

    name: str
    weight: Tensor
    """int8, (out, in) or (out, in, height, width)"""
    bias: Tensor
    """int32 (out,), in units of input scale · weight scale"""
    weight_scale: Tensor
    inputs: QuantParams
    outputs: QuantParams | None
    """none: the layer returns its int32 accumulators"""
    factor: FixedPoint | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    flatten: bool
    relu: bool


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Layers that pass integers on; calling it takes float images and returns float logits.

    >>> model, images = nn.Sequential(nn.Linear(4, 2)), torch.rand(16, 4)
    >>> rounded = fake_quantize_model(model, activation_bits=8, ranges=calibrate(model, [images]))
    >>> network = integer_network(rounded)
    >>> network.run(quantize(images, network.layers[0].inputs)).dtype
    torch.int32
    """

    layers: tuple[IntegerLayer, ...]

    def run(self, codes: Tensor) -> Tensor:
        """The last layer's integers for quantized images (uint8 or int8): uint8 codes, or int32 accumulators."""
        wanted = torch.uint8 if self.layers[0].inputs.qmin >= 0 else torch.int8
        if codes.dtype != wanted:
            raise TypeError(f"the network takes {wanted} codes, got {codes.dtype}: call it for real images")
        for layer in self.layers:
            codes = run_layer(layer, codes)
        return codes

    def __call__(self, images: Tensor) -> Tensor:
        """Quantize, run in integers, and give the last integers their scale."""
        last = self.layers[-1]
        integers = self.run(quantize(images, self.layers[0].inputs))
        if last.outputs is not None:
            return dequantize(integers, last.outputs)
        scale = last.inputs.scale * last.weight_scale
        return (integers * (scale if integers.ndim == 2 else scale.reshape(-1, 1, 1))).to(images.dtype)

    def stored_bytes(self) -> int:
        """One byte per weight, four per bias, and five for each channel's multiplier and shift."""
        channels = sum(len(layer.bias) for layer in self.layers)
        return sum(layer.weight.numel() for layer in self.layers) + 9 * channels


def integer_network(model: nn.Module) -> IntegerNetwork:
    """Turn a `fake_quantize_model` with quantized activations into integers.

    ``model``: a plain ``nn.Sequential`` of convolution, linear, ReLU, flatten, dropout and identity layers, batch norm
    folded; one layer may be used in several places.
    Each layer's output takes the next one's input range; the last keeps its accumulators, or has its own
    range with ``quantize_output=True``. Biases become int32 with the scale s_x · s_w and no zero point.
    Given the same codes, a layer differs from the model's by at most one unit, and seldom (on the course's digits
    in fewer than one of a thousand codes), for two reasons: here the bias is rounded too, and `multiply` rounds
    twice, which lifts some values from just below a half. Through a network the units that are off add up.
    Raises ``ValueError`` naming the layer that has no integer counterpart here, or has hooks.

    Source: Jacob et al. 2018, arXiv:1712.05877, sections 2.2 to 2.4.

    >>> model, images = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.rand(16, 4)
    >>> rounded = fake_quantize_model(model, activation_bits=8, ranges=calibrate(model, [images]))
    >>> network = integer_network(rounded)
    >>> torch.allclose(network(images), rounded(images), atol=0.05)
    True
    """
    if not is_plain(model, nn.Sequential, nn.Linear, nn.Conv2d):
        raise ValueError(
            f"a {kind_of(model)} may do anything with its layers: make an nn.Sequential of them, or {OTHERWISE}"
        )
    layers: list[IntegerLayer] = []
    flatten = False
    for name, module in _plain_layers(model, ""):
        if is_plain(module, nn.Linear, nn.Conv2d):
            layer = _as_integers(name, cast(nn.Conv2d, module), flatten)
            if layers and layers[-1].outputs is not None:
                raise ValueError(f"layer {layers[-1].name!r} rounds its output, but layer {name!r} follows")
            if layers:
                layers[-1] = _connect(layers[-1], layer.inputs)
            layers.append(layer)
            flatten = False
        elif is_plain(module, nn.ReLU) and layers:  # it and flattening commute
            layers[-1] = layers[-1]._replace(relu=True)
        elif is_plain(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            flatten = True
        elif not is_plain(module, nn.Dropout, nn.Identity):
            hint = (
                ": fold_batchnorm() first" if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) else f": {OTHERWISE}"
            )
            raise ValueError(f"layer {name!r}, {kind_of(module)}, has no integer counterpart here{hint}")
    if not layers or flatten:
        raise ValueError("the model must end with a linear or convolution layer, or with a ReLU after one")
    return IntegerNetwork(tuple(layers))


def run_layer(layer: IntegerLayer, codes: Tensor) -> Tensor:
    """One layer: accumulate, cut off below zero where a ReLU follows, and scale to the next layer's codes."""
    if layer.flatten:
        codes = codes.flatten(1)
    zero_point = int(layer.inputs.zero_point)
    if codes.ndim != layer.weight.ndim:
        raise ValueError(
            f"layer {layer.name!r} takes {layer.weight.ndim} dimensions, got the shape {tuple(codes.shape)}"
        )
    if layer.weight.ndim == 2:
        accumulators = integer_linear(codes, layer.weight, layer.bias, input_zero_point=zero_point)
    else:
        accumulators = integer_conv2d(
            codes, layer.weight, layer.bias, input_zero_point=zero_point, stride=layer.stride, padding=layer.padding
        )
    if layer.relu:
        accumulators = accumulators.clamp(min=0)
    if layer.outputs is None or layer.factor is None:
        return accumulators
    return requantize(accumulators, layer.factor, layer.outputs)


def _plain_layers(module: nn.Module, path: str) -> Iterator[tuple[str, Any]]:
    """The layers in the order of their calls; one that is used twice comes twice."""
    if foreign_hooks(module):
        raise ValueError(f"{path or 'the model'!r} has hooks, which would be lost: remove them first")
    if not is_plain(module, nn.Sequential):
        yield path, module
        return
    for name, child in module._modules.items():
        if child is not None:
            yield from _plain_layers(child, f"{path}.{name}" if path else name)


@torch.no_grad()
def _as_integers(name: str, layer: nn.Linear | nn.Conv2d, flatten: bool) -> IntegerLayer:
    quantizer = weight_quantizer(layer)
    arriving, leaving = (getattr(layer, f"{end}_quantizer", None) for end in ("input", "output"))
    if quantizer is None or not isinstance(arriving, ActivationQuantizer):
        raise ValueError(f"layer {name!r} has real weights or inputs: fake_quantize_model(…, activation_bits=8) first")
    if layer.weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"layer {name!r} is {layer.weight.dtype}: call integer_network(model.float())")
    stride, padding = (1, 1), (0, 0)
    if isinstance(layer, nn.Conv2d):
        stride, padding = _geometry(name, layer)
    inputs, params = arriving.qparams(), quantizer.qparams(layer.weight)
    codes, scale, bias = _fit_bias(
        quantize(layer.weight, params), params.scale.double(), layer.bias, inputs.scale.double()
    )
    converted = IntegerLayer(name, codes, bias, scale, inputs, None, None, stride, padding, flatten=flatten, relu=False)
    return _connect(converted, leaving.qparams()) if isinstance(leaving, ActivationQuantizer) else converted


def _fit_bias(codes: Tensor, scale: Tensor, bias: Tensor | None, input_scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weight codes, a scale for each channel, and the int32 bias, where the scales may be changed for the bias.

    A dead channel's scale is arbitrary and takes the largest of the others, so that its bias keeps their
    precision. A channel of weights so small that its bias would leave int32 has its scale raised until it fits.
    """
    scale = scale.expand(len(codes))
    alive = codes.flatten(1).any(dim=1)
    if alive.any():
        scale = torch.where(alive, scale, scale[alive].max())
    if bias is None:
        return codes, scale, torch.zeros(len(codes), dtype=torch.int32)
    raised = torch.maximum(scale, bias.double().abs() / (input_scale * 2**30))
    shrunk = codes * (scale / raised).reshape(-1, *[1] * (codes.ndim - 1))
    whole = torch.round(bias.double() / (input_scale * raised))
    return torch.round(shrunk).to(torch.int8), raised, whole.to(torch.int32)


def _connect(layer: IntegerLayer, outputs: QuantParams) -> IntegerLayer:
    """The layer with its accumulators brought to ``outputs``, by the factor s_x · s_w / s_y of each channel."""
    real = layer.inputs.scale.double() * layer.weight_scale / outputs.scale.double()
    return layer._replace(outputs=outputs, factor=fixed_point(real))


def _geometry(name: str, layer: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    if layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(
            f"layer {name!r}: only convolutions without groups or dilation, padded by a number of zeros; {OTHERWISE}"
        )
    return cast(tuple[int, int], layer.stride), cast(tuple[int, int], layer.padding)
