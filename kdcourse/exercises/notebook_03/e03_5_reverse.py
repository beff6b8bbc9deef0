"""03.5 the other direction."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, refusal
from .common import REFUSES_SHAPES, check_shapes, log_soft, pairs, soft, unequal
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


def reverse_cases() -> list[Case]:
    why, *bad = unequal()
    ordinary = [case(s, t, temperature=T) for (s, t), T in zip(pairs(), (2.0, 4.0, 3.0), strict=True)]
    return [*ordinary, refusal(why, *bad, temperature=2.0)]


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
    hints=(
        "Whose entropy is it now, and does it depend on the student?",
        "The student weights the logarithms: Σ p_s (ln p_s - ln p_t). Nothing may be dropped.",
        "`(log_p_s.exp() * (log_p_s - log_p_t)).sum(dim=-1).mean() * temperature**2`, the teacher detached.",
    ),
    misconceptions=(
        Misconception(
            "student's entropy dropped",
            entropy_dropped,
            "the entropy term is missing. It is constant in KL(p_t ‖ p_s), where it is the teacher's; here it is the "
            "student's. Without it the student collapses onto the teacher's favourite class",
            _REVERSE,
        ),
        Misconception(
            "entropy without gradient",
            entropy_without_gradient,
            "the value is right, but the student's entropy carries no gradient, as if it were constant. The student "
            "would collapse onto the teacher's favourite class while the loss looks fine",
            _REVERSE,
        ),
        Misconception(
            "the forward direction",
            forward_for_reverse,
            "this is KL(p_t ‖ p_s), in which the teacher weights the logarithms. In the reverse the student does",
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
            "exactly C times too small: sum over the classes, and average over the examples only",
            _REVERSE,
        ),
    ),
    shows="in the reverse direction the entropy is the student's own, and it is what keeps the student spread out.",
    derivation="KL(p_s ‖ p_t) = H(p_s, p_t) - H(p_s). Both parts contain the student, so neither may be dropped.",
    gradients=(0, 1),
    forbidden=(_REVERSE,),
)
