"""03.3 its gradient, by hand."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case
from .common import REFUSES_SHAPES, check_shapes, drawn_pair, drawn_temperature, pairs, refusals
from .e03_2_kd_loss import kd_loss


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
    check_shapes(student_logits, teacher_logits)
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


def gradient_without_t(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_gradient(s, t, temperature=temperature) / temperature


def mean_over_classes_too(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_gradient(s, t, temperature=temperature) / s.shape[-1]


def gradient_over_the_batch(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    p_s, p_t = (F.softmax(z / temperature, dim=0) for z in (s, t))
    return temperature * (p_s - p_t) / len(s)


def gradient_to_the_hard_label(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    hard = F.one_hot(t.argmax(dim=-1), t.shape[-1])
    return temperature * (F.softmax(s / temperature, dim=-1) - hard) / len(s)


def gradient_of_the_teacher_at_one(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_gradient(s, t * temperature, temperature=temperature)


def gradient_of_multiplied_logits(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return kd_gradient(s, t, temperature=1 / temperature) * temperature**2


def difference_of_logits(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    check_shapes(s, t)
    return temperature * (s - t) / temperature / len(s)


def gradient_cases() -> list[Case]:
    first, second, _ = pairs()
    return [case(*first, temperature=1.5), case(*second, temperature=3.0), *refusals(temperature=2.0)]


EXERCISE = Exercise(
    id="03.3",
    title="its gradient, by hand",
    question=(
        "Write `my_kd_gradient(student_logits, teacher_logits, *, temperature)`: the gradient of the loss of "
        "exercise 03.2 with respect to the student's logits (N, C), as a tensor computed by a "
        f"formula. {REFUSES_SHAPES}"
    ),
    skeleton=(
        "def my_kd_gradient(student_logits, teacher_logits, *, temperature):\n"
        '    """Gradient of T² · KL, the mean over N examples, with respect to the student."""\n    ...'
    ),
    reference=kd_gradient,
    alternatives=(gradient_by_autograd, gradient_by_rows),
    cases=gradient_cases,
    drawn=lambda g: case(*drawn_pair(g, high=2), temperature=drawn_temperature(g)),
    hints=(
        "Start with the gradient for one image and without T². Then add the factors.",
        "For one image KL has the gradient (p_s - p_t) / T. Multiply by T², and divide by the number of images.",
        "`temperature * (p_s - p_t) / len(student_logits)`, both softened at T.",
    ),
    misconceptions=(
        Misconception(
            "T² left out",
            gradient_without_t_squared,
            "this is the gradient of KL without the T² in front of the loss: with it the factor is T²/T = T",
        ),
        Misconception(
            "inner derivative forgotten",
            gradient_without_chain_rule,
            "T times too large: the derivative of z / T is 1/T, so only one T of T² remains",
        ),
        Misconception(
            "sign reversed",
            gradient_uphill,
            "the sign is reversed. Where the student gives a class too much probability, the gradient is positive, "
            "and the step against it lowers the logit",
        ),
        Misconception(
            "mean over examples forgotten",
            gradient_of_the_sum,
            "exactly N times too large: the loss is a mean over examples, so each contributes 1/N of the gradient",
        ),
        Misconception(
            "probabilities at temperature one",
            gradient_at_one,
            "your probabilities are those at T = 1. Both are softened at T",
        ),
        Misconception(
            "T forgotten",
            gradient_without_t,
            "exactly T times too small: T² in front of the loss times 1/T from z / T leaves one T",
        ),
        Misconception(
            "mean over classes too",
            mean_over_classes_too,
            "exactly C times too small: the loss sums over the classes, so divide by the number of examples only",
        ),
        Misconception(
            "softmax over the batch",
            gradient_over_the_batch,
            "softmax over dimension 0 makes images compete with each other. Classes are the last dimension",
        ),
        Misconception(
            "the teacher's arg-max",
            gradient_to_the_hard_label,
            "you subtract the teacher's most likely class, a hard label. The loss uses its softened probabilities",
        ),
        Misconception(
            "teacher at temperature one",
            gradient_of_the_teacher_at_one,
            "the teacher's probabilities are those at T = 1. Both networks' logits are divided by T",
        ),
        Misconception(
            "logits multiplied by the temperature",
            gradient_of_multiplied_logits,
            "you multiply the logits by the temperature. That sharpens; softening divides",
        ),
        Misconception(
            "logits instead of probabilities",
            difference_of_logits,
            "this is the difference of the logits. The gradient is the difference of the softened *probabilities*",
        ),
    ),
    shows="the gradient is the difference of the probabilities, times T/N.",
    derivation=(
        "∂ln p_k/∂z_i = ([k=i] - p_i)/T. Weighted by p_t and summed: ∂KL/∂z_i = (p_s,i - p_t,i)/T. Times T²/N."
    ),
)
