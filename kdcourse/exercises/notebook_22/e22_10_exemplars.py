"""22.10 exemplars of another class."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Memory = dict[int, Tensor]


def remembered(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    updated = dict(memory)
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero()[:, 0]
        distances = (features[rows] - features[rows].mean(dim=0)).norm(dim=1)
        updated[label] = rows[distances.argsort(stable=True)[:count]]
    return updated


def remembered_by_sorting(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    found: dict[int, list[int]] = {}
    means = {label: features[labels == label].mean(dim=0) for label in set(labels.tolist())}
    distance = [float((x - means[label]).norm()) for x, label in zip(features, labels.tolist(), strict=True)]
    for row in sorted(range(len(labels)), key=lambda row: distance[row]):
        chosen = found.setdefault(int(labels[row]), [])
        if len(chosen) < count:
            chosen.append(row)
    return memory | {label: torch.tensor(rows) for label, rows in found.items()}


def remembered_one_by_one(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    result = {label: rows.clone() for label, rows in memory.items()}
    numbers = torch.arange(len(labels))
    for label in sorted({int(label) for label in labels}):
        own, rows = features[labels == label], numbers[labels == label]
        near = (own - own.mean(0, keepdim=True)).square().sum(1).sort(stable=True).indices
        result[label] = rows[near][: min(count, len(rows))]
    return result


def _nearest(features: Tensor, rows: Tensor, count: int) -> Tensor:
    distances = (features[rows] - features[rows].mean(dim=0)).norm(dim=1)
    return rows[distances.argsort(stable=True)[:count]]


def _rows(labels: Tensor) -> list[tuple[int, Tensor]]:
    return [(label, (labels == label).nonzero()[:, 0]) for label in labels.unique().tolist()]


def appended(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    updated = dict(memory)
    for _, rows in _rows(labels):
        updated[len(updated)] = _nearest(features, rows, count)
    return updated


def counted_from_zero(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    new = {place: _nearest(features, rows, count) for place, (_, rows) in enumerate(_rows(labels))}
    return memory | new


def numbers_within_the_class(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    new = {}
    for label, rows in _rows(labels):
        new[label] = (features[rows] - features[rows].mean(dim=0)).norm(dim=1).argsort(stable=True)[:count]
    return memory | new


def old_classes_forgotten(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    return {label: _nearest(features, rows, count) for label, rows in _rows(labels)}


def never_renewed(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    return {label: _nearest(features, rows, count) for label, rows in _rows(labels)} | memory


def added_to_the_old(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    none = torch.zeros(0, dtype=torch.int64)
    new = {
        label: torch.cat([memory.get(label, none), _nearest(features, rows, count)]) for label, rows in _rows(labels)
    }
    return memory | new


def the_farthest(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    return memory | {label: _nearest(features, rows, len(rows)).flip(0)[:count] for label, rows in _rows(labels)}


def nearest_to_the_common_mean(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    distances = (features - features.mean(dim=0)).norm(dim=1)
    return memory | {label: rows[distances[rows].argsort(stable=True)[:count]] for label, rows in _rows(labels)}


def in_order_of_rows(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    return memory | {label: _nearest(features, rows, count).sort().values for label, rows in _rows(labels)}


def the_first_rows(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    return memory | {label: rows[:count] for label, rows in _rows(labels)}


def old_ones_cut(memory: Memory, features: Tensor, labels: Tensor, count: int) -> Memory:
    cut = {label: rows[: count - 1] for label, rows in memory.items()}
    return cut | {label: _nearest(features, rows, count) for label, rows in _rows(labels)}


def exemplar_case(memory: dict[int, list[int]], labels: list[int], count: int, seed: int | torch.Generator) -> Case:
    stored = {label: torch.tensor(rows) for label, rows in memory.items()}
    return case(stored, draw(len(labels), 2, seed=seed), torch.tensor(labels), count)


def exemplar_cases() -> list[Case]:
    twins = torch.tensor([[9.0, 1.0], [2.0, 2.0], [4.0, 8.0], [2.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    return [
        exemplar_case({0: [0, 1]}, [1, 1, 1, 0], 2, 360),
        exemplar_case({}, [0, 1, 0, 1, 1, 0], 2, 361),
        exemplar_case({0: [3, 1], 1: [2, 0]}, [1, 0, 1, 0, 0, 1, 0], 2, 362),
        exemplar_case({0: [9, 4, 5], 1: [7, 2, 8]}, [5, 2, 5, 2, 2, 5, 5, 2], 3, 363),
        exemplar_case({4: [6, 1], 0: [5, 3]}, [3, 4, 3, 3], 2, 364),
        case({1: torch.tensor([4, 0])}, twins, torch.tensor([1, 1, 1, 1, 2]), 2),
    ]


def drawn_exemplars(g: torch.Generator) -> Case:
    old = {label: torch.randperm(20, generator=g)[:3].tolist() for label in torch.randperm(6, generator=g)[:2].tolist()}
    sizes = [(1, 3, 4, 5)[integer(g, 0, 3)] for _ in range(3)]  # of two images both are as near to their mean
    classes = torch.randperm(6, generator=g)[:3].tolist()
    labels = [label for label, size in zip(classes, sizes, strict=True) for _ in range(size)]
    labels = torch.tensor(labels)[torch.randperm(len(labels), generator=g)].tolist()
    return exemplar_case(old, labels, 3, g)


EXERCISE = Exercise(
    id="22.10",
    title="exemplars of another class",
    question=(
        "A network that learns class after class remembers a few images of each. `memory` is a dict from the number "
        "of a class to the rows of its remembered images, a tensor of int64. Fix `case_10` as "
        "`fixed_10(memory, features, labels, count)`: a new dict. For each class that occurs in `labels` (N,) it has "
        "the rows (numbers 0 to N - 1) of the `count` images of that class whose `features` (N, D) are nearest to "
        "the mean of the class, the nearest first, of equal distances the lower row; all of them if there are fewer. "
        "They replace what was remembered of that class. All other classes stay as they are, and `memory` is not "
        "changed. Classes may come in any order, more than once, and need not begin at 0."
    ),
    skeleton=(
        "def fixed_10(memory, features, labels, count):\n"
        '    """The memory, with the exemplars of the classes in `labels` chosen again."""\n    ...'
    ),
    reference=remembered,
    alternatives=(remembered_by_sorting, remembered_one_by_one),
    cases=exemplar_cases,
    drawn=drawn_exemplars,
    hints=(
        "Call the program twice with the same images. Under which keys are the exemplars afterwards?",
        "The key counts how many entries there are. When is that the number of the class?",
        "`updated[label] = rows[…]`, where `rows` are the class's rows in the whole data set.",
    ),
    misconceptions=(
        Misconception(
            "under the next number",
            appended,
            "the key is the number of entries so far. That is the class only while every class comes once and in "
            "order: at the second call class 0 is stored under the number of a class that is still to come",
        ),
        Misconception(
            "counted within the call",
            counted_from_zero,
            "you number the classes of this call from 0. The keys are the classes themselves, the numbers in `labels`",
        ),
        Misconception(
            "numbers within the class",
            numbers_within_the_class,
            "these are positions among the images of the class and not rows of the data: in the data set they belong "
            "to whatever images come first. Index `rows` with them",
        ),
        Misconception(
            "old classes forgotten",
            old_classes_forgotten,
            "the classes of this call are right, but all others are gone, and remembering them was the purpose",
        ),
        Misconception(
            "never chosen again",
            never_renewed,
            "a class that is in the memory already keeps its old exemplars: rows that were chosen with other features",
        ),
        Misconception(
            "added to the old ones",
            added_to_the_old,
            "new exemplars are added to those of an earlier call. They replace them",
        ),
        Misconception(
            "the farthest",
            the_farthest,
            "you take the images farthest from the mean: the most unusual ones",
        ),
        Misconception(
            "the mean of all",
            nearest_to_the_common_mean,
            "you measure the distance to the mean of all images. Each class has a mean of its own",
        ),
        Misconception(
            "sorted by row",
            in_order_of_rows,
            "the right images, sorted by their row. The nearest comes first: a smaller memory keeps the first ones",
        ),
        Misconception(
            "the first images",
            the_first_rows,
            "these are the first images of each class, whatever their features",
        ),
        Misconception(
            "old ones cut",
            old_ones_cut,
            "you shorten what is remembered of the other classes. They stay as they are",
        ),
    ),
    shows="a position in a list is not a name: look things up by what they are.",
    derivation=(
        "After c classes in order the next key is c, and the next class is c as well. One more call, or one class out "
        "of order, and the two numbers part for good."
    ),
)
