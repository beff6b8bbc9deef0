"""What a store costs, before it is written."""

import math
from typing import NamedTuple

import torch

from .._base.checks import check_count, check_positive
from .keys import KEY_BYTES
from .shards import CHECK_BYTES, DTYPES, SHARD_ROWS, index_dtype

REST_BYTES = 4


class Plan(NamedTuple):
    """What `plan` finds."""

    bytes_per_row: int
    """with key and checksum"""
    bytes: int
    """of all rows; each shard has a header of less than 1 kB besides"""
    shards: int
    hours: float
    """to move all bytes once"""


def plan(
    tokens: int,
    *,
    classes: int,
    k: int | None = None,
    dtype: torch.dtype = torch.float32,
    row_tokens: int = 1,
    shard_rows: int = SHARD_ROWS,
    bytes_per_second: float,
) -> Plan:
    """Bytes, shards and hours of a store, for ``tokens`` positions with logits of ``classes`` classes each.

    ``row_tokens`` are the positions of one row, 1 for an image. A row takes row_tokens · C · b bytes in full; of the k
    most probable classes row_tokens · (k · (b + i) + 4), with b bytes a number and i = 1, 2 or 4 bytes an index; and 20
    bytes for its key and its checksum. Raises ``ValueError`` for numbers out of range.

    >>> plan(10**12, classes=152_064, dtype=torch.bfloat16, row_tokens=4096, bytes_per_second=1e9).bytes / 1e15
    304.128...
    >>> kept = plan(10**12, classes=152_064, k=64, dtype=torch.bfloat16, row_tokens=4096, bytes_per_second=1e9)
    >>> kept.bytes / 1e12, kept.shards, round(kept.hours)
    (388.0..., 59605, 108)
    """
    for name, value in {"tokens": tokens, "row_tokens": row_tokens, "shard_rows": shard_rows}.items():
        check_count(name, value, least=1)
    check_count("classes", classes, least=2)
    check_positive("bytes_per_second", bytes_per_second)
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    position = classes * dtype.itemsize
    if k is not None:
        check_count("k", k, least=1)
        if k > classes:
            raise ValueError(f"k must be at most the number of classes, {classes}, got {k}")
        position = k * (dtype.itemsize + index_dtype(classes).itemsize) + REST_BYTES
    row = row_tokens * position + KEY_BYTES + CHECK_BYTES
    rows = -(-tokens // row_tokens)
    return Plan(row, rows * row, math.ceil(rows / shard_rows), rows * row / bytes_per_second / 3600)
