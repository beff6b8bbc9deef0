"""16.2 two accuracies of one network."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Classes = Mapping[int, Sequence[int]]


def scores(logits: Tensor, labels: Tensor, classes: Classes) -> tuple[float, float]:
    count = logits.shape[1]
    met = torch.zeros(count, dtype=torch.bool)
    together = torch.zeros(count, count, dtype=torch.bool)
    for own in classes.values():
        met[list(own)] = True
        for one in own:
            together[one, list(own)] = True
    aware = logits.masked_fill(~together[labels], -torch.inf).argmax(dim=1) == labels
    agnostic = logits.masked_fill(~met, -torch.inf).argmax(dim=1) == labels
    return aware.double().mean().item(), agnostic.double().mean().item()


def scores_by_rows(logits: Tensor, labels: Tensor, classes: Classes) -> tuple[float, float]:
    right = [0, 0]
    every = [c for own in classes.values() for c in own]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        [own] = [own for own in classes.values() if label in own]
        for place, rivals in enumerate((own, every)):
            right[place] += max(rivals, key=lambda c: row[c]) == label
    return right[0] / len(labels), right[1] / len(labels)


def scores_by_tasks(logits: Tensor, labels: Tensor, classes: Classes) -> tuple[float, float]:
    aware = 0
    for own in map(torch.tensor, classes.values()):
        rows = torch.isin(labels, own)
        aware += int((own[logits[rows][:, own].argmax(dim=1)] == labels[rows]).sum())
    every = torch.cat([torch.tensor(own) for own in classes.values()])
    agnostic = int((every[logits[:, every].argmax(dim=1)] == labels).sum())
    return aware / len(labels), agnostic / len(labels)


def swapped(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    aware, agnostic = scores(z, y, classes)
    return agnostic, aware


def _predicted(z: Tensor, y: Tensor, classes: Classes) -> tuple[Tensor, Tensor]:
    """The class that wins in the label's own task, and among all that were met."""
    every = torch.tensor([c for own in classes.values() for c in own])
    aware = torch.empty_like(y)
    for own in map(torch.tensor, classes.values()):
        rows = torch.isin(y, own)
        aware[rows] = own[z[rows][:, own].argmax(dim=1)]
    return aware, every[z[:, every].argmax(dim=1)]


def _fraction(right: Tensor) -> float:
    return right.double().mean().item()


def places_for_classes(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    aware = torch.empty_like(y)
    for own in map(torch.tensor, classes.values()):
        rows = torch.isin(y, own)
        aware[rows] = z[rows][:, own].argmax(dim=1)
    return _fraction(aware == y), scores(z, y, classes)[1]


def mean_over_tasks(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    predicted = _predicted(z, y, classes)
    of_each = [[_fraction((p == y)[torch.isin(y, torch.tensor(own))]) for own in classes.values()] for p in predicted]
    aware, agnostic = ([value for value in each if value == value] for each in of_each)
    return sum(aware) / len(aware), sum(agnostic) / len(agnostic)


def others_set_to_0(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    task = torch.full((z.shape[1],), -1)
    for name, own in enumerate(classes.values()):
        task[list(own)] = name
    aware = (z * (task[y][:, None] == task)).argmax(dim=1)
    agnostic = (z * (task >= 0)).argmax(dim=1)
    return _fraction(aware == y), _fraction(agnostic == y)


def all_columns(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    return scores(z, y, classes)[0], _fraction(z.argmax(dim=1) == y)


def right_task(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    task = {c: name for name, own in classes.items() for c in own}
    predicted = _predicted(z, y, classes)[1].tolist()
    same = [task[p] == task[label] for p, label in zip(predicted, y.tolist(), strict=True)]
    return scores(z, y, classes)[0], sum(same) / len(same)


def agnostic_twice(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    return (scores(z, y, classes)[1],) * 2


def errors(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    aware, agnostic = scores(z, y, classes)
    return 1 - aware, 1 - agnostic


def last_task_only(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    own = torch.tensor(classes[max(classes)])
    return _fraction(own[z[:, own].argmax(dim=1)] == y), scores(z, y, classes)[1]


def smallest_logit(z: Tensor, y: Tensor, classes: Classes) -> tuple[float, float]:
    return scores(-z, y, classes)


def three_tasks() -> dict[int, list[int]]:
    return {0: [7, 2], 1: [0, 5, 4], 2: [3, 8]}


def images(seed: int | torch.Generator, count: int, classes: Classes) -> tuple[Tensor, Tensor]:
    """Logits for ten classes and labels from those that were met; the label's own logit somewhat higher."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    every = torch.tensor([c for own in classes.values() for c in own])
    labels = every[torch.randint(len(every), (count,), generator=generator)]
    logits = draw(count, 10, seed=generator) - 2.0
    logits[torch.arange(count), labels] += 3.0
    return logits, labels


def scores_cases() -> list[Case]:
    later: dict[int, list[int]] = {2: [1], 0: [3, 4], 5: [9, 0, 6]}
    return [
        case(*images(1, 20, three_tasks()), three_tasks()),
        case(*images(2, 15, later), later),
        case(*images(3, 9, {0: [6, 1]}), {0: [6, 1]}),  # one task, and eight classes that were never met
        case(*images(4, 1, three_tasks()), three_tasks()),
        case(
            *(part.float() if part.is_floating_point() else part for part in images(5, 30, three_tasks())),
            three_tasks(),
        ),
    ]


def drawn_scores(g: torch.Generator) -> Case:
    order, first = torch.randperm(10, generator=g).tolist(), integer(g, 1, 4)
    classes = {0: order[:first], 1: order[first : first + 3]}
    return case(*images(g, integer(g, 5, 30), classes), classes)


EXERCISE = Exercise(
    id="16.2",
    title="two accuracies of one network",
    question=(
        "A network with C outputs has met some tasks. `classes` is a dict from the number of each task to the list of "
        "its classes, `logits` a tensor (N, C), and `labels` (N,) are classes of these tasks. Write "
        "`my_scores(logits, labels, classes)`, which returns two accuracies as a tuple of numbers. For the first, "
        "*task-aware* one, only the classes of the task to which the image's label belongs compete for the largest "
        "logit. For the second, *task-agnostic* one, the classes of all tasks in `classes` compete. Outputs that are "
        "in no task never compete. Every image counts the same."
    ),
    skeleton=(
        "def my_scores(logits, labels, classes):\n"
        '    """Accuracy where the task is known, and where it is not."""\n    ...'
    ),
    reference=scores,
    alternatives=(scores_by_rows, scores_by_tasks),
    cases=scores_cases,
    drawn=drawn_scores,
    hints=(
        "Both accuracies come from the same logits. What differs is which columns may win.",
        "Set the columns that may not win to -inf, row by row, and take the argmax. 0 is not low enough.",
        "`logits[rows][:, own].argmax(dim=1)` is a position in `own`; `own[…]` of it is the class.",
    ),
    misconceptions=(
        Misconception("swapped", swapped, "the two are swapped: the task-aware accuracy comes first"),
        Misconception(
            "positions for classes",
            places_for_classes,
            "the argmax of a slice is a position in the slice, and you compare it with a class number. Look the class "
            "up in the task's list",
        ),
        Misconception(
            "mean over tasks",
            mean_over_tasks,
            "you average the accuracies of the tasks. Here every image counts the same",
        ),
        Misconception(
            "others set to 0",
            others_set_to_0,
            "you multiply the other logits by 0. If all logits of a task are negative, a 0 wins. Use -inf",
        ),
        Misconception(
            "never met, and competing",
            all_columns,
            "in the task-agnostic accuracy all C outputs compete, also those of classes that were never met",
        ),
        Misconception(
            "right task is enough",
            right_task,
            "for the second one you only ask whether the predicted class is of the right *task*",
        ),
        Misconception(
            "task-agnostic twice",
            agnostic_twice,
            "both are task-agnostic: the first one is told the task, so fewer classes compete",
        ),
        Misconception("errors", errors, "these are the fractions that are wrong: return those that are right"),
        Misconception(
            "last task for all",
            last_task_only,
            "your task-aware accuracy uses the classes of the last task for every image. Each image has its own task",
        ),
        Misconception(
            "smallest logit",
            smallest_logit,
            "you predict the class with the smallest logit",
        ),
    ),
    shows="one network has two accuracies, and which of them is reported decides what it seems to know.",
    derivation=(
        "a_aware = mean [argmax_{c in task(y)} z_c = y], a_agnostic = mean [argmax_{c in any task} z_c = y]. The "
        "second is never larger: who wins among all also wins in the own task."
    ),
)
