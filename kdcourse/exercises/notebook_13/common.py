"""What the exercises of notebook 13 share: small networks that remember how they began."""

from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import draw


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


def norms_of(net: nn.Module) -> list[Any]:
    return [part for part in net.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


def remembering(net: Any, seed: int) -> Any:
    """A network with the same numbers each time, variances above 0, which it remembers together with its modes."""
    with torch.no_grad():
        for number, (name, value) in enumerate(net.state_dict().items()):
            if value.is_floating_point():
                new = draw(*value.shape, seed=100 * seed + number, spread=1.0)
                value.copy_(new.abs() + 0.5 if name.endswith("var") else new)
            else:
                value.fill_(seed + number)
    return starting_here(net)


def starting_here(net: Any) -> Any:
    net.state, net.modes, net.own = state_of(net), modes(net), list(net.parameters())
    net.takes = [parameter.requires_grad for parameter in net.own]
    return net


def other_modes(start: Any, net: nn.Module) -> int:
    """How many of a network's modules are in another mode than those of ``start`` were."""
    return sum(old != new for old, new in zip(start.modes, modes(net), strict=True))


def other_gradients(start: Any, net: nn.Module) -> int:
    """How many of a network's parameters take a gradient where those of ``start`` took none, or the reverse."""
    return sum(old != new.requires_grad for old, new in zip(start.takes, net.parameters(), strict=True))


def changed(net: Any, only: type = Tensor) -> int:
    """How many of a network's tensors, or of its parameters, are not what they were."""
    kept = dict(net.named_parameters()) if only is nn.Parameter else net.state_dict()
    return sum(not torch.equal(net.state[name], value) for name, value in kept.items())


class Counting(nn.Module):
    """A parameter of its own, buffers of three kinds, and a batch norm inside."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.inside = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("used", torch.zeros(3, dtype=torch.bool))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int32))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inside(images - self.centre) * self.scale
        return logits


def plain(seed: int) -> Any:
    return remembering(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).double(), seed)


def counting(seed: int, kind: torch.dtype = torch.float64) -> Any:
    net = remembering(Counting().to(kind), seed)
    net.used.copy_(torch.arange(3) < seed % 4)
    return starting_here(net)


def frozen(net: nn.Module) -> Any:
    return starting_here(net.eval().requires_grad_(False))
