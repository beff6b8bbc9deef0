"""10.05 a loss that becomes NaN."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case
from .common import (
    GRADIENT_TOO,
    SOFT_LINES,
    drawn_soft_case,
    soft_loss,
    soft_loss_by_definition,
    soft_loss_log_target,
    softened,
)


def log_of_softmax_loss(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    p_s, p_t = softened(s, temperature)[0], softened(t, temperature)[0]
    return temperature**2 * (p_t * (p_t.log() - p_s.log())).sum(dim=1).mean()


def _with_logarithm(s: Tensor, t: Tensor, temperature: float, log_p_s: Tensor) -> Tensor:
    p_t, log_p_t = softened(t, temperature)
    return temperature**2 * (p_t * (log_p_t - log_p_s)).sum(dim=1).mean()


def epsilon_inside(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _with_logarithm(s, t, temperature, (softened(s, temperature)[0] + 1e-8).log())


def probability_clamped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _with_logarithm(s, t, temperature, softened(s, temperature)[0].clamp(min=1e-8).log())


def logarithm_clamped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return _with_logarithm(s, t, temperature, softened(s, temperature)[1].clamp(min=-100))


def safe_cases() -> list[Case]:
    far = torch.tensor([[1000.0, 0.0]], dtype=torch.float64)
    level, sure = torch.zeros_like(far), torch.tensor([[17.7, 0.0]], dtype=torch.float64)
    return [
        case(level, sure, temperature=2.0),
        case(sure, level, temperature=1.0),
        case(far, far.flip(1), temperature=1.0),
        case(torch.cat([far, level, sure]), torch.cat([level, sure, sure.flip(1)]), temperature=3.0),
    ]


EXERCISE = Exercise(
    id="10.05",
    title="a loss that becomes NaN",
    question=(
        "Fix `case_5` as `fixed_5(student_logits, teacher_logits, *, temperature)`: "
        f"{SOFT_LINES}, finite. {GRADIENT_TOO}"
    ),
    skeleton=(
        "def fixed_5(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · KL(p_t ‖ p_s), finite however confident the two are."""\n    ...'
    ),
    reference=soft_loss_by_definition,
    alternatives=(soft_loss, soft_loss_log_target),
    cases=safe_cases,
    drawn=drawn_soft_case,
    hints=(
        "What does softmax return for logits that are far apart? And what are the logarithms of that?",
        "A probability that has rounded to 0 is lost. The logarithm must be taken before that happens.",
        "`F.log_softmax` goes from logits to log-probabilities without passing through the probabilities.",
    ),
    misconceptions=(
        Misconception(
            "log of softmax",
            log_of_softmax_loss,
            "a probability rounds to 0, its logarithm is infinite, and the gradient NaN. Use `log_softmax`, "
            "which never computes the probability",
        ),
        Misconception(
            "an epsilon inside",
            epsilon_inside,
            "an epsilon hides the infinity but does not cure it: the loss stops growing, and where the student is most "
            "wrong its gradient is zero",
        ),
        Misconception(
            "the probability clamped",
            probability_clamped,
            "clamping the probability hides the infinity, and sets the gradient to zero exactly where the student is "
            "most wrong",
        ),
        Misconception(
            "the logarithm clamped",
            logarithm_clamped,
            "`log_softmax` is right; the clamp after it is not needed, and sets to zero the gradient of a very wrong "
            "student",
        ),
    ),
    shows="a student learns most from its most confident mistakes, so the logarithm must survive them.",
    derivation="ln p_k = z_k - m - ln Σ e^(z_j - m) with m the largest logit: no overflow, and no logarithm of zero.",
    gradients=(0,),
)
