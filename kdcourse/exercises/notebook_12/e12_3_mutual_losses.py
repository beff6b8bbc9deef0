"""12.3 two networks that learn from each other."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_12_3 import WRONG


def own_loss(own: Tensor, peer: Tensor, labels: Tensor, temperature: float) -> Tensor:
    log_own = F.log_softmax(own / temperature, dim=1)
    log_peer = F.log_softmax(peer.detach() / temperature, dim=1)
    divergence = F.kl_div(log_own, log_peer, reduction="batchmean", log_target=True)
    return F.cross_entropy(own, labels) + temperature**2 * divergence


def mutual_losses(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    first_loss = own_loss(first_logits, second_logits, labels, temperature)
    second_loss = own_loss(second_logits, first_logits, labels, temperature)
    return torch.stack([first_loss, second_loss])


def mutual_by_definition(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    losses = first_logits.new_zeros(2)
    for place, (own, peer) in enumerate([(first_logits, second_logits), (second_logits, first_logits)]):
        log_p, log_q = ((logits / temperature).log_softmax(dim=-1) for logits in (peer.detach(), own))
        divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
        picked = own.log_softmax(dim=-1)[torch.arange(len(labels)), labels]
        losses[place] = (temperature**2 * divergence - picked).mean()
    return losses


def mutual_by_cross_entropies(
    first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float
) -> Tensor:
    both = torch.stack([first_logits, second_logits])
    with torch.no_grad():
        peers = (both.flip(0) / temperature).softmax(dim=2)
        entropies = torch.special.entr(peers).sum(dim=2)
    soft = -(peers * (both / temperature).log_softmax(dim=2)).sum(dim=2) - entropies
    hard = F.cross_entropy(both.permute(1, 2, 0), labels[:, None].expand(-1, 2), reduction="none")
    return (hard.T + temperature**2 * soft).mean(dim=1)


def mutual_cases() -> list[Case]:
    small = [draw(2, 2, seed=126), draw(2, 2, seed=127), torch.tensor([0, 1])]
    twins = draw(3, 4, seed=130)
    single = [draw(5, 3, seed=seed).float() for seed in (131, 132)]
    return [
        case(*small, temperature=1.0),
        case(draw(2, 3, seed=128), draw(2, 3, seed=129), torch.tensor([2, 0]), temperature=2.0),
        case(twins, twins.clone(), torch.tensor([1, 1, 3]), temperature=4.0),
        case(*single, torch.tensor([0, 2, 1, 1, 0]), temperature=3.0),
    ]


def drawn_mutual(g: torch.Generator) -> Case:
    count, classes = integer(g, 1, 6), integer(g, 2, 6)
    first, second = (draw(count, classes, seed=g) for _ in range(2))
    return case(first, second, torch.randint(classes, (count,), generator=g), temperature=integer(g, 2, 12) / 2)


EXERCISE = Exercise(
    id="12.3",
    title="two networks that learn from each other",
    question=(
        "In deep mutual learning two networks train together, and each is also a teacher of the other. Write "
        "`my_mutual_losses(first_logits, second_logits, labels, *, temperature)` for logits of shape (N, C): return "
        "the losses of the first and of the second network as one tensor of shape (2,), for example by `torch.stack`. "
        "Each loss is the cross-entropy of the network's own logits with the labels (at temperature 1), plus T² · "
        "KL(peer ‖ own) with both distributions at temperature T. Both terms are means over the N examples. The peer "
        "is a fixed target: the gradient of a loss reaches the network's own logits and not its peer's. The gradients "
        "with respect to both logits are compared as well."
    ),
    skeleton=(
        "def my_mutual_losses(first_logits, second_logits, labels, *, temperature):\n"
        '    """The losses of two networks that learn from each other, the first one\'s first."""\n    ...'
    ),
    reference=mutual_losses,
    alternatives=(mutual_by_definition, mutual_by_cross_entropies),
    cases=mutual_cases,
    drawn=drawn_mutual,
    gradients=(0, 1),
    hints=(
        "In each loss one network is the student and the other is the teacher. What do you do with a teacher's logits?",
        "The soft term is the distillation loss, once in each direction, and the teacher's side is detached.",
        "Write a function of `own` and `peer`, with `peer.detach()` in it. Call it twice, the second time with the "
        "two exchanged, and stack the results.",
    ),
    misconceptions=WRONG,
    shows="each network's loss treats the other as a fixed teacher: two losses, two targets, two detached peers.",
    derivation=(
        "With the peer detached, the gradient with respect to a network's own logits is (p - y + T · (p_T - q_T)) / "
        "N: p is its own distribution, y the one-hot label, p_T and q_T the softened distributions of the network and "
        "its peer. For identical twins p_T = q_T, so the second part is 0: they stay identical and learn nothing from "
        "each other."
    ),
    points=2,
)
