"""What the exercises of notebook 10 share."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, case, draw


def small_net(seed: int) -> nn.Sequential:
    """Two inputs, three classes, batch norm; float64, in train mode, the same weights each time, which it remembers."""
    net = nn.Sequential(nn.Linear(2, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=100 * seed + number, spread=1.0))
    net.start = [parameter.detach().clone() for parameter in net.parameters()]  # type: ignore[assignment]
    return net


def changed(net: Any) -> int:
    """How many of a network's parameters are no longer what `small_net` made them."""
    return sum(not torch.equal(old, new) for old, new in zip(net.start, net.parameters(), strict=True))


def with_gradient(net: Any) -> int:
    return sum(parameter.grad is not None for parameter in net.parameters())


def batches_seen(net: Any) -> int:
    """How many batches passed its batch norm in train mode."""
    return int(net[1].num_batches_tracked)


SOFT_LINES = "the mean over the examples of T² · KL(p_t ‖ p_s), for logits (N, C)"
GRADIENT_TOO = "The gradient with respect to the student is compared as well."


def small_pairs() -> list[tuple[Tensor, Tensor]]:
    small = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    return [(small, small.flip(-1) + 1), (draw(4, 5, seed=70) + 1, draw(4, 5, seed=71))]


def soft_cases() -> list[Case]:
    small, batch = small_pairs()
    return [case(*small, temperature=1.0), case(*small, temperature=2.0), case(*batch, temperature=4.0)]


def softened(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Probabilities and their logarithms."""
    return F.softmax(logits / temperature, dim=-1), F.log_softmax(logits / temperature, dim=-1)


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_p_s = F.log_softmax(student_logits / temperature, dim=1)
    p_t = F.softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p_s, p_t, reduction="batchmean")


def soft_loss_log_target(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    (_, log_p_s), (_, log_p_t) = softened(student_logits, temperature), softened(teacher_logits, temperature)
    total = F.kl_div(log_p_s, log_p_t, reduction="sum", log_target=True)
    return total * temperature**2 / len(student_logits)


def soft_loss_by_definition(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_p_s = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_t = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()


def attached_soft_loss(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """The soft loss with a teacher that is not detached."""
    log_p_s, log_p_t = F.log_softmax(s / temperature, dim=1), F.log_softmax(t / temperature, dim=1)
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=1).mean()


def descend(loss: Tensor, *nets: nn.Module) -> None:
    optimizer = torch.optim.SGD([parameter for net in nets for parameter in net.parameters()], lr=0.1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def label_step(student: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(student(images), labels).backward()
    optimizer.step()
