"""Keeping pruned weights pruned, through any optimizer, ``state_dict`` and ``copy.deepcopy``.

`apply_masks` lets the layer compute with ``masked(stored weight)``: the gradient of a pruned weight is zero, and
whatever momentum or weight decay still do to the stored number never reaches the output. The optimizer trains the
same parameter as before. While masked, a layer's weight is computed at each use: editing ``layer.weight`` in place
has no effect (`rewind` sets weights), and the model is saved by its ``state_dict`` only, not pickled whole. Tied
weights are one tensor and have one mask. Under a quantizer (`kdcourse.quantization.fake_quantize_model`) the mask works
on what is rounded.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._base.parametrizing import add_step, drop_step
from .._base.weights import Masked, Place, all_places, check_initialised, maskable, owners
from ._layers import check_not_emptied, places


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Prune ``model`` in place: the layers named in ``masks`` compute with their kept weights only, from now on.

    A layer that has a mask gets the new one instead; layers that ``masks`` does not name are left unchanged. Pruned
    weights are zeroed in the store as well, so a weight that a later mask keeps again starts at exactly zero.
    Names are those of `prunable_weights`; masks are copied. Of tied weights one has to be named, and all are masked.
    An optimizer built before still trains the same parameters. Raises ``ValueError``, and changes nothing, for an
    unknown layer, a mask of the wrong shape or dtype, or one that empties its layer, two masks for one tensor, and a
    weight that is computed by something other than a mask or a quantizer.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> apply_masks(model, layer_magnitude_masks(model, 0.5))
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    >>> sparsity(model)
    0.5
    """
    chosen = places(model, masks) if masks else {}
    ties, wanted = owners(model), dict[int, tuple[str, Tensor]]()
    for (name, place), mask in zip(chosen.items(), masks.values(), strict=True):
        for tied_name, tied in ties[id(place.stored)].items():
            _check_mask(name if tied == place else tied_name, tied, mask)
        first, given = wanted.setdefault(id(place.stored), (name, mask))
        if not torch.equal(given, mask):
            raise ValueError(f"{first!r} and {name!r} are one tied tensor, which can have one mask: name only one")
    for key, (_, mask) in wanted.items():
        for place in ties[key].values():
            _apply(place, mask)


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the masks that ``model`` carries, by layer; empty for a model without.

    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> apply_masks(model, {"0": torch.tensor([[True, False], [True, True]])})
    >>> masks_of(model)
    {'0': tensor([[ True, False],
            [ True,  True]])}
    """
    return {name: masked.mask.clone() for name, (_, masked) in _masked_places(model).items()}


def remove_masks(model: nn.Module) -> None:
    """Make the zeros part of the weights: plain parameters again, the same objects in the same order as before.

    The model's state dict has its former keys, and nothing keeps the zeros zero when training goes on. A quantizer
    stays where it is. Raises ``ValueError``, and changes nothing, where a tied weight is masked in one place only.

    >>> model = nn.Sequential(nn.Linear(4, 2))
    >>> apply_masks(model, layer_magnitude_masks(model, 0.5))
    >>> remove_masks(model)
    >>> sparsity(model), list(model.state_dict())
    (0.5, ['0.weight', '0.bias'])
    """
    found, ties = _masked_places(model), owners(model)
    for name, (place, masked) in found.items():
        for other, tied in ties[id(place.stored)].items():
            if tied.mask is None or not torch.equal(tied.mask.mask, masked.mask):
                raise ValueError(
                    f"{name!r} and {other!r} are one tied tensor with different masks: apply_masks() first"
                )
    for place, masked in found.values():
        with torch.no_grad():
            place.stored.masked_fill_(~masked.mask, 0)
        drop_step(place)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer, which training in place cannot change.

    Keys are those of the model without masks, values the effective weights, so that it suits `rewind` and
    ``load_state_dict`` of a model without masks.

    >>> model = nn.Linear(2, 2)
    >>> beginning = snapshot(model)
    >>> with torch.no_grad():
    ...     _ = model.weight.add_(1)
    >>> torch.equal(beginning["weight"], model.weight)
    False
    """
    return {
        name: (value if mask is None else value.masked_fill(~mask, 0)).detach().clone()
        for name, (value, mask) in _plain_state(model).items()
    }


def rewind(model: nn.Module, initial_state: Mapping[str, Tensor]) -> None:
    """Put parameters and buffers back, in place, to those of a `snapshot`; the masks stay in force.

    Take the snapshot when the weights have the values to come back to: ``dict(model.state_dict())`` without a copy
    follows the training. Optimizers keep their momentum, so build a new one. Raises ``ValueError``, and changes
    nothing, when entries are missing, unknown or of another shape.

    Source: Frankle, Carbin 2019, arXiv:1803.03635; Frankle, Dziugaite, Roy, Carbin 2019, arXiv:1903.01611.

    >>> model = nn.Sequential(nn.Linear(4, 2))
    >>> beginning = snapshot(model)
    >>> apply_masks(model, layer_magnitude_masks(model, 0.5))  # after training, usually
    >>> rewind(model, beginning)
    >>> sparsity(model)
    0.5
    """
    state = _plain_state(model)
    _check_state(state, initial_state)
    with torch.no_grad():
        for name, (value, mask) in state.items():
            value.copy_(initial_state[name])
            if mask is not None:
                value.masked_fill_(~mask, 0)


def _apply(place: Place, mask: Tensor) -> None:
    stored, masked = place.stored, place.mask
    # laid out in memory like the weight: a channels-last network stays one
    mask = torch.empty_like(stored, dtype=torch.bool).copy_(mask)
    with torch.no_grad():
        stored.masked_fill_(~(mask if masked is None else mask & masked.mask), 0)
    if masked is not None:
        masked.mask = mask
    else:
        add_step(place, Masked(mask), first=True)


def _masked_places(model: nn.Module) -> dict[str, tuple[Place, Masked]]:
    found = {name: (place, place.mask) for name, place in all_places(model).items()}
    return {name: (place, masked) for name, (place, masked) in found.items() if masked is not None}


def _plain_state(model: nn.Module) -> dict[str, tuple[Tensor, Tensor | None]]:
    """The live tensors of the state dict under the keys that they have without masks, each with its mask."""
    check_initialised(model)
    masked = _masked_prefixes(model)
    plain: dict[str, tuple[Tensor, Tensor | None]] = {}
    for key, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{key!r} of the state dict is a {type(value).__name__}: only tensors can be put back")
        start = next((start for start in masked if key.startswith(start)), "")
        number, _, rest = key.removeprefix(start).partition(".")
        if not start:
            plain[key] = value, None
        elif number == "original":
            place, alone = masked[start], len(masked[start].steps) == 1
            assert place.mask is not None
            plain[start.replace("parametrizations.", "").removesuffix(".") if alone else key] = value, place.mask.mask
        elif number != "0":  # the steps after the mask move up
            plain[f"{start}{int(number) - 1}.{rest}"] = value, None
    return plain


def _masked_prefixes(model: nn.Module) -> dict[str, Place]:
    """Masked weights by what their keys in the state dict begin with; a module used twice has its keys twice."""
    found = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if parametrize.is_parametrized(module):
            assert isinstance(module.parametrizations, nn.ModuleDict)
            for attribute in module.parametrizations:
                found[f"{path}.parametrizations.{attribute}.".lstrip(".")] = Place(module, attribute)
    return {start: place for start, place in found.items() if place.mask is not None}


def _check_mask(name: str, place: Place, mask: Tensor) -> None:
    if place.computed_by and not maskable(place):
        raise ValueError(f"layer {name!r} is parametrized already, by {place.computed_by}")
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
