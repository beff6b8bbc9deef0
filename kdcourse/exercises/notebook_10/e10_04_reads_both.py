"""10.04 a student that does not move."""

import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Exercise, Misconception
from .common import GRADIENT_TOO, soft_loss, softened
from .e10_02_t_squared import MIXED, drawn_mixed_case, mixed_by_steps, mixed_by_targets, mixed_cases, mixed_loss


def teacher_against_itself(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft_loss(t, t, temperature=temperature)


def student_against_itself(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    p_s, log_p_s = softened(s, temperature)
    soft = -(temperature**2) * (p_s * log_p_s).sum(dim=1).mean()
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft


def labels_alone(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return F.cross_entropy(s, labels)


def detached_student(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft_loss(s.detach(), t, temperature=temperature)


def roles_swapped(s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
    return (1 - alpha) * F.cross_entropy(s, labels) + alpha * soft_loss(t, s, temperature=temperature)


EXERCISE = Exercise(
    id="10.04",
    title="a student that does not move",
    question=(
        "Fix `case_4` as `fixed_4(student_logits, teacher_logits, labels, *, temperature, alpha)`: "
        f"{MIXED}. {GRADIENT_TOO}"
    ),
    skeleton=(
        "def fixed_4(student_logits, teacher_logits, labels, *, temperature, alpha):\n"
        '    """(1 - alpha) · cross-entropy + alpha · the soft loss."""\n    ...'
    ),
    reference=mixed_loss,
    alternatives=(mixed_by_steps, mixed_by_targets),
    cases=mixed_cases,
    drawn=drawn_mixed_case,
    hints=(
        "Which arguments does the soft term depend on? Change one at a time and look.",
        "Read the two lines that soften logits, character by character.",
        "The first `log_softmax` must see the student's logits.",
    ),
    misconceptions=(
        Misconception(
            "teacher against teacher",
            teacher_against_itself,
            "the soft term never reads the student: it compares the teacher with itself. It is zero, and so is its "
            "gradient. What the student learns comes from the labels",
        ),
        Misconception(
            "student alone",
            student_against_itself,
            "the soft term never reads the teacher: it is the student's own entropy. Minimising it only makes the "
            "student more confident in what it already predicts",
        ),
        Misconception(
            "labels alone",
            labels_alone,
            "your loss never reads the teacher. 'Distillation' then equals ordinary training",
        ),
        Misconception(
            "student detached",
            detached_student,
            "the value is right, but you detach the student in the soft term. Detach the teacher instead",
        ),
        Misconception(
            "student and teacher swapped",
            roles_swapped,
            "student and teacher are swapped: this is KL(p_s ‖ p_t), the other direction",
        ),
    ),
    shows="a loss must depend on every argument: change one, and the value has to change.",
    derivation="Of KL(p_t ‖ p_s) the student's gradient is (p_s - p_t) / (T N); with p_t in both places it is zero.",
    gradients=(0,),
)
