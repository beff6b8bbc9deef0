"""02.1 softmax at a temperature."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import drawn_logits, drawn_temperature


def soften(logits: Tensor, temperature: float) -> Tensor:
    z = logits / temperature
    weights = (z - z.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def soften_by_library(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits / temperature, dim=-1)


def soften_by_log_sum_exp(logits: Tensor, temperature: float) -> Tensor:
    z = logits / temperature
    return (z - z.logsumexp(dim=-1, keepdim=True)).exp()


def multiplied(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits * temperature, dim=-1)


def without_the_largest(logits: Tensor, temperature: float) -> Tensor:
    weights = (logits / temperature).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def over_the_rows(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits / temperature, dim=0)


def divided_after(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits, dim=-1) / temperature


def temperature_never_used(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits, dim=-1)


def sum_of_all(logits: Tensor, temperature: float) -> Tensor:
    weights = soften(logits, temperature)
    return weights / weights.sum()


def over_dimension_one(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits / temperature, dim=1 if logits.ndim > 1 else 0)


def logarithms_returned(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, dim=-1)


def largest_of_the_batch(logits: Tensor, temperature: float) -> Tensor:
    weights = ((logits - logits.max()) / temperature).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def roots_not_normalised(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits, dim=-1) ** (1 / temperature)


def divided_by_the_square(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits / temperature**2, dim=-1)


def times_the_temperature(logits: Tensor, temperature: float) -> Tensor:
    return temperature * soften(logits, temperature)


def sigmoid_of_each(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).sigmoid()


def gradient_cut(logits: Tensor, temperature: float) -> Tensor:
    z = logits / temperature
    weights = (z - z.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1, keepdim=True).detach()


def soften_cases() -> list[Case]:
    one, many = torch.tensor([[2.0, 1.0, 0.4], [0.0, -0.7, 3.0]], dtype=torch.float64), draw(2, 3, 4)
    large = torch.tensor([[1000.0, 0.0], [-1000.0, -1001.0]], dtype=torch.float64)
    return [case(one, 1.5), case(one, 0.4), case(one[0], 2.5), case(many, 3.5), case(large, 1.0), case(large, 0.7)]


EXERCISE = Exercise(
    id="02.1",
    title="softmax at a temperature",
    question=(
        "Write `my_soften(logits, temperature)`: the probabilities softmax(z / T) over the last dimension, for "
        "logits of any shape (…, C). It must not overflow, however large the logits are, and gradients must flow "
        "through it."
    ),
    skeleton='def my_soften(logits, temperature):\n    """softmax(logits / temperature), classes last."""\n    ...',
    reference=soften,
    alternatives=(soften_by_library, soften_by_log_sum_exp),
    cases=soften_cases,
    drawn=lambda g: case(drawn_logits(g), drawn_temperature(g)),
    hints=(
        "What can you add to every logit of a row without changing softmax?",
        "exp(1000) is infinite. Subtract each row's largest value before you take the exponential.",
        "`z = logits / temperature`, then exp of `z - z.amax(dim=-1, keepdim=True)`, divided by its sum over the last "
        "dimension.",
    ),
    misconceptions=(
        Misconception(
            "lower temperature smooths",
            multiplied,
            "you multiply by the temperature. Then a higher temperature sharpens and a lower one smooths, the "
            "reverse of what is meant. Logits are multiplied by the *inverse* temperature 1/T and divided by the "
            "temperature",
        ),
        Misconception(
            "exponential of the raw logits",
            without_the_largest,
            "correct for small logits, but exp(1000) is infinite and infinity / infinity is NaN. Subtract the row's "
            "largest logit first: a shift does not change softmax",
        ),
        Misconception(
            "softmax over the rows",
            over_the_rows,
            "you normalise over dimension 0, so the images compete with each other. Classes are the last dimension",
        ),
        Misconception(
            "probabilities divided by the temperature",
            divided_after,
            "you divide the probabilities by the temperature. They no longer sum to 1 and are no smoother: divide "
            "the logits, before the exponential",
        ),
        Misconception(
            "temperature never used",
            temperature_never_used,
            "your function ignores the temperature",
        ),
        Misconception(
            "one sum for the whole batch",
            sum_of_all,
            "you divide by the sum of the whole batch. Each row must sum to 1: sum over the last dimension only, and "
            "keep it (`keepdim=True`)",
        ),
        Misconception(
            "over dimension one",
            over_dimension_one,
            "correct for logits (N, C), but dimension 1 of (N, L, C) is the position, not the class. Classes are the "
            "last dimension: `dim=-1`",
        ),
        Misconception(
            "logarithms returned",
            logarithms_returned,
            "these are the logarithms of the probabilities. The question asks for the probabilities themselves",
        ),
        Misconception(
            "the largest of the whole batch",
            largest_of_the_batch,
            "correct for small logits, but you subtract the largest logit of the whole batch. A row far below it "
            "underflows to 0 / 0: subtract each row's own (`dim=-1, keepdim=True`)",
        ),
        Misconception(
            "roots not normalised",
            roots_not_normalised,
            "you take the T-th root of the probabilities and stop: they no longer sum to 1. Divide by their sum "
            "over the classes",
        ),
        Misconception(
            "divided by T²",
            divided_by_the_square,
            "you divide the logits by T². T² belongs to the loss; divide the logits by T",
        ),
        Misconception(
            "probabilities times the temperature",
            times_the_temperature,
            "your probabilities sum to T, not to 1. The temperature only divides the logits",
        ),
        Misconception(
            "sigmoid instead of softmax",
            sigmoid_of_each,
            "this is a separate sigmoid for every class. The classes exclude each other: use softmax, whose rows sum "
            "to 1",
        ),
        Misconception(
            "gradient of the sum missing",
            gradient_cut,
            "the value is correct, but the sum in the denominator is detached, so half of the gradient is missing",
        ),
    ),
    shows="temperature divides the logits, and a shift of a row changes nothing except that it prevents overflow.",
    derivation=(
        "exp((z - m)/T) = exp(z/T) · exp(-m/T), and the second factor cancels in the fraction. With m the row's "
        "largest logit no exponent is above zero, and the sum is at least 1."
    ),
    gradients=(0,),
)
