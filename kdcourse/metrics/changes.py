"""What changed: predictions before and after a network was compressed, and tasks before and after others were learned.

Logits are (..., C), classes last, labels (...) int64; a position labelled -100 is left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ._checks import check_numbers, rows_of


class Flips(NamedTuple):
    """Positions whose predicted class changed; of them those that were right and are wrong, and the reverse."""

    changed: int
    broken: int | None
    """None without labels"""
    fixed: int | None
    """None without labels"""
    positions: int


class Forgetting(NamedTuple):
    """Accuracy lost on the earlier tasks, on average and of each task, and the average accuracy at the end."""

    mean: float
    by_task: Tensor
    accuracy: float


def flips(before: Tensor, after: Tensor, labels: Tensor | None = None) -> Flips:
    """How many predictions differ between two networks' logits, and with ``labels`` how many broke or were fixed.

    changed >= broken + fixed: the rest went from one wrong class to another. The accuracy changes by (fixed - broken) /
    positions, so by at most changed / positions; it may be zero with many flips. Two seeds of one network flip, too:
    compare with them. Ties of logits go to the first class.

    >>> before = torch.tensor([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0]])
    >>> after = torch.tensor([[1.0, 2.0], [3.0, 0.0], [4.0, 2.0]])
    >>> flips(before, after, torch.tensor([0, 0, 0]))
    Flips(changed=2, broken=1, fixed=1, positions=3)
    """
    check_numbers("before", before)
    check_numbers("after", after)
    if before.shape != after.shape:
        raise ValueError(f"shapes differ: {tuple(before.shape)} and {tuple(after.shape)}")
    given = torch.zeros(before.shape[:-1], dtype=torch.int64, device=before.device) if labels is None else labels
    rows, truth = rows_of(before, given)
    first, second = rows.argmax(dim=-1), rows_of(after, given)[0].argmax(dim=-1)
    changed = int((first != second).sum())
    if labels is None:
        return Flips(changed, None, None, len(first))
    was, now = first == truth, second == truth
    return Flips(changed, int((was & ~now).sum()), int((~was & now).sum()), len(first))


def forgetting(accuracies: Tensor | Sequence[Sequence[float]]) -> Forgetting:
    """How much of the K tasks that were learned one after another is lost at the end.

    ``accuracies`` (K, K) in [0, 1]: row i after task i was learned, column j on task j. Entries above the diagonal, of
    tasks not yet learned, are not read and may be NaN. Task j has lost max_{j <= i < K-1} a_ij - a_{K-1,j}, which is
    negative where it has gained; the last one 0. ``mean`` is over the K - 1 earlier tasks, 0 for a single task;
    ``accuracy`` the mean of the last row. Raises ``ValueError`` for another shape, and where what is read is NaN or a
    percentage.

    Source: Chaudhry, Dokania, Ajanthan, Torr 2018, arXiv:1801.10112, section 3. Differs from it above the diagonal,
    which its maximum includes.

    >>> forgetting([[1.0, float("nan")], [0.5, 0.75]])
    Forgetting(mean=0.5, by_task=tensor([0.5000, 0.0000], dtype=torch.float64), accuracy=0.625)
    """
    try:
        table = torch.as_tensor(accuracies, dtype=torch.float64).detach().cpu()
    except ValueError as error:
        raise ValueError(f"accuracies must be a square table, fill what was not measured with NaN: {error}") from error
    tasks = len(table) if table.ndim else 0
    if tasks == 0 or table.shape != (tasks, tasks):
        raise ValueError(f"accuracies must be (K, K), K >= 1, a row after each task, got {tuple(table.shape)}")
    learned = torch.ones(tasks, tasks, dtype=torch.bool).tril()
    if not ((table >= 0) & (table <= 1))[learned].all():
        raise ValueError(
            "accuracies must be fractions in [0, 1], on and below the diagonal none may be NaN: row i is what was "
            "measured after task i; transpose a table with a row per task, divide percentages by 100"
        )
    best = table.masked_fill(~learned, 0.0)[:-1].amax(dim=0) if tasks > 1 else table[0]
    lost = best - table[-1]
    lost[-1] = 0.0
    return Forgetting(lost[:-1].mean().item() if tasks > 1 else 0.0, lost, table[-1].mean().item())
