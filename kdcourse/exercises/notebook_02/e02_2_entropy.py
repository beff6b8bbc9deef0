"""02.2 the entropy of a soft target."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import drawn_logits, drawn_temperature


def entropy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    log_p = F.log_softmax(logits / temperature, dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


def entropy_from_log_sum(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    z = logits / temperature
    return z.logsumexp(dim=-1) - (F.softmax(z, dim=-1) * z).sum(dim=-1)


def entropy_by_xlogy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return torch.special.entr(F.softmax(logits / temperature, dim=-1)).sum(dim=-1)


def in_bits(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return entropy(logits, temperature=temperature) / math.log(2)


def zero_times_log_zero(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    p = F.softmax(logits / temperature, dim=-1)
    return -(p * p.log()).sum(dim=-1)


def minus_forgotten(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return -entropy(logits, temperature=temperature)


def mean_over_classes(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return entropy(logits, temperature=temperature) / logits.shape[-1]


def entropy_at_one(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return entropy(logits)


def share_of_the_largest_entropy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return entropy(logits, temperature=temperature) / math.log(logits.shape[-1])


def temperature_multiplied(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return entropy(logits, temperature=1 / temperature)


def _over(logits: Tensor, temperature: float, dim: int) -> Tensor:
    log_p = F.log_softmax(logits / temperature, dim=dim)
    return -(log_p.exp() * log_p).sum(dim=dim)


def over_the_batch(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return _over(logits, temperature, 0)


def over_dimension_one(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return _over(logits, temperature, min(1, logits.ndim - 1))


def mean_over_the_rows(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return entropy(logits, temperature=temperature).mean()


def terms_not_summed(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return torch.special.entr(F.softmax(logits / temperature, dim=-1))


def surprise_of_the_largest(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return -F.log_softmax(logits / temperature, dim=-1).amax(dim=-1)


def surprises_not_weighted(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return -F.log_softmax(logits / temperature, dim=-1).sum(dim=-1)


def perplexity(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return entropy(logits, temperature=temperature).exp()


def epsilon_added(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    p = F.softmax(logits / temperature, dim=-1)
    return -(p * (p + 1e-8).log()).sum(dim=-1)


def times_the_temperature(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    return temperature * entropy(logits, temperature=temperature)


def entropy_cases() -> list[Case]:
    half = torch.tensor([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]], dtype=torch.float64).log()
    sure = torch.tensor([[2000.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    almost = torch.tensor([[0.0, -25.0, -40.0]], dtype=torch.float64)  # an epsilon in the logarithm drowns it
    three = case(draw(2, 3, 5), temperature=3.0)
    return [case(half), three, case(sure, temperature=1.0), case(half[0], temperature=0.6), case(almost)]


_ENTROPY = "kdcourse.metrics.entropy"
EXERCISE = Exercise(
    id="02.2",
    title="the entropy of a soft target",
    question=(
        "Write `my_entropy(logits, *, temperature=1.0)`: H = -Σ p ln p in nats, with p = softmax(z / T) over the "
        "last dimension. Logits (…, C) give a tensor of entropies (…). A network that is completely certain has "
        "entropy 0."
    ),
    skeleton=(
        "def my_entropy(logits, *, temperature=1.0):\n"
        '    """Entropy in nats of softmax(logits / temperature), classes last."""\n    ...'
    ),
    reference=entropy,
    alternatives=(entropy_from_log_sum, entropy_by_xlogy),
    cases=entropy_cases,
    drawn=lambda g: case(drawn_logits(g), temperature=drawn_temperature(g)),
    hints=(
        "What is 0 · ln 0 in a sum of surprises, and what is it in floating point?",
        "`F.log_softmax` gives ln p without ever taking the logarithm of zero.",
        "`log_p = F.log_softmax(logits / temperature, dim=-1)`, and then -(exp(log_p) · log_p), summed over classes.",
    ),
    misconceptions=(
        Misconception(
            "bits instead of nats",
            in_bits,
            "1.443 times too large: this is the entropy in bits. Nats use the natural logarithm, as losses do, so "
            "that the two can be compared",
            _ENTROPY,
        ),
        Misconception(
            "zero times the logarithm of zero",
            zero_times_log_zero,
            "correct until the network is certain. Then a probability rounds to 0, its logarithm is minus infinity, "
            "and 0 · infinity is NaN. Compute the logarithm directly: `F.log_softmax`",
            _ENTROPY,
        ),
        Misconception(
            "minus sign missing",
            minus_forgotten,
            "the minus sign is missing. ln p is never above 0, so Σ p ln p is minus the entropy",
            _ENTROPY,
        ),
        Misconception(
            "mean over classes",
            mean_over_classes,
            "exactly C times too small: you take the mean over the classes. The probabilities are already the "
            "weights of a mean, so sum",
            _ENTROPY,
        ),
        Misconception(
            "temperature never used",
            entropy_at_one,
            "you compute the entropy at T = 1, whatever the temperature",
            _ENTROPY,
        ),
        Misconception(
            "fraction of the largest entropy",
            share_of_the_largest_entropy,
            "you divide by ln C, so that 1 means uniform. That is a fraction, not nats, and it hides the number of "
            "classes",
            _ENTROPY,
        ),
        Misconception(
            "logits multiplied by the temperature",
            temperature_multiplied,
            "you multiply the logits by the temperature. That sharpens, and the entropy falls; softening divides",
        ),
        Misconception(
            "over the batch",
            over_the_batch,
            "you take softmax and sum over dimension 0, the images. Classes are the last dimension",
        ),
        Misconception(
            "over dimension one",
            over_dimension_one,
            "correct for logits (N, C), but dimension 1 of (N, L, C) is the position. Classes are the last "
            "dimension: `dim=-1`",
        ),
        Misconception(
            "mean over the rows",
            mean_over_the_rows,
            "you average over the rows as well. Logits (…, C) give a tensor of entropies (…), one for each row",
        ),
        Misconception(
            "terms not summed",
            terms_not_summed,
            "these are the terms -p ln p of the classes. The entropy is their sum over the last dimension",
        ),
        Misconception(
            "surprise of the largest",
            surprise_of_the_largest,
            "this is the surprise of the most likely class alone. The entropy is the mean of all surprises under p",
        ),
        Misconception(
            "surprises not weighted",
            surprises_not_weighted,
            "you sum the surprises with weight 1 each. Weight each by its probability: Σ p · (-ln p)",
        ),
        Misconception(
            "perplexity",
            perplexity,
            "this is exp(H), the perplexity, an effective number of equally likely classes. The question asks for H "
            "itself",
        ),
        Misconception(
            "a small constant in the logarithm",
            epsilon_added,
            "correct for ordinary logits. A small constant inside the logarithm makes the entropy of an almost "
            "certain network wrong, even negative. Use `F.log_softmax`",
        ),
        Misconception(
            "times the temperature",
            times_the_temperature,
            "you multiply the entropy by the temperature. The temperature only divides the logits",
        ),
    ),
    shows="entropy is the mean surprise, and a certain network has none.",
    derivation="With ln p = z/T - ln Z it is also H = ln Z - ⟨z⟩/T, which needs no p · ln p at all.",
    forbidden=(_ENTROPY,),
)
