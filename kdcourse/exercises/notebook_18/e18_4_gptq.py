"""18.4 rounding errors that later weights correct."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import table


def gptq(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    limit = 2 ** (bits - 1) - 1
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    current, rounded = weight.clone(), torch.zeros_like(weight)
    for j in range(weight.shape[1]):
        rounded[:, j] = scale * (current[:, j] / scale).round().clamp(-limit, limit)
        error = (current[:, j] - rounded[:, j]) / upper[j, j]
        current[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
    return rounded


def gptq_by_least_squares(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    """With the first columns fixed, the best later ones solve a linear system, from the given weights each time."""
    limit = 2 ** (bits - 1) - 1
    result = weight.clone()
    for j in range(weight.shape[1]):
        result[:, j] = scale * (result[:, j] / scale).round().clamp(-limit, limit)
        done, later = slice(0, j + 1), slice(j + 1, None)
        pull = (result[:, done] - weight[:, done]) @ hessian[done, later]
        result[:, later] = weight[:, later] - torch.linalg.solve(hessian[later, later], pull.T).T
    return result


def gptq_by_elimination(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    """Row by row, with the inverse of what is left of the Hessian, as in Optimal Brain Surgeon."""
    rows = []
    for row, step in zip(weight, scale.tolist(), strict=True):
        left, inverse, done = row.clone(), torch.linalg.inv(hessian), []
        while len(left):
            code = min(max(round(left[0].item() / step), 1 - 2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            done.append(code * step)
            left = (left - (left[0] - done[-1]) / inverse[0, 0] * inverse[0])[1:]
            inverse = (inverse - torch.outer(inverse[:, 0], inverse[0]) / inverse[0, 0])[1:, 1:]
        rows.append(table(done))
    return torch.stack(rows)


def _nearest(column: Tensor, scale: Tensor, bits: int, below: int = 0) -> Tensor:
    limit = 2 ** (bits - 1) - 1
    return scale * (column / scale).round().clamp(-limit - below, limit)


def _spread(weight: Tensor, scale: Tensor, bits: int, changes: Tensor, below: int = 0) -> Tensor:
    """Column by column; an error in column j times row j of ``changes`` is taken from the others."""
    result = weight.clone()
    for j in range(weight.shape[1]):
        rounded = _nearest(result[:, j], scale, bits, below)
        result = result - (result[:, j] - rounded)[:, None] * changes[j].where(torch.arange(len(changes)) > j, 0.0)
        result[:, j] = rounded
    return result


def _upper(hessian: Tensor) -> Tensor:
    return torch.linalg.cholesky(torch.linalg.inv(hessian)).T


def _by_diagonal(matrix: Tensor) -> Tensor:
    return matrix / matrix.diagonal()[:, None]


def plain_rounding(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return _nearest(weight.T, scale, bits).T


def one_stale_inverse(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return _spread(weight, scale, bits, _by_diagonal(torch.linalg.inv(hessian)))


def the_hessian_itself(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return _spread(weight, scale, bits, _by_diagonal(hessian))


def factor_of_the_hessian(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return _spread(weight, scale, bits, _by_diagonal(torch.linalg.cholesky(hessian).T))


def lower_factor_inverted(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    lower = torch.linalg.cholesky(hessian)
    return _spread(weight, scale, bits, _by_diagonal(torch.linalg.inv(lower).T))


def not_divided(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return _spread(weight, scale, bits, _upper(hessian))


def divided_by_the_square(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    upper = _upper(hessian)
    return _spread(weight, scale, bits, upper / upper.diagonal().square()[:, None])


def diagonal_of_the_inverse(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return _spread(weight, scale, bits, _upper(hessian) / torch.linalg.inv(hessian).diagonal()[:, None])


def the_wrong_way(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return _spread(weight, scale, bits, -_by_diagonal(_upper(hessian)))


def the_next_column_alone(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    changes = _by_diagonal(_upper(hessian))
    return _spread(weight, scale, bits, changes.triu(1).tril(1))


def last_column_first(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return gptq(weight.flip(1), hessian.flip(0, 1), scale, bits=bits).flip(1)


def given_weights_rounded(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    """Repaired weights are returned, but the errors are those of the given ones."""
    errors = weight - plain_rounding(weight, hessian, scale, bits=bits)
    return _nearest((weight - errors @ _by_diagonal(_upper(hessian)).triu(1)).T, scale, bits).T


def error_of_the_given(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    changes, result = _by_diagonal(_upper(hessian)), weight.clone()
    for j in range(weight.shape[1]):
        result[:, j] = _nearest(result[:, j], scale, bits)
        result[:, j + 1 :] -= (weight[:, j] - result[:, j])[:, None] * changes[j, j + 1 :]
    return result


def never_clamped(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return gptq(weight, hessian, scale, bits=30)


def clamped_at_the_end(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return _nearest(gptq(weight, hessian, scale, bits=30).T, scale, bits).T


def a_code_too_many(weight: Tensor, hessian: Tensor, scale: Tensor, *, bits: int) -> Tensor:
    return _spread(weight, scale, bits, _by_diagonal(_upper(hessian)), below=1)


def _hessian(seed: int | torch.Generator, inputs: int, shared: float) -> Tensor:
    """That of inputs which have a part in common, so that their columns can stand in for one another."""
    rows = draw(3 * inputs, inputs + 1, seed=seed, spread=1.0)
    x = rows[:, :-1] + shared * rows[:, -1:]
    return x.T @ x


def gptq_cases() -> list[Case]:
    small = table([[0.6, 0.6, 3.0], [-0.4, 1.4, -2.0]])
    joint = table([[2.0, 1.9, 0.1], [1.9, 2.0, 0.2], [0.1, 0.2, 1.0]])
    scales = table([0.7, 1.1, 0.4])
    return [
        case(table([[0.6, 0.6]]), table([[2.0, 1.5], [1.5, 2.0]]), table([1.0]), bits=2),
        case(small, joint, table([1.0, 0.8]), bits=3),
        case(table([[0.5, 1.5, -2.5]]), torch.diag(table([2.0, 0.5, 1.0])), table([1.0]), bits=3),  # ties
        case(draw(3, 6, seed=1, spread=1.0), _hessian(11, 6, 2.0), scales, bits=3),
        case(draw(3, 6, seed=2, spread=2.0), _hessian(12, 6, 1.0), scales.clone(), bits=2),
        case(draw(3, 8, seed=3, spread=1.5), _hessian(13, 8, 3.0), scales / 4, bits=4),
        case(draw(2, 8, seed=4, spread=1.0), _hessian(14, 8, 0.5), table([0.3, 0.25]), bits=3),
    ]


def drawn_gptq(g: torch.Generator) -> Case:
    outputs, inputs, bits = integer(g, 1, 3), integer(g, 2, 6), integer(g, 2, 4)
    weight = draw(outputs, inputs, seed=g, spread=1.0)
    scale = (draw(outputs, seed=g).abs() / 3 + 1.2) / 2 ** (bits - 1)
    return case(weight, _hessian(g, inputs, integer(g, 0, 6) / 2), scale, bits=bits)


EXERCISE = Exercise(
    id="18.4",
    title="rounding errors that later weights correct",
    question=(
        "`weight` is a float64 tensor (outputs, inputs), and `hessian`, H = XᵀX, a symmetric, positive definite "
        "float64 tensor (inputs, inputs), says what the layer reads: the squared error of its outputs is the sum of (ŵ "
        "- w) · H · (ŵ - w)ᵀ over all rows, where w is a row of `weight` and ŵ the row that replaces it. Write "
        "`my_gptq(weight, hessian, scale, *, bits)`: the tensor of the rounded weights ŵ, found column by column, from "
        "the first to the last. First round the column as it is by then: each entry becomes its row's entry of the "
        "tensor `scale` (outputs,), times the integer nearest to entry / scale among -(2^(bits-1) - 1) to 2^(bits-1) - "
        "1, ties to the even integer. These values are final. Then set all later columns to the values that make the "
        "squared error above smallest, with all rounded columns fixed. Do not add anything to the Hessian."
    ),
    skeleton=(
        "def my_gptq(weight, hessian, scale, *, bits):\n"
        '    """The weights rounded column by column, the later ones correcting the earlier ones."""\n    ...'
    ),
    reference=gptq,
    alternatives=(gptq_by_least_squares, gptq_by_elimination),
    cases=gptq_cases,
    drawn=drawn_gptq,
    hints=(
        "Two inputs that are almost equal: if the weight of one is rounded up by 0.4, what should the weight of the "
        "other do?",
        "With U the upper Cholesky factor of H⁻¹ (H⁻¹ = UᵀU), the best change of a later column k is -(w_j - ŵ_j) / "
        "U_jj · U_jk. w_j is the column as it was just before it was rounded.",
        "`upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)`. For each j: round column j of a copy, "
        "divide its error by `upper[j, j]`, and subtract `error[:, None] * upper[j, j + 1 :]` from the later columns.",
    ),
    misconceptions=(
        Misconception(
            "plain rounding",
            plain_rounding,
            "you round every weight to the nearest value, and no later column moves. The errors of inputs that go "
            "together then add up",
        ),
        Misconception(
            "one stale inverse",
            one_stale_inverse,
            "you use rows of H⁻¹ itself. They are right for the first column only: afterwards what is fixed cannot "
            "move any more, and the inverse is another. The rows of its upper Cholesky factor take that into account",
        ),
        Misconception(
            "the Hessian itself",
            the_hessian_itself,
            "you use the rows of H. How the other weights can make up for an error is in its inverse",
        ),
        Misconception(
            "the factor of the Hessian",
            factor_of_the_hessian,
            "you use the Cholesky factor of H. It is the factor of the inverse that is needed",
        ),
        Misconception(
            "the lower factor inverted",
            lower_factor_inverted,
            "you invert the lower factor of H. That gives a factor of H⁻¹, but one for the order from the last column "
            "to the first. Invert H, then factorize",
        ),
        Misconception(
            "not divided",
            not_divided,
            "you do not divide the error by U_jj. A row of U says how the columns move together; column j itself moves "
            "by U_jj there",
        ),
        Misconception(
            "divided by the square",
            divided_by_the_square,
            "you divide by U_jj². That belongs to a row of the inverse; a row of U is divided by U_jj once",
        ),
        Misconception(
            "the diagonal of the inverse",
            diagonal_of_the_inverse,
            "you divide by the diagonal of H⁻¹, and multiply by rows of its factor. Take both from the factor",
        ),
        Misconception(
            "the wrong way",
            the_wrong_way,
            "the later columns move in the wrong direction, so that errors add up instead of cancelling: subtract (w_j "
            "- ŵ_j) / U_jj · U_jk",
        ),
        Misconception(
            "the next column alone",
            the_next_column_alone,
            "only the next column moves. All later ones can make up for an error",
        ),
        Misconception(
            "the last column first",
            last_column_first,
            "you go from the last column to the first. Another order gives other weights: start with column 0",
        ),
        Misconception(
            "the given weights rounded",
            given_weights_rounded,
            "the errors you spread are those of plain rounding. A column has moved by the time it is rounded: round "
            "what it is then, and spread that error",
        ),
        Misconception(
            "the error of the given weights",
            error_of_the_given,
            "you round the column as it is by then, but take its error from the given weights. The difference was made "
            "up for already: compare with the column just before it was rounded",
        ),
        Misconception(
            "never clamped",
            never_clamped,
            "your codes leave their range. A column that has moved may lie beyond it: clamp",
        ),
        Misconception(
            "clamped at the end",
            clamped_at_the_end,
            "you clamp when all is done. What clamping takes away is an error, too: clamp before you spread it, so "
            "that later columns can make up for it",
        ),
        Misconception(
            "a code too many",
            a_code_too_many,
            "you clamp to -2^(bits-1) … 2^(bits-1) - 1. The codes are symmetric: they begin at -(2^(bits-1) - 1)",
        ),
    ),
    shows="a weight need not be near what it was, as long as the outputs are.",
    derivation=(
        "With what is fixed in F and the rest in R, the error is smallest where w_R moved by -H_RR⁻¹ H_RF (ŵ_F - w_F). "
        "Taking one column at a time, that is a step of Gaussian elimination on H⁻¹, and the rows of its upper "
        "Cholesky factor are what elimination leaves. With a diagonal H nothing moves: it is plain rounding. Source: "
        "Frantar et al. 2022, arXiv:2210.17323, sections 3.2 and 3.3."
    ),
    forbidden=("kdcourse.quantization.gptq",),
    points=2,
)
