"""04.3 targets that stay with their images."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw


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


def targets_cases() -> list[Case]:
    return [
        case(draw(5, 2, seed=22), torch.tensor([3, 0, 4, 1, 2]), 2),
        case(draw(7, 3, seed=23), torch.tensor([6, 2, 0, 5, 1, 3, 4]), 3),
    ]


EXERCISE = Exercise(
    id="04.3",
    title="targets that stay with their images",
    question=(
        "The teacher's logits were computed once, row k for image k. An epoch goes through the images in the order "
        "`order`, a tensor of row numbers. Write `my_batch_targets(teacher_logits, order, batch_size)`: a "
        "list with the "
        "teacher's logits for every batch; the last batch may be shorter."
    ),
    skeleton=(
        "def my_batch_targets(teacher_logits, order, batch_size):\n"
        '    """The kept teacher logits for each batch of an epoch in this order."""\n    ...'
    ),
    reference=batch_targets,
    alternatives=(targets_by_slices, targets_reordered_first),
    cases=targets_cases,
    hints=(
        "Which images does the first batch hold? Which rows belong to them?",
        "`order.split(batch_size)` gives the row numbers of every batch.",
        "`[teacher_logits[rows] for rows in order.split(batch_size)]`.",
    ),
    misconceptions=(
        Misconception(
            "targets by position",
            order_ignored,
            "you take the kept logits by position, but the images were shuffled: nearly every target belongs "
            "to another "
            "image. The loss still falls, and the student learns noise. Index the kept logits with the row numbers",
        ),
        Misconception(
            "order inverted",
            order_inverted,
            "you use the inverse of the order: where each image went, not which image comes. `order` already holds row "
            "numbers",
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
    ),
    shows="kept targets are looked up by image, so shuffling cannot mix them up.",
    derivation="The batch holds images[rows], so its targets are teacher_logits[rows], with the very same row numbers.",
)
