"""19.4 a loss on similarities."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    if len(student) < 2:
        raise ValueError(f"there is no pair among {len(student)} sentences")
    student, teacher = F.normalize(student, dim=1), F.normalize(teacher.detach(), dim=1)
    gaps = student @ student.T - teacher @ teacher.T
    return gaps[~torch.eye(len(gaps), dtype=torch.bool)].square().mean()  # each pair twice, no diagonal


def loss_pair_by_pair(student: Tensor, teacher: Tensor) -> Tensor:
    count = len(student)
    if count <= 1:
        raise ValueError("two sentences are needed")
    first, second = torch.triu_indices(count, count, offset=1)
    target = F.cosine_similarity(teacher[first], teacher[second], dim=1).detach()
    return F.mse_loss(F.cosine_similarity(student[first], student[second], dim=1), target)


def loss_of_all(student: Tensor, teacher: Tensor) -> Tensor:
    if student.shape[0] < 2:
        raise ValueError("no pairs")
    with torch.no_grad():
        target = _cosines(teacher)
    gaps = torch.triu(_cosines(student) - target, diagonal=1)
    return 2 * (gaps * gaps).sum() / (len(gaps) * (len(gaps) - 1))


def _cosines(vectors: Tensor) -> Tensor:
    squares = (vectors * vectors).sum(dim=1)
    lengths = torch.where(squares > 0, squares, 1).sqrt()
    return vectors @ vectors.T / lengths[:, None] / lengths


def _pairs(similarities: Tensor) -> Tensor:
    if len(similarities) < 2:
        raise ValueError("no pairs")
    first, second = torch.triu_indices(len(similarities), len(similarities), offset=1)
    return similarities[first, second]


def dot_products(student: Tensor, teacher: Tensor) -> Tensor:
    return (_pairs(student @ student.T) - _pairs(teacher @ teacher.T).detach()).square().mean()


def student_not_normalized(student: Tensor, teacher: Tensor) -> Tensor:
    return (_pairs(student @ student.T) - _pairs(_cosines(teacher)).detach()).square().mean()


def teacher_not_normalized(student: Tensor, teacher: Tensor) -> Tensor:
    return (_pairs(_cosines(student)) - _pairs(teacher @ teacher.T).detach()).square().mean()


def with_the_diagonal(student: Tensor, teacher: Tensor) -> Tensor:
    gaps = _cosines(student) - _cosines(teacher.detach())
    _pairs(gaps)
    return gaps.square().mean()


def summed(student: Tensor, teacher: Tensor) -> Tensor:
    return similarity_loss(student, teacher) * len(student) * (len(student) - 1) / 2


def pairs_twice(student: Tensor, teacher: Tensor) -> Tensor:
    return 2 * similarity_loss(student, teacher)


def per_sentence(student: Tensor, teacher: Tensor) -> Tensor:
    return summed(student, teacher) / len(student)


def absolute_gap(student: Tensor, teacher: Tensor) -> Tensor:
    return (_pairs(_cosines(student)) - _pairs(_cosines(teacher)).detach()).abs().mean()


def mean_gap(student: Tensor, teacher: Tensor) -> Tensor:
    return (_pairs(_cosines(student)) - _pairs(_cosines(teacher)).detach()).mean().square()


def distances(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1).detach()
    _pairs(student @ student.T)
    return (F.pdist(student) - F.pdist(teacher)).square().mean()


def per_column(student: Tensor, teacher: Tensor) -> Tensor:
    return dot_products(F.normalize(student, dim=0), F.normalize(teacher, dim=0))


def correlations(student: Tensor, teacher: Tensor) -> Tensor:
    return similarity_loss(*(v - v.mean(dim=1, keepdim=True) for v in (student, teacher)))


def minus_the_batch_mean(student: Tensor, teacher: Tensor) -> Tensor:
    return similarity_loss(*(v - v.mean(dim=0) for v in (student, teacher)))


def neighbours(student: Tensor, teacher: Tensor) -> Tensor:
    gaps = _cosines(student) - _cosines(teacher.detach())
    _pairs(gaps)
    return gaps.diagonal(offset=1).square().mean()


def nan_at_zero(student: Tensor, teacher: Tensor) -> Tensor:
    return dot_products(*(v / v.square().sum(dim=1, keepdim=True).sqrt() for v in (student, teacher)))


def teacher_learns(student: Tensor, teacher: Tensor) -> Tensor:
    return (_pairs(_cosines(student)) - _pairs(_cosines(teacher))).square().mean()


def length_detached(student: Tensor, teacher: Tensor) -> Tensor:
    lengths = student.detach().norm(dim=1, keepdim=True).clamp(min=1e-12)
    return student_not_normalized(student / lengths, teacher)


def one_side_detached(student: Tensor, teacher: Tensor) -> Tensor:
    student = F.normalize(student, dim=1)
    return (_pairs(student @ student.detach().T) - _pairs(_cosines(teacher)).detach()).square().mean()


def loss_cases() -> list[Case]:
    small = torch.tensor([[3.0, 4.0], [2.0, 0.0]])
    wide = draw(5, 6, seed=2)
    twin = torch.cat([wide[:3], wide[:1]])
    hole = draw(4, 3, seed=4)
    hole[2] = 0.0
    return [
        case(small, torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])),
        case(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.5, 0.5]])),
        case(draw(5, 3, seed=1), wide),
        case(draw(4, 3, seed=3), twin),
        case(twin, draw(4, 3, seed=3)),
        case(draw(4, 5, seed=5), hole),
        case(draw(3, 4, seed=6).float(), draw(3, 7, seed=7).float()),
        case(1e-4 * draw(4, 4, seed=8), 1e3 * draw(4, 4, seed=8)),
        refusal("a single sentence", torch.ones(1, 3), torch.ones(1, 4)),
        refusal("an empty batch", torch.ones(0, 3), torch.ones(0, 4)),
    ]


def drawn_loss(g: torch.Generator) -> Case:
    count = integer(g, 3, 7)
    return case(draw(count, integer(g, 2, 5), seed=g), draw(count, integer(g, 2, 6), seed=g) + 1.0)


EXERCISE = Exercise(
    id="19.4",
    title="a loss on similarities",
    question=(
        "`student` (N, S) and `teacher` (N, D) are the vectors of the same N sentences; the widths may differ. Write "
        "`my_similarity_loss(student, teacher)`. On each side take the cosines of all N (N - 1) / 2 pairs of two "
        "different sentences, and return the mean over these pairs of the squared difference between the student's "
        "and the teacher's, a single number. Two sentences with equal vectors are a pair like any other. A vector of "
        "the teacher may be zero: then its cosines are 0; the student's are never zero. Only the student gets a "
        "gradient, and it flows through the division by the lengths too. Raise a `ValueError` if N is less than 2."
    ),
    skeleton=(
        "def my_similarity_loss(student, teacher):\n"
        '    """Mean squared difference of the cosines of all pairs, the student\'s and the teacher\'s."""\n    ...'
    ),
    reference=similarity_loss,
    alternatives=(loss_pair_by_pair, loss_of_all),
    cases=loss_cases,
    drawn=drawn_loss,
    hints=(
        "The vectors of the two sides cannot be compared: their widths differ. What can?",
        "With rows of length 1, `rows @ rows.T` holds all cosines. Which of its N² entries are pairs?",
        "`s = F.normalize(student, dim=1)`, the teacher detached the same way; `gaps = s @ s.T - t @ t.T`; the mean of "
        "the squares above the diagonal, `torch.triu_indices(N, N, offset=1)`.",
    ),
    misconceptions=(
        Misconception(
            "dot products",
            dot_products,
            "you compare dot products. They grow with the lengths of the vectors, so the student would have to copy "
            "the teacher's lengths as well: divide each vector by its own length first",
        ),
        Misconception(
            "student not normalized",
            student_not_normalized,
            "the teacher's vectors are divided by their lengths, the student's are not. A dot product is a cosine "
            "only if both vectors have length 1",
        ),
        Misconception(
            "teacher not normalized",
            teacher_not_normalized,
            "the student's vectors are divided by their lengths, the teacher's are not: no cosine can reach a dot "
            "product of 20",
        ),
        Misconception(
            "the diagonal counts",
            with_the_diagonal,
            "you take the mean over all N² entries. The N on the diagonal compare a sentence with itself: they teach "
            "nothing, and what fraction they are depends on the batch size",
        ),
        Misconception(
            "a sum",
            summed,
            "this is the sum over the pairs. It grows with the square of the batch size: take the mean",
        ),
        Misconception(
            "twice as large",
            pairs_twice,
            "this is twice the mean, perhaps N (N - 1) entries divided by N (N - 1) / 2. Count each pair once above "
            "and below the fraction bar, or twice in both",
        ),
        Misconception(
            "divided by N",
            per_sentence,
            "you divide by the number of sentences. There are N (N - 1) / 2 pairs",
        ),
        Misconception(
            "absolute difference",
            absolute_gap,
            "you take the absolute difference. The question asks for the square",
        ),
        Misconception(
            "the square of the mean",
            mean_gap,
            "you take the mean first and then the square: differences of opposite sign cancel",
        ),
        Misconception(
            "distances",
            distances,
            "you compare distances of the normalized vectors. That is another loss: a distance is √(2 - 2 cos), which "
            "weighs pairs that are already similar more",
        ),
        Misconception(
            "each column normalized",
            per_column,
            "you normalize each column over the sentences (dimension 0). A sentence is a row: `F.normalize(student, "
            "dim=1)`",
        ),
        Misconception(
            "correlations",
            correlations,
            "you subtract each vector's own mean before you normalize: that is a correlation, not a cosine",
        ),
        Misconception(
            "minus the batch's mean",
            minus_the_batch_mean,
            "you subtract the mean of the batch first. The cosine of two sentences then depends on which others are "
            "there",
        ),
        Misconception(
            "neighbours only",
            neighbours,
            "you compare each sentence with the next one only. Take all pairs",
        ),
        Misconception(
            "NaN for a zero vector",
            nan_at_zero,
            "you divide a zero vector by its length, 0 / 0, and the loss of the whole batch is NaN. `F.normalize` "
            "divides by at least 1e-12",
        ),
        Misconception(
            "the teacher learns, too",
            teacher_learns,
            "the value is correct, but the teacher gets a gradient as well. It would move towards the student: detach "
            "it",
        ),
        Misconception(
            "the length detached",
            length_detached,
            "the value is correct, but you take the student's lengths as constants, so the gradient also makes "
            "vectors longer, which changes no cosine",
        ),
        Misconception(
            "one side of the product detached",
            one_side_detached,
            "the value is correct, but in each pair only one sentence gets a gradient. Both are the student's",
        ),
    ),
    shows="a student of another width can copy which sentences the teacher finds similar.",
    derivation=(
        "L = 2 / (N (N - 1)) Σ_{i<j} (ŝ_i·ŝ_j - t̂_i·t̂_j)², with ŝ = s / ‖s‖. The gradient of ŝ_i·ŝ_j with respect to "
        "s_i is (ŝ_j - (ŝ_i·ŝ_j) ŝ_i) / ‖s_i‖: it is orthogonal to s_i. L is 0 for any rotation of the teacher."
    ),
    gradients=(0, 1),
    absolute=1e-6,
)
