"""Whether networks can be averaged: one architecture, the same names, shapes, dtypes and ties."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize

from .._base.weights import all_places, kind_of, maskable


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, a shared one once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def is_inexact(tensor: Tensor) -> bool:
    """Whether a mean of such tensors is one of them: of floating-point or complex numbers, not of integers or bools."""
    return tensor.is_floating_point() or tensor.is_complex()


def check_alike(models: Sequence[nn.Module], labels: Sequence[str], *, wider: bool = False) -> None:
    """Raise unless all have the architecture of the first, and weights that are stored, masked or rounded.

    With ``wider`` the first may hold its numbers in a wider format than the others.
    """
    for model, label in zip(models, labels, strict=True):
        if not isinstance(model, nn.Module):
            raise TypeError(f"{label} must be an nn.Module, got {type(model).__name__}")
        for name, place in all_places(model).items():
            if not maskable(place):
                raise ValueError(f"the weight {name!r} of {label} is computed by {place.computed_by}")
    for model, label in zip(models[1:], labels[1:], strict=True):
        for found, wanted in ((_layers(model), _layers(models[0])), (_shapes(model), _shapes(models[0]))):
            _check_equal(found, wanted, label, labels[0])
        _check_dtypes(tensors(model), tensors(models[0]), label, labels[0], wider=wider)


def _layers(model: nn.Module) -> dict[str, str]:
    """Each layer's class; of PyTorch's own, except dropout, also the settings that it prints, without momentum."""
    found = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        own = parametrize.type_before_parametrizations(layer).__module__.startswith("torch.nn.modules.")
        settings = layer.extra_repr() if own and not isinstance(layer, _DropoutNd) else ""
        settings = re.sub(r"momentum=[^,)]+", "", settings)
        found[f"layer {name!r}" if name else "the network"] = f"a {kind_of(layer)}({settings})"
    return found


def _shapes(model: nn.Module) -> dict[str, str]:
    """Each tensor's shape, and the name that it had before where it is tied."""
    first: dict[int, str] = {}
    everything = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    return {
        repr(name): f"of shape {tuple(tensor.shape)}"
        + (f", tied to {owner!r}" if (owner := first.setdefault(id(tensor), name)) != name else "")
        for name, tensor in everything
    }


def _check_equal(found: dict[str, str], wanted: dict[str, str], label: str, first: str) -> None:
    for name in (*wanted, *found):
        if found.get(name) != wanted.get(name):
            ours, theirs = (part.get(name, "missing") for part in (found, wanted))
            raise ValueError(
                f"{name} is {ours} in {label} and {theirs} in {first}: weights can only be averaged between networks "
                "of one architecture, make them by the same function"
            )


def _check_dtypes(found: dict[str, Tensor], wanted: dict[str, Tensor], label: str, first: str, *, wider: bool) -> None:
    for name, tensor in found.items():
        dtype = wanted[name].dtype
        fits = wider and is_inexact(tensor) and torch.promote_types(tensor.dtype, dtype) == dtype
        if tensor.dtype != dtype and not fits:
            raise ValueError(f"{name!r} is {tensor.dtype} in {label} and {dtype} in {first}: convert one of them first")
