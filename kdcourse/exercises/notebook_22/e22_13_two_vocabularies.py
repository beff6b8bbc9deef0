"""22.13 a loss that feels a constant."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import GRADIENT_TOO, divergence


def over_common_tokens(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    common = min(student_logits.shape[-1], teacher_logits.shape[-1])
    log_p_s = F.log_softmax(student_logits[..., :common], dim=-1)
    p_t = F.softmax(teacher_logits[..., :common], dim=-1)
    return F.kl_div(log_p_s, p_t, reduction="none").sum(dim=-1).mean()


def by_infinite_padding(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    common = min(student_logits.shape[-1], teacher_logits.shape[-1])
    log_p_s, log_p_t = (
        z.masked_fill(torch.arange(z.shape[-1]) >= common, -torch.inf).log_softmax(dim=-1)[..., :common]
        for z in (student_logits, teacher_logits)
    )
    return (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()


def row_by_row(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    losses = []
    teacher_rows = teacher_logits.reshape(-1, teacher_logits.shape[-1])
    for s, t in zip(student_logits.reshape(-1, student_logits.shape[-1]), teacher_rows, strict=True):
        width = min(len(s), len(t))
        s, t = s[:width], t[:width]
        p_t = (t - t.logsumexp(0)).exp()
        losses.append((p_t * (t - t.logsumexp(0) - s + s.logsumexp(0))).sum())
    return torch.stack(losses).mean()


def _widened(z: Tensor, width: int, value: float) -> Tensor:
    return F.pad(z, (0, width - z.shape[-1]), value=value)


def _both_widened(s: Tensor, t: Tensor, value: float) -> Tensor:
    width = max(s.shape[-1], t.shape[-1])
    return divergence(_widened(s, width, value), _widened(t, width, value))


def padded_with_zero(s: Tensor, t: Tensor) -> Tensor:
    return _both_widened(s, t, 0.0)


def padded_with_a_large_number(s: Tensor, t: Tensor) -> Tensor:
    return _both_widened(s, t, -1e4)


def padded_with_the_smallest(s: Tensor, t: Tensor) -> Tensor:
    width = max(s.shape[-1], t.shape[-1])
    wide = [
        torch.cat([z, z.amin(dim=-1, keepdim=True).expand(*z.shape[:-1], width - z.shape[-1])], dim=-1) for z in (s, t)
    ]
    return divergence(wide[0], wide[1])


def cut_after_the_softmax(s: Tensor, t: Tensor) -> Tensor:
    common = min(s.shape[-1], t.shape[-1])
    log_p_s, log_p_t = (z.log_softmax(dim=-1)[..., :common] for z in (s, t))
    return (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()


def renormalised_probabilities(s: Tensor, t: Tensor) -> Tensor:
    common = min(s.shape[-1], t.shape[-1])
    p_s, p_t = (z.softmax(dim=-1)[..., :common] for z in (s, t))
    p_s, p_t = p_s / p_s.sum(dim=-1, keepdim=True), p_t / p_t.sum(dim=-1, keepdim=True)
    return (p_t * (p_t.log() - p_s.log())).sum(dim=-1).mean()


def only_the_teacher_cut(s: Tensor, t: Tensor) -> Tensor:
    common = min(s.shape[-1], t.shape[-1])
    log_p_s, log_p_t = s.log_softmax(dim=-1)[..., :common], t[..., :common].log_softmax(dim=-1)
    return (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()


def only_the_student_cut(s: Tensor, t: Tensor) -> Tensor:
    common = min(s.shape[-1], t.shape[-1])
    log_p_s, log_p_t = s[..., :common].log_softmax(dim=-1), t.log_softmax(dim=-1)[..., :common]
    return (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()


def last_tokens_kept(s: Tensor, t: Tensor) -> Tensor:
    common = min(s.shape[-1], t.shape[-1])
    return divergence(s[..., -common:], t[..., -common:])


def mean_over_tokens(s: Tensor, t: Tensor) -> Tensor:
    common = min(s.shape[-1], t.shape[-1])
    return divergence(s[..., :common], t[..., :common]) / common


def the_other_direction(s: Tensor, t: Tensor) -> Tensor:
    common = min(s.shape[-1], t.shape[-1])
    return divergence(t[..., :common], s[..., :common])


def summed_over_positions(s: Tensor, t: Tensor) -> Tensor:
    return over_common_tokens(s, t) * s[..., 0].numel()


def per_text(s: Tensor, t: Tensor) -> Tensor:
    return over_common_tokens(s, t) * s[..., 0].numel() / len(s)


def vocabulary_cases() -> list[Case]:
    small = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    far = draw(2, 3, 6, seed=312) + 900.0 * (torch.arange(6) > 3)
    return [
        case(small, torch.tensor([[3.0, 1.0], [-1.0, 4.0]], dtype=torch.float64)),
        case(small, draw(2, 5, seed=310) - 6),
        case(draw(2, 3, 5, seed=311) + 4, draw(2, 3, 7, seed=313) - 8),
        case(draw(3, 2, 6, seed=314) - 5, draw(3, 2, 4, seed=315) + 5),
        case(far, draw(2, 3, 4, seed=316)),
        case(draw(2, 3, 4, seed=317), far),
        case(draw(2, 4, seed=318), draw(2, 4, seed=319)),
    ]


def drawn_vocabularies(g: torch.Generator) -> Case:
    shape = integer(g, 1, 3), integer(g, 1, 3)
    widths = integer(g, 2, 6), integer(g, 2, 6)
    return case(*(draw(*shape, width, seed=g) + integer(g, -9, 9) for width in widths))


EXERCISE = Exercise(
    id="22.13",
    title="a loss that feels a constant",
    question=(
        "Student and teacher have the same tokenizer, but one model has more columns than the other: columns beyond "
        "the narrower one's are padding, and no text contains these tokens. Fix `case_13` as "
        "`fixed_13(student_logits, teacher_logits)`: the mean over all positions of KL(p_t ‖ p_s), where both "
        "softmaxes go over the common tokens alone, the first min(V_s, V_t). Logits have the shape (N, V) or "
        "(N, L, V) with any V for each model; the padding's may be large. A constant added to all logits of a model "
        f"changes nothing. {GRADIENT_TOO}"
    ),
    skeleton=(
        "def fixed_13(student_logits, teacher_logits):\n"
        '    """KL(p_t ‖ p_s) over the tokens that both models know."""\n    ...'
    ),
    reference=over_common_tokens,
    alternatives=(by_infinite_padding, row_by_row),
    cases=vocabulary_cases,
    drawn=drawn_vocabularies,
    hints=(
        "A softmax does not change when all its logits grow by 1. Which of the logits did not grow?",
        "The columns that are filled up get the logit 0. Beside logits near -8 that is nearly all of the probability.",
        "Cut both to the first min(V_s, V_t) columns, *then* take the softmax.",
    ),
    misconceptions=(
        Misconception(
            "padded with logit 0",
            padded_with_zero,
            "the missing columns get the logit 0, which is not a probability of 0: how much probability it is depends "
            "on where the other logits lie. Tokens that do not exist then take part in the loss",
        ),
        Misconception(
            "padded with a very small logit",
            padded_with_a_large_number,
            "the narrower model excludes the padding now, but the wider one does not: where it is the teacher, the "
            "loss pays 10,000 nats per unit of probability on the padding. Exclude these columns in both",
        ),
        Misconception(
            "padded with the smallest logit",
            padded_with_the_smallest,
            "now a constant no longer matters, but the tokens that do not exist still have some probability in both",
        ),
        Misconception(
            "cut after the softmax",
            cut_after_the_softmax,
            "you cut after the softmax: what is left does not sum to 1, so this is not a divergence and can be below 0",
        ),
        Misconception(
            "divided by what is left",
            renormalised_probabilities,
            "right as long as something is left. With large logits in the padding all the others round to 0, and 0 / 0 "
            "is NaN. Cut the logits, before the softmax",
        ),
        Misconception(
            "only the teacher cut",
            only_the_teacher_cut,
            "the student's softmax still goes over its padding: it pays for probability there, and gets a gradient",
        ),
        Misconception(
            "only the student cut",
            only_the_student_cut,
            "the teacher's softmax still goes over its padding: its probabilities of the common tokens do not sum to 1",
        ),
        Misconception(
            "the last columns kept",
            last_tokens_kept,
            "you keep the last columns. Tokens are counted from 0: the common ones are the first",
        ),
        Misconception(
            "mean over the tokens",
            mean_over_tokens,
            "you divide by the number of tokens as well: a divergence is a sum over them, and a mean over positions",
        ),
        Misconception(
            "the other direction",
            the_other_direction,
            "the columns are right now, but this is KL(p_s ‖ p_t), the other direction",
        ),
        Misconception(
            "summed over positions",
            summed_over_positions,
            "the columns are right now, but this is the sum over all positions: return the mean",
        ),
        Misconception(
            "divided by the texts",
            per_text,
            "the columns are right now, but you divide by N and not by N · L: the loss grows with the length",
        ),
    ),
    shows="add a constant to all logits: a loss that moves has used a logit as if it were a probability.",
    derivation=(
        "Beside V logits c, the logit 0 has the probability 1 / (1 + V e^c). For c far below 0 that is nearly 1, for c "
        "far above 0 nearly nothing, and for the model's own distribution c means nothing at all."
    ),
    gradients=(0,),
)
