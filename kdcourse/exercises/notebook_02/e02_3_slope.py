"""02.3 how fast entropy rises."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import drawn_logits, drawn_temperature
from .e02_2_entropy import entropy


def entropy_slope(logits: Tensor, temperature: float) -> Tensor:
    p = F.softmax(logits / temperature, dim=-1)
    mean = (p * logits).sum(dim=-1, keepdim=True)
    variance = (p * (logits - mean) ** 2).sum(dim=-1)
    return variance / temperature**3


def slope_by_autograd(logits: Tensor, temperature: float) -> Tensor:
    T = torch.full(logits.shape[:-1], temperature, dtype=logits.dtype, requires_grad=True)
    total = entropy(logits / T.unsqueeze(-1)).sum()
    return torch.autograd.grad(total, T)[0]


def slope_by_moments(logits: Tensor, temperature: float) -> Tensor:
    p = F.softmax(logits / temperature, dim=-1)
    return ((p * logits**2).sum(dim=-1) - (p * logits).sum(dim=-1) ** 2) / temperature**3


def unweighted_variance(logits: Tensor, temperature: float) -> Tensor:
    return logits.var(dim=-1, correction=0) / temperature**3


def one_power_too_few(logits: Tensor, temperature: float) -> Tensor:
    return entropy_slope(logits, temperature) * temperature


def mean_square(logits: Tensor, temperature: float) -> Tensor:
    return (F.softmax(logits / temperature, dim=-1) * logits**2).sum(dim=-1) / temperature**3


def weights_at_one(logits: Tensor, temperature: float) -> Tensor:
    return entropy_slope(logits, 1.0) / temperature**3


def slope_downwards(logits: Tensor, temperature: float) -> Tensor:
    return -entropy_slope(logits, temperature)


def two_powers_too_few(logits: Tensor, temperature: float) -> Tensor:
    return entropy_slope(logits, temperature) * temperature**2


def without_temperature(logits: Tensor, temperature: float) -> Tensor:
    return entropy_slope(logits, temperature) * temperature**3


def one_power_too_many(logits: Tensor, temperature: float) -> Tensor:
    return entropy_slope(logits, temperature) / temperature


def softened_logits_too(logits: Tensor, temperature: float) -> Tensor:
    return entropy_slope(logits, temperature) / temperature**2


def standard_deviation(logits: Tensor, temperature: float) -> Tensor:
    return (entropy_slope(logits, temperature) * temperature**3).sqrt() / temperature**3


def variance_of_a_sample(logits: Tensor, temperature: float) -> Tensor:
    return logits.var(dim=-1) / temperature**3


def plain_mean_taken_off(logits: Tensor, temperature: float) -> Tensor:
    p = F.softmax(logits / temperature, dim=-1)
    return (p * (logits - logits.mean(dim=-1, keepdim=True)) ** 2).sum(dim=-1) / temperature**3


def mean_over_classes(logits: Tensor, temperature: float) -> Tensor:
    return entropy_slope(logits, temperature) / logits.shape[-1]


def logits_multiplied(logits: Tensor, temperature: float) -> Tensor:
    return entropy_slope(logits, 1 / temperature) / temperature**6


def summed_over_the_rows(logits: Tensor, temperature: float) -> Tensor:
    return entropy_slope(logits, temperature).sum()


def slope_over_dimension_one(logits: Tensor, temperature: float) -> Tensor:
    place = min(1, logits.ndim - 1)
    return entropy_slope(logits.movedim(place, -1), temperature)


def slope_cases() -> list[Case]:
    return [
        case(torch.tensor([2.0, 1.0, -1.3], dtype=torch.float64), 1.5),
        case(draw(3, 5, seed=1), 4.0),
        case(draw(2, 3, 4, seed=2), 0.7),
        case(draw(4, 2, seed=3) - 20, 2.5),
    ]


EXERCISE = Exercise(
    id="02.3",
    title="how fast entropy rises",
    question=(
        "Write `my_entropy_slope(logits, temperature)`: dH/dT of the softened probabilities. Logits (…, C) give a "
        "tensor of slopes (…). Use the formula that this section derived."
    ),
    skeleton='def my_entropy_slope(logits, temperature):\n    """dH/dT of softmax(logits / temperature)."""\n    ...',
    reference=entropy_slope,
    alternatives=(slope_by_autograd, slope_by_moments),
    cases=slope_cases,
    drawn=lambda g: case(drawn_logits(g), drawn_temperature(g)),
    hints=(
        "It is a variance. Of what, and under which probabilities?",
        "The variance of the logits under p = softmax(z / T), divided by T³.",
        "mean = Σ p z with `keepdim=True`; variance = Σ p (z - mean)²; divide by `temperature**3`.",
    ),
    misconceptions=(
        Misconception(
            "all classes weighted equally",
            unweighted_variance,
            "this is the unweighted variance of the logits. Weight each class by its probability p",
        ),
        Misconception(
            "T² instead of T³",
            one_power_too_few,
            "you divide by T². One more T comes from differentiating z / T: the slope is Var / T³",
        ),
        Misconception(
            "mean square instead of variance",
            mean_square,
            "this is the mean of z², not the variance. Adding 5 to every logit must change nothing, but it changes "
            "your result. Subtract the mean first",
        ),
        Misconception(
            "probabilities at temperature one",
            weights_at_one,
            "your probabilities are those at T = 1. Take the variance under softmax(z / T)",
        ),
        Misconception(
            "entropy falls with temperature",
            slope_downwards,
            "your slope is negative, as if raising the temperature sharpened. It smooths, so entropy rises",
        ),
        Misconception(
            "T instead of T³",
            two_powers_too_few,
            "you divide by T. The slope is Var / T³: the derivative of p contains 1/T², and z/T contributes another "
            "1/T",
        ),
        Misconception(
            "not divided by T³",
            without_temperature,
            "this is the variance of the logits only. The slope is Var / T³",
        ),
        Misconception(
            "T⁴ instead of T³",
            one_power_too_many,
            "exactly T times too small: the slope is Var / T³",
        ),
        Misconception(
            "variance of the softened logits",
            softened_logits_too,
            "you take the variance of z / T, which already contains 1/T², and divide by T³ again. Take the variance "
            "of z",
        ),
        Misconception(
            "standard deviation instead of variance",
            standard_deviation,
            "this is the standard deviation over T³. The slope contains the variance, its square",
        ),
        Misconception(
            "variance of a sample",
            variance_of_a_sample,
            "this is the unweighted variance of the logits, with C - 1 instead of C. Weight each class by its "
            "probability p",
        ),
        Misconception(
            "the unweighted mean subtracted",
            plain_mean_taken_off,
            "you weight the squares by p, but subtract the unweighted mean of the logits. The mean must be weighted "
            "too: Σ p z",
        ),
        Misconception(
            "mean over classes",
            mean_over_classes,
            "exactly C times too small: p already contains the weights of a mean, so sum over the classes",
        ),
        Misconception(
            "logits multiplied by the temperature",
            logits_multiplied,
            "your probabilities are those of z · T. Softening divides: softmax(z / T)",
        ),
        Misconception(
            "summed over the rows",
            summed_over_the_rows,
            "you sum over the rows as well. Logits (…, C) give a tensor (…), one slope for each row",
        ),
        Misconception(
            "over dimension one",
            slope_over_dimension_one,
            "correct for logits (N, C), but dimension 1 of (N, L, C) is the position. Classes are the last "
            "dimension: `dim=-1`",
        ),
    ),
    shows="the slope is a variance over T³, so raising the temperature can never sharpen.",
    derivation="H = ln Z - ⟨z⟩/T. d(ln Z)/dT = -⟨z⟩/T², d⟨z⟩/dT = Var/T²; the two ⟨z⟩/T² cancel up to sign: Var/T³.",
)
