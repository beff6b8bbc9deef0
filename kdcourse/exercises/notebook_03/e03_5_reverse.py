"""03.5 the other direction."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case
from .common import (
    REFUSES_SHAPES,
    TEMPERATURES,
    check_shapes,
    drawn_pair,
    drawn_temperature,
    log_soft,
    pairs,
    refusals,
    soft,
)
from .e03_2_kd_loss import kd_loss


def reverse_kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    log_p_s = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_t = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    return temperature**2 * (log_p_s.exp() * (log_p_s - log_p_t)).sum(dim=-1).mean()


def reverse_by_kl_div(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    log_p_s, log_p_t = log_soft(student_logits, temperature), log_soft(teacher_logits.detach(), temperature)
    each = F.kl_div(log_p_t, log_p_s, reduction="none", log_target=True)
    return each.sum(dim=-1).mean() * temperature * temperature


def reverse_by_entropies(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    p_s = soft(student_logits, temperature)
    surprise = -(p_s * log_soft(teacher_logits.detach(), temperature)).sum(dim=-1)
    return (temperature**2 * (surprise - torch.special.entr(p_s).sum(dim=-1))).mean()


def entropy_dropped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    return -(temperature**2) * (soft(s, temperature) * log_soft(t.detach(), temperature)).sum(dim=-1).mean()


def entropy_without_gradient(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    own = torch.special.entr(soft(s.detach(), temperature)).sum(dim=-1).mean()
    return entropy_dropped(s, t, temperature=temperature) - temperature**2 * own


def forward_for_reverse(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_loss(s, t, temperature=temperature)


def reverse_without_t_squared(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return reverse_kd(s, t, temperature=temperature) / temperature**2


def reverse_default_reduction(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return reverse_kd(s, t, temperature=temperature) / s.shape[-1]


def reverse_t_once(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return reverse_kd(s, t, temperature=temperature) / temperature


def reverse_t_squared_twice(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return reverse_kd(s, t, temperature=temperature) * temperature**2


def reverse_multiplied(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature**4 * reverse_kd(s, t, temperature=1 / temperature)


def reverse_summed(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return reverse_kd(s, t, temperature=temperature) * (s.numel() / s.shape[-1])


def reverse_batchmean(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return reverse_kd(s, t, temperature=temperature) * (s.numel() / s.shape[-1] / len(s))


def reverse_teacher_not_detached(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    log_p_s, log_p_t = log_soft(s, temperature), log_soft(t, temperature)
    return temperature**2 * (log_p_s.exp() * (log_p_s - log_p_t)).sum(dim=-1).mean()


def reverse_towards_the_student(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    log_p_s, log_p_t = log_soft(s.detach(), temperature), log_soft(t, temperature)
    return temperature**2 * (log_p_s.exp() * (log_p_s - log_p_t)).sum(dim=-1).mean()


def _reverse_over(s: Tensor, t: Tensor, temperature: float, dim: int) -> Tensor:
    check_shapes(s, t)
    log_p_s, log_p_t = (F.log_softmax(z / temperature, dim=dim) for z in (s, t.detach()))
    return temperature**2 * (log_p_s.exp() * (log_p_s - log_p_t)).sum(dim=dim).mean()


def reverse_over_the_batch(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _reverse_over(s, t, temperature, 0)


def reverse_over_dimension_one(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _reverse_over(s, t, temperature, 1)


def reverse_cases() -> list[Case]:
    ordinary = [case(s, t, temperature=T) for (s, t), T in zip(pairs(), TEMPERATURES, strict=True)]
    return [*ordinary, *refusals(temperature=2.0)]


_REVERSE = "kdcourse.losses.reverse_kd_loss"
EXERCISE = Exercise(
    id="03.5",
    title="the other direction",
    question=(
        r"Write `my_reverse_kd(student_logits, teacher_logits, *, temperature)`: $T^2 \cdot "
        r"\mathrm{KL}(p_s\,\|\,p_t)$, "
        f"averaged over all leading dimensions. Only the student gets a gradient. {REFUSES_SHAPES}"
    ),
    skeleton=(
        "def my_reverse_kd(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · KL(p_s ‖ p_t), the mean over examples."""\n    ...'
    ),
    reference=reverse_kd,
    alternatives=(reverse_by_kl_div, reverse_by_entropies),
    cases=reverse_cases,
    drawn=lambda g: case(*drawn_pair(g), temperature=drawn_temperature(g)),
    hints=(
        "Whose entropy is it in this direction, and does it depend on the student?",
        "The student weights the logarithms: Σ p_s (ln p_s - ln p_t). Nothing may be dropped.",
        "`(log_p_s.exp() * (log_p_s - log_p_t)).sum(dim=-1).mean() * temperature**2`, the teacher detached.",
    ),
    misconceptions=(
        Misconception(
            "student's entropy dropped",
            entropy_dropped,
            "the entropy term is missing. It is constant in KL(p_t ‖ p_s), where it is the teacher's; here it is the "
            "student's. Without it the student collapses onto the teacher's most likely class",
            _REVERSE,
        ),
        Misconception(
            "entropy without gradient",
            entropy_without_gradient,
            "the value is correct, but the student's entropy has no gradient, as if it were constant. The student "
            "would collapse onto the teacher's most likely class while the loss looks fine",
            _REVERSE,
        ),
        Misconception(
            "the forward direction",
            forward_for_reverse,
            "this is KL(p_t ‖ p_s), in which the teacher weights the logarithms. In the reverse direction the "
            "student does",
            _REVERSE,
        ),
        Misconception(
            "T² left out",
            reverse_without_t_squared,
            "T² is missing, so the gradient shrinks as the temperature grows",
            _REVERSE,
        ),
        Misconception(
            "the default reduction",
            reverse_default_reduction,
            "exactly C times too small: sum over the classes and average over the examples only",
            _REVERSE,
        ),
        Misconception(
            "T instead of T²", reverse_t_once, "you multiply by T, not T²: the gradient still shrinks like 1/T"
        ),
        Misconception(
            "T² twice", reverse_t_squared_twice, "you multiply by T² twice: the gradient grows with the temperature"
        ),
        Misconception(
            "logits multiplied by the temperature",
            reverse_multiplied,
            "you multiply the logits by the temperature. That sharpens; softening divides",
        ),
        Misconception(
            "summed over the examples",
            reverse_summed,
            "you sum over the examples. The loss then grows with the batch size. Take the mean",
        ),
        Misconception(
            "batchmean on sequences",
            reverse_batchmean,
            "correct for logits (N, C), L times too large for sequences (N, L, C): `batchmean` divides by the first "
            "dimension only. Divide by all leading dimensions",
        ),
        Misconception(
            "teacher not detached",
            reverse_teacher_not_detached,
            "the value is correct, but the teacher gets a gradient too and would drift towards the student. Detach it",
        ),
        Misconception(
            "the student detached",
            reverse_towards_the_student,
            "the value is correct, but the gradient flows to the teacher, and the student never changes",
        ),
        Misconception(
            "softmax over the batch",
            reverse_over_the_batch,
            "softmax over dimension 0 makes images compete with each other. Classes are the last dimension",
        ),
        Misconception(
            "classes on dimension one",
            reverse_over_dimension_one,
            "correct for logits (N, C), but dimension 1 of sequences (N, L, C) is the position, not the class: "
            "`dim=-1`",
        ),
    ),
    shows="in the reverse direction the entropy is the student's, and it keeps the student spread out.",
    derivation="KL(p_s ‖ p_t) = H(p_s, p_t) - H(p_s). Both parts contain the student, so neither may be dropped.",
    gradients=(0, 1),
    forbidden=(_REVERSE,),
)
