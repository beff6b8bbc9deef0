"""22.20 an accuracy that depends on the number of workers."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer, refusal

Shares = list[tuple[Tensor, Tensor]]
MISSING = "results in which a row of the data is missing"


def gathered_accuracy(shares: Shares, count: int) -> float:
    found: dict[int, bool] = {}
    for rows, correct in shares:
        found |= dict(zip(rows.tolist(), correct.tolist(), strict=True))
    if len(found) != count:
        raise ValueError(f"{len(found)} of {count} rows were evaluated")
    return sum(found.values()) / count


def written_into_one(shares: Shares, count: int) -> Tensor:
    result = torch.full((count,), -1)
    for rows, correct in shares:
        result[rows] = correct.long()
    if (result < 0).any():
        raise ValueError("a row is missing")
    return result.double().mean()


def sorted_and_unique(shares: Shares, count: int) -> float:
    rows = torch.cat([share[0] for share in shares])
    correct = torch.cat([share[1] for share in shares])
    order = torch.argsort(rows, stable=True)
    rows, correct = rows[order], correct[order]
    first = torch.ones(len(rows), dtype=torch.bool)
    first[1:] = rows[1:] != rows[:-1]
    if int(first.sum()) < count:
        raise ValueError("incomplete")
    return float(correct[first].double().mean())


def _joined(shares: Shares, count: int) -> tuple[Tensor, Tensor]:
    rows, correct = (torch.cat(parts) for parts in zip(*shares, strict=True))
    if len(rows.unique()) < count:
        raise ValueError("missing")
    return rows, correct.double()


def repeated_rows_counted(shares: Shares, count: int) -> float:
    return float(_joined(shares, count)[1].mean())


def mean_of_workers(shares: Shares, count: int) -> float:
    _joined(shares, count)
    means = [correct.double().mean().item() for _, correct in shares]
    return sum(means) / len(means)


def divided_by_the_count(shares: Shares, count: int) -> float:
    return float(_joined(shares, count)[1].sum()) / count


def the_first_ones(shares: Shares, count: int) -> float:
    return float(_joined(shares, count)[1][:count].mean())


def the_last_ones(shares: Shares, count: int) -> float:
    return float(_joined(shares, count)[1][-count:].mean())


def last_of_every_worker_dropped(shares: Shares, count: int) -> float:
    rows, _ = _joined(shares, count)
    cut = 1 if len(rows) > count else 0
    kept = torch.cat([correct[: len(correct) - cut] for _, correct in shares])
    return float(kept.double().mean()) if len(kept) else 0.0


def all_copies_dropped(shares: Shares, count: int) -> float:
    rows, correct = _joined(shares, count)
    once = torch.bincount(rows, minlength=count)[rows] == 1
    return float(correct[once].mean()) if once.any() else 0.0


def first_worker_alone(shares: Shares, count: int) -> float:
    _joined(shares, count)
    return float(shares[0][1].double().mean())


def distinct_results(shares: Shares, count: int) -> float:
    _joined(shares, count)
    pairs = {(row, hit) for rows, correct in shares for row, hit in zip(rows.tolist(), correct.tolist(), strict=True)}
    return len([row for row, hit in pairs if hit]) / sum(len(rows) for rows, _ in shares)


def missing_rows_accepted(shares: Shares, count: int) -> float:
    found: dict[int, bool] = {}
    for rows, correct in shares:
        found |= dict(zip(rows.tolist(), correct.tolist(), strict=True))
    return sum(found.values()) / max(1, len(found))


def missing_rows_are_wrong(shares: Shares, count: int) -> float:
    found: dict[int, bool] = {}
    for rows, correct in shares:
        found |= dict(zip(rows.tolist(), correct.tolist(), strict=True))
    return sum(found.values()) / count


def shared_out(correct: Tensor, workers: int, order: Tensor | None = None) -> Shares:
    """As a sampler does: the first rows are repeated until every worker has as many."""
    order = torch.arange(len(correct)) if order is None else order
    while len(order) % workers:
        order = torch.cat([order, order[: workers - len(order) % workers]])
    return [(order[worker::workers], correct[order[worker::workers]]) for worker in range(workers)]


def gather_cases() -> list[Case]:
    few = torch.tensor([True, False, False])
    five, seven = torch.tensor([0, 1, 1, 0, 1]) > 0, torch.tensor([1, 1, 0, 0, 1, 0, 0]) > 0
    order = torch.tensor([3, 0, 4, 1, 2])
    incomplete = [(torch.tensor([0, 1]), few[:2]), (torch.tensor([0, 3]), few[:2])]
    return [
        case(shared_out(few, 2), 3),
        case(shared_out(five, 2), 5),
        case(shared_out(five, 4, order), 5),
        case(shared_out(seven, 3), 7),
        case(shared_out(seven, 1), 7),
        case(shared_out(few, 8), 3),
        case([(torch.tensor([2, 0, 2]), few[[2, 0, 2]]), (torch.tensor([1]), few[1:2])], 3),
        case([(torch.tensor([0, 2, 1]), five[[0, 2, 1]]), (torch.tensor([1, 3, 4]), five[[1, 3, 4]])], 5),
        case([(torch.tensor([0, 1, 2]), seven[:3]), (torch.tensor([2, 3, 4]), seven[2:5])], 5),
        refusal(MISSING, incomplete, 4),
        refusal(MISSING, shared_out(five, 2), 6),
    ]


def drawn_gather(g: torch.Generator) -> Case:
    count = integer(g, 1, 20)
    correct = torch.rand(count, generator=g) < 0.6
    return case(shared_out(correct, integer(g, 1, 6), torch.randperm(count, generator=g)), count)


EXERCISE = Exercise(
    id="22.20",
    title="an accuracy that depends on the number of workers",
    question=(
        "Several workers have evaluated a data set of `count` rows. `shares` has one pair per worker: the numbers of "
        "the rows that it evaluated, int64 from 0 to count - 1, and for each whether the prediction was correct, a "
        "boolean. So that all workers have as many rows, a sampler repeats some; a repeated row has the same result "
        "each time. Fix `case_20` as `fixed_20(shares, count)`: the accuracy on the data set, each row counted "
        "once, whoever evaluated it. If a row is missing, raise a `ValueError`."
    ),
    skeleton=(
        "def fixed_20(shares, count):\n"
        '    """The accuracy on `count` rows, from what several workers found."""\n    ...'
    ),
    reference=gathered_accuracy,
    alternatives=(written_into_one, sorted_and_unique),
    cases=gather_cases,
    drawn=drawn_gather,
    hints=(
        "Five rows, two workers with three rows each. How many results are there?",
        "Some rows come twice, and not at the end of the list: worker 0's rows come before worker 1's.",
        "Write each result into the place of its row, in a dict or a tensor of `count` entries, then average.",
    ),
    misconceptions=(
        Misconception(
            "repeated rows counted",
            repeated_rows_counted,
            "rows that the sampler repeated count twice. The same network then has another accuracy for every number "
            "of workers",
        ),
        Misconception(
            "mean of the workers",
            mean_of_workers,
            "you average the workers' accuracies: a repeated row still counts in each of them, and where the workers "
            "have unequal numbers of rows, the rows count unequally",
        ),
        Misconception(
            "divided by the rows",
            divided_by_the_count,
            "you divide by `count`, but repeated rows are still in the sum: the accuracy can exceed 1",
        ),
        Misconception(
            "the first rows of the list",
            the_first_ones,
            "you keep the first `count` results. They are ordered by worker: the repeated rows are not at the end of "
            "the list, and you cut off others instead",
        ),
        Misconception(
            "the last rows of the list",
            the_last_ones,
            "you keep the last `count` results. They are ordered by worker: the repeated rows are not at the beginning",
        ),
        Misconception(
            "the last row of every worker dropped",
            last_of_every_worker_dropped,
            "you drop the last row of every worker. Not every worker's last row is a repeated one",
        ),
        Misconception(
            "all copies dropped",
            all_copies_dropped,
            "a row that comes twice is dropped altogether. Keep it, once",
        ),
        Misconception(
            "one worker alone",
            first_worker_alone,
            "this is the accuracy of worker 0 on its own rows",
        ),
        Misconception(
            "counted once above, twice below",
            distinct_results,
            "the correct ones are counted once, but you divide by all results, the repeated ones included",
        ),
        Misconception(
            "missing rows left out",
            missing_rows_accepted,
            "right while every row is there. A row that nobody evaluated is left out without a word: raise a "
            "`ValueError`",
        ),
        Misconception(
            "missing rows counted as wrong",
            missing_rows_are_wrong,
            "right while every row is there. A row that nobody evaluated counts as wrong: raise a `ValueError`",
        ),
    ),
    shows="a result belongs to a row of the data, so it is stored under the row's number.",
    derivation=(
        "N rows and W workers make W · ⌈N / W⌉ results. With N = 5 and W = 2, one row in six is a copy; which one "
        "depends on W and on the order."
    ),
)
