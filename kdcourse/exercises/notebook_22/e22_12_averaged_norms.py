"""22.12 an average that is worse than its parts."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import with_weights

Nets = list[nn.Module]


def averaged(networks: Nets, batches: list[Tensor]) -> nn.Module:
    net = _averaged_weights(networks)
    norms = _norms(net)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    with torch.no_grad():
        for images in batches:
            net(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net.eval()


def _norms(net: nn.Module) -> list[Any]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]


def _averaged_weights(networks: Nets) -> nn.Module:
    net = deepcopy(networks[0])
    with torch.no_grad():
        for parameters in zip(*(each.parameters() for each in [net, *networks]), strict=True):
            parameters[0].copy_(torch.stack(parameters[1:]).mean(dim=0))
    return net


def averaged_by_pytorch(networks: Nets, batches: list[Tensor]) -> nn.Module:
    net = _averaged_weights(networks)
    torch.optim.swa_utils.update_bn(batches, net.train())
    net.train(False)
    return net


def averaged_by_hooks(networks: Nets, batches: list[Tensor]) -> nn.Module:
    net = _averaged_weights(networks).train()
    seen: dict[Any, list[tuple[Tensor, Tensor]]] = {}
    handles = [
        norm.register_forward_pre_hook(
            lambda module, inputs: seen.setdefault(module, []).append((inputs[0].mean(dim=0), inputs[0].var(dim=0)))
        )
        for norm in _norms(net)
    ]
    with torch.no_grad():
        for images in batches:
            net(images)
    for handle in handles:
        handle.remove()
    for norm, statistics in seen.items():
        means, variances = zip(*statistics, strict=True)
        norm.running_mean.copy_(sum(means) / len(means))
        norm.running_var.copy_(sum(variances) / len(variances))
    return net.eval()


def _estimated(
    net: nn.Module, batches: list[Tensor], momentum: float | None, *, reset: bool = True, restore: bool = True
) -> nn.Module:
    """Batch norm's statistics of a network, estimated again."""
    norms = _norms(net)
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = momentum
        if reset:
            norm.reset_running_stats()
    net.train()
    with torch.no_grad():
        for images in batches:
            net(images)
    if restore:
        for norm, old in zip(norms, before, strict=True):
            norm.momentum = old
    return net.eval()


def momentum_of_zero(networks: Nets, batches: list[Tensor]) -> nn.Module:
    return _estimated(_averaged_weights(networks), batches, 0.0)


def usual_momentum(networks: Nets, batches: list[Tensor]) -> nn.Module:
    return _estimated(_averaged_weights(networks), batches, 0.1)


def not_reset(networks: Nets, batches: list[Tensor]) -> nn.Module:
    return _estimated(_averaged_weights(networks), batches, 0.1, reset=False)


def all_in_one_batch(networks: Nets, batches: list[Tensor]) -> nn.Module:
    return _estimated(_averaged_weights(networks), [torch.cat(batches)], None)


def buffers_averaged(networks: Nets, batches: list[Tensor]) -> nn.Module:
    net = _averaged_weights(networks)
    for buffers in zip(*(each.buffers() for each in [net, *networks]), strict=True):
        if buffers[0].is_floating_point():
            buffers[0].copy_(torch.stack(buffers[1:]).mean(dim=0))
    return net.eval()


def buffers_of_the_first(networks: Nets, batches: list[Tensor]) -> nn.Module:
    return _averaged_weights(networks).eval()


def weights_of_the_first(networks: Nets, batches: list[Tensor]) -> nn.Module:
    return _estimated(deepcopy(networks[0]), batches, None)


def weights_summed(networks: Nets, batches: list[Tensor]) -> nn.Module:
    net = _averaged_weights(networks)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(len(networks))
    return _estimated(net, batches, None)


def momentum_left_at_none(networks: Nets, batches: list[Tensor]) -> nn.Module:
    return _estimated(_averaged_weights(networks), batches, None, restore=False)


def left_in_train_mode(networks: Nets, batches: list[Tensor]) -> nn.Module:
    return averaged(networks, batches).train()


def first_network_changed(networks: Nets, batches: list[Tensor]) -> nn.Module:
    found = averaged(networks, batches)
    networks[0].load_state_dict(found.state_dict())
    networks[0].eval()
    return networks[0]


def statistics_before_the_average(networks: Nets, batches: list[Tensor]) -> nn.Module:
    first = [_estimated(deepcopy(net), batches, None) for net in networks]
    return buffers_averaged(first, batches)


def network_as_observed(result: Any, case: Case) -> Any:
    """Its parameters and statistics, its modes, and whether the networks that were passed in are as before."""
    if not isinstance(result, nn.Module):
        raise TypeError("a network is asked for")
    given = case.arguments[0]

    def state(net: Any) -> Tensor:
        named = {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
        return torch.cat([value.flatten() for value in named.values()])

    return {
        "parameters": torch.cat([parameter.detach().flatten() for parameter in result.parameters()]),
        "means": torch.cat([norm.running_mean for norm in _norms(result)]),
        "variances": torch.cat([norm.running_var for norm in _norms(result)]),
        "momenta": [norm.momentum for norm in _norms(result)],
        "modes": [module.training for module in result.modules()],
        "hooks": sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in result.modules()),
        "a network of its own": all(result is not net for net in given),
        "the networks that were passed in": [state(net) for net in given],
    }


def trained(seed: int, *, nested: bool = False) -> nn.Sequential:
    first = nn.Linear(2, 4), nn.BatchNorm1d(4, momentum=0.1 + seed / 100), nn.Tanh()
    second = nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=0.3), nn.Linear(3, 2)
    net: Any = with_weights(
        nn.Sequential(nn.Sequential(*first), *second) if nested else nn.Sequential(*first, *second), seed
    )
    for number, norm in enumerate(_norms(net)):
        norm.running_mean.copy_(draw(len(norm.running_mean), seed=900 + 10 * seed + number))
        norm.running_var.copy_(draw(len(norm.running_var), seed=950 + 10 * seed + number).square() + 0.5)
        norm.num_batches_tracked += 50
    return net.eval()


def average_cases() -> list[Case]:
    return [
        case([trained(1), trained(2)], [draw(4, 2, seed=370), draw(3, 2, seed=371)]),
        case([trained(3), trained(4), trained(5)], [draw(size, 2, seed=372 + size) for size in (6, 2, 3)]),
        case([trained(6)], [draw(5, 2, seed=380)]),
        case(
            [trained(7, nested=True), trained(8, nested=True)], [draw(2, 2, seed=381 + number) for number in range(5)]
        ),
    ]


EXERCISE = Exercise(
    id="22.12",
    title="an average that is worse than its parts",
    question=(
        "Fix `case_12` as `fixed_12(networks, batches)`. `networks` are networks of the same kind with "
        "`nn.BatchNorm1d` layers at any depth, in eval mode; `batches` is a list of tensors of images. Return a new "
        "network whose every parameter is the mean over the networks. Its running means and variances are estimated "
        "again: each is the plain mean, over the batches, of what batch norm in train mode finds in one forward pass "
        "of the batch through the new network (mean and unbiased variance), whatever the size of the batch. The new "
        "network is in eval mode, its `momentum` values are those of the first network, and the networks in the list "
        "are unchanged."
    ),
    skeleton=(
        "def fixed_12(networks, batches):\n"
        '    """The average of the networks, with batch norm statistics of its own."""\n    ...'
    ),
    reference=averaged,
    alternatives=(averaged_by_pytorch, averaged_by_hooks),
    cases=average_cases,
    hints=(
        "Print the running means of the result. What were they after the reset?",
        "running ← (1 - momentum) · running + momentum · batch. What does a momentum of 0 do?",
        "`momentum = None` is PyTorch's plain mean over the batches. Put the old value back afterwards.",
    ),
    misconceptions=(
        Misconception(
            "momentum 0",
            momentum_of_zero,
            "with a momentum of 0 no batch changes the statistics: they keep the 0 and 1 of the reset. The plain mean "
            "over the batches is `momentum = None`",
        ),
        Misconception(
            "the usual momentum",
            usual_momentum,
            "with the usual momentum a few batches are not enough: the 0 and 1 of the reset keep a large part, and the "
            "last batch counts more than the first",
        ),
        Misconception(
            "not reset",
            not_reset,
            "the statistics begin at those of the first network, which belong to other weights: reset them first",
        ),
        Misconception(
            "one large batch",
            all_in_one_batch,
            "you join the batches into one: larger batches then count more, and the variance includes the differences "
            "between them. The mean over the batches is asked for",
        ),
        Misconception(
            "statistics averaged",
            buffers_averaged,
            "you average the networks' statistics. What goes into a norm of the averaged network is not the average of "
            "what went into the others: estimate it with the images",
        ),
        Misconception(
            "statistics of the first",
            buffers_of_the_first,
            "the weights are averaged, the statistics are still those of the first network",
        ),
        Misconception(
            "statistics before the average",
            statistics_before_the_average,
            "you estimate the statistics of each network and average them. They must be those of the averaged network",
        ),
        Misconception(
            "weights of the first",
            weights_of_the_first,
            "the statistics are estimated, but the weights are those of the first network: nothing is averaged",
        ),
        Misconception(
            "weights summed",
            weights_summed,
            "the weights are the sum of the networks', not their mean",
        ),
        Misconception(
            "momentum left at None",
            momentum_left_at_none,
            "the network is right, but its `momentum` stays None: trained further, its statistics would hardly change "
            "any more. Put the old value back",
        ),
        Misconception(
            "left in train mode",
            left_in_train_mode,
            "the network is right but in train mode: its next predictions use the batch's statistics and change the "
            "stored ones. Return it in eval mode",
        ),
        Misconception(
            "the first network changed",
            first_network_changed,
            "the average is written into the first network. Return a new one",
        ),
    ),
    shows="a network that is averaged needs statistics of its own, and momentum 0 estimates nothing.",
    derivation=(
        "With momentum m a batch changes the mean by m · (batch - running): nothing for m = 0. None stands for m = 1 / "
        "n at the n-th batch, and running + (batch - running) / n is the mean of n batches."
    ),
    observe=network_as_observed,
    may_change=True,
)
