"""02.3 how fast entropy rises."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw
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


def slope_cases() -> list[Case]:
    return [case(torch.tensor([2.0, 1.0, -1.0], dtype=torch.float64), 2.0), case(draw(3, 5, seed=1), 4.0)]


EXERCISE = Exercise(
    id="02.3",
    title="how fast entropy rises",
    question=(
        "Write `my_entropy_slope(logits, temperature)`: dH/dT of the softened probabilities, for logits (…, "
        "C) a tensor (…). Use the formula that the section has derived."
    ),
    skeleton='def my_entropy_slope(logits, temperature):\n    """dH/dT of softmax(logits / temperature)."""\n    ...',
    reference=entropy_slope,
    alternatives=(slope_by_autograd, slope_by_moments),
    cases=slope_cases,
    hints=(
        "It is a variance. Of what, and under which probabilities?",
        "The variance of the logits under p = softmax(z / T), divided by T³.",
        "mean = Σ p z with `keepdim=True`; variance = Σ p (z - mean)²; divide by `temperature**3`.",
    ),
    misconceptions=(
        Misconception(
            "all classes weigh the same",
            unweighted_variance,
            "this is the plain variance of the logits. Each class counts with its probability: weight by p",
        ),
        Misconception(
            "T² for T³",
            one_power_too_few,
            "you divide by T². One more T comes from differentiating z / T: the slope is Var / T³",
        ),
        Misconception(
            "mean square for variance",
            mean_square,
            "this is the mean of z², not the variance. Adding 5 to every logit must change nothing, and here it does. "
            "Subtract the mean first",
        ),
        Misconception(
            "probabilities at temperature one",
            weights_at_one,
            "your probabilities are those at T = 1. The variance is taken under softmax(z / T)",
        ),
        Misconception(
            "entropy falls with temperature",
            slope_downwards,
            "your slope is negative, as if raising the temperature sharpened. It smooths, so entropy rises",
        ),
    ),
    shows="the slope is a variance over T³, so raising the temperature can never sharpen.",
    derivation="H = ln Z - ⟨z⟩/T. d(ln Z)/dT = -⟨z⟩/T², d⟨z⟩/dT = Var/T²; the two ⟨z⟩/T² cancel up to sign: Var/T³.",
)
