"""17.4 from one direction of the divergence to the other."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_17_4 import WRONG


def js_loss(student_logits: Tensor, teacher_logits: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = student_logits.log_softmax(dim=-1), teacher_logits.detach().log_softmax(dim=-1)
    if beta == 0:
        return (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    if beta == 1:
        return (log_q.exp() * (log_q - log_p)).sum(dim=-1).mean()
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log(1 - beta))
    each = (1 - beta) * log_p.exp() * (log_p - log_m) + beta * log_q.exp() * (log_q - log_m)
    return each.sum(dim=-1).mean()


def js_loss_without_branches(student_logits: Tensor, teacher_logits: Tensor, *, beta: float) -> Tensor:
    weights = torch.tensor([beta, 1 - beta], dtype=student_logits.dtype)
    both = torch.stack([F.log_softmax(teacher_logits.detach(), dim=-1), F.log_softmax(student_logits, dim=-1)], dim=-1)
    log_m = torch.logsumexp(both + weights.log(), dim=-1)
    terms = F.kl_div(log_m.unsqueeze(-1), both, reduction="none", log_target=True) * weights.flip(0)
    return terms.sum() / student_logits[..., 0].numel()


def js_loss_by_loop(student_logits: Tensor, teacher_logits: Tensor, *, beta: float) -> Tensor:
    size = student_logits.shape[-1]
    rows = list(zip(student_logits.reshape(-1, size), teacher_logits.reshape(-1, size).detach(), strict=True))
    total = torch.zeros((), dtype=student_logits.dtype)
    for student, teacher in rows:
        log_q, log_p = student - student.logsumexp(dim=0), teacher - teacher.logsumexp(dim=0)
        log_m = log_q if beta == 0 else log_p
        if 0 < beta < 1:
            odds = math.log(beta) - math.log(1 - beta)  # of the teacher in the mixture
            log_m = log_q + math.log(1 - beta) + F.softplus(log_p - log_q + odds)
        total = (
            total + (1 - beta) * torch.dot(log_p.exp(), log_p - log_m) + beta * torch.dot(log_q.exp(), log_q - log_m)
        )
    return total / len(rows)


def js_cases() -> list[Case]:
    student = torch.tensor([0.4, -1.0, 1.3], dtype=torch.float64)
    teacher = torch.tensor([2.0, 0.3, -0.5], dtype=torch.float64)
    far = torch.tensor([[1000.0, 0.0, -3.0], [-900.0, 2.0, 1.0]], dtype=torch.float64)
    other = torch.tensor([[-1000.0, 1.0, 0.5], [800.0, 0.0, 3.0]], dtype=torch.float64)
    return [
        case(student, teacher, beta=0.3),
        case(draw(2, 3, 4, seed=1), draw(2, 3, 4, seed=2), beta=0.0),
        case(draw(3, 2, 3, seed=3), draw(3, 2, 3, seed=4), beta=1.0),
        case(draw(2, 3, 5, seed=5), draw(2, 3, 5, seed=6), beta=0.5),
        case(draw(2, 3, 4, seed=7), draw(2, 3, 4, seed=8), beta=0.85),
        *(case(far.clone(), other.clone(), beta=beta) for beta in (0.0, 0.1, 1.0)),
        case(draw(3, 4, seed=9).float(), draw(3, 4, seed=10).float(), beta=0.7),
    ]


def drawn_js(g: torch.Generator) -> Case:
    shape = [integer(g, 2, 4) for _ in range(integer(g, 1, 3))]
    return case(draw(*shape, 5, seed=g), draw(*shape, 5, seed=g), beta=integer(g, 1, 19) / 20)


EXERCISE = Exercise(
    id="17.4",
    title="from one direction to the other",
    question=(
        "Write `my_js_loss(student_logits, teacher_logits, *, beta)` for logits (..., V) with any number of dimensions "
        "of positions, also none. With p_t and p_s the softmax of teacher and student, and their mixture "
        "m = β p_t + (1 - β) p_s, it is (1 - β) KL(p_t ‖ m) + β KL(p_s ‖ m), averaged over the positions: a "
        "0-dimensional tensor. `beta` lies between 0 and 1, both included: at 0 the loss is KL(p_t ‖ p_s), at 1 it is "
        "KL(p_s ‖ p_t), which the formula gives by itself because m is one of the two there. The student gets a "
        "gradient, also through m; the teacher gets none. Value and gradient stay finite and exact for logits "
        "of ±1000."
    ),
    skeleton=(
        "def my_js_loss(student_logits, teacher_logits, *, beta):\n"
        '    """The generalized Jensen-Shannon divergence of student and teacher, the mean over positions."""\n    ...'
    ),
    reference=js_loss,
    alternatives=(js_loss_without_branches, js_loss_by_loop),
    cases=js_cases,
    drawn=drawn_js,
    hints=(
        "Which of the two distributions has β in the mixture, and which has β in front of its divergence? They are not "
        "the same one.",
        "Everything is safe in logarithms: `log_softmax` for both, and `torch.logaddexp` adds two numbers whose "
        "logarithms you have. The logarithm of β p_t is log p_t + ln β.",
        "`log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log(1 - beta))` for 0 < β < 1. At β = 0 it is "
        "`log_q`, at β = 1 `log_p`. Then two divergences from the same `log_m`, weighted 1 - β and β.",
    ),
    misconceptions=WRONG,
    shows="β leads from covering all that the teacher might write to writing only what it is likely to write.",
    derivation=(
        "J(β) = (1 - β) KL(p_t ‖ m) + β KL(p_s ‖ m), m = β p_t + (1 - β) p_s. J(0) = KL(p_t ‖ p_s), J(1) = "
        "KL(p_s ‖ p_t), and J(½) is Jensen-Shannon, at most ln 2. With the weights exchanged it is J'(β) ≈ "
        "β KL(p_t ‖ p_s) for small β, so it goes to 0. Source: Agarwal et al. 2024, arXiv:2306.13649, section 2, "
        "with the weights exchanged."
    ),
    gradients=(0, 1),
    forbidden=("kdcourse.losses.sequences.generalized_js_loss", "kdcourse.losses.js_loss"),
    absolute=1e-7,
)
