"""09.3 what else differs."""

from collections import Counter
from typing import Any

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer
from .e09_2_choose import Record


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


def every_list_summed(first: Record, second: Record, *, about: str) -> list[str]:
    def total(value: Any) -> Any:
        numbers = isinstance(value, list) and all(isinstance(part, int) for part in value)
        return sum(value) if numbers else value

    one, other = (
        {key: total(value) for key, value in comparable(r).items() if key != "seeds"} for r in (first, second)
    )
    seeds = [key for key in unfair_keys(first, second, about=about) if key == "seeds"]
    return sorted([*_differing(one, other, about), *seeds])


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
        case({"threads": 1, "epochs": 3}, {"threads": 2, "seeds": [1], "teacher": None}, about="threads"),
        case({"threads": 1, "epochs": 3}, {"threads": 2, "epochs": [1, 3], "warm_up": 0}, about="threads"),
        case({"threads": 1, "widths": [16, 32]}, {"threads": 2, "widths": [24, 24]}, about="threads"),
        case(
            {**stages, "epochs": 30, "seeds": [0, 1], "threads": 1, "data": "mnist"},
            {**stages, "epochs": [20, 10], "seeds": [1, 0], "threads": 1, "data": "mnist, half"},
            about="data",
        ),
    ]


def drawn_recipes(g: torch.Generator) -> Case:
    def recipe() -> Record:
        stages, seeds = [integer(g, 1, 2), integer(g, 1, 2)], [[0, 1], [1, 0], [2]][integer(g, 0, 2)]
        parts: Record = {"epochs": stages, "seeds": seeds}
        parts |= {name: integer(g, 1, 2) for name in ("threads", "bits", "width", "teacher")}
        return {name: part for name, part in parts.items() if integer(g, 0, 3)}

    return case(recipe(), recipe(), about=["threads", "bits"][integer(g, 0, 1)])


EXERCISE = Exercise(
    id="09.3",
    title="what else differs",
    question=(
        "`first` and `second` are recipes: dicts with keys such as `teacher`, `epochs`, `seeds`, `threads`. They are "
        "compared to learn about one key, `about`. Write `my_unfair_keys(first, second, *, about)`: the sorted list "
        "of the *other* keys in which they differ. A key that only one of them has is a difference, whatever its "
        "value: what is not stated is not known. `epochs` is a number or a list of stages that follow one another; "
        "equal totals are equal. `seeds` is a list without repeats; the same seeds in another order are equal. All "
        "other values are compared directly, lists with their order."
    ),
    skeleton=(
        "def my_unfair_keys(first, second, *, about):\n"
        '    """Sorted keys, other than the one in question, in which two recipes differ."""\n    ...'
    ),
    reference=unfair_keys,
    alternatives=(unfair_one_by_one, unfair_with_a_mark),
    cases=recipe_cases,
    drawn=drawn_recipes,
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
            "papers tend to leave out what would not look good",
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
            "stages not summed",
            stages_as_they_stand,
            "you compare the epochs without summing them. Stages follow one another, so 30, 15 and 6 epochs are "
            "51: sum them",
        ),
        Misconception(
            "the last stage alone",
            last_stage_only,
            "you compare the last stage's epochs. The stages before it trained the same network as well: sum them",
        ),
        Misconception(
            "the longest stage alone",
            longest_stage_only,
            "you compare the longest stage's epochs. The others trained the same network as well: sum them",
        ),
        Misconception(
            "seeds in order",
            seeds_in_order,
            "you compare the seeds with their order. Whichever ran first, the same runs were made",
        ),
        Misconception(
            "seeds counted",
            seeds_counted,
            "you compare how many seeds there are. With other seeds the pairs do not share initialization and "
            "batch order, and luck adds to the difference",
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
            "the right keys, in the order in which the recipes list them. Sort them",
        ),
        Misconception(
            "what agrees",
            what_agrees,
            "you list the keys that agree. Those are fair; what differs is asked for",
        ),
        Misconception(
            "every list summed",
            every_list_summed,
            "you sum every list of numbers. Only the stages of `epochs` follow one another; widths, say, are compared "
            "with their order",
        ),
    ),
    shows="a comparison is about one thing only if all else is stated and the same.",
    derivation=(
        "Whatever differs between two arms can explain a difference of their results. So the list must be empty before "
        "the difference is attributed to anything. The total of the epochs counts, since an arm with one stage may "
        "use them all at once."
    ),
)
