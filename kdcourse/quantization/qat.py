"""Training through quantization: a copy of a network whose weights and activations are rounded in the forward pass.

The result is made of plain modules: it trains with any loop, deep-copies and has a state_dict. Fold batch norm
first (`fold_batchnorm`), so that the weights that are rounded are those that will run.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from .._base.checks import check_finite, widen
from .._base.parametrizing import add_step, copied, make_permanent
from .._base.weights import (
    COVERED,
    CoverageWarning,
    Place,
    Rounding,
    all_places,
    called_layers,
    kind_of,
    matrices,
    output_axis,
    warn_left_out,
)
from .affine import QuantParams, choose_qparams, fake_quantize_formula, integer_range, qparams_from_range
from .calibration import LayerRange, Range


class WeightQuantizer(Rounding):
    """Symmetric weights, a scale for each output channel, chosen again from the weights in every forward pass."""

    def __init__(self, bits: int, *, axis: int = 0) -> None:
        super().__init__()
        integer_range(bits, symmetric=True)
        self.bits, self.axis = bits, axis

    def qparams(self, weight: Tensor) -> QuantParams:
        """The parameters for the current ``weight``."""
        return choose_qparams(widen(weight), bits=self.bits, symmetric=True, axis=self.axis)

    def forward(self, weight: Tensor) -> Tensor:
        return fake_quantize_formula(widen(weight), self.qparams(weight)).to(weight.dtype)


class LearnedStep(Rounding):
    """Weights with one learned scale for the layer, trained with the other parameters (`learned_step_quantize`).

    Starts at 2 · mean|w| / √qmax. A step that training pushes below zero counts by its size.

    Source: Esser et al. 2020, arXiv:1902.08153, sections 2 and 2.1.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        weight = widen(weight)
        check_finite("weight", weight)
        self.bits = bits
        self.qmin, self.qmax = integer_range(bits, symmetric=False, signed=True)
        start = 2 * weight.detach().abs().mean() / math.sqrt(self.qmax)
        self.step = nn.Parameter(start if start > 0 else torch.ones_like(start))

    def qparams(self, weight: Tensor) -> QuantParams:
        """The parameters of the learned step."""
        step = widen(self.step.detach().abs())
        return QuantParams(step, torch.zeros_like(step, dtype=torch.int32), self.bits, self.qmin, self.qmax)

    def forward(self, weight: Tensor) -> Tensor:
        gradient_scale = 1 / math.sqrt(weight.numel() * self.qmax)
        step = widen(self.step.abs())
        rounded = learned_step_quantize(
            widen(weight), step, qmin=self.qmin, qmax=self.qmax, gradient_scale=gradient_scale
        )
        return rounded.to(weight.dtype)


class ActivationQuantizer(nn.Module):
    """Affine activations in a calibrated range that training does not change; zeros stay exact."""

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
        return QuantParams(widen(self.scale), self.zero_point, self.bits, self.qmin, self.qmax)

    def forward(self, activations: Tensor) -> Tensor:
        return fake_quantize_formula(widen(activations), self.qparams()).to(activations.dtype)


def learned_step_quantize(tensor: Tensor, step: Tensor, *, qmin: int, qmax: int, gradient_scale: float = 1.0) -> Tensor:
    """round(clamp(v / s, qmin, qmax)) · s, with a gradient for the step s > 0, a 0-d tensor.

    ∂/∂v is 1 inside and 0 where saturated; ∂/∂s is round(v/s) - v/s inside, qmin or qmax where saturated, summed
    and multiplied by ``gradient_scale``, for which the paper takes 1 / √(elements · qmax).

    Source: Esser et al. 2020, arXiv:1902.08153, equations 1 to 5.

    >>> learned_step_quantize(torch.tensor([-2.0, 0.3, 0.6]), torch.tensor(0.5), qmin=-2, qmax=1)
    tensor([-1.0000,  0.5000,  0.5000])
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
    """A copy of ``model`` that computes with rounded weights and, in its linear and convolution layers, rounded inputs.

    ``weight_bits``: 2 to 8, or by layer name for those layers alone: linear, convolution and recurrent layers and
    attention. Weights are symmetric per output channel (dimension 1 in a transposed convolution, else 0), with scales
    that follow them; with ``learned_step`` a scale per layer is learned. ``activation_bits`` (none: left alone) rounds
    the inputs of those that are linear or convolution layers, within ``ranges``, as `calibrate` returns them;
    ``quantize_output`` also the output of the one that ran last there. Biases stay float; masks work on what is
    rounded, weights that something else computes are rounded after it; half-precision numbers are rounded in float32.
    The shape of the copy: `torch.nn.utils.parametrize` on the weights, hooks for the activations. What is left out is
    named in a warning. Raises ``ValueError`` for a model without such layers, an unknown layer name, ranges that lack
    one, or a weight that a hook computes.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.

    >>> model, images = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.rand(16, 4)
    >>> ranges = calibrate(model, [images])
    >>> rounded = fake_quantize_model(model, weight_bits=2, activation_bits=8, ranges=ranges)
    >>> len(rounded[0].weight[0].unique()) <= 3
    True
    """
    found = quantizable(model)
    bits = dict(weight_bits) if isinstance(weight_bits, Mapping) else dict.fromkeys(found, weight_bits)
    if not bits or bits.keys() - found.keys():
        raise ValueError(f"nothing to quantize in {sorted(bits)}: the linear and convolution layers are {list(found)}")
    if quantize_output and activation_bits is None:
        raise ValueError("quantize_output needs activation_bits")
    if not isinstance(weight_bits, Mapping):
        warn_left_out(model, found.values(), COVERED)
    result = copied(model)
    places = {name: place for name, place in all_places(result).items() if name in bits}
    for name, place in places.items():
        _round(name, place, bits[name], learned_step)
    if activation_bits is not None:
        _round_activations(result, places, activation_bits, ranges or {}, quantize_output)
    return result


def bake(model: nn.Module) -> nn.Module:
    """A plain copy: every weight that is computed is stored as such, and activations are no longer rounded.

    After `fake_quantize_model` and `share_model`, masks, and also weight norm, spectral norm and `nn.utils.prune`.
    It gives the outputs of ``model`` in eval mode, up to those roundings.

    >>> model = nn.Sequential(nn.Linear(4, 2))
    >>> baked = bake(fake_quantize_model(model, weight_bits=2))
    >>> type(baked[0]).__name__, len(baked[0].weight[0].unique()) <= 3
    ('Linear', True)
    """
    result = copied(model)
    make_permanent(result)
    for layer in result.modules():
        for hooks in (layer._forward_pre_hooks, layer._forward_hooks):
            for key in [key for key, hook in hooks.items() if hook in (_quantize_input, _quantize_output)]:
                del hooks[key]
        for name in ("input_quantizer", "output_quantizer"):
            if isinstance(layer._modules.get(name), ActivationQuantizer):
                delattr(layer, name)
    return result


def quantizable(model: nn.Module) -> dict[str, Place]:
    """The weights that can be quantized, by name; refuses a model that is quantized already."""
    found = matrices(model)
    if not found:
        raise ValueError("the model has no nn.Linear or nn.Conv2d, nor any other layer that can be quantized")
    if any(isinstance(step, Rounding) for place in found.values() for step in place.steps):
        raise ValueError("the model is fake-quantized already: start from the plain one, or bake() it first")
    return found


def weight_quantizer(layer: nn.Module) -> WeightQuantizer | LearnedStep | None:
    """What rounds this layer's weight, if anything does, last of all."""
    last = list(Place(layer, "weight").steps)[-1:]
    return last[0] if last and isinstance(last[0], WeightQuantizer | LearnedStep) else None


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


def _round(name: str, place: Place, bits: int, learned_step: bool) -> None:
    if place.computed_by and not place.steps:
        raise ValueError(f"layer {name!r} is computed by {place.computed_by}")
    quantizer = (
        LearnedStep(place.effective, bits) if learned_step else WeightQuantizer(bits, axis=output_axis(place.module))
    )
    # what is frozen stays so
    quantizer.requires_grad_(any(original.requires_grad for original in place.originals))
    add_step(place, quantizer)


def _round_activations(
    model: nn.Module, places: Mapping[str, Place], bits: int, ranges: Mapping[str, LayerRange], output: bool
) -> None:
    layers = called_layers(model, places)
    if not layers:
        raise ValueError(f"no linear or convolution layer among {list(places)}, whose activations could be rounded")
    missing = [name for name in layers if name not in ranges]
    if missing and not ranges:
        raise ValueError(f"no range for layer {missing[0]!r}: pass ranges=calibrate(model, batches) of this very model")
    if missing:
        raise ValueError(
            f"no range for layer {missing[0]!r}, which did not run when the model was calibrated: "
            "name the layers to quantize, and their bits, with weight_bits={...}"
        )
    rest = [name for name in places if name not in layers]
    if rest:
        message = f"left out: the activations of {rest}, which are not linear or convolution layers that are called"
        warnings.warn(message, CoverageWarning, stacklevel=3)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # nested tensors cannot be rounded
    for name, layer in layers.items():
        quantizer = ActivationQuantizer(ranges[name].inputs, bits).to(places[name].stored.device)
        layer.add_module("input_quantizer", quantizer)
        layer.register_forward_pre_hook(_quantize_input)
    if output:
        last = [name for name in ranges if name in layers][-1]
        quantizer = ActivationQuantizer(ranges[last].outputs, bits).to(places[last].stored.device)
        layers[last].add_module("output_quantizer", quantizer)
        layers[last].register_forward_hook(_quantize_output)


def _quantize_input(layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not arguments:
        raise ValueError(f"a {kind_of(layer)} was given its input by name: put the input first, without a name")
    return (cast(nn.Module, layer.input_quantizer)(arguments[0]), *arguments[1:])


def _quantize_output(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
    quantized: Tensor = cast(nn.Module, layer.output_quantizer)(output)
    return quantized
