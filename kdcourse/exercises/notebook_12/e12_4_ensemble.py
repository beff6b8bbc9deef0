"""12.4 many teachers, one target."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer, refusal
from .wrong_12_4 import WRONG


def ensemble(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if average == "logits":
        return F.log_softmax(member_logits.mean(dim=0) / temperature, dim=1)
    if average == "probabilities":
        log_p = F.log_softmax(member_logits / temperature, dim=2)
        return torch.logsumexp(log_p, dim=0) - math.log(len(member_logits))
    raise ValueError(f"average must be 'probabilities' or 'logits', not {average!r}")


def ensemble_by_the_largest(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if average not in ("probabilities", "logits"):
        raise ValueError(average)
    log_p = (member_logits / temperature).log_softmax(dim=-1)
    if average == "logits":
        return log_p.mean(dim=0).log_softmax(dim=-1)
    largest = log_p.amax(dim=0)
    return largest + torch.log(torch.exp(log_p - largest).mean(dim=0))


def ensemble_member_by_member(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    softened = [logits / temperature for logits in member_logits]
    match average:
        case "logits":
            total = torch.stack(softened).sum(dim=0) / len(softened)
            return total - total.logsumexp(dim=1, keepdim=True)
        case "probabilities":
            log_sum = softened[0].log_softmax(dim=1)
            for logits in softened[1:]:
                log_sum = torch.logaddexp(log_sum, logits.log_softmax(dim=1))
            return log_sum.log_softmax(dim=1)
    raise ValueError("not a kind of average")


def ensemble_cases() -> list[Case]:
    two = torch.tensor([[[2.0, 0.0, -1.0]], [[-1.0, 1.0, 0.5]]], dtype=torch.float64)
    far = torch.tensor([[[900.0, 0.0, -900.0], [0.0, 3.0, 1.0]], [[-800.0, 900.0, -900.0], [0.0, 1.0, 2.0]]])
    kinds = ("probabilities", "logits")
    return [
        *(case(two.clone(), temperature=1.0, average=kind) for kind in kinds),
        *(case(two.clone(), temperature=2.0, average=kind) for kind in kinds),
        *(case(draw(3, 4, 5, seed=133), temperature=4.0, average=kind) for kind in kinds),
        *(case(draw(3, 3, 3, seed=135), temperature=0.5, average=kind) for kind in kinds),  # K = N = C
        case(draw(1, 3, 2, seed=134), temperature=3.0, average="probabilities"),  # one teacher
        *(case(far.clone(), temperature=0.5, average=kind) for kind in kinds),
        refusal("another word for `average`", two.clone(), temperature=1.0, average="mean"),
    ]


def drawn_members(g: torch.Generator) -> Case:
    members, count, classes = integer(g, 1, 4), integer(g, 1, 5), integer(g, 2, 6)
    logits = draw(members, count, classes, seed=g)
    return case(logits, temperature=integer(g, 1, 8) / 2, average=("probabilities", "logits")[integer(g, 0, 1)])


EXERCISE = Exercise(
    id="12.4",
    title="many teachers, one target",
    question=(
        "Several teachers give one soft target. Write `my_ensemble(member_logits, *, temperature, average)` for the "
        'logits of K teachers, a tensor of shape (K, N, C). With `average="probabilities"` the target is the mean '
        'over the teachers of softmax(z / T). With `average="logits"` it is softmax(z̄ / T), where z̄ is the mean of '
        "their logits. Return the *logarithms* of the target's probabilities, a tensor of shape (N, C) with the dtype "
        "of `member_logits`. They must be finite and correct for logits as large as ±900 too, where probabilities "
        "underflow to 0. Any other `average` raises a `ValueError`."
    ),
    skeleton=(
        "def my_ensemble(member_logits, *, temperature, average):\n"
        '    """Log-probabilities of the soft target of several teachers."""\n    ...'
    ),
    reference=ensemble,
    alternatives=(ensemble_by_the_largest, ensemble_member_by_member),
    cases=ensemble_cases,
    drawn=drawn_members,
    hints=(
        "Two averages: one of probabilities, one of what stands before the softmax. For which of them is it hard to "
        "get the logarithm without computing probabilities that underflow?",
        "The logarithm of a sum of exponentials is `torch.logsumexp`. Use it over the teachers, on their "
        "log-probabilities; a mean is the sum divided by K.",
        'For "logits" `F.log_softmax(member_logits.mean(dim=0) / temperature, dim=1)`. For "probabilities" first '
        "`log_p = F.log_softmax(member_logits / temperature, dim=2)`, then `torch.logsumexp(log_p, dim=0) - "
        "math.log(len(log_p))`.",
    ),
    misconceptions=WRONG,
    shows="the mean of probabilities and the mean of logits are two targets: an arithmetic and a geometric mean.",
    derivation=(
        "softmax(z̄ / T) is the geometric mean of the softened probabilities, normalized: one teacher that excludes a "
        "class excludes it for all. For the arithmetic mean p̄, the mean of KL(pₖ ‖ q) over the teachers is KL(p̄ ‖ "
        "q) plus a number without q: distilling from p̄ is distilling from all teachers at the same time."
    ),
)
