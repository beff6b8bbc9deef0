"""10.02 a teacher that fades at high temperatures."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import GRADIENT_TOO, small_pairs, soft_loss, soft_loss_by_definition, softened


def mixed_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    log_p_s = F.log_softmax(student_logits / temperature, dim=1)
    p_t = F.softmax(teacher_logits / temperature, dim=1)
    soft = temperature**2 * F.kl_div(log_p_s, p_t, reduction="batchmean")
    return (1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * soft


def mixed_by_steps(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    hard = F.nll_loss(F.log_softmax(s, dim=1), labels)
    return torch.lerp(hard, soft_loss_by_definition(s, t, temperature=temperature), alpha)


def mixed_by_targets(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    p_t, log_p_t = softened(t, temperature)
    excess = F.cross_entropy(s / temperature, p_t) + (p_t * log_p_t).sum(dim=1).mean()
    one_hot = F.one_hot(labels, s.shape[1]).to(s.dtype)
    return (1 - alpha) * F.cross_entropy(s, one_hot) + alpha * excess * temperature * temperature


def no_t_squared(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = soft_loss(s, t, temperature=temperature) / temperature**2
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft


def t_for_t_squared(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = soft_loss(s, t, temperature=temperature) / temperature
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft


def t_squared_on_both(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return temperature**2 * no_t_squared(s, t, labels, temperature=temperature, alpha=alpha)


def labels_softened_too(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    hard = F.cross_entropy(s / temperature, labels)
    return (1 - alpha) * hard + alpha * soft_loss(s, t, temperature=temperature)


def alpha_on_the_labels(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return mixed_loss(s, t, labels, temperature=temperature, alpha=1 - alpha)


def divided_by_t_squared(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    soft = soft_loss(s, t, temperature=temperature) / temperature**4
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft


def sum_for_mixture(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return F.cross_entropy(s, labels) + alpha * soft_loss(s, t, temperature=temperature)


def mixed_cases() -> list[Case]:
    small, batch = small_pairs()
    labels = torch.tensor([2, 0]), torch.tensor([3, 1, 1, 0])
    return [
        case(*small, labels[0], temperature=2.0, alpha=0.75),
        case(*batch, labels[1], temperature=4.0, alpha=0.9),
        case(*batch, labels[1], temperature=3.0, alpha=0.25),
    ]


def drawn_mixed_case(g: torch.Generator) -> Case:
    count, classes = integer(g, 1, 5), integer(g, 2, 6)
    labels = torch.randint(classes, (count,), generator=g)
    logits = [draw(count, classes, seed=g) for _ in range(2)]
    return case(*logits, labels, temperature=integer(g, 2, 12) / 2, alpha=integer(g, 1, 9) / 10)


MIXED = "(1 - alpha) × cross-entropy + alpha × T² · KL(p_t ‖ p_s)"
EXERCISE = Exercise(
    id="10.02",
    title="a teacher that fades at high temperatures",
    question=(
        "Fix `case_2` as `fixed_2(student_logits, teacher_logits, labels, *, temperature, alpha)`: (1 - alpha) × "
        "cross-entropy + alpha × the soft loss. The soft loss is KL(p_t ‖ p_s) at T = 1. At other temperatures "
        f"multiply it by the power of T that makes its gradient, for large T, neither fade nor grow. {GRADIENT_TOO}"
    ),
    skeleton=(
        "def fixed_2(student_logits, teacher_logits, labels, *, temperature, alpha):\n"
        '    """(1 - alpha) · cross-entropy + alpha · the soft loss."""\n    ...'
    ),
    reference=mixed_loss,
    alternatives=(mixed_by_steps, mixed_by_targets),
    cases=mixed_cases,
    drawn=drawn_mixed_case,
    hints=(
        "How does the gradient of the soft term depend on T?",
        "One 1/T comes from the chain rule, one because both distributions become flat.",
        "Multiply the soft term, and only that one, by `temperature**2`.",
    ),
    misconceptions=(
        Misconception(
            "T² left out",
            no_t_squared,
            "T² is missing. The soft gradient shrinks as 1/T², so its balance with the label term drifts with T",
        ),
        Misconception(
            "T instead of T²",
            t_for_t_squared,
            "one T is not enough: the gradient still shrinks as 1/T. The chain rule gives one, the flattening another",
        ),
        Misconception(
            "T² on both terms",
            t_squared_on_both,
            "now the label term grows with T as well: the balance is as wrong as before, and the effective "
            "learning rate grows with T",
        ),
        Misconception(
            "temperature on the label term",
            labels_softened_too,
            "you divide by the temperature in the label term as well. Its gradient then shrinks with T. A label is "
            "hard: it sees the logits at T = 1",
        ),
        Misconception(
            "alpha on the labels",
            alpha_on_the_labels,
            "T² is there, but alpha weights the labels: it is the weight of the teacher",
        ),
        Misconception(
            "divided by T squared",
            divided_by_t_squared,
            "you divide by T². The soft gradient is too small already: multiply",
        ),
        Misconception(
            "labels at full weight",
            sum_for_mixture,
            "T² is there, but the cross-entropy has full weight: its weight is 1 - alpha",
        ),
    ),
    shows="with T² alpha alone sets the balance between teacher and labels, whatever the temperature.",
    derivation="The soft gradient is (p_s - p_t) / (T N), and p_s - p_t itself shrinks like 1/T: T² cancels both.",
    gradients=(0,),
)
