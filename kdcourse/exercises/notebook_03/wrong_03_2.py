"""More wrong answers to 03.2."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Misconception
from .common import check_shapes, log_soft, soft


def _divergence(log_p_s: Tensor, log_p_t: Tensor, dim: int) -> Tensor:
    return (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=dim).mean()


def _over(s: Tensor, t: Tensor, temperature: float, dim: int, summed: int) -> Tensor:
    check_shapes(s, t)
    log_p_s, log_p_t = (F.log_softmax(z / temperature, dim=dim) for z in (s, t.detach()))
    return temperature**2 * _divergence(log_p_s, log_p_t, summed)


def classes_on_dimension_one(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _over(s, t, temperature, 1, 1)


def softmax_over_dimension_one(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _over(s, t, temperature, 1, -1)


def classes_on_dimension_zero(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _over(s, t, temperature, 0, 0)


def summed_over_dimension_one(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _over(s, t, temperature, -1, 1)


def divided_by_t_squared(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _over(s, t, temperature, -1, -1) / temperature**4


def t_squared_twice(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _over(s, t, temperature, -1, -1) * temperature**2


def argmax_of_the_teacher(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    target = F.one_hot(t.argmax(dim=-1), t.shape[-1])
    return -(temperature**2) * (target * log_soft(s, temperature)).sum(dim=-1).mean()


def divergence_of_the_mean(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    p_s, p_t = (soft(z, temperature).flatten(0, -2).mean(dim=0) for z in (s, t.detach()))
    return temperature**2 * (p_t * (p_t.log() - p_s.log())).sum()


def teacher_not_softened(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    return temperature**2 * _divergence(log_soft(s, temperature), log_soft(t.detach(), 1.0), -1)


def log_target_forgotten(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    each = F.kl_div(log_soft(s, temperature), log_soft(t.detach(), temperature), reduction="none")
    return temperature**2 * each.sum(dim=-1).mean()


def distance_of_probabilities(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    return temperature**2 * F.mse_loss(soft(s, temperature), soft(t.detach(), temperature))


def without_the_weights(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    return temperature**2 * (log_soft(t.detach(), temperature) - log_soft(s, temperature)).sum(dim=-1).mean()


def both_directions(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    log_p_s, log_p_t = log_soft(s, temperature), log_soft(t.detach(), temperature)
    return temperature**2 * 0.5 * (_divergence(log_p_s, log_p_t, -1) + _divergence(log_p_t, log_p_s, -1))


def logarithm_clamped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    p_s, p_t = soft(s, temperature), soft(t.detach(), temperature)
    return temperature**2 * (torch.special.xlogy(p_t, p_t) - p_t * (p_s + 1e-8).log()).sum(dim=-1).mean()


MORE = (
    Misconception(
        "classes on dimension one",
        classes_on_dimension_one,
        "correct for logits (N, C), but dimension 1 of sequences (N, L, C) is the position, not the class: `dim=-1`",
    ),
    Misconception(
        "softmax over dimension one",
        softmax_over_dimension_one,
        "correct for logits (N, C). For sequences (N, L, C) your softmax over dimension 1 makes positions compete, "
        "and you then sum over the classes: use the last dimension for both",
    ),
    Misconception(
        "classes on dimension zero",
        classes_on_dimension_zero,
        "you take softmax and sum over dimension 0, the batch, as if images were classes. Classes are the last "
        "dimension",
    ),
    Misconception(
        "summed over dimension one",
        summed_over_dimension_one,
        "correct for logits (N, C). For sequences (N, L, C) you sum over dimension 1, the positions, and average "
        "over the classes: sum over the last dimension",
    ),
    Misconception(
        "divided by T²",
        divided_by_t_squared,
        "you divide by T² instead of multiplying. The gradient of KL shrinks like 1/T²; yours shrinks like 1/T⁴",
    ),
    Misconception(
        "T² twice",
        t_squared_twice,
        "you multiply by T² twice: your loss is T⁴ · KL, and its gradient grows with the temperature",
    ),
    Misconception(
        "the teacher's arg-max",
        argmax_of_the_teacher,
        "you use only the teacher's most likely class, a hard label. Distillation is about the other classes as "
        "well: use its probabilities",
    ),
    Misconception(
        "divergence of the mean",
        divergence_of_the_mean,
        "you average the probabilities over the batch and compare those. A student that is wrong on every image can "
        "have the right mean: take the divergence of each example, then average",
    ),
    Misconception(
        "teacher not softened",
        teacher_not_softened,
        "only the student is softened. Divide the teacher's logits by T as well; otherwise equal logits do not give "
        "zero",
    ),
    Misconception(
        "log_target forgotten",
        log_target_forgotten,
        "you pass the teacher to `F.kl_div` as log-probabilities without saying so: the logarithm of a negative "
        "number is NaN. Pass `log_target=True`, or probabilities",
    ),
    Misconception(
        "mean square of probabilities",
        distance_of_probabilities,
        "this is the mean squared distance of the probabilities, not a divergence. Its gradient vanishes where the "
        "student is confident and wrong. Use Σ p_t (ln p_t - ln p_s)",
    ),
    Misconception(
        "weights forgotten",
        without_the_weights,
        "you sum the differences of logarithms with weight 1 for each class. Weight them by p_t",
    ),
    Misconception(
        "both directions",
        both_directions,
        "you average KL(p_t ‖ p_s) and KL(p_s ‖ p_t). The question asks for the first only: the teacher weights the "
        "logarithms",
    ),
    Misconception(
        "a small constant in the logarithm",
        logarithm_clamped,
        "correct for ordinary logits. If a probability rounds to 0, a small constant inside the logarithm hides the "
        "infinity: the loss is bounded and the gradient vanishes. Use `F.log_softmax`",
    ),
)
