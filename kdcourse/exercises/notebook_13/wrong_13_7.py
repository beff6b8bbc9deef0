"""Wrong answers to 13.7, each with its diagnosis."""

import torch
from torch import Tensor

from ..engine.core import Misconception


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def _log_soft(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).log_softmax(dim=1)


def _term(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature**2 * _kl(_log_soft(teacher.detach(), temperature), _log_soft(student, temperature))


def _both(s: Tensor, one: Tensor, two: Tensor, temperature: float) -> Tensor:
    c = one.shape[1]
    return _term(s[:, :c], one, temperature) + _term(s[:, c:], two, temperature)


def logarithm_of_softmax(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    c, total = one.shape[1], s.sum() * 0
    for student, teacher in ((s[:, :c], one), (s[:, c:], two)):
        q, p = (student / temperature).softmax(dim=1), (teacher.detach() / temperature).softmax(dim=1)
        total = total + (p * (p.log() - q.log())).sum(dim=1).mean()
    return temperature**2 * total


def sliced_after_softmax(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    log_q, c = _log_soft(s, temperature), one.shape[1]
    first = _kl(_log_soft(one.detach(), temperature), log_q[:, :c])
    return temperature**2 * (first + _kl(_log_soft(two.detach(), temperature), log_q[:, c:]))


def all_softmaxed_then_sliced(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    log_p = _log_soft(torch.cat([one, two], dim=1).detach(), temperature)
    return temperature**2 * _kl(log_p, _log_soft(s, temperature))


def half_the_concatenated(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    p = torch.cat([_log_soft(t.detach(), temperature).exp() / 2 for t in (one, two)], dim=1)
    return temperature**2 * _kl(p.log(), _log_soft(s, temperature))


def teachers_swapped(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    return _both(s, two, one, temperature)


def mean_of_both(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    return _both(s, one, two, temperature) / 2


def mean_over_entries(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    c = one.shape[1]
    first = _term(s[:, :c], one, temperature) / c
    return first + _term(s[:, c:], two, temperature) / two.shape[1]


def summed_over_the_batch(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    return _both(s, one, two, temperature) * len(s)


def without_t_squared(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    return _both(s, one, two, temperature) / temperature**2


def t_squared_once(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    c = one.shape[1]
    return _term(s[:, :c], one, temperature) + _term(s[:, c:], two, temperature) / temperature**2


def teachers_not_softened(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    return _both(s, temperature * one, temperature * two, temperature)


def student_not_softened(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    return _both(temperature * s, one, two, temperature)


def second_not_softened(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    c = one.shape[1]
    return _term(s[:, :c], one, temperature) + temperature**2 * _term(s[:, c:], two, 1.0)


def not_detached(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    c = one.shape[1]
    first = _kl(_log_soft(one, temperature), _log_soft(s[:, :c], temperature))
    return temperature**2 * (first + _kl(_log_soft(two, temperature), _log_soft(s[:, c:], temperature)))


def second_not_detached(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    c = one.shape[1]
    second = _kl(_log_soft(two, temperature), _log_soft(s[:, c:], temperature))
    return _term(s[:, :c], one, temperature) + temperature**2 * second


def direction_swapped(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    c = one.shape[1]
    first = _kl(_log_soft(s[:, :c], temperature), _log_soft(one.detach(), temperature))
    return temperature**2 * (first + _kl(_log_soft(s[:, c:], temperature), _log_soft(two.detach(), temperature)))


def without_entropy(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    c, p = one.shape[1], [_log_soft(t.detach(), temperature).exp() for t in (one, two)]
    crosses = -(p[0] * _log_soft(s[:, :c], temperature)).sum(1) - (p[1] * _log_soft(s[:, c:], temperature)).sum(1)
    return temperature**2 * crosses.mean()


def first_teacher_only(s: Tensor, one: Tensor, two: Tensor, *, temperature: float) -> Tensor:
    return _term(s[:, : one.shape[1]], one, temperature)


WRONG = (
    Misconception(
        "softmax, then sliced",
        sliced_after_softmax,
        "you take the student's softmax over all classes and slice it afterwards. A slice does not sum to 1, so "
        "this is not a divergence: it never reaches 0, since both halves cannot have the whole probability. Slice "
        "the logits first",
    ),
    Misconception(
        "one softmax over both teachers",
        all_softmaxed_then_sliced,
        "you put the teachers' logits side by side and take one softmax. Logits of two networks have no common "
        "zero: the one with the larger ones would claim every image",
    ),
    Misconception(
        "half of each",
        half_the_concatenated,
        "you put the teachers' probabilities side by side, half of each. That also demands that the student splits "
        "its probability evenly between the two sets of classes, for every image. Neither teacher said so",
    ),
    Misconception(
        "teachers swapped",
        teachers_swapped,
        "the teachers are swapped: the first columns of the student belong to the first teacher. Where both have "
        "equally many classes nothing crashes, and every class is learned under a wrong name",
    ),
    Misconception(
        "mean of both",
        mean_of_both,
        "exactly half: you average the two losses. Add them",
    ),
    Misconception(
        "mean over entries",
        mean_over_entries,
        "each loss is divided by its number of classes too: the default reduction of `F.kl_div`. A teacher with "
        "many classes then counts less. Sum over classes, average over images",
    ),
    Misconception(
        "summed over the batch",
        summed_over_the_batch,
        "exactly N times too large: you sum over the images. Take their mean",
    ),
    Misconception(
        "T² is missing",
        without_t_squared,
        "T² is missing from both losses. The gradient shrinks like 1/T², so their weight would change with T",
    ),
    Misconception(
        "T² once",
        t_squared_once,
        "T² multiplies the first loss only: put brackets around the sum",
    ),
    Misconception(
        "teachers not softened",
        teachers_not_softened,
        "only the student's logits are divided by T: divide both",
    ),
    Misconception(
        "student not softened",
        student_not_softened,
        "only the teachers' logits are divided by T: divide both",
    ),
    Misconception(
        "one temperature forgotten",
        second_not_softened,
        "the second pair is not divided by T, the first one is. Both losses use the same temperature",
    ),
    Misconception(
        "teachers not detached",
        not_detached,
        "the value is correct, but the teachers get a gradient too: detach them",
    ),
    Misconception(
        "second teacher not detached",
        second_not_detached,
        "the value is correct, but the second teacher gets a gradient too: detach it as the first one",
    ),
    Misconception(
        "logarithm of softmax",
        logarithm_of_softmax,
        "correct for small logits. For large ones a probability rounds to 0 and its logarithm is infinite. Use "
        "`log_softmax`",
    ),
    Misconception(
        "direction",
        direction_swapped,
        "this is KL(p_s ‖ p_t): the student weights the logarithms. Here the teachers do",
    ),
    Misconception(
        "the teachers' entropies are missing",
        without_entropy,
        "the gradient is correct, the value is not: these are cross-entropies, divergences plus the entropies of "
        "the teachers. They are not zero where all agree",
    ),
    Misconception(
        "first teacher only",
        first_teacher_only,
        "only the first teacher counts: the student never hears of the other classes",
    ),
)
