"""Wrong answers to 17.4, each with its diagnosis."""

import torch
from torch import Tensor

from ..engine.core import Misconception


def _logs(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return s.log_softmax(dim=-1), t.detach().log_softmax(dim=-1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def _mixture(log_one: Tensor, log_other: Tensor, weight: float) -> Tensor:
    """log(weight · one + (1 - weight) · other)."""
    w = torch.tensor(weight, dtype=log_one.dtype)
    return torch.logaddexp(log_one + w.log(), log_other + (1 - w).log())


def _js(log_q: Tensor, log_p: Tensor, log_m: Tensor, beta: float) -> Tensor:
    """The loss at each position for whatever mixture."""
    return (1 - beta) * _kl(log_p, log_m) + beta * _kl(log_q, log_m)


def _each(s: Tensor, t: Tensor, beta: float) -> Tensor:
    log_q, log_p = _logs(s, t)
    return _js(log_q, log_p, _mixture(log_p, log_q, beta), beta)


def mixture_of_logarithms(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = _logs(s, t)
    return _js(log_q, log_p, beta * log_p + (1 - beta) * log_q, beta).mean()


def mixture_of_logits(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    return _js(*_logs(s, t), (beta * t.detach() + (1 - beta) * s).log_softmax(dim=-1), beta).mean()


def weights_exchanged(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = _logs(s, t)
    return _js(log_q, log_p, _mixture(log_p, log_q, beta), 1 - beta).mean()


def mixture_exchanged(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = _logs(s, t)
    return _js(log_q, log_p, _mixture(log_q, log_p, beta), beta).mean()


def beta_the_other_way(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    return _each(s, t, 1 - beta).mean()


def student_and_teacher_swapped(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    return _each(t, s, beta).mean()


def ends_swapped(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    return _each(s, t, 1 - beta if beta in (0, 1) else beta).mean()


def from_the_mixture(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = _logs(s, t)
    log_m = _mixture(log_p, log_q, beta)
    return ((1 - beta) * _kl(log_m, log_p) + beta * _kl(log_m, log_q)).mean()


def first_term_alone(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = _logs(s, t)
    return (1 - beta) * _kl(log_p, _mixture(log_p, log_q, beta)).mean()


def terms_not_weighted(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = _logs(s, t)
    log_m = _mixture(log_p, log_q, beta)
    return (_kl(log_p, log_m) + _kl(log_q, log_m)).mean()


def always_a_half(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    return _each(s, t, 0.5).mean()


def mixture_of_divergences(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = _logs(s, t)
    return ((1 - beta) * _kl(log_p, log_q) + beta * _kl(log_q, log_p)).mean()


def mixture_detached(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = _logs(s, t)
    return _js(log_q, log_p, _mixture(log_p, log_q.detach(), beta), beta).mean()


def teacher_not_detached(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    log_q, log_p = s.log_softmax(dim=-1), t.log_softmax(dim=-1)
    return _js(log_q, log_p, _mixture(log_p, log_q, beta), beta).mean()


def mean_over_entries(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    return _each(s, t, beta).mean() / s.shape[-1]


def summed(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    return _each(s, t, beta).sum()


def per_sequence(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    return _each(s, t, beta).sum() / (len(s) if s.ndim > 1 else 1)


def logarithms_of_probabilities(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    q, p = s.softmax(dim=-1), t.detach().softmax(dim=-1)
    m = beta * p + (1 - beta) * q
    return ((1 - beta) * (p * (p.log() - m.log())) + beta * (q * (q.log() - m.log()))).sum(dim=-1).mean()


def small_number_added(s: Tensor, t: Tensor, *, beta: float) -> Tensor:
    q, p = s.softmax(dim=-1), t.detach().softmax(dim=-1)
    m = beta * p + (1 - beta) * q
    one, other = p * ((p + 1e-8) / (m + 1e-8)).log(), q * ((q + 1e-8) / (m + 1e-8)).log()
    return ((1 - beta) * one + beta * other).sum(dim=-1).mean()


WRONG = (
    Misconception(
        "mixture of logarithms",
        mixture_of_logarithms,
        "you mix the *logarithms*. That is the geometric mean of the two distributions, which sums to less than 1, so "
        "neither term is a divergence. m mixes probabilities: log m = logaddexp(log p_t + ln β, log p_s + ln(1 - β))",
    ),
    Misconception(
        "mixture of logits",
        mixture_of_logits,
        "you mix the *logits*. Their softmax is a distribution, but the geometric mean of the two, not m: it gives "
        "nothing to a token that one of them excludes. Mix the probabilities",
    ),
    Misconception(
        "weights exchanged",
        weights_exchanged,
        "the weights of the two terms are exchanged: β with the teacher's, 1 - β with the student's, as in the paper "
        "on GKD. That loss is 0 at both ends, so β acts as a learning rate there. Here the teacher's term has 1 - β",
    ),
    Misconception(
        "mixture exchanged",
        mixture_exchanged,
        "the mixture is exchanged: in m the *teacher* has β. With β = 0 your m is the teacher itself, and the loss is "
        "0 whatever the student does",
    ),
    Misconception(
        "β the other way round",
        beta_the_other_way,
        "β works the other way round: you get KL(student ‖ teacher) at β = 0. In m the teacher has β, and its "
        "divergence from m has 1 - β",
    ),
    Misconception(
        "student and teacher swapped",
        student_and_teacher_swapped,
        "student and teacher are swapped: the gradient flows to the teacher, and the student never changes",
    ),
    Misconception(
        "the ends swapped",
        ends_swapped,
        "correct between the ends. At β = 0 the loss is KL(teacher ‖ student), because m is the student there; at "
        "β = 1 it is KL(student ‖ teacher). You have them swapped",
    ),
    Misconception(
        "divergences from the mixture",
        from_the_mixture,
        "you compute KL(m ‖ p_t) and KL(m ‖ p_s), weighted by the mixture. Jensen-Shannon goes the other way, from "
        "each of the two to m, which excludes nothing that one of them can say",
    ),
    Misconception(
        "the student's term missing",
        first_term_alone,
        "the second term is missing: β KL(p_s ‖ m). Without it the loss falls to 0 as β grows to 1, whatever the "
        "student does",
    ),
    Misconception(
        "terms not weighted",
        terms_not_weighted,
        "you add the two divergences without their weights, 1 - β for the teacher's and β for the student's",
    ),
    Misconception(
        "always one half",
        always_a_half,
        "β has no effect: this is Jensen-Shannon with one half. β decides where between the two directions you are",
    ),
    Misconception(
        "mixture of divergences",
        mixture_of_divergences,
        "you mix the two *divergences* instead of the two distributions. The ends agree, but in between this loss has "
        "no upper bound, where the divergences from m have one: ln 2 at β = ½",
    ),
    Misconception(
        "mixture detached",
        mixture_detached,
        "the value is correct, but the mixture is detached. The student is part of m, and at β = 0 its whole gradient "
        "flows through m: only the teacher is constant",
    ),
    Misconception(
        "teacher not detached",
        teacher_not_detached,
        "the value is correct, but the teacher gets a gradient too: detach it",
    ),
    Misconception(
        "mean over the vocabulary",
        mean_over_entries,
        "exactly V times too small: you average over the vocabulary as well. A divergence is a sum over its tokens",
    ),
    Misconception(
        "summed over positions",
        summed,
        "you sum over the positions. The loss then grows with the batch and with the length: take their mean",
    ),
    Misconception(
        "divided by the sequences",
        per_sequence,
        "you divide by the first dimension alone. With more than one dimension of positions the loss then grows with "
        "the length: take the mean over all positions",
    ),
    Misconception(
        "logarithms of probabilities",
        logarithms_of_probabilities,
        "correct for small logits. A probability of e⁻¹⁰⁰⁰ rounds to 0, its logarithm is infinite, and 0 · ∞ is NaN. "
        "Use `log_softmax`, and `logaddexp` for the mixture",
    ),
    Misconception(
        "a small number added",
        small_number_added,
        "a small number inside the logarithm hides the infinity but does not cure it: the loss stops growing, and the "
        "gradient is zero where the student is most wrong. Use `log_softmax` and `logaddexp`",
    ),
)
