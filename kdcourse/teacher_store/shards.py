"""One file of a store, whole or not there, in which every byte is checked.

Its name holds a hash of its header, keys and checksums, which are read when it is opened; each row's checksum is
compared each time the row is read. So a file can be trusted without being read as a whole, and equal content has an
equal name: two processes cannot write over each other's rows.
"""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .._base.files import write_whole
from .keys import KEY_BYTES, Keys, as_bytes

FORM = "kdcourse.teacher_store 1"
DTYPES = torch.float32, torch.bfloat16, torch.float16
CHECK_BYTES = 4
SHARD_ROWS = 4096
HEAD = "keys", "checks"


class Shard:
    """A file's keys, and its rows on demand: the numbers stay on the disk until they are asked for."""

    def __init__(self, path: Path) -> None:
        """Open ``path``; raise ``ValueError`` that names it where it is truncated or altered."""
        self.path = path
        try:
            with safe_open(path, "pt") as file:
                self._tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
                self.about: dict[str, Any] = json.loads((file.metadata() or {})["store"])
            keys, self._checks = (self._tensors.pop(name) for name in HEAD)
            head = _digest(_header(path), keys, self._checks)
            if _name(head) != path.name:
                raise ValueError("its header, keys and checksums are not those that its name was made of")
            self.keys: Keys = as_bytes(keys).view(f"V{KEY_BYTES}").ravel()
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{path} is truncated, altered or no shard of a store ({error}): delete it and fill the store again, "
                "which writes the rows that it held"
            ) from error

    def rows(self, places: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, Tensor]:
        """The tensors of these rows; raise ``ValueError`` that names the file and a row whose checksum is another."""
        index = torch.from_numpy(places)
        found = {name: tensor[index] for name, tensor in self._tensors.items()}
        wrong = np.flatnonzero(_checks(found) != self._checks[index].numpy())
        if len(wrong):
            raise ValueError(
                f"{self.path} was altered: row {places[wrong[0]]} is not what was written ({len(wrong)} of "
                f"{len(places)} rows read). Delete it and fill the store again"
            )
        return found


def write_shard(folder: Path, about: dict[str, Any], keys: Keys, tensors: dict[str, Tensor]) -> None:
    """Write rows as one file, unless it is there: its name says that its content is the same."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {
        "keys": torch.from_numpy(keys.view(np.uint8).reshape(len(keys), KEY_BYTES).copy()),
        "checks": torch.from_numpy(_checks(tensors)),
    }
    content = save(head | tensors, metadata={"store": json.dumps(about)})
    end = 8 + int.from_bytes(content[:8], "little")
    path = folder / _name(_digest(content[:end], *head.values()))
    if not path.exists():
        write_whole(path, content)


def shards_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("teacher-*.safetensors"))


def index_dtype(classes: int) -> torch.dtype:
    """The smallest signed integer that holds every class."""
    return next(
        dtype for dtype in (torch.int8, torch.int16, torch.int32, torch.int64) if classes - 1 <= torch.iinfo(dtype).max
    )


def rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` in ``dtype``; raise ``ValueError`` where a number becomes infinite."""
    found = tensor.to(dtype)
    if dtype != tensor.dtype and (found.isinf() & ~tensor.isinf()).any():
        raise ValueError(
            f"a number as large as {tensor[tensor.isfinite()].abs().max().item():.4g} is infinite in {dtype}: keep the "
            "store in torch.bfloat16 or torch.float32"
        )
    return found


def _checks(tensors: dict[str, Tensor]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """CRC-32 of each row's numbers, (N,)."""
    found = [0] * len(next(iter(tensors.values())))
    for name in sorted(tensors):
        found = [zlib.crc32(row.data, check) for row, check in zip(as_bytes(tensors[name]), found, strict=True)]
    return np.array(found, np.uint32).view(np.int32)


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        length = file.read(8)
        return length + file.read(int.from_bytes(length, "little"))


def _digest(header: bytes, keys: Tensor, checks: Tensor) -> str:
    found = hashlib.sha256(header)
    for tensor in (keys, checks):
        found.update(as_bytes(tensor).data)
    return found.hexdigest()


def _name(digest: str) -> str:
    return f"teacher-{digest[:32]}.safetensors"
