"""Wrong answers to 17.6, each with its diagnosis."""

from torch import Tensor

from ..engine.core import Misconception


def _parts(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> tuple[Tensor, Tensor]:
    """The right weights and ln p - ln q of each draw."""
    log_p = log_p.detach()
    return (log_p - log_r.detach()).exp(), log_p - s.log_softmax(dim=-1).gather(-1, draws)


def not_weighted(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    return _parts(s, draws, log_p, log_r)[1].mean()


def weighted_by_the_teacher(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    return (log_p.detach().exp() * _parts(s, draws, log_p, log_r)[1]).mean()


def summed_as_a_divergence(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    return (log_p.detach().exp() * _parts(s, draws, log_p, log_r)[1]).sum(dim=1).mean()


def weights_inverted(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return (differences / weights).mean()


def weights_normalized(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return (weights / weights.sum(dim=1, keepdim=True) * differences).sum(dim=1).mean()


def teacher_renormalized(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    return (log_p.detach().softmax(dim=1) * _parts(s, draws, log_p, log_r)[1]).sum(dim=1).mean()


def weights_at_most_one(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return (weights.clamp(max=1) * differences).mean()


def repetitions_once(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    earlier = (draws.unsqueeze(2) == draws.unsqueeze(1)).tril(-1).any(dim=2)
    return ((weights * differences * ~earlier).sum(dim=1) / (~earlier).sum(dim=1)).mean()


def repetitions_overwritten(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    earlier = (draws.unsqueeze(2) == draws.unsqueeze(1)).tril(-1).any(dim=2)
    return (weights * differences * ~earlier).mean()


def never_below_zero(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return (weights * differences).mean(dim=1).clamp(min=0).mean()


def each_never_below_zero(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return (weights * differences.clamp(min=0)).mean()


def absolute_differences(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return (weights * differences.abs()).mean()


def half_the_square(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return (weights * differences**2 / 2).mean()


def with_a_term_of_mean_zero(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return (weights * (differences + (-differences).exp() - 1)).mean()


def without_entropy(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, _ = _parts(s, draws, log_p, log_r)
    return -(weights * s.log_softmax(dim=-1).gather(-1, draws)).mean()


def from_the_proposal(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    return _parts(s, draws, log_r, log_r)[1].mean()


def proposal_in_the_difference(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, _ = _parts(s, draws, log_p, log_r)
    return (weights * _parts(s, draws, log_r, log_r)[1]).mean()


def student_over_the_draws(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, _ = _parts(s, draws, log_p, log_r)
    return (weights * (log_p.detach() - s.gather(-1, draws).log_softmax(dim=-1))).mean()


def logits_for_logarithms(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, _ = _parts(s, draws, log_p, log_r)
    return (weights * (log_p.detach() - s.gather(-1, draws))).mean()


def minus_forgotten(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return -(weights * differences).mean()


def not_divided(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    weights, differences = _parts(s, draws, log_p, log_r)
    return (weights * differences).sum(dim=1).mean()


def teacher_not_detached(s: Tensor, draws: Tensor, log_p: Tensor, log_r: Tensor) -> Tensor:
    return ((log_p - log_r).exp() * (log_p - s.log_softmax(dim=-1).gather(-1, draws))).mean()


WRONG = (
    Misconception(
        "not weighted",
        not_weighted,
        "you count each draw once, as if the teacher had drawn it. A token that r prefers then counts too much. "
        "That is correct only where r is the teacher itself",
    ),
    Misconception(
        "weighted by the teacher",
        weighted_by_the_teacher,
        "you weight each draw by p. But a probable token has been drawn more frequently already: its probability "
        "counts twice. Divide by how probable the draw was: p / r",
    ),
    Misconception(
        "summed as a divergence",
        summed_as_a_divergence,
        "you sum p (ln p - ln q) over the draws, as over the vocabulary. A token drawn twice counts twice and one "
        "not drawn not at all. Weight by p / r and take the mean",
    ),
    Misconception(
        "weights inverted",
        weights_inverted,
        "the weight is the wrong way round: r / p. A token that r draws too frequently has to count *less*: p / r",
    ),
    Misconception(
        "weights normalized",
        weights_normalized,
        "you divide the weights by their sum. That is steadier, but biased: a weight then depends on the other "
        "draws, and with one draw it is always 1. Divide by k",
    ),
    Misconception(
        "the teacher renormalized",
        teacher_renormalized,
        "you renormalize the teacher over the draws. What was not drawn is then impossible, as with the top k, and "
        "repeated tokens count p once more each time",
    ),
    Misconception(
        "weights at most 1",
        weights_at_most_one,
        "you cut the weights off at 1. The variance falls, but what the teacher finds more probable than r does "
        "counts too little: the estimate is biased",
    ),
    Misconception(
        "repetitions once",
        repetitions_once,
        "you drop repeated draws. How frequently a token comes is what tells its probability: each draw counts",
    ),
    Misconception(
        "repetitions overwritten",
        repetitions_overwritten,
        "repeated draws are lost, as when a target is written with `scatter` or by index, where the last one wins. "
        "Add them up: `scatter_add`",
    ),
    Misconception(
        "never below 0",
        never_below_zero,
        "you lift estimates below 0 to 0, because a divergence is not negative. An estimate of it may be. Cutting "
        "off one side only makes the mean too large",
    ),
    Misconception(
        "no draw below 0",
        each_never_below_zero,
        "you lift each difference below 0 to 0. Where the student is more probable than the teacher, the "
        "difference is negative, and this has to balance the others",
    ),
    Misconception(
        "absolute differences",
        absolute_differences,
        "you take the absolute value. The divergence adds the differences with their signs",
    ),
    Misconception(
        "half the square",
        half_the_square,
        "this is ½ (ln p - ln q)², which is never negative and varies less. But its expectation is not the divergence",
    ),
    Misconception(
        "with a term of mean zero",
        with_a_term_of_mean_zero,
        "you add q / p - 1, whose expectation is 0. That is unbiased as well, and never negative, but not the mean "
        "of weighted differences that is asked for",
    ),
    Misconception(
        "the teacher's entropy is missing",
        without_entropy,
        "the gradient is correct, the value is not: this is the cross-entropy. ln p of the draws is missing",
    ),
    Misconception(
        "the divergence from the proposal",
        from_the_proposal,
        "this estimates KL(r ‖ q): the student would learn the flatter distribution. r only says how the draws "
        "came about",
    ),
    Misconception(
        "the proposal in the difference",
        proposal_in_the_difference,
        "the weights are correct, but the difference is ln r - ln q. r only says how the draws came about; the "
        "teacher is compared with the student",
    ),
    Misconception(
        "the student over the draws",
        student_over_the_draws,
        "you renormalize the student over the drawn tokens. What it gives to all others then costs nothing. Take "
        "the softmax over all V tokens first",
    ),
    Misconception(
        "logits for logarithms",
        logits_for_logarithms,
        "you subtract the student's logits. They are not logarithms of probabilities until `log_softmax` has "
        "normalized them: all could rise together and the loss would fall without end",
    ),
    Misconception(
        "minus",
        minus_forgotten,
        "the sign is wrong: ln p - ln q. Your loss falls when the student moves away from the teacher",
    ),
    Misconception(
        "not divided by k",
        not_divided,
        "exactly k times too large: the draws are averaged, not summed",
    ),
    Misconception(
        "teacher not detached",
        teacher_not_detached,
        "the value is correct, but what is stored gets a gradient too: detach it",
    ),
)
