"""16.1 forgetting."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal


def forgetting(accuracies: Tensor) -> float:
    if accuracies.shape[0] != accuracies.shape[1]:
        raise ValueError(f"need a square table, got {tuple(accuracies.shape)}")
    earlier = len(accuracies) - 1
    if earlier == 0:
        return 0.0
    lost = [(accuracies[task:-1, task].max() - accuracies[-1, task]).item() for task in range(earlier)]
    return sum(lost) / earlier


def forgetting_by_mask(accuracies: Tensor) -> Tensor:
    rows, columns = accuracies.shape
    if rows != columns:
        raise ValueError("not square")
    if rows == 1:
        return torch.zeros(())
    learned = torch.ones(rows, rows).tril().bool()
    best = torch.where(learned, accuracies, -torch.inf)[:-1].amax(dim=0)
    return (best - accuracies[-1])[:-1].mean()


def forgetting_by_lists(accuracies: Tensor) -> float:
    table = accuracies.tolist()
    if any(len(row) != len(table) for row in table):
        raise ValueError("not square")
    total = 0.0
    for task in range(len(table) - 1):
        total += max(table[row][task] for row in range(task, len(table) - 1)) - table[-1][task]
    return total / max(1, len(table) - 1)


def _filled(a: Tensor) -> Tensor:
    """The table with -inf above the diagonal."""
    return a.masked_fill(torch.ones_like(a).triu(1).bool(), -torch.inf)


def since_learned(a: Tensor) -> float:
    return (a.diagonal() - a[-1])[:-1].mean().item()


def last_row_included(a: Tensor) -> float:
    return (_filled(a).amax(dim=0) - a[-1])[:-1].mean().item()


def over_all_tasks(a: Tensor) -> float:
    return forgetting(a) * (len(a) - 1) / len(a)


def transposed(a: Tensor) -> float:
    return forgetting(a.T)


def sign_turned(a: Tensor) -> float:
    return -forgetting(a)


def everything_read(a: Tensor) -> float:
    return (a[:-1].amax(dim=0) - a[-1])[:-1].mean().item()


def everything_read_but_nan(a: Tensor) -> float:
    return (a.nan_to_num(-torch.inf)[:-1].amax(dim=0) - a[-1])[:-1].mean().item()


def first_task_only(a: Tensor) -> float:
    return (a[:-1, 0].max() - a[-1, 0]).item()


def worst_of_all(a: Tensor) -> float:
    return max((a[task:-1, task].max() - a[-1, task]).item() for task in range(len(a) - 1))


def summed(a: Tensor) -> float:
    return forgetting(a) * (len(a) - 1)


def row_before(a: Tensor) -> float:
    return (a[-2] - a[-1])[:-1].mean().item()


def as_a_fraction(a: Tensor) -> float:
    best = [a[task:-1, task].max() for task in range(len(a) - 1)]
    return sum((1 - a[-1, task] / one).item() for task, one in enumerate(best)) / len(best)


def single_task_is_nan(a: Tensor) -> float:
    return forgetting_by_mask(a).item() if len(a) > 1 else float("nan")


def never_negative(a: Tensor) -> float:
    return max(0.0, forgetting(a))


def a_story(seed: int | torch.Generator, tasks: int, *, measured: bool = False) -> Tensor:
    """Accuracies in general position; above the diagonal NaN, or where ``measured`` high numbers."""
    accuracies = draw(tasks, tasks, seed=seed).sigmoid()
    above = torch.ones(tasks, tasks).triu(1).bool()
    return accuracies.masked_fill(above, 0.99 if measured else torch.nan)


def forgetting_cases() -> list[Case]:
    nan = torch.nan
    fell = torch.tensor([[0.9, nan, nan], [0.95, 0.8, nan], [0.4, 0.5, 0.7]], dtype=torch.float64)
    return [
        case(fell),
        case(torch.tensor([[0.9, 0.8], [0.7, 0.6]], dtype=torch.float64)),
        case(a_story(1, 4, measured=True)),
        case(a_story(2, 5)),
        case(torch.tensor([[0.5, nan], [0.75, 0.9]], dtype=torch.float64)),  # it gained
        case(torch.tensor([[0.9]], dtype=torch.float64)),
        case(a_story(3, 3).float()),
        refusal("a table that is not square", torch.full((3, 2), 0.5, dtype=torch.float64)),
    ]


EXERCISE = Exercise(
    id="16.1",
    title="forgetting",
    question=(
        "A network has met K tasks, one after another. `accuracies` is a floating-point tensor (K, K) with K ≥ 1: row "
        "i was measured after task i, column j on task j. Write `my_forgetting(accuracies)`. Task j has lost the best "
        "of its accuracies in the rows j to K-2, minus its accuracy in the last row; that may be negative. Return the "
        "mean over the tasks 0 to K-2 as a number, and 0 if K is 1. Entries above the diagonal belong to tasks that "
        "were not yet learned; do not use them, they may be NaN. Raise a `ValueError` for a table that is not square."
    ),
    skeleton=(
        "def my_forgetting(accuracies):\n"
        '    """How much accuracy the earlier tasks have lost at the end, in mean."""\n    ...'
    ),
    reference=forgetting,
    alternatives=(forgetting_by_mask, forgetting_by_lists),
    cases=forgetting_cases,
    drawn=lambda g: case(a_story(g, integer(g, 2, 6), measured=bool(integer(g, 0, 1)))),
    hints=(
        "A column tells the story of one task. Where does it begin, and which entry of it is the end?",
        "For task j: `accuracies[j:-1, j].max() - accuracies[-1, j]`. The last task has no such rows.",
        "Check the shape first; return 0.0 for one task; then average over `range(K - 1)`.",
    ),
    misconceptions=(
        Misconception(
            "the diagonal for the best",
            since_learned,
            "you compare with the accuracy right after the task was learned. A later task may have improved it: take "
            "the best of all rows before the last",
        ),
        Misconception(
            "the last row competes",
            last_row_included,
            "your maximum includes the last row, so a task that has gained counts as 0. Gains count here, as negative "
            "forgetting",
        ),
        Misconception(
            "divided by K",
            over_all_tasks,
            "you divide by K. The last task cannot be forgotten yet; average over the K-1 earlier ones",
        ),
        Misconception(
            "transposed",
            transposed,
            "rows and columns are swapped: a row is a moment, a column is a task",
        ),
        Misconception(
            "sign",
            sign_turned,
            "the sign is turned: forgetting is positive where accuracy is lost. (The negative of it is near what is "
            "called backward transfer)",
        ),
        Misconception(
            "NaN read",
            everything_read,
            "you read entries above the diagonal, where a task is not learned yet",
        ),
        Misconception(
            "above the diagonal, without NaN",
            everything_read_but_nan,
            "you leave out NaN, but a number above the diagonal is not to be used either: the task is not learned yet",
        ),
        Misconception(
            "first task only",
            first_task_only,
            "this is what the first task has lost. Average over all but the last",
        ),
        Misconception(
            "the largest loss",
            worst_of_all,
            "this is the loss of the task that has lost most. Take the mean",
        ),
        Misconception("summed", summed, "this is the sum over the tasks. Take their mean"),
        Misconception(
            "since the row before",
            row_before,
            "you compare the last two rows: that is what the last task alone has destroyed",
        ),
        Misconception(
            "relative to the best",
            as_a_fraction,
            "you divide by the best accuracy. Forgetting is a difference of accuracies",
        ),
        Misconception(
            "NaN for a single task",
            single_task_is_nan,
            "for a single task you average over nothing, which gives NaN. Nothing is forgotten yet: return 0",
        ),
        Misconception(
            "never negative",
            never_negative,
            "you cut off at 0. If the earlier tasks have gained in mean, the result is negative",
        ),
    ),
    shows="forgetting compares with the best that a task ever was, and the last task does not count.",
    derivation=(
        "F = 1/(K-1) Σ_{j<K-1} (max_{j≤i<K-1} a_ij - a_{K-1,j}), Chaudhry et al. 2018, section 3, whose maximum also "
        "includes the rows in which task j was not learned yet."
    ),
)
