"""10.01 a loss that shrinks with every added class."""

import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Exercise, Misconception
from .common import (
    GRADIENT_TOO,
    SOFT_LINES,
    drawn_soft_case,
    soft_cases,
    soft_loss,
    soft_loss_by_definition,
    soft_loss_log_target,
    softened,
)


def default_reduction(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    # PyTorch warns of reduction="mean"; the same by hand
    return temperature**2 * F.kl_div(softened(s, temperature)[1], softened(t, temperature)[0], reduction="none").mean()


def summed_over_the_batch(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return soft_loss(s, t, temperature=temperature) * len(s)


def times_the_batch_size(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return default_reduction(s, t, temperature=temperature) * len(s)


def mended_but_no_t_squared(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return soft_loss(s, t, temperature=temperature) / temperature**2


def softmax_over_the_batch(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return soft_loss(s.T, t.T, temperature=temperature) * s.shape[1] / len(s)


def t_squared_twice(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return soft_loss(s, t, temperature=temperature) * temperature**2


def arguments_swapped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return soft_loss(t, s, temperature=temperature)


EXERCISE = Exercise(
    id="10.01",
    title="a loss that shrinks with every added class",
    question=(
        f"Fix `case_1` as `fixed_1(student_logits, teacher_logits, *, temperature)`: {SOFT_LINES}. {GRADIENT_TOO}"
    ),
    skeleton=(
        "def fixed_1(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · KL(p_t ‖ p_s), the mean over examples."""\n    ...'
    ),
    reference=soft_loss,
    alternatives=(soft_loss_log_target, soft_loss_by_definition),
    cases=soft_cases,
    drawn=drawn_soft_case,
    hints=(
        "By what is the sum of all terms divided? Look up the default of the loss.",
        "`nn.KLDivLoss()` divides by N · C. Each added class makes the loss smaller.",
        '`nn.KLDivLoss(reduction="batchmean")` divides by N.',
    ),
    misconceptions=(
        Misconception(
            "the default reduction",
            default_reduction,
            "exactly C times too small: the default reduction divides by N · C. Divide by the number of examples",
        ),
        Misconception(
            "summed over the batch",
            summed_over_the_batch,
            "N times too large: you sum over the examples. Then the batch size is a hidden learning rate",
        ),
        Misconception(
            "multiplied by the wrong number",
            times_the_batch_size,
            "the mean over N · C numbers, times N, leaves a division by C. The factor that is missing is C",
        ),
        Misconception(
            "T² lost on the way",
            mended_but_no_t_squared,
            "the reduction is fixed, but T² is gone. It was right",
        ),
        Misconception(
            "softmax over the batch",
            softmax_over_the_batch,
            "the reduction is right now, but the softmax is taken over the batch. Take it over the classes, `dim=1`",
        ),
        Misconception(
            "T squared twice",
            t_squared_twice,
            "the reduction is right now, but T² appears twice",
        ),
        Misconception(
            "arguments swapped",
            arguments_swapped,
            "the reduction is right now, but student and teacher are swapped: this is KL(p_s ‖ p_t)",
        ),
    ),
    shows="a divergence is a sum over classes and a mean over examples.",
    derivation=(
        "KL = Σ_k p_k ln(p_k / q_k) already weights its terms by p_k. Dividing by C as well averages a second time."
    ),
    gradients=(0,),
)
