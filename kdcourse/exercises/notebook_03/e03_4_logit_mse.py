"""03.4 matching logits."""

import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case
from .common import REFUSES_SHAPES, check_shapes, drawn_pair, pairs, refusals


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


def summed_over_everything(s: Tensor, t: Tensor) -> Tensor:
    return s.numel() * logit_mse(s, t)


def divided_by_the_rows_summed(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    return (s - t.detach()).var(dim=-1).mean() / 2


def centred_over_dimension_zero(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    return (s - t.detach()).var(dim=0, correction=0).mean() / 2


def centred_over_dimension_one(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    return (s - t.detach()).var(dim=1, correction=0).mean() / 2


def centred_by_one_mean(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    return (s - t.detach()).var(correction=0) / 2


def probabilities_compared(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    return 0.5 * F.mse_loss(s.softmax(dim=-1), t.detach().softmax(dim=-1))


def root_of_the_mean(s: Tensor, t: Tensor) -> Tensor:
    return logit_mse(s, t).sqrt()


def absolute_distance(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    difference = s - t.detach()
    return 0.5 * (difference - difference.mean(dim=-1, keepdim=True)).abs().mean()


def only_the_student_centred(s: Tensor, t: Tensor) -> Tensor:
    check_shapes(s, t)
    return 0.5 * F.mse_loss(s - s.mean(dim=-1, keepdim=True), t.detach())


def mse_cases() -> list[Case]:
    return [*(case(s, t) for s, t in pairs()), *refusals()]


_MSE = "kdcourse.losses.logit_mse_loss"
EXERCISE = Exercise(
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
    drawn=lambda g: case(*drawn_pair(g)),
    hints=(
        "What can be added to all logits of a row without changing any probability? The loss must not change either.",
        "Subtract each row's mean over the classes, from the difference or from both.",
        "`d = student - teacher.detach()`; `0.5 * (d - d.mean(dim=-1, keepdim=True)).square().mean()`.",
    ),
    misconceptions=(
        Misconception(
            "not centred",
            not_centred,
            "you compare the raw logits. Adding 5 to every logit of a row changes no probability, but it changes "
            "your loss: subtract each row's mean",
            _MSE,
        ),
        Misconception(
            "the plain mean square",
            plain_mean_square,
            "this is the plain mean squared error. Two things are missing: centre each row, so that a shift that "
            "does not change softmax costs nothing, and halve it",
            _MSE,
        ),
        Misconception(
            "not halved",
            not_halved,
            "exactly twice as large. The limit has the factor 1/(2C), so that its gradient has 1/C",
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
            "you apply a ReLU to the logits. Negative logits say what an image is *not*; without them, classes die "
            "and get no gradient",
            _MSE,
        ),
        Misconception(
            "student and teacher swapped",
            mse_to_the_teacher,
            "the value is correct, because a square is symmetric. But the gradient flows to the teacher, and the "
            "student never changes",
            _MSE,
        ),
        Misconception(
            "teacher not detached",
            mse_to_both,
            "the value is correct, but the teacher gets a gradient too. Detach it, or it will drift towards the "
            "student",
            _MSE,
        ),
        Misconception(
            "summed over everything",
            summed_over_everything,
            "you sum over rows and classes. The loss then grows with the batch: take the mean over both",
        ),
        Misconception(
            "C - 1 instead of C",
            divided_by_the_rows_summed,
            "you divide by C - 1: by default `var` and `std` in PyTorch are those of a sample. Divide by C here "
            "(`correction=0`)",
        ),
        Misconception(
            "centred over dimension zero",
            centred_over_dimension_zero,
            "you subtract means over dimension 0, the batch. Softmax ignores a shift of a row: take the mean over "
            "the classes, `dim=-1`",
        ),
        Misconception(
            "centred over dimension one",
            centred_over_dimension_one,
            "correct for logits (N, C), but dimension 1 of sequences (N, L, C) is the position. Take the mean over "
            "the classes, `dim=-1`",
        ),
        Misconception(
            "centred by one mean",
            centred_by_one_mean,
            "you subtract one mean of the whole batch. Each row has its own shift: `dim=-1, keepdim=True`",
        ),
        Misconception(
            "probabilities compared",
            probabilities_compared,
            "you compare probabilities. Compare the *logits*, centred row by row",
        ),
        Misconception(
            "root of the mean square",
            root_of_the_mean,
            "this is the square root of the result. Its gradient is not linear in the distance: leave out the root",
        ),
        Misconception(
            "absolute distance",
            absolute_distance,
            "you take absolute values instead of squares",
        ),
        Misconception(
            "only the student centred",
            only_the_student_centred,
            "you centre the student's logits but not the teacher's. A shift of the teacher's row then changes the "
            "loss although it changes no probability: centre both, or the difference",
        ),
    ),
    shows="at very high temperature distillation compares logits, up to a shift that softmax ignores.",
    derivation=(
        "For large T, p_k ≈ (1 + z̃_k/T)/C, so T (p_s - p_t) → (z̃_s - z̃_t)/C, which is the gradient of "
        "Σ (z̃_s - z̃_t)²/2C. Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.1."
    ),
    gradients=(0, 1),
    forbidden=(_MSE,),
)
