"""03.6 a logarithm that never sees zero."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import drawn_pair


def log_softmax(logits: Tensor) -> Tensor:
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def log_softmax_detached_shift(logits: Tensor) -> Tensor:
    m = logits.max(dim=-1, keepdim=True).values.detach()
    return logits - (m + (logits - m).exp().sum(dim=-1, keepdim=True).log())


def log_softmax_pairwise(logits: Tensor) -> Tensor:
    total = logits[..., :1]
    for place in range(1, logits.shape[-1]):
        total = torch.logaddexp(total, logits[..., place : place + 1])
    return logits - total


def log_of_softmax(logits: Tensor) -> Tensor:
    return F.softmax(logits, dim=-1).log()


def bare_exponential(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(dim=-1, keepdim=True).log()


def epsilon_added(logits: Tensor) -> Tensor:
    return (F.softmax(logits, dim=-1) + 1e-8).log()


def largest_of_the_batch(logits: Tensor) -> Tensor:
    shifted = logits - logits.max()
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def largest_not_given_back(logits: Tensor) -> Tensor:
    m = logits.amax(dim=-1, keepdim=True)
    return logits - (logits - m).exp().sum(dim=-1, keepdim=True).log()


def probabilities_returned(logits: Tensor) -> Tensor:
    return log_softmax(logits).exp()


def log_softmax_over_dimension_zero(logits: Tensor) -> Tensor:
    return log_softmax(logits.movedim(0, -1)).movedim(-1, 0)


def log_softmax_over_dimension_one(logits: Tensor) -> Tensor:
    return log_softmax(logits.movedim(1, -1)).movedim(-1, 1)


def one_sum_for_the_batch(logits: Tensor) -> Tensor:
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum().log()


def smallest_taken_off(logits: Tensor) -> Tensor:
    shifted = logits - logits.amin(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def only_shifted(logits: Tensor) -> Tensor:
    return logits - logits.amax(dim=-1, keepdim=True)


def mean_of_exponentials(logits: Tensor) -> Tensor:
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().mean(dim=-1, keepdim=True).log()


def logits_clamped(logits: Tensor) -> Tensor:
    return log_softmax(logits.clamp(-50, 50))


def sign_of_log_softmax(logits: Tensor) -> Tensor:
    return -log_softmax(logits)


def log_softmax_cases() -> list[Case]:
    small = torch.tensor([[1.0, 3.0, 0.0]], dtype=torch.float64)
    large = torch.tensor([[2000.0, 0.0, 1.0], [-1500.0, -1500.0, -1501.0]], dtype=torch.float64)
    return [case(small), case(draw(2, 3, 4, seed=16)), case(large)]


EXERCISE = Exercise(
    id="03.6",
    title="a logarithm that never sees zero",
    question=(
        "Write `my_log_softmax(logits)` over the last dimension, for logits (…, C) of any size, from `exp`, `log`, "
        "`sum` and `max` alone. Value *and* gradient must stay finite."
    ),
    skeleton='def my_log_softmax(logits):\n    """ln softmax(logits), classes last, without overflow."""\n    ...',
    reference=log_softmax,
    alternatives=(log_softmax_detached_shift, log_softmax_pairwise),
    cases=log_softmax_cases,
    drawn=lambda g: case(drawn_pair(g)[0]),
    hints=(
        "A shift of a row does not change softmax. Which shift makes every exponent harmless?",
        "Subtract the row's largest logit. Then the sum of exponentials lies between 1 and C.",
        "`shifted = logits - logits.amax(dim=-1, keepdim=True)`, minus the log of the sum of `shifted.exp()`.",
    ),
    misconceptions=(
        Misconception(
            "logarithm of softmax",
            log_of_softmax,
            "correct for small logits. For a confident network softmax rounds to 0, the logarithm is minus infinity, "
            "and the gradient is NaN: one such image ruins the training. Never form the probability",
        ),
        Misconception(
            "exponential of the raw logits",
            bare_exponential,
            "correct for small logits, but exp(2000) is infinite, and for -1500 every exponential is 0. Subtract the "
            "row's largest logit first",
        ),
        Misconception(
            "a small constant added",
            epsilon_added,
            "a small constant inside the logarithm hides the infinity and distorts everything else: no class can be "
            "less likely than that constant, and the gradient vanishes where it is needed most",
        ),
        Misconception(
            "the largest of the whole batch",
            largest_of_the_batch,
            "you subtract the largest logit of the whole batch. A row far below it underflows: subtract each row's "
            "own (`dim=-1, keepdim=True`)",
        ),
        Misconception(
            "the largest not added back",
            largest_not_given_back,
            "you subtract the largest logit inside the exponential and do not add it back outside: ln Σ exp(z) = m + "
            "ln Σ exp(z - m)",
        ),
        Misconception(
            "probabilities returned",
            probabilities_returned,
            "these are the probabilities. The question asks for their logarithm, and you had it: leave out the last "
            "`exp`",
        ),
        Misconception(
            "over the batch",
            log_softmax_over_dimension_zero,
            "you normalise over dimension 0, the batch. Classes are the last dimension",
        ),
        Misconception(
            "over dimension one",
            log_softmax_over_dimension_one,
            "correct for logits (N, C), but dimension 1 of (N, L, C) is not the class: use the last dimension, "
            "`dim=-1`",
        ),
        Misconception(
            "one sum for the batch",
            one_sum_for_the_batch,
            "you take one sum over the whole batch. Each row needs its own: `sum(dim=-1, keepdim=True)`",
        ),
        Misconception(
            "the smallest subtracted",
            smallest_taken_off,
            "correct for small logits, but you subtract the row's *smallest* logit: the exponents grow instead of "
            "shrinking. Subtract the largest",
        ),
        Misconception(
            "only shifted",
            only_shifted,
            "you subtract the largest logit and stop. The logarithm of the sum of exponentials is missing",
        ),
        Misconception(
            "mean of the exponentials",
            mean_of_exponentials,
            "you take the mean of the exponentials, not their sum: every entry is ln C too large",
        ),
        Misconception(
            "logits clamped",
            logits_clamped,
            "correct for small logits. You clamp large ones, which changes the result and removes their gradient",
        ),
        Misconception(
            "sign reversed",
            sign_of_log_softmax,
            "the sign is reversed: the logarithm of a probability is never above 0",
        ),
    ),
    shows="with the largest logit subtracted, nothing overflows and the logarithm never sees a zero.",
    derivation="ln p_k = z_k - ln Σ exp(z_j) = (z_k - m) - ln Σ exp(z_j - m). One term of the sum is exp(0) = 1.",
    gradients=(0,),
    forbidden=(
        "torch.log_softmax",
        "torch.nn.functional.log_softmax",
        "torch.logsumexp",
        "torch.Tensor.log_softmax",
        "torch.Tensor.logsumexp",
        "torch.nn.functional.cross_entropy",
    ),
)
