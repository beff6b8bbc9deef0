"""Training through quantization: a copy of a network whose weights and activations are rounded in the forward pass.

The result is made of plain modules: it trains with any loop, deep-copies and has a state_dict. Fold batch norm
first (`fold_batchnorm`), so that the weights that are rounded are those that will run.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .affine import QuantParams, check_finite, choose_qparams, fake_quantize_formula, integer_range, qparams_from_range
from .calibration import LayerRange, Range


class WeightQuantizer(nn.Module):
    """Symmetric weights, a scale for each output channel, chosen anew from the weights in every forward pass."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        integer_range(bits, symmetric=True)
        self.bits = bits

    def qparams(self, weight: Tensor) -> QuantParams:
        """The parameters for ``weight`` as it is now."""
        return choose_qparams(weight, bits=self.bits, symmetric=True, axis=0)

    def forward(self, weight: Tensor) -> Tensor:
        return fake_quantize_formula(weight, self.qparams(weight))


class LearnedStep(nn.Module):
    """Weights with one learned scale for the layer, trained with the other parameters (`learned_step_quantize`).

    Starts at 2 · mean|w| / √qmax. A step that training pushes below zero counts by its size.

    Source: Esser et al. 2020, arXiv:1902.08153, sections 2 and 2.1.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        check_finite("weight", weight)
        self.bits = bits
        self.qmin, self.qmax = integer_range(bits, symmetric=False, signed=True)
        start = 2 * weight.detach().abs().mean() / math.sqrt(self.qmax)
        self.step = nn.Parameter(start if start > 0 else torch.ones_like(start))

    def qparams(self, weight: Tensor) -> QuantParams:
        """The parameters that the learned step stands for."""
        step = self.step.detach().abs()
        return QuantParams(step, torch.zeros_like(step, dtype=torch.int32), self.bits, self.qmin, self.qmax)

    def forward(self, weight: Tensor) -> Tensor:
        gradient_scale = 1 / math.sqrt(weight.numel() * self.qmax)
        return learned_step_quantize(
            weight, self.step.abs(), qmin=self.qmin, qmax=self.qmax, gradient_scale=gradient_scale
        )


class ActivationQuantizer(nn.Module):
    """Affine activations in a calibrated range that training leaves as it is; zeros stay exact."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, range_: Range, bits: int) -> None:
        super().__init__()
        params = qparams_from_range(*range_, bits=bits)
        self.bits, self.qmin, self.qmax = params.bits, params.qmin, params.qmax
        self.register_buffer("scale", params.scale)
        self.register_buffer("zero_point", params.zero_point)

    def qparams(self) -> QuantParams:
        """The fixed parameters."""
        return QuantParams(self.scale, self.zero_point, self.bits, self.qmin, self.qmax)

    def forward(self, activations: Tensor) -> Tensor:
        return fake_quantize_formula(activations, self.qparams())


def learned_step_quantize(tensor: Tensor, step: Tensor, *, qmin: int, qmax: int, gradient_scale: float = 1.0) -> Tensor:
    """round(clamp(v / s, qmin, qmax)) · s, with a gradient for the step s > 0, a 0-d tensor.

    ∂/∂v is 1 inside and 0 where saturated; ∂/∂s is round(v/s) - v/s inside, qmin or qmax where saturated, summed
    and multiplied by ``gradient_scale``, for which the paper takes 1 / √(elements · qmax).

    Source: Esser et al. 2020, arXiv:1902.08153, equations 1 to 5.
    """
    if step.ndim != 0:
        raise ValueError(f"step must be a 0-d tensor, got shape {tuple(step.shape)}")
    result: Tensor = _LearnedStep.apply(tensor, step, qmin, qmax, gradient_scale)
    return result


def fake_quantize_model(
    model: nn.Module,
    *,
    weight_bits: int | Mapping[str, int] = 8,
    activation_bits: int | None = None,
    ranges: Mapping[str, LayerRange] | None = None,
    learned_step: bool = False,
    quantize_output: bool = False,
) -> nn.Module:
    """A copy of ``model`` whose linear and convolution layers compute with rounded weights, and rounded inputs.

    ``weight_bits``: 2 to 8, or by layer name for those layers alone. Weights are symmetric per output channel,
    with scales that follow them; with ``learned_step`` a scale per layer is learned. ``activation_bits`` (none: left
    alone) rounds those layers' inputs within ``ranges``, as `calibrate` returns them; ``quantize_output`` also the
    output of the last such layer. Biases stay real. The shape of the copy: `torch.nn.utils.parametrize` on the
    weights, hooks for the activations. Raises ``ValueError`` for a model without such layers, an unknown layer
    name, or ranges that lack one.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.
    """
    found = quantizable_layers(model)
    bits = dict(weight_bits) if isinstance(weight_bits, Mapping) else dict.fromkeys(found, weight_bits)
    if not bits or bits.keys() - found.keys():
        raise ValueError(f"nothing to quantize in {sorted(bits)}: the linear and convolution layers are {list(found)}")
    result = copy.deepcopy(model)
    for name in (name for name in found if name in bits):
        layer = result.get_submodule(name)
        if parametrize.is_parametrized(layer):
            _own_class(layer)
        weight = cast(Tensor, layer.weight)
        quantizer = LearnedStep(weight, bits[name]) if learned_step else WeightQuantizer(bits[name])
        parametrize.register_parametrization(layer, "weight", quantizer)
        if activation_bits is not None:
            layer.add_module("input_quantizer", ActivationQuantizer(_range(ranges, name).inputs, activation_bits))
            layer.register_forward_pre_hook(_quantize_input)
    if quantize_output:
        if activation_bits is None:
            raise ValueError("quantize_output needs activation_bits")
        layer.add_module("output_quantizer", ActivationQuantizer(_range(ranges, name).outputs, activation_bits))
        layer.register_forward_hook(_quantize_output)
    return result


def bake(model: nn.Module) -> nn.Module:
    """A plain copy of a `fake_quantize_model`: rounded weights stored as such, activations no longer rounded."""
    result = copy.deepcopy(model)
    for layer in list(result.modules()):
        if is_quantized(layer):
            _own_class(layer)
            parametrize.remove_parametrizations(layer, "weight")
        for hooks in (layer._forward_pre_hooks, layer._forward_hooks):
            for key in [key for key, hook in hooks.items() if hook in (_quantize_input, _quantize_output)]:
                del hooks[key]
        for name in ("input_quantizer", "output_quantizer"):
            if name in layer._modules:
                delattr(layer, name)
    return result


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear and convolution layers by name; refuses a model that is quantized already."""
    layers: dict[str, nn.Module]
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    if not layers:
        raise ValueError("the model has no nn.Linear or nn.Conv2d: nothing to quantize")
    if any(is_quantized(layer) for layer in layers.values()):
        raise ValueError("the model is fake-quantized already: start from the plain one, or bake() it first")
    return layers


def is_quantized(layer: nn.Module) -> bool:
    """Whether `fake_quantize_model` has been at this layer's weight."""
    return weight_quantizer(layer) is not None


def weight_quantizer(layer: nn.Module) -> WeightQuantizer | LearnedStep | None:
    """What rounds this layer's weight, if anything does."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    steps = cast(nn.ModuleDict, layer.parametrizations)["weight"]
    found = [step for step in steps.children() if isinstance(step, WeightQuantizer | LearnedStep)]
    return found[-1] if found else None


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, step: Tensor, qmin: int, qmax: int, gradient_scale: float) -> Tensor:
        ratio = tensor * (1.0 / step)
        codes = ratio.clamp(qmin, qmax).round()
        ctx.save_for_backward(ratio, codes)
        ctx.settings = qmin, qmax, gradient_scale
        return codes * step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (ratio, codes), (qmin, qmax, gradient_scale) = ctx.saved_tensors, ctx.settings
        inside = (ratio > qmin) & (ratio < qmax)
        slope = torch.where(inside, codes - ratio, codes)
        return gradients[0] * inside, (gradients[0] * slope).sum() * gradient_scale, None, None, None


def _own_class(layer: nn.Module) -> None:
    """Give a parametrized layer a class of its own: deep copies share theirs, and `parametrize` changes it in place."""
    kind = type(layer)
    layer.__class__ = type(kind.__name__, kind.__bases__, dict(kind.__dict__))


def _quantize_input(layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (cast(nn.Module, layer.input_quantizer)(arguments[0]), *arguments[1:])


def _quantize_output(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
    quantized: Tensor = cast(nn.Module, layer.output_quantizer)(output)
    return quantized


def _range(ranges: Mapping[str, LayerRange] | None, name: str) -> LayerRange:
    if ranges is None or name not in ranges:
        raise ValueError(f"no range for layer {name!r}: pass ranges=calibrate(model, batches) of this very model")
    return ranges[name]
