"""Running a teacher over its data once."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .._base.modes import call, in_eval_mode
from ..data import Split
from ..training.batches import Data, batch_of, check_data, moved
from ..training.networks import Output, device_of, logits_of
from .keys import row_keys
from .shards import SHARD_ROWS
from .store import TeacherStore


@torch.no_grad()
def fill(
    store: TeacherStore,
    teacher: nn.Module,
    batches: Data,
    *,
    shard_rows: int = SHARD_ROWS,
    output: Output | None = None,
) -> int:
    """Run ``teacher`` over ``batches`` in eval mode and store what is not there yet; how many rows were new.

    ``batches`` are as in `kdcourse.training.distill`; labels are not read, ``output`` picks the logits. Several
    processes each take their own, and none waits for another. A killed run loses the rows of unfinished files. Started
    again on the same batches it runs the teacher on each batch of which a row is missing, and writes the same files.
    Raises ``ValueError`` for another teacher than the store's, unless the store has a name for it.

    >>> teacher, images = nn.Linear(4, 3), torch.rand(10, 4)
    >>> store = TeacherStore("filled", teacher=teacher, data=images)
    >>> fill(store, teacher, images[:6].split(2)), fill(store, teacher, images.split(2))
    (6, 4)
    """
    check_data(batches)
    store._check_teacher(teacher)
    before = len(store)
    with store._writing(shard_rows) as write, in_eval_mode(teacher):
        for inputs in _inputs(batches):
            keys = row_keys(inputs)
            if (store._find(keys) < 0).any():
                write(keys, logits_of(call(teacher, moved(inputs, device_of(teacher))), output))
    return len(store) - before


def _inputs(data: Data) -> Iterator[Any]:
    if isinstance(data, Split):
        yield from data.images.split(1000)  # as `distill` runs a teacher over them
    else:
        for item in data:
            yield batch_of(item, None).inputs
