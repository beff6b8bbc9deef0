"""Wrong answers to 17.7, each with its diagnosis."""

import math

import torch
from torch import Tensor

from ..engine.core import Misconception


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(dim=-1)


def _over(weights: Tensor, each: Tensor) -> float:
    """Σ w · each, in which a weight of 0 adds 0."""
    return torch.where(weights > 0, weights * each, 0.0).sum().item()


def _along(start: Tensor, rows: Tensor, each: Tensor, steps: int) -> float:
    """The sum over steps of what each row costs, weighted by how the sequences of a model reach it."""
    total = 0.0
    for _ in range(steps):
        total += _over(start, each)
        start = start @ rows
    return total


def _exact(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, length: int) -> float:
    return _kl(ps, qs).item() + _along(ps, pn, _kl(pn, qn), length - 1)


def prefixes_of_the_student(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _kl(ps, qs).item() + _along(qs, qn, _kl(pn, qn), length - 1)


def reversed_divergence(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _exact(qs, qn, ps, pn, length)


def reversed_on_the_teachers_text(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _kl(qs, ps).item() + _along(ps, pn, _kl(qn, pn), length - 1)


def all_rows_alike(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _kl(ps, qs).item() + (length - 1) * _kl(pn, qn).mean().item()


def rows_added(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _kl(ps, qs).item() + (length - 1) * _kl(pn, qn).sum().item()


def first_token_forgotten(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _along(ps, pn, _kl(pn, qn), length - 1)


def one_step_too_many(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _exact(ps, pn, qs, qn, length + 1)


def one_token_too_many(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _along(ps, pn, _kl(pn, qn), length)


def per_token(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _exact(ps, pn, qs, qn, length) / length


def in_bits(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _exact(ps, pn, qs, qn, length) / math.log(2)


def table_transposed(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _kl(ps, qs).item() + _along(ps, pn.T, _kl(pn, qn), length - 1)


def start_kept(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    return _kl(ps, qs).item() + (length - 1) * _over(ps, _kl(pn, qn))


def long_run(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    steady = torch.linalg.matrix_power((pn + torch.eye(len(pn), dtype=pn.dtype)) / 2, 4096)[0]
    return _kl(ps, qs).item() + (length - 1) * _over(steady, _kl(pn, qn))


def sum_of_marginals(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    total = 0.0
    for _ in range(length):
        total += _kl(ps, qs).item()
        ps, qs = ps @ pn, qs @ qn
    return total


def unreached_rows_counted(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    total, each = _kl(ps, qs), _kl(pn, qn)
    for _ in range(length - 1):
        total, ps = total + ps @ each, ps @ pn
    return total.item()


def zero_times_infinity(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    total, each = (ps * (ps / qs).log()).sum(), (pn * (pn / qn).log()).sum(dim=1)
    for _ in range(length - 1):
        total, ps = total + ps @ each, ps @ pn
    return total.item()


def excluded_left_out(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    p_start, p_next = torch.where(qs > 0, ps, 0.0), torch.where(qn > 0, pn, 0.0)
    return _kl(p_start, qs).item() + _along(ps, pn, _kl(p_next, qn), length - 1)


def without_entropy(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    cross = [-torch.special.xlogy(p, q).sum(dim=-1) for p, q in ((ps, qs), (pn, qn))]
    return cross[0].item() + _along(ps, pn, cross[1], length - 1)


def small_number_added(ps: Tensor, pn: Tensor, qs: Tensor, qn: Tensor, *, length: int) -> float:
    each = (pn * ((pn + 1e-8) / (qn + 1e-8)).log()).sum(dim=1)
    return (ps * ((ps + 1e-8) / (qs + 1e-8)).log()).sum().item() + _along(ps, pn, each, length - 1)


WRONG = (
    Misconception(
        "prefixes of the student",
        prefixes_of_the_student,
        "you average over what the *student* has written. That is what a student meets when it writes by itself, "
        "and a good thing to train on, but not the divergence of whole sequences: there the teacher writes",
    ),
    Misconception(
        "the reverse divergence",
        reversed_divergence,
        "this is KL(student ‖ teacher): the student writes, and its probabilities weight the terms. Here the "
        "teacher's do, everywhere",
    ),
    Misconception(
        "reversed at each token",
        reversed_on_the_teachers_text,
        "the prefixes are the teacher's, but at each of them you take KL(student ‖ teacher). These two do not add "
        "up to a divergence of whole sequences",
    ),
    Misconception(
        "all rows count the same",
        all_rows_alike,
        "you average over the rows as if every token were equally probable. A row counts as much as the teacher "
        "writes its token",
    ),
    Misconception(
        "rows added",
        rows_added,
        "you add up the divergences of all rows at each position. Only one row is used there: average over it",
    ),
    Misconception(
        "the first token forgotten",
        first_token_forgotten,
        "the first token is missing. Its two distributions differ as well",
    ),
    Misconception(
        "one transition too many",
        one_step_too_many,
        "you count `length` transitions. A sequence of `length` tokens has one fewer",
    ),
    Misconception(
        "only transitions",
        one_token_too_many,
        "you count `length` transitions and not the first token. It is the first token and `length - 1` transitions",
    ),
    Misconception(
        "per token",
        per_token,
        "you divide by the length. That is the divergence per token; of whole sequences it is the sum",
    ),
    Misconception(
        "in bits",
        in_bits,
        "you divide by ln 2: these are bits. Nats are asked for, natural logarithms",
    ),
    Misconception(
        "the table transposed",
        table_transposed,
        "you move on with the transposed table. Row i is what comes *after* token i, so the vector of last tokens "
        "stands on the left: `last @ teacher_next`",
    ),
    Misconception(
        "always after the start",
        start_kept,
        "you weight every transition with the distribution of the *first* token. After the first transition "
        "other tokens are the last ones: move on with the teacher's table",
    ),
    Misconception(
        "the long run",
        long_run,
        "you weight the rows with how frequent tokens are in the long run. A sequence of a few tokens still "
        "depends on how it begins",
    ),
    Misconception(
        "divergences of the positions",
        sum_of_marginals,
        "you compare how frequent each token is at each position. Two models can agree in all of that and still "
        "write different sequences: compare what comes *after* each token",
    ),
    Misconception(
        "0 · ∞ for what the teacher does not write",
        unreached_rows_counted,
        "correct where the teacher can reach every row. Where it cannot, a row may be infinite, and 0 · ∞ is NaN: "
        "leave out rows of weight 0",
    ),
    Misconception(
        "0 · ∞",
        zero_times_infinity,
        "correct without zeros. A probability of 0 in the teacher gives 0 · ln 0 = NaN: it has to add 0",
    ),
    Misconception(
        "excluded sequences left out",
        excluded_left_out,
        "you leave out what the student excludes. The student gives it probability 0, and the teacher writes it: "
        "no code of finite length could tell, so the divergence is infinite",
    ),
    Misconception(
        "the teacher's entropy is missing",
        without_entropy,
        "this is the cross-entropy, what the student needs for the teacher's text. The divergence is what it needs "
        "*more* than the teacher itself: ln p - ln q, not -ln q alone",
    ),
    Misconception(
        "a small number added",
        small_number_added,
        "a small number inside the logarithm makes an infinite divergence finite, a value that depends on the "
        "small number alone",
    ),
)
