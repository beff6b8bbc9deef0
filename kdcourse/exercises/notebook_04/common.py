"""What the exercises of notebook 04 share."""

import torch
from torch import nn

from ..engine.core import draw


def small_net(seed: int) -> nn.Sequential:
    """Two inputs, three classes, batch norm and dropout; float64, in train mode, the same weights each time."""
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=100 * seed + number, spread=1.0))
    return net


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]
