"""07.5 batch norm folded in."""

from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Layer = tuple[Tensor, Tensor]


def folded(weight: Tensor, norm: Any) -> Layer:
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * factor
    return weight * factor.reshape(-1, 1, 1, 1), bias


def folded_by_trying(weight: Tensor, norm: Any) -> Layer:
    """What the norm does to 0 and to 1 says all: it is a straight line in each channel."""
    with torch.no_grad():
        bias = norm.eval()(weight.new_zeros(1, len(weight), 1, 1))
        factor = norm(torch.ones_like(bias)) - bias
    return weight * factor.transpose(0, 1), bias.flatten()


def folded_as_pytorch_does(weight: Tensor, norm: Any) -> Layer:
    return nn.utils.fusion.fuse_conv_bn_weights(
        weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _fold(weight: Tensor, norm: Any, factor: Tensor) -> Layer:
    return weight * factor.view(-1, 1, 1, 1), norm.bias - norm.running_mean * factor


def _factor(norm: Any) -> Tensor:
    return norm.weight * (norm.running_var + norm.eps).rsqrt()


def without_eps(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight / norm.running_var.sqrt())


def eps_outside_the_root(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight / (norm.running_var.sqrt() + norm.eps))


def variance_for_deviation(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight / (norm.running_var + norm.eps))


def variance_without_eps(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight / norm.running_var)


def mean_forgotten(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, _factor(norm))[0], norm.bias.clone()


def mean_not_scaled(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, _factor(norm))[0], norm.bias - norm.running_mean


def mean_added(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return _fold(weight, norm, factor)[0], norm.bias + norm.running_mean * factor


def shift_forgotten(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return _fold(weight, norm, factor)[0], -norm.running_mean * factor


def shift_scaled_too(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return _fold(weight, norm, factor)[0], (norm.bias - norm.running_mean) * factor


def gain_forgotten(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, (norm.running_var + norm.eps).rsqrt())


def along_the_inputs(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return weight * factor.view(1, -1, 1, 1), _fold(weight, norm, factor)[1]


def along_the_last_axis(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return weight * factor, _fold(weight, norm, factor)[1]


def only_the_bias(weight: Tensor, norm: Any) -> Layer:
    return weight.clone(), _fold(weight, norm, _factor(norm))[1]


def _norm(gain: list[float], shift: list[float], mean: list[float], variance: list[float], eps: float) -> nn.Module:
    norm = nn.BatchNorm2d(len(gain), eps=eps).double().eval()
    values = (gain, shift, mean, variance)
    places = (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var)
    for place, value in zip(places, values, strict=True):
        assert place is not None
        place.copy_(torch.tensor(value))
    return norm


def results_swapped(weight: Tensor, norm: Any) -> Layer:
    new_weight, bias = folded(weight, norm)
    return bias, new_weight


def gain_forgotten_in_the_bias(weight: Tensor, norm: Any) -> Layer:
    return folded(weight, norm)[0], norm.bias - norm.running_mean * (norm.running_var + norm.eps).rsqrt()


def another_eps(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight * (norm.running_var + 1e-5).rsqrt())


def mean_of_the_weights(weight: Tensor, norm: Any) -> Layer:
    return folded(weight, norm)[0], norm.bias - weight.mean(dim=(1, 2, 3)) * _factor(norm)


def times_the_deviation(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight * (norm.running_var + norm.eps).sqrt())


def folded_cases() -> list[Case]:
    small = torch.tensor([[[[1.0, 2.0]], [[0.0, -1.0]]], [[[3.0, 0.5]], [[-2.0, 1.0]]]], dtype=torch.float64)
    two = _norm([2.0, 0.5], [1.0, -1.0], [0.5, 2.0], [3.0, 0.25], 1e-2)
    three = _norm([1.5, -0.75, 0.25], [0.5, 2.0, -1.0], [-3.0, 0.5, 4.0], [0.0004, 1.7, 6.0], 1e-5)
    four = _norm([1.0, 3.0, 0.5, -2.0], [0.0, 1.0, 2.0, 3.0], [1.0, -1.0, 0.25, 2.0], [0.01, 2.0, 5.0, 0.5], 1e-3)
    return [case(small, two), case(draw(3, 3, 3, 3, seed=704), three), case(draw(4, 2, 3, 3, seed=705), four)]


def folded_drawn(g: torch.Generator) -> Case:
    outputs = integer(g, 2, 5)
    gain, shift, mean = (draw(outputs, seed=g).tolist() for _ in range(3))
    variance = (draw(outputs, seed=g).square() + 0.01).tolist()
    weight = draw(outputs, integer(g, 1, 4), integer(g, 1, 3), integer(g, 1, 3), seed=g)
    return case(weight, _norm(gain, shift, mean, variance, 0.1 ** integer(g, 1, 6)))


EXERCISE = Exercise(
    id="07.5",
    title="batch norm folded in",
    question=(
        "A convolution without bias has the weight `weight` of shape (O, I, height, width). It is followed by `norm`, "
        "an `nn.BatchNorm2d` of O channels in eval mode. For each channel `norm` has `weight` (γ), `bias` (β), "
        "`running_mean` (μ) and `running_var` (σ²), and one number `eps` (ε). It computes "
        "(z - μ) / √(σ² + ε) · γ + β. Write `my_folded(weight, norm)`: the tuple of a weight, shape (O, I, height, "
        "width), and a bias, shape (O,), with which one convolution does what the two layers did."
    ),
    skeleton=(
        "def my_folded(weight, norm):\n"
        '    """Weight and bias of the convolution with its batch norm folded in."""\n    ...'
    ),
    reference=folded,
    alternatives=(folded_by_trying, folded_as_pytorch_does),
    cases=folded_cases,
    drawn=folded_drawn,
    hints=(
        "In eval mode batch norm is a straight line in each channel: a factor and a shift. What is the factor?",
        "`factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)`. It scales whatever makes up output channel "
        "k; the rest is bias.",
        "`weight * factor.reshape(-1, 1, 1, 1)` and `norm.bias - norm.running_mean * factor`.",
    ),
    misconceptions=(
        Misconception(
            "eps left out",
            without_eps,
            "you leave out eps. The error is small and constant, and so easily overlooked; where a channel's variance "
            "is small it is large",
        ),
        Misconception(
            "eps outside the root",
            eps_outside_the_root,
            "you add eps to the root. Batch norm adds it to the variance, under the root: √(σ² + ε)",
        ),
        Misconception(
            "the variance for the deviation",
            variance_for_deviation,
            "you divide by the variance. Batch norm divides by the standard deviation: the root is missing",
        ),
        Misconception(
            "the variance for the deviation, without eps",
            variance_without_eps,
            "you divide by `running_var` directly. Batch norm divides by √(σ² + ε): both the root and eps are missing",
        ),
        Misconception(
            "the mean forgotten",
            mean_forgotten,
            "the weight is right, but the bias forgets the running mean. Batch norm subtracts it from every output, so "
            "-μ · factor remains in the bias",
        ),
        Misconception(
            "the mean not scaled",
            mean_not_scaled,
            "you take the mean off unscaled. It is subtracted before batch norm multiplies, so it is multiplied as "
            "well: β - μ · factor",
        ),
        Misconception(
            "the mean added",
            mean_added,
            "the mean has the wrong sign in your bias. Batch norm subtracts it",
        ),
        Misconception(
            "the shift forgotten",
            shift_forgotten,
            "the weight is right, but the bias lacks β, which batch norm adds last",
        ),
        Misconception(
            "the shift scaled too",
            shift_scaled_too,
            "you multiply β by the factor as well. Batch norm adds it after multiplying, so it stays as it is",
        ),
        Misconception(
            "the gain forgotten",
            gain_forgotten,
            "you forget γ, `norm.weight`: batch norm multiplies by it after dividing by the deviation",
        ),
        Misconception(
            "along the inputs",
            along_the_inputs,
            "you scale the input channels. Batch norm comes after the convolution, so factor k belongs to output k, "
            "dimension 0. In a square layer the shape does not show it",
        ),
        Misconception(
            "along the last axis",
            along_the_last_axis,
            "`weight * factor` aligns the factors with the last dimension, the width of the kernel. They belong to the "
            "output channels: reshape them to (O, 1, 1, 1)",
        ),
        Misconception(
            "only the bias",
            only_the_bias,
            "your weight is unchanged. Batch norm also multiplies: its factor has to go into the weight",
        ),
        Misconception(
            "results swapped",
            results_swapped,
            "both tensors are right, in the wrong order: weight first, bias second",
        ),
        Misconception(
            "the gain forgotten in the bias",
            gain_forgotten_in_the_bias,
            "the weight is right, but in the bias the mean is only divided by the deviation. It is multiplied by γ "
            "too: μ · factor",
        ),
        Misconception(
            "another eps",
            another_eps,
            "you take 1e-5 for eps, the default. This norm may have another one: `norm.eps`",
        ),
        Misconception(
            "the mean of the weights",
            mean_of_the_weights,
            "you subtract the mean of the weights. μ is the mean of the layer's outputs, seen in training: "
            "`norm.running_mean`",
        ),
        Misconception(
            "times the deviation",
            times_the_deviation,
            "you multiply by the standard deviation. Batch norm divides by it",
        ),
    ),
    shows="in eval mode batch norm is a factor and a shift of each output channel: the layer before can absorb both.",
    derivation=(
        "z_k = Σ w_k · x, so (z_k - μ_k) f_k + β_k = Σ (w_k f_k) · x + (β_k - μ_k f_k) with f_k = γ_k / √(σ²_k + ε). "
        "Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2."
    ),
    forbidden=("kdcourse.quantization.fold_batchnorm",),
    points=2,
)
