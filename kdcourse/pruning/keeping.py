"""Keeping pruned weights pruned, through any optimizer, ``state_dict`` and ``copy.deepcopy``.

`apply_masks` lets the layer compute with ``masked(stored weight)``: the gradient of a pruned weight is zero, and
whatever momentum or weight decay still do to the stored number never reaches the output. The optimizer trains the
same parameter as before. While masked, a layer's weight is computed at each use: editing ``layer.weight`` in place
has no effect (`rewind` sets weights), and the model is saved by its ``state_dict`` only, not pickled whole. A
parameter that several layers share is masked in those that are named.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ._layers import Place, all_places, check_not_emptied, places


class Masked(nn.Module):
    """Owns a mask as a buffer and zeroes the weights that it does not keep; put on a layer by `apply_masks`."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, stored: Tensor) -> Tensor:
        # where, not a product: zero also where the stored number is NaN
        return torch.where(self.mask, stored, 0)


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Prune ``model`` in place: the layers named in ``masks`` compute with their kept weights only, from now on.

    A layer that has a mask gets the new one instead; layers that ``masks`` does not name stay as they are. Pruned
    weights are zeroed in the store as well, so a weight that a later mask keeps again starts at exactly zero.
    Names are those of `prunable_weights`; masks are copied. An optimizer built before still trains the same
    parameters. Raises ``ValueError``, and changes nothing, for an unknown layer, a mask of the wrong shape or
    dtype, or one that empties its layer.
    """
    chosen = places(model, masks) if masks else {}
    for (name, place), mask in zip(chosen.items(), masks.values(), strict=True):
        _check_mask(name, place, mask)
    for place, mask in zip(chosen.values(), masks.values(), strict=True):
        # laid out in memory like the weight: a channels-last network stays one
        _apply(place, torch.empty_like(place.stored, dtype=torch.bool).copy_(mask))


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the masks that ``model`` carries, by layer; empty for a model without."""
    return {name: masked.mask.clone() for name, (_, masked) in _masked_places(model).items()}


def remove_masks(model: nn.Module) -> None:
    """Make the zeros part of the weights: plain parameters again, the same objects in the same order as before.

    The model's state dict has its former keys, and nothing keeps the zeros zero when training goes on.
    """
    for place, masked in _masked_places(model).values():
        stored, module, attribute = place.stored, *place
        with torch.no_grad():
            stored.masked_fill_(~masked.mask, 0)
        _own_class(module)
        parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
        if attribute == "weight":
            # back in front of the bias: optimizer states are stored by position
            parameters = module._parameters
            module._parameters = {attribute: parameters.pop(attribute), **parameters}


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer, which training in place cannot change.

    Keys are those of the model without masks, values the effective weights, so that it suits `rewind` and
    ``load_state_dict`` of a model without masks alike.
    """
    return {
        name: (value if mask is None else value.masked_fill(~mask, 0)).detach().clone()
        for name, (value, mask) in _plain_state(model).items()
    }


def rewind(model: nn.Module, initial_state: Mapping[str, Tensor]) -> None:
    """Put parameters and buffers back, in place, to those of a `snapshot`; the masks stay and hold.

    Take the snapshot when the weights have the values to come back to: ``dict(model.state_dict())`` without a copy
    follows the training. Optimizers keep their momentum, so build a new one. Raises ``ValueError``, and changes
    nothing, when entries are missing, unknown or of another shape.

    Source: Frankle, Carbin 2019, arXiv:1803.03635; Frankle, Dziugaite, Roy, Carbin 2019, arXiv:1903.01611.
    """
    state = _plain_state(model)
    _check_state(state, initial_state)
    with torch.no_grad():
        for name, (value, mask) in state.items():
            value.copy_(initial_state[name])
            if mask is not None:
                value.masked_fill_(~mask, 0)


def _apply(place: Place, mask: Tensor) -> None:
    module, attribute = place
    with torch.no_grad():
        place.stored.copy_(place.effective.masked_fill(~mask, 0))
    masked = _masked(place)
    if masked is not None:
        masked.mask = mask
        return
    _own_class(module)
    parametrize.register_parametrization(module, attribute, Masked(mask))


def _own_class(module: nn.Module) -> None:
    """Give a parametrized module a class of its own: a deepcopy shares it, and PyTorch edits it in place."""
    if parametrize.is_parametrized(module):
        shared = module.__class__
        module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))


def _masked(place: Place) -> Masked | None:
    """What masks the parameter: nothing, or the only thing that parametrizes it."""
    if not parametrize.is_parametrized(place.module, place.attribute):
        return None
    applied = list(getattr(place.module.parametrizations, place.attribute))
    return applied[0] if len(applied) == 1 and isinstance(applied[0], Masked) else None


def _masked_places(model: nn.Module) -> dict[str, tuple[Place, Masked]]:
    found = {name: (place, _masked(place)) for name, place in all_places(model).items()}
    return {name: (place, masked) for name, (place, masked) in found.items() if masked is not None}


def _plain_state(model: nn.Module) -> dict[str, tuple[Tensor, Tensor | None]]:
    """The live tensors of the state dict under the keys that they have without masks, each with its mask."""
    state: dict[str, Tensor] = model.state_dict()
    plain: dict[str, tuple[Tensor, Tensor | None]] = {}
    for key, value in state.items():
        owner, found, rest = key.rpartition("parametrizations.")
        attribute, _, role = rest.partition(".")
        mask = state.get(f"{owner}parametrizations.{attribute}.0.mask") if found else None
        if mask is None:
            plain[key] = value, None
        elif role == "original":
            plain[owner + attribute] = value, mask
    return plain


def _check_mask(name: str, place: Place, mask: Tensor) -> None:
    if parametrize.is_parametrized(place.module, place.attribute) and _masked(place) is None:
        raise ValueError(f"layer {name!r} is parametrized already, by something other than a mask: remove that first")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"the mask of layer {name!r} must be a bool tensor, True = kept, got {kind}")
    if mask.shape != place.stored.shape:
        shapes = tuple(mask.shape), tuple(place.stored.shape)
        raise ValueError(
            f"the mask of layer {name!r} has shape {shapes[0]}, its weight {shapes[1]}: they must be equal"
        )
    check_not_emptied(name, mask)


def _check_state(state: Mapping[str, tuple[Tensor, Tensor | None]], initial_state: Mapping[str, Tensor]) -> None:
    missing, unknown = sorted(state.keys() - initial_state.keys()), sorted(initial_state.keys() - state.keys())
    if missing or unknown:
        raise ValueError(
            f"the saved state is not this model's: missing {missing}, unknown {unknown}; take it with snapshot(model)"
        )
    for name, (value, _) in state.items():
        saved = initial_state[name]
        if saved.shape != value.shape:
            raise ValueError(f"{name} has shape {tuple(saved.shape)} in the saved state, {tuple(value.shape)} here")
        if saved.data_ptr() == value.data_ptr() and value.numel():
            raise ValueError(f"{name} of the saved state is the model's own tensor, trained since: use snapshot(model)")
