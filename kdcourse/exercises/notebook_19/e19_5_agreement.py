"""19.5 how far two encoders agree."""

import math

import torch
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal


def agreement(student: Tensor, teacher: Tensor) -> float:
    first, second = torch.triu_indices(len(student), len(student), offset=1)
    sides = [_average_ranks(side[first, second]) for side in (student, teacher)]
    one, other = (ranks - ranks.mean() for ranks in sides)
    if not one.any() or not other.any():
        raise ValueError("all similarities of one side are equal: there is nothing to rank")
    return ((one @ other) / (one.norm() * other.norm())).item()


def _average_ranks(values: Tensor) -> Tensor:
    """The number of smaller values and half of the number of equal ones: a rank up to a constant."""
    smaller = (values[:, None] > values).sum(dim=1)
    equal = (values[:, None] == values).sum(dim=1)
    return smaller + equal / 2


def agreement_by_scipy(student: Tensor, teacher: Tensor) -> float:
    above = torch.ones_like(student, dtype=torch.bool).triu(1)
    one, other = student[above].numpy(), teacher[above].numpy()
    if len(set(one.tolist())) < 2 or len(set(other.tolist())) < 2:
        raise ValueError("one side ranks nothing")
    return float(spearmanr(one, other).statistic)


def agreement_of_lists(student: Tensor, teacher: Tensor) -> float:
    pairs = [(i, j) for i in range(len(student)) for j in range(i)]
    one, other = (_ranks_by_sorting([side[i, j].item() for i, j in pairs]) for side in (student, teacher))
    middle = (len(pairs) + 1) / 2
    products = sum((a - middle) * (b - middle) for a, b in zip(one, other, strict=True))
    squares = [sum((rank - middle) ** 2 for rank in side) for side in (one, other)]
    if not all(squares):
        raise ValueError("all similarities of one side are equal")
    return products / math.prod(squares) ** 0.5


def _ranks_by_sorting(values: list[float]) -> list[float]:
    """Ranks from 1 on; equal values share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def _pairs(student: Tensor, teacher: Tensor) -> list[Tensor]:
    """The similarities above the diagonal of both sides, refused if one is constant."""
    first, second = torch.triu_indices(len(student), len(student), offset=1)
    sides = [side[first, second].double() for side in (student, teacher)]
    if any(len(side.unique()) < 2 for side in sides):
        raise ValueError("nothing to rank")
    return sides


def _correlation(one: Tensor, other: Tensor) -> float:
    return float(pearsonr(one.double().numpy(), other.double().numpy()).statistic)


def of_the_values(student: Tensor, teacher: Tensor) -> float:
    return _correlation(*_pairs(student, teacher))


def with_the_diagonal(student: Tensor, teacher: Tensor) -> float:
    _pairs(student, teacher)
    return float(spearmanr(student.flatten().numpy(), teacher.flatten().numpy()).statistic)


def triangle_with_diagonal(student: Tensor, teacher: Tensor) -> float:
    _pairs(student, teacher)
    first, second = torch.triu_indices(len(student), len(student))
    return float(spearmanr(student[first, second].numpy(), teacher[first, second].numpy()).statistic)


def _by_rank(student: Tensor, teacher: Tensor, method: str) -> float:
    return _correlation(*(torch.from_numpy(rankdata(side.numpy(), method)) for side in _pairs(student, teacher)))


def in_order_of_occurrence(student: Tensor, teacher: Tensor) -> float:
    return _by_rank(student, teacher, "ordinal")


def the_lowest_rank(student: Tensor, teacher: Tensor) -> float:
    return _by_rank(student, teacher, "min")


def dense_ranks(student: Tensor, teacher: Tensor) -> float:
    return _by_rank(student, teacher, "dense")


def by_the_short_formula(student: Tensor, teacher: Tensor) -> float:
    one, other = (rankdata(side.numpy()) for side in _pairs(student, teacher))
    return float(1 - 6 * ((one - other) ** 2).sum() / (len(one) ** 3 - len(one)))


def argsort_for_ranks(student: Tensor, teacher: Tensor) -> float:
    return _correlation(*(side.argsort(stable=True) for side in _pairs(student, teacher)))


def kendall(student: Tensor, teacher: Tensor) -> float:
    one, other = _pairs(student, teacher)
    return float(kendalltau(one.numpy(), other.numpy()).statistic)


def one_side_ranked(student: Tensor, teacher: Tensor) -> float:
    one, other = _pairs(student, teacher)
    return _correlation(_average_ranks(one), other)


def descending(student: Tensor, teacher: Tensor) -> float:
    return agreement(-student, teacher)


def mean_of_the_rows(student: Tensor, teacher: Tensor) -> float:
    _pairs(student, teacher)
    others = ~torch.eye(len(student), dtype=torch.bool)
    found = []
    for one, other, kept in zip(student, teacher, others, strict=True):
        sides = [one[kept], other[kept]]
        if all(len(side.unique()) > 1 for side in sides):
            found.append(_correlation(*map(_average_ranks, sides)))
    return sum(found) / max(1, len(found))


def nan_for_constants(student: Tensor, teacher: Tensor) -> float:
    try:
        return agreement(student, teacher)
    except ValueError:
        return math.nan


def matrix(*above: float) -> Tensor:
    """The similarity matrix with these entries above the diagonal, row by row, and ones on it."""
    count = next(n for n in range(9) if n * (n - 1) // 2 == len(above))
    half = torch.zeros(count, count, dtype=torch.float64)
    first, second = torch.triu_indices(count, count, offset=1)
    half[first, second] = torch.tensor(above, dtype=torch.float64)
    return half + half.T + torch.eye(count, dtype=torch.float64)


def agreement_cases() -> list[Case]:
    six = matrix(0.9, 0.1, 0.4, 0.4, -0.2, 0.7)
    return [
        case(matrix(0.2, 0.5, 0.1), matrix(0.3, 0.4, -0.6)),
        case(matrix(0.2, 0.5, 0.1), matrix(0.3, 0.3, 0.8)),
        case(six, matrix(0.5, 0.5, 0.5, 0.2, 0.1, 0.99)),
        case(matrix(-0.8, 0.3, 0.1, 0.3, 0.3, 0.0), six),
        case(six.float(), (six**3).float()),
        case(matrix(0.1, 0.1, 0.1, 0.1, 0.1, 0.2), matrix(0.5, 0.1, 0.1, 0.3, 0.3, 0.1)),
        case(matrix(*draw(15, seed=1, spread=0.3).tolist()), matrix(*draw(15, seed=2, spread=0.3).tolist())),
        case(matrix(*[1e-12 * k for k in (3, 1, 2, 5, 4, 1)]), six),  # small differences rank as well
        refusal("a student with all similarities equal", matrix(0.5, 0.5, 0.5), matrix(0.1, 0.2, 0.3)),
        refusal("a teacher with all similarities equal", matrix(0.1, 0.2, 0.3), matrix(0.0, 0.0, 0.0)),
        refusal("two sentences, which make one pair", matrix(0.5), matrix(0.4)),
        refusal("one sentence", torch.ones(1, 1), torch.ones(1, 1)),
    ]


def drawn_agreement(g: torch.Generator) -> Case:
    """Similarities in tenths, so that several are equal; the student's resemble the teacher's."""
    count = integer(g, 4, 7)
    pairs = count * (count - 1) // 2
    teacher = draw(pairs, seed=g, spread=0.4)
    student = teacher + draw(pairs, seed=g, spread=0.3)
    return case(*(matrix(*((10 * side).round() / 10).clamp(-1, 1).tolist()) for side in (student, teacher)))


EXERCISE = Exercise(
    id="19.5",
    title="how far two encoders agree",
    question=(
        "`student` and `teacher` are tensors (N, N): the similarities of the same N sentences by a student and by its "
        "teacher, both symmetric. Write `my_agreement(student, teacher)`: Spearman's rank correlation of the two over "
        "the N (N - 1) / 2 pairs of different sentences, a Python float. Rank each side's similarities among all its "
        "pairs, where equal ones share the mean of their ranks; the result is the (Pearson) correlation of the two "
        "lists of ranks. Raise a `ValueError` if on one side the similarities of all pairs are equal, as they are "
        "where there is only one pair, or none."
    ),
    skeleton=(
        "def my_agreement(student, teacher):\n"
        '    """Spearman\'s rank correlation of the similarities of all pairs of different sentences."""\n    ...'
    ),
    reference=agreement,
    alternatives=(agreement_by_scipy, agreement_of_lists),
    cases=agreement_cases,
    drawn=drawn_agreement,
    hints=(
        "Which entries of a symmetric matrix tell something? The diagonal is 1 on both sides.",
        "`torch.triu_indices(N, N, offset=1)` picks each pair once. A rank is the number of smaller values plus half "
        "of the number of equal ones: a constant more or less changes no correlation.",
        "`smaller + equal / 2`, with `smaller = (v[:, None] > v).sum(1)` and `equal = (v[:, None] == v).sum(1)`; "
        "subtract the mean on each side; the product of the two over the product of their lengths.",
    ),
    misconceptions=(
        Misconception(
            "Pearson of the values",
            of_the_values,
            "you correlate the similarities themselves. A student whose similarities are an increasing function of "
            "the teacher's then seems to disagree, and a few extreme pairs decide: rank them first",
        ),
        Misconception(
            "the whole matrix",
            with_the_diagonal,
            "you rank the whole matrix, with the N ones of the diagonal. They agree on both sides whatever the "
            "student learned",
        ),
        Misconception(
            "the triangle with the diagonal",
            triangle_with_diagonal,
            "your triangle holds the diagonal: `triu_indices` has `offset=0` by default. A sentence's similarity with "
            "itself is 1 on both sides; take `offset=1`",
        ),
        Misconception(
            "ranks in order of occurrence",
            in_order_of_occurrence,
            "equal similarities get different ranks, in the order in which they occur, as by `argsort` twice. They "
            "share the mean of their ranks",
        ),
        Misconception(
            "the lowest rank",
            the_lowest_rank,
            "equal similarities all get the lowest of their ranks. They share the mean",
        ),
        Misconception(
            "dense ranks",
            dense_ranks,
            "after equal similarities you go on with the next integer, so that three equal ones use up one rank only. "
            "They use up three, and share their mean",
        ),
        Misconception(
            "the short formula",
            by_the_short_formula,
            "1 - 6 Σ d² / (n³ - n) holds only if no two similarities are equal. Take the correlation of the ranks",
        ),
        Misconception(
            "argsort for ranks",
            argsort_for_ranks,
            "`argsort` says which pair comes first, second and so on; the rank of a pair is the inverse of that",
        ),
        Misconception(
            "Kendall's tau",
            kendall,
            "this is Kendall's τ, which counts how many comparisons of two pairs agree. The question asks for "
            "Spearman's ρ; the two are not on one scale",
        ),
        Misconception(
            "one side ranked",
            one_side_ranked,
            "you rank the student's similarities and leave the teacher's as they are. Rank both",
        ),
        Misconception(
            "one side descending",
            descending,
            "one side is ranked from the largest, the other from the smallest: the sign is wrong",
        ),
        Misconception(
            "the mean over the rows",
            mean_of_the_rows,
            "you rank within each row and take the mean over the sentences. That asks how well each sentence's "
            "neighbours are ordered; the question asks for one ranking of all pairs",
        ),
        Misconception(
            "NaN for constants",
            nan_for_constants,
            "where all similarities of one side are equal you return NaN, 0 divided by 0. In a mean over seeds it "
            "would spoil the others: raise a `ValueError`",
        ),
    ),
    shows="agreement is about the order of the similarities: another scale is not a disagreement.",
    derivation=(
        "ρ = cov(r, r') / (σ_r σ_r'). Without equal values both have the variance (P² - 1) / 12 for P pairs, and ρ = "
        "1 - 6 Σ d² / (P³ - P); equal values make the variance smaller, and the short formula wrong. Any increasing "
        "function of the similarities, the cube for one, leaves ρ as it is."
    ),
    absolute=1e-6,
)
