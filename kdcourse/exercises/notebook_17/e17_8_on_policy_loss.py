"""17.8 learning from one's own text: the gradient that token-wise losses leave out."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_17_8 import WRONG


def on_policy_loss(student_log_probs: Tensor, teacher_log_probs: Tensor, mask: Tensor) -> Tensor:
    costs = torch.where(mask, student_log_probs - teacher_log_probs, 0.0).detach()
    to_go = costs.flip(1).cumsum(dim=1).flip(1)
    return (student_log_probs * to_go * mask).sum(dim=1).mean()


def on_policy_loss_by_subtraction(student_log_probs: Tensor, teacher_log_probs: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        costs = (student_log_probs - teacher_log_probs) * mask
        before = costs.cumsum(dim=1) - costs
        to_go = costs.sum(dim=1, keepdim=True) - before
    return torch.dot(student_log_probs[mask], to_go[mask]) / len(mask)


def on_policy_loss_by_loop(student_log_probs: Tensor, teacher_log_probs: Tensor, mask: Tensor) -> Tensor:
    total = 0 * student_log_probs.sum()
    for student, teacher, counts in zip(student_log_probs, teacher_log_probs.tolist(), mask.tolist(), strict=True):
        to_go = 0.0
        for place in range(len(counts) - 1, -1, -1):
            if counts[place]:
                to_go += student[place].item() - teacher[place]
                total = total + student[place] * to_go
    return total / len(student_log_probs)


def _texts(seed: int | torch.Generator, rows: int, length: int) -> tuple[Tensor, Tensor]:
    first, second = (seed, seed + 1) if isinstance(seed, int) else (seed, seed)
    return -draw(rows, length, seed=first).abs(), -draw(rows, length, seed=second).abs()


def on_policy_cases() -> list[Case]:
    mask = torch.tensor([[False, True, True]])
    uneven = torch.tensor([[True, True, True, True], [False, True, True, False], [False, False, True, False]])
    gap = torch.tensor([[True, False, True, True, False], [False, False, False, False, False]])
    float_texts = [text.float() for text in _texts(10, 2, 4)]
    return [
        case(*_texts(1, 1, 3), mask),
        case(*_texts(3, 3, 4), uneven),
        case(*_texts(5, 2, 5), gap),  # the second text is empty
        case(*_texts(7, 2, 3), torch.ones(2, 3, dtype=torch.bool)),
        case(*float_texts, torch.tensor([[True, True, False, False], [True, True, True, False]])),
        case(*_texts(12, 2, 1), torch.tensor([[True], [True]])),
    ]


def drawn_on_policy(g: torch.Generator) -> Case:
    rows, length = integer(g, 2, 4), integer(g, 3, 6)
    places = torch.arange(length)
    starts, ends = torch.randint(2, (rows, 1), generator=g), torch.randint(1, length + 1, (rows, 1), generator=g)
    return case(*_texts(g, rows, length), (places >= starts) & (places < ends))


EXERCISE = Exercise(
    id="17.8",
    title="learning from one's own text",
    question=(
        "The *student* has written N texts. `student_log_probs` and `teacher_log_probs` (N, L) are the natural "
        "logarithms of the probabilities that student and teacher give to each of the written tokens, after those "
        "before it. `mask` (N, L), bool, is True at the tokens that the student wrote, False at prompt and padding, "
        "where the numbers are finite but must not count. The cost of a written token is ln q - ln p, student minus "
        "teacher; added up over a text it estimates KL(student ‖ teacher) of whole texts. But a token also decides "
        "what is written after it, so it answers for its own cost and for all later costs of its text, not for "
        "earlier ones: let R be their sum. Write `my_on_policy_loss(student_log_probs, teacher_log_probs, mask)`: "
        "ln q · R, summed over the written tokens of a text and averaged over the N texts, as a 0-dimensional tensor. "
        "R is a constant: the gradient flows through the factor ln q alone, to the student; the teacher gets none. "
        "(The value means nothing by itself; the gradient is an unbiased estimate of the gradient of KL(student ‖ "
        "teacher).)"
    ),
    skeleton=(
        "def my_on_policy_loss(student_log_probs, teacher_log_probs, mask):\n"
        '    """ln q times the detached costs from each token on, summed over a text; the mean over texts."""\n    ...'
    ),
    reference=on_policy_loss,
    alternatives=(on_policy_loss_by_subtraction, on_policy_loss_by_loop),
    cases=on_policy_cases,
    drawn=drawn_on_policy,
    hints=(
        "Write the costs of one short text in a row. What is R of the last token, and what of the one before it?",
        "R is a cumulative sum from the end: `flip`, `cumsum`, `flip`, each along the tokens. Set the costs outside "
        "the mask to 0 first, and detach them.",
        "`costs = ((student_log_probs - teacher_log_probs) * mask).detach()`, `to_go = costs.flip(1).cumsum(1)"
        ".flip(1)`, and `(student_log_probs * to_go * mask).sum(dim=1).mean()`.",
    ),
    misconceptions=WRONG,
    shows="who writes matters: on its own text a student also has to answer for what its tokens lead to.",
    derivation=(
        "∇ E_q[ln Q / P] = E_q[∇ln Q · ln Q / P] + E_q[∇ln Q], and the last is ∇Σ Q = 0. With ln Q = Σ_t ln q_t and "
        "costs c_t = ln q_t - ln p_t it is E_q[Σ_t ∇ln q_t · Σ_{s ≥ t} c_s], as E[∇ln q_t · c_s] = 0 for s < t. The "
        "reverse divergence at each token keeps s = t only. Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543."
    ),
    gradients=(0, 1),
    points=2,
)
