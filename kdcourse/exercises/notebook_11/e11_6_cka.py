"""11.6 how similar two layers are."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import drawn_features, table


def cka(first: Tensor, second: Tensor) -> float:
    x, y = first - first.mean(dim=0), second - second.mean(dim=0)
    cross = (x.T @ y).square().sum()
    return (cross / ((x.T @ x).norm() * (y.T @ y).norm())).item()


def cka_by_grams(first: Tensor, second: Tensor) -> float:
    count = len(first)
    centring = torch.eye(count, dtype=torch.float64) - 1 / count
    one, other = (centring @ (x.double() @ x.double().T) @ centring for x in (first, second))
    return float(F.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def cka_by_numpy(first: Tensor, second: Tensor) -> float:
    x, y = (side.detach().numpy().astype(float) for side in (first, second))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    x_values, y_values = (np.linalg.svd(side, compute_uv=False) ** 2 for side in (x, y))
    cross = np.linalg.norm(y.T @ x) ** 2
    return float(cross / np.sqrt((x_values**2).sum() * (y_values**2).sum()))


def _centred(features: Tensor) -> Tensor:
    return features - features.mean(dim=0)


def _aligned(one: Tensor, other: Tensor) -> float:
    """The cosine of two matrices."""
    return ((one * other).sum() / (one.norm() * other.norm())).item()


def _of_grams(x: Tensor, y: Tensor) -> float:
    return _aligned(x @ x.T, y @ y.T)


def not_centred(first: Tensor, second: Tensor) -> float:
    return _of_grams(first, second)


def centred_over_features(first: Tensor, second: Tensor) -> float:
    x, y = (side - side.mean(dim=1, keepdim=True) for side in (first, second))
    return _of_grams(x, y)


def centred_by_one_mean(first: Tensor, second: Tensor) -> float:
    return _of_grams(first - first.mean(), second - second.mean())


def grams_centred_on_one_side(first: Tensor, second: Tensor) -> float:
    return _aligned(_centred(first @ first.T), _centred(second @ second.T))


def norms_not_centred(first: Tensor, second: Tensor) -> float:
    x, y = _centred(first), _centred(second)
    cross = (x.T @ y).square().sum()
    return (cross / ((first.T @ first).norm() * (second.T @ second).norm())).item()


def root_missing_below(first: Tensor, second: Tensor) -> float:
    x, y = _centred(first), _centred(second)
    return ((x.T @ y).square().sum() / ((x.T @ x).square().sum() * (y.T @ y).square().sum())).item()


def root_of_everything(first: Tensor, second: Tensor) -> float:
    return cka(first, second) ** 0.5


def cross_not_squared(first: Tensor, second: Tensor) -> float:
    x, y = _centred(first), _centred(second)
    return ((x.T @ y).norm() / ((x.T @ x).norm() * (y.T @ y).norm())).item()


def divided_by_the_lengths(first: Tensor, second: Tensor) -> float:
    x, y = _centred(first), _centred(second)
    return ((x.T @ y).square().sum() / (x.square().sum() * y.square().sum())).item()


def root_of_the_norms(first: Tensor, second: Tensor) -> float:
    x, y = _centred(first), _centred(second)
    return ((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()).sqrt()).item()


def nothing_below(first: Tensor, second: Tensor) -> float:
    return (_centred(first).T @ _centred(second)).square().sum().item()


def hsic(first: Tensor, second: Tensor) -> float:
    return nothing_below(first, second) / (len(first) - 1) ** 2


def cosine_of_covariances(first: Tensor, second: Tensor) -> float:
    x, y = _centred(first), _centred(second)
    return _aligned(x.T @ x, y.T @ y)


def cosine_of_features(first: Tensor, second: Tensor) -> float:
    return _aligned(_centred(first), _centred(second))


def each_unit_standardised(first: Tensor, second: Tensor) -> float:
    x, y = (_centred(side) / side.std(dim=0) for side in (first, second))
    return _of_grams(x, y)


def rows_of_length_one(first: Tensor, second: Tensor) -> float:
    x, y = (_centred(F.normalize(side, dim=1)) for side in (first, second))
    return _of_grams(x, y)


def mean_correlation_of_units(first: Tensor, second: Tensor) -> float:
    x, y = (F.normalize(_centred(side), dim=0) for side in (first, second))
    return (x.T @ y).square().mean().item()


def distance(first: Tensor, second: Tensor) -> float:
    return 1 - cka(first, second)


def debiased(first: Tensor, second: Tensor) -> float:
    n = len(first)
    one, other = ((x @ x.T).fill_diagonal_(0) for x in (_centred(first), _centred(second)))

    def estimate(a: Tensor, b: Tensor) -> Tensor:
        whole = a.sum() * b.sum() / ((n - 1) * (n - 2))
        return (a * b).sum() + whole - 2 * (a.sum(dim=0) @ b.sum(dim=0)) / (n - 2)

    return (estimate(one, other) / (estimate(one, one) * estimate(other, other)).sqrt()).item()


def cka_cases() -> list[Case]:
    first, second = table([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0], [2.0, 2.0]]), table([[1.0], [4.0], [0.5], [-2.0]])
    return [
        case(first, second),
        case(draw(6, 3, seed=1) + 2, draw(6, 3, seed=2) - 1),  # equal widths
        case(draw(5, 7, seed=3), draw(5, 2, seed=4) + 4),  # more features than examples
        case(draw(7, 2, seed=5).float() + 1, draw(7, 4, seed=6).float()),
        case(draw(4, 3, seed=7), 2 * draw(4, 3, seed=7)[:, [2, 0, 1]] + 5),  # the same but for order, scale and shift
    ]


EXERCISE = Exercise(
    id="11.6",
    title="how similar two layers are",
    question=(
        "Write `my_cka(first, second)`: the linear centred kernel alignment of two tensors of features, "
        "$(N, D_1)$ and $(N, D_2)$, of the same N examples. With $X$ and $Y$ the features minus the mean of each "
        "column, it is $\\lVert X^\\top Y \\rVert_F^2 \\,/\\, (\\lVert X^\\top X \\rVert_F \\, "
        "\\lVert Y^\\top Y \\rVert_F)$, where $\\lVert A \\rVert_F^2$ is the sum of the squares of all entries. "
        "Return a number. In neither tensor are all rows equal."
    ),
    skeleton=(
        "def my_cka(first, second):\n"
        '    """Linear centred kernel alignment: 1 for equal features, whatever their rotation and scale."""\n    ...'
    ),
    reference=cka,
    alternatives=(cka_by_grams, cka_by_numpy),
    cases=cka_cases,
    drawn=lambda g: case(*drawn_features(g, least=4)),
    hints=(
        "The C stands for *centred*. Over which dimension: the examples or the units?",
        "Subtract `features.mean(dim=0)`. Then three matrices: XᵀY, XᵀX and YᵀY. Which of them has its norm squared?",
        "`(x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())`; `.norm()` of a matrix is the Frobenius norm.",
    ),
    misconceptions=(
        Misconception(
            "not centred",
            not_centred,
            "you do not centre. After a ReLU no feature is negative, so that any two layers look similar: subtract "
            "each column's mean over the examples",
        ),
        Misconception(
            "centred over the features",
            centred_over_features,
            "you subtract each row's mean over its features. Centre over the *examples*, `dim=0`: a shift of all "
            "examples must not count",
        ),
        Misconception(
            "centred by one mean",
            centred_by_one_mean,
            "you subtract one mean of all entries. Each unit has a mean of its own: `features.mean(dim=0)`",
        ),
        Misconception(
            "Gram matrices centred on one side",
            grams_centred_on_one_side,
            "you centre the columns of the Gram matrices but not their rows. HKH has H on both sides: centre the "
            "features, and both follow",
        ),
        Misconception(
            "norms not centred",
            norms_not_centred,
            "you centre in the numerator but not in the denominator. Equal features then do not give 1",
        ),
        Misconception(
            "root missing in the denominator",
            root_missing_below,
            "you divide by the *squared* norms of XᵀX and YᵀY: in the form with HSIC, the root in the denominator is "
            "missing. Equal features then do not give 1",
        ),
        Misconception(
            "root of everything",
            root_of_everything,
            "this is the square root of the result. The norm of XᵀY is squared, so that the numerator has the fourth "
            "power of the features, as the denominator does",
        ),
        Misconception(
            "the norm in the numerator not squared",
            cross_not_squared,
            "the norm of XᵀY is not squared. Doubling the features must change nothing; here it makes the result "
            "smaller",
        ),
        Misconception(
            "divided by the lengths of the features",
            divided_by_the_lengths,
            "you divide by ‖X‖² ‖Y‖², the traces of XᵀX and YᵀY. The denominator has their norms, so that equal "
            "features give 1",
        ),
        Misconception(
            "root of the norms",
            root_of_the_norms,
            "you take the root of the product of the norms. The root belongs to the form with *squared* norms, "
            "√(‖XᵀX‖² ‖YᵀY‖²)",
        ),
        Misconception(
            "no denominator",
            nothing_below,
            "this is the numerator. It grows with the features' scale and number: divide by the two norms",
        ),
        Misconception(
            "HSIC",
            hsic,
            "this is HSIC, the numerator divided by (N - 1)². Divide by the two norms instead, so that equal features "
            "give 1",
        ),
        Misconception(
            "covariances compared",
            cosine_of_covariances,
            "you compare XᵀX with YᵀY, entry by entry. These are relations between *units*, which need equal widths "
            "and a common order. Compare how the examples relate: XᵀY in the numerator, or XXᵀ with YYᵀ",
        ),
        Misconception(
            "features compared entry by entry",
            cosine_of_features,
            "this is the cosine of X and Y, entry by entry. That needs equal widths, and a permutation of the units "
            "changes it",
        ),
        Misconception(
            "each unit standardised",
            each_unit_standardised,
            "you divide each unit by its standard deviation. That lets weak units count as much as strong ones: "
            "centre, and nothing else",
        ),
        Misconception(
            "rows of length 1",
            rows_of_length_one,
            "you scale each example's features to length 1. Linear alignment uses them as they are, minus the mean",
        ),
        Misconception(
            "mean correlation of units",
            mean_correlation_of_units,
            "this is the mean squared correlation of one unit with another. A rotation of the features changes it, and "
            "equal features do not give 1",
        ),
        Misconception(
            "a distance",
            distance,
            "this is 1 minus the result: a distance. The alignment is 1 for equal features",
        ),
        Misconception(
            "the debiased estimate",
            debiased,
            "this is the debiased estimate, which leaves out the diagonals. The question asks for the plain one",
        ),
    ),
    shows="the alignment of two layers needs no equal widths, and a rotation, a scale or a shift does not change it.",
    derivation=(
        "‖XᵀY‖² = ⟨XXᵀ, YYᵀ⟩, so the fraction is the cosine of the two Gram matrices of the examples: 1 if one is a "
        "multiple of the other. Y = aXQ + b with a rotation Q gives that. Source: Kornblith et al. 2019, "
        "arXiv:1905.00414, section 3."
    ),
    relative=1e-4,
    forbidden=("kdcourse.metrics.cka",),
)
