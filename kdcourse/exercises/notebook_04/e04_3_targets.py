"""04.3 targets that stay with their images."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def batch_targets(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return [teacher_logits[rows] for rows in order.split(batch_size)]


def targets_by_slices(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    starts = range(0, len(order), batch_size)
    return [torch.stack([teacher_logits[int(row)] for row in order[start : start + batch_size]]) for start in starts]


def targets_reordered_first(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return list(torch.index_select(teacher_logits, 0, order).split(batch_size))


def order_ignored(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return list(teacher_logits.split(batch_size))


def order_inverted(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return batch_targets(teacher_logits, order.argsort(), batch_size)


def last_batch_dropped(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return [rows for rows in batch_targets(teacher_logits, order, batch_size) if len(rows) == batch_size]


def same_rows_every_batch(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return [teacher_logits[: len(rows)] for rows in order.split(batch_size)]


def batches_of_row_numbers(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return list(order.split(batch_size))


def size_for_count(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return [teacher_logits[rows] for rows in order.chunk(batch_size)]


def one_tensor(teacher_logits: Tensor, order: Tensor, batch_size: int) -> Tensor:
    return teacher_logits[order]


def last_batch_filled(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    more = -len(order) % batch_size
    return batch_targets(teacher_logits, torch.cat([order, order[:more]]), batch_size)


def sorted_in_the_batch(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return [teacher_logits[rows.sort().values] for rows in order.split(batch_size)]


def batches_shuffled_only(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return [teacher_logits[rows.min() : rows.min() + len(rows)] for rows in order.split(batch_size)]


def shuffled_anew(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return batch_targets(teacher_logits, order[torch.randperm(len(order))], batch_size)


def probabilities(teacher_logits: Tensor, order: Tensor, batch_size: int) -> list[Tensor]:
    return batch_targets(teacher_logits.softmax(dim=-1), order, batch_size)


def targets_cases() -> list[Case]:
    return [
        case(draw(5, 2, seed=22), torch.tensor([3, 0, 4, 1, 2]), 2),
        case(draw(7, 3, seed=23), torch.tensor([6, 2, 0, 5, 1, 3, 4]), 3),
        case(draw(6, 3, seed=24).float(), torch.tensor([2, 5, 0, 4, 1, 3]), 3),  # no shorter batch
        case(draw(4, 5, seed=25), torch.tensor([3, 1, 0, 2]), 7),  # one batch holds all
        case(draw(8, 2, seed=26), torch.tensor([7, 4, 1, 5]), 3),  # an epoch over some of the images
    ]


def drawn_epoch(g: torch.Generator) -> Case:
    count = integer(g, 4, 12)
    return case(draw(count, integer(g, 2, 5), seed=g), torch.randperm(count, generator=g), integer(g, 1, 5))


EXERCISE = Exercise(
    id="04.3",
    title="targets that stay with their images",
    question=(
        "The teacher's logits were computed once, row k for image k. An epoch goes through the images in the order "
        "`order`, a tensor of row numbers; it may leave images out. Write "
        "`my_batch_targets(teacher_logits, order, batch_size)`: a list with the teacher's logits for every batch; the "
        "last batch may be shorter."
    ),
    skeleton=(
        "def my_batch_targets(teacher_logits, order, batch_size):\n"
        '    """The cached teacher logits for each batch of an epoch in this order."""\n    ...'
    ),
    reference=batch_targets,
    alternatives=(targets_by_slices, targets_reordered_first),
    cases=targets_cases,
    drawn=drawn_epoch,
    hints=(
        "Which images does the first batch contain? Which rows belong to them?",
        "`order.split(batch_size)` gives the row numbers of every batch.",
        "`[teacher_logits[rows] for rows in order.split(batch_size)]`.",
    ),
    misconceptions=(
        Misconception(
            "targets by position",
            order_ignored,
            "you take the cached logits by position, but the images were shuffled: nearly every target belongs to "
            "another image. The loss still falls, and the student learns noise. Index the cached logits with the row "
            "numbers",
        ),
        Misconception(
            "order inverted",
            order_inverted,
            "you use the inverse of the order: where each image went, not which image comes. `order` already "
            "contains row numbers",
        ),
        Misconception(
            "last batch dropped",
            last_batch_dropped,
            "the last, shorter batch is missing, so some images never meet their teacher in this epoch",
        ),
        Misconception(
            "the first rows for every batch",
            same_rows_every_batch,
            "every batch gets the first rows of the teacher. They belong to the same few images",
        ),
        Misconception(
            "row numbers for logits",
            batches_of_row_numbers,
            "you return the row numbers of every batch. The question asks for the teacher's logits at those rows: "
            "`teacher_logits[rows]`",
        ),
        Misconception(
            "number of batches for their size",
            size_for_count,
            "`chunk(k)` makes k batches. `batch_size` is how many images a batch contains: `split(batch_size)`",
        ),
        Misconception(
            "one tensor for the epoch",
            one_tensor,
            "you return one tensor for the whole epoch. Split it: one entry in the list for each batch",
        ),
        Misconception(
            "last batch filled up",
            last_batch_filled,
            "you fill the last batch with images from the start, so these count twice in an epoch. The last batch may"
            " be shorter",
        ),
        Misconception(
            "sorted within the batch",
            sorted_in_the_batch,
            "you sort the rows of a batch. Its images come in the order of `order`, and so must their targets",
        ),
        Misconception(
            "consecutive rows",
            batches_shuffled_only,
            "you take consecutive rows. The images of a batch come from all over the set: index with all its row "
            "numbers",
        ),
        Misconception(
            "shuffled again",
            shuffled_anew,
            "you shuffle once more. The images come in the order `order`, and nothing random may come between",
        ),
        Misconception(
            "probabilities for logits",
            probabilities,
            "you return probabilities. The logits are kept, so that the temperature can still be chosen",
        ),
    ),
    shows="kept targets are looked up by image, so shuffling cannot mix them up.",
    derivation=(
        "The batch contains images[rows], so its targets are teacher_logits[rows], with the very same row numbers."
    ),
)
