"""What may be so of a network, looked up without the package: a refusal that says otherwise is a fault."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from . import oracles
from .judging import Twin, is_lazy


def computed(twin: Twin) -> bool:
    """Some weight is computed from others."""
    return any(parametrize.is_parametrized(part) for part in twin.real.modules()) or old_style(twin)


def old_style(twin: Twin) -> bool:
    return any(oracles.computed_by(hook) for part in twin.real.modules() for hook in part._forward_pre_hooks.values())


def with_step(*names: str) -> Callable[[Twin], bool]:
    """Some weight is computed by one of these classes of the package."""
    return lambda twin: any(type(part).__name__ in names for part in twin.real.modules())


def hooked(twin: Twin) -> bool:
    """Someone's hook changes what goes in or out."""
    hooks = [hook for part in twin.real.modules() for hook in (*part._forward_hooks.values(),)]
    before = [hook for part in twin.real.modules() for hook in part._forward_pre_hooks.values()]
    return bool(hooks) or any(not oracles.computed_by(hook) for hook in before)


def tied(twin: Twin) -> bool:
    everything = list(twin.real.named_parameters(remove_duplicate=False))
    return len({id(value) for _, value in everything}) < len(everything)


def reused(twin: Twin) -> bool:
    """Some part runs twice."""
    calls = []
    handles = [
        part.register_forward_pre_hook(lambda part, given: calls.append(part))
        for part in twin.real.modules() if not list(part.children())
    ]  # fmt: skip
    oracles.run(twin.real, twin.example, gradient=True)
    for handle in handles:
        handle.remove()
    return len(set(calls)) < len(calls)


def lazy(twin: Twin) -> bool:
    return is_lazy(twin.real)


def half(twin: Twin) -> bool:
    return twin.kind.dtype == torch.bfloat16


def several_inputs(twin: Twin) -> bool:
    return isinstance(twin.example, tuple)


def several_outputs(twin: Twin) -> bool:
    return twin.kind.output is not None


def frozen(twin: Twin) -> bool:
    return not all(value.requires_grad for value in twin.real.parameters())


def no_images(twin: Twin) -> bool:
    return isinstance(twin.example, tuple) or twin.example.ndim != 4


def several_positions(twin: Twin) -> bool:
    """It classifies more than one position of an example."""
    return twin.kind.pick(oracles.run(twin.real, twin.example)).ndim != 2


def not_sequential(twin: Twin) -> bool:
    return type(twin.real) is not nn.Sequential


def emptied(score: Callable[[Twin, dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Twin], bool]:
    """Some layer has none of the larger half of all scores."""

    def so(twin: Twin) -> bool:
        scores = list(score(twin, oracles.matrices(twin.plain)).values())
        kept = oracles.smallest(torch.cat([value.abs().flatten() for value in scores]), 0.5)
        return not all(part.any() for part in kept.split([value.numel() for value in scores]))

    return so


def anything(twin: Twin) -> bool:
    return True
