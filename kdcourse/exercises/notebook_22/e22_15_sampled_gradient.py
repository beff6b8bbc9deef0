"""22.15 a right value with the gradient of another loss."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

BOTH = "The value and its gradient with respect to the student's logits are compared"


def sampled_divergence(student_logits: Tensor, teacher_logits: Tensor, draws: Tensor) -> Tensor:
    log_p_s = student_logits.log_softmax(dim=1).gather(1, draws)
    log_p_t = teacher_logits.log_softmax(dim=1).gather(1, draws)
    ratio = (log_p_t - log_p_s).detach()
    value = (ratio.exp() - 1 - ratio).mean()
    slope = (-ratio * log_p_s).mean()
    return value + slope - slope.detach()


def by_half_a_square(student_logits: Tensor, teacher_logits: Tensor, draws: Tensor) -> Tensor:
    d = (student_logits.log_softmax(-1) - teacher_logits.log_softmax(-1).detach()).gather(-1, draws)
    half = d.square().mean() / 2
    with torch.no_grad():
        rest = (torch.expm1(-d) + d).mean() - half
    return half + rest


def draw_by_draw(student_logits: Tensor, teacher_logits: Tensor, draws: Tensor) -> Tensor:
    values, slopes = [], []
    for row, tokens in enumerate(draws.tolist()):
        s, t = student_logits[row].log_softmax(0), teacher_logits[row].log_softmax(0)
        for token in tokens:
            difference = float((s[token] - t[token]).detach())
            values.append(torch.tensor(-difference, dtype=s.dtype).exp() - 1 + difference)
            slopes.append(difference * (s[token] - s[token].detach()))
    return torch.stack(values).mean() + torch.stack(slopes).mean()


def by_both_terms(student_logits: Tensor, teacher_logits: Tensor, draws: Tensor) -> Tensor:
    log_p_s, log_p_t = (z.log_softmax(dim=1).gather(1, draws) for z in (student_logits, teacher_logits.detach()))
    estimate = (log_p_t - log_p_s).exp() - 1 - log_p_t + log_p_s
    return (estimate + estimate.detach() * (log_p_s - log_p_s.detach())).mean()


def _ratio(s: Tensor, t: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """ln p_s of the draws, and ln p_t - ln p_s."""
    log_p_s, log_p_t = (z.log_softmax(dim=1).gather(1, draws) for z in (s, t))
    return log_p_s, log_p_t - log_p_s


def _with_value_and_slope(value: Tensor, slope: Tensor) -> Tensor:
    return value.detach() + slope - slope.detach()


def _k3(ratio: Tensor) -> Tensor:
    return ratio.exp() - 1 - ratio


def differentiated(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    return _k3(_ratio(s, t, draws)[1]).mean()


def logarithm_differentiated(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    log_p_s, ratio = _ratio(s, t, draws)
    return _with_value_and_slope(_k3(ratio).mean(), -ratio.mean())


def plain_value(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    log_p_s, ratio = _ratio(s, t, draws)
    return _with_value_and_slope(-ratio.mean(), (-ratio.detach() * log_p_s).mean())


def half_squares(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    return _ratio(s, t, draws)[1].square().mean() / 2


def weighted_by_the_estimate(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    log_p_s, ratio = _ratio(s, t, draws)
    return _with_value_and_slope(_k3(ratio).mean(), (_k3(ratio).detach() * log_p_s).mean())


def one_too_many(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    log_p_s, ratio = _ratio(s, t, draws)
    return _with_value_and_slope(_k3(ratio).mean(), ((1 - ratio.detach()) * log_p_s).mean())


def upside_down(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    log_p_s, ratio = _ratio(s, t, draws)
    return _with_value_and_slope(_k3(ratio).mean(), (ratio.detach() * log_p_s).mean())


def weight_attached(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    log_p_s, ratio = _ratio(s, t, draws)
    return _with_value_and_slope(_k3(ratio).mean(), (-ratio * log_p_s).mean())


def summed(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    return sampled_divergence(s, t, draws) * draws.numel()


def per_position(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    return sampled_divergence(s, t, draws) * draws.shape[1]


def ratio_upside_down(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    log_p_s, ratio = _ratio(s, t, draws)
    return _with_value_and_slope(_k3(-ratio).mean(), (-ratio.detach() * log_p_s).mean())


def the_whole_vocabulary(s: Tensor, t: Tensor, draws: Tensor) -> Tensor:
    log_p_s, log_p_t = s.log_softmax(dim=1), t.log_softmax(dim=1)
    return (log_p_s.exp() * (log_p_s - log_p_t)).sum(dim=1).mean()


def draws_of(logits: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(logits.softmax(dim=1), count, replacement=True, generator=generator)


def sampled_case(shape: tuple[int, int], count: int, generator: torch.Generator) -> Case:
    s, t = draw(*shape, seed=generator, spread=1.0), draw(*shape, seed=generator, spread=1.0)
    return case(s, t, draws_of(s, count, generator))


def sampled_cases() -> list[Case]:
    g = torch.Generator().manual_seed(390)
    small = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
    return [
        case(small, small.flip(1) / 2, torch.tensor([[0]])),
        case(small, small.flip(1), torch.tensor([[0, 2, 0]])),
        sampled_case((2, 4), 3, g),
        sampled_case((3, 6), 5, g),
    ]


def drawn_sample(g: torch.Generator) -> Case:
    return sampled_case((integer(g, 1, 4), integer(g, 2, 6)), integer(g, 2, 5), g)


EXERCISE = Exercise(
    id="22.15",
    title="a right value with the gradient of another loss",
    question=(
        "A student wrote its own text: at each of N positions `draws` (N, k) holds k tokens drawn from p_s. Fix "
        "`case_15` as `fixed_15(student_logits, teacher_logits, draws)` for logits (N, V). With "
        "r = p_t(x) / p_s(x) of a drawn token x, the *value* is the mean over all draws of r - 1 - ln r, an estimate "
        "of KL(p_s ‖ p_t). Its *gradient* is to be an estimate of the gradient of that divergence: the mean over all "
        "draws of (ln p_s(x) - ln p_t(x)) · ∇ ln p_s(x), where the bracket is a number without gradient. "
        f"{BOTH}."
    ),
    skeleton=(
        "def fixed_15(student_logits, teacher_logits, draws):\n"
        '    """An estimate of KL(p_s ‖ p_t), whose gradient is one of its gradient."""\n    ...'
    ),
    reference=sampled_divergence,
    alternatives=(by_half_a_square, draw_by_draw, by_both_terms),
    cases=sampled_cases,
    drawn=drawn_sample,
    hints=(
        "The draws come from p_s. If p_s changes, what else changes besides r?",
        "`backward` differentiates r - 1 - ln r for fixed draws. In the mean that is the gradient of KL(p_t ‖ p_s).",
        "`value.detach() + slope - slope.detach()` has the value of one and the gradient of the other; "
        "`slope = ((log_p_s - log_p_t).detach() * log_p_s).mean()`.",
    ),
    misconceptions=(
        Misconception(
            "the estimate differentiated",
            differentiated,
            "the value is right, but `backward` takes the draws for fixed. They come from the student, and that "
            "dependence is missing: in the mean this is the gradient of KL(p_t ‖ p_s), the other direction",
        ),
        Misconception(
            "the logarithm differentiated",
            logarithm_differentiated,
            "the gradient is the mean of ∇ ln p_s, which is 0 on average whatever the teacher is: only noise is left",
        ),
        Misconception(
            "another value",
            plain_value,
            "the gradient is right now, but the value is the mean of ln p_s - ln p_t. r - 1 - ln r has the same mean "
            "and is never negative",
        ),
        Misconception(
            "half the squares",
            half_squares,
            "this has the right gradient, but half the squared log-ratio is a biased value: use it for the gradient "
            "alone",
        ),
        Misconception(
            "weighted by the estimate",
            weighted_by_the_estimate,
            "the weight of ∇ ln p_s is r - 1 - ln r. That estimate depends on the student itself, so this term alone "
            "is not the gradient. With ln p_s - ln p_t as the weight it is",
        ),
        Misconception(
            "one too many",
            one_too_many,
            "d(p ln p) gives ln p + 1, but the 1 has the mean 0, as E ∇ ln p_s = 0: it adds noise and nothing else",
        ),
        Misconception(
            "the wrong sign",
            upside_down,
            "the sign of the weight is reversed: the student would move away from the teacher",
        ),
        Misconception(
            "weight with a gradient",
            weight_attached,
            "the weight has a gradient of its own here: detach it, or a second term joins",
        ),
        Misconception(
            "summed",
            summed,
            "you sum over the draws: take the mean over all N · k",
        ),
        Misconception(
            "mean over the positions alone",
            per_position,
            "you divide by N and not by N · k: with more draws the loss grows",
        ),
        Misconception(
            "the ratio upside down",
            ratio_upside_down,
            "the ratio of the value is upside down: r is p_t / p_s, as the draws come from p_s",
        ),
        Misconception(
            "the whole vocabulary",
            the_whole_vocabulary,
            "this is the exact divergence over the whole vocabulary. Only the drawn tokens are to be used",
        ),
    ),
    shows="the gradient of an estimate need not be an estimate of the gradient.",
    derivation=(
        "∇ Σ p_s f = Σ p_s (f ∇ ln p_s + ∇ f). With f = ln(p_s / p_t) the second term is Σ ∇ p_s = 0, and the first is "
        "what is asked for. With f = r - 1 - ln r and fixed draws only the second is left: Σ p_s (1 - r) ∇ ln p_s = "
        "-Σ p_t ∇ ln p_s, the gradient of KL(p_t ‖ p_s)."
    ),
    gradients=(0,),
)
