"""Exercises of notebook 02: softmax at a temperature, its entropy and slope, and what soft targets say of classes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .core import Case, Exercise, Misconception, case, draw

# --- 02.1 -------------------------------------------------------------------------------------------------------------


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


def soften_cases() -> list[Case]:
    one, many = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64), draw(2, 3, 4)
    large = torch.tensor([[1000.0, 0.0], [-1000.0, -1001.0]], dtype=torch.float64)
    return [case(one, 2.0), case(one, 0.5), case(many, 4.0), case(large, 1.0)]


SOFTEN = Exercise(
    id="02.1",
    title="softmax at a temperature",
    question=(
        "Write `my_soften(logits, temperature)`: the probabilities softmax(z / T) over the last dimension, "
        "for logits of "
        "any shape (…, C). It must not overflow, whatever the logits are."
    ),
    skeleton='def my_soften(logits, temperature):\n    """softmax(logits / temperature), classes last."""\n    ...',
    reference=soften,
    alternatives=(soften_by_library, soften_by_log_sum_exp),
    cases=soften_cases,
    hints=(
        "What does softmax not notice when you add it to every logit of a row?",
        "exp(1000) is infinite. Subtract each row's largest value before you take the exponential.",
        "`z = logits / temperature`, then exp of `z - z.amax(dim=-1, keepdim=True)`, divided by its sum over the last "
        "dimension.",
    ),
    misconceptions=(
        Misconception(
            "lower temperature smooths",
            multiplied,
            "you multiply by the temperature. Then a higher one sharpens and a lower one smooths, the reverse of what "
            "is meant. It is a common slip: the inverse temperature 1/T is multiplied, the temperature divides",
        ),
        Misconception(
            "exponential of the bare logits",
            without_the_largest,
            "right for small logits, but exp(1000) is infinite and infinity / infinity is no number. Subtract the "
            "row's largest logit first: softmax does not notice a shift",
        ),
        Misconception(
            "softmax over the rows",
            over_the_rows,
            "you normalise over dimension 0, the images. They would then compete with one another. Classes are the "
            "last dimension",
        ),
        Misconception(
            "probabilities divided by the temperature",
            divided_after,
            "you divide the probabilities by the temperature. They no longer sum to 1, and nothing got smoother: the "
            "logits are to be divided, before the exponential",
        ),
        Misconception(
            "temperature never used",
            temperature_never_used,
            "the temperature does nothing in your function",
        ),
        Misconception(
            "one sum for the whole batch",
            sum_of_all,
            "you divide by the sum of the whole batch. Each row is to sum to 1: sum over the last dimension only, and "
            "keep it (`keepdim=True`)",
        ),
    ),
    shows="temperature divides the logits, and a shift of a row changes nothing but saves it from overflow.",
    derivation=(
        "exp((z - m)/T) = exp(z/T) · exp(-m/T), and the second factor cancels in the fraction. With m the row's "
        "largest logit no exponent is above zero, and the sum is at least 1."
    ),
    gradients=(0,),
)

# --- 02.2 -------------------------------------------------------------------------------------------------------------


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


def entropy_cases() -> list[Case]:
    half = torch.tensor([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]], dtype=torch.float64).log()
    sure = torch.tensor([[2000.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    return [case(half), case(draw(2, 3, 5), temperature=3.0), case(sure, temperature=1.0)]


_ENTROPY = "kdcourse.metrics.entropy"
ENTROPY = Exercise(
    id="02.2",
    title="the entropy of a soft target",
    question=(
        "Write `my_entropy(logits, *, temperature=1.0)`: H = -Σ p ln p in nats, with p = softmax(z / T) over the last "
        "dimension. Logits (…, C) give entropies (…). A network that is quite sure has the entropy 0."
    ),
    skeleton=(
        "def my_entropy(logits, *, temperature=1.0):\n"
        '    """Entropy in nats of softmax(logits / temperature), classes last."""\n    ...'
    ),
    reference=entropy,
    alternatives=(entropy_from_log_sum, entropy_by_xlogy),
    cases=entropy_cases,
    hints=(
        "What is 0 · ln 0 in a sum of surprises, and what is it in a computer?",
        "`F.log_softmax` gives ln p without ever taking the logarithm of zero.",
        "`log_p = F.log_softmax(logits / temperature, dim=-1)`, and then -(exp(log_p) · log_p), summed over classes.",
    ),
    misconceptions=(
        Misconception(
            "bits for nats",
            in_bits,
            "1.443 times too large: this is the entropy in bits. Nats use the natural logarithm. Losses do so too, and "
            "so the two may be compared",
            _ENTROPY,
        ),
        Misconception(
            "zero times the logarithm of zero",
            zero_times_log_zero,
            "right until the network is sure. Then a probability rounds to 0, its logarithm is minus infinity, and "
            "0 · infinity is no number. Take the logarithm inside: `F.log_softmax`",
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
            "exactly C times too small: you take the mean over the classes. The probabilities already are the weights "
            "of a mean, so sum",
            _ENTROPY,
        ),
        Misconception(
            "temperature never used",
            entropy_at_one,
            "you compute the entropy at T = 1 whatever the temperature is",
            _ENTROPY,
        ),
        Misconception(
            "share of the largest entropy",
            share_of_the_largest_entropy,
            "you divide by ln C, so that 1 means uniform. That is a share, not nats, and it hides how many classes "
            "there are",
            _ENTROPY,
        ),
    ),
    shows="entropy is the mean surprise, and a sure network has none.",
    derivation="With ln p = z/T - ln Z it is also H = ln Z - ⟨z⟩/T, which needs no p · ln p at all.",
    forbidden=(_ENTROPY,),
)

# --- 02.3 -------------------------------------------------------------------------------------------------------------


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


SLOPE = Exercise(
    id="02.3",
    title="how fast entropy rises",
    question=(
        "Write `my_entropy_slope(logits, temperature)`: dH/dT of the softened probabilities, for logits (…, "
        "C) a result "
        "(…). Use the formula that the section has derived."
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

# --- 02.4 -------------------------------------------------------------------------------------------------------------


def temperature_for(logits: Tensor, wanted: float) -> float:
    low, high = 0.01, 1000.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        if entropy(logits, temperature=middle).mean().item() < wanted:
            low = middle
        else:
            high = middle
    return middle


def temperature_by_newton(logits: Tensor, wanted: float) -> float:
    T = 0.3
    while abs(gap := wanted - entropy(logits, temperature=T).mean().item()) > 1e-12:
        step = gap / entropy_slope(logits, T).mean().item()
        T = min(max(T + step, T / 2), 2 * T)
    return T


def temperature_by_grids(logits: Tensor, wanted: float) -> float:
    low, high = 0.01, 1000.0
    for _ in range(8):
        grid = torch.logspace(math.log10(low), math.log10(high), 50, dtype=torch.float64)
        heights = torch.stack([entropy(logits, temperature=T.item()).mean() for T in grid])
        above = max(1, min(49, int((heights < wanted).sum())))
        low, high = grid[above - 1].item(), grid[above].item()
    return low


def inverse_temperature(logits: Tensor, wanted: float) -> float:
    return 1 / temperature_for(logits, wanted)


def wrong_half(logits: Tensor, wanted: float) -> float:
    low, high = 0.01, 1000.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        above = entropy(logits, temperature=middle).mean().item() > wanted
        low, high = (middle, high) if above else (low, middle)
    return middle


def wanted_in_bits(logits: Tensor, wanted: float) -> float:
    return temperature_for(logits, wanted * math.log(2))


def whole_temperatures(logits: Tensor, wanted: float) -> float:
    return float(min(range(1, 21), key=lambda T: abs(entropy(logits, temperature=T).mean().item() - wanted)))


def entropy_of_the_mean(logits: Tensor, wanted: float) -> float:
    return temperature_for(logits.mean(dim=0, keepdim=True), wanted)


def temperature_for_cases() -> list[Case]:
    small = torch.tensor([[3.0, 1.0, 0.0], [0.0, 4.0, 2.0]], dtype=torch.float64)
    return [case(small, 0.9), case(draw(6, 10, seed=5), 2.1), case(small, 0.3)]


TEMPERATURE_FOR = Exercise(
    id="02.4",
    title="the temperature for an entropy",
    question=(
        "Write `my_temperature_for(logits, wanted)`: the temperature between 0.01 and 1000 at which the "
        "*mean* entropy "
        "over the rows is `wanted` nats. Entropy rises with temperature, so halving an interval finds it. The result "
        "is a number, right to one part in a million."
    ),
    skeleton=(
        "def my_temperature_for(logits, wanted):\n"
        '    """The temperature at which the mean entropy is `wanted` nats."""\n    ...'
    ),
    reference=temperature_for,
    alternatives=(temperature_by_newton, temperature_by_grids),
    cases=temperature_for_cases,
    hints=(
        "Is the entropy at the middle too low or too high? Which half can you drop?",
        "Entropy below `wanted`: the temperature is too low, so `low = middle`. Else `high = middle`.",
        "Sixty halvings of [0.01, 1000], with the middle at `math.sqrt(low * high)`, are far more than enough.",
    ),
    misconceptions=(
        Misconception(
            "inverse temperature",
            inverse_temperature,
            "you return 1/T. That is the inverse temperature, which multiplies the logits",
        ),
        Misconception(
            "the wrong half kept",
            wrong_half,
            "you keep the wrong half and end at a border. If the entropy is too high, the temperature is too high",
        ),
        Misconception(
            "wanted taken for bits",
            wanted_in_bits,
            "you take `wanted` for bits. One bit is ln 2 = 0.693 nats",
        ),
        Misconception(
            "whole numbers only",
            whole_temperatures,
            "you try whole temperatures only. The entropy is wanted exactly, and between two of them it jumps past it",
        ),
        Misconception(
            "entropy of the mean",
            entropy_of_the_mean,
            "you average the logits and then take the entropy. Rows that disagree cancel there. Take each "
            "row's entropy "
            "and average those",
        ),
    ),
    shows="as entropy only rises with temperature, there is one temperature for every entropy, and halving finds it.",
    derivation="dH/dT = Var/T³ ≥ 0: the mean entropy grows from the share of ties at T → 0 to ln C, each value once.",
    relative=1e-6,
    points=2,
)

# --- 02.5 -------------------------------------------------------------------------------------------------------------


def class_similarity(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    p = F.softmax(teacher_logits / temperature, dim=-1)
    return torch.stack([p[labels == label].mean(dim=0) for label in range(p.shape[1])])


def similarity_by_one_hot(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    p = F.softmax(teacher_logits / temperature, dim=-1)
    member = F.one_hot(labels, p.shape[1]).to(p.dtype)
    return (member / member.sum(dim=0)).T @ p


def similarity_by_adding(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    classes = teacher_logits.shape[1]
    sums = torch.zeros(classes, classes, dtype=teacher_logits.dtype)
    for row, label in zip(F.softmax(teacher_logits / temperature, dim=-1), labels.tolist(), strict=True):
        sums[label] += row
    return sums / torch.bincount(labels, minlength=classes)[:, None]


def grouped_by_the_named_class(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return class_similarity(teacher_logits, teacher_logits.argmax(dim=-1), temperature)


def softmax_of_the_mean(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    means = [teacher_logits[labels == label].mean(dim=0) for label in range(teacher_logits.shape[1])]
    return F.softmax(torch.stack(means) / temperature, dim=-1)


def summed_not_averaged(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return class_similarity(teacher_logits, labels, temperature) * torch.bincount(labels)[:, None]


def turned_over(teacher_logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return class_similarity(teacher_logits, labels, temperature).T


def similarity_cases() -> list[Case]:
    small = torch.tensor([[2.0, 1.0], [0.5, 1.0], [0.0, 2.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    return [case(small, labels, 1.0), case(draw(12, 3, seed=6), torch.arange(12) % 3, 4.0)]


SIMILARITY = Exercise(
    id="02.5",
    title="which classes are alike",
    question=(
        "Write `my_class_similarity(teacher_logits, labels, temperature)`: a table (C, C). Row k is the mean of the "
        "teacher's softened probabilities over the images whose *label* is k. Every class occurs."
    ),
    skeleton=(
        "def my_class_similarity(teacher_logits, labels, temperature):\n"
        '    """Mean soft target of each class, one row a class."""\n    ...'
    ),
    reference=class_similarity,
    alternatives=(similarity_by_one_hot, similarity_by_adding),
    cases=similarity_cases,
    hints=(
        "Soften first or average first? Only one of them gives the mean soft target.",
        "`p[labels == k]` are the soft targets of class k. Average them over the images.",
        "`torch.stack([p[labels == k].mean(dim=0) for k in range(C)])`.",
    ),
    misconceptions=(
        Misconception(
            "grouped by what the teacher names",
            grouped_by_the_named_class,
            "you group by the class that the teacher names. Then its mistakes move to another row, and the table looks "
            "cleaner than the teacher is. Group by label",
        ),
        Misconception(
            "softmax of the mean logits",
            softmax_of_the_mean,
            "you average the logits and soften afterwards. The mean of probabilities is not the softmax of the mean: "
            "what only some images show is lost",
        ),
        Misconception(
            "sum for mean",
            summed_not_averaged,
            "your rows do not sum to 1: divide by the number of images of the class",
        ),
        Misconception(
            "rows and columns swapped",
            turned_over,
            "rows and columns are swapped. Row k tells how images *labelled* k look to the teacher; the table is not "
            "symmetric",
        ),
    ),
    shows="the teacher's mean soft targets say which classes are alike, which no label does.",
    derivation=(
        "The mean over the rows with label k of softmax(z / T). Each row of the table sums to 1, as its parts do."
    ),
)

EXERCISES = (SOFTEN, ENTROPY, SLOPE, TEMPERATURE_FOR, SIMILARITY)
