"""Wrong answers to 09.1."""

import math

from ..engine.core import Misconception

Numbers = list[float]


def dominated(costs: Numbers, gains: Numbers, i: int) -> bool:
    points = list(zip(costs, gains, strict=True))
    return any(c <= costs[i] and g >= gains[i] and (c, g) != points[i] for c, g in points)


def by_cost(costs: Numbers) -> list[int]:
    return sorted(range(len(costs)), key=lambda i: costs[i])


def sweep_by_cost_alone(costs: Numbers, gains: Numbers) -> list[int]:
    front, best = [], -math.inf
    for i in by_cost(costs):
        if gains[i] > best:
            front.append(i)
            best = gains[i]
    return front


def loose_sweep_by_cost_alone(costs: Numbers, gains: Numbers) -> list[int]:
    front, best = [], -math.inf
    for i in by_cost(costs):
        if gains[i] >= best:
            front.append(i)
            best = gains[i]
    return front


def sweep_from_zero(costs: Numbers, gains: Numbers) -> list[int]:
    front, last = [], (math.nan, 0.0)
    for i in sorted(by_cost(costs), key=lambda i: (costs[i], -gains[i])):
        if gains[i] > last[1] or (costs[i], gains[i]) == last:
            front.append(i)
            last = costs[i], gains[i]
    return front


def one_before_no_equals(costs: Numbers, gains: Numbers) -> list[int]:
    order = sorted(by_cost(costs), key=lambda i: (costs[i], -gains[i]))
    return [i for last, i in zip([None, *order], order, strict=False) if last is None or gains[i] > gains[last]]


def best_ratio(costs: Numbers, gains: Numbers) -> list[int]:
    return [max(range(len(costs)), key=lambda i: gains[i] / costs[i])]


def the_dominated(costs: Numbers, gains: Numbers) -> list[int]:
    return [i for i in by_cost(costs) if dominated(costs, gains, i)]


def first_place_of_equals(costs: Numbers, gains: Numbers) -> list[int]:
    points = list(zip(costs, gains, strict=True))
    return [points.index(points[i]) for i in by_cost(costs) if not dominated(costs, gains, i)]


def better_in_one(costs: Numbers, gains: Numbers) -> list[int]:
    points = list(zip(costs, gains, strict=True))
    return [i for i in by_cost(costs) if not any(c < costs[i] or g > gains[i] for c, g in points)]


def equals_backwards(costs: Numbers, gains: Numbers) -> list[int]:
    kept = [i for i in by_cost(costs) if not dominated(costs, gains, i)]
    return sorted(kept, key=lambda i: (costs[i], -i))


WRONG = (
    Misconception(
        "a sweep by cost alone",
        sweep_by_cost_alone,
        "you sweep by increasing cost and keep what gains more than the best so far. Of equal costs the larger gain "
        "must come first, and of networks equal in both all stay",
    ),
    Misconception(
        "a loose sweep by cost alone",
        loose_sweep_by_cost_alone,
        "you sweep by increasing cost and keep what gains as much as the best so far. So a more expensive network "
        "stays that gains no more, and of equal costs one that gains less",
    ),
    Misconception(
        "a sweep from 0",
        sweep_from_zero,
        "your best so far starts at 0. A gain may be negative: start at -math.inf",
    ),
    Misconception(
        "the one before, without equals",
        one_before_no_equals,
        "you compare each network only with the next cheaper one, and drop equals. All cheaper ones count, and "
        "equal networks do not dominate one another",
    ),
    Misconception(
        "the best ratio",
        best_ratio,
        "you return the network with the most gain for its cost. That is one trade among many: the front contains "
        "all that are not dominated",
    ),
    Misconception(
        "the dominated",
        the_dominated,
        "these are the dominated networks. The others are asked for",
    ),
    Misconception(
        "the first place of equals",
        first_place_of_equals,
        "you look up the position with `index`, which finds the first of equal networks again and again. Keep the "
        "indices themselves",
    ),
    Misconception(
        "better in one is enough",
        better_in_one,
        "a network that is better in one number alone does not dominate: it must also be no worse in the other",
    ),
    Misconception(
        "equals backwards",
        equals_backwards,
        "of networks with equal cost you put the last one first. They stay in the order given",
    ),
)
