"""13.2 the moving average of a network."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ..engine.core import Case, Exercise, Misconception, case, integer
from .common import changed, counting, frozen, other_gradients, other_modes, plain, state_of


def update_average(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    with torch.no_grad():
        for old, new in zip(average.parameters(), online.parameters(), strict=True):
            old.copy_(decay * old + (1 - decay) * new)
        for mine, theirs in zip(average.buffers(), online.buffers(), strict=True):
            if mine.is_floating_point():
                mine.copy_(decay * mine + (1 - decay) * theirs)
            else:
                mine.copy_(theirs)
    return average


def update_by_state(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    state = average.state_dict()
    for name, new in online.state_dict().items():
        state[name] = decay * state[name] + (1 - decay) * new if new.is_floating_point() else new
    average.load_state_dict(state)
    return average


def update_by_lerp(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    olds, news = average.state_dict(), online.state_dict()
    for name, old in olds.items():
        old.data.lerp_(news[name].data, 1 - decay) if old.dtype.is_floating_point else old.copy_(news[name])
    return average


@torch.no_grad()
def _averaged(average: nn.Module, online: nn.Module, decay: float, names: set[str] | None = None) -> None:
    """The tensors of these names, all by default, are averaged, whatever their dtype."""
    news = online.state_dict()
    for name, old in average.state_dict().items():
        if names is None or name in names:
            old.copy_(decay * old + (1 - decay) * news[name])


def _parameters(net: nn.Module) -> set[str]:
    return {name for name, _ in net.named_parameters()}


def buffers_forgotten(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    _averaged(average, online, decay, _parameters(average))
    return average


def buffers_copied(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    _averaged(average, online, decay, _parameters(average))
    for old, new in zip(average.buffers(), online.buffers(), strict=True):
        old.copy_(new)
    return average


def integers_averaged(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    _averaged(average, online, decay)
    return average


def integers_left(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    _averaged(average, online, decay, {name for name, v in average.state_dict().items() if v.is_floating_point()})
    return average


def roles_swapped(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    update_average(online, average, decay=decay)
    return average


def decay_swapped(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    return update_average(average, online, decay=1 - decay)


def written_into_both(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    update_average(average, online, decay=decay)
    online.load_state_dict(average.state_dict())
    return average


def just_a_copy(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    average.load_state_dict(online.state_dict())
    return average


def in_a_copy(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    return update_average(deepcopy(average), online, decay=decay)


def new_parameters(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    update_average(average, online, decay=decay)
    for module in average.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad))
    return average


def with_a_history(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    update_average(average, online, decay=decay)
    for old, new in zip(average.parameters(), online.parameters(), strict=True):
        if not old.requires_grad:
            old.add_(new * 0)
    return average


def gradients_switched_off(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    return update_average(average, online, decay=decay).requires_grad_(False)


def eval_mode(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    return update_average(average, online, decay=decay).eval()


def storage_shared(average: nn.Module, online: nn.Module, *, decay: float) -> nn.Module:
    update_average(average, online, decay=decay)
    for old, new in zip(average.buffers(), online.buffers(), strict=True):
        if not old.is_floating_point():
            old.data = new.data
    return average


def after_the_update(result: Any, case: Case) -> Any:
    """What became of the average, and what of the network that it follows."""
    if not isinstance(result, nn.Module):
        return result
    average, online = case.arguments
    pairs: list[Any] = list(zip(average.own, result.parameters(), strict=True))
    storages = {value.untyped_storage().data_ptr() for value in online.state_dict().values()}
    shared = [value for value in result.state_dict().values() if value.untyped_storage().data_ptr() in storages]
    return {
        "the same network": result is average,
        "tensors of online that changed": changed(online),
        "tensors that share online's memory": len(shared),
        "parameters that were replaced": sum(old is not new for old, new in pairs) if result is average else 0,
        "parameters with a history": sum(parameter.grad_fn is not None for parameter in result.parameters()),
        "parameters whose requires_grad changed": [other_gradients(average, result), other_gradients(online, online)],
        "modules in another mode": [other_modes(average, result), other_modes(online, online)],
        "average": state_of(result),
    }


def average_cases() -> list[Case]:
    return [
        case(plain(3), plain(14), decay=0.9),
        case(frozen(plain(4)), plain(25), decay=0.75),
        case(counting(5), counting(38), decay=0.99),
        case(frozen(counting(7, torch.float32)), counting(52, torch.float32), decay=0.5),
        case(plain(61), plain(8), decay=0.0),
        case(counting(71), counting(10), decay=1.0),
    ]


def drawn_average(g: torch.Generator) -> Case:
    make = counting if integer(g, 0, 1) else plain
    return case(make(integer(g, 1, 40)), make(integer(g, 50, 99)), decay=integer(g, 1, 9) / 10)


EXERCISE = Exercise(
    id="13.2",
    title="the moving average of a network",
    question=(
        "`average` and `online` are two networks of the same kind. Write `my_update_average(average, online, *, "
        "decay)`: one step of the moving average. Every floating-point tensor of `average`, parameters *and* buffers, "
        "becomes decay · old + (1 - decay) · that of `online`. Every other buffer (integers, bool) becomes a copy of "
        "that of `online`. Change the network `average` itself and return it; its parameters stay the same objects. "
        "Nothing else changes: `online` stays as it is and shares no memory with `average`, all modes stay, and a "
        "parameter that takes no gradient takes none afterwards."
    ),
    skeleton=(
        "def my_update_average(average, online, *, decay):\n"
        '    """One step of a moving average over all tensors of a network, in place."""\n    ...'
    ),
    reference=update_average,
    alternatives=(update_by_state, update_by_lerp),
    cases=average_cases,
    drawn=drawn_average,
    hints=(
        "A network has more than parameters: what does batch norm keep?",
        "Go through `parameters()` and through `buffers()`, under `torch.no_grad()`. Which dtypes can be averaged?",
        "`old.copy_(decay * old + (1 - decay) * new)` if `old.is_floating_point()`, otherwise `old.copy_(new)`.",
    ),
    misconceptions=(
        Misconception(
            "buffers forgotten",
            buffers_forgotten,
            "you average the parameters and leave the buffers. The batch norm of the average then normalizes with the "
            "statistics of a network that no longer exists: in eval mode its accuracy falls. `parameters()` has no "
            "buffers; `buffers()` and `state_dict()` have them",
        ),
        Misconception(
            "all buffers copied",
            buffers_copied,
            "you copy all buffers. Running means and variances are floating-point and belong to the averaged weights: "
            "average them as well. Copy only integers and bool",
        ),
        Misconception(
            "integers averaged",
            integers_averaged,
            "you average the integer buffers too. The result is not an integer and is cut off when it is stored: a "
            "counter of batches that was averaged counts nothing. Copy those",
        ),
        Misconception(
            "integers left alone",
            integers_left,
            "floating-point tensors are averaged, but the other buffers stay at their old values: copy them from "
            "`online`",
        ),
        Misconception(
            "written into online",
            roles_swapped,
            "the two networks are swapped: you write the average into `online`, the network that is being trained, and "
            "leave `average` as it was",
        ),
        Misconception(
            "decay swapped",
            decay_swapped,
            "decay weights the *old* average, and you give it to the new weights. With a decay of 0.99 your average is "
            "almost a copy of `online`",
        ),
        Misconception(
            "written into both",
            written_into_both,
            "the average is correct, but you also write into `online`: the training continues from there. A method "
            "that ends in an underscore changes the tensor that it is called on",
        ),
        Misconception(
            "just a copy",
            just_a_copy,
            "your average is a copy of `online`: the decay has no effect, and nothing is averaged",
        ),
        Misconception(
            "in a copy",
            in_a_copy,
            "you update a copy and return that. The average that was passed in never moves: change it itself",
        ),
        Misconception(
            "new parameters",
            new_parameters,
            "the values are correct, but you put new parameters in the place of the old ones. Whoever holds the old "
            "ones, an optimizer or a second module, holds tensors that no longer belong to the network. Use `copy_`",
        ),
        Misconception(
            "with a history",
            with_a_history,
            "the values are correct, but the averaged parameters now depend on those of `online`: they take gradients, "
            "and the graph grows with every step until the memory is full. Use `torch.no_grad()`",
        ),
        Misconception(
            "gradients switched off",
            gradients_switched_off,
            "the values are correct, but you switch off the gradients of the average. Whether its parameters take "
            "gradients was for the caller to decide: leave it as it is. `torch.no_grad()` is for your step alone",
        ),
        Misconception(
            "eval mode",
            eval_mode,
            "the values are correct, but you put the average into eval mode. The modes were for the caller to decide: "
            "leave them as they are",
        ),
        Misconception(
            "memory shared",
            storage_shared,
            "the values are correct, but integer buffers of both networks are now the same memory: the next batch of "
            "`online` changes the average. Copy the values with `copy_`",
        ),
    ),
    shows="the average of a network is the average of all that its output depends on, and it only reads the other one.",
    derivation=(
        "a ← d · a + (1 - d) · w. After t steps with the same w: a_t = d^t · a_0 + (1 - d^t) · w. In eval mode batch "
        "norm computes with running mean and variance, so these belong to the weights."
    ),
    observe=after_the_update,
    forbidden=("kdcourse.averaging.moving_average",),
    may_change=True,
    absolute=1e-6,  # float32 cancels near 0
)
