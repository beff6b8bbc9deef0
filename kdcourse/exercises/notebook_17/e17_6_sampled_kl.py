"""17.6 a stored teacher without bias: draws, weighted by how likely they were to be drawn."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_17_6 import WRONG


def sampled_kl(student_logits: Tensor, draws: Tensor, teacher_log_probs: Tensor, proposal_log_probs: Tensor) -> Tensor:
    log_p, log_r = teacher_log_probs.detach(), proposal_log_probs.detach()
    log_q = student_logits.log_softmax(dim=-1).gather(-1, draws)
    return ((log_p - log_r).exp() * (log_p - log_q)).mean()


def sampled_kl_of_targets(
    student_logits: Tensor, draws: Tensor, teacher_log_probs: Tensor, proposal_log_probs: Tensor
) -> Tensor:
    """As a soft target with an entry for each token: the weights of all its draws, divided by k."""
    log_p = teacher_log_probs.detach()
    weights = log_p.exp() / proposal_log_probs.detach().exp() / draws.shape[1]
    targets = torch.zeros_like(student_logits).scatter_add(1, draws, weights)
    cross = -(targets * F.log_softmax(student_logits, dim=1)).sum(dim=1)
    return (cross + (weights * log_p).sum(dim=1)).mean()


def sampled_kl_by_loop(
    student_logits: Tensor, draws: Tensor, teacher_log_probs: Tensor, proposal_log_probs: Tensor
) -> Tensor:
    p, r = teacher_log_probs.detach().exp(), proposal_log_probs.detach().exp()
    q = student_logits.softmax(dim=-1)
    terms = []
    for row, tokens in enumerate(draws.tolist()):
        for number, token in enumerate(tokens):
            weight = p[row, number] / r[row, number]
            terms.append(weight * (p[row, number].log() - q[row, token].log()))
    return torch.stack(terms).mean()


def _stored(g: torch.Generator, rows: int, size: int, k: int, flatter: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draws from a flatter teacher, and the logarithms of p and of r at them."""
    logits = draw(rows, size, seed=g)
    log_p, log_r = logits.log_softmax(dim=-1), (logits * flatter).log_softmax(dim=-1)
    draws = torch.multinomial(log_r.exp(), k, replacement=True, generator=g)
    return draws, log_p.gather(-1, draws), log_r.gather(-1, draws)


def sampled_cases() -> list[Case]:
    g = torch.Generator().manual_seed(17)
    two = torch.tensor([[2, 2, 0]]), torch.tensor([[0.6, 0.6, 0.3]]), torch.tensor([[0.4, 0.4, 0.35]])
    near = torch.tensor([[0.6, 0.1, 0.3]], dtype=torch.float64).log() + 0.7
    single, stored = _stored(g, 3, 6, 3, 0.5), _stored(g, 4, 5, 4, 0.7)
    return [
        case(draw(1, 3, seed=1), two[0], two[1].double().log(), two[2].double().log()),
        case(near, torch.tensor([[1, 1]]), *(torch.tensor([[x, x]]).double().log() for x in (0.05, 0.2))),  # below 0
        case(draw(2, 4, seed=3), *_stored(g, 2, 4, 1, 0.5)),
        case(draw(2, 3, seed=4), *_stored(g, 2, 3, 6, 1.0)),  # drawn from the teacher itself
        case(draw(3, 6, seed=5), *single),
        case(draw(4, 5, seed=6).float(), stored[0], stored[1].float(), stored[2].float()),
    ]


def drawn_sampled(g: torch.Generator) -> Case:
    rows, size = integer(g, 2, 4), integer(g, 3, 6)
    return case(draw(rows, size, seed=g), *_stored(g, rows, size, integer(g, 2, 5), integer(g, 3, 8) / 10))


EXERCISE = Exercise(
    id="17.6",
    title="a stored teacher without bias",
    question=(
        "Instead of its most probable tokens, k tokens have been drawn at each of N positions, with repetition, from a "
        "known distribution r over the V tokens, flatter than the teacher's p, so that rare tokens are seen as well. "
        "`draws` (N, k), int64, are these tokens; `teacher_log_probs` and `proposal_log_probs` (N, k) are ln p and "
        "ln r of them. `student_logits` (N, V) give the student's q. KL(p ‖ q) is the mean of ln p - ln q over tokens "
        "that come from p; yours come from r. Write `my_sampled_kl(student_logits, draws, teacher_log_probs, "
        "proposal_log_probs)`: multiply each draw's ln p - ln q by a weight that depends on this draw alone, such that "
        "the mean over draws is right in expectation, whatever r is. Average over the draws, repeated ones each time, "
        "and over the positions, as a 0-dimensional tensor. By chance the result may be below 0. The student gets a "
        "gradient, `teacher_log_probs` and `proposal_log_probs` none."
    ),
    skeleton=(
        "def my_sampled_kl(student_logits, draws, teacher_log_probs, proposal_log_probs):\n"
        '    """An unbiased estimate of KL(teacher ‖ student) from k weighted draws per position."""\n    ...'
    ),
    reference=sampled_kl,
    alternatives=(sampled_kl_of_targets, sampled_kl_by_loop),
    cases=sampled_cases,
    drawn=drawn_sampled,
    hints=(
        "A token v is drawn with probability r(v). What must it be multiplied by to count p(v) in the mean?",
        "Σ_v r(v) · w(v) · (ln p(v) - ln q(v)) has to be Σ_v p(v) · (ln p(v) - ln q(v)). So r(v) · w(v) = p(v).",
        "`weights = (teacher_log_probs - proposal_log_probs).exp()`, and ln q is `student_logits.log_softmax(dim=-1)"
        ".gather(-1, draws)`. Then the mean of `weights * (teacher_log_probs - log_q)` over everything, with both "
        "stored tensors detached.",
    ),
    misconceptions=WRONG,
    shows="draws weighted by p / r are right in the mean for any r, which the k most probable tokens are not.",
    derivation=(
        "E_r[(p / r)(ln p - ln q)] = Σ_v r(v) (p(v) / r(v)) (ln p(v) - ln q(v)) = KL(p ‖ q), and the same for the "
        "gradient q - p, wherever r > 0 where p > 0. With r = p the target is counts / k. The variance depends on p / "
        "r: a flatter r trades frequent tokens for rare ones. Source: Anshumann et al. 2025, arXiv:2503.16870."
    ),
    gradients=(0, 2, 3),
)
