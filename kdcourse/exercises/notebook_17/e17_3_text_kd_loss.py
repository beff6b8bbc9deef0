"""17.3 soft targets of text, a chunk at a time."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_17_3 import WRONG


def text_kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, temperature: float, tokens: int
) -> Tensor:
    log_q = F.log_softmax(student_logits[mask] / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits.detach()[mask] / temperature, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum() / tokens


def text_kd_loss_of_filled(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, temperature: float, tokens: int
) -> Tensor:
    """Equal logits at padding, where the divergence is then 0."""
    padding = ~mask.unsqueeze(-1)
    student, teacher = (z.masked_fill(padding, 0.0) for z in (student_logits, teacher_logits.detach()))
    log_q, p = (student / temperature).log_softmax(-1), (teacher / temperature).softmax(-1)
    return F.kl_div(log_q, p, reduction="sum") * (temperature**2 / tokens)


def text_kd_loss_by_loop(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, temperature: float, tokens: int
) -> Tensor:
    total = 0 * student_logits[:0].sum()
    for row, place in mask.nonzero().tolist():
        student, teacher = student_logits[row, place] / temperature, teacher_logits[row, place].detach() / temperature
        log_q, log_p = student - student.logsumexp(dim=0), teacher - teacher.logsumexp(dim=0)
        total = total + torch.dot(log_p.exp(), log_p - log_q)
    return total * temperature**2 / tokens


def can_be_trained(value: Any, case: Case) -> Any:
    """The loss; for a chunk of padding, one that `backward()` refuses does not work."""
    number = isinstance(value, int | float) or (isinstance(value, Tensor) and not value.requires_grad)
    if number and not case.arguments[2].any():
        raise TypeError(
            "this chunk is padding alone, and the number does not depend on the student, so `backward()` raises. "
            "Sum over the indexed logits: the sum of nothing is a 0 that has a gradient"
        )
    return value


def _with_nan(logits: Tensor, mask: Tensor) -> Tensor:
    """NaN and infinity at the first places of padding."""
    row, place = (~mask).nonzero()[0].tolist()
    logits[row, place, 0], logits[row, place, 1] = torch.nan, torch.inf
    return logits


def text_kd_cases() -> list[Case]:
    mask = torch.tensor([[True, True, False]])
    two = mask.repeat(2, 1)
    uneven = torch.tensor([[True, True, True, False], [False, True, False, False], [False, False, False, False]])
    none = torch.zeros(2, 2, dtype=torch.bool)
    return [
        case(draw(1, 3, 3, seed=1), draw(1, 3, 3, seed=2), mask, temperature=1.5, tokens=5),
        case(draw(3, 4, 5, seed=3), draw(3, 4, 5, seed=4), uneven, temperature=2.5, tokens=4),
        case(
            _with_nan(draw(3, 4, 3, seed=5), uneven),
            _with_nan(draw(3, 4, 3, seed=6), uneven),
            uneven,
            temperature=0.8,
            tokens=13,
        ),
        case(draw(2, 3, 4, seed=7), _with_nan(draw(2, 3, 4, seed=8), two), two, temperature=1.25, tokens=7),
        case(draw(2, 2, 6, seed=9), draw(2, 2, 6, seed=10), none, temperature=1.5, tokens=9),  # padding alone
        case(draw(2, 5, 4, seed=11).float(), draw(2, 5, 4, seed=12).float(), torch.ones(2, 5, dtype=torch.bool),
             temperature=3.0, tokens=10),
    ]  # fmt: skip


def drawn_text_kd(g: torch.Generator) -> Case:
    rows, length, size = integer(g, 1, 3), integer(g, 2, 5), integer(g, 3, 6)
    ends = torch.randint(length + 1, (rows, 1), generator=g)
    ends[0] += int(ends[0] == 0)  # one real token at least
    mask = torch.arange(length) < ends
    logits = draw(rows, length, size, seed=g), draw(rows, length, size, seed=g)
    tokens = int(mask.sum()) + integer(g, 1, 30)
    return case(*logits, mask, temperature=integer(g, 5, 45) / 8.5, tokens=tokens)


EXERCISE = Exercise(
    id="17.3",
    title="soft targets of text, a chunk at a time",
    question=(
        "A batch of text is too large for the memory, so it is processed in chunks of sequences. One chunk is "
        "`student_logits` and `teacher_logits` (n, L, V), which predict the same token at each position, and `mask` "
        "(n, L), bool, True at real tokens and False at padding. `tokens` is the number of real tokens of the *whole* "
        "batch. Write `my_text_kd_loss(student_logits, teacher_logits, mask, *, temperature, tokens)`: this chunk's "
        "part of the batch's distillation loss, so that the parts of all chunks add up to the mean over the real "
        "tokens of the batch of T² · KL(teacher ‖ student), both softened at the temperature T. It is a 0-dimensional "
        "tensor; the student gets a gradient, the teacher none. At padding the logits of both may be anything, NaN and "
        "infinity included: nothing of it may reach the loss, and the gradient is 0 there. For a chunk of padding "
        "alone the loss is 0 and its gradient zero, so that `backward()` still works."
    ),
    skeleton=(
        "def my_text_kd_loss(student_logits, teacher_logits, mask, *, temperature, tokens):\n"
        '    """This chunk\'s part of the mean of T² · KL(teacher ‖ student) over all real tokens."""\n    ...'
    ),
    reference=text_kd_loss,
    alternatives=(text_kd_loss_of_filled, text_kd_loss_by_loop),
    cases=text_kd_cases,
    drawn=drawn_text_kd,
    hints=(
        "A mean over a batch is one sum divided by one number. Which of the two can a chunk know by itself?",
        "Choose the real tokens first, with `student_logits[mask]` and `teacher_logits[mask]`, (M, V) each. What is "
        "not chosen cannot spoil anything, neither forward nor backward.",
        "`log_q` and `log_p` are the `log_softmax` of the chosen logits divided by T, the teacher's detached. The "
        "part is `temperature**2 * (log_p.exp() * (log_p - log_q)).sum() / tokens`.",
    ),
    misconceptions=WRONG,
    shows="a sum divided by the tokens of the whole batch does not depend on chunks, padding or length.",
    derivation=(
        "L = (1/M) Σ_{real tokens i} T² KL(p_i ‖ q_i) with M over the whole batch. A sum can be cut anywhere, "
        "L = Σ_chunks (1/M) Σ_{i in chunk} …, while the mean of the chunks' means weights a token by 1 over the size "
        "of its chunk. Indexing before the softmax makes the derivative at padding a structural 0, not 0 · NaN."
    ),
    gradients=(0, 1),
    observe=can_be_trained,
    forbidden=("kdcourse.losses.kd_loss", "kdcourse.losses.sequences.generalized_js_loss"),
)
