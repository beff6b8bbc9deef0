"""21.4 which rows a worker takes."""

import numpy as np
import torch

from ..engine.core import Case, Exercise, Misconception, case, integer, refusal

Rows = list[int]


def share(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    if not 0 <= worker < workers:
        raise ValueError(f"there is no worker {worker} among {workers}")
    if not training:
        return list(range(worker, rows, workers))
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + epoch))
    each = rows // workers
    return order[: each * workers][worker::workers].tolist()


def share_by_table(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    if worker not in range(workers):
        raise ValueError("no such worker")
    torch.manual_seed(seed + epoch)
    order = torch.randperm(rows).numpy() if training else np.arange(rows)
    if training:
        return [int(row) for row in order[: rows - rows % workers].reshape(-1, workers)[:, worker]]
    return [int(row) for row in order if row % workers == worker]


def share_one_by_one(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    if worker >= workers or worker < 0:
        raise ValueError("workers are numbered from 0")
    generator = torch.Generator()
    generator.manual_seed(seed + epoch)
    order = torch.randperm(rows, generator=generator).tolist() if training else list(range(rows))
    while training and len(order) % workers != 0:
        order.pop()
    hands: list[Rows] = [[] for _ in range(workers)]
    for number, row in enumerate(order):
        hands[number % workers].append(row)
    return hands[worker]


def _order(rows: int, seed: int) -> Rows:
    found: Rows = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()
    return found


def _check(worker: int, workers: int) -> None:
    if not 0 <= worker < workers:
        raise ValueError("no such worker")


def _dealt(order: Rows, worker: int, workers: int, *, cut: bool) -> Rows:
    _check(worker, workers)
    return order[: len(order) - len(order) % workers if cut else None][worker::workers]


def _padded(order: Rows, workers: int) -> Rows:
    """Begun again from its start until it can be divided."""
    return order + [order[number % len(order)] for number in range(-len(order) % workers)] if order else order


def same_every_epoch(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    order = _order(rows, seed) if training else list(range(rows))
    return _dealt(order, worker, workers, cut=training)


def seed_ignored(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    order = _order(rows, epoch) if training else list(range(rows))
    return _dealt(order, worker, workers, cut=training)


def own_order(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    order = _order(rows, max(0, seed + epoch + worker)) if training else list(range(rows))
    return _dealt(order, worker, workers, cut=training)


def not_shuffled(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    return _dealt(list(range(rows)), worker, workers, cut=training)


def always_shuffled(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    return _dealt(_order(rows, seed + epoch), worker, workers, cut=training)


def repeated_in_evaluation(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    order = _order(rows, seed + epoch) if training else _padded(list(range(rows)), workers)
    return _dealt(order, worker, workers, cut=training)


def repeated_in_training(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    order = _padded(_order(rows, seed + epoch), workers) if training else list(range(rows))
    return _dealt(order, worker, workers, cut=False)


def always_repeated(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    order = _order(rows, seed + epoch) if training else list(range(rows))
    return _dealt(_padded(order, workers), worker, workers, cut=False)


def rest_kept_in_training(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    order = _order(rows, seed + epoch) if training else list(range(rows))
    return _dealt(order, worker, workers, cut=False)


def rest_dropped_in_evaluation(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    order = _order(rows, seed + epoch) if training else list(range(rows))
    return _dealt(order, worker, workers, cut=True)


def cut_before_shuffling(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    order = _order(rows - rows % max(1, workers), seed + epoch) if training else list(range(rows))
    return _dealt(order, worker, workers, cut=training)


def shuffled_afterwards(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    mine = _dealt(list(range(rows)), worker, workers, cut=training)
    return [mine[place] for place in _order(len(mine), seed + epoch)] if training else mine


def in_blocks(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    _check(worker, workers)
    order = _order(rows, seed + epoch)[: rows - rows % workers] if training else list(range(rows))
    return [row for place, row in enumerate(order) if place * workers // len(order) == worker]


def everything(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    _check(worker, workers)
    return _order(rows, seed + epoch) if training else list(range(rows))


def counted_from_one(rows: int, *, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Rows:
    _check(worker, workers)
    order = _order(rows, seed + epoch)[: rows - rows % workers] if training else list(range(rows))
    return order[(worker - 1) % workers :: workers]


def share_case(rows: int, worker: int, workers: int, seed: int, epoch: int, training: bool) -> Case:
    return case(rows, worker=worker, workers=workers, seed=seed, epoch=epoch, training=training)


def share_cases() -> list[Case]:
    one = {"seed": 3, "epoch": 2, "training": True}
    return [
        share_case(5, 1, 2, 0, 0, True),
        share_case(5, 0, 2, 0, 0, False),
        *(share_case(11, worker, 3, 7, 2, True) for worker in range(3)),
        *(share_case(11, worker, 3, 7, 2, False) for worker in range(3)),
        share_case(12, 3, 4, 5, 1, True),
        share_case(12, 2, 4, 5, 0, True),
        share_case(9, 0, 1, 2, 4, True),
        share_case(2, 1, 3, 4, 1, True),  # fewer rows than workers
        share_case(2, 1, 3, 4, 1, False),
        share_case(2, 2, 3, 4, 1, False),
        share_case(0, 1, 2, 4, 1, True),
        refusal("a worker with the number of workers", 8, worker=2, workers=2, **one),
        refusal("a worker below 0", 8, worker=-1, workers=2, **(one | {"training": False})),
    ]


def drawn_share(g: torch.Generator) -> Case:
    workers = integer(g, 2, 5)
    training = bool(integer(g, 0, 2))
    return share_case(
        integer(g, 8, 30), integer(g, 0, workers - 1), workers, integer(g, 1, 50), integer(g, 1, 9), training
    )


EXERCISE = Exercise(
    id="21.4",
    title="which rows a worker takes",
    question=(
        "A data set has `rows` rows, and `workers` processes read it at the same time, numbered from 0. Write "
        "`my_share(rows, *, worker, workers, seed, epoch, training)`: the list of the row numbers, as integers, that "
        "the process `worker` takes in this epoch. In training all processes agree on one order, a new one in each "
        "epoch: `torch.randperm(rows, generator=torch.Generator().manual_seed(seed + epoch))`. They leave out the last "
        "`rows % workers` rows of that order, so that all take equally many and none waits for another; of the others "
        "`worker` takes every `workers`-th, beginning with position `worker`. In evaluation (`training` is False) the "
        "order is 0, 1, 2, …, nothing is left out, and no row may be taken twice: `worker` takes every `workers`-th "
        "row, beginning with row `worker`, one fewer than others where they run out. Raise a `ValueError` for a "
        "`worker` that is not one of 0 to `workers` - 1."
    ),
    skeleton=(
        "def my_share(rows, *, worker, workers, seed, epoch, training):\n"
        '    """The rows that one of several processes takes in an epoch."""\n    ...'
    ),
    reference=share,
    alternatives=(share_by_table, share_one_by_one),
    cases=share_cases,
    drawn=drawn_share,
    hints=(
        "What must all workers have in common, and what must differ between two epochs?",
        "Shuffle all rows first, by a generator that knows seed and epoch but not the worker; then cut; then slice.",
        "`order[: rows - rows % workers][worker::workers].tolist()` in training, `list(range(worker, rows, workers))` "
        "in evaluation; the `ValueError` first.",
    ),
    misconceptions=(
        Misconception(
            "the same order every epoch",
            same_every_epoch,
            "you shuffle by the seed alone: every epoch has the same order, as when `set_epoch` is forgotten. Seed "
            "with `seed + epoch`",
        ),
        Misconception(
            "the seed ignored", seed_ignored, "you shuffle by the epoch alone: another seed has to give another order"
        ),
        Misconception(
            "an order for each worker",
            own_order,
            "every worker shuffles by a seed of its own. Some rows are then taken by several workers and others by "
            "none: the order must be the same for all",
        ),
        Misconception("not shuffled", not_shuffled, "in training the rows are to be shuffled"),
        Misconception(
            "evaluation shuffled",
            always_shuffled,
            "you shuffle in evaluation, too. There the order is 0, 1, 2, …",
        ),
        Misconception(
            "rows repeated in evaluation",
            repeated_in_evaluation,
            "in evaluation you repeat rows until all workers have equally many. Those rows count twice in the "
            "accuracy: some workers take one fewer",
        ),
        Misconception(
            "rows repeated in training",
            repeated_in_training,
            "in training you repeat rows until all workers have equally many, as `DistributedSampler` does by default. "
            "Here the last rows of the order are left out",
        ),
        Misconception(
            "rows repeated",
            always_repeated,
            "you repeat rows until all workers have equally many. In evaluation those rows count twice in the "
            "accuracy. In training the last rows of the order are left out here",
        ),
        Misconception(
            "the rest kept in training",
            rest_kept_in_training,
            "in training some workers take one row more than others. Its last batch then waits for gradients that "
            "never come, and the run hangs: leave out the last `rows % workers` rows",
        ),
        Misconception(
            "the rest dropped in evaluation",
            rest_dropped_in_evaluation,
            "in evaluation you leave out the last rows: they are never tested. There some workers take one fewer",
        ),
        Misconception(
            "cut before shuffling",
            cut_before_shuffling,
            "you leave out the last rows of the *data set* and shuffle the others. The same rows are then missing in "
            "every epoch: shuffle all rows, then cut",
        ),
        Misconception(
            "shuffled within a worker",
            shuffled_afterwards,
            "every worker shuffles only the rows that it always has. Two rows of different workers never meet in a "
            "worker: shuffle all rows before they are distributed",
        ),
        Misconception(
            "in blocks",
            in_blocks,
            "you give each worker a block of neighbouring positions. No row is lost by that, but the question asks for "
            "every `workers`-th",
        ),
        Misconception(
            "everything to everyone",
            everything,
            "every worker takes all rows: all do the same work",
        ),
        Misconception(
            "counted from 1",
            counted_from_one,
            "you count workers from 1. Worker 0 begins with position 0",
        ),
    ),
    shows="no row is lost or counted twice when all workers know the same order and only cut it differently.",
    derivation=(
        "Positions worker, worker + W, worker + 2W, … of one order are the residue classes modulo W: disjoint, and "
        "together everything. Each has ⌊N / W⌋ positions below W⌊N / W⌋; the N mod W others go to the first ones. A "
        "random order leaves out other rows in each epoch."
    ),
)
