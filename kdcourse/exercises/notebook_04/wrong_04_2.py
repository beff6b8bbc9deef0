"""More wrong answers to 04.2."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Misconception
from ..notebook_03.common import check_shapes, log_soft, soft
from ..notebook_03.e03_2_kd_loss import kd_loss


def _mixed(s: Tensor, t: Tensor, labels: Tensor, term: Tensor, alpha: float) -> Tensor:
    check_shapes(s, t)
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * term


def _divergences(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    log_p_s, log_p_t = log_soft(s, temperature), log_soft(t, temperature)
    return log_p_t.exp() * (log_p_t - log_p_s)


def shapes_not_checked(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    term = temperature**2 * _divergences(s, t.detach(), temperature).sum(dim=-1).mean()
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * term


def teacher_not_detached(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    return _mixed(s, t, labels, temperature**2 * _divergences(s, t, temperature).sum(dim=-1).mean(), alpha)


def t_squared_twice(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return _mixed(s, t, labels, temperature**2 * kd_loss(s, t, temperature=temperature), alpha)


def t_for_its_square(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return _mixed(s, t, labels, kd_loss(s, t, temperature=temperature) / temperature, alpha)


def mean_over_classes_too(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return _mixed(s, t, labels, kd_loss(s, t, temperature=temperature) / s.shape[-1], alpha)


def summed_over_the_batch(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return _mixed(s, t, labels, kd_loss(s, t, temperature=temperature) * len(s), alpha)


def other_way_round(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    term = temperature**2 * _divergences(t.detach(), s, temperature).sum(dim=-1).mean()
    return _mixed(s, t, labels, term, alpha)


def cross_entropy_of_both(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    term = F.cross_entropy(s / temperature, soft(t.detach(), temperature))
    return _mixed(s, t, labels, temperature**2 * term, alpha)


def log_target_forgotten(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    term = F.kl_div(log_soft(s, temperature), log_soft(t.detach(), temperature), reduction="batchmean")
    return _mixed(s, t, labels, temperature**2 * term, alpha)


def only_the_teacher_softened(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    log_p_t = log_soft(t.detach(), temperature)
    term = (log_p_t.exp() * (log_p_t - F.log_softmax(s, dim=-1))).sum(dim=-1).mean()
    return _mixed(s, t, labels, temperature**2 * term, alpha)


def over_the_batch(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    p, log_q = F.softmax(t.detach() / temperature, dim=0), F.log_softmax(s / temperature, dim=0)
    return _mixed(s, t, labels, temperature**2 * (p * (p.log() - log_q)).sum(dim=-1).mean(), alpha)


def labels_of_the_teacher(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    return _mixed(s, t, t.argmax(dim=-1), kd_loss(s, t, temperature=temperature), alpha)


def hard_targets_twice(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    return _mixed(s, t, labels, F.cross_entropy(s, t.argmax(dim=-1)), alpha)


def teacher_alone(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    return kd_loss(s, t, temperature=temperature)


def labels_summed(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    check_shapes(s, t)
    hard = F.cross_entropy(s, labels, reduction="sum")
    return (1 - alpha) * hard + alpha * kd_loss(s, t, temperature=temperature)


def cut_off(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    with torch.no_grad():
        term = kd_loss(s, t, temperature=temperature)
    return _mixed(s, t, labels, term, alpha)


MORE = (
    Misconception(
        "shapes not checked",
        shapes_not_checked,
        "right where the shapes agree, but a teacher of one row, one class or one dimension less is broadcast: every "
        "example then gets the same targets, and nothing says so. Compare the shapes and raise a ValueError",
    ),
    Misconception(
        "teacher not detached",
        teacher_not_detached,
        "the value is right, but the teacher also gets a gradient. Detach its logits: only the student learns",
    ),
    Misconception(
        "T² twice",
        t_squared_twice,
        "T² appears twice in your soft term. `kd_loss` already includes it",
    ),
    Misconception(
        "T for T²",
        t_for_its_square,
        "your soft term carries T where T² belongs. Its gradient shrinks as 1/T², so it still fades as T grows",
    ),
    Misconception(
        "mean over the classes too",
        mean_over_classes_too,
        'your soft term is divided by the number of classes as well: that is `reduction="mean"`. A divergence is a sum '
        'over the classes, and only the examples are averaged: `reduction="batchmean"`',
    ),
    Misconception(
        "summed over the batch",
        summed_over_the_batch,
        "your soft term is a sum over the batch, the label term a mean: the balance depends on the batch size",
    ),
    Misconception(
        "the divergence the other way round",
        other_way_round,
        "your soft term is KL(p_s ‖ p_t). The teacher comes first: KL(p_t ‖ p_s)",
    ),
    Misconception(
        "cross-entropy for the divergence",
        cross_entropy_of_both,
        "your soft term is the cross-entropy towards the teacher. Its gradient is the same, but its value contains the "
        "teacher's entropy too and never reaches zero: subtract that, or use the KL",
    ),
    Misconception(
        "log_target forgotten",
        log_target_forgotten,
        "you give `F.kl_div` log-probabilities of the teacher but not `log_target=True`. It takes them for "
        "probabilities, and the logarithm of a negative number is nan",
    ),
    Misconception(
        "only the teacher softened",
        only_the_teacher_softened,
        "only the teacher's logits are divided by T in your soft term. Both are: else even a perfect copy of the "
        "teacher has a loss",
    ),
    Misconception(
        "softmax over the batch",
        over_the_batch,
        "your softmax runs over the examples. Probabilities are over the classes: `dim=-1`",
    ),
    Misconception(
        "the teacher's answers as labels",
        labels_of_the_teacher,
        "your label term takes the teacher's arg-max for the label. Its mistakes then count as true: use `labels`",
    ),
    Misconception(
        "the teacher's arg-max for its distribution",
        hard_targets_twice,
        "your teacher's term is the cross-entropy with its arg-max. What the teacher knows of the other classes is "
        "lost: use its whole distribution at temperature T",
    ),
    Misconception(
        "the teacher alone",
        teacher_alone,
        "your loss never reads the labels: it is the distillation loss at full weight",
    ),
    Misconception(
        "the label term summed",
        labels_summed,
        "your label term is a sum over the batch, the soft term a mean: the balance depends on the batch size",
    ),
    Misconception(
        "the soft term cut off",
        cut_off,
        "the value is right, but no gradient flows through your soft term: `no_grad`, `item()` or `detach()` cut it "
        "off. The student learns from the labels alone",
    ),
)
