"""09.1 what no other network beats."""

import math
from typing import Any

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer
from .wrong_09_1 import WRONG

Numbers = list[float]


def pareto_front(costs: Numbers, gains: Numbers) -> list[int]:
    points = list(zip(costs, gains, strict=True))
    front = []
    for place in sorted(range(len(points)), key=lambda place: costs[place]):
        cost, gain = points[place]
        as_good = {(c, g) for c, g in points if c <= cost and g >= gain}
        if as_good == {(cost, gain)}:
            front.append(place)
    return front


def front_by_sweep(costs: Numbers, gains: Numbers) -> list[int]:
    front: list[int] = []
    for place in sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i], i)):
        last = front[-1] if front else None
        if last is None or gains[place] > gains[last] or (costs[place], gains[place]) == (costs[last], gains[last]):
            front.append(place)
    return front


def front_by_tensors(costs: Numbers, gains: Numbers) -> list[int]:
    cost, gain = torch.tensor(costs, dtype=torch.float64), torch.tensor(gains, dtype=torch.float64)
    no_worse = (cost[:, None] <= cost) & (gain[:, None] >= gain)
    better = (cost[:, None] < cost) | (gain[:, None] > gain)
    kept = ~(no_worse & better).any(dim=0)
    order = cost.argsort(stable=True)
    return order[kept[order]].tolist()


def front_by_definition(costs: Numbers, gains: Numbers) -> list[int]:
    front = []
    for i in range(len(costs)):
        dominated = False
        for j in range(len(costs)):
            no_worse = costs[j] <= costs[i] and gains[j] >= gains[i]
            dominated = dominated or (no_worse and (costs[j] < costs[i] or gains[j] > gains[i]))
        if not dominated:
            front.append(i)
    return sorted(front, key=lambda i: costs[i])


def _undominated(costs: Numbers, gains: Numbers) -> list[int]:
    """Undominated points, in the order given."""
    return sorted(pareto_front(costs, gains))


def worse_in_both(costs: Numbers, gains: Numbers) -> list[int]:
    points = list(zip(costs, gains, strict=True))
    kept = [i for i, (c, g) in enumerate(points) if not any(a < c and b > g for a, b in points)]
    return sorted(kept, key=lambda i: costs[i])


def dearer_for_as_much(costs: Numbers, gains: Numbers) -> list[int]:
    front, best = [], -math.inf
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i], i)):
        if gains[i] >= best:
            front.append(i)
            best = gains[i]
    return front


def worse_for_as_little(costs: Numbers, gains: Numbers) -> list[int]:
    points = list(zip(costs, gains, strict=True))
    kept = [i for i, (c, g) in enumerate(points) if not any(a < c and b >= g for a, b in points)]
    return sorted(kept, key=lambda i: costs[i])


def one_of_equals(costs: Numbers, gains: Numbers) -> list[int]:
    first = {(costs[i], gains[i]): i for i in reversed(pareto_front(costs, gains))}
    return sorted(first.values(), key=lambda i: costs[i])


def equals_remove_each_other(costs: Numbers, gains: Numbers) -> list[int]:
    points = list(zip(costs, gains, strict=True))
    return [i for i in pareto_front(costs, gains) if points.count(points[i]) == 1]


def better_than_the_one_before(costs: Numbers, gains: Numbers) -> list[int]:
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i], i))
    pairs = zip([None, *order], order, strict=False)
    return [i for last, i in pairs if last is None or gains[i] > gains[last] or _equal(costs, gains, last, i)]


def _equal(costs: Numbers, gains: Numbers, i: int, j: int) -> bool:
    return (costs[i], gains[i]) == (costs[j], gains[j])


def ties_by_place(costs: Numbers, gains: Numbers) -> list[int]:
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: costs[i]):
        if not front or gains[i] > gains[front[-1]] or _equal(costs, gains, i, front[-1]):
            front.append(i)
    return front


def best_of_a_weighted_sum(costs: Numbers, gains: Numbers) -> list[int]:
    front = pareto_front(costs, gains)
    dented = [
        j
        for j in front
        for i in front
        for k in front
        if costs[i] < costs[j] < costs[k]
        and (gains[j] - gains[i]) * (costs[k] - costs[i]) < (gains[k] - gains[i]) * (costs[j] - costs[i])
    ]
    return [i for i in front if i not in dented]


def dear_and_good(costs: Numbers, gains: Numbers) -> list[int]:
    return pareto_front([-cost for cost in costs], gains)[::-1]


def cheap_and_bad(costs: Numbers, gains: Numbers) -> list[int]:
    return pareto_front(costs, [-gain for gain in gains])


def places_in_the_sorted_list(costs: Numbers, gains: Numbers) -> list[int]:
    order = sorted(range(len(costs)), key=lambda i: costs[i])
    return [order.index(i) for i in pareto_front(costs, gains)]


def in_the_order_given(costs: Numbers, gains: Numbers) -> list[int]:
    return _undominated(costs, gains)


def by_falling_cost(costs: Numbers, gains: Numbers) -> list[int]:
    return sorted(_undominated(costs, gains), key=lambda i: -costs[i])


def points_for_places(costs: Numbers, gains: Numbers) -> list[Any]:
    return [(costs[i], gains[i]) for i in pareto_front(costs, gains)]


def front_cases() -> list[Case]:
    tied = [(52, 0.96), (31, 0.91), (52, 0.97), (90, 0.97), (31, 0.93), (14, 0.88), (52, 0.97), (70, 0.95)]
    many = [(8.0, 90), (3.0, 71), (5.0, 83), (9.0, 97), (3.0, 76), (6.0, 84), (6.0, 80), (12.0, 96), (9.0, 97)]
    many += [(7.0, 82), (14.0, 99), (2.0, 70), (20.0, 99), (9.0, 91)]
    return [
        case([400, 100, 200, 300], [0.97, 0.91, 0.95, 0.94]),
        *(case([cost for cost, _ in points], [gain for _, gain in points]) for points in (tied, many)),
        case([5, 5, 5], [0.9, 0.9, 0.9]),
        case([3, 1, 2, 3], [-0.2, -0.7, -0.9, -0.2]),
        case([1e6 + 0.01, 1e6, 5.0], [0.5 + 1e-9, 0.5, 0.1]),  # more digits than float32 has
    ]


def drawn_points(g: torch.Generator) -> Case:
    count = integer(g, 3, 9)
    return case([integer(g, 1, 6) for _ in range(count)], [integer(g, 80, 90) / 100 for _ in range(count)])


EXERCISE = Exercise(
    id="09.1",
    title="what no other network beats",
    question=(
        "Network i costs `costs[i]` (bytes, say) and gains `gains[i]` (accuracy, say): two lists of equal length. "
        "One network dominates another if it costs no more, gains no less, and is better in at least one of the two. "
        "Write `my_pareto_front(costs, gains)`: the indices i of all networks that no other dominates, as a list, by "
        "increasing cost. Networks equal in both do not dominate one another: if one stays, all stay, in the order "
        "given."
    ),
    skeleton=(
        'def my_pareto_front(costs, gains):\n    """Indices of the undominated networks, sorted by cost."""\n    ...'
    ),
    reference=pareto_front,
    alternatives=(front_by_sweep, front_by_tensors, front_by_definition),
    cases=front_cases,
    drawn=drawn_points,
    hints=(
        "Take one network. What must another one have, so that the first is never the better choice?",
        "j dominates i if costs[j] <= costs[i] and gains[j] >= gains[i], and one of the two is strict. Ask every j.",
        "`kept = [i for i in range(n) if not any(dominates(j, i) for j in range(n))]`, then "
        "`sorted(kept, key=lambda i: costs[i])`.",
    ),
    misconceptions=(
        Misconception(
            "dominated only if worse in both",
            worse_in_both,
            "you drop a network only if another is strictly better in both. One that costs the same and gains more, or "
            "gains the same and costs less, is enough: the other is never the better choice",
        ),
        Misconception(
            "more expensive for the same gain",
            dearer_for_as_much,
            "you keep a network that gains as much as a cheaper one. It costs more for nothing: with >= it stays, "
            "and only an equal point may",
        ),
        Misconception(
            "worse at the same cost",
            worse_for_as_little,
            "you keep a network that gains less than another of the same cost. At the same cost the better one "
            "is always preferable",
        ),
        Misconception(
            "one of equals",
            one_of_equals,
            "of networks that are equal in both you keep only the first. None of them is better, so none dominates: "
            "what tells them apart may be something you did not plot",
        ),
        Misconception(
            "equals remove each other",
            equals_remove_each_other,
            "your networks that are equal in both remove each other, and nothing is left at that point. To dominate, "
            "one of the two comparisons must be strict",
        ),
        Misconception(
            "better than the one before",
            better_than_the_one_before,
            "you compare each network with the next cheaper one. After a bad one, the next needs only to beat that. "
            "Compare with the best so far",
        ),
        Misconception(
            "equal costs in the order given",
            ties_by_place,
            "you go through the networks by cost, and of equal cost in the order given. A worse one that comes first "
            "is then kept before the better one is seen. Sort by (cost, -gain)",
        ),
        Misconception(
            "the best of some weighted sum",
            best_of_a_weighted_sum,
            "you keep what is best for some price per byte: gain - price · cost. A network in a concave part of "
            "the front is best at no price, yet nothing dominates it; under a budget it may be the one to take",
        ),
        Misconception(
            "high cost is good",
            dear_and_good,
            "you look for high cost. The better side is the cheap one: compare costs with <=, gains with >=",
        ),
        Misconception(
            "low gain is good",
            cheap_and_bad,
            "you look for low gain, as if it were an error rate. The better side is the accurate one: compare gains "
            "with >=",
        ),
        Misconception(
            "indices in the sorted list",
            places_in_the_sorted_list,
            "your indices belong to the list after sorting, so they refer to other networks. Sort the indices "
            "themselves: `sorted(range(n), key=…)`",
        ),
        Misconception(
            "in the order given",
            in_the_order_given,
            "the right networks, in the order given. Sort by increasing cost: only then is a line through them "
            "a staircase",
        ),
        Misconception(
            "by falling cost",
            by_falling_cost,
            "the right networks, the most expensive first. Sort by increasing cost",
        ),
        Misconception(
            "points instead of indices",
            points_for_places,
            "you return the points. Two networks can be at the same point: only the index says which network it is",
        ),
        *WRONG,
    ),
    shows="a network is worth a look as long as no other is at least as good in both and better in one.",
    derivation=(
        "j dominates i: c_j <= c_i, g_j >= g_i, (c_j, g_j) ≠ (c_i, g_i). So i stays if, among the points that are as "
        "cheap and as good, there is only its own. From left to right each point of the front has to beat the best "
        "gain so far, and that gives n log n instead of n²."
    ),
    forbidden=("kdcourse.metrics.pareto_front",),
    relative=0.0,
    absolute=0.0,
)
