"""What the exercises of notebook 10 share."""

from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, case, draw, integer


class Seen(NamedTuple):
    """One forward pass: which network, in which mode, on what, and its parameters at that moment."""

    net: nn.Module
    training: bool
    images: Tensor
    parameters: list[Tensor]


class Diary(list[Seen]):
    """A network's forward passes; its copies write into the same one."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def parameters_now(net: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


def _write_down(net: Any, arguments: tuple[Tensor, ...]) -> None:
    net.diary.append(Seen(net, net.training, arguments[0].detach().clone(), parameters_now(net)))


def small_net(seed: int) -> nn.Sequential:
    """Two inputs, three classes, batch norm; float64, in train mode, the same weights each time, which it remembers.

    It remembers its forward passes as well, and how many of its parameters a gradient has reached.
    """
    net: Any = nn.Sequential(nn.Linear(2, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=100 * seed + number, spread=1.0))
    net.start, net.diary, net.reached = parameters_now(net), Diary(), []
    net.register_forward_pre_hook(_write_down)
    for parameter in net.parameters():
        parameter.register_hook(net.reached.append)
    return net


def changed(net: Any) -> int:
    """How many of a network's parameters are no longer what `small_net` made them."""
    return differing(net.start, list(net.parameters()))


def differing(before: list[Tensor], after: list[Tensor]) -> int:
    """How many tensors differ, by more than rounding: a gradient of zero is seldom quite zero."""
    return sum(not torch.allclose(old, new, rtol=0.0, atol=1e-12) for old, new in zip(before, after, strict=True))


def batches_seen(net: Any) -> int:
    """How many batches passed its batch norm in train mode."""
    return int(net[1].num_batches_tracked)


Loss = Callable[[Tensor], Tensor]
"""of a network's logits"""


def gradient_at(net: nn.Module, parameters: list[Tensor], images: Tensor, loss: Loss) -> list[Tensor]:
    """The gradient of a loss in train mode, for other parameters than the network's own."""
    look = deepcopy(net).train().requires_grad_(True)
    look._forward_pre_hooks.clear()
    with torch.no_grad():
        for parameter, value in zip(look.parameters(), parameters, strict=True):
            parameter.copy_(value)
    return list(torch.autograd.grad(loss(look(images)), list(look.parameters())))


def train_mode_logits(net: nn.Module, images: Tensor) -> Tensor:
    """Logits as in training, without a trace in the network."""
    look = deepcopy(net).train()
    look._forward_pre_hooks.clear()
    with torch.no_grad():
        return look(images)


def training_of(net: Any, images: Tensor, loss: Loss, passes: list[Seen]) -> dict[str, Any]:
    """What a network's steps did, whatever the optimizer: where the first one went, and what the last one used."""
    points = [seen.parameters for seen in passes if seen.training] + [parameters_now(net)]
    report = {
        "parameters that each step changed": ", ".join(str(differing(*pair)) for pair in pairwise(points)),
        "fraction of the first step that goes downhill": 0.0,
        "cosine between the gradient that is left and the last batch's": 0.0,
    }
    if len(points) > 1:
        first, last = (gradient_at(net, points[place], images, loss) for place in (0, -2))
        moves = [new - old for old, new in zip(points[0], points[1], strict=True)]
        report["fraction of the first step that goes downhill"] = downhill(moves, first)
        report["cosine between the gradient that is left and the last batch's"] = agreement(net, last)
    return report


def downhill(moves: list[Tensor], gradients: list[Tensor]) -> float:
    """The fraction of the entries that move against a gradient that is not small: 1 for SGD and for Adam."""
    clear = [gradient.abs() > 0.05 * gradient.abs().max() for gradient in gradients]
    against = [(move * slope < 0)[some] for move, slope, some in zip(moves, gradients, clear, strict=True)]
    return float(torch.cat(against).double().mean())


def agreement(net: nn.Module, gradients: list[Tensor]) -> float:
    """The cosine between the gradient left in a network and the right one; 1 where none is left."""
    left = [torch.zeros_like(value) if value.grad is None else value.grad for value in net.parameters()]
    one, other = (torch.cat([part.flatten() for part in parts]) for parts in (left, gradients))
    return float(F.cosine_similarity(one, other, dim=0)) if one.any() else 1.0


SOFT_LINES = "the mean over the examples of T² · KL(p_t ‖ p_s), for logits (N, C)"
GRADIENT_TOO = "The gradient with respect to the student is compared as well."


def small_pairs() -> list[tuple[Tensor, Tensor]]:
    small = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    return [(small, small.flip(-1) + 1), (draw(4, 5, seed=70) + 1, draw(4, 5, seed=71))]


def soft_cases() -> list[Case]:
    small, batch = small_pairs()
    return [case(*small, temperature=1.0), case(*small, temperature=2.0), case(*batch, temperature=4.0)]


def drawn_soft_case(g: torch.Generator) -> Case:
    shape = integer(g, 1, 5), integer(g, 2, 6)
    return case(draw(*shape, seed=g), draw(*shape, seed=g), temperature=integer(g, 2, 12) / 2)


def softened(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Probabilities and their logarithms."""
    return F.softmax(logits / temperature, dim=1), F.log_softmax(logits / temperature, dim=1)


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_p_s = F.log_softmax(student_logits / temperature, dim=1)
    p_t = F.softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p_s, p_t, reduction="batchmean")


def soft_loss_log_target(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_p_s = F.log_softmax(student_logits / temperature, dim=1)
    log_p_t = F.log_softmax(teacher_logits / temperature, dim=1)
    total = F.kl_div(log_p_s, log_p_t, reduction="sum", log_target=True)
    return total * temperature**2 / len(student_logits)


def soft_loss_by_definition(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    log_p_s = F.log_softmax(student_logits / temperature, dim=1)
    log_p_t = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=1).mean()


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
