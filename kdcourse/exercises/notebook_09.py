"""Exercises of notebook 09: what is worth keeping, what fits, what is compared fairly, and in which order to do it."""

import math
from collections import Counter
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from .core import Case, Exercise, Misconception, case, draw

# --- 09.1 -------------------------------------------------------------------------------------------------------------

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
    ]


PARETO_FRONT = Exercise(
    id="09.1",
    title="what no other network beats",
    question=(
        "Network i costs `costs[i]` (bytes, say) and gains `gains[i]` (accuracy, say): two lists of equal length. "
        "One network dominates another if it costs no more, gains no less, and is better in at least one of the two. "
        "Write `my_pareto_front(costs, gains)`: the places i of all networks that no other dominates, as a list, by "
        "rising cost. Networks equal in both do not dominate one another: if one stays, all stay, in the order given."
    ),
    skeleton=(
        'def my_pareto_front(costs, gains):\n    """Places of the undominated networks, by rising cost."""\n    ...'
    ),
    reference=pareto_front,
    alternatives=(front_by_sweep, front_by_tensors, front_by_definition),
    cases=front_cases,
    hints=(
        "Take one network. What must another one have, so that nobody would still want the first?",
        "j dominates i if costs[j] <= costs[i] and gains[j] >= gains[i], and one of the two is strict. Ask every j.",
        "`kept = [i for i in range(n) if not any(dominates(j, i) for j in range(n))]`, then "
        "`sorted(kept, key=lambda i: costs[i])`.",
    ),
    misconceptions=(
        Misconception(
            "dominated only if worse in both",
            worse_in_both,
            "you drop a network only if another is strictly better in both. One that costs the same and gains more, or "
            "gains the same and costs less, is enough: nobody would still take the other",
        ),
        Misconception(
            "dearer for as much",
            dearer_for_as_much,
            "you keep a network that gains as much as a cheaper one. It costs more for nothing: with >= it stays, "
            "and only an equal point may",
        ),
        Misconception(
            "worse for as little",
            worse_for_as_little,
            "you keep a network that gains less than another of the same cost. For the same bytes everybody takes the "
            "better one",
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
            "you keep what is best for some price of a byte: gain - price · cost. A network in a dent of the front is "
            "best at no price, yet nothing beats it; under a budget it may be the one to take",
        ),
        Misconception(
            "dear is good",
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
            "places in the sorted list",
            places_in_the_sorted_list,
            "your places are those in the list after sorting. They name other networks. Sort the places themselves: "
            "`sorted(range(n), key=…)`",
        ),
        Misconception(
            "in the order given",
            in_the_order_given,
            "the right networks, in the order given. Asked is the order by rising cost: only so a line through them "
            "is a staircase",
        ),
        Misconception(
            "by falling cost",
            by_falling_cost,
            "the right networks, the dearest first. Asked is the order by rising cost",
        ),
        Misconception(
            "points for places",
            points_for_places,
            "you return the points. Two networks can share one point: only the place says which network it is",
        ),
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

# --- 09.2 -------------------------------------------------------------------------------------------------------------

Record = dict[str, Any]
Name = str | None


def fits(record: Record, max_kilobytes: float, max_milliseconds: float) -> bool:
    return record["bytes"] <= 1000 * max_kilobytes and record["milliseconds"] <= max_milliseconds


def choose(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    fitting = [record for record in records if fits(record, max_kilobytes, max_milliseconds)]
    if not fitting:
        return None
    return max(fitting, key=lambda record: fmean(record["validation"]))["name"]


def choose_by_sorting(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    ranked = sorted(records, key=lambda record: sum(record["validation"]) / len(record["validation"]), reverse=True)
    for record in ranked:
        if record["bytes"] / 1000 <= max_kilobytes and record["milliseconds"] <= max_milliseconds:
            return record["name"]
    return None


def choose_in_a_loop(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    name, best = None, -math.inf
    for record in records:
        if record["bytes"] > max_kilobytes * 1000 or record["milliseconds"] > max_milliseconds:
            continue
        mean = torch.tensor(record["validation"], dtype=torch.float64).mean().item()
        if mean > best:
            name, best = record["name"], mean
    return name


def _best(fitting: list[Record], value: Any) -> Name:
    return max(fitting, key=value)["name"] if fitting else None


def _mean(record: Record) -> float:
    return fmean(record["validation"])


def _fitting(records: list[Record], kilobytes: float, milliseconds: float) -> list[Record]:
    return [record for record in records if fits(record, kilobytes, milliseconds)]


def chosen_on_test(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: one["test"])


def best_seed(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: max(one["validation"]))


def first_seed(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: one["validation"][0])


def summed_over_seeds(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: sum(one["validation"]))


def only_bytes(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, math.inf), _mean)


def only_milliseconds(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, math.inf, max_milliseconds), _mean)


def either_budget(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    small, fast = _fitting(records, max_kilobytes, math.inf), _fitting(records, math.inf, max_milliseconds)
    return _best([one for one in records if one in small or one in fast], _mean)


def strictly_below(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    below = [one for one in records if one["bytes"] < 1000 * max_kilobytes and one["milliseconds"] < max_milliseconds]
    return _best(below, _mean)


def smallest_that_fits(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: -one["bytes"])


def fastest_that_fits(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: -one["milliseconds"])


def most_for_a_byte(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds), lambda one: _mean(one) / one["bytes"])


def kilobytes_as_bytes(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes / 1000, max_milliseconds), _mean)


def powers_of_two(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes * 1.024, max_milliseconds), _mean)


def budget_afterwards(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    best = max(records, key=_mean)
    return _best(_fitting([best], max_kilobytes, max_milliseconds), _mean)


def best_if_nothing_fits(records: list[Record], *, max_kilobytes: float, max_milliseconds: float) -> Name:
    return _best(_fitting(records, max_kilobytes, max_milliseconds) or records, _mean)


def which_name(result: Any, case: Case) -> Any:
    """The answer, if it is a name in the records or None."""
    if result is not None and result not in [record["name"] for record in case.arguments[0]]:
        raise ValueError("none of the names")
    return {"chosen": result}


def measured(name: str, validation: list[float], test: float, bytes: int, milliseconds: float) -> Record:
    return {"name": name, "validation": validation, "test": test, "bytes": bytes, "milliseconds": milliseconds}


def networks_measured() -> list[Record]:
    return [
        measured("teacher", [0.981, 0.983, 0.979], 0.982, 1_651_200, 9.2),
        measured("wide, few seeds", [0.974, 0.976], 0.971, 204_800, 2.5),
        measured("lucky", [0.958, 0.979, 0.955], 0.968, 180_000, 2.2),
        measured("well on test", [0.969, 0.968, 0.967], 0.977, 199_000, 2.4),
        measured("good first seed", [0.978, 0.957, 0.963], 0.966, 150_000, 1.9),
        measured("distilled", [0.971, 0.972, 0.97], 0.97, 200_000, 2.4),
        measured("many seeds", [0.964, 0.966, 0.965, 0.963, 0.967], 0.965, 120_000, 1.8),
        measured("slow int8", [0.977, 0.976, 0.978], 0.975, 61_000, 6.1),
        measured("fast and large", [0.979, 0.978, 0.98], 0.979, 700_000, 1.7),
        measured("pruned", [0.961, 0.959, 0.963], 0.962, 52_300, 1.2),
        measured("pruned, int8", [0.952, 0.949, 0.955], 0.951, 17_400, 1.3),
        measured("tiny", [0.902, 0.899, 0.905], 0.901, 1_520, 1.6),
        measured("collapsed", [0.1, 0.1, 0.1], 0.1, 1_480, 1.7),
    ]


def choice_cases() -> list[Case]:
    few = [
        measured("small", [0.94, 0.95], 0.95, 30_000, 1.0),
        measured("large", [0.97, 0.98], 0.97, 90_000, 3.0),
        measured("middle", [0.96, 0.95], 0.96, 45_000, 2.0),
    ]
    return [
        case(few, max_kilobytes=50, max_milliseconds=2.5),
        case(networks_measured(), max_kilobytes=200, max_milliseconds=2.5),
        case(networks_measured(), max_kilobytes=52.3, max_milliseconds=1.2),
        case(networks_measured(), max_kilobytes=1700, max_milliseconds=1.8),
        case(networks_measured(), max_kilobytes=10, max_milliseconds=1.3),
        case(networks_measured(), max_kilobytes=1700, max_milliseconds=10),
    ]


CHOOSE = Exercise(
    id="09.2",
    title="the best that fits",
    question=(
        "Each of `records` is a dict: `name`, `validation` (a list of accuracies, one a seed), `test` (one accuracy), "
        "`bytes` and `milliseconds`. The device has room for `max_kilobytes` (1 KB = 1,000 bytes) and waits "
        "`max_milliseconds`; exactly that much still fits. Write "
        "`my_choice(records, *, max_kilobytes, max_milliseconds)`: the name of the network with the best mean "
        "accuracy on validation among those that fit, or `None` if none does. No two means are equal; not every "
        "network has the same number of seeds."
    ),
    skeleton=(
        "def my_choice(records, *, max_kilobytes, max_milliseconds):\n"
        '    """Name of the best network on validation that fits both budgets, or None."""\n    ...'
    ),
    reference=choose,
    alternatives=(choose_by_sorting, choose_in_a_loop),
    cases=choice_cases,
    hints=(
        "Two steps: who may take part, and who wins. Which of the numbers belong to which step? One belongs to none.",
        "Keep the records that meet both budgets with <=, in the same unit. If the list is empty, return None. Then "
        "`max` by the mean of `validation`.",
        '`max(fitting, key=lambda record: fmean(record["validation"]))["name"]`, with `fmean` from `statistics`.',
    ),
    misconceptions=(
        Misconception(
            "chosen on test",
            chosen_on_test,
            "you choose by test accuracy. Test then has done the choosing, and the winner's number there is too high: "
            "its luck helped it to win. Choose on validation, report test once",
        ),
        Misconception(
            "the best seed",
            best_seed,
            "you take each network's best seed. The maximum rewards luck that varies, and more seeds give more tries. "
            "Compare means",
        ),
        Misconception(
            "the first seed",
            first_seed,
            "you look at the first seed alone. One run holds the network's worth and its own luck, and cannot tell "
            "them apart. Compare means",
        ),
        Misconception(
            "summed over seeds",
            summed_over_seeds,
            "you add up the seeds. Whoever was trained more often then wins. Divide by the number of seeds",
        ),
        Misconception(
            "only the bytes checked",
            only_bytes,
            "you check the bytes only. A small file can be slow, and then nobody waits for it: both budgets must hold",
        ),
        Misconception(
            "only the milliseconds checked",
            only_milliseconds,
            "you check the milliseconds only. A fast network can be too large for the device: both budgets must hold",
        ),
        Misconception(
            "either budget is enough",
            either_budget,
            "you keep a network that meets one of the two budgets. A device needs both: `and`, not `or`",
        ),
        Misconception(
            "strictly below",
            strictly_below,
            "you ask for less than the budget. What takes exactly as much still fits: <=",
        ),
        Misconception(
            "the smallest that fits",
            smallest_that_fits,
            "you take the smallest file that fits. A budget is a bound, no aim: room that is left over helps nobody. "
            "Take the most accurate",
        ),
        Misconception(
            "the fastest that fits",
            fastest_that_fits,
            "you take the fastest that fits. A budget is a bound, no aim: time that is left over helps nobody. Take "
            "the most accurate",
        ),
        Misconception(
            "most accuracy for a byte",
            most_for_a_byte,
            "you divide accuracy by bytes. Bytes range over powers of ten and accuracy hardly moves, so the smallest "
            "wins, however bad it is. Under a budget, bytes only decide who takes part",
        ),
        Misconception(
            "kilobytes compared with bytes",
            kilobytes_as_bytes,
            "you compare bytes with kilobytes. Almost nothing fits then. Multiply the budget by 1,000",
        ),
        Misconception(
            "1,024 bytes",
            powers_of_two,
            "your KB has 1,024 bytes. That is a KiB; here 1 KB = 1,000 bytes, and the 2.4 % between them let in a "
            "network that does not fit",
        ),
        Misconception(
            "the budget looked at last",
            budget_afterwards,
            "you take the best of all and then see whether it fits. The best of all hardly ever does; the best of "
            "those that fit is asked for. Filter first",
        ),
        Misconception(
            "the best if nothing fits",
            best_if_nothing_fits,
            "where nothing fits you name a network all the same. Whoever asked will ship it, and it will not run. "
            "Return None",
        ),
    ),
    shows="budgets say who takes part, the mean on validation says who wins, and test has no say.",
    derivation=(
        "Maximise the mean over seeds on validation, subject to bytes <= B and milliseconds <= M. The answer lies on "
        "the front: what dominates it would fit as well, and would have been chosen. Test is looked at once, for the "
        "one that was chosen."
    ),
    observe=which_name,
)

# --- 09.3 -------------------------------------------------------------------------------------------------------------


def comparable(recipe: Record) -> Record:
    known = dict(recipe)
    if isinstance(known.get("epochs"), list):
        known["epochs"] = sum(known["epochs"])
    if "seeds" in known:
        known["seeds"] = sorted(known["seeds"])
    return known


def unfair_keys(first: Record, second: Record, *, about: str) -> list[str]:
    one, other = comparable(first), comparable(second)
    shared = {key for key in one if key in other and one[key] == other[key]}
    return sorted({*one, *other} - shared - {about})


def unfair_one_by_one(first: Record, second: Record, *, about: str) -> list[str]:
    found = []
    for key in sorted(set(first) | set(second)):
        if key == about:
            continue
        if key not in first or key not in second:
            found.append(key)
            continue
        pair = [first[key], second[key]]
        if key == "epochs":
            pair = [value if isinstance(value, int) else sum(value) for value in pair]
        if key == "seeds":
            pair = [set(value) for value in pair]
        if pair[0] != pair[1]:
            found.append(key)
    return found


def unfair_with_a_mark(first: Record, second: Record, *, about: str) -> list[str]:
    absent, found = object(), []
    for key in first.keys() | second.keys():
        one, other = first.get(key, absent), second.get(key, absent)
        if key == "epochs" and absent not in (one, other):
            one, other = (sum(value if isinstance(value, list) else [value]) for value in (one, other))
        if key == "seeds" and absent not in (one, other):
            one, other = Counter(one), Counter(other)
        if one != other:
            found.append(key)
    return sorted(key for key in found if key != about)


def _differing(one: Record, other: Record, about: str) -> list[str]:
    keys = {*one, *other} - {about}
    return sorted(key for key in keys if key not in one or key not in other or one[key] != other[key])


def _changed(recipe: Record, key: str, change: Any) -> Record:
    """The comparable recipe, with another reading of one key."""
    known = comparable(recipe)
    return {**known, key: change(recipe[key])} if key in recipe else known


def topic_included(first: Record, second: Record, *, about: str) -> list[str]:
    return _differing(comparable(first), comparable(second), "")


def missing_keys_overlooked(first: Record, second: Record, *, about: str) -> list[str]:
    return [key for key in unfair_keys(first, second, about=about) if key in first and key in second]


def only_the_first_recipes_keys(first: Record, second: Record, *, about: str) -> list[str]:
    return [key for key in unfair_keys(first, second, about=about) if key in first]


def none_for_missing(first: Record, second: Record, *, about: str) -> list[str]:
    one, other = comparable(first), comparable(second)
    return sorted(key for key in {*one, *other} - {about} if one.get(key) != other.get(key))


def stages_as_they_stand(first: Record, second: Record, *, about: str) -> list[str]:
    one, other = (_changed(recipe, "epochs", lambda value: value) for recipe in (first, second))
    return _differing(one, other, about)


def _stages(value: Any) -> list[int]:
    return value if isinstance(value, list) else [value]


def last_stage_only(first: Record, second: Record, *, about: str) -> list[str]:
    one, other = (_changed(recipe, "epochs", lambda value: _stages(value)[-1]) for recipe in (first, second))
    return _differing(one, other, about)


def longest_stage_only(first: Record, second: Record, *, about: str) -> list[str]:
    one, other = (_changed(recipe, "epochs", lambda value: max(_stages(value))) for recipe in (first, second))
    return _differing(one, other, about)


def seeds_in_order(first: Record, second: Record, *, about: str) -> list[str]:
    one, other = (_changed(recipe, "seeds", lambda value: value) for recipe in (first, second))
    return _differing(one, other, about)


def seeds_counted(first: Record, second: Record, *, about: str) -> list[str]:
    one, other = (_changed(recipe, "seeds", len) for recipe in (first, second))
    return _differing(one, other, about)


def one_shared_seed(first: Record, second: Record, *, about: str) -> list[str]:
    found = unfair_keys(first, second, about=about)
    shared = set(first.get("seeds", [])) & set(second.get("seeds", []))
    return [key for key in found if not (key == "seeds" and shared)]


def no_order_anywhere(first: Record, second: Record, *, about: str) -> list[str]:
    one, other = (
        {key: sorted(value) if isinstance(value, list) else value for key, value in comparable(recipe).items()}
        for recipe in (first, second)
    )
    return _differing(one, other, about)


def not_sorted(first: Record, second: Record, *, about: str) -> list[str]:
    found = unfair_keys(first, second, about=about)
    return [key for key in {**first, **second} if key in found]


def what_agrees(first: Record, second: Record, *, about: str) -> list[str]:
    return sorted({*first, *second} - {about} - set(unfair_keys(first, second, about=about)))


def recipe_cases() -> list[Case]:
    stages = {"teacher": "cnn", "epochs": [30, 15, 6], "batch_size": 64, "augmentation": ["shift", "rotate"]}
    runtime = {"runtime": "onnxruntime", "threads": 1, "batch_size": 1, "data": "mnist", "seeds": [3, 6]}
    return [
        case(
            {"epochs": 51, "seeds": [0, 1, 2], "threads": 1, "teacher": None},
            {"epochs": [30, 15, 6], "seeds": [2, 0, 1], "threads": 4, "teacher": "cnn", "seconds": 60},
            about="teacher",
        ),
        case(
            {**stages, "seeds": [0, 1, 2, 3, 4], "tuned_on": "validation", "pruned": 0.9},
            {**stages, "seeds": [0, 1, 2], "epochs": [30, 21], "augmentation": ["rotate", "shift"], "tuned_on": "test"},
            about="pruned",
        ),
        case(
            {**runtime, "epochs": [30, 6], "warm_up": None},
            {**runtime, "epochs": [30, 15, 6], "seeds": [4, 5], "bits": 8, "threads": 2, "runtime": "eager"},
            about="bits",
        ),
        case(
            {**stages, "epochs": 30, "seeds": [0, 1], "threads": 1, "data": "mnist"},
            {**stages, "epochs": [20, 10], "seeds": [1, 0], "threads": 1, "data": "mnist, half"},
            about="data",
        ),
    ]


UNFAIR_KEYS = Exercise(
    id="09.3",
    title="what else differs",
    question=(
        "`first` and `second` are recipes: dicts with keys such as `teacher`, `epochs`, `seeds`, `threads`. They are "
        "compared to learn about one key, `about`. Write `my_unfair_keys(first, second, *, about)`: the sorted list "
        "of the *other* keys in which they differ. A key that only one of them has is a difference, whatever its "
        "value: what is not stated is not known. `epochs` is a number or a list of stages that follow one another; "
        "equal totals are equal. `seeds` is a list without repeats; the same seeds in another order are equal. All "
        "else is compared as it stands, lists with their order."
    ),
    skeleton=(
        "def my_unfair_keys(first, second, *, about):\n"
        '    """Sorted keys, other than the one in question, in which two recipes differ."""\n    ...'
    ),
    reference=unfair_keys,
    alternatives=(unfair_one_by_one, unfair_with_a_mark),
    cases=recipe_cases,
    hints=(
        "First bring both recipes into a form in which equal means `==`. Then look at all keys of both.",
        "Sum a list of epochs, sort the seeds, in a copy. The keys are `set(first) | set(second)`, less `about`. "
        "`first.get(key)` cannot tell a missing key from None.",
        "`sorted(key for key in keys if key not in first or key not in second or first[key] != second[key])`, after "
        "epochs and seeds have been replaced in copies.",
    ),
    misconceptions=(
        Misconception(
            "the topic included",
            topic_included,
            "you list the key that the comparison is about. It is meant to differ; unfair is what differs besides",
        ),
        Misconception(
            "missing keys overlooked",
            missing_keys_overlooked,
            "you compare only the keys that both recipes have. What one of them does not state may be anything, and "
            "papers leave out just what would not look good",
        ),
        Misconception(
            "only the first recipe's keys",
            only_the_first_recipes_keys,
            "you go through the first recipe's keys only. Swap the two and the answer changes: a fair comparison is "
            "fair from both sides",
        ),
        Misconception(
            "missing taken for None",
            none_for_missing,
            "you take a missing key for None, as `.get` does. None says there was none; a missing key says nothing",
        ),
        Misconception(
            "stages compared as they stand",
            stages_as_they_stand,
            "you compare the epochs as they stand. Stages follow one another, so 30, 15 and 6 epochs are 51: sum them",
        ),
        Misconception(
            "the last stage alone",
            last_stage_only,
            "you compare the last stage's epochs. The stages before it trained the same network, too: sum them",
        ),
        Misconception(
            "the longest stage alone",
            longest_stage_only,
            "you compare the longest stage's epochs. The others trained the same network, too: sum them",
        ),
        Misconception(
            "seeds in order",
            seeds_in_order,
            "you compare the seeds with their order. Whichever ran first, the same runs were made",
        ),
        Misconception(
            "seeds counted",
            seeds_counted,
            "you compare how many seeds there are. With other seeds the pairs share no start and no batch order, and "
            "luck comes between them",
        ),
        Misconception(
            "one shared seed is enough",
            one_shared_seed,
            "you accept seeds that overlap. The runs that only one side has bring luck that the other side did not get",
        ),
        Misconception(
            "no order anywhere",
            no_order_anywhere,
            "you ignore the order in every list. Only seeds have none: to shift and then rotate makes another image "
            "than to rotate and then shift",
        ),
        Misconception(
            "not sorted",
            not_sorted,
            "the right keys, in the order in which the recipes name them. Sort them",
        ),
        Misconception(
            "what agrees",
            what_agrees,
            "you list the keys that agree. Those are fair; what differs is asked for",
        ),
    ),
    shows="a comparison is about one thing only if all else is stated and the same.",
    derivation=(
        "Whatever differs between two arms can explain a difference of their results. So the list must be empty before "
        "the gap is given a name. The total of the epochs counts, for a rival trained once may use them all at once."
    ),
)

# --- 09.4 -------------------------------------------------------------------------------------------------------------


def pruned(weight: Tensor, sparsity: float) -> Tensor:
    result = weight.flatten().clone()
    smallest = result.abs().argsort(stable=True)[: round(sparsity * len(result))]
    result[smallest] = 0
    return result.reshape(weight.shape)


def rounded(weight: Tensor, bits: int) -> Tensor:
    scale = weight.abs().max() / (2 ** (bits - 1) - 1)
    return torch.round(weight / scale) * scale


Errors = tuple[float, float]


def two_orders(weight: Tensor, sparsity: float, bits: int) -> Errors:
    pruned_first = rounded(pruned(weight, sparsity), bits)
    rounded_first = pruned(rounded(weight, bits), sparsity)
    return (pruned_first - weight).square().mean().item(), (rounded_first - weight).square().mean().item()


def orders_by_codes(weight: Tensor, sparsity: float, bits: int) -> Errors:
    flat = weight.flatten()
    scale = flat.abs().max() / (2 ** (bits - 1) - 1)
    codes = torch.round(flat / scale).long()
    count, errors = round(sparsity * len(flat)), []
    for scores in (flat, codes):
        order = torch.sort(scores.abs(), stable=True).indices
        kept = torch.ones_like(codes).index_fill(0, order[:count], 0)
        errors.append(torch.mean((kept * codes * scale - flat) ** 2).item())
    return errors[0], errors[1]


def orders_by_lists(weight: Tensor, sparsity: float, bits: int) -> Errors:
    values = weight.flatten().tolist()
    scale = max(map(abs, values)) / (2 ** (bits - 1) - 1)
    codes = [round(value / scale) for value in values]
    count, errors = round(sparsity * len(values)), []
    for scores in (values, codes):
        gone = set(sorted(range(len(values)), key=lambda place: abs(scores[place]))[:count])
        squares = [
            (value - (0 if place in gone else code * scale)) ** 2
            for place, (value, code) in enumerate(zip(values, codes, strict=True))
        ]
        errors.append(fmean(squares))
    return errors[0], errors[1]


def _errors(weight: Tensor, one: Tensor, other: Tensor) -> Errors:
    return (one - weight).square().mean().item(), (other - weight).square().mean().item()


def one_mask_for_both(weight: Tensor, sparsity: float, bits: int) -> Errors:
    left = pruned(weight, sparsity)
    return _errors(weight, rounded(left, bits), rounded(weight, bits) * (left != 0))


def orders_swapped(weight: Tensor, sparsity: float, bits: int) -> Errors:
    one, other = two_orders(weight, sparsity, bits)
    return other, one


def against_the_step_before(weight: Tensor, sparsity: float, bits: int) -> Errors:
    before = pruned(weight, sparsity), rounded(weight, bits)
    after = rounded(before[0], bits), pruned(before[1], sparsity)
    first, second = ((new - old).square().mean().item() for new, old in zip(after, before, strict=True))
    return first, second


def errors_added(weight: Tensor, sparsity: float, bits: int) -> Errors:
    steps = _errors(weight, pruned(weight, sparsity), rounded(weight, bits))
    return sum(steps), sum(steps)


def each_step_alone(weight: Tensor, sparsity: float, bits: int) -> Errors:
    return _errors(weight, pruned(weight, sparsity), rounded(weight, bits))


def _with(weight: Tensor, sparsity: float, bits: int, prune: Any, to_grid: Any) -> Errors:
    return _errors(weight, to_grid(prune(weight, sparsity), bits), prune(to_grid(weight, bits), sparsity))


def all_ties_pruned(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        count = round(share * tensor.numel())
        if count == 0:
            return tensor
        threshold = tensor.abs().flatten().sort().values[count - 1]
        return tensor * (tensor.abs() > threshold)

    return _with(weight, sparsity, bits, prune, rounded)


def all_ties_kept(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        threshold = tensor.abs().flatten().sort().values[round(share * tensor.numel())]
        return tensor * (tensor.abs() >= threshold)

    return _with(weight, sparsity, bits, prune, rounded)


def last_ties_pruned(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        return pruned(tensor.flatten().flip(0), share).flip(0).reshape(tensor.shape)

    return _with(weight, sparsity, bits, prune, rounded)


def share_kept(weight: Tensor, sparsity: float, bits: int) -> Errors:
    return _with(weight, 1 - sparsity, bits, pruned, rounded)


def signed_order(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        result = tensor.flatten().clone()
        result[result.argsort(stable=True)[: round(share * len(result))]] = 0
        return result.reshape(tensor.shape)

    return _with(weight, sparsity, bits, prune, rounded)


def pruned_row_by_row(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def prune(tensor: Tensor, share: float) -> Tensor:
        return torch.stack([pruned(row, share) for row in tensor])

    return _with(weight, sparsity, bits, prune, rounded)


def _on_grid(steps: float) -> Any:
    def to_grid(tensor: Tensor, bits: int) -> Tensor:
        scale = tensor.abs().max() / (2 ** (bits - 1) + steps)
        return torch.round(tensor / scale) * scale

    return to_grid


def grid_one_step_longer(weight: Tensor, sparsity: float, bits: int) -> Errors:
    return _with(weight, sparsity, bits, pruned, _on_grid(0))


def sign_bit_forgotten(weight: Tensor, sparsity: float, bits: int) -> Errors:
    return _with(weight, sparsity, bits + 1, pruned, _on_grid(-1))


def cut_to_the_grid(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def to_grid(tensor: Tensor, bits: int) -> Tensor:
        scale = tensor.abs().max() / (2 ** (bits - 1) - 1)
        return torch.trunc(tensor / scale) * scale

    return _with(weight, sparsity, bits, pruned, to_grid)


def codes_for_weights(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def to_grid(tensor: Tensor, bits: int) -> Tensor:
        return torch.round(tensor / (tensor.abs().max() / (2 ** (bits - 1) - 1)))

    return _with(weight, sparsity, bits, pruned, to_grid)


def grid_of_each_row(weight: Tensor, sparsity: float, bits: int) -> Errors:
    def to_grid(tensor: Tensor, bits: int) -> Tensor:
        scale = tensor.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
        return torch.round(tensor / scale.clamp(min=1e-12)) * scale

    return _with(weight, sparsity, bits, pruned, to_grid)


def sums_of_squares(weight: Tensor, sparsity: float, bits: int) -> Errors:
    one, other = two_orders(weight, sparsity, bits)
    return one * weight.numel(), other * weight.numel()


def roots_of_means(weight: Tensor, sparsity: float, bits: int) -> Errors:
    one, other = two_orders(weight, sparsity, bits)
    return math.sqrt(one), math.sqrt(other)


def order_cases() -> list[Case]:
    small = torch.tensor([[0.9, -0.4, 0.55], [-0.61, 0.35, 3.0]], dtype=torch.float64)
    return [
        case(small, 0.5, 3),
        case(draw(6, 10, seed=940, spread=1.0), 0.6, 3),
        case(draw(5, 8, seed=941, spread=0.1), 0.34, 4),
        case(draw(8, 12, seed=942, spread=1.0), 0.75, 5),
    ]


TWO_ORDERS = Exercise(
    id="09.4",
    title="prune, then round, or round, then prune",
    question=(
        "Predict first: which order loses less, and does the grid differ between them? To prune `weight` sets the "
        "`round(sparsity * n)` of its n numbers that are smallest in absolute value to 0; of equal ones those that "
        "come first in `weight.flatten()` go first. To round it uses one symmetric grid: scale = largest absolute "
        "value of *what is being rounded* / (2^(bits - 1) - 1), each number to the nearest multiple of the scale. "
        "Write `my_two_orders(weight, sparsity, bits)`: two floats, the mean squared difference from `weight` after "
        "pruning and then rounding, and after rounding and then pruning. The second step sees only what the first has "
        "left. `weight` is (O, I), float64; something is always left."
    ),
    skeleton=(
        "def my_two_orders(weight, sparsity, bits):\n"
        '    """Mean squared errors: (pruned, then rounded), (rounded, then pruned)."""\n    ...'
    ),
    reference=two_orders,
    alternatives=(orders_by_codes, orders_by_lists),
    cases=order_cases,
    hints=(
        "Write two small functions first, `prune(weight, sparsity)` and `to_grid(weight, bits)`. Then the two orders "
        "are two lines. What can pruning still tell apart after rounding?",
        "To prune: flatten, clone, `abs().argsort(stable=True)[:count]`, set to 0, reshape. To round: "
        "`torch.round(weight / scale) * scale`. Both errors are taken against the weight you were given.",
        "`one = to_grid(prune(weight, sparsity), bits)`, `other = prune(to_grid(weight, bits), sparsity)`, and of each "
        "`(… - weight).square().mean().item()`.",
    ),
    misconceptions=(
        Misconception(
            "one mask for both",
            one_mask_for_both,
            "you take the mask of the float weights in both orders. Then the orders are the same, and that is the "
            "cure; but whoever rounds first has only the rounded weights left to choose from",
        ),
        Misconception(
            "the two swapped",
            orders_swapped,
            "the right numbers, swapped. First comes the error of pruning, then rounding",
        ),
        Misconception(
            "measured against the step before",
            against_the_step_before,
            "you measure what the second step lost against what the first had left. What the first lost is then "
            "forgotten: compare with the weight you were given",
        ),
        Misconception(
            "the errors added",
            errors_added,
            "you add what each step loses alone. A pruned weight is not rounded as well: its error is there once. And "
            "a sum knows no order",
        ),
        Misconception(
            "each step alone",
            each_step_alone,
            "you apply each step to the given weight and stop. The second step is to work on what the first has left",
        ),
        Misconception(
            "all equals pruned",
            all_ties_pruned,
            "you prune by a threshold, so all weights equal to it go. After rounding many are equal, and far more than "
            "the share goes. Choose places, not values",
        ),
        Misconception(
            "all equals kept",
            all_ties_kept,
            "you keep every weight that equals the threshold. After rounding many do, and less than the share goes. "
            "Choose places, not values",
        ),
        Misconception(
            "the last of equals pruned",
            last_ties_pruned,
            "of equal weights you prune the last ones, as sorting the other way round does. It is as good, but not "
            "what was agreed on: the first ones go",
        ),
        Misconception(
            "the share that is kept",
            share_kept,
            "you keep the share that should go. Sparsity is the share of zeros",
        ),
        Misconception(
            "the order of signed values",
            signed_order,
            "you prune the lowest values, so the most negative weights go. They are among the strongest: sort by "
            "absolute value",
        ),
        Misconception(
            "pruned row by row",
            pruned_row_by_row,
            "you prune the share of every row. Here the smallest of the whole tensor go, wherever they lie",
        ),
        Misconception(
            "a step too many in the grid",
            grid_one_step_longer,
            "you divide by 2^(bits - 1). A symmetric grid of 3 bits ends at 3, not at 4: the code would not fit",
        ),
        Misconception(
            "the sign's bit forgotten",
            sign_bit_forgotten,
            "your grid has 2^bits - 1 steps on each side. One bit is for the sign: 2^(bits - 1) - 1",
        ),
        Misconception(
            "cut off instead of rounded",
            cut_to_the_grid,
            "you cut the fraction off. Every weight then shrinks by half a step on average, and many more become 0. "
            "Round to the nearest",
        ),
        Misconception(
            "codes for weights",
            codes_for_weights,
            "you compare codes with weights. A code counts steps: times the scale it is a weight again",
        ),
        Misconception(
            "a grid for every row",
            grid_of_each_row,
            "you give every row a scale of its own. That is often better, but one scale for the whole tensor was asked "
            "for",
        ),
        Misconception(
            "sums instead of means",
            sums_of_squares,
            "you sum the squares. Layers of unequal size then cannot be compared: take the mean",
        ),
        Misconception(
            "roots of the means",
            roots_of_means,
            "you take the root of the mean. The mean of the squares itself is asked for",
        ),
    ),
    shows="after rounding, pruning cannot tell equal codes apart: prune first, and it never loses more.",
    derivation=(
        "The grid is the same: the largest weight survives. A weight w with code k costs w² if pruned and "
        "(|w| - s|k|)² if kept, so keeping it saves s|k| (2|w| - s|k|), and that never falls as |w| grows. "
        "To keep the largest is thus best for the rounded weights, too. After rounding, all |w| of one code look "
        "alike, and their place decides. Few bits, many equals; at 8 bits hardly any. Where whole channels go, the "
        "largest weight may go with them: then the grid differs as well, and is finer if it is fitted afterwards."
    ),
)

# --- 09.5 -------------------------------------------------------------------------------------------------------------


def entropy_bytes(symbols: Tensor) -> float:
    counts = symbols.unique(return_counts=True)[1].double()
    share = counts / counts.sum()
    bits = (share * torch.log2(1 / share)).sum()
    return (len(symbols) * bits / 8).item()


def entropy_by_counter(symbols: Tensor) -> float:
    n = len(symbols)
    return sum(count * math.log2(n / count) for count in Counter(symbols.tolist()).values()) / 8


def entropy_by_xlogy(symbols: Tensor) -> float:
    share = torch.bincount(symbols).double() / len(symbols)
    nats = -torch.xlogy(share, share).sum()
    return (nats / math.log(2) * len(symbols) / 8).item()


def entropy_symbol_by_symbol(symbols: Tensor) -> float:
    share = (symbols[:, None] == symbols).double().mean(dim=1)
    return -share.log2().sum().item() / 8


def _shares(symbols: Tensor) -> Tensor:
    return symbols.unique(return_counts=True)[1].double() / len(symbols)


def in_nats(symbols: Tensor) -> float:
    return entropy_bytes(symbols) * math.log(2)


def in_bits(symbols: Tensor) -> float:
    return entropy_bytes(symbols) * 8


def bits_a_symbol(symbols: Tensor) -> float:
    return entropy_bytes(symbols) * 8 / len(symbols)


def bytes_a_symbol(symbols: Tensor) -> float:
    return entropy_bytes(symbols) / len(symbols)


def as_if_all_were_as_frequent(symbols: Tensor) -> float:
    return len(symbols) * math.log2(len(symbols.unique())) / 8


def index_width(symbols: Tensor) -> float:
    return len(symbols) * math.ceil(math.log2(int(symbols.max()) + 1)) / 8


def whole_bits_each(symbols: Tensor) -> float:
    share = _shares(symbols)
    return (len(symbols) * (share * torch.ceil(-share.log2())).sum() / 8).item()


def log_of_counts(symbols: Tensor) -> float:
    counts = _shares(symbols) * len(symbols)
    return (counts * counts.log2()).sum().item() / 8


def not_weighted(symbols: Tensor) -> float:
    return (len(symbols) * -_shares(symbols).log2().mean() / 8).item()


def summed_not_weighted(symbols: Tensor) -> float:
    return (len(symbols) * -_shares(symbols).log2().sum() / 8).item()


def absent_symbols(symbols: Tensor) -> float:
    share = torch.bincount(symbols).double() / len(symbols)
    return (-(share * share.log2()).sum() * len(symbols) / 8).item()


def zeros_are_free(symbols: Tensor) -> float:
    return entropy_bytes(symbols[symbols != 0]) if symbols.any() else 0.0


def whole_bytes(symbols: Tensor) -> float:
    return float(math.ceil(entropy_bytes(symbols)))


def entropy_cases() -> list[Case]:
    return [
        case(torch.tensor([0, 0, 3, 0, 1, 0, 0, 1])),
        case(draw(300, seed=950, spread=1.2).abs().long()),
        case(torch.full((16,), 2)),
        case(draw(120, seed=951, spread=6.0).abs().long()),
    ]


ENTROPY_BYTES = Exercise(
    id="09.5",
    title="the floor under a coded file",
    question=(
        "`symbols` is an int64 tensor (n,), n >= 1: each entry says which value of a codebook a weight takes, 0, 1, 2 "
        "and so on; 0 stands for a pruned weight. Not every symbol occurs. A coder that knows how often each symbol "
        "occurs, and nothing else, needs at least n·H/8 bytes, where H is the entropy of these shares in bits. Write "
        "`my_entropy_bytes(symbols)`: this floor as a float."
    ),
    skeleton=(
        "def my_entropy_bytes(symbols):\n"
        '    """Bytes that a coder needs at least if it knows only how often each symbol occurs."""\n    ...'
    ),
    reference=entropy_bytes,
    alternatives=(entropy_by_counter, entropy_by_xlogy, entropy_symbol_by_symbol),
    cases=entropy_cases,
    hints=(
        "How surprising is a symbol that makes up half of the file? And one that makes up all of it?",
        "A symbol of share p costs log2(1 / p) bits each time it occurs. H is the mean over the file: Σ p log2(1 / p) "
        "over the symbols that occur. 8 bits are a byte.",
        "`counts = symbols.unique(return_counts=True)[1].double()`, `p = counts / counts.sum()`, then "
        "`len(symbols) * (p * torch.log2(1 / p)).sum().item() / 8`.",
    ),
    misconceptions=(
        Misconception(
            "in nats",
            in_nats,
            "you use the natural logarithm. That gives nats, 1.443 bits each; a file is counted in bits: `log2`",
        ),
        Misconception(
            "bits for bytes",
            in_bits,
            "these are bits, eight times the bytes. Divide by 8",
        ),
        Misconception(
            "bits for one symbol",
            bits_a_symbol,
            "this is H, the bits for one symbol. The file holds n of them; divide by 8 for bytes",
        ),
        Misconception(
            "bytes for one symbol",
            bytes_a_symbol,
            "these are the bytes for one symbol. The file holds n of them",
        ),
        Misconception(
            "all symbols as frequent",
            as_if_all_were_as_frequent,
            "you take log2 of the number of symbols, as if all were as frequent. Pruning makes one symbol very "
            "frequent, and that is where the bytes are saved",
        ),
        Misconception(
            "the width of an index",
            index_width,
            "you count whole bits for an index of fixed width. That is the size before coding; a coder gives frequent "
            "symbols fewer bits",
        ),
        Misconception(
            "whole bits for each symbol",
            whole_bits_each,
            "you round each symbol's bits up. A table of codewords must, and pays a bit for a zero even where almost "
            "all are zeros; an arithmetic coder need not, and comes close to the floor",
        ),
        Misconception(
            "the logarithm of the counts",
            log_of_counts,
            "you take the logarithm of the counts, not of the shares. Frequent symbols then cost more than rare ones: "
            "log2(n / count)",
        ),
        Misconception(
            "each symbol counted once",
            not_weighted,
            "you take the plain mean over the symbols. A rare one then counts as much as the zero that fills the file: "
            "weight each by its share",
        ),
        Misconception(
            "shares forgotten in the sum",
            summed_not_weighted,
            "you sum log2(1 / p) over the symbols. Each must be weighted by its share, for so often it is paid",
        ),
        Misconception(
            "NaN from an absent symbol",
            absent_symbols,
            "your result is NaN where a symbol does not occur: 0 · log2(0) is 0 · (-∞). What never occurs costs "
            "nothing: leave it out, or use `torch.xlogy`",
        ),
        Misconception(
            "zeros are free",
            zeros_are_free,
            "you leave the zeros out, as if they cost nothing. The reader must learn where they are, and that is most "
            "of a sparse file",
        ),
        Misconception(
            "whole bytes",
            whole_bytes,
            "you round up to whole bytes. A file must, its floor need not; over many tensors the roundings add up",
        ),
    ),
    shows="n·H/8 bytes is the least for a coder that knows the shares alone; places and neighbours may tell it more.",
    derivation=(
        "A symbol of share p needs log2(1/p) bits; it occurs n·p times: n Σ p log2(1/p) = n·H bits. No code does "
        "better on the mean for symbols drawn independently with these shares (Shannon 1948). Weights are not: a "
        "coder that looks at rows and columns can get below. Codebook and header come on top. "
        "Han et al. 2016, arXiv:1510.00149, use Huffman codewords, with whole bits."
    ),
)

# --- 09.6 -------------------------------------------------------------------------------------------------------------

Drop = tuple[int, float]


def worst_class_drop(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    drops = {}
    for name in labels.unique().tolist():
        mine = labels == name
        drops[name] = ((before[mine] == name).double().mean() - (after[mine] == name).double().mean()).item()
    worst = max(drops, key=lambda name: drops[name])
    return worst, drops[worst]


def drop_by_counts(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    images = torch.bincount(labels)
    right = [torch.bincount(labels[named == labels], minlength=len(images)) for named in (before, after)]
    drops = torch.where(images > 0, (right[0] - right[1]).double() / images.clamp(min=1), -math.inf)
    return int(drops.argmax()), drops.max().item()


def drop_by_lists(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    changes: dict[int, list[int]] = {}
    for old, new, label in zip(before.tolist(), after.tolist(), labels.tolist(), strict=True):
        changes.setdefault(label, []).append((old == label) - (new == label))
    drop, name = max((fmean(change), name) for name, change in changes.items())
    return name, drop


def _by_class(values: Tensor, labels: Tensor) -> dict[int, float]:
    """The mean of the values over the images of each class."""
    return {name: values[labels == name].double().mean().item() for name in labels.unique().tolist()}


def _largest(values: dict[int, float]) -> Drop:
    worst = max(values, key=lambda name: values[name])
    return worst, values[worst]


def _lost(before: Tensor, after: Tensor, labels: Tensor) -> Tensor:
    """1 for an answer lost, -1 for one gained."""
    return (before == labels).double() - (after == labels).double()


def share_of_all_images(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    lost = _lost(before, after, labels)
    return _largest({name: (lost * (labels == name)).mean().item() for name in labels.unique().tolist()})


def images_counted(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    lost = _lost(before, after, labels)
    return _largest({name: lost[labels == name].sum().item() for name in labels.unique().tolist()})


def new_errors_only(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    return _largest(_by_class((before == labels) & (after != labels), labels))


def size_of_the_change(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    return _largest({name: abs(drop) for name, drop in _by_class(_lost(before, after, labels), labels).items()})


def disagreement(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    return _largest(_by_class(before != after, labels))


def by_the_class_named(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    one, other = (_by_class(named == labels, named) for named in (before, after))
    return _largest({name: one[name] - other[name] for name in one if name in other})


def share_of_what_there_was(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    one, other = (_by_class(named == labels, labels) for named in (before, after))
    return _largest({name: (one[name] - other[name]) / one[name] for name in one})


def lowest_afterwards(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    accuracy = _by_class(after == labels, labels)
    name = min(accuracy, key=lambda name: accuracy[name])
    return name, _by_class(_lost(before, after, labels), labels)[name]


def drop_of_the_whole(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    return worst_class_drop(before, after, labels)[0], _lost(before, after, labels).mean().item()


def sign_turned(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    name, drop = worst_class_drop(before, after, labels)
    return name, -drop


def class_that_gained(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    return worst_class_drop(after, before, labels)


def empty_class(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    lost, classes = _lost(before, after, labels), int(labels.max()) + 1
    drops = torch.stack([lost[labels == name].mean() for name in range(classes)])
    return int(drops.argmax()), drops.max().item()


def never_below_zero(before: Tensor, after: Tensor, labels: Tensor) -> Drop:
    name, drop = worst_class_drop(before, after, labels)
    return name, max(drop, 0.0)


def answers(labels: Tensor, classes: int, *, wrong: float, seed: int) -> Tensor:
    """The labels, with a share of wrong answers that differs from class to class."""
    chance = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    share = wrong * (0.4 + (labels * (seed + 3)) % 5 / 4)
    return torch.where(chance < share, (labels + 1 + (chance * 1000).long() % (classes - 1)) % classes, labels)


def uneven_labels(classes: list[int], count: int, *, seed: int) -> Tensor:
    """Labels in which the first classes have the most images."""
    chance = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor(classes)[(chance**2 * len(classes)).long()]


def drop_cases() -> list[Case]:
    few = [[0, 0, 0, 0, 0, 1, 0, 2, 0, 2, 2], [0, 1, 0, 0, 0, 0, 0, 1, 2, 2, 0], [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]]
    found = [case(*(torch.tensor(part) for part in few))]
    for number, (classes, wrong) in enumerate([([0, 1, 2, 3], (0.2, 0.35)), ([0, 1, 3, 4], (0.1, 0.3))]):
        labels = uneven_labels(classes, 90, seed=960 + number)
        found.append(
            case(*(answers(labels, 5, wrong=share, seed=970 + 7 * number + n) for n, share in enumerate(wrong)), labels)
        )
    labels = uneven_labels([0, 1, 2], 60, seed=980)
    better = answers(labels, 4, wrong=0.15, seed=981)
    worse = torch.where(torch.arange(60) % 4 == 0, (labels + 1) % 4, better)
    return [*found, case(worse, better, labels)]


WORST_CLASS_DROP = Exercise(
    id="09.6",
    title="who pays for the compression",
    question=(
        "`before` and `after` (N,) are the classes that a network names, before and after it was compressed; `labels` "
        "(N,) are the true ones; all int64. Write `my_worst_class_drop(before, after, labels)`: the class whose "
        "accuracy fell most and by how much, as (class, accuracy before - accuracy after). A class's accuracy is the "
        "share of *its own images*, by label, that are answered right. Only classes that occur in `labels` count. "
        "If no class fell, it is the one that rose least, and the drop is 0 or below. No two classes tie."
    ),
    skeleton=(
        "def my_worst_class_drop(before, after, labels):\n"
        '    """(class, drop): the class whose accuracy fell most, and by how much."""\n    ...'
    ),
    reference=worst_class_drop,
    alternatives=(drop_by_counts, drop_by_lists),
    cases=drop_cases,
    hints=(
        "If a class has 1 % of the images, how far can it fall before the accuracy over all images shows it?",
        "For each class in `labels.unique()`: take its images with `labels == name`, the share of right answers before "
        "and after, the difference. Then the largest.",
        "`mine = labels == name`, `(before[mine] == name).double().mean() - (after[mine] == name).double().mean()`; "
        "return `(int, float)`.",
    ),
    misconceptions=(
        Misconception(
            "the share of all images",
            share_of_all_images,
            "you divide by all images. A small class can then be lost altogether and never come first. Divide by the "
            "images of the class",
        ),
        Misconception(
            "images counted",
            images_counted,
            "you count the answers lost. The largest class loses most of them, even if it hardly suffers. Divide by "
            "the images of the class",
        ),
        Misconception(
            "new errors only",
            new_errors_only,
            "you count the answers that turned wrong, and not those that turned right. Accuracy fell by the "
            "difference. (The new errors are worth knowing, too: to a user each is a surprise.)",
        ),
        Misconception(
            "the size of the change",
            size_of_the_change,
            "you take the largest change, up or down. A class that gained much would be reported as the one that paid",
        ),
        Misconception(
            "where the networks disagree",
            disagreement,
            "you measure where the two networks disagree. A wrong answer that became another wrong one cost nothing, "
            "and one that became right is a gain",
        ),
        Misconception(
            "by the class that is named",
            by_the_class_named,
            "you group the images by the answer. That is precision, how far an answer can be trusted; who pays is told "
            "by the true class, the label",
        ),
        Misconception(
            "a share of what there was",
            share_of_what_there_was,
            "you divide the drop by the accuracy before. From 0.5 to 0.4 is then 0.2. Asked is the difference, 0.1, in "
            "shares of the class's images",
        ),
        Misconception(
            "the lowest afterwards",
            lowest_afterwards,
            "you take the class with the lowest accuracy afterwards. It may have been as low before: hard is not the "
            "same as harmed",
        ),
        Misconception(
            "the drop of the whole",
            drop_of_the_whole,
            "the class is right, but the drop is that over all images. In this mean the harm to one class disappears, "
            "which is why it is looked for",
        ),
        Misconception(
            "the sign turned",
            sign_turned,
            "the class is right, but your drop has the wrong sign: before minus after, so that a loss is positive",
        ),
        Misconception(
            "the class that gained",
            class_that_gained,
            "you return the class that gained most. The two networks are swapped: before minus after",
        ),
        Misconception(
            "NaN from an empty class",
            empty_class,
            "a class without images has the accuracy 0 / 0, NaN, and `argmax` takes NaN for the largest. Go through "
            "`labels.unique()`",
        ),
        Misconception(
            "never below zero",
            never_below_zero,
            "you cut the drop off at 0. Where every class gained, the least gain is worth knowing, as a negative drop",
        ),
    ),
    shows="a mean over all images can stay while one class pays: look at each by its own images.",
    derivation=(
        "accuracy = Σ_c (n_c / N) · accuracy_c: a class counts by its size, so a drop d in it moves the mean by only "
        "d·n_c/N. Why it is worth looking: Hooker et al. 2019, arXiv:1911.05248, and 2020, arXiv:2010.03058, found "
        "that compression harms few classes and rare images most, while the mean hardly moves."
    ),
)

EXERCISES = (PARETO_FRONT, CHOOSE, UNFAIR_KEYS, TWO_ORDERS, ENTROPY_BYTES, WORST_CLASS_DROP)
