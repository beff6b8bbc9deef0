"""04.2 labels and teacher, mixed."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import SHAPES, Case, Exercise, Misconception, case, draw, integer, refusal
from ..notebook_03.common import REFUSES_SHAPES, pairs
from ..notebook_03.e03_2_kd_loss import kd_loss
from .wrong_04_2 import MORE


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"shapes differ: {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}")
    log_p_s = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_t = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    soft = temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()
    return (1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * soft


def mix_by_parts(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = kd_loss(s, t, temperature=temperature)
    hard = -F.log_softmax(s, dim=1)[torch.arange(len(labels)), labels].mean()
    return hard + alpha * (soft - hard)


def mix_by_examples(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    rows = zip(s, t, labels, strict=True)
    losses = [
        (1 - alpha) * F.cross_entropy(z, y) + alpha * kd_loss(z[None], target[None], temperature=temperature)
        for z, target, y in rows
    ]
    return torch.stack(losses).mean()


def label_term_softened(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s / temperature, labels) + alpha * kd_loss(s, t, temperature=temperature)


def labels_only(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    if s.shape != t.shape:
        raise ValueError("shapes differ")
    return F.cross_entropy(s, labels)


def never_reads_the_teacher(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * labels_only(s, t, labels, temperature=temperature, alpha=alpha)


def never_reads_the_student(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = kd_loss(s, t, temperature=temperature)
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * 0 * soft + alpha * _entropy_like(t, temperature)


def _entropy_like(t: Tensor, temperature: float) -> Tensor:
    p = F.softmax(t.detach() / temperature, dim=-1)
    return temperature**2 * torch.special.entr(p).sum(dim=-1).mean()


def alpha_on_the_labels(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return distillation_loss(s, t, labels, temperature=temperature, alpha=1 - alpha)


def mix_without_t_squared(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * kd_loss(s, t, temperature=temperature) / temperature**2


def t_squared_on_all(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return temperature**2 * mix_without_t_squared(s, t, labels, temperature=temperature, alpha=alpha)


def relu_on_the_logits(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return distillation_loss(F.relu(s), t, labels, temperature=temperature, alpha=alpha)


def softmax_twice(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    hard = F.cross_entropy(F.softmax(s, dim=-1), labels)
    return (1 - alpha) * hard + alpha * kd_loss(s, t, temperature=temperature)


def teachers_label_loss(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(t.detach(), labels) + alpha * kd_loss(s, t, temperature=temperature)


def full_label_weight(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return F.cross_entropy(s, labels) + alpha * kd_loss(s, t, temperature=temperature)


def mix_cases() -> list[Case]:
    first, second, _ = pairs()
    labels = torch.tensor([2, 0]), torch.tensor([4, 1, 1, 0])
    others = [draw(1, 3, seed=21), draw(2, 1, seed=22), draw(3, seed=23)]
    return [
        case(*first, labels[0], temperature=2.0, alpha=0.7),
        case(*second, labels[1], temperature=4.0, alpha=0.9),
        case(*second, labels[1], temperature=3.0, alpha=0.2),
        *(
            refusal(
                SHAPES.format("(2, 3)", tuple(other.shape)), draw(2, 3, seed=20), other, labels[0],
                temperature=2.0, alpha=0.5,
            )
            for other in others
        ),
    ]  # fmt: skip


def drawn_mix(g: torch.Generator) -> Case:
    count, classes = integer(g, 2, 6), integer(g, 2, 7)
    s, t = (draw(count, classes, seed=g, spread=2.0) for _ in range(2))
    labels = torch.randint(classes, (count,), generator=g)
    return case(s, t, labels, temperature=integer(g, 5, 45) / 8.5, alpha=integer(g, 1, 9) / 9.5)


_MIX = "kdcourse.losses.distillation_loss"
EXERCISE = Exercise(
    id="04.2",
    title="labels and teacher, mixed",
    question=(
        "Write `my_distillation_loss(student_logits, teacher_logits, labels, *, temperature, alpha)` for logits (N, "
        "C): (1 - alpha) × the label loss + alpha × the distillation loss with its T². `alpha` is the teacher's "
        "weight. You may use `F.cross_entropy`, and `kd_loss` from `kdcourse.losses`. Only the student gets a "
        "gradient. "
        f"{REFUSES_SHAPES}"
    ),
    skeleton=(
        "def my_distillation_loss(student_logits, teacher_logits, labels, *, temperature, alpha):\n"
        '    """(1 - alpha) · cross-entropy + alpha · T² · KL(p_t ‖ p_s)."""\n    ...'
    ),
    reference=distillation_loss,
    alternatives=(mix_by_parts, mix_by_examples),
    cases=mix_cases,
    drawn=drawn_mix,
    hints=(
        "Two questions of each term: which logits does it see, and at which temperature?",
        "The label term sees the student at temperature 1. The T² belongs to the teacher's term alone.",
        "`(1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * kd_loss(...)`.",
    ),
    misconceptions=(
        Misconception(
            "temperature on the label term",
            label_term_softened,
            "you soften the label term as well. Its gradient then shrinks as T grows, and accuracy falls with it. The "
            "label is hard: it sees the logits at temperature 1",
            _MIX,
        ),
        Misconception(
            "labels only",
            labels_only,
            "your loss never reads the teacher: it is the label loss, at full weight. 'Distillation' then equals "
            "ordinary training, as some public tutorials do",
            _MIX,
        ),
        Misconception(
            "never reads the teacher",
            never_reads_the_teacher,
            "your loss never reads the teacher: only the label term is left, with its small weight",
            _MIX,
        ),
        Misconception(
            "never reads the student",
            never_reads_the_student,
            "your soft term does not depend on the student: it is the teacher against itself. The loss looks alive, "
            "but the student learns from the labels alone",
            _MIX,
        ),
        Misconception(
            "alpha on the labels",
            alpha_on_the_labels,
            "alpha weights the labels in your function. Here it weights the teacher. Both conventions are in use, so "
            "always say which one you mean",
            _MIX,
        ),
        Misconception(
            "T² left out",
            mix_without_t_squared,
            "T² is missing in the soft term. Its gradient shrinks as 1/T², so the balance with the label term drifts "
            "with T",
            _MIX,
        ),
        Misconception(
            "T² on the whole mix",
            t_squared_on_all,
            "T² multiplies the label term as well. It belongs to the soft term only, whose gradient shrinks with T",
            _MIX,
        ),
        Misconception(
            "ReLU on the logits",
            relu_on_the_logits,
            "the logits go through a ReLU. A class below zero gets no gradient any more and dies. The baseline trained "
            "so collapses, and distillation then looks miraculous",
            _MIX,
        ),
        Misconception(
            "softmax before cross-entropy",
            softmax_twice,
            "`F.cross_entropy` takes logits and softens them itself. Given probabilities it does so twice, and the "
            "label gradient almost vanishes",
            _MIX,
        ),
        Misconception(
            "label loss of the teacher",
            teachers_label_loss,
            "your label term measures the teacher. It is a constant: the labels teach the student nothing",
            _MIX,
        ),
        Misconception(
            "weights that do not sum to one",
            full_label_weight,
            "the label term has the weight 1 instead of 1 - alpha. Turning alpha up then also turns the learning rate "
            "up",
            _MIX,
        ),
        *MORE,
    ),
    shows="the label term sees the student at temperature 1, the soft term carries T², and the weights sum to 1.",
    derivation=(
        "T² keeps the soft gradient T (p_s - p_t)/N at the size of the hard one, (p_s - y)/N at T = 1. So alpha alone "
        "sets the balance. Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2."
    ),
    gradients=(0, 1),
    forbidden=(_MIX,),
    points=2,
)
