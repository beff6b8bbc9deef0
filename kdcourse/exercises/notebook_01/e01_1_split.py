"""01.1 a split without leaks."""

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer

Rows = tuple[list[int], list[int]]


def split_rows(labels: list[int], per_class: int) -> Rows:
    taken = dict.fromkeys(labels, 0)
    train: list[int] = []
    validation: list[int] = []
    for row, label in enumerate(labels):
        taken[label] += 1
        (validation if taken[label] <= per_class else train).append(row)
    return train, validation


def split_by_sets(labels: list[int], per_class: int) -> Rows:
    held = {r for c in set(labels) for r in [i for i, label in enumerate(labels) if label == c][:per_class]}
    return [row for row in range(len(labels)) if row not in held], sorted(held)


def split_by_sorting(labels: list[int], per_class: int) -> Rows:
    order = torch.tensor(labels).argsort(stable=True)
    counts = torch.bincount(torch.tensor(labels))
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    held = torch.arange(len(labels)) - first < per_class
    return order[~held].sort().values.tolist(), order[held].sort().values.tolist()


def leaking(labels: list[int], per_class: int) -> Rows:
    return list(range(len(labels))), split_rows(labels, per_class)[1]


def first_rows_of_all(labels: list[int], per_class: int) -> Rows:
    held = per_class * len(set(labels))
    return list(range(held, len(labels))), list(range(held))


def too_few_in_all(labels: list[int], per_class: int) -> Rows:
    return list(range(per_class, len(labels))), list(range(per_class))


def parts_swapped(labels: list[int], per_class: int) -> Rows:
    train, validation = split_rows(labels, per_class)
    return validation, train


def last_of_each_class(labels: list[int], per_class: int) -> Rows:
    held = {r for c in set(labels) for r in [i for i, label in enumerate(labels) if label == c][-per_class:]}
    return [row for row in range(len(labels)) if row not in held], sorted(held)


def by_class_not_ascending(labels: list[int], per_class: int) -> Rows:
    train, validation = split_rows(labels, per_class)
    return sorted(train, key=lambda row: labels[row]), sorted(validation, key=lambda row: labels[row])


def one_too_many(labels: list[int], per_class: int) -> Rows:
    return split_rows(labels, per_class + 1)


def labels_for_rows(labels: list[int], per_class: int) -> Rows:
    train, validation = split_rows(labels, per_class)
    return [labels[row] for row in train], [labels[row] for row in validation]


def rows_from_one(labels: list[int], per_class: int) -> Rows:
    train, validation = split_rows(labels, per_class)
    return [row + 1 for row in train], [row + 1 for row in validation]


def split_cases() -> list[Case]:
    mixed = [2, 0, 1, 1, 0, 2, 2, 0, 1, 2, 1, 0]
    # classes 0 and 3 do not occur in the third; in the last, a class has fewer rows than are wanted
    return [case([0, 0, 1, 0, 1], 1), case(mixed, 2), case([4, 1, 2, 2, 4, 4, 1, 1, 2], 2), case(mixed, 0),
            case([1, 0, 1, 1, 2, 1], 2)]  # fmt: skip


def drawn_split(generator: torch.Generator) -> Case:
    labels = torch.randint(integer(generator, 2, 5), (integer(generator, 20, 40),), generator=generator)
    return case(labels.tolist(), integer(generator, 1, 4))


EXERCISE = Exercise(
    id="01.1",
    title="a split without leaks",
    question=(
        "Write `my_split_rows(labels, per_class)`. `labels` is a list of class numbers, one per row. Return two "
        "lists of row numbers, `train` and `validation`, both in ascending order: validation gets the first "
        "`per_class` rows of every class (all its rows if it has fewer), train gets all others."
    ),
    skeleton=(
        'def my_split_rows(labels, per_class):\n    """Row numbers for train and for validation, both '
        'ascending."""\n    ...'
    ),
    reference=split_rows,
    alternatives=(split_by_sets, split_by_sorting),
    cases=split_cases,
    drawn=drawn_split,
    hints=(
        "Every row must be in exactly one of the two lists.",
        "Count for each class how many of its rows you have already put into validation.",
        "Go through `enumerate(labels)`; a row goes to validation while its class has fewer than `per_class` there.",
    ),
    misconceptions=(
        Misconception(
            "train keeps the validation rows",
            leaking,
            "your train list still contains the validation rows. The network is then measured on images it has "
            "memorised, and every score is too high",
        ),
        Misconception(
            "the first rows, whatever their class",
            first_rows_of_all,
            "you take the first rows whatever their class. Files are often sorted by class: validation then contains "
            "some classes too often and others not at all",
        ),
        Misconception(
            "per_class in total",
            too_few_in_all,
            "validation has `per_class` rows in total. It needs that many of *every* class",
        ),
        Misconception(
            "train and validation swapped",
            parts_swapped,
            "the two lists are swapped: train comes first. As it is, you would train on the small part",
        ),
        Misconception(
            "the last rows of a class",
            last_of_each_class,
            "validation contains the *last* rows of every class. The question asks for the first",
        ),
        Misconception(
            "class by class",
            by_class_not_ascending,
            "the rows are correct, but ordered class by class. Both lists must be in ascending order: sort them",
        ),
        Misconception(
            "one row too many",
            one_too_many,
            "validation contains one row too many of every class: count a row before you compare, or use < instead "
            "of <=",
        ),
        Misconception(
            "labels for row numbers",
            labels_for_rows,
            "you return the labels of the rows. The question asks for the row *numbers*",
        ),
        Misconception(
            "rows counted from one",
            rows_from_one,
            "you count the rows from 1. Python counts from 0, so every number would point to the next image",
        ),
    ),
    shows="a split has no leaks if every row is in exactly one part, and it is useful if every class is in both.",
    derivation=(
        "One pass over the rows: each goes to validation until its class is full there, and to train afterwards."
    ),
)
