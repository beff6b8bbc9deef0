"""Wrong answers to 12.4."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Misconception


def of_probabilities(member_logits: Tensor, temperature: float) -> Tensor:
    log_p = F.log_softmax(member_logits / temperature, dim=2)
    return torch.logsumexp(log_p, dim=0) - math.log(len(member_logits))


def of_logits(member_logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(member_logits.mean(dim=0) / temperature, dim=1)


def checked(average: str) -> bool:
    """Whether probabilities are averaged."""
    if average not in ("probabilities", "logits"):
        raise ValueError(average)
    return average == "probabilities"


def mean_of_log_probabilities(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if checked(average):
        return F.log_softmax(member_logits / temperature, dim=2).mean(dim=0)
    return of_logits(member_logits, temperature)


def not_normalized(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if checked(average):
        return of_probabilities(member_logits, temperature)
    return F.log_softmax(member_logits / temperature, dim=2).mean(dim=0)


def log_of_zero(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if checked(average):
        return (member_logits / temperature).softmax(dim=2).mean(dim=0).log()
    return of_logits(member_logits, temperature)


def log_of_zero_in_both(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if checked(average):
        return (member_logits / temperature).softmax(dim=2).mean(dim=0).log()
    return (member_logits.mean(dim=0) / temperature).softmax(dim=1).log()


def with_an_epsilon(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if checked(average):
        return torch.log((member_logits / temperature).softmax(dim=2).mean(dim=0) + 1e-8)
    return of_logits(member_logits, temperature)


def clamped(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if checked(average):
        return (member_logits / temperature).softmax(dim=2).mean(dim=0).clamp(min=1e-12).log()
    return of_logits(member_logits, temperature)


def temperature_afterwards(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    log_p = of_probabilities(member_logits, 1.0) if checked(average) else of_logits(member_logits, 1.0)
    return F.log_softmax(log_p / temperature, dim=1)


def logits_in_both(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    checked(average)
    return of_logits(member_logits, temperature)


def probabilities_in_both(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    checked(average)
    return of_probabilities(member_logits, temperature)


def words_exchanged(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    return (of_logits if checked(average) else of_probabilities)(member_logits, temperature)


def softmax_twice(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if checked(average):
        return F.log_softmax((member_logits / temperature).softmax(dim=2).mean(dim=0), dim=1)
    return of_logits(member_logits, temperature)


def sum_of_probabilities(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if checked(average):
        return of_probabilities(member_logits, temperature) + math.log(len(member_logits))
    return of_logits(member_logits, temperature)


def sum_of_logits(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    if checked(average):
        return of_probabilities(member_logits, temperature)
    return F.log_softmax(member_logits.sum(dim=0) / temperature, dim=1)


def probabilities_returned(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    return (of_probabilities if checked(average) else of_logits)(member_logits, temperature).exp()


def logits_returned(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    return of_probabilities(member_logits, temperature) if checked(average) else member_logits.mean(dim=0) / temperature


def without_temperature(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    return (of_probabilities if checked(average) else of_logits)(member_logits, 1.0)


def logits_without_temperature(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    return of_probabilities(member_logits, temperature) if checked(average) else of_logits(member_logits, 1.0)


def times_the_temperature(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    return (of_probabilities if checked(average) else of_logits)(member_logits, 1 / temperature)


def over_the_examples(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    return (of_probabilities if checked(average) else of_logits)(member_logits.transpose(0, 1), temperature)


def softmax_over_examples(member_logits: Tensor, *, temperature: float, average: str) -> Tensor:
    turned = member_logits.transpose(1, 2)
    return (of_probabilities if checked(average) else of_logits)(turned, temperature).T


WRONG = (
    Misconception(
        "the mean of the log-probabilities",
        mean_of_log_probabilities,
        "for probabilities you average the logarithms. That is the mean of logits again, without its normalization: "
        "the probabilities do not sum to 1. Average the probabilities, then take the logarithm",
    ),
    Misconception(
        "the geometric mean is not normalized",
        not_normalized,
        "for logits you average the log-probabilities. Their exponentials do not sum to 1: take `log_softmax` of the "
        "mean",
    ),
    Misconception(
        "the logarithm of zero",
        log_of_zero,
        "correct for moderate logits. For large ones every teacher's probability underflows to 0, and log 0 is -inf. "
        "Use logarithms throughout: `torch.logsumexp` of the log-probabilities, minus log K",
    ),
    Misconception(
        "the logarithm of zero in both",
        log_of_zero_in_both,
        "correct for moderate logits. For large ones a probability underflows to 0, and log 0 is -inf, for both "
        "averages. Use `log_softmax` for logits, and `torch.logsumexp` of log-probabilities, minus log K",
    ),
    Misconception(
        "a small number in the logarithm",
        with_an_epsilon,
        "a small number inside the logarithm avoids -inf, but the value is then wrong: it ends near log 1e-8, "
        "whatever the teachers say. `torch.logsumexp` of the log-probabilities needs none",
    ),
    Misconception(
        "clamped probabilities",
        clamped,
        "clamping avoids -inf, but every smaller probability then has the same logarithm. `torch.logsumexp` of the "
        "log-probabilities is exact",
    ),
    Misconception(
        "the temperature afterwards",
        temperature_afterwards,
        "you average at temperature 1 and soften the mean. For probabilities that is another target: each teacher is "
        "softened first, then the mean is taken",
    ),
    Misconception(
        "logits in both",
        logits_in_both,
        "you average logits for both words. The mean of probabilities is another target: softmax first, then the mean",
    ),
    Misconception(
        "probabilities in both",
        probabilities_in_both,
        'you average probabilities for both words. With "logits" the mean comes first, then one softmax',
    ),
    Misconception(
        "the two averages exchanged",
        words_exchanged,
        'the two averages are exchanged: you average logits where `average` is "probabilities"',
    ),
    Misconception(
        "softmax of the mean probabilities",
        softmax_twice,
        "you put the mean probabilities through another softmax. They are a distribution already, and a second "
        "softmax makes it almost uniform: take the logarithm alone",
    ),
    Misconception(
        "the sum of the probabilities",
        sum_of_probabilities,
        "`logsumexp` gives the logarithm of the *sum*, so the probabilities sum to K. Subtract log K",
    ),
    Misconception(
        "the sum of the logits",
        sum_of_logits,
        "you add the logits of the teachers. Their sum is K times the mean: a temperature K times too low",
    ),
    Misconception(
        "probabilities returned",
        probabilities_returned,
        "these are the probabilities. The question asks for their logarithms",
    ),
    Misconception(
        "logits returned",
        logits_returned,
        'with "logits" you return the softened mean of the logits. Log-probabilities need a `log_softmax` of it',
    ),
    Misconception(
        "no temperature",
        without_temperature,
        "the temperature is missing: divide the logits by it before the softmax",
    ),
    Misconception(
        "no temperature for logits",
        logits_without_temperature,
        'with "logits" the temperature is missing: divide the mean by it before the softmax',
    ),
    Misconception(
        "times the temperature",
        times_the_temperature,
        "you multiply by the temperature. Dividing by it softens; multiplying makes the target sharper",
    ),
    Misconception(
        "the mean over the examples",
        over_the_examples,
        "you average over the examples, so that a target for each teacher is left. The teachers are dimension 0",
    ),
    Misconception(
        "softmax over the examples",
        softmax_over_examples,
        "your softmax goes over the examples. The classes are the last of the three dimensions: `dim=2` or `dim=-1`",
    ),
)
