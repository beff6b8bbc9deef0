"""Wrong answers to 17.5, each with its diagnosis."""

import torch
from torch import Tensor

from ..engine.core import Misconception


def checked(top: Tensor) -> None:
    if (top.detach().double().exp().sum(dim=-1) > 1.001).any():
        raise ValueError("these are no log-probabilities: they sum to more than 1")


def _buckets(
    s: Tensor, top: Tensor, indices: Tensor, temperature: float, *, softened: bool = True
) -> tuple[Tensor, Tensor]:
    """Log q and p of the k tokens and, where there is one, of the rest."""
    checked(top)
    p = top.detach().to(s.dtype).exp()
    log_q = (s / temperature if softened else s).log_softmax(dim=-1)
    chosen = log_q.gather(-1, indices)
    if indices.shape[-1] == s.shape[-1]:
        return chosen, p
    rest = log_q.scatter(-1, indices, -torch.inf).logsumexp(dim=-1, keepdim=True)
    return torch.cat([chosen, rest], dim=-1), torch.cat([p, (1 - p.sum(dim=-1, keepdim=True)).clamp(min=0)], dim=-1)


def _kl(log_q: Tensor, p: Tensor) -> Tensor:
    return (torch.special.xlogy(p, p) - p * log_q).sum(dim=-1)


def no_rest(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    k = top.shape[-1]
    return temperature**2 * _kl(log_q[:, :k], p[:, :k]).mean()


def both_renormalized(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    checked(top)
    log_p = top.detach().to(s.dtype).log_softmax(dim=-1)
    log_q = (s.gather(-1, indices) / temperature).log_softmax(dim=-1)
    return temperature**2 * _kl(log_q, log_p.exp()).mean()


def teacher_renormalized(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    k = top.shape[-1]
    return temperature**2 * _kl(log_q[:, :k], p[:, :k] / p[:, :k].sum(dim=-1, keepdim=True)).mean()


def rest_spread_evenly(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    others = s.shape[-1] - top.shape[-1]
    if others == 0:
        return temperature**2 * _kl(log_q, p).mean()
    spread = (p[:, -1:] / others).expand_as(s).scatter(-1, indices, p[:, :-1])
    return temperature**2 * _kl((s / temperature).log_softmax(dim=-1), spread).mean()


def softened_again(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    checked(top)
    p = (top.detach().to(s.dtype) / temperature).exp()
    log_q, _ = _buckets(s, top, indices, temperature)
    if log_q.shape[-1] > top.shape[-1]:
        p = torch.cat([p, (1 - p.sum(dim=-1, keepdim=True)).clamp(min=0)], dim=-1)
    return temperature**2 * _kl(log_q, p).mean()


def student_not_softened(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * _kl(*_buckets(s, top, indices, temperature, softened=False)).mean()


def without_t_squared(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    return _kl(*_buckets(s, top, indices, temperature)).mean()


def t_once(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    return temperature * _kl(*_buckets(s, top, indices, temperature)).mean()


def rest_by_subtraction(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    k = top.shape[-1]
    if k < log_q.shape[-1]:
        log_q = torch.cat([log_q[:, :k], (1 - log_q[:, :k].exp().sum(dim=-1, keepdim=True)).log()], dim=-1)
    return temperature**2 * _kl(log_q, p).mean()


def rest_cut_off(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    k = top.shape[-1]
    if k < log_q.shape[-1]:
        rest = (1 - log_q[:, :k].exp().sum(dim=-1, keepdim=True)).clamp(min=1e-8)
        log_q = torch.cat([log_q[:, :k], rest.log()], dim=-1)
    return temperature**2 * _kl(log_q, p).mean()


def rest_below_zero(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    k = top.shape[-1]
    if k < log_q.shape[-1]:
        p = torch.cat([p[:, :k], 1 - p[:, :k].sum(dim=-1, keepdim=True)], dim=-1)
    return temperature**2 * (p * (p.log() - log_q)).sum(dim=-1).mean()


def rest_of_nothing(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    checked(top)
    p = top.detach().to(s.dtype).exp()
    log_q = (s / temperature).log_softmax(dim=-1)
    p = torch.cat([p, (1 - p.sum(dim=-1, keepdim=True)).clamp(min=0)], dim=-1)
    others = log_q.scatter(-1, indices, -torch.inf).logsumexp(dim=-1, keepdim=True)
    return temperature**2 * _kl(torch.cat([log_q.gather(-1, indices), others], dim=-1), p).mean()


def reversed_kl(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    return temperature**2 * (log_q.exp() * (log_q - p.log())).sum(dim=-1).mean()


def without_entropy(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    return -(temperature**2) * (p * log_q).sum(dim=-1).mean()


def first_columns(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    first = torch.arange(indices.shape[-1]).expand_as(indices)
    return temperature**2 * _kl(*_buckets(s, top, first, temperature)).mean()


def students_own_top(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    own = s.detach().topk(indices.shape[-1], dim=-1).indices
    return temperature**2 * _kl(*_buckets(s, top, own, temperature)).mean()


def in_half_precision(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    k, rounded = top.shape[-1], top.detach().exp().to(s.dtype)
    rest = (1 - rounded.sum(dim=-1, keepdim=True)).clamp(min=0)
    p = rounded if k == log_q.shape[-1] else torch.cat([rounded, rest], dim=-1)
    return temperature**2 * _kl(log_q, p).mean()


def summed(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * _kl(*_buckets(s, top, indices, temperature)).sum()


def mean_over_buckets(s: Tensor, top: Tensor, indices: Tensor, *, temperature: float) -> Tensor:
    log_q, p = _buckets(s, top, indices, temperature)
    return temperature**2 * (_kl(log_q, p) / log_q.shape[-1]).mean()


WRONG = (
    Misconception(
        "no rest",
        no_rest,
        "you sum over the k tokens and leave out the rest. That is not a divergence: it falls below 0, and it is "
        "smallest when the student gives the k tokens *all* its probability. Add the bucket of all others",
    ),
    Misconception(
        "both renormalized",
        both_renormalized,
        "you renormalize both over the k tokens. Then what the student gives to all others costs nothing, however much "
        "it is. Keep the probabilities as they are and add the bucket of all others",
    ),
    Misconception(
        "the teacher renormalized",
        teacher_renormalized,
        "you renormalize the teacher over its k tokens. The student then learns that nothing else can come, and is "
        "overconfident in all of them. What the teacher gave to the others stays in the bucket",
    ),
    Misconception(
        "the rest spread evenly",
        rest_spread_evenly,
        "you spread the teacher's rest evenly over the other tokens. It never said that they are equally probable. "
        "Compare the two sums, one bucket each: within it the student is free",
    ),
    Misconception(
        "softened again",
        softened_again,
        "you divide the stored log-probabilities by T. They have been softened already, and divided once more they do "
        "not sum to 1: the normalization over all V tokens is lost",
    ),
    Misconception(
        "student not softened",
        student_not_softened,
        "what is stored has been softened, the student has not. Then the two differ even where their logits agree",
    ),
    Misconception(
        "T² is missing",
        without_t_squared,
        "T² is missing. The gradient shrinks like 1/T², so the weight of this loss would change with T",
    ),
    Misconception(
        "T once",
        t_once,
        "you multiply by T. One 1/T comes from dividing the logits, another from the probabilities that move together: "
        "T²",
    ),
    Misconception(
        "the rest by subtraction",
        rest_by_subtraction,
        "correct while the student leaves something. 1 - Σ q rounds to 0 where the k tokens have almost all of it, and "
        "the loss is infinite. Add up the others in logarithms: `logsumexp`",
    ),
    Misconception(
        "the rest cut off",
        rest_cut_off,
        "you cut the student's rest off at a small number. Where it is smaller, the loss stops growing and the "
        "gradient is zero, just where the student is most wrong. Add up the others in logarithms: `logsumexp`",
    ),
    Misconception(
        "0 · ∞",
        rest_below_zero,
        "correct where the teacher left a rest. Where the k tokens have everything, 1 - Σ p rounds to 0 or just below, "
        "and its logarithm is infinite or NaN. Clamp the rest at 0; a rest of 0 adds 0",
    ),
    Misconception(
        "a bucket of nothing",
        rest_of_nothing,
        "correct for k < V. With all V tokens stored there are no others, and the logarithm of the student's empty "
        "bucket is minus infinity: leave the bucket out",
    ),
    Misconception(
        "the reverse divergence",
        reversed_kl,
        "this is KL(student ‖ teacher). The stored probabilities weight the terms here: KL(teacher ‖ student)",
    ),
    Misconception(
        "the teacher's entropy is missing",
        without_entropy,
        "the gradient is correct, the value is not: this is the cross-entropy of the buckets. It is not 0 where both "
        "agree",
    ),
    Misconception(
        "the first k tokens",
        first_columns,
        "you compare with the first k columns of the student. The k tokens are other ones at each position: "
        "`gather(-1, top_indices)`",
    ),
    Misconception(
        "the student's own top k",
        students_own_top,
        "you take the k tokens that the *student* finds most probable. The stored numbers belong to `top_indices`",
    ),
    Misconception(
        "computed in half precision",
        in_half_precision,
        "you take the exponential in the half precision in which the numbers are stored, and round a second time. "
        "Convert to the student's dtype first",
    ),
    Misconception(
        "summed over positions",
        summed,
        "you sum over the positions. The loss then grows with the batch: take their mean",
    ),
    Misconception(
        "mean over the buckets",
        mean_over_buckets,
        "you average over the buckets as well. A divergence is a sum over them",
    ),
)
