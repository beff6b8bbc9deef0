"""10.03 a divergence below zero."""

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


def probabilities_for_logarithms(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    p_s, p_t = softened(s, temperature)[0], softened(t, temperature)[0]
    return temperature**2 * F.kl_div(p_s, p_t, reduction="batchmean")


def logarithms_for_probabilities(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    log_p_s, log_p_t = softened(s, temperature)[1], softened(t, temperature)[1]
    return temperature**2 * F.kl_div(log_p_s, log_p_t, reduction="batchmean")


def bare_logits(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return temperature**2 * F.kl_div(s / temperature, softened(t, temperature)[0], reduction="batchmean")


def arguments_swapped(s: Tensor, t: Tensor, *, temperature: float) -> Tensor:
    return soft_loss(t, s, temperature=temperature)


EXERCISE = Exercise(
    id="10.03",
    title="a divergence below zero",
    question=(
        f"Fix `case_3` as `fixed_3(student_logits, teacher_logits, *, temperature)`: {SOFT_LINES}. {GRADIENT_TOO}"
    ),
    skeleton=(
        "def fixed_3(student_logits, teacher_logits, *, temperature):\n"
        '    """T² · KL(p_t ‖ p_s), the mean over examples."""\n    ...'
    ),
    reference=soft_loss,
    alternatives=(soft_loss_log_target, soft_loss_by_definition),
    cases=soft_cases,
    drawn=drawn_soft_case,
    hints=(
        "A divergence is never negative, so this is not one. What does `kl_div` expect?",
        "Its first argument is the student, as log-probabilities; its second the teacher, as probabilities.",
        "`F.log_softmax` for the student, `F.softmax` for the teacher.",
    ),
    misconceptions=(
        Misconception(
            "probabilities for log-probabilities",
            probabilities_for_logarithms,
            "you pass the student's probabilities where `kl_div` wants log-probabilities. It treats a probability as a "
            "logarithm, so identical networks get something other than zero",
        ),
        Misconception(
            "log-probabilities twice",
            logarithms_for_probabilities,
            "now both are log-probabilities. The second must be probabilities, unless you say `log_target=True`; "
            "the logarithm of a negative number is NaN",
        ),
        Misconception(
            "bare logits",
            bare_logits,
            "the student's logits are not log-probabilities: without the normalizer a shift of all logits changes the "
            "loss, and minimising it pushes them up without limit",
        ),
        Misconception(
            "arguments swapped",
            arguments_swapped,
            "this is KL(p_s ‖ p_t). `kl_div` takes the student first although it comes last in the formula",
        ),
    ),
    shows="a divergence is zero for equal distributions and never negative: two tests that need no known value.",
    derivation="`kl_div(input, target)` computes target · (ln target - input): the input must already be a logarithm.",
    gradients=(0,),
)
