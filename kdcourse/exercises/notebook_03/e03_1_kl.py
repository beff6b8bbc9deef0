"""03.1 a divergence, and only of distributions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal


def kl_of_probabilities(p: Tensor, q: Tensor) -> Tensor:
    for name, vector in (("p", p), ("q", q)):
        if abs(vector.sum().item() - 1) > 1e-6:
            raise ValueError(f"{name} sums to {vector.sum().item():.4g}, so it is not a distribution")
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum()


def kl_where_p_is_positive(p: Tensor, q: Tensor) -> Tensor:
    if not (math.isclose(sum(p.tolist()), 1, abs_tol=1e-6) and math.isclose(sum(q.tolist()), 1, abs_tol=1e-6)):
        raise ValueError("not a distribution")
    some = p > 0
    return (p[some] * (p[some] / q[some]).log()).sum()


def kl_by_library(p: Tensor, q: Tensor) -> Tensor:
    for vector in (p, q):
        if not torch.isclose(vector.sum(), torch.ones_like(vector[0]), rtol=0, atol=1e-6):
            raise ValueError(f"a vector sums to {vector.sum():.6f}, not to 1")
    return F.kl_div(q.log(), p, reduction="sum")


def other_direction(p: Tensor, q: Tensor) -> Tensor:
    return kl_of_probabilities(q, p)


def cross_entropy_for_kl(p: Tensor, q: Tensor) -> Tensor:
    kl_of_probabilities(p, q)
    return -torch.special.xlogy(p, q).sum()


def minus_missing(p: Tensor, q: Tensor) -> Tensor:
    return -cross_entropy_for_kl(p, q)


def zero_log_zero(p: Tensor, q: Tensor) -> Tensor:
    kl_of_probabilities(p, q)
    return (p * (p.log() - q.log())).sum()


def kl_in_bits(p: Tensor, q: Tensor) -> Tensor:
    return kl_of_probabilities(p, q) / math.log(2)


def kl_mean_over_classes(p: Tensor, q: Tensor) -> Tensor:
    return kl_of_probabilities(p, q) / len(p)


def anything_for_probabilities(p: Tensor, q: Tensor) -> Tensor:
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum()


def sign_reversed(p: Tensor, q: Tensor) -> Tensor:
    return -kl_of_probabilities(p, q)


def absolute_terms(p: Tensor, q: Tensor) -> Tensor:
    kl_of_probabilities(p, q)
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).abs().sum()


def epsilon_in_the_logarithms(p: Tensor, q: Tensor) -> Tensor:
    kl_of_probabilities(p, q)
    return (p * ((p + 1e-9).log() - (q + 1e-9).log())).sum()


def skipped_where_q_is_zero(p: Tensor, q: Tensor) -> Tensor:
    kl_of_probabilities(p, q)
    both = (p > 0) & (q > 0)
    return (p[both] * (p[both] / q[both]).log()).sum()


def sums_of_exactly_one(p: Tensor, q: Tensor) -> Tensor:
    if p.sum() != 1 or q.sum() != 1:
        raise ValueError("the sum is not 1")
    return kl_of_probabilities(p, q)


def rescaled(p: Tensor, q: Tensor) -> Tensor:
    return anything_for_probabilities(p / p.sum(), q / q.sum())


def sums_not_above_one(p: Tensor, q: Tensor) -> Tensor:
    if p.sum() - 1 > 1e-6 or q.sum() - 1 > 1e-6:
        raise ValueError("the sum is not 1")
    return anything_for_probabilities(p, q)


def both_sums_at_once(p: Tensor, q: Tensor) -> Tensor:
    if abs((p + q).sum().item() - 2) > 1e-6:
        raise ValueError("the sums are not 1")
    return anything_for_probabilities(p, q)


def kl_cases() -> list[Case]:
    p, q, r = (torch.tensor(v, dtype=torch.float64) for v in ([0.75, 0.25], [0.5, 0.5], [0.1, 0.9]))
    s, fake = (torch.tensor(v, dtype=torch.float64) for v in ([0.1, 0.1, 0.8, 0.0], [0.1, 0.3, 0.6, 0.1]))
    u, none = (torch.tensor(v, dtype=torch.float64) for v in ([0.1, 0.3, 0.5, 0.1], [0.3, 0.0, 0.45, 0.25]))
    nearly = [case(r + torch.tensor([5e-7, 0.0], dtype=torch.float64), p), case(r, p - 2.5e-7)]
    refused = [refusal("a q that sums to 1.1, so that it is not a distribution", s, fake)]
    for more in (5e-6, -5e-6, 5e-4, -5e-4, 0.02, -0.02):
        off = torch.tensor([more, 0.0], dtype=torch.float64)
        refused.append(refusal(f"a p that sums to {1 + more:.7g}", r + off, p))
        refused.append(refusal(f"a q that sums to {1 + more:.7g}", r, p + off))
    off = torch.tensor([0.05, 0.0], dtype=torch.float64)
    refused.append(refusal("a p that sums to 1.05 with a q that sums to 0.95", r + off, p - off))
    return [case(p, q), case(r, p), case(s, u), case(u, none), *nearly, *refused]


def drawn_distributions(generator: torch.Generator) -> Case:
    classes = integer(generator, 2, 7)
    return case(*(F.softmax(draw(classes, seed=generator, spread=1.5), dim=0) for _ in "pq"))


EXERCISE = Exercise(
    id="03.1",
    title="a divergence, and only of distributions",
    question=(
        r"Write `my_kl_of_probabilities(p, q)`: $\mathrm{KL}(p\,\|\,q)$ in nats for two vectors of probabilities. A "
        "class with $p_k = 0$ contributes nothing; one with $q_k = 0 < p_k$ makes the divergence infinite. Raise a "
        "`ValueError` if one of the vectors does not sum to 1 (to within one millionth)."
    ),
    skeleton='def my_kl_of_probabilities(p, q):\n    """KL(p ‖ q) in nats, of two probability vectors."""\n    ...',
    reference=kl_of_probabilities,
    alternatives=(kl_where_p_is_positive, kl_by_library),
    cases=kl_cases,
    drawn=drawn_distributions,
    hints=(
        "It is the mean of a difference of surprises. Under which of the two distributions?",
        "Σ p (ln p - ln q). In floating point 0 · ln 0 is NaN: leave those classes out.",
        "`torch.special.xlogy(p, q)` is p · ln q, and 0 where p is 0. Check `abs(p.sum() - 1)` first.",
    ),
    misconceptions=(
        Misconception(
            "the two swapped",
            other_direction,
            "this is KL(q ‖ p). The divergence is not symmetric: the first argument is the truth, which weights the "
            "surprises, the second is the belief",
        ),
        Misconception(
            "cross-entropy instead of divergence",
            cross_entropy_for_kl,
            "this is the cross-entropy -Σ p ln q. It is not zero for p = q. A divergence is the *excess*: subtract "
            "the entropy of p. The worked example 'KL = 0.277' makes this mistake too",
        ),
        Misconception(
            "minus sign missing",
            minus_missing,
            "this is Σ p ln q, a cross-entropy without its minus sign. It is never above zero, and minimising it "
            "makes the belief worse and worse",
        ),
        Misconception(
            "zero times the logarithm of zero",
            zero_log_zero,
            "correct until a probability is 0. There 0 · ln 0 must count as 0, and in floating point it is NaN",
        ),
        Misconception(
            "bits instead of nats", kl_in_bits, "1.443 times too large: these are bits. Nats use the natural logarithm"
        ),
        Misconception(
            "mean over classes",
            kl_mean_over_classes,
            "exactly C times too small: p already contains the weights of a mean, so sum over the classes",
        ),
        Misconception(
            "anything accepted as probabilities",
            anything_for_probabilities,
            "correct for distributions, but you accept vectors that sum to something else. Gibbs' inequality does "
            "not hold for them, and the 'divergence' can be negative",
        ),
        Misconception(
            "sign reversed",
            sign_reversed,
            "exactly minus the divergence: this is Σ p ln(q/p). A divergence is never negative, Σ p ln(p/q)",
        ),
        Misconception(
            "absolute values of the terms",
            absolute_terms,
            "you take the absolute value of each class's term. Single terms are negative where q gives a class more "
            "than p does; only their sum is not. Add them with their signs",
        ),
        Misconception(
            "a small constant in the logarithms",
            epsilon_in_the_logarithms,
            "a small constant inside the logarithms hides infinite values: if q rules out what happens, the "
            "divergence is infinite, and yours is about 20 times p. Leave out the classes with p = 0 instead",
        ),
        Misconception(
            "classes left out where q is zero",
            skipped_where_q_is_zero,
            "you leave out the classes with q = 0 as well. Only p = 0 contributes nothing. With q = 0 < p the belief "
            "rules out something that happens, and the divergence is infinite",
        ),
        Misconception(
            "sums of exactly one",
            sums_of_exactly_one,
            "you refuse distributions whose sum differs from 1 only by rounding. Floating-point sums are rarely "
            "exact: compare with a tolerance of one millionth",
        ),
        Misconception(
            "rescaled instead of refused",
            rescaled,
            "correct for distributions, but you divide other vectors by their sum and continue. That hides the "
            "caller's mistake: raise a ValueError",
        ),
        Misconception(
            "only sums above one refused",
            sums_not_above_one,
            "correct for distributions, and you refuse sums above 1, but not those below: compare `abs(sum - 1)`",
        ),
        Misconception(
            "both sums at once",
            both_sums_at_once,
            "correct for distributions, but you check the total of both vectors: 1.05 and 0.95 also add up to 2. "
            "Check each vector separately",
        ),
    ),
    shows="KL is the excess surprise of a belief, zero only for the truth, and meaningful for distributions only.",
    derivation=(
        "KL(p ‖ q) = Σ p (-ln q) - Σ p (-ln p): the surprise under q minus the surprise that cannot be avoided."
    ),
    gradients=(),
)
