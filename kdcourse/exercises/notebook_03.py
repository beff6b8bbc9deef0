"""Exercises of notebook 03: divergences, the distillation loss and its gradient, computed safely.

The wrong losses circulate in public code and tutorials; each is written afresh here.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .core import SHAPES, Case, Exercise, Misconception, case, draw, refusal


def soft(logits: Tensor, temperature: float) -> Tensor:
    return F.softmax(logits / temperature, dim=-1)


def log_soft(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, dim=-1)


def check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"shapes differ: {tuple(student.shape)} and {tuple(teacher.shape)}")


REFUSES_SHAPES = "Raise a `ValueError` if the two shapes differ, before broadcasting can hide it."


def pairs() -> list[tuple[Tensor, Tensor]]:
    """Student and teacher logits: a small pair, a batch, a batch of sequences."""
    small = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    return [
        (small, small.flip(-1) + 1),
        (draw(4, 5, seed=10) + 1, draw(4, 5, seed=11)),
        (draw(2, 3, 4, seed=12), draw(2, 3, 4, seed=13)),
    ]


def unequal() -> tuple[str, Tensor, Tensor]:
    """What must not be broadcast."""
    return SHAPES.format("(2, 3)", "(1, 3)"), draw(2, 3, seed=14), draw(1, 3, seed=15)


# --- 03.1 -------------------------------------------------------------------------------------------------------------


def kl_of_probabilities(p: Tensor, q: Tensor) -> Tensor:
    for name, vector in (("p", p), ("q", q)):
        if abs(vector.sum().item() - 1) > 1e-6:
            raise ValueError(f"{name} sums to {vector.sum().item():.4g}, so it is no distribution")
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum()


def kl_where_p_is_positive(p: Tensor, q: Tensor) -> Tensor:
    if not (math.isclose(sum(p.tolist()), 1, abs_tol=1e-6) and math.isclose(sum(q.tolist()), 1, abs_tol=1e-6)):
        raise ValueError("not a distribution")
    some = p > 0
    return (p[some] * (p[some] / q[some]).log()).sum()


def kl_by_library(p: Tensor, q: Tensor) -> Tensor:
    for vector in (p, q):
        torch.testing.assert_close(vector.sum().item(), 1.0)
    return F.kl_div(q.log(), p, reduction="sum")


def other_direction(p: Tensor, q: Tensor) -> Tensor:
    return kl_of_probabilities(q, p)


def cross_entropy_for_kl(p: Tensor, q: Tensor) -> Tensor:
    kl_of_probabilities(p, q)
    return -torch.special.xlogy(p, q).sum()


def minus_missing(p: Tensor, q: Tensor) -> Tensor:
    return -cross_entropy_for_kl(p, q)


def zero_log_zero(p: Tensor, q: Tensor) -> Tensor:
    kl_of_probabilities(p, q)
    return (p * (p.log() - q.log())).sum()


def kl_in_bits(p: Tensor, q: Tensor) -> Tensor:
    return kl_of_probabilities(p, q) / math.log(2)


def kl_mean_over_classes(p: Tensor, q: Tensor) -> Tensor:
    return kl_of_probabilities(p, q) / len(p)


def anything_for_probabilities(p: Tensor, q: Tensor) -> Tensor:
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum()


def kl_cases() -> list[Case]:
    p, q, r = (torch.tensor(v, dtype=torch.float64) for v in ([0.75, 0.25], [0.5, 0.5], [0.1, 0.9]))
    s, fake = (torch.tensor(v, dtype=torch.float64) for v in ([0.1, 0.1, 0.8, 0.0], [0.1, 0.3, 0.6, 0.1]))
    u = torch.tensor([0.1, 0.3, 0.5, 0.1], dtype=torch.float64)
    why = "a q that sums to 1.1, so that it is no distribution"
    return [case(p, q), case(r, p), case(s, u), refusal(why, s, fake)]


KL = Exercise(
    id="03.1",
    title="a divergence, and only of distributions",
    question=(
        r"Write `my_kl_of_probabilities(p, q)`: $\mathrm{KL}(p\,\|\,q)$ in nats for two vectors of probabilities. "
        "A class with $p_k = 0$ adds nothing. Raise a `ValueError` if one of the vectors does not sum to 1 (to within "
        "a millionth)."
    ),
    skeleton='def my_kl_of_probabilities(p, q):\n    """KL(p ‖ q) in nats, of two probability vectors."""\n    ...',
    reference=kl_of_probabilities,
    alternatives=(kl_where_p_is_positive, kl_by_library),
    cases=kl_cases,
    hints=(
        "It is the mean of a difference of surprises. Under which of the two?",
        "Σ p (ln p - ln q). In a computer 0 · ln 0 is no number: leave those classes out.",
        "`torch.special.xlogy(p, q)` is p · ln q, and 0 where p is 0. Check `abs(p.sum() - 1)` first.",
    ),
    misconceptions=(
        Misconception(
            "the two swapped",
            other_direction,
            "this is KL(q ‖ p). The divergence is not symmetric: the first is the truth that weights the surprises, "
            "the second the belief",
        ),
        Misconception(
            "cross-entropy for divergence",
            cross_entropy_for_kl,
            "this is the cross-entropy -Σ p ln q. It is not zero for p = q. A divergence is the *excess*: take the "
            "entropy of p off. The worked example that circulates as 'KL = 0.277' makes this mistake too",
        ),
        Misconception(
            "minus sign missing",
            minus_missing,
            "this is Σ p ln q, a cross-entropy without its minus sign. It is never above zero, and who minimises it "
            "makes the belief worse and worse",
        ),
        Misconception(
            "zero times the logarithm of zero",
            zero_log_zero,
            "right until a probability is 0. There 0 · ln 0 is to count as 0, and in a computer it is no number",
        ),
        Misconception(
            "bits for nats", kl_in_bits, "1.443 times too large: these are bits. Nats use the natural logarithm"
        ),
        Misconception(
            "mean over classes",
            kl_mean_over_classes,
            "exactly C times too small: p already holds the weights of a mean, so sum over the classes",
        ),
        Misconception(
            "anything taken for probabilities",
            anything_for_probabilities,
            "right for distributions, but you take vectors that sum to something else. Gibbs' inequality then has no "
            "ground to stand on, and the 'divergence' can be negative",
        ),
    ),
    shows="KL is the excess surprise of a belief, zero only for the truth, and means something for distributions only.",
    derivation="KL(p ‖ q) = Σ p (-ln q) - Σ p (-ln p): the surprise under q less the one that cannot be avoided.",
    gradients=(),
)

# --- 03.2 -------------------------------------------------------------------------------------------------------------


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
    why, *bad = unequal()
    sure = torch.tensor([[3000.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    ordinary = [case(s, t, temperature=T) for (s, t), T in zip(pairs(), (2.0, 4.0, 3.0), strict=True)]
    return [*ordinary, case(sure, sure.flip(-1), temperature=1.5), refusal(why, *bad, temperature=2.0)]


_KD = "kdcourse.losses.kd_loss"
KD_LOSS = Exercise(
    id="03.2",
    title="the distillation loss",
    question=(
        r"Write `my_kd_loss(student_logits, teacher_logits, *, temperature)`: $T^2 \cdot \mathrm{KL}(p_t\,\|\,p_s)$, "
        "averaged over all leading dimensions of logits (…, C), as a tensor without dimensions. The student gets a "
        f"gradient, the teacher none. Very large logits must not give infinities. {REFUSES_SHAPES}"
    ),
    skeleton=(
        "def my_kd_loss(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · KL(p_t ‖ p_s), the mean over examples."""\n    ...'
    ),
    reference=kd_loss,
    alternatives=(kd_by_kl_div, kd_by_cross_entropy, kd_in_float32),
    cases=kd_cases,
    hints=(
        "Which of the two weights the logarithms? And over what do you sum, over what do you average?",
        "Take `F.log_softmax` of both at temperature T, and detach the teacher. Sum over classes, average "
        "over the rest.",
        "`(log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=-1).mean() * temperature**2`.",
    ),
    misconceptions=(
        Misconception(
            "the default reduction",
            default_reduction,
            "exactly C times too small: you average over classes too. The default `reduction='mean'` of KLDivLoss "
            "divides by N·C. Sum over classes, then average over examples, or the label term drowns the teacher",
            _KD,
        ),
        Misconception(
            "batchmean on sequences",
            batchmean_on_sequences,
            "right for logits (N, C), L times too large for sequences (N, L, C): `batchmean` divides by the first "
            "dimension only, so the loss grows with the length. Divide by every leading dimension",
            _KD,
        ),
        Misconception(
            "summed over the batch",
            summed_over_the_batch,
            "you sum over the examples. Then the loss, and with it the step, grows with the batch size. Take the mean",
            _KD,
        ),
        Misconception(
            "T² left out",
            without_t_squared,
            "T² is missing. The gradient shrinks like 1/T², so whoever tunes the temperature also tunes the balance "
            "with the label term, without knowing it",
            _KD,
        ),
        Misconception(
            "T for T²",
            t_once,
            "you multiply by T, not T². One factor 1/T comes from the chain rule, the other from probabilities that "
            "become alike",
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
            "only the teacher is softened. The student would have to be flat at T = 1 to agree: both are divided by T. "
            "Test: equal logits must cost nothing",
            _KD,
        ),
        Misconception(
            "probabilities for log-probabilities",
            probabilities_for_log_probabilities,
            "`F.kl_div` wants the student as *log*-probabilities, and got probabilities. No error is raised. But equal "
            "logits do not give zero, and the value can be negative",
            _KD,
        ),
        Misconception(
            "arguments swapped",
            arguments_swapped,
            "this is KL(p_s ‖ p_t): the student weights the logarithms. The teacher is the truth here. "
            "`F.kl_div` takes "
            "the student first, which looks like the other order",
            _KD,
        ),
        Misconception(
            "a network against itself",
            teacher_against_teacher,
            "your loss compares a network with itself. It is zero always: training runs, and the student learns "
            "nothing from it",
            _KD,
        ),
        Misconception(
            "student and teacher swapped",
            roles_swapped,
            "student and teacher have changed places: the gradient flows to the teacher, and the student, detached, "
            "never moves. The student comes first in this course",
            _KD,
        ),
        Misconception(
            "teacher not detached",
            teacher_not_detached,
            "the value is right, but the teacher gets a gradient too. In an optimizer that holds it, it would drift "
            "towards the student. Detach it",
            _KD,
        ),
        Misconception(
            "logarithm of softmax",
            softmax_then_log,
            "right for small logits. A confident student's probability rounds to 0, its logarithm is minus infinity, "
            "the loss infinite and the gradient no number. Use `F.log_softmax`",
            _KD,
        ),
        Misconception(
            "binary cross-entropy over classes",
            binary_over_classes,
            "you add up a binary cross-entropy for every class, with its term for 'not this class'. Softmax already "
            "makes the classes exclude one another: Σ p_t (ln p_t - ln p_s) is all",
            _KD,
        ),
        Misconception(
            "minus sign missing",
            minus_sign_missing,
            "this is Σ p_t ln p_s, a cross-entropy without its minus sign. Whoever minimises it drives the student "
            "away from the teacher",
            _KD,
        ),
        Misconception(
            "cross-entropy for divergence",
            teacher_entropy_kept_out,
            "the gradient is right, the value is not: this is the cross-entropy, the divergence plus the teacher's "
            "entropy. It trains alike, but it is not zero when the student has arrived",
            _KD,
        ),
        Misconception(
            "softmax over the batch",
            softmax_over_the_batch,
            "softmax over dimension 0 makes images compete with one another. Classes are the last dimension",
            _KD,
        ),
    ),
    shows="the loss sums over classes, averages over examples, reads both networks and teaches only one.",
    derivation=(
        "KL(p_t ‖ p_s) = Σ_k p_t,k (ln p_t,k - ln p_s,k) with p = softmax(z / T). Its gradient is (p_s - p_t)/T, and "
        "p_s - p_t itself shrinks like 1/T: T² undoes both. Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531."
    ),
    gradients=(0, 1),
    forbidden=(_KD, "kdcourse.losses.logits.kd_formula"),
    points=2,
)

# --- 03.3 -------------------------------------------------------------------------------------------------------------


def kd_gradient(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    p_s = F.softmax(student_logits / temperature, dim=-1)
    p_t = F.softmax(teacher_logits / temperature, dim=-1)
    return temperature * (p_s - p_t) / len(student_logits)


def gradient_by_autograd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    leaf = student_logits.detach().clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(kd_loss(leaf, teacher_logits, temperature=temperature), leaf)[0]


def gradient_by_rows(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    rows = zip(student_logits, teacher_logits, strict=True)
    found = [F.softmax(s / temperature, dim=0) - F.softmax(t / temperature, dim=0) for s, t in rows]
    return torch.stack(found) / len(found) * temperature


def gradient_without_t_squared(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_gradient(s, t, temperature=temperature) / temperature**2


def gradient_without_chain_rule(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_gradient(s, t, temperature=temperature) * temperature


def gradient_uphill(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return -kd_gradient(s, t, temperature=temperature)


def gradient_of_the_sum(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_gradient(s, t, temperature=temperature) * len(s)


def gradient_at_one(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature * kd_gradient(s, t, temperature=1.0)


def gradient_cases() -> list[Case]:
    why, *bad = unequal()
    first, second, _ = pairs()
    return [
        case(*first, temperature=2.0),
        case(*second, temperature=3.0),
        refusal(why, *bad, temperature=2.0),
    ]


KD_GRADIENT = Exercise(
    id="03.3",
    title="its gradient, by hand",
    question=(
        "Write `my_kd_gradient(student_logits, teacher_logits, *, temperature)`: the gradient of the loss of "
        "exercise 03.2 "
        f"with respect to the student's logits (N, C), as a formula. {REFUSES_SHAPES}"
    ),
    skeleton=(
        "def my_kd_gradient(student_logits, teacher_logits, *, temperature):\n"
        '    """Gradient of T² · KL, the mean over N examples, with respect to the student."""\n    ...'
    ),
    reference=kd_gradient,
    alternatives=(gradient_by_autograd, gradient_by_rows),
    cases=gradient_cases,
    hints=(
        "Begin with the gradient for one image and without T². Then put the factors on.",
        "For one image KL has the gradient (p_s - p_t) / T. Multiply by T², and divide by the number of images.",
        "`temperature * (p_s - p_t) / len(student_logits)`, both softened at T.",
    ),
    misconceptions=(
        Misconception(
            "T² left out",
            gradient_without_t_squared,
            "this is the gradient of KL without the T² in front of the loss: T²/T = T belongs there",
        ),
        Misconception(
            "inner derivative forgotten",
            gradient_without_chain_rule,
            "T times too large: the derivative of z / T is 1/T, so of T² only one T is left",
        ),
        Misconception(
            "sign reversed",
            gradient_uphill,
            "the sign is reversed. Where the student gives a class too much, the gradient is positive, and the step "
            "against it makes the logit smaller",
        ),
        Misconception(
            "mean over examples forgotten",
            gradient_of_the_sum,
            "exactly N times too large: the loss is a mean over examples, so each gets 1/N of the gradient",
        ),
        Misconception(
            "probabilities at temperature one",
            gradient_at_one,
            "your probabilities are those at T = 1. Both are softened at T",
        ),
    ),
    shows="the student is pulled by the plain difference of probabilities, times T/N.",
    derivation=(
        "∂ln p_k/∂z_i = ([k=i] - p_i)/T. Weighted with p_t and summed: ∂KL/∂z_i = (p_s,i - p_t,i)/T. Times T²/N."
    ),
)

# --- 03.4 -------------------------------------------------------------------------------------------------------------


def logit_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    difference = student_logits - teacher_logits.detach()
    centred = difference - difference.mean(dim=-1, keepdim=True)
    return 0.5 * centred.square().mean()


def mse_by_variance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    return (student_logits - teacher_logits.detach()).var(dim=-1, correction=0).mean() / 2


def mse_by_library(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    check_shapes(student_logits, teacher_logits)
    student, teacher = (z - z.mean(dim=-1, keepdim=True) for z in (student_logits, teacher_logits.detach()))
    return F.mse_loss(student, teacher, reduction="sum") / (2 * student.numel())


def not_centred(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    return 0.5 * F.mse_loss(s, t.detach())


def plain_mean_square(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    return F.mse_loss(s, t.detach())


def not_halved(s: Tensor, t: Tensor) -> Tensor:
    return 2 * logit_mse(s, t)


def summed_over_classes(s: Tensor, t: Tensor) -> Tensor:
    return s.shape[-1] * logit_mse(s, t)


def relu_on_logits(s: Tensor, t: Tensor) -> Tensor:
    return logit_mse(F.relu(s), F.relu(t))


def mse_to_the_teacher(s: Tensor, t: Tensor) -> Tensor:
    return logit_mse(t, s)


def mse_to_both(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    return (s - t).var(dim=-1, correction=0).mean() / 2


def mse_cases() -> list[Case]:
    why, *bad = unequal()
    return [*(case(s, t) for s, t in pairs()), refusal(why, *bad)]


_MSE = "kdcourse.losses.logit_mse_loss"
LOGIT_MSE = Exercise(
    id="03.4",
    title="matching logits",
    question=(
        "Write `my_logit_mse(student_logits, teacher_logits)`, the limit of the distillation loss for T → ∞: half the "
        r"squared distance of the *centred* logits, $\frac{1}{2C} \sum_k (\tilde z_{s,k} - \tilde z_{t,k})^2$, "
        f"averaged over all leading dimensions. Only the student gets a gradient. {REFUSES_SHAPES}"
    ),
    skeleton=(
        "def my_logit_mse(student_logits, teacher_logits):\n"
        '    """Half the mean squared distance of centred logits."""\n    ...'
    ),
    reference=logit_mse,
    alternatives=(mse_by_variance, mse_by_library),
    cases=mse_cases,
    hints=(
        "What may be added to all logits of a row without changing any probability? The loss must not notice it.",
        "Subtract each row's mean over its classes, from the difference or from both.",
        "`d = student - teacher.detach()`; `0.5 * (d - d.mean(dim=-1, keepdim=True)).square().mean()`.",
    ),
    misconceptions=(
        Misconception(
            "not centred",
            not_centred,
            "you compare the bare logits. Adding 5 to every logit of a row changes no probability, but it changes your "
            "loss: subtract each row's mean",
            _MSE,
        ),
        Misconception(
            "the plain mean square",
            plain_mean_square,
            "this is the plain mean squared error. Two things are missing: centre each row, so that a shift which "
            "softmax cannot see costs nothing, and halve it",
            _MSE,
        ),
        Misconception(
            "not halved",
            not_halved,
            "exactly twice too large. The limit has the factor 1/(2C), so that its gradient has 1/C",
            _MSE,
        ),
        Misconception(
            "summed over classes",
            summed_over_classes,
            "exactly C times too large: divide by the number of classes, as in the limit of the distillation loss",
            _MSE,
        ),
        Misconception(
            "ReLU on the logits",
            relu_on_logits,
            "you put the logits through a ReLU. Negative logits carry what a class is *not*; with them cut "
            "off, classes "
            "die and get no gradient any more",
            _MSE,
        ),
        Misconception(
            "student and teacher swapped",
            mse_to_the_teacher,
            "the value is right, because a square looks the same from both sides. But the gradient flows to the "
            "teacher, and the student never moves",
            _MSE,
        ),
        Misconception(
            "teacher not detached",
            mse_to_both,
            "the value is right, but the teacher gets a gradient too. Detach it, or it will move towards the student",
            _MSE,
        ),
    ),
    shows="at very high temperature distillation compares logits, up to the shift that softmax cannot see.",
    derivation=(
        "For large T, p_k ≈ (1 + z̃_k/T)/C, so T (p_s - p_t) → (z̃_s - z̃_t)/C, which is the gradient of "
        "Σ (z̃_s - z̃_t)²/2C. Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.1."
    ),
    gradients=(0, 1),
    forbidden=(_MSE,),
)

# --- 03.5 -------------------------------------------------------------------------------------------------------------


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
REVERSE = Exercise(
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

# --- 03.6 -------------------------------------------------------------------------------------------------------------


def log_softmax(logits: Tensor) -> Tensor:
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def log_softmax_detached_shift(logits: Tensor) -> Tensor:
    m = logits.max(dim=-1, keepdim=True).values.detach()
    return logits - (m + (logits - m).exp().sum(dim=-1, keepdim=True).log())


def log_softmax_pairwise(logits: Tensor) -> Tensor:
    total = logits[..., :1]
    for place in range(1, logits.shape[-1]):
        total = torch.logaddexp(total, logits[..., place : place + 1])
    return logits - total


def log_of_softmax(logits: Tensor) -> Tensor:
    return F.softmax(logits, dim=-1).log()


def bare_exponential(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(dim=-1, keepdim=True).log()


def epsilon_added(logits: Tensor) -> Tensor:
    return (F.softmax(logits, dim=-1) + 1e-8).log()


def largest_of_the_batch(logits: Tensor) -> Tensor:
    shifted = logits - logits.max()
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def largest_not_given_back(logits: Tensor) -> Tensor:
    m = logits.amax(dim=-1, keepdim=True)
    return logits - (logits - m).exp().sum(dim=-1, keepdim=True).log()


def log_softmax_cases() -> list[Case]:
    small = torch.tensor([[1.0, 3.0, 0.0]], dtype=torch.float64)
    large = torch.tensor([[2000.0, 0.0, 1.0], [-1500.0, -1500.0, -1501.0]], dtype=torch.float64)
    return [case(small), case(draw(2, 3, 4, seed=16)), case(large)]


LOG_SOFTMAX = Exercise(
    id="03.6",
    title="a logarithm that never sees zero",
    question=(
        "Write `my_log_softmax(logits)` over the last dimension, for logits (…, C) as large as you like, "
        "from `exp`, `log`, `sum` and `max` alone. Value *and* gradient must stay finite."
    ),
    skeleton='def my_log_softmax(logits):\n    """ln softmax(logits), classes last, without overflow."""\n    ...',
    reference=log_softmax,
    alternatives=(log_softmax_detached_shift, log_softmax_pairwise),
    cases=log_softmax_cases,
    hints=(
        "Softmax does not notice a shift of a row. Which shift makes every exponent harmless?",
        "Subtract the row's largest logit. Then the sum of exponentials lies between 1 and C.",
        "`shifted = logits - logits.amax(dim=-1, keepdim=True)`, less the log of the sum of `shifted.exp()`.",
    ),
    misconceptions=(
        Misconception(
            "logarithm of softmax",
            log_of_softmax,
            "right for small logits. For a confident network softmax rounds to 0, the logarithm is minus infinity, "
            "and the gradient is no number: one such image ends the training. Never form the probability",
        ),
        Misconception(
            "exponential of the bare logits",
            bare_exponential,
            "right for small logits, but exp(2000) is infinite, and for -1500 every exponential is 0. Subtract the "
            "row's largest logit first",
        ),
        Misconception(
            "a small number added",
            epsilon_added,
            "a small number inside the logarithm hides the infinity and bends everything else: no class can be less "
            "likely than that number, and there the gradient vanishes just where it is needed most",
        ),
        Misconception(
            "the largest of the whole batch",
            largest_of_the_batch,
            "you subtract the largest logit of the whole batch. A row far below it underflows: each row needs its own "
            "(`dim=-1, keepdim=True`)",
        ),
        Misconception(
            "the largest not given back",
            largest_not_given_back,
            "you subtract the largest logit inside the exponential and do not give it back outside: "
            "ln Σ exp(z) = m + ln Σ exp(z - m)",
        ),
    ),
    shows="with the largest logit taken off, nothing overflows and the logarithm never sees a zero.",
    derivation="ln p_k = z_k - ln Σ exp(z_j) = (z_k - m) - ln Σ exp(z_j - m). One term of the sum is exp(0) = 1.",
    gradients=(0,),
    forbidden=(
        "torch.log_softmax",
        "torch.nn.functional.log_softmax",
        "torch.logsumexp",
        "torch.Tensor.log_softmax",
        "torch.Tensor.logsumexp",
        "torch.nn.functional.cross_entropy",
    ),
)

EXERCISES = (KL, KD_LOSS, KD_GRADIENT, LOGIT_MSE, REVERSE, LOG_SOFTMAX)
