"""17.7 the exact divergence of two models over whole sequences."""

import itertools
import math

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_17_7 import WRONG


def divergence(p: Tensor, q: Tensor) -> Tensor:
    return torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(dim=-1)


def sequence_kl(
    teacher_start: Tensor, teacher_next: Tensor, student_start: Tensor, student_next: Tensor, *, length: int
) -> float:
    total = divergence(teacher_start, student_start)
    each = divergence(teacher_next, student_next)
    last = teacher_start  # how probable each token is as the last one written
    for _ in range(length - 1):
        total = total + torch.where(last > 0, last * each, 0.0).sum()
        last = last @ teacher_next
    return total.item()


def sequence_kl_by_enumeration(
    teacher_start: Tensor, teacher_next: Tensor, student_start: Tensor, student_next: Tensor, *, length: int
) -> float:
    """From the definition: every sequence with its probability under both."""
    total = 0.0
    for tokens in itertools.product(range(len(teacher_start)), repeat=length):
        p, q = teacher_start[tokens[0]].item(), student_start[tokens[0]].item()
        for before, after in itertools.pairwise(tokens):
            p, q = p * teacher_next[before, after].item(), q * student_next[before, after].item()
        if p > 0:
            total += p * math.log(p / q) if q > 0 else math.inf
    return total


def sequence_kl_by_loops(
    teacher_start: Tensor, teacher_next: Tensor, student_start: Tensor, student_next: Tensor, *, length: int
) -> float:
    """Backwards: what the rest of a sequence still costs after each token."""
    size = len(teacher_start)
    to_go = [0.0] * size
    rows = list(zip(teacher_next.tolist(), student_next.tolist(), strict=True))
    starts = (teacher_start.tolist(), student_start.tolist())
    for step in range(length):
        found = []
        for ps, qs in [starts] if step == length - 1 else rows:
            cost = 0.0
            for p, q, later in zip(ps, qs, to_go, strict=True):
                if p > 0:
                    cost += p * ((math.log(p / q) if q > 0 else math.inf) + later)
            found.append(cost)
        to_go = found
    return to_go[0]


def _law(*shape: int, seed: int | torch.Generator) -> Tensor:
    return draw(*shape, seed=seed, spread=1.5).softmax(dim=-1)


def _table(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def sequence_kl_cases() -> list[Case]:
    start, other = _table([0.7, 0.3])[0], _table([0.4, 0.6])[0]
    certain, even = _table([1.0, 0.0])[0], _table([0.5, 0.5])[0]
    chain, wide = _table([0.6, 0.4, 0.0], [0.3, 0.0, 0.7], [0.0, 0.0, 1.0]), _law(3, 3, seed=1)
    loop = _table([0.2, 0.8, 0.0], [0.9, 0.1, 0.0], [0.5, 0.2, 0.3])  # never writes token 2
    blind = _table([0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [1.0, 0.0, 0.0])  # excludes it after token 2
    left = _table([0.6, 0.4, 0.0])[0]
    return [
        case(start, _table([0.9, 0.1], [0.2, 0.8]), other, _table([0.5, 0.5], [0.6, 0.4]), length=2),
        case(start.clone(), _law(2, 2, seed=2), other.clone(), _law(2, 2, seed=3), length=1),
        case(_law(3, seed=4), _law(3, 3, seed=5), _law(3, seed=6), _law(3, 3, seed=7), length=4),
        case(_law(3, seed=8), chain, _law(3, seed=9), wide, length=3),  # the teacher excludes
        case(left, loop, _law(3, seed=10), blind, length=3),  # a row that the teacher never reaches
        case(even, _law(2, 2, seed=11), certain, _law(2, 2, seed=12), length=2),  # the student excludes: infinite
        case(_law(3, seed=13), wide.clone(), _law(3, seed=14), chain.clone(), length=2),
        case(_law(2, seed=15), _law(2, 2, seed=16), _law(2, seed=17), _law(2, 2, seed=18), length=6),
    ]


def drawn_sequence_kl(g: torch.Generator) -> Case:
    size = integer(g, 2, 3)
    laws = [_law(size, seed=g), _law(size, size, seed=g), _law(size, seed=g), _law(size, size, seed=g)]
    return case(*laws, length=integer(g, 2, 4))


EXERCISE = Exercise(
    id="17.7",
    title="the divergence of whole sequences",
    question=(
        "Two tiny language models write sequences of tokens 0 … V - 1. Each is a distribution over the first token, "
        "(V,), and a table (V, V) whose row i is the distribution of the next token after token i, all float64. Write "
        "`my_sequence_kl(teacher_start, teacher_next, student_start, student_next, *, length)`: the exact "
        "KL(teacher ‖ student) in nats between the two distributions of *whole* sequences of `length` tokens, "
        "`length` ≥ 1, as a number. It is the sum over the positions of the divergence between the two distributions "
        "of the next token, each averaged over what the teacher has written before. A probability of 0 in the teacher "
        "adds 0, whatever the student's is, and a row after a token that the teacher cannot have written by then does "
        "not count. If the student excludes a sequence that the teacher can write, the result is infinite."
    ),
    skeleton=(
        "def my_sequence_kl(teacher_start, teacher_next, student_start, student_next, *, length):\n"
        '    """The exact KL(teacher ‖ student) of sequences of `length` tokens, in nats."""\n    ...'
    ),
    reference=sequence_kl,
    alternatives=(sequence_kl_by_enumeration, sequence_kl_by_loops),
    cases=sequence_kl_cases,
    drawn=drawn_sequence_kl,
    hints=(
        "A sequence of three tokens has one first token and two transitions. How probable is it that the second "
        "transition starts at token i?",
        "Keep a vector (V,): how probable each token is as the last one that the teacher has written. It begins as "
        "`teacher_start`, and `last @ teacher_next` takes it one position on.",
        "The divergence of the starts, then `length - 1` times: add Σ_i last[i] · KL(row i of the teacher ‖ row i of "
        "the student) over the rows with last[i] > 0, then `last = last @ teacher_next`.",
    ),
    misconceptions=WRONG,
    shows="the divergence of whole texts is that of each next token, averaged over what the teacher writes.",
    derivation=(
        "ln P(x) / Q(x) = ln p(x₁) / q(x₁) + Σ_t ln p(x_t | x_{t-1}) / q(x_t | x_{t-1}). Its mean under P is "
        "KL(p₁ ‖ q₁) + Σ_{t ≥ 2} Σ_i P(x_{t-1} = i) KL(p(· | i) ‖ q(· | i)), with P(x_t = j) = Σ_i P(x_{t-1} = i) "
        "p(j | i). So token-level distillation on the teacher's own text is the divergence of whole sequences. "
        "Source: Cover, Thomas 2006, theorem 2.5.3."
    ),
)
