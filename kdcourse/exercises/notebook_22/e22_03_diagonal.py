"""22.03 a layer that is not similar to itself."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal

FEW = "fewer than four examples, for which the estimate divides by zero"


def debiased_similarity(first: Tensor, second: Tensor) -> Tensor:
    if len(first) < 4:
        raise ValueError(f"four examples or more are needed, these are {len(first)}")
    grams = [(features @ features.T).fill_diagonal_(0) for features in (first, second)]
    return _debiased(*grams) / (_debiased(grams[0], grams[0]) * _debiased(grams[1], grams[1])).sqrt()


def _debiased(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    n = len(k)
    middle = k.sum() * l.sum() / ((n - 1) * (n - 2))
    return ((k * l).sum() + middle - 2 * (k.sum(dim=0) @ l.sum(dim=0)) / (n - 2)) / (n * (n - 3))


def by_centred_features(first: Tensor, second: Tensor) -> Tensor:
    if first.shape[0] <= 3:
        raise ValueError("too few examples")
    k, l = ((f - f.mean(dim=0)) @ (f - f.mean(dim=0)).T for f in (first, second))  # noqa: E741
    k, l = k - torch.diag(torch.diag(k)), l - torch.diag(torch.diag(l))  # noqa: E741
    return _debiased(k, l) / torch.sqrt(_debiased(k, k)) / torch.sqrt(_debiased(l, l))


def by_u_centring(first: Tensor, second: Tensor) -> Tensor:
    n = len(first)
    if n < 4:
        raise ValueError("N must be at least 4")
    others = ~torch.eye(n, dtype=torch.bool)
    centred = []
    for features in (first, second):
        gram = features @ features.T * others
        rows = gram.sum(dim=1, keepdim=True) / (n - 2)
        centred.append((gram - rows - rows.T + gram.sum() / (n - 1) / (n - 2)) * others)
    k, l = centred  # noqa: E741
    return (k * l).sum() / (k.norm() * l.norm())


def _similarity(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    return _debiased(k, l) / (_debiased(k, k) * _debiased(l, l)).sqrt()


def _grams(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if len(first) < 4:
        raise ValueError("four examples or more")
    return first @ first.T, second @ second.T


def _by_traces(k: Tensor, l: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: E741
    """h(K, L), h(K, K) and h(L, L) with the trace of a product, for matrices that need not be symmetric."""

    def h(a: Tensor, b: Tensor) -> Tensor:
        n = len(a)
        middle = a.sum() * b.sum() / ((n - 1) * (n - 2))
        return (torch.trace(a @ b) + middle - 2 * (a.sum(dim=0) @ b.sum(dim=0)) / (n - 2)) / (n * (n - 3))

    return h(k, l), h(k, k), h(l, l)


def vector_subtracted(first: Tensor, second: Tensor) -> Tensor:
    k, l = _grams(first, second)  # noqa: E741
    between, own, other = _by_traces(k - torch.diag(k), l - torch.diag(l))
    return between / (own.sqrt() * other.sqrt())


def diagonals_kept(first: Tensor, second: Tensor) -> Tensor:
    return _similarity(*_grams(first, second))


def one_diagonal_kept(first: Tensor, second: Tensor) -> Tensor:
    k, l = _grams(first, second)  # noqa: E741
    return _similarity(k.fill_diagonal_(0), l)


def ones_subtracted(first: Tensor, second: Tensor) -> Tensor:
    k, l = (gram - torch.eye(len(gram), dtype=gram.dtype) for gram in _grams(first, second))  # noqa: E741
    return _similarity(k, l)


def as_columns(first: Tensor, second: Tensor) -> Tensor:
    k, l = (gram - torch.diag(gram)[:, None] for gram in _grams(first, second))  # noqa: E741
    return _similarity(k, l)


def nothing_instead_of_nan(first: Tensor, second: Tensor) -> Tensor:
    return vector_subtracted(first, second).nan_to_num(0.0)


def absolute_values(first: Tensor, second: Tensor) -> Tensor:
    k, l = _grams(first, second)  # noqa: E741
    between, own, other = _by_traces(k - torch.diag(k), l - torch.diag(l))
    return between.abs() / (own.abs() * other.abs()).sqrt()


def never_negative(first: Tensor, second: Tensor) -> Tensor:
    return debiased_similarity(first, second).clamp(min=0)


def biased(first: Tensor, second: Tensor) -> Tensor:
    k, l = (gram - gram.mean(dim=0) for gram in _grams(first, second))  # noqa: E741
    k, l = k - k.mean(dim=1, keepdim=True), l - l.mean(dim=1, keepdim=True)  # noqa: E741
    return (k * l).sum() / (k.norm() * l.norm())


def no_root(first: Tensor, second: Tensor) -> Tensor:
    k, l = (gram.fill_diagonal_(0) for gram in _grams(first, second))  # noqa: E741
    return _debiased(k, l) / (_debiased(k, k) * _debiased(l, l))


def not_normalised(first: Tensor, second: Tensor) -> Tensor:
    k, l = (gram.fill_diagonal_(0) for gram in _grams(first, second))  # noqa: E741
    return _debiased(k, l)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    k, l = (gram.fill_diagonal_(0) for gram in _grams(first, second))  # noqa: E741
    return (k * l).sum() / (k.norm() * l.norm())


def similarity_cases() -> list[Case]:
    small = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    one, other = draw(7, 3, seed=226) + 1, draw(7, 2, seed=227) + 1
    return [
        case(small, small.flip(0) * 2 + 1),
        case(one, one),
        case(one, other),
        case(one, 3 * one + other.sum(dim=1, keepdim=True)),
        case(draw(5, 9, seed=228), draw(5, 4, seed=229)),
        refusal(FEW, one[:3], other[:3]),
    ]


def drawn_similarity(g: torch.Generator) -> Case:
    count = integer(g, 4, 9)
    return case(draw(count, integer(g, 2, 5), seed=g) + 1, draw(count, integer(g, 2, 5), seed=g))


EXERCISE = Exercise(
    id="22.03",
    title="a layer that is not similar to itself",
    question=(
        "Fix `case_3` as `fixed_3(first, second)`: the debiased CKA of features (N, D₁) and (N, D₂), a 0-dimensional "
        r"tensor, $h(K, L) / \sqrt{h(K, K)\,h(L, L)}$. Here $K$ and $L$ are the Gram matrices of the features with "
        r"zeros on the diagonal, $$h(K, L) = \frac{1}{N (N - 3)} \left[ \operatorname{tr}(K L) + \frac{\mathbf "
        r"1^\top K \mathbf 1 \; \mathbf 1^\top L \mathbf 1}{(N - 1)(N - 2)} - \frac{2}{N - 2} \, \mathbf 1^\top K L "
        r"\mathbf 1 \right],$$ and $\mathbf 1$ is the vector of N ones. It may be negative for features that share "
        "nothing; a layer with itself gives 1. Raise a `ValueError` for fewer than four examples."
    ),
    skeleton='def fixed_3(first, second):\n    """The debiased CKA of two layers\' features."""\n    ...',
    reference=debiased_similarity,
    alternatives=(by_centred_features, by_u_centring),
    cases=similarity_cases,
    drawn=drawn_similarity,
    hints=(
        "h(K, K) is negative, and the root of that is NaN. The formula is right: look at what goes into it.",
        "Print `K - torch.diag(K)` for a 3 × 3 matrix. What became of the entries beside the diagonal?",
        "`torch.diag` of a matrix is a *vector*, and subtracting it changes every row. `K.fill_diagonal_(0)` does what "
        "is meant.",
    ),
    misconceptions=(
        Misconception(
            "a vector subtracted",
            vector_subtracted,
            "`torch.diag(K)` of a matrix is a vector. Subtracted, it is broadcast over all rows: the diagonal is 0, "
            "and every other entry is wrong as well",
        ),
        Misconception(
            "the vector as a column",
            as_columns,
            "you subtract the diagonal from every column instead of every row. It is still broadcast over the whole "
            "matrix: only the diagonal itself may change",
        ),
        Misconception(
            "0 instead of NaN",
            nothing_instead_of_nan,
            "you replace NaN by 0. The symptom is gone and the matrices are as wrong as before: a layer is not "
            "similar to itself now",
        ),
        Misconception(
            "absolute values under the root",
            absolute_values,
            "absolute values hide that h(K, K) is negative, which cannot be. The matrices are still wrong beside the "
            "diagonal",
        ),
        Misconception(
            "diagonals kept",
            diagonals_kept,
            "the diagonals are still there. They hold each example's product with itself, which is the bias that the "
            "estimate removes",
        ),
        Misconception(
            "one diagonal kept",
            one_diagonal_kept,
            "only one of the two matrices has zeros on its diagonal",
        ),
        Misconception(
            "ones subtracted",
            ones_subtracted,
            "you subtract the unit matrix. That makes a diagonal 0 only where it was 1",
        ),
        Misconception(
            "no value below 0",
            never_negative,
            "right except where the value is negative. An unbiased estimate of 0 lies below it in some draws; "
            "cut off there, its mean is above 0",
        ),
        Misconception(
            "the biased estimate",
            biased,
            "this is the plain CKA of centred Gram matrices. For features that share nothing it is far above 0 when N "
            "is small: that is the bias",
        ),
        Misconception(
            "root forgotten",
            no_root,
            "the matrices are right, but the root in the denominator is missing",
        ),
        Misconception(
            "not divided",
            not_normalised,
            "the matrices are right, but this is h(K, L) alone. Divide by the root of h(K, K) · h(L, L)",
        ),
        Misconception(
            "cosine of the matrices",
            cosine,
            "the matrices are right, but of h only its first term is left: without the other two the features' means "
            "count as similarity",
        ),
    ),
    shows="a diagonal of zeros does not prove that only the diagonal was changed.",
    derivation=(
        "For a matrix M, `torch.diag(M)` is the vector of its diagonal, and a matrix minus a vector subtracts it from "
        "every row. h(K, K) of a symmetric K with zeros on the diagonal is a sum of squares, so a negative value shows "
        "that K is not such a matrix."
    ),
)
