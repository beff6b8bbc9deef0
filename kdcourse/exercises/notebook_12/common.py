"""What the exercises of notebook 12 share."""

import torch
from torch import nn

from ..engine.core import draw


def with_weights(net: nn.Sequential, seed: int) -> nn.Sequential:
    """The network in float64, with the weights of a seed."""
    net = net.double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=100 * seed + number, spread=1.0))
    return net
