"""A network's calls in their order, by `torch.fx`, and the hooks that such a list does not show."""

import inspect
from typing import Any

from torch import fx, nn

from .weights import hooked

HOOKS = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"


def trace(model: nn.Module, *, instead: str, defaults: bool = False) -> fx.GraphModule:
    """The calls of ``model`` in its present mode; with ``defaults``, where its arguments have their default values.

    A module of `torch.nn` other than ``nn.Sequential`` is one call, as is one with hooks. ``model`` is left as it was,
    and shares its layers with the result. Raises ``ValueError`` where the calls depend on the values of tensors, and
    says what to do ``instead``.
    """
    before = set(vars(model))
    try:
        given = default_arguments(model) if defaults else None
        return fx.GraphModule(model, _Tracer().trace(model, given))
    except Exception as error:  # the model's own code runs here, so anything may come
        wrapped = [name for name in ("module", "_orig_mod") if isinstance(getattr(model, name, None), nn.Module)]
        instead = f"use the network inside, model.{wrapped[0]}" if wrapped else instead
        raise ValueError(f"torch.fx cannot trace {type(model).__name__}, {instead}: {error}") from error
    finally:
        for name in vars(model).keys() - before:
            delattr(model, name)  # fx keeps constants on the model


def default_arguments(model: nn.Module) -> dict[str, Any]:
    """The arguments of ``forward`` that have a default value, with it."""
    parameters = inspect.signature(model.forward).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


def foreign_hooks(module: nn.Module) -> list[Any]:
    """The hooks on a module's calls that are neither our own nor there to compute a weight."""
    weights = hooked(module).values()
    hooks = [hook for kind in HOOKS for hook in getattr(module, kind).values() if hook not in weights]
    return [hook for hook in hooks if not (getattr(hook, "__module__", None) or "").startswith("kdcourse.")]


def is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether ``module`` is of one of ``kinds`` and computes as it does, without a forward of its own."""
    if "forward" in vars(module):
        return False
    ways = "forward", "_conv_forward"
    return any(
        isinstance(module, kind) and all(getattr(type(module), way, None) is getattr(kind, way, None) for way in ways)
        for kind in kinds
    )


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return bool(foreign_hooks(m)) or super().is_leaf_module(m, module_qualified_name)
