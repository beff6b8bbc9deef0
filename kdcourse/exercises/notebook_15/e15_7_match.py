"""15.7 which unit is which."""

from itertools import permutations

import torch
from scipy import optimize
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import table


def match(units: Tensor, reference: Tensor) -> Tensor:
    gains = reference @ units.T
    return torch.as_tensor(optimize.linear_sum_assignment(gains.numpy(), maximize=True)[1])


def match_by_distance(units: Tensor, reference: Tensor) -> Tensor:
    costs = (reference[:, None] - units[None]).square().sum(dim=2)
    rows, columns = optimize.linear_sum_assignment(costs.numpy())
    order = torch.zeros(len(units), dtype=torch.int64)
    order[torch.as_tensor(rows)] = torch.as_tensor(columns)
    return order


def match_by_trying_all(units: Tensor, reference: Tensor) -> Tensor:
    orders = [torch.tensor(order) for order in permutations(range(len(units)))]
    return min(orders, key=lambda order: float((reference - units[order]).square().sum()))


def _assigned(gains: Tensor) -> Tensor:
    return torch.as_tensor(optimize.linear_sum_assignment(gains.numpy(), maximize=True)[1])


def nearest_of_all(units: Tensor, reference: Tensor) -> Tensor:
    return torch.cdist(reference, units).argmin(dim=1)


def largest_gain_of_each(units: Tensor, reference: Tensor) -> Tensor:
    return (reference @ units.T).argmax(dim=1)


def inverse(units: Tensor, reference: Tensor) -> Tensor:
    return match(units, reference).argsort()


def minimised(units: Tensor, reference: Tensor) -> Tensor:
    return _assigned(-(reference @ units.T))


def greedy(units: Tensor, reference: Tensor) -> Tensor:
    gains, order = reference @ units.T, []
    for row in gains.tolist():
        order.append(max((place for place in range(len(row)) if place not in order), key=lambda place: row[place]))
    return torch.tensor(order)


def greedy_by_pairs(units: Tensor, reference: Tensor) -> Tensor:
    gains, order = (reference @ units.T).clone(), torch.zeros(len(units), dtype=torch.int64)
    for _ in range(len(units)):
        row, column = divmod(int(gains.argmax()), len(units))
        order[row] = column
        gains[row], gains[:, column] = -torch.inf, -torch.inf
    return order


def by_cosine(units: Tensor, reference: Tensor) -> Tensor:
    first, second = (side / side.norm(dim=1, keepdim=True) for side in (reference, units))
    return _assigned(first @ second.T)


def by_correlation(units: Tensor, reference: Tensor) -> Tensor:
    first, second = (side - side.mean(dim=1, keepdim=True) for side in (reference, units))
    return _assigned((first / first.norm(dim=1, keepdim=True)) @ (second / second.norm(dim=1, keepdim=True)).T)


def by_distance_not_squared(units: Tensor, reference: Tensor) -> Tensor:
    return _assigned(-torch.cdist(reference, units))


def by_magnitude_of_the_gain(units: Tensor, reference: Tensor) -> Tensor:
    return _assigned((reference @ units.T).abs())


def by_norms(units: Tensor, reference: Tensor) -> Tensor:
    order = torch.zeros(len(units), dtype=torch.int64)
    order[reference.norm(dim=1).argsort()] = units.norm(dim=1).argsort()
    return order


def as_they_are(units: Tensor, reference: Tensor) -> Tensor:
    return torch.arange(len(units))


def match_cases() -> list[Case]:
    clear = table([1.0, 0.2, 0.1, 1.3, -0.9, 0.8]).reshape(3, 2)
    reference = draw(5, 4, seed=151)
    contested = table([3.0, 0.1, 2.6, 0.2, 2.9, -0.4]).reshape(3, 2)
    return [
        case(clear[[1, 2, 0]] * 1.1, clear),
        case(reference[[3, 0, 4, 1, 2]].clone(), reference.clone()),  # a permuted copy
        case(table([1.0, 1.1, 4.0, -0.5, 0.7, 2.0]).reshape(3, 2), contested),
        case(draw(4, 3, seed=152), draw(4, 3, seed=153)),
        case(-reference[[1, 2, 3, 4, 0]] + 0.3 * draw(5, 4, seed=154), reference.clone()),  # signs flipped
        case(draw(5, 2, seed=155) + 2, draw(5, 2, seed=156) + 2),
        case(draw(5, 6, seed=157), draw(5, 6, seed=158) * 0.3),
    ]


def drawn_match(g: torch.Generator) -> Case:
    count, inputs = integer(g, 2, 5), integer(g, 2, 5)
    return case(draw(count, inputs, seed=g) + 1, draw(count, inputs, seed=g))


EXERCISE = Exercise(
    id="15.7",
    title="which unit is which",
    question=(
        "Two networks have a hidden layer of U units each. A unit is a row of D numbers, its weights: `units` and "
        "`reference` are float64 tensors of shape (U, D). Write `my_match(units, reference)`: the order of the rows of "
        "`units`, an int64 tensor of length U in which every index from 0 to U - 1 occurs once, for which the sum of "
        "all squared entries of `reference - units[order]` is smallest. Only one order is best. You may use SciPy."
    ),
    skeleton=(
        "def my_match(units, reference):\n"
        '    """The order of units that brings them nearest to the reference."""\n    ...'
    ),
    reference=match,
    alternatives=(match_by_distance, match_by_trying_all),
    cases=match_cases,
    drawn=drawn_match,
    hints=(
        "If every unit of the reference takes its nearest one, two may take the same. What kind of problem is it to "
        "give each a different one?",
        "It is an assignment problem, `scipy.optimize.linear_sum_assignment`. Expand the square: which part depends on "
        "the order at all?",
        "`linear_sum_assignment((reference @ units.T).numpy(), maximize=True)[1]` as a tensor: row i of the table is "
        "the reference's unit i, and the column is the unit that takes its place.",
    ),
    misconceptions=(
        Misconception(
            "the nearest for each",
            nearest_of_all,
            "every unit of the reference takes its nearest unit, so that some are used twice and others never. Each "
            "index has to occur once",
        ),
        Misconception(
            "the largest product for each",
            largest_gain_of_each,
            "every unit of the reference takes the one with the largest inner product, so that some are used twice. "
            "Each index has to occur once",
        ),
        Misconception(
            "the inverse order",
            inverse,
            "this is the inverse order: it says where each of `units` goes. Asked for is which of `units` comes to "
            "place i. Rows of the table are the reference's",
        ),
        Misconception(
            "minimised",
            minimised,
            "you make the sum of inner products smallest. `linear_sum_assignment` minimises by default: pass "
            "`maximize=True`, or squared distances",
        ),
        Misconception(
            "greedy, one after another",
            greedy,
            "each unit of the reference takes the best one that is left. The first ones take away what others need "
            "more: solve the assignment as a whole",
        ),
        Misconception(
            "greedy, the best pair first",
            greedy_by_pairs,
            "you take the best pair, then the best of the rest. That is not always the best sum: solve the assignment "
            "as a whole",
        ),
        Misconception(
            "by cosine",
            by_cosine,
            "you compare directions only. In the sum of squares long units count for more: do not normalize",
        ),
        Misconception(
            "by correlation",
            by_correlation,
            "you centre and normalize each unit. That is a criterion for activations; here the sum of squared "
            "differences of the weights is asked for",
        ),
        Misconception(
            "distances that are not squared",
            by_distance_not_squared,
            "you add distances. The question asks for the sum of their *squares*, where one large distance counts for "
            "more than several small ones",
        ),
        Misconception(
            "the sign ignored",
            by_magnitude_of_the_gain,
            "you take the magnitude of the inner product. A unit with all signs flipped is as far away as can be",
        ),
        Misconception(
            "by length",
            by_norms,
            "you only compare how long the units are. Two units of the same length may point anywhere",
        ),
        Misconception("as they are", as_they_are, "you return the units in the order in which they are"),
    ),
    shows="the best order of a layer is an assignment problem, which is solved exactly and fast.",
    derivation=(
        "Σ‖r_i - u_o(i)‖² = Σ‖r_i‖² + Σ‖u_i‖² - 2 Σ r_iᵀu_o(i), and only the last sum depends on the order. U! orders "
        "are too many to try, the assignment takes about U³ steps. Source: Ainsworth, Hayase, Srinivasa 2023, "
        "arXiv:2209.04836, section 3.2."
    ),
    forbidden=("kdcourse.averaging.align",),
)
