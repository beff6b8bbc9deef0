"""Where a network's weights live, and what computes them.

A weight is a parameter, or it is computed from parameters each time it is read: by `torch.nn.utils.parametrize` (our
masks, quantizers and codebooks, PyTorch's own weight norm), or by a hook before the forward pass (`nn.utils.prune` and
the older weight and spectral norm).
"""

import warnings
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from inspect import getattr_static, isfunction
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from .modes import in_eval_mode

COVERED = "only the weights of linear, convolution and recurrent layers and of attention are covered"
BAKE = "kdcourse.quantization.bake() makes a copy in which it is permanent"


class CoverageWarning(UserWarning):
    """A helper left a part of the network out; the message names it."""


class Masked(nn.Module):
    """Owns a mask as a buffer and zeroes the weights that it does not keep; put on a layer by `apply_masks`.

    >>> Masked(torch.tensor([True, False]))(torch.tensor([3.0, 4.0]))
    tensor([3., 0.])
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, stored: Tensor) -> Tensor:
        # where, not a product: zero also where the stored number is NaN
        return torch.where(self.mask, stored, 0)


class Rounding(nn.Module):
    """What computes a weight of the same shape whose zeros stay zero, so that a mask can work before it."""


class Place(NamedTuple):
    """A weight of a module, by its attribute's name."""

    module: nn.Module
    attribute: str

    @property
    def steps(self) -> Any:
        """The parametrizations that compute it, in their order: a ``ParametrizationList``, or an empty tuple."""
        if not parametrize.is_parametrized(self.module, self.attribute):
            return ()
        return cast(nn.ModuleDict, self.module.parametrizations)[self.attribute]

    @property
    def originals(self) -> list[Tensor]:
        """The parameters that it is, or is computed from."""
        if self.steps:
            return [*self.steps.parameters(recurse=False), *self.steps.buffers(recurse=False)]
        if self.attribute in hooked(self.module):
            ends = (f"{self.attribute}_{end}" for end in ("orig", "v", "g"))
            return [cast(Tensor, getattr(self.module, end)) for end in ends if hasattr(self.module, end)]
        return [cast(Tensor, getattr(self.module, self.attribute))]

    @property
    def stored(self) -> Tensor:
        """The leaf that the optimizer holds; the first one where there are several."""
        return self.originals[0]

    @property
    def effective(self) -> Tensor:
        """What the forward pass uses in eval mode: the parameter, or what is computed from it each time."""
        hook: Any = hooked(self.module).get(self.attribute)
        if isinstance(hook, SpectralNorm):
            value = hook.compute_weight(self.module, do_power_iteration=False)
        elif hook is not None:
            value = hook.apply_mask(self.module) if hasattr(hook, "apply_mask") else hook.compute_weight(self.module)
        else:
            # spectral norm in train mode changes whenever it is read
            with in_eval_mode(self.steps) if self.steps else nullcontext():
                value = getattr(self.module, self.attribute)
        return value

    @property
    def mask(self) -> Masked | None:
        """Our mask on the stored weight, if it has one."""
        first = self.steps[0] if self.steps and self.steps.is_tensor else None
        return first if isinstance(first, Masked) else None

    @property
    def computed_by(self) -> str:
        """What computes it, and the way out of that; empty for a plain parameter."""
        if self.attribute in hooked(self.module):
            return f"{type(hooked(self.module)[self.attribute]).__name__}, a hook: {BAKE}"
        if len(self.steps) == 1 and self.mask is not None:
            return "a mask: remove_masks() makes it permanent"
        return f"{', '.join(type(step).__name__.lstrip('_') for step in self.steps)}: {BAKE}" if self.steps else ""


def maskable(place: Place) -> bool:
    """Whether zeros of the stored weight are zeros of what the layer computes with."""
    mask, plain = place.mask, place.attribute not in hooked(place.module)
    return plain and all(step is mask or isinstance(step, Rounding) for step in place.steps)


def hooked(module: nn.Module) -> dict[str, Any]:
    """The hooks of `nn.utils.prune` and of the older norms that compute a weight before each forward pass."""
    kinds = prune.BasePruningMethod, SpectralNorm, WeightNorm
    hooks: list[Any] = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, kinds)]
    return {getattr(hook, "_tensor_name", None) or hook.name: hook for hook in hooks}


def all_places(model: nn.Module) -> dict[str, Place]:
    """Every weight, bias and other parameter: under its module's name if it is a weight, else under its full name."""
    check_initialised(model)
    found: dict[str, Place] = {}
    for path, module in model.named_modules():
        if ".parametrizations." in f".{path}.":
            continue  # reached through the module that it belongs to
        hooks = hooked(module)
        raw = {f"{name}_{end}" for name in hooks for end in ("orig", "g", "v")}
        attributes = [name for name, value in module._parameters.items() if value is not None and name not in raw]
        if parametrize.is_parametrized(module):
            attributes += list(cast(nn.ModuleDict, module.parametrizations))
        for attribute in [*attributes, *hooks]:
            name = path if attribute == "weight" else f"{path}.{attribute}".lstrip(".")
            found[name] = Place(module, attribute)
    return found


def check_initialised(model: nn.Module) -> None:
    """Raise for a lazy layer that has not seen a batch yet."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"{name!r} is not initialised yet: run a batch through the model first")


def matrices(model: nn.Module) -> dict[str, Place]:
    """The weights of linear, convolution and recurrent layers and of attention, by name."""
    return {name: place for name, place in all_places(model).items() if _is_matrix(*place)}


def _is_matrix(module: nn.Module, attribute: str) -> bool:
    if isinstance(module, nn.Linear | _ConvNd):
        return attribute == "weight"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return attribute.startswith("weight_")
    return isinstance(module, nn.MultiheadAttention) and attribute.endswith("proj_weight")


def called_layers(model: nn.Module, places: Mapping[str, Place]) -> dict[str, nn.Module]:
    """The linear and convolution layers among ``places``: those whose input can be seen when they are called.

    Attention computes with the weights of its output projection, a linear layer, without calling it.
    """
    inside = {
        part for module in model.modules() if isinstance(module, nn.MultiheadAttention) for part in module.modules()
    }
    kinds = nn.Linear, _ConvNd
    return {
        name: place.module
        for name, place in places.items()
        if isinstance(place.module, kinds) and place.attribute == "weight" and place.module not in inside
    }


def warn_left_out(model: nn.Module, covered: Collection[Place], why: str) -> None:
    """Name the parameters of two or more dimensions that are not ``covered``, and say ``why``."""
    norms = nn.LayerNorm, nn.RMSNorm
    names = [
        name
        for name, place in all_places(model).items()
        if place.stored.ndim > 1 and place not in covered and not isinstance(place.module, norms)
    ]
    # PyTorch's quantized layers pack their weights away and have a method in their place
    names += [name for name, module in model.named_modules() if isfunction(getattr_static(module, "weight", None))]
    if names:
        warnings.warn(f"left out: {', '.join(map(repr, names))}: {why}", CoverageWarning, stacklevel=4)


def owners(model: nn.Module) -> dict[int, dict[str, Place]]:
    """The places of each stored tensor, by its ``id``: more than one where weights are tied."""
    found: dict[int, dict[str, Place]] = {}
    for name, place in all_places(model).items():
        found.setdefault(id(place.stored), {})[name] = place
    return found


def kind_of(module: nn.Module) -> str:
    """The name of its class, without what parametrizations have made of it."""
    return parametrize.type_before_parametrizations(module).__name__


def output_axis(module: nn.Module) -> int:
    """The dimension of a weight that counts output channels; in a transposed convolution, those of one group."""
    return 1 if isinstance(module, _ConvTransposeNd) else 0
