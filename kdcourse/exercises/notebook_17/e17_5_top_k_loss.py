"""17.5 a stored teacher: its k most probable tokens, and one bucket for all others."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer, refusal
from .wrong_17_5 import WRONG


def top_k_loss(student_logits: Tensor, top_log_probs: Tensor, top_indices: Tensor, *, temperature: float) -> Tensor:
    log_p = top_log_probs.detach().to(student_logits.dtype)
    stored = log_p.exp().sum(dim=-1)
    if (stored > 1.001).any():
        raise ValueError("the stored probabilities of a position sum to more than 1")
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    losses = (log_p.exp() * (log_p - log_q.gather(-1, top_indices))).sum(dim=-1)
    if top_indices.shape[-1] < student_logits.shape[-1]:
        rest = (1 - stored).clamp(min=0)
        log_rest = log_q.scatter(-1, top_indices, -torch.inf).logsumexp(dim=-1)
        losses = losses + torch.special.xlogy(rest, rest) - rest * log_rest
    return temperature**2 * losses.mean()


def top_k_loss_of_buckets(
    student_logits: Tensor, top_log_probs: Tensor, top_indices: Tensor, *, temperature: float
) -> Tensor:
    """One softmax over k logits and the logsumexp of the others."""
    targets = top_log_probs.detach().to(student_logits.dtype).exp()
    rest = 1 - targets.sum(dim=-1, keepdim=True)
    if rest.min() < -0.001:
        raise ValueError("probabilities that sum to more than 1")
    scaled = student_logits / temperature
    buckets = scaled.gather(1, top_indices)
    if buckets.shape != scaled.shape:
        others = scaled.scatter(1, top_indices, -torch.inf).logsumexp(dim=1, keepdim=True)
        buckets = torch.cat([buckets, others], dim=1)
        targets = torch.cat([targets, rest.clamp(min=0)], dim=1)
    return F.kl_div(buckets.log_softmax(dim=1), targets, reduction="batchmean") * temperature**2


def top_k_loss_by_loop(
    student_logits: Tensor, top_log_probs: Tensor, top_indices: Tensor, *, temperature: float
) -> Tensor:
    total = torch.zeros((), dtype=student_logits.dtype)
    for logits, stored, known in zip(student_logits, top_log_probs.detach(), top_indices, strict=True):
        everything = (logits / temperature).logsumexp(dim=0)
        left = 1.0
        for log_p, token in zip(stored.tolist(), known.tolist(), strict=True):
            p = math.exp(log_p)
            total = total + p * (log_p - logits[token] / temperature + everything)
            left -= p
        if left < -1e-3:
            raise ValueError("more than everything")
        others = torch.ones(len(logits), dtype=torch.bool)
        others[known] = False
        if left > 0 and others.any():
            log_rest = (logits[others] / temperature).logsumexp(dim=0) - everything
            total = total + left * (math.log(left) - log_rest)
    return temperature**2 * total / len(student_logits)


Stored = tuple[Tensor, Tensor]


def _stored(logits: Tensor, k: int, temperature: float, dtype: torch.dtype) -> Stored:
    top = (logits / temperature).log_softmax(dim=-1).topk(k, dim=-1)
    return top.values.to(dtype), top.indices


def top_k_cases() -> list[Case]:
    student = torch.tensor([[0.4, 1.2, -1.0, 0.1]], dtype=torch.float64)
    teacher = torch.tensor([[0.5, -0.3, 2.0, 1.0]], dtype=torch.float64)
    logs = torch.tensor([[0.75, 0.25]], dtype=torch.float64).log()
    far = torch.tensor([[90.0, 88.0, 0.0, 1.0, -2.0], [0.0, 2.0, 1.0, -60.0, -59.0]], dtype=torch.float64)
    known = torch.tensor([[0, 1], [2, 1]])
    left = torch.tensor([[0.5, 0.2], [0.3, 0.4]], dtype=torch.float64).log()
    over = torch.tensor([[0.6, 0.4004], [0.5, 0.3]], dtype=torch.float64).log()
    double, half = torch.float64, torch.float16
    return [
        case(student, *_stored(teacher, 2, 1.5, double), temperature=1.5),
        case(draw(3, 6, seed=1), *_stored(draw(3, 6, seed=2), 3, 2.5, double), temperature=2.5),
        case(draw(2, 4, seed=3), *_stored(draw(2, 4, seed=4), 4, 0.8, double), temperature=0.8),  # all are stored
        case(draw(3, 5, seed=5), *_stored(draw(3, 5, seed=6), 1, 1.25, double), temperature=1.25),
        case(far, left, known, temperature=1.2),  # the student leaves next to nothing
        case(student.clone(), logs, torch.tensor([[3, 1]]), temperature=1.5),  # the teacher leaves nothing
        case(draw(2, 4, seed=7), over, known.clone(), temperature=1.75),  # above 1 by rounding
        case(draw(4, 7, seed=8), *_stored(draw(4, 7, seed=9), 3, 2.0, half), temperature=2.0),
        case(draw(2, 6, seed=10).float(), *_stored(draw(2, 6, seed=11).float(), 2, 3.0, half), temperature=3.0),
        refusal("stored logits, whose exponentials sum to more than 1", student.clone(),
                torch.tensor([[2.0, 1.0]], dtype=double), torch.tensor([[2, 3]]), temperature=1.5),
        refusal("a position whose probabilities sum to 1.05", draw(2, 4, seed=12),
                torch.tensor([[0.5, 0.2], [0.75, 0.3]], dtype=double).log(), known.clone(), temperature=2.0),
    ]  # fmt: skip


def drawn_top_k(g: torch.Generator) -> Case:
    rows, size, temperature = integer(g, 1, 4), integer(g, 3, 7), integer(g, 5, 45) / 8.5
    student, teacher = draw(rows, size, seed=g), draw(rows, size, seed=g)
    stored = _stored(teacher, integer(g, 1, size), temperature, torch.float64)
    return case(student, *stored, temperature=temperature)


EXERCISE = Exercise(
    id="17.5",
    title="a stored teacher",
    question=(
        "Of a teacher only its k most probable tokens have been stored at each of N positions: `top_log_probs` (N, k), "
        "what log_softmax(teacher / T) gave for them over all V tokens, at the temperature T at which you train, and "
        "`top_indices` (N, k), int64, which tokens they are. `student_logits` is (N, V). Write "
        "`my_top_k_loss(student_logits, top_log_probs, top_indices, *, temperature)`: put all other V - k tokens into "
        "one bucket, for the student softened at T and for the teacher, and return T² · KL(teacher ‖ student) over "
        "these k + 1 possibilities, averaged over the positions, as a 0-dimensional tensor of the student's dtype. If "
        "k = V there is no bucket. `top_log_probs` may be stored in half precision: compute in the student's dtype. "
        "Rounding can lift the teacher's sum slightly above 1: up to 1.001 the bucket then holds 0, and 0 adds 0. "
        "Raise a `ValueError` if the probabilities of a position sum to more than 1.001. Value and gradient stay exact "
        "where the student leaves as little as e⁻⁹⁰ to the bucket. The student gets a gradient, `top_log_probs` none."
    ),
    skeleton=(
        "def my_top_k_loss(student_logits, top_log_probs, top_indices, *, temperature):\n"
        '    """T² · KL(teacher ‖ student) over the k stored tokens and one bucket for all others."""\n    ...'
    ),
    reference=top_k_loss,
    alternatives=(top_k_loss_of_buckets, top_k_loss_by_loop),
    cases=top_k_cases,
    drawn=drawn_top_k,
    hints=(
        "Both sides need k + 1 numbers that sum to 1. The teacher's last one follows from the other k. Does the "
        "student's, if it is tiny?",
        "Take `log_softmax` of the student over all V tokens. `gather(-1, top_indices)` gives the k; for the bucket "
        "set these k to minus infinity with `scatter` and take `logsumexp` of what is left.",
        "`rest = (1 - p.sum(dim=-1)).clamp(min=0)` for the teacher, `log_rest = log_q.scatter(-1, top_indices, "
        "-torch.inf).logsumexp(dim=-1)` for the student. The bucket adds `torch.special.xlogy(rest, rest) - rest * "
        "log_rest`, in which a rest of 0 adds 0.",
    ),
    misconceptions=WRONG,
    shows="with a bucket for the rest, k stored tokens still make a divergence, never above the full one.",
    derivation=(
        "With s = Σ_k p and r = Σ_k q the loss is T² (Σ_k p ln(p / q) + (1 - s) ln((1 - s) / (1 - r))). The full "
        "divergence is this plus (1 - s) times the divergence within the rest, so the loss is at most that and at "
        "least 0. Without the bucket, Σ_k p ln(p / q) is smallest at q = p / s, where it is s ln s < 0."
    ),
    gradients=(0, 1),
    forbidden=("kdcourse.losses.sequences.top_k_kd_loss",),
    points=2,
)
