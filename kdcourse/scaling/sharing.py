"""What every process must have before the first step: its part of each batch, and the same arguments as the others."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

from .._base.extras import needed
from ..training.batches import EMPTY

if TYPE_CHECKING:
    from accelerate import Accelerator

LOADING = (
    "num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context",
    "prefetch_factor", "persistent_workers",
)  # fmt: skip


def shared(train: "DataLoader[Any]", accelerator: "Accelerator", seed: int) -> Any:
    """The loader of this process's part of every batch; raise unless each process gets rows of every batch."""
    if not isinstance(train, DataLoader) or isinstance(train.dataset, IterableDataset):
        raise TypeError("several processes need a DataLoader of a data set with a length, from which each takes rows")
    if hasattr(train, "base_dataloader") or type(train.batch_sampler) is not BatchSampler:
        raise TypeError("pass the DataLoader of one process, with batch_size=: its batches are divided here")
    if type(train.sampler) not in (RandomSampler, SequentialSampler):
        raise TypeError(
            f"a {type(train.sampler).__name__} may draw another order in each process, so that rows are used twice or "
            "never: use shuffle=True, or choose the rows before, torch.utils.data.Subset(dataset, rows)"
        )
    batch = train.batch_sampler.batch_size
    processes, last = accelerator.num_processes, len(train.sampler) % batch  # type: ignore[arg-type]
    fewest = last if last and not train.drop_last else batch
    if fewest < processes:
        raise ValueError(
            f"unequal numbers of batches: a batch of {fewest} rows gives some of {processes} processes none, and the "
            "others would wait for them: pass drop_last=True, or choose another batch size"
        )
    loading = needed("accelerate.data_loader", extra="scale")
    order: Any = train.sampler
    if isinstance(order, RandomSampler):  # drawn from the seed and the epoch alone, the same in every process
        order = loading.SeedableRandomSampler(
            train.dataset, replacement=order.replacement, num_samples=order._num_samples, data_seed=seed
        )
    batches = Shares(BatchSampler(order, batch, train.drop_last), accelerator.process_index, processes)
    if len(batches) == 0:
        raise ValueError(EMPTY)
    return loading.DataLoaderShard(
        train.dataset, batch_sampler=batches, **{name: getattr(train, name) for name in LOADING}
    )


class Shares(BatchSampler):
    """Of each batch the rows of one process: every W-th, so that their numbers differ by one at most."""

    def __init__(self, batch_sampler: BatchSampler, process: int, processes: int) -> None:
        self.batch_sampler, self.process, self.processes = batch_sampler, process, processes
        self.batch_size, self.drop_last = batch_sampler.batch_size, batch_sampler.drop_last

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.batch_sampler:
            yield rows[self.process :: self.processes]


def agreed(accelerator: "Accelerator", facts: Callable[[], dict[str, str]]) -> dict[str, str]:
    """``facts()``; where it raises in one process or differs between two, all raise the same error and none waits."""
    problem, mine = "", {}
    try:
        _check_wrapper(accelerator)
        mine = facts()
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    found = needed("accelerate.utils", extra="scale").gather_object([(problem, mine)])
    for process, (theirs, _) in enumerate(found):
        if theirs:
            raise ValueError(f"process {process} of {len(found)} cannot begin: {theirs}")
    for process, (_, theirs) in enumerate(found):
        other = sorted(name for name, value in found[0][1].items() if theirs[name] != value)
        if other:
            raise ValueError(f"processes 0 and {process} differ in {', '.join(other)}: give all the same arguments")
    return mine


def _check_wrapper(accelerator: "Accelerator") -> None:
    """On CPUs Accelerate leaves FSDP out without a word."""
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and accelerator.distributed_type != "FSDP":
        raise ValueError(
            f"FSDP was asked for, and Accelerate runs {accelerator.distributed_type.value} here: it shards on GPUs "
            "alone. Leave the plugin out, or use torch.distributed.fsdp.fully_shard in a loop of your own"
        )
