"""03.2 the distillation loss."""

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
from .wrong_03_2 import MORE


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    log_p_s = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_t = F.log_softmax(teacher_logits.detach() / temperature, dim=-1)
    divergence = (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1)
    return temperature**2 * divergence.mean()


def kd_by_kl_div(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    student, teacher = (z.reshape(-1, z.shape[-1]) / temperature for z in (student_logits, teacher_logits.detach()))
    log_p_s, log_p_t = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    return F.kl_div(log_p_s, log_p_t, reduction="batchmean", log_target=True) * temperature**2


def kd_by_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    student, teacher = student_logits.flatten(0, -2) / temperature, teacher_logits.flatten(0, -2) / temperature
    target = F.softmax(teacher, dim=1).detach()
    teacher_entropy = torch.special.entr(target).sum() / len(target)
    return temperature**2 * (F.cross_entropy(student, target) - teacher_entropy)


def kd_in_float32(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    log_p_s = F.log_softmax(student_logits.float() / temperature, dim=-1)
    log_p_t = F.log_softmax(teacher_logits.float().detach() / temperature, dim=-1)
    found = (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean() * temperature**2
    return found.to(student_logits.dtype)


def default_reduction(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_loss(s, t, temperature=temperature) / s.shape[-1]


def batchmean_on_sequences(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    log_p_t = log_soft(t.detach(), temperature)
    total = (log_p_t.exp() * (log_p_t - log_soft(s, temperature))).sum()
    return temperature**2 * total / (len(s) if s.ndim > 1 else 1)


def summed_over_the_batch(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_loss(s, t, temperature=temperature) * (s.numel() / s.shape[-1])


def without_t_squared(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_loss(s, t, temperature=temperature) / temperature**2


def t_once(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_loss(s, t, temperature=temperature) / temperature


def temperature_multiplied(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature**4 * kd_loss(s, t, temperature=1 / temperature)


def student_not_softened(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    log_p_t = log_soft(t.detach(), temperature)
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_soft(s, 1.0))).sum(dim=-1).mean()


def probabilities_for_log_probabilities(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    target = soft(t.detach(), temperature)
    return temperature**2 * (torch.special.xlogy(target, target) - target * soft(s, temperature)).sum(dim=-1).mean()


def arguments_swapped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    log_p_s = log_soft(s, temperature)
    return temperature**2 * (log_p_s.exp() * (log_p_s - log_soft(t.detach(), temperature))).sum(dim=-1).mean()


def teacher_against_teacher(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_loss(t + 0 * s, t, temperature=temperature)  # 0 · s keeps the graph alive: nothing crashes


def roles_swapped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_loss(t, s, temperature=temperature)


def teacher_not_detached(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    log_p_t = log_soft(t, temperature)
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_soft(s, temperature))).sum(dim=-1).mean()


def softmax_then_log(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    p_s, p_t = soft(s, temperature), soft(t.detach(), temperature)
    return temperature**2 * (torch.special.xlogy(p_t, p_t) - p_t * p_s.log()).sum(dim=-1).mean()


def binary_over_classes(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    p_s, p_t = soft(s, temperature), soft(t.detach(), temperature)
    return temperature**2 * F.binary_cross_entropy(p_s, p_t, reduction="none").sum(dim=-1).mean()


def minus_sign_missing(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return -teacher_entropy_kept_out(s, t, temperature=temperature)


def teacher_entropy_kept_out(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    return -(temperature**2) * (soft(t.detach(), temperature) * log_soft(s, temperature)).sum(dim=-1).mean()


def softmax_over_the_batch(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    log_p_s, log_p_t = (F.log_softmax(z / temperature, dim=0) for z in (s, t.detach()))
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean()


def kd_cases() -> list[Case]:
    sure = torch.tensor([[3000.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    ordinary = [case(s, t, temperature=T) for (s, t), T in zip(pairs(), TEMPERATURES, strict=True)]
    return [*ordinary, case(sure, sure.flip(-1), temperature=1.5), *refusals(temperature=2.0)]


_KD = "kdcourse.losses.kd_loss"
EXERCISE = Exercise(
    id="03.2",
    title="the distillation loss",
    question=(
        r"Write `my_kd_loss(student_logits, teacher_logits, *, temperature)`: $T^2 \cdot \mathrm{KL}(p_t\,\|\,p_s)$, "
        "averaged over all leading dimensions of logits (…, C), as a 0-dimensional tensor. The student gets a "
        f"gradient, the teacher none. Very large logits must not produce infinities. {REFUSES_SHAPES}"
    ),
    skeleton=(
        "def my_kd_loss(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · KL(p_t ‖ p_s), the mean over examples."""\n    ...'
    ),
    reference=kd_loss,
    alternatives=(kd_by_kl_div, kd_by_cross_entropy, kd_in_float32),
    cases=kd_cases,
    drawn=lambda g: case(*drawn_pair(g), temperature=drawn_temperature(g)),
    hints=(
        "Which of the two distributions weights the logarithms? Over what do you sum, over what do you average?",
        "Take `F.log_softmax` of both at temperature T, and detach the teacher. Sum over classes, average "
        "over the rest.",
        "`(log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean() * temperature**2`.",
    ),
    misconceptions=(
        Misconception(
            "the default reduction",
            default_reduction,
            "exactly C times too small: you average over the classes as well. The default `reduction='mean'` of "
            "KLDivLoss divides by N·C. Sum over classes, then average over examples; otherwise the label term "
            "dominates",
            _KD,
        ),
        Misconception(
            "batchmean on sequences",
            batchmean_on_sequences,
            "correct for logits (N, C), L times too large for sequences (N, L, C): `batchmean` divides by the first "
            "dimension only, so the loss grows with the length. Divide by all leading dimensions",
            _KD,
        ),
        Misconception(
            "summed over the batch",
            summed_over_the_batch,
            "you sum over the examples. The loss, and with it the step, then grows with the batch size. Take the mean",
            _KD,
        ),
        Misconception(
            "T² left out",
            without_t_squared,
            "T² is missing. The gradient shrinks like 1/T², so tuning the temperature also changes the balance with "
            "the label term",
            _KD,
        ),
        Misconception(
            "T instead of T²",
            t_once,
            "you multiply by T, not T². One factor 1/T comes from the chain rule, the other from probabilities that "
            "become similar",
            _KD,
        ),
        Misconception(
            "logits multiplied by the temperature",
            temperature_multiplied,
            "you multiply the logits by the temperature. That sharpens; softening divides",
            _KD,
        ),
        Misconception(
            "student not softened",
            student_not_softened,
            "only the teacher is softened. The student would have to be flat at T = 1 to agree. Divide both by T. "
            "Test: equal logits must give a loss of zero",
            _KD,
        ),
        Misconception(
            "probabilities instead of log-probabilities",
            probabilities_for_log_probabilities,
            "`F.kl_div` expects the student as *log*-probabilities and got probabilities. It raises no error, but "
            "equal logits do not give zero, and the value can be negative",
            _KD,
        ),
        Misconception(
            "arguments swapped",
            arguments_swapped,
            "this is KL(p_s ‖ p_t): the student weights the logarithms. Here the teacher is the truth. `F.kl_div` "
            "takes the student first, which looks like the other order",
            _KD,
        ),
        Misconception(
            "a network against itself",
            teacher_against_teacher,
            "your loss compares a network with itself. It is always zero: training runs, and the student learns "
            "nothing from it",
            _KD,
        ),
        Misconception(
            "student and teacher swapped",
            roles_swapped,
            "student and teacher are swapped: the gradient flows to the teacher, and the detached student never "
            "changes. The student comes first in this course",
            _KD,
        ),
        Misconception(
            "teacher not detached",
            teacher_not_detached,
            "the value is correct, but the teacher gets a gradient too. If an optimizer contains its parameters, it "
            "drifts towards the student. Detach it",
            _KD,
        ),
        Misconception(
            "logarithm of softmax",
            softmax_then_log,
            "correct for small logits. A confident student's probability rounds to 0, its logarithm is minus "
            "infinity, the loss is infinite and the gradient NaN. Use `F.log_softmax`",
            _KD,
        ),
        Misconception(
            "binary cross-entropy over classes",
            binary_over_classes,
            "you add up a binary cross-entropy for every class, with its term for 'not this class'. With softmax the "
            "classes already exclude each other: Σ p_t (ln p_t - ln p_s) is enough",
            _KD,
        ),
        Misconception(
            "minus sign missing",
            minus_sign_missing,
            "this is Σ p_t ln p_s, a cross-entropy without its minus sign. Minimising it drives the student away "
            "from the teacher",
            _KD,
        ),
        Misconception(
            "cross-entropy instead of divergence",
            teacher_entropy_kept_out,
            "the gradient is correct, the value is not: this is the cross-entropy, the divergence plus the teacher's "
            "entropy. It trains the student identically, but it is not zero when the student agrees with the teacher",
            _KD,
        ),
        Misconception(
            "softmax over the batch",
            softmax_over_the_batch,
            "softmax over dimension 0 makes images compete with each other. Classes are the last dimension",
            _KD,
        ),
        *MORE,
    ),
    shows="the loss sums over classes, averages over examples, depends on both networks and trains only one.",
    derivation=(
        "KL(p_t ‖ p_s) = Σ_k p_t,k (ln p_t,k - ln p_s,k) with p = softmax(z / T). Its gradient is (p_s - p_t)/T, and "
        "p_s - p_t itself shrinks like 1/T: T² compensates both. Source: Hinton, Vinyals, Dean 2015, "
        "arXiv:1503.02531."
    ),
    gradients=(0, 1),
    forbidden=(_KD, "kdcourse.losses.logits.soft_term"),
    absolute=1e-6,  # an answer in float32 is right
    points=2,
)
