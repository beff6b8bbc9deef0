"""Wrong answers to 17.3, each with its diagnosis."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Misconception


def _logs(s: Tensor, t: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return (s / temperature).log_softmax(dim=-1), (t.detach() / temperature).log_softmax(dim=-1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _total(s: Tensor, t: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """T² times the sum over the real tokens."""
    log_q, log_p = _logs(s[mask], t[mask], temperature)
    return temperature**2 * _kl(log_p, log_q).sum()


def mean_of_the_chunk(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s, t, mask, temperature) / mask.sum()


def mean_of_the_chunk_or_zero(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s, t, mask, temperature) / mask.sum().clamp(min=1)


def per_sequence(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s, t, mask, temperature) / len(s)


def per_position(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s, t, mask, temperature) / mask.numel()


def divided_twice(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s, t, mask, temperature) / mask.sum().clamp(min=1) / tokens


def not_divided(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s, t, mask, temperature)


def mean_over_entries(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s, t, mask, temperature) / tokens / s.shape[-1]


def multiplied_by_the_mask(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    log_q, log_p = _logs(s, t, temperature)
    return temperature**2 * (_kl(log_p, log_q) * mask).sum() / tokens


def chosen_afterwards(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    log_q, log_p = _logs(s, t, temperature)
    return temperature**2 * torch.where(mask, _kl(log_p, log_q), 0.0).sum() / tokens


def numbers_for_nan(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    usable = s.isfinite().all(dim=-1) & t.isfinite().all(dim=-1)
    return _total(s, t, usable, temperature) / tokens


def mask_inverted(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s, t, ~mask, temperature) / tokens


def shifted_again(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s[:, :-1], t[:, :-1], mask[:, 1:], temperature) / tokens


def without_t_squared(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(s, t, mask, temperature) / tokens / temperature**2


def reversed_kl(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    log_q, log_p = _logs(s[mask], t[mask], temperature)
    return temperature**2 * _kl(log_q, log_p).sum() / tokens


def student_and_teacher_swapped(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    return _total(t, s, mask, temperature) / tokens


def without_entropy(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    log_q, log_p = _logs(s[mask], t[mask], temperature)
    return -(temperature**2) * (log_p.exp() * log_q).sum() / tokens


def hard_targets(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    log_q, log_p = _logs(s[mask], t[mask], temperature)
    return temperature**2 * F.nll_loss(log_q, log_p.argmax(dim=-1), reduction="sum") / tokens


def teacher_not_softened(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    log_q, log_p = (s[mask] / temperature).log_softmax(dim=-1), t.detach()[mask].log_softmax(dim=-1)
    return temperature**2 * _kl(log_p, log_q).sum() / tokens


def not_detached(s: Tensor, t: Tensor, mask: Tensor, *, temperature: float, tokens: int) -> Tensor:
    log_q, log_p = ((z[mask] / temperature).log_softmax(dim=-1) for z in (s, t))
    return temperature**2 * _kl(log_p, log_q).sum() / tokens


WRONG = (
    Misconception(
        "NaN for a chunk of padding",
        mean_of_the_chunk,
        "you divide by the real tokens of this chunk. Chunks of different numbers then weigh the same, and one of "
        "padding alone gives 0 / 0 = NaN. Divide by `tokens`, and the chunks add up to the mean of the batch",
    ),
    Misconception(
        "mean of the chunk",
        mean_of_the_chunk_or_zero,
        "you divide by the real tokens of this chunk. The sum over chunks is then larger the more chunks there are, "
        "and their mean lets a short chunk count as much as a long one. Divide by `tokens`",
    ),
    Misconception(
        "divided by the sequences",
        per_sequence,
        "you divide by the number of sequences, as `batchmean` does with three dimensions. The loss then grows with "
        "the length of the text. Divide by `tokens`",
    ),
    Misconception(
        "divided by all positions",
        per_position,
        "you divide by all positions of the chunk, padding included: append padding, and the loss falls. Divide by "
        "`tokens`",
    ),
    Misconception(
        "divided twice",
        divided_twice,
        "you take the mean of the chunk and then divide by `tokens` as well. One division is enough: the sum over "
        "`tokens`",
    ),
    Misconception(
        "not divided",
        not_divided,
        "this is the sum over the chunk. Divided by the real tokens of the whole batch, it is the chunk's part of the "
        "mean",
    ),
    Misconception(
        "mean over the vocabulary",
        mean_over_entries,
        "exactly V times too small: you average over the vocabulary as well, as the default of `F.kl_div` does. A "
        "divergence is a sum over the tokens of the vocabulary",
    ),
    Misconception(
        "multiplied by the mask",
        multiplied_by_the_mask,
        "you multiply the loss by the mask. 0 · NaN is NaN, so one bad number at padding spoils the whole batch. "
        "Leave the padding out *before* anything is computed: index with the mask",
    ),
    Misconception(
        "left out after the computation",
        chosen_afterwards,
        "the value is correct, the gradient is NaN at padding: `where` drops the loss there, but on the way back 0 "
        "is multiplied by NaN. Leave the padding out *before* the softmax",
    ),
    Misconception(
        "what is finite counts",
        numbers_for_nan,
        "you leave out what is not finite instead of what is padding. Most padding holds ordinary numbers, and they "
        "count as if they were text. The mask decides",
    ),
    Misconception(
        "the mask inverted",
        mask_inverted,
        "the mask is inverted: you keep the padding. It is True at the real tokens",
    ),
    Misconception(
        "shifted again",
        shifted_again,
        "you shift the mask against the logits. Here logits and mask have been aligned before, and student and "
        "teacher are compared at the same position: there is nothing to shift",
    ),
    Misconception(
        "T² is missing",
        without_t_squared,
        "T² is missing. The gradient shrinks like 1/T², so the weight of this loss would change with T",
    ),
    Misconception(
        "the reverse divergence",
        reversed_kl,
        "this is KL(student ‖ teacher). The teacher's probabilities weight the terms here: KL(teacher ‖ student)",
    ),
    Misconception(
        "student and teacher swapped",
        student_and_teacher_swapped,
        "student and teacher are swapped: the gradient flows to the teacher, and the student never changes",
    ),
    Misconception(
        "the teacher's entropy is missing",
        without_entropy,
        "the gradient is correct, the value is not: this is the cross-entropy, the divergence plus the teacher's "
        "entropy. Of text the entropy is large, and the loss is never 0, even for a student that equals its teacher",
    ),
    Misconception(
        "hard targets",
        hard_targets,
        "you keep only the teacher's most probable token. Most of what it knows is how probable the *other* "
        "continuations are",
    ),
    Misconception(
        "teacher not softened",
        teacher_not_softened,
        "only the student is divided by T. Then the two differ even where their logits agree",
    ),
    Misconception(
        "teacher not detached",
        not_detached,
        "the value is correct, but the teacher gets a gradient too: detach it",
    ),
)
