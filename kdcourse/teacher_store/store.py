"""Writing a teacher down, and reading it in any order."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._base.checks import check_classes, check_count, check_logits, check_no_nan, check_positive, widen
from .._base.modes import Inputs
from ..data import Split
from ..training.checkpoint import digest
from .keys import Keys, fingerprint, named, row_keys
from .shards import DTYPES, FORM, SHARD_ROWS, Shard, index_dtype, rounded, shards_in, write_shard
from .top import TopK, normalised, top_k

Write = Callable[[Inputs, Tensor], None]
Rows = tuple[Keys, dict[str, Tensor]]


class TeacherStore(nn.Module):
    """The teacher of one data set in a folder; called on inputs it returns their logits, as the teacher would.

    It is a module so that it stands where a teacher stands, ``distill(student, store, …)``; it has no weights.
    ``teacher`` is the network, of which the `fingerprint` is kept, or that text or a name of your own where it is not
    at hand; ``data`` is the data set, hashed, or a name. With ``k`` the store keeps the k most probable classes at
    ``temperature`` and what is left for the others, see `top_k`; without, all logits, which serve every temperature.

    In float32 numbers are read as they were written, bit for bit (a network's own last bits may depend on the size of
    its batch). With ``dtype=torch.bfloat16`` a logit z is read within 2⁻⁸ |z|, with ``torch.float16`` within
    2⁻¹¹ |z| + 2⁻²⁵; and of k classes log p within twice that of the largest |log p| kept, since they are scaled to sum
    to 1 with the rest.

    Raises ``ValueError`` where the folder holds another teacher, data set, temperature, k or dtype, each by its name,
    and where a file is truncated or altered.

    >>> teacher, images = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval(), torch.rand(100, 1, 28, 28)
    >>> store = TeacherStore("stored", teacher=teacher, data=images)
    >>> fill(store, teacher, images.split(20))
    100
    >>> with torch.no_grad():
    ...     print(torch.equal(store(images[[7, 3]]), teacher(images[:20])[[7, 3]]))
    True
    >>> store(images[:2] + 0.1)
    Traceback (most recent call last):
    ValueError: 2 of 2 inputs are not among the 100 rows of stored...
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        teacher: nn.Module | str,
        data: Split | Tensor | str,
        k: int | None = None,
        temperature: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check_kind(k, temperature, dtype)
        self.folder, self.k, self.temperature, self.dtype = Path(folder).expanduser(), k, temperature, dtype
        self.about = {
            "form": FORM,
            "teacher": teacher if isinstance(teacher, str) else fingerprint(teacher),
            "data": _data_name(data),
            "k": k,
            "temperature": None if temperature is None else float(temperature),
            "dtype": str(dtype).removeprefix("torch."),
        }
        self._named = isinstance(teacher, str)
        # what a checkpoint of `distill` tells this teacher from others by
        identity = hashlib.sha256(json.dumps(self.about).encode()).digest()
        self.register_buffer("identity", torch.tensor(list(identity), dtype=torch.uint8))
        self._shards: dict[str, Shard] = {}
        self.refresh()

    def _check_teacher(self, teacher: nn.Module) -> None:
        if not self._named and self.about["teacher"] != fingerprint(teacher):
            raise ValueError(
                f"{self.folder} is a store of {self.about['teacher']}, and this is {fingerprint(teacher)}: name "
                "another folder for another teacher"
            )

    def refresh(self) -> None:
        """Look again which files are in the folder, where other processes write."""
        paths = shards_in(self.folder)
        self._shards = {path.name: self._shards.get(path.name) or self._opened(path) for path in paths}
        shards = list(self._shards.values())
        keys = np.concatenate([np.empty(0, "V16"), *(shard.keys for shard in shards)])
        self._starts = np.cumsum([0, *(len(shard.keys) for shard in shards)])
        self._sorted, self._places = np.unique(keys, return_index=True)

    def _opened(self, path: Path) -> Shard:
        shard = Shard(path)
        for name, mine in self.about.items():
            theirs = shard.about.get(name)
            if theirs != mine:
                raise ValueError(
                    f"{path} is of another {name}: {theirs!r} there, {mine!r} asked for. Name another folder, or ask "
                    "for what is there"
                )
        return shard

    def __len__(self) -> int:
        """How many different inputs are stored."""
        return len(self._sorted)

    def missing(self, inputs: Inputs) -> Tensor:
        """Which of the examples are not stored, (N,) bool.

        >>> TeacherStore("empty", teacher="mine", data="none").missing(torch.rand(3, 8))
        tensor([True, True, True])
        """
        return torch.from_numpy(self._find(row_keys(inputs)) < 0)

    def read(self, inputs: Inputs) -> Tensor | TopK:
        """The stored rows of ``inputs``, in float32 on their device: logits (N, ..., C), or `TopK` of (N, ..., k).

        Raises ``ValueError`` where an input is not stored, or a row is not what was written.

        >>> store = TeacherStore("kept", teacher="mine", data="two", k=1, temperature=2.0)
        >>> inputs = torch.eye(2)
        >>> with store.writer() as write:
        ...     write(inputs, inputs.mul(2.0))
        >>> store.read(inputs.flip(0)).indices.tolist()
        [[1], [0]]
        """
        places = self._find(row_keys(inputs))
        if (places < 0).any():
            first = int(np.flatnonzero(places < 0)[0])
            raise ValueError(
                f"{int((places < 0).sum())} of {len(places)} inputs are not among the {len(self)} rows of "
                f"{self.folder} (first at row {first}): they were never written, or changed since, by augmentation or "
                "padding for example. Fill the store with just these inputs, or run the teacher on them"
            )
        device = next(iter(named(inputs).values())).device
        found = {name: tensor.to(device) for name, tensor in self._gathered(places).items()}
        if self.k is None:
            return widen(found["logits"])
        top = TopK(widen(found["log_probs"]), found["indices"].long(), found["log_rest"])
        return top if self.dtype == torch.float32 else normalised(top)

    def forward(self, *inputs: Any, **by_name: Any) -> Tensor:
        """The logits, as a teacher gives them; of k classes there are none, so that is refused."""
        found = self.read(by_name or inputs)
        if isinstance(found, TopK):
            raise TypeError(
                f"{self.folder} keeps {self.k} classes at temperature {self.temperature}, not all logits: use "
                "top = store.read(inputs) and top_k_kd_loss in a loop of your own"
            )
        return found

    @contextmanager
    def writer(self, *, shard_rows: int = SHARD_ROWS) -> Iterator[Write]:
        """A function ``write(inputs, logits)``; a file is written whenever ``shard_rows`` rows have come together.

        When the block ends well the rest is written. What is stored already is left out. Several processes may write
        at the same time. Raises ``ValueError`` for NaN, +inf, another number of rows, and what is infinite in dtype.

        >>> store = TeacherStore("written", teacher="mine", data="random")
        >>> with store.writer(shard_rows=4) as write:
        ...     write(torch.rand(10, 8), torch.rand(10, 3))
        >>> len(store), len(list(store.folder.iterdir()))
        (10, 3)
        """
        with self._writing(shard_rows) as write:
            yield lambda inputs, logits: write(row_keys(inputs), logits)

    @contextmanager
    def _writing(self, shard_rows: int) -> Iterator[Callable[[Keys, Tensor], None]]:
        check_count("shard_rows", shard_rows, least=1)
        pending: dict[Any, list[Rows]] = {}  # by form, so that a file has rows of one shape

        def write(keys: Keys, logits: Tensor) -> None:
            tensors = self._encoded(logits, len(keys))
            new = np.flatnonzero(self._find(keys) < 0)
            tensors = {name: tensor[torch.from_numpy(new)] for name, tensor in tensors.items()}
            form = tuple((name, tensor.shape[1:]) for name, tensor in tensors.items())
            waiting = pending.setdefault(form, [])
            waiting.append((keys[new], tensors))
            while sum(len(keys) for keys, _ in waiting) >= shard_rows:
                rows = _joined(waiting)
                write_shard(self.folder, self.about, *_cut(rows, slice(shard_rows)))
                waiting[:] = [_cut(rows, slice(shard_rows, None))]

        yield write
        for waiting in pending.values():
            keys, tensors = _joined(waiting)
            if len(keys):
                write_shard(self.folder, self.about, keys, tensors)
        self.refresh()

    def _encoded(self, logits: Tensor, rows: int) -> dict[str, Tensor]:
        check_logits("logits", logits)
        if logits.ndim < 2 or len(logits) != rows:
            raise ValueError(f"logits of shape {tuple(logits.shape)} for {rows} inputs: they must be (N, ..., C)")
        if self.k is None:
            check_classes("logits", logits)
            if not torch.isfinite(logits.amax(dim=-1)).all():
                check_no_nan("logits", logits)
            return {"logits": rounded(logits.detach().cpu(), self.dtype)}
        assert self.temperature is not None
        top = top_k(logits, k=self.k, temperature=self.temperature)
        return {
            "indices": top.indices.cpu().to(index_dtype(logits.shape[-1])),
            "log_probs": rounded(top.log_probs.cpu(), self.dtype),
            "log_rest": top.log_rest.cpu().float(),
        }

    def _find(self, keys: Keys) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Where each key's row is, counted through all files; -1 where it is nowhere."""
        if not len(self):
            return np.full(len(keys), -1)
        at = np.searchsorted(self._sorted, keys).clip(max=len(self) - 1)
        return np.where(self._sorted[at] == keys, self._places[at], -1)

    def _gathered(self, places: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        which, shards = np.searchsorted(self._starts, places, side="right") - 1, list(self._shards.values())
        for number in np.unique(which):
            mine = np.flatnonzero(which == number)
            for name, rows in shards[number].rows(places[mine] - self._starts[number]).items():
                if name not in found:
                    found[name] = rows.new_empty(len(places), *rows.shape[1:])
                found[name][torch.from_numpy(mine)] = rows
        return found


def _data_name(data: Any) -> str:
    if isinstance(data, str):
        return data
    if not isinstance(data, (Split, Tensor)):
        raise TypeError(
            f"data must be a Split, a tensor or a name, got {type(data).__name__}: give a data set a name that says "
            "which version it is"
        )
    return digest([data] if isinstance(data, Tensor) else data)[:16]


def _joined(rows: list[Rows]) -> Rows:
    tensors = {name: torch.cat([part[name] for _, part in rows]) for name in rows[0][1]}
    return np.concatenate([keys for keys, _ in rows]), tensors


def _cut(rows: Rows, part: slice) -> Rows:
    return rows[0][part], {name: tensor[part] for name, tensor in rows[1].items()}


def _check_kind(k: int | None, temperature: float | None, dtype: torch.dtype) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    if (k is None) != (temperature is None):
        raise ValueError(
            "k= and temperature= go together: the most probable classes are kept at one temperature, all logits serve "
            f"every one; got k={k}, temperature={temperature}"
        )
    if k is not None and temperature is not None:
        check_count("k", k, least=1)
        check_positive("temperature", temperature)
