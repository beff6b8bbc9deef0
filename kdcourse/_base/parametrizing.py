"""Computed weights put on a layer, taken off, made permanent, and copied: names, order and ties of parameters stay."""

import copy
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm

from .modes import in_eval_mode
from .weights import Place, check_initialised, hooked, owners

ORDER = "_order_before_parametrizations"
Model = TypeVar("Model", bound=nn.Module)


def add_step(place: Place, step: nn.Module, *, first: bool = False) -> None:
    """Let ``step`` compute the weight from what it was, last of all or, with ``first``, before all other steps."""
    module, attribute = place
    if first and place.steps:
        step.train(module.training)
        place.steps.insert(0, step)
        return
    vars(module).setdefault(ORDER, tuple(module._parameters))
    own_class(module)
    parametrize.register_parametrization(module, attribute, step)
    if isinstance(module, nn.RNNBase):
        cast(Any, type(module)).__deepcopy__ = _copy_recurrent


def drop_step(place: Place, number: int = 0) -> None:
    """Take a step off, by default the first; what it does must be in the stored weight already."""
    module, attribute = place
    if len(place.steps) > 1:
        del place.steps[number]
        return
    own_class(module)
    parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
    _restore_order(module, attribute)


def make_permanent(model: nn.Module) -> None:
    """Store every computed weight of ``model`` as what it computes to in eval mode, in place.

    Tied weights that come out equal are tied again; others have gone apart.
    """
    groups = [list(group.values()) for group in owners(model).values()]
    for group in groups:
        computed = [place for place in group if place.computed_by]
        for place in computed:
            if len(group) > 1:
                _untie(place)
            store(place)
        for place in computed:
            equal = [other for other in group if torch.equal(place.stored, other.stored)]
            setattr(place.module, place.attribute, equal[0].stored)


def store(place: Place) -> None:
    """Make one computed weight permanent; ties are not looked at."""
    module, attribute = place
    trained = any(original.requires_grad for original in place.originals)
    is_parameter = any(isinstance(original, nn.Parameter) for original in place.originals)
    hook = hooked(module).get(attribute)
    if isinstance(hook, prune.BasePruningMethod):
        prune.remove(module, attribute)
    elif isinstance(hook, SpectralNorm):
        remove_spectral_norm(module, attribute)
    elif hook is not None:
        remove_weight_norm(module, attribute)
    else:
        own_class(module)
        with in_eval_mode(place.steps):
            parametrize.remove_parametrizations(module, attribute)
    if is_parameter and attribute in module._buffers:  # what PyTorch makes of several frozen parameters
        value = module._buffers.pop(attribute)
        module.register_parameter(attribute, nn.Parameter(cast(Tensor, value)))
    cast(Tensor, getattr(module, attribute)).requires_grad_(trained)
    _restore_order(module, attribute)


def own_class(module: nn.Module) -> None:
    """Give a parametrized module a class of its own: deep copies share theirs, and PyTorch edits it in place."""
    if parametrize.is_parametrized(module):
        shared = type(module)
        module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))


def copied(model: Model) -> Model:
    """A deep copy, also where a forward pass has left computed weights behind, which PyTorch refuses to copy."""
    check_initialised(model)
    memo: dict[int, Any] = {}
    for module in model.modules():
        memo.update(_left_behind(module))
    return copy.deepcopy(model, memo)


def _left_behind(module: nn.Module) -> dict[int, Tensor]:
    """Computed weights among a module's attributes, by their ``id``, as tensors that can be copied."""
    parts = [*vars(module).values(), *vars(module).get("_flat_weights", ())]
    return {id(part): part.detach().clone() for part in parts if isinstance(part, Tensor) and not part.is_leaf}


def _copy_recurrent(self: Any, memo: dict[int, Any]) -> Any:
    """What PyTorch does for a parametrized module, but for the computed weights that the last forward pass has left."""
    memo.update(_left_behind(self))
    replica = self.__new__(type(self))
    memo[id(self)] = replica
    replica.__dict__ = copy.deepcopy(self.__dict__, memo)
    return replica


def _untie(place: Place) -> None:
    stored, holder = place.stored, cast(nn.Module, place.steps or place.module)
    for name, parameter in holder._parameters.items():
        if parameter is stored:
            holder._parameters[name] = nn.Parameter(stored.detach().clone(), requires_grad=stored.requires_grad)


def _restore_order(module: nn.Module, attribute: str) -> None:
    """Optimizers keep their states by position, so a parameter comes back to where it was; by default to the front."""
    order = [*vars(module).get(ORDER, ())]
    order = order if attribute in order else [attribute, *order]
    kept = list(module._parameters)
    for name in sorted(kept, key=lambda name: order.index(name) if name in order else len(order)):
        module._parameters[name] = module._parameters.pop(name)
    if not parametrize.is_parametrized(module):
        vars(module).pop(ORDER, None)
