"""13.7 two teachers, one student."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_13_7 import WRONG


def two_teacher_loss(
    student_logits: Tensor, first_teacher: Tensor, second_teacher: Tensor, *, temperature: float
) -> Tensor:
    classes = first_teacher.shape[1]
    parts = student_logits[:, :classes], student_logits[:, classes:]
    total = torch.zeros((), dtype=student_logits.dtype)
    for student, teacher in zip(parts, (first_teacher, second_teacher), strict=True):
        log_q = F.log_softmax(student / temperature, dim=1)
        log_p = F.log_softmax(teacher.detach() / temperature, dim=1)
        total = total + temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()
    return total


def two_by_kl_div(
    student_logits: Tensor, first_teacher: Tensor, second_teacher: Tensor, *, temperature: float
) -> Tensor:
    teachers = (first_teacher.detach(), second_teacher.detach())
    parts = student_logits.split([teacher.shape[1] for teacher in teachers], dim=1)
    losses = [
        F.kl_div((s / temperature).log_softmax(1), (t / temperature).softmax(1), reduction="batchmean")
        for s, t in zip(parts, teachers, strict=True)
    ]
    return temperature**2 * (losses[0] + losses[1])


def two_by_renormalizing(
    student_logits: Tensor, first_teacher: Tensor, second_teacher: Tensor, *, temperature: float
) -> Tensor:
    together = (student_logits / temperature).log_softmax(dim=1)
    log_p = torch.cat([(t.detach() / temperature).log_softmax(dim=1) for t in (first_teacher, second_teacher)], dim=1)
    of_first = torch.arange(together.shape[1]) < first_teacher.shape[1]
    one, other = (together[:, some].logsumexp(dim=1, keepdim=True) for some in (of_first, ~of_first))
    log_q = together - torch.where(of_first, one, other)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum() / len(student_logits)


def two_teachers(seed: int | torch.Generator, count: int, first: int, second: int) -> list[Tensor]:
    shapes = (count, first + second), (count, first), (count, second)
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    return [draw(*shape, seed=generator) for shape in shapes]


def two_teacher_cases() -> list[Case]:
    confident = [part.mul(300) for part in two_teachers(73, 3, 2, 3)]
    return [
        case(*two_teachers(70, 2, 2, 2), temperature=1.5),
        case(*two_teachers(71, 3, 4, 2), temperature=2.5),
        case(*two_teachers(72, 4, 2, 5), temperature=0.7),
        case(*confident, temperature=2.0),
        case(*(part.float() for part in two_teachers(74, 5, 3, 4)), temperature=3.0),
    ]


def drawn_two_teachers(g: torch.Generator) -> Case:
    parts = two_teachers(g, integer(g, 1, 5), integer(g, 2, 5), integer(g, 2, 5))
    return case(*parts, temperature=integer(g, 5, 45) / 8.5)


EXERCISE = Exercise(
    id="13.7",
    title="two teachers, one student",
    question=(
        "One teacher knows C₁ classes, another C₂ others, and the student is to know them all. Write "
        "`my_two_teacher_loss(student_logits, first_teacher, second_teacher, *, temperature)`. The student's logits "
        "have the shape (N, C₁ + C₂), the first teacher's classes first; the teachers' logits are (N, C₁) and (N, C₂). "
        r"Return the sum of two losses $T^2 \cdot \mathrm{KL}(p_t\,\|\,p_s)$, one for each teacher, where both "
        "softmaxes go over that teacher's classes alone. Each is the mean over the N images; the result is a "
        "0-dimensional tensor. The student gets a gradient, the teachers none. Large logits must not produce "
        "infinities."
    ),
    skeleton=(
        "def my_two_teacher_loss(student_logits, first_teacher, second_teacher, *, temperature):\n"
        '    """The sum of two distillation losses, each over the classes of one teacher."""\n    ...'
    ),
    reference=two_teacher_loss,
    alternatives=(two_by_kl_div, two_by_renormalizing),
    cases=two_teacher_cases,
    drawn=drawn_two_teachers,
    hints=(
        "What does the first teacher say about the classes of the second? What should the student's target be there?",
        "Cut the student's *logits* in two, and treat each part as a student of its own.",
        "With `c = first_teacher.shape[1]`: the loss of `student_logits[:, :c]` with the first teacher plus that of "
        "`student_logits[:, c:]` with the second.",
    ),
    misconceptions=WRONG,
    shows="a teacher speaks about its own classes only, so its softmax and the student's go over those alone.",
    derivation=(
        "L = T² · [KL(p₁ ‖ softmax(s₁/T)) + KL(p₂ ‖ softmax(s₂/T))], s₁ and s₂ the two parts of the student's logits. "
        "It is 0 where each part agrees with its teacher up to a constant. The difference of the two constants, which "
        "decides between the two sets of classes, is not trained by it: that takes images or labels of both."
    ),
    gradients=(0, 1, 2),
    absolute=1e-6,
    points=2,
)
