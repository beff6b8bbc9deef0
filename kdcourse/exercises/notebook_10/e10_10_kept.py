"""10.10 a teacher that is wrong in every batch."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Batches = list[tuple[Tensor, Tensor]]


def paired_batches(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return [(images[rows], kept[rows]) for rows in order.split(batch_size)]


def paired_first(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images[order].split(batch_size), kept[order].split(batch_size), strict=True))


def paired_by_counting(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    found = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size].tolist()
        found.append((torch.stack([images[row] for row in rows]), torch.stack([kept[row] for row in rows])))
    return found


def kept_by_position(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images[order].split(batch_size), kept.split(batch_size), strict=True))


def targets_shuffled_alone(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images.split(batch_size), kept[order].split(batch_size), strict=True))


def kept_by_the_inverse(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images[order].split(batch_size), kept[order.argsort()].split(batch_size), strict=True))


def not_shuffled(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return list(zip(images.split(batch_size), kept.split(batch_size), strict=True))


def last_batch_dropped(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return [batch for batch in paired_batches(images, kept, order, batch_size) if len(batch[0]) == batch_size]


def targets_first(images: Tensor, kept: Tensor, order: Tensor, batch_size: int) -> Batches:
    return paired_batches(kept, images, order, batch_size)


def batches_cases() -> list[Case]:
    return [
        case(draw(5, 2, seed=72), draw(5, 3, seed=73), torch.tensor([3, 0, 4, 1, 2]), 2),
        case(draw(7, 2, seed=74), draw(7, 2, seed=75), torch.tensor([6, 2, 0, 5, 1, 3, 4]), 3),
    ]


def drawn_batches(g: torch.Generator) -> Case:
    count = integer(g, 3, 9)
    order = torch.randperm(count, generator=g)
    return case(draw(count, 2, seed=g), draw(count, 3, seed=g), order, integer(g, 1, count))


EXERCISE = Exercise(
    id="10.10",
    title="a teacher that is wrong in every batch",
    question=(
        "Fix `case_10` as `fixed_10(images, kept, order, batch_size)`: one epoch's batches `(images, targets)`, a "
        "list, in the order `order`. `kept[i]` are the cached teacher logits of `images[i]`."
    ),
    skeleton=(
        'def fixed_10(images, kept, order, batch_size):\n    """An epoch\'s batches (images, targets)."""\n    ...'
    ),
    reference=paired_batches,
    alternatives=(paired_first, paired_by_counting),
    cases=batches_cases,
    drawn=drawn_batches,
    hints=(
        "Take the first batch. Which row of `kept` belongs to its first image?",
        "The images were shuffled. Were the cached logits?",
        "Index both with the same `rows`.",
    ),
    misconceptions=(
        Misconception(
            "cached logits by position",
            kept_by_position,
            "the images are shuffled and the cached logits are not: targets belong to other images. The loss still "
            "falls; it falls towards the mean target",
        ),
        Misconception(
            "targets shuffled, images not",
            targets_shuffled_alone,
            "now the targets are shuffled and the images are not. It is the same mistake in reverse",
        ),
        Misconception(
            "the inverse order",
            kept_by_the_inverse,
            "you index the cached logits with the inverse of the order. Use the very same row numbers for both",
        ),
        Misconception(
            "nothing shuffled",
            not_shuffled,
            "the pairs are right, but the order is ignored: every epoch shows the same batches. That hides the "
            "symptom and costs the shuffling",
        ),
        Misconception(
            "the last batch dropped",
            last_batch_dropped,
            "the pairs are right, but the last batch is missing where it is smaller than the others: its images belong "
            "to the epoch as well",
        ),
        Misconception(
            "targets before images",
            targets_first,
            "the pairs belong together, but the targets come first: a batch is `(images, targets)`",
        ),
    ),
    shows="whatever is cached is looked up by image, never by position in the epoch.",
    derivation="A batch is a set of row numbers. Everything that belongs to its images is indexed with them.",
)
