"""09.6 who pays for the compression."""

import math
from statistics import fmean

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer

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
    """The labels, with a fraction of wrong answers that differs from class to class."""
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
    alone = [[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]  # the only image of a class
    all_rise = [[1, 1, 0, 2, 0, 0], [0, 0, 0, 2, 2, 0], [0, 0, 0, 2, 2, 2]]  # and class 1 does not occur
    found += [case(*(torch.tensor(part) for part in parts)) for parts in (alone, all_rise)]
    return [*found, case(worse, better, labels)]


def drawn_drop(g: torch.Generator) -> Case:
    """Classes of 5, 7, 11 and 13 images: no two drops are equal unless they are 0, and one is not."""
    sizes = torch.tensor([5, 7, 11, 13])
    labels = torch.arange(4).repeat_interleave(sizes)
    lost = [integer(g, 1, 4) for _ in sizes]
    place = torch.cat([torch.arange(size) for size in sizes])
    after = torch.where(place < torch.tensor(lost)[labels], (labels + 1) % 4, labels)
    order = torch.randperm(len(labels), generator=g)
    return case(labels[order], after[order], labels[order])


EXERCISE = Exercise(
    id="09.6",
    title="who pays for the compression",
    question=(
        "`before` and `after` (N,) are the classes that a network predicts, before and after it was compressed; "
        "`labels` (N,) are the true ones; all int64. Write `my_worst_class_drop(before, after, labels)`: the class "
        "whose accuracy fell most and by how much, as (class, accuracy before - accuracy after). A class's "
        "accuracy is the fraction of *its own images*, by label, that are classified correctly. Only classes that "
        "occur in `labels` count. If no class fell, it is the one that rose least, and the drop is 0 or below. No "
        "two classes tie."
    ),
    skeleton=(
        "def my_worst_class_drop(before, after, labels):\n"
        '    """(class, drop): the class whose accuracy fell most, and by how much."""\n    ...'
    ),
    reference=worst_class_drop,
    alternatives=(drop_by_counts, drop_by_lists),
    cases=drop_cases,
    drawn=drawn_drop,
    hints=(
        "If a class has 1 % of the images, how far can it fall before the accuracy over all images shows it?",
        "For each class in `labels.unique()`: take its images with `labels == digit`, the fraction of correct "
        "predictions before and after, the difference. Then the largest.",
        "`mine = labels == digit`, `(before[mine] == digit).double().mean() - (after[mine] == digit).double().mean()`; "
        "return `(int, float)`.",
    ),
    misconceptions=(
        Misconception(
            "the fraction of all images",
            share_of_all_images,
            "you divide by all images. A small class can then be lost altogether and never come first. Divide by the "
            "images of the class",
        ),
        Misconception(
            "images counted",
            images_counted,
            "you count the correct predictions that were lost. The largest class loses most of them, even if it "
            "hardly suffers. Divide by the images of the class",
        ),
        Misconception(
            "new errors only",
            new_errors_only,
            "you count the predictions that became wrong, and not those that became correct. Accuracy fell by the "
            "difference. (The new errors are worth knowing as well: to a user each one is a surprise.)",
        ),
        Misconception(
            "the size of the change",
            size_of_the_change,
            "you take the largest change, up or down. A class that gained much would be reported as the one that paid",
        ),
        Misconception(
            "where the networks disagree",
            disagreement,
            "you measure where the two networks disagree. A wrong prediction that became another wrong one cost "
            "nothing, and one that became right is a gain",
        ),
        Misconception(
            "by the class that is predicted",
            by_the_class_named,
            "you group the images by the prediction. That is precision, how far a prediction can be trusted; who "
            "pays is decided by the true class, the label",
        ),
        Misconception(
            "a fraction of what there was",
            share_of_what_there_was,
            "you divide the drop by the accuracy before. From 0.5 to 0.4 is then 0.2. Return the difference, 0.1, as a "
            "fraction of the class's images",
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
            "the class is right, but the drop is that over all images. In that mean the harm to one class disappears, "
            "which is why we look at each class",
        ),
        Misconception(
            "the wrong sign",
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
            "you clamp the drop at 0. Where every class gained, the least gain is worth knowing, as a negative drop",
        ),
    ),
    shows="a mean over all images can stay the same while one class pays: look at each class separately.",
    derivation=(
        "accuracy = Σ_c (n_c / N) · accuracy_c: a class counts by its size, so a drop d in it moves the mean by only "
        "d·n_c/N. Why it is worth looking: Hooker et al. 2019, arXiv:1911.05248, and 2020, arXiv:2010.03058, found "
        "that compression harms few classes and rare images most, while the mean hardly moves."
    ),
)
