"""Wrong answers to 12.3."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Misconception

Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""of own logits, peer's logits, labels and temperature"""


def kl(target: Tensor, own: Tensor, temperature: float) -> Tensor:
    """T² · KL(target ‖ own), with a gradient to both."""
    log_p, log_q = F.log_softmax(target / temperature, dim=1), F.log_softmax(own / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def both(first: Tensor, second: Tensor, labels: Tensor, temperature: float, loss: Loss) -> Tensor:
    return torch.stack([loss(first, second, labels, temperature), loss(second, first, labels, temperature)])


def right_loss(own: Tensor, peer: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(own, labels) + kl(peer.detach(), own, temperature)


def peer_attached(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + kl(peer, own, t)

    return both(first_logits, second_logits, labels, temperature, loss)


def own_detached(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + kl(peer, own.detach(), t)

    return both(first_logits, second_logits, labels, temperature, loss)


def soft_term_detached(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + kl(peer, own, t).detach()

    return both(first_logits, second_logits, labels, temperature, loss)


def turned_round(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + kl(own, peer.detach(), t)

    return both(first_logits, second_logits, labels, temperature, loss)


def without_t_squared(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + kl(peer.detach(), own, t) / t**2

    return both(first_logits, second_logits, labels, temperature, loss)


def t_once(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + kl(peer.detach(), own, t) / t

    return both(first_logits, second_logits, labels, temperature, loss)


def default_reduction(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + kl(peer.detach(), own, t) / own.shape[1]

    return both(first_logits, second_logits, labels, temperature, loss)


def summed_over_examples(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + kl(peer.detach(), own, t) * len(own)

    return both(first_logits, second_logits, labels, temperature, loss)


def one_sum(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    return both(first_logits, second_logits, labels, temperature, right_loss).sum()


def the_sum_twice(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    return both(first_logits, second_logits, labels, temperature, right_loss).sum().expand(2)


def no_labels(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return kl(peer.detach(), own, t)

    return both(first_logits, second_logits, labels, temperature, loss)


def exchanged(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    return both(second_logits, first_logits, labels, temperature, right_loss)


def labels_for_the_peer(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(peer, y) + kl(peer.detach(), own, t)

    return both(first_logits, second_logits, labels, temperature, loss)


def labels_softened(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own / t, y) + kl(peer.detach(), own, t)

    return both(first_logits, second_logits, labels, temperature, loss)


def t_on_both_terms(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return t**2 * F.cross_entropy(own, y) + kl(peer.detach(), own, t)

    return both(first_logits, second_logits, labels, temperature, loss)


def peer_not_softened(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + kl(peer.detach() * t, own, t)

    return both(first_logits, second_logits, labels, temperature, loss)


def cross_entropy_with_the_peer(
    first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float
) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        soft = F.cross_entropy(own / t, (peer.detach() / t).softmax(dim=1))
        return F.cross_entropy(own, y) + t**2 * soft

    return both(first_logits, second_logits, labels, temperature, loss)


def squared_logits(first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        return F.cross_entropy(own, y) + F.mse_loss(own, peer.detach())

    return both(first_logits, second_logits, labels, temperature, loss)


def probabilities_for_logarithms(
    first_logits: Tensor, second_logits: Tensor, labels: Tensor, *, temperature: float
) -> Tensor:
    def loss(own: Tensor, peer: Tensor, y: Tensor, t: float) -> Tensor:
        p, q = (peer.detach() / t).softmax(dim=1), (own / t).softmax(dim=1)
        return F.cross_entropy(own, y) + t**2 * F.kl_div(q, p, reduction="batchmean")

    return both(first_logits, second_logits, labels, temperature, loss)


WRONG = (
    Misconception(
        "the peer is not detached",
        peer_attached,
        "both values are correct, but each loss also sends a gradient into the peer, which pulls the target towards "
        "the student. Each network then gets gradients of the other's loss as well: `peer.detach()`",
    ),
    Misconception(
        "the wrong side detached",
        own_detached,
        "both values are correct, but in the soft term you detach the network's own logits and not the peer's. The "
        "network learns nothing from its peer, and the peer is pulled towards it: `peer.detach()`",
    ),
    Misconception(
        "the soft term without a gradient",
        soft_term_detached,
        "both values are correct, but no gradient flows through the soft term: each network learns from the labels "
        "alone. Detach only the peer",
    ),
    Misconception(
        "the KL divergence turned round",
        turned_round,
        "you compute KL(own ‖ peer). The peer is the target, so its probabilities are the weights of the sum: KL(peer "
        "‖ own)",
    ),
    Misconception(
        "T² is missing",
        without_t_squared,
        "T² is missing. The gradient of a softened KL divergence shrinks like 1/T²; without the factor the peer loses "
        "its influence as T grows",
    ),
    Misconception(
        "T instead of T²",
        t_once,
        "the soft term has the factor T. Its gradient shrinks like 1/T²: once from z/T, once because softened "
        "probabilities are closer to each other. The factor is T²",
    ),
    Misconception(
        "the mean over the classes too",
        default_reduction,
        "the soft term is C times too small: `kl_div` takes the mean over all N · C entries by default. Use "
        '`reduction="batchmean"`',
    ),
    Misconception(
        "the sum over the examples",
        summed_over_examples,
        "the soft term is N times too large: you sum it over the examples. It is a mean, as the cross-entropy is",
    ),
    Misconception(
        "one sum for both networks",
        one_sum,
        "you add the two losses. With detached peers the gradients would be the same, but the question asks for both "
        "values, in a tensor of shape (2,)",
    ),
    Misconception(
        "the sum in both places",
        the_sum_twice,
        "both entries are the sum of the two losses. Each network has a loss of its own",
    ),
    Misconception(
        "the labels forgotten",
        no_labels,
        "only the soft terms are there. Two networks that imitate each other can agree on anything; the labels say on "
        "what: add the cross-entropy",
    ),
    Misconception(
        "the two losses exchanged",
        exchanged,
        "the first entry is the loss of the second network. In the first entry `first_logits` are the student's",
    ),
    Misconception(
        "the peer's cross-entropy",
        labels_for_the_peer,
        "the cross-entropy is that of the peer's logits. Each network is compared with the labels by its own",
    ),
    Misconception(
        "labels at temperature T",
        labels_softened,
        "you soften the logits in the cross-entropy as well. Labels are compared at temperature 1",
    ),
    Misconception(
        "T² on both terms",
        t_on_both_terms,
        "you multiply the cross-entropy by T², too. It is not softened, so it needs no factor",
    ),
    Misconception(
        "the peer is not softened",
        peer_not_softened,
        "only the own logits are divided by T. Both distributions are softened, or twins would disagree",
    ),
    Misconception(
        "cross-entropy with the peer",
        cross_entropy_with_the_peer,
        "the gradients are correct, but you compute the cross-entropy with the peer's probabilities. It is larger "
        "than the KL divergence by their entropy, so that twins do not get 0 for the soft term",
    ),
    Misconception(
        "squared differences of logits",
        squared_logits,
        "you compare logits by their squared differences. Mutual learning compares distributions: KL(peer ‖ own)",
    ),
    Misconception(
        "probabilities for log-probabilities",
        probabilities_for_logarithms,
        "you pass probabilities as the first argument of `kl_div`, which expects *log-probabilities*: `log_softmax`",
    ),
)
