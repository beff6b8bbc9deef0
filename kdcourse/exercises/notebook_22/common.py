"""What the exercises of notebook 22 share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import draw

GRADIENT_TOO = "The gradient with respect to the student is compared as well."


def with_weights(net: nn.Sequential, seed: int, spread: float = 1.0) -> nn.Sequential:
    """The network in float64, with the parameters of a seed."""
    net = net.double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=100 * seed + number, spread=spread))
    return net


def divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · KL(p_t ‖ p_s), a mean over all positions; the teacher is not detached."""
    log_p_s = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_t = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()
