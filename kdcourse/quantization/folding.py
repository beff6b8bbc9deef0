"""Batch norm folded into the layer before it: what is quantized must be what runs."""

import warnings
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._base.parametrizing import copied
from .._base.tracing import foreign_hooks, is_plain
from .._base.weights import CoverageWarning, Place, kind_of, output_axis
from ._calls import Calls, plain_line

PAIRS: list[tuple[type[nn.Module], type[nn.Module]]] = [
    (nn.Linear, nn.BatchNorm1d),
    (nn.Conv1d, nn.BatchNorm1d), (nn.ConvTranspose1d, nn.BatchNorm1d),
    (nn.Conv2d, nn.BatchNorm2d), (nn.ConvTranspose2d, nn.BatchNorm2d),
    (nn.Conv3d, nn.BatchNorm3d), (nn.ConvTranspose3d, nn.BatchNorm3d),
]  # fmt: skip
Model = TypeVar("Model", bound=nn.Module)


def fold_batchnorm(model: Model) -> Model:
    """A copy in eval mode in which each convolution or linear layer has taken in the batch norm that follows it.

    w' = w · γ / √(σ² + ε), b' = (b - μ) · γ / √(σ² + ε) + β, by output channel, with the running μ and σ²: the
    outputs in eval mode are the same up to rounding. The computation is in float64. Masks, ``requires_grad``, dtype and
    memory format stay; tied weights part; an ``.architecture``, which is no longer true, goes. In nested plain
    ``nn.Sequential`` a batch norm vanishes and the other layers keep their names; in any other network, whose calls
    `torch.fx` lists, an ``nn.Identity`` takes its place. A batch norm that does not have such a layer for itself stays,
    and a warning says why. The linear layer before a batch norm takes (N, features) alone. Raises ``ValueError`` for a
    network that `torch.fx` cannot trace, a weight that is computed (a mask is not), and a batch norm without
    running statistics or of another width.

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2, equation 14.

    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).eval()
    >>> folded, images = fold_batchnorm(model), torch.rand(1, 1, 5, 5)
    >>> [type(layer).__name__ for layer in folded], torch.allclose(folded(images), model(images), atol=1e-6)
    (['Conv2d', 'ReLU'], True)
    """
    folded = copied(model).eval()
    names = {part: name for name, part in folded.named_modules() if isinstance(part, _BatchNorm)}
    if not names:
        return folded
    calls, gone, left = Calls(folded, _BatchNorm), set[nn.Module](), list[str]()
    for norm in (module for module in list(calls.before) if module in names):
        layer, reason = _layer_of(norm, calls)
        if reason:
            left.append(f"{names[norm]!r} {reason}")
        else:
            _take_in(cast(Any, layer), cast(Any, norm), names[norm])
            calls.join(cast(nn.Module, layer), norm)
            gone.add(norm)
    _remove(folded, gone)
    if left:
        warnings.warn(f"batch norms that stay: {'; '.join(left)}", CoverageWarning, stacklevel=2)
    if gone and hasattr(folded, "architecture"):
        del folded.architecture
    return folded


def _layer_of(norm: nn.Module, calls: Calls) -> tuple[nn.Module | None, str]:
    """The layer that can take ``norm`` in, or why there is none."""
    before = calls.before[norm]
    layer = next(iter(before)) if len(before) == 1 else None
    if layer is None or not any(is_plain(layer, kind) and is_plain(norm, own) for kind, own in PAIRS):
        return None, "does not always follow the same convolution or linear layer"
    if calls.after[layer] != {norm}:
        return None, "follows a layer that is also read without it"
    if foreign_hooks(norm) or foreign_hooks(layer):
        return None, "has hooks, or the layer before it has: remove them first"
    return layer, ""


@torch.no_grad()
def _take_in(layer: Any, norm: Any, name: str) -> None:
    weight, factor = Place(layer, "weight"), _factor(norm, name)
    outputs = len(layer.weight) if output_axis(layer) == 0 else layer.out_channels
    if norm.num_features != outputs:
        raise ValueError(f"batch norm {name!r} is {norm.num_features} wide, the layer before it {outputs}")
    parts = [weight, *(Place(part, end) for part, end in ((layer, "bias"), (norm, "weight"), (norm, "bias")))]
    for place in parts:
        masked = place is weight and len(place.steps) == 1 and place.mask is not None
        if place.computed_by and not masked:
            what = f"the {place.attribute} of the {kind_of(place.module)}"
            raise ValueError(f"batch norm {name!r} cannot be folded: {what} is computed by {place.computed_by}")
    shift = -norm.running_mean.double() if layer.bias is None else layer.bias.double() - norm.running_mean.double()
    shift *= factor
    if norm.bias is not None:
        shift += norm.bias.double()
    stored = weight.stored
    scaled = nn.Parameter(
        torch.empty_like(stored).copy_(_scaled(stored.double(), factor, layer)), requires_grad=stored.requires_grad
    )
    bias = next(part for part in (layer.bias, norm.bias, stored) if part is not None)
    layer.bias = nn.Parameter(shift.to(stored.dtype), requires_grad=bias.requires_grad)
    if weight.steps:
        weight.steps.original = scaled
    else:
        layer.weight = scaled
    if isinstance(norm, nn.BatchNorm1d):
        layer.register_forward_pre_hook(_check_dimensions)


def _factor(norm: Any, name: str) -> Tensor:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"batch norm {name!r} keeps no running statistics: it has nothing fixed to fold")
    factor: Tensor = (norm.running_var.double() + norm.eps).rsqrt()
    return factor if norm.weight is None else factor * norm.weight.double()


def _scaled(weight: Tensor, factor: Tensor, layer: Any) -> Tensor:
    ones = [1] * (weight.ndim - 2)
    if output_axis(layer) == 0:
        return weight * factor.reshape(-1, 1, *ones)
    # (in, out of a group, ...) -> (groups, in of a group, out of a group, ...)
    grouped = weight.reshape(layer.groups, -1, *weight.shape[1:]) * factor.reshape(layer.groups, 1, -1, *ones)
    return grouped.reshape(weight.shape)


def _check_dimensions(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
    """BatchNorm1d takes dimension 1 for the channels: of (N, L, features) that is another than the layer's."""
    wanted = 2 if isinstance(layer, nn.Linear) else 3
    if arguments and arguments[0].ndim != wanted:
        shape = tuple(arguments[0].shape)
        raise ValueError(f"with its batch norm folded this layer takes {wanted} dimensions, got the shape {shape}")


def _remove(model: nn.Module, norms: set[nn.Module]) -> None:
    line = set(plain_line(model))
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in norms and parent in line:
                del parent._modules[name]
            elif child in norms:
                parent._modules[name] = nn.Identity().eval()
