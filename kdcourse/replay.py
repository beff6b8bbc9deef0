"""Examples that are kept while a network goes on learning: buffers that see a stream once, and iCaRL's exemplars.

A buffer holds any number of fields (N, ...), such as images, labels and a network's logits, and keeps copies of them.
Learning without forgetting needs no helper: with the old classes' columns sliced out *before* the softmax,
``kd_loss(logits[:, :old], old_logits[:, :old], temperature=2.0)`` is its loss. Sliced after the softmax they are
probabilities no longer, and the "divergence" may fall below zero. Ground floor: needs PyTorch alone.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ._base.checks import check_count, check_logits


class Reservoir:
    """At most ``size`` items of a stream, each of all that were added with the same probability, min(1, size / seen).

    The first ``size`` items fill the buffer; each later one, the n-th of all, takes position j, a random integer from 0
    to n - 1, if j < size. What is kept depends on ``seed`` and on the order of the items alone, neither on how they
    came in batches nor on what was sampled. Size 0 keeps nothing. Add each item once: added again, in a second epoch,
    it is another item.

    Source: Vitter 1985, ACM TOMS 11, algorithm R; as a memory for learning Riemer et al. 2019, arXiv:1810.11910.

    >>> buffer = Reservoir(3, seed=0)
    >>> buffer.add(torch.rand(10, 1, 28, 28), torch.arange(10))
    >>> len(buffer), buffer.seen
    (3, 10)
    >>> images, labels = buffer.sample(2)
    >>> images.shape, len(labels.unique())
    (torch.Size([2, 1, 28, 28]), 2)
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        check_count("size", size, least=0)
        self.size, self.seen = size, 0
        self._fields: tuple[Tensor, ...] = ()
        self._keeping = torch.Generator("cpu").manual_seed(seed)
        self._sampling = torch.Generator("cpu").manual_seed(self._draw(2**62))

    def __len__(self) -> int:
        """How many items are held."""
        return len(self._fields[0]) if self._fields else 0

    @torch.inference_mode(False)
    def add(self, *fields: Tensor) -> None:
        """Show it a batch: fields (N, ...) of one length, in the same order, shapes and dtypes each time.

        No items (N = 0) change nothing. Gradients are not kept. Raises ``ValueError`` for fields of different lengths
        and for what differs from the first batch, and keeps nothing of it.
        """
        self._check(fields)
        if not self._fields:
            self._fields = tuple(field.detach()[:0].clone() for field in fields)
        placed, held = self._places(fields), len(self)  # of several items for one position the last stays
        new = [row for slot, row in placed.items() if slot >= held]
        old = {slot: row for slot, row in placed.items() if slot < held}
        grown = []
        for kept, field in zip(self._fields, fields, strict=True):
            field = field.detach()
            if old:
                kept[list(old)] = field[list(old.values())].to(kept.device)
            grown.append(torch.cat([kept, field[new].to(kept.device)]) if new else kept)
        self._fields = tuple(grown)

    def sample(self, count: int) -> tuple[Tensor, ...]:
        """``count`` different items at random, field by field. Raises ``ValueError`` if fewer are held."""
        check_count("count", count, least=1)
        if count > len(self):
            why = "of size 0 keeps nothing" if self.size == 0 else f"holds {len(self)}"
            raise ValueError(
                f"cannot sample {count} items, the buffer {why}: ask for min({count}, len(buffer)), and for none while "
                "it is empty"
            )
        rows = torch.randperm(len(self), generator=self._sampling, device="cpu")[:count]
        return tuple(field[rows.to(field.device)] for field in self._fields)

    def contents(self) -> tuple[Tensor, ...]:
        """A copy of everything that is held, field by field; no fields before the first batch."""
        return tuple(field.clone() for field in self._fields)

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on bit for bit; `torch.save` writes it."""
        generators = {"keeping": self._keeping.get_state(), "sampling": self._sampling.get_state()}
        return {"size": self.size, "seen": self.seen, "fields": list(self.contents()), **generators}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same class and size; raises ``ValueError`` for another one."""
        wanted = self.state_dict().keys()
        if state.keys() != wanted:
            raise ValueError(f"the state has {sorted(state)}, this buffer needs {sorted(wanted)}: load one of its kind")
        if state["size"] != self.size:
            raise ValueError(f"the state is of a buffer of size {state['size']}, this one has {self.size}: make it so")
        self.seen, self._fields = state["seen"], tuple(field.clone() for field in state["fields"])
        self._keeping.set_state(state["keeping"].cpu())
        self._sampling.set_state(state["sampling"].cpu())

    def _draw(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self._keeping, device="cpu"))

    def _places(self, fields: tuple[Tensor, ...]) -> dict[int, int]:
        """For each position of the buffer that changes, the row of the batch that ends up there; new ones in order."""
        placed, held = {}, len(self)
        for row in range(len(fields[0])):
            self.seen += 1
            if held < self.size:
                slot, held = held, held + 1
            else:
                slot = self._draw(self.seen)
            if slot < self.size:
                placed[slot] = row
        return placed

    def _check(self, fields: tuple[Tensor, ...]) -> None:
        for number, field in enumerate(fields):
            if not isinstance(field, Tensor):
                raise TypeError(f"field {number} must be a torch.Tensor, got {type(field).__name__}")
        if not fields or min(field.ndim for field in fields) == 0 or len({len(field) for field in fields}) > 1:
            raise ValueError(f"need fields (N, ...) with one entry per item each, got the shapes {_shapes(fields)}")
        if self._fields:
            before, now = ([(f.shape[1:], f.dtype) for f in each] for each in (self._fields, fields))
            if before != now:
                raise ValueError(
                    f"the buffer holds fields {_kinds(self._fields)} and was given {_kinds(fields)}: give the same "
                    "fields in the same order each time"
                )


class BalancedBuffer(Reservoir):
    """At most ``size`` items, as equally many of each class as their order allows: the greedy sampler of GDumb.

    The second field is the labels (N,) int64. An item is kept if its class is new or has fewer items than size /
    classes seen; where the buffer is full, a random item of the largest class makes room for it.

    Source: Prabhu, Torr, Dokania 2020 (GDumb), ECCV, algorithm 1.

    >>> buffer = BalancedBuffer(6, seed=0)
    >>> buffer.add(torch.rand(100, 2), torch.arange(100) // 40)  # 40 items of class 0, 40 of 1, 20 of 2
    >>> buffer.contents()[1].bincount()
    tensor([2, 2, 2])
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        super().__init__(size, seed=seed)
        self._slots: dict[int, list[int]] = {}
        """the positions of each class that was seen, which may be none"""

    def state_dict(self) -> dict[str, Any]:
        """As of `Reservoir`, with the positions of each class."""
        return super().state_dict() | {"slots": {label: list(slots) for label, slots in self._slots.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As of `Reservoir`."""
        super().load_state_dict(state)
        self._slots = {label: list(slots) for label, slots in state["slots"].items()}

    def _places(self, fields: tuple[Tensor, ...]) -> dict[int, int]:
        placed, held = {}, len(self)
        for row, label in enumerate(fields[1].tolist()):
            self.seen += 1
            if len(self._slots.get(label, [])) * len(self._slots) >= self.size:
                continue
            if held < self.size:
                slot, held = held, held + 1
            else:
                largest = max(self._slots.values(), key=len)
                slot = largest.pop(self._draw(len(largest)))
            self._slots.setdefault(label, []).append(slot)
            placed[slot] = row
        return placed

    def _check(self, fields: tuple[Tensor, ...]) -> None:
        super()._check(fields)
        if len(fields) < 2 or fields[1].ndim != 1 or fields[1].dtype != torch.int64:
            raise ValueError(f"the second field must be labels (N,) of int64, got {_kinds(fields)}")


def herding(features: Tensor, count: int) -> Tensor:
    """The indices (count,) of the examples that stand for all of ``features`` (N, ...), the most important first.

    The k-th is the one that brings the mean of the k chosen nearest to the mean of all: argmin over x not yet chosen of
    ‖μ - (x + Σ_{j<k} x_j) / k‖; of equals the first. So the first m of them are what a smaller ``count`` = m gives.
    Features are taken as they are; the paper normalises them first, ``F.normalize(features)``, and every mean.

    Source: Rebuffi et al. 2017 (iCaRL), arXiv:1611.07725, algorithm 4. Raises ``ValueError`` for more than N, and for
    NaN and infinity.

    >>> herding(torch.tensor([[0.0], [1.0], [2.0], [7.0]]), 2)  # the mean is 2.5; (2 + 1) / 2 and (2 + 7) / 2 are off
    tensor([2, 1])
    """
    check_logits("features", features)
    check_count("count", count, least=0)
    if not torch.isfinite(features).all():
        raise ValueError("features contains NaN or infinity: look for a diverged model or a division by zero")
    if count > len(features):
        raise ValueError(f"cannot choose {count} of {len(features)} examples: each is chosen once")
    rows = features.detach().double().reshape(len(features), -1)
    rows = rows / (rows.abs().max() or 1.0)  # no square overflows or vanishes
    rows = rows - rows.mean(dim=0)  # then the mean of those chosen must be near zero
    chosen: list[int] = []
    total = torch.zeros_like(rows[0])
    distances = torch.empty(len(rows), dtype=rows.dtype, device=rows.device)
    for _ in range(count):
        torch.sum((rows + total).square(), dim=1, out=distances)
        distances[chosen] = math.inf
        chosen.append(int(distances.argmin()))
        total = total + rows[chosen[-1]]
    return torch.tensor(chosen, dtype=torch.int64, device=features.device)


def _shapes(fields: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
    return [tuple(field.shape) for field in fields]


def _kinds(fields: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{field.dtype} {('N', *field.shape[1:])}".replace("'", "") for field in fields)
