"""Batch norm folded into the layer before it: what is quantized must be what runs."""

import copy
from collections import OrderedDict

import torch
from torch import nn


def fold_batchnorm(model: nn.Sequential) -> nn.Sequential:
    """A copy in eval mode in which each convolution or linear layer has taken in the batch norm that follows it.

    w' = w · γ / √(σ² + ε), b' = (b - μ) · γ / √(σ² + ε) + β, by output channel, with the running μ and σ²: the
    outputs in eval mode are the same up to rounding. Nested ``nn.Sequential`` are folded too; the other layers
    keep their names, and a batch norm that follows no such layer stays. The computation is in float64.
    Raises ``TypeError`` for a model that is no ``nn.Sequential``, ``ValueError`` for a batch norm without running
    statistics or of another width.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2, equation 14.
    """
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"fold_batchnorm needs an nn.Sequential, got {type(model).__name__}")
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    before: nn.Module | None = None
    for name, module in model.named_children():
        if _matches(before, module):
            assert isinstance(before, nn.Conv2d | nn.Linear)
            _take_in(before, module, name)
        else:
            before = fold_batchnorm(module) if isinstance(module, nn.Sequential) else copy.deepcopy(module)
            kept[name] = before
    return nn.Sequential(kept).eval()


def _matches(layer: nn.Module | None, norm: nn.Module) -> bool:
    convolution = isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    return convolution or (isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d))


@torch.no_grad()
def _take_in(layer: nn.Conv2d | nn.Linear, norm: nn.Module, name: str) -> None:
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"batch norm {name!r} keeps no running statistics: it has nothing fixed to fold")
    if norm.num_features != len(layer.weight):
        raise ValueError(f"batch norm {name!r} is {norm.num_features} wide, the layer before it {len(layer.weight)}")
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor *= norm.weight.double()
    bias = -norm.running_mean.double() if layer.bias is None else layer.bias.double() - norm.running_mean.double()
    bias *= factor
    if norm.bias is not None:
        bias += norm.bias.double()
    weight = layer.weight.double() * factor.reshape(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight.copy_(weight)
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype))
