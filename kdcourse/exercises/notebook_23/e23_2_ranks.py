"""23.2 places, and who shares one."""

from bisect import bisect_left

import numpy as np
import torch
from scipy.stats import rankdata

from ..engine.core import Case, Exercise, Misconception, case, integer

Values = list[float | None]
Places = list[int | None]


def places(values: Values) -> Places:
    there = [value for value in values if value is not None]
    return [None if value is None else 1 + sum(other < value for other in there) for value in values]


def places_by_bisection(values: Values) -> Places:
    ordered = sorted(value for value in values if value is not None)
    found: Places = []
    for value in values:
        found.append(None if value is None else bisect_left(ordered, value) + 1)
    return found


def places_by_scipy(values: Values) -> Places:
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    ranks = rankdata(numbers, method="min", nan_policy="omit")
    return [None if np.isnan(rank) else int(rank) for rank in ranks]


def places_in_one_pass(values: Values) -> Places:
    result: Places = [None] * len(values)
    place, last = 0, None
    for seen, index in enumerate(
        sorted((i for i, v in enumerate(values) if v is not None), key=lambda index: values[index] or 0.0)
    ):
        if values[index] != last:
            place, last = seen + 1, values[index]
        result[index] = place
    return result


def _there(values: Values) -> list[float]:
    return [value for value in values if value is not None]


def dense(values: Values) -> Places:
    steps = sorted(set(_there(values)))
    return [None if value is None else steps.index(value) + 1 for value in values]


def shared_worst(values: Values) -> Places:
    return [None if value is None else sum(other <= value for other in _there(values)) for value in values]


def shared_mean(values: Values) -> list[float | None]:
    worst = shared_worst(values)
    return [None if b is None or w is None else (b + w) / 2 for b, w in zip(places(values), worst, strict=True)]


def first_come(values: Values) -> Places:
    result: Places = [None] * len(values)
    there = [index for index, value in enumerate(values) if value is not None]
    for place, index in enumerate(sorted(there, key=lambda index: values[index] or 0.0)):
        result[index] = place + 1
    return result


def last_come(values: Values) -> Places:
    return first_come(values[::-1])[::-1]


def larger_is_better(values: Values) -> Places:
    return places([None if value is None else -value for value in values])


def from_zero(values: Values) -> Places:
    return [None if place is None else place - 1 for place in places(values)]


def none_counted_best(values: Values) -> Places:
    absent = values.count(None)
    return [None if place is None else place + absent for place in places(values)]


def none_is_last(values: Values) -> Places:
    return [1 + len(_there(values)) if place is None else place for place in places(values)]


def none_is_zero(values: Values) -> Places:
    return places([0.0 if value is None else value for value in values])


def none_left_out(values: Values) -> Places:
    return [place for place in places(values) if place is not None]


def order_of_entries(values: Values) -> Places:
    there = [index for index, value in enumerate(values) if value is not None]
    order: Places = [index + 1 for index in sorted(there, key=lambda index: values[index] or 0.0)]
    return order + [None] * values.count(None)


def better_kinds(values: Values) -> Places:
    there = _there(values)
    return [None if v is None else 1 + sum(w < v for w in there if there.count(w) == 1) for v in values]


def rounded(values: Values) -> Places:
    return places([None if value is None else round(value) for value in values])


def sorted_places(values: Values) -> Places:
    found: Places = [place for place in sorted(place for place in places(values) if place is not None)]
    return found + [None] * values.count(None)


def places_cases() -> list[Case]:
    return [
        case([3.0, 1.0, 2.0]),
        case([5.0, None, 2.0, 2.0, 9.0]),
        case([7.0, 7.0, None, 7.0, 1.0, 8.0]),
        case([None, None, 4.0]),
        case([None, None]),
        case([0.5, -0.25, None, -0.25, -3.0, 0.0, 0.5, 0.75]),
        case([1200, 980, 980, 1410, 980, None, 1200, 5000]),
        case([-0.9871, -0.9869, -0.9871, None, -0.9902]),
    ]


def drawn_places(g: torch.Generator) -> Case:
    count = integer(g, 4, 10)
    numbers = [integer(g, -3, 6) for _ in range(count)]
    return case([None if number == 6 else number / 2 for number in numbers])


EXERCISE = Exercise(
    id="23.2",
    title="places and ties",
    question=(
        "`values` has one entry per submission of a track: a number, of which a smaller one is better, or None if the "
        "submission takes no part. Write `my_places(values)`: a list with the place of each submission, in the order "
        "of `values`. A place is one more than the number of submissions that are *strictly* better, so that equal "
        "values share the better place: `[20, 10, 20, 30]` gives `[2, 1, 2, 4]`. A submission that takes no part has "
        "the place None and counts for nobody else's."
    ),
    skeleton='def my_places(values):\n    """The place of each value, the smallest first; ties share one."""\n    ...',
    reference=places,
    alternatives=(places_by_bisection, places_by_scipy, places_in_one_pass),
    cases=places_cases,
    drawn=drawn_places,
    hints=(
        "Look at one submission alone: how many are better than it?",
        "Leave out the None first; then count, for each value, how many of the others are smaller.",
        "`1 + sum(other < value for other in there)` where `value` is not None, with `there` all that are not.",
    ),
    misconceptions=(
        Misconception(
            "dense places",
            dense,
            "after two that share a place you go on with the next one: 1, 2, 2, 3. Three are better than the last, so "
            "it has the place 4",
        ),
        Misconception(
            "the worse of the shared places",
            shared_worst,
            "those who share a place get the worse one: 1, 3, 3, 4. Count only who is *strictly* better",
        ),
        Misconception(
            "the mean of the shared places",
            shared_mean,
            "those who share a place get the mean: 1, 2.5, 2.5, 4. Statistics uses that for ranks; here all of them "
            "get the better place",
        ),
        Misconception(
            "first come, first served",
            first_come,
            "equal values get different places, by their order in the list. Nothing was measured that sets them apart: "
            "they share the place",
        ),
        Misconception(
            "the last of equals first",
            last_come,
            "equal values get different places, the later one the better. Nothing was measured that sets them apart: "
            "they share the place",
        ),
        Misconception(
            "larger is better",
            larger_is_better,
            "the largest value has the first place. Here a smaller value is better",
        ),
        Misconception(
            "from 0",
            from_zero,
            "your places begin at 0. A place is one *more* than the number of those that are better",
        ),
        Misconception(
            "None counts as better",
            none_counted_best,
            "submissions that take no part push the others down. They count for nobody's place",
        ),
        Misconception(
            "None is last",
            none_is_last,
            "a submission that takes no part gets the last place. It gets None: it was not measured to be worse",
        ),
        Misconception(
            "None is 0",
            none_is_zero,
            "you count None as 0 and give it a place. A missing result is not a result",
        ),
        Misconception(
            "None left out",
            none_left_out,
            "the list leaves out who takes no part, so that later places stand beside other submissions. Return None "
            "there",
        ),
        Misconception(
            "the order of the entries",
            order_of_entries,
            "this lists which submission is first, second and so on: what `argsort` gives. The question asks for the "
            "place of each submission",
        ),
        Misconception(
            "who shares a place is not counted",
            better_kinds,
            "better submissions that share a place among themselves are not counted. They are better, too",
        ),
        Misconception(
            "rounded",
            rounded,
            "you round the values first. What differs in the decimals then shares a place",
        ),
        Misconception(
            "sorted places",
            sorted_places,
            "the places are sorted. Return them in the order of `values`, so that each belongs to its submission",
        ),
    ),
    shows="a place says how many were better, and equal results share it.",
    derivation=(
        "If m submissions are strictly better, then so they are for everyone with the same value: all of them get "
        "m + 1. If t share a place, the next one has m + t better ones and the place m + t + 1: places are left out "
        "behind a tie, and the sum of nobody's places depends on the order of the list."
    ),
)
