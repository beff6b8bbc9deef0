"""Batches of a `Split`, or of anything that can be iterated again for every epoch, in the forms that loaders give them.

A batch of a loader is ``(inputs, labels)``, ``(inputs,)``, a bare tensor of inputs, or a dict, of which the entry
"labels" are the labels and the rest are the inputs. Inputs are a tensor, given to the network as ``model(inputs)``; a
tuple or list, given as ``model(*inputs)``; or a dict, given as ``model(**inputs)``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from tqdm.auto import tqdm

from ..data import Mnist, Split

Data = Split | Iterable[Any]
EMPTY = "the loader is empty, it has no batch; a generator can be read only once"


class Batch(NamedTuple):
    """The examples of one step, on the device."""

    inputs: Any
    labels: Any
    """None where the loader gives none"""
    size: int
    """how many examples"""
    lowest: int
    """no class label is below this one, here or in the whole `Split`"""
    highest: int
    rows: Tensor | None = None
    """positions in the `Split`; None from a loader"""


class Batches(NamedTuple):
    """How many steps an epoch takes, and an iterator over the batches of the next one."""

    steps: int
    epoch: Callable[[], Iterator[Batch]]


def read(
    data: Data,
    device: torch.device,
    *,
    batch_size: int | None = None,
    drop_last: bool = False,
    steps_per_epoch: int | None = None,
    progress: bool = False,
) -> Batches:
    """The batches of ``data``: of a `Split` reshuffled every epoch, of a loader as it gives them."""
    check_data(data)
    if isinstance(data, Split):
        if steps_per_epoch is not None:
            raise ValueError("steps_per_epoch is for loaders: a Split's epoch is all of its rows")
        return _of_split(data, 128 if batch_size is None else batch_size, drop_last, device)
    if batch_size is not None or drop_last:
        raise ValueError("a loader makes its own batches: leave out batch_size= and drop_last=, the loader has them")
    return _of_loader(data, steps_per_epoch, device, progress)


def _of_split(split: Split, batch_size: int, drop_last: bool, device: torch.device) -> Batches:
    images, labels = split.images.to(device), split.labels.to(device)
    full, rest = divmod(len(images), batch_size)
    steps = full + (rest > 0 and not drop_last)
    if steps == 0:
        raise ValueError(f"drop_last=True leaves nothing of {len(images)} images in batches of {batch_size}")
    lowest, highest = label_range(split.labels)

    def epoch() -> Iterator[Batch]:
        order = torch.randperm(len(images)).to(device)
        for rows in islice(order.split(batch_size), steps):
            yield Batch(images[rows], labels[rows], len(rows), lowest, highest, rows)

    return Batches(steps, epoch)


def _of_loader(data: Iterable[Any], steps_per_epoch: int | None, device: torch.device, bar: bool) -> Batches:
    steps = _length(data, bar) if steps_per_epoch is None else steps_per_epoch
    if steps < 1:
        raise ValueError(EMPTY if steps_per_epoch is None else f"steps_per_epoch must be >= 1, got {steps}")
    passes = 0

    def epoch() -> Iterator[Batch]:
        nonlocal passes
        passes, count = passes + 1, 0
        for item in data if steps_per_epoch is None else islice(data, steps):
            count += 1
            if count > steps:
                raise ValueError(f"the loader said that it has {steps} batches, and gave one more")
            yield batch_of(item, device)
        if count == 0 and passes > 1:
            raise ValueError(
                "the loader had nothing left for another epoch: a generator can be read only once. "
                "Pass a list of batches, a DataLoader, or an object whose __iter__ starts again"
            )
        if count < steps:
            raise ValueError(f"the loader gave {count} batches in an epoch that needs {steps}")

    return Batches(steps, epoch)


def check_split(split: Split) -> None:
    """Raise unless images and labels are tensors that pair up, at least one."""
    for part in split:
        if not isinstance(part, Tensor):
            raise TypeError(
                f"a Split holds two tensors, got {type(part).__name__}: make a DataLoader for anything else"
            )
    if len(split.images) != len(split.labels) or len(split.labels) == 0:
        raise ValueError(f"{len(split.images)} images and {len(split.labels)} labels: they must pair up, at least one")


def check_data(data: Any) -> None:
    """Raise unless ``data`` is a `Split` whose parts pair up, or may be a loader."""
    if isinstance(data, Split):
        check_split(data)
        return
    if isinstance(data, Mnist):
        raise TypeError("these are three splits: pass the one to train on, as in digits.train")
    if isinstance(data, Tensor):
        raise TypeError("a tensor is not a loader: pass Split(inputs, labels), or DataLoader(TensorDataset(inputs))")
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        raise TypeError(
            "two tensors may be inputs and labels, or two batches of inputs: pass Split(inputs, labels), or "
            "[(first,), (second,)]"
        )
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise TypeError("a Dataset gives single examples: wrap it, DataLoader(dataset, batch_size=…, shuffle=True)")
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes, Mapping)):
        raise TypeError(f"need a Split, a DataLoader or another re-iterable of batches, got {type(data).__name__}")


def _length(data: Iterable[Any], bar: bool) -> int:
    """How many batches an epoch has; a loader that does not say is read once to count them."""
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:
        pass
    if iter(data) is data:
        raise TypeError(
            "a generator can be read only once and does not say how many batches it has, which schedules need: pass "
            "a list of batches, a DataLoader, an object whose __iter__ starts again, or steps_per_epoch="
        )
    return sum(1 for _ in tqdm(data, desc="counting batches", leave=False, disable=not bar))


def parts(item: Any) -> tuple[Any, Any]:
    """Inputs and labels (None where there are none) of what a loader gave."""
    if isinstance(item, Mapping):
        inputs = {name: value for name, value in item.items() if name != "labels"}
        if inputs:
            return inputs, item.get("labels")
    elif isinstance(item, Tensor):
        return item, None
    elif _is_group(item) and len(item) in (1, 2) and (_is_group(item[0]) or isinstance(item[0], (Tensor, Mapping))):
        return item[0], item[1] if len(item) == 2 else None
    kind = f"a {type(item).__name__} of {len(item)}" if hasattr(item, "__len__") else f"a {type(item).__name__}"
    raise TypeError(
        f"the loader gave {kind}: a batch is (inputs, labels), (inputs,), a tensor of inputs, or a dict whose entry "
        '"labels" holds the labels; several inputs go into a tuple of their own, ((one, two), labels)'
    )


def _is_group(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def batch_of(item: Any, device: torch.device | None) -> Batch:
    """What a loader gave, checked and moved to ``device``."""
    inputs, labels = parts(item)
    size = _size(inputs, labels)
    return Batch(moved(inputs, device), moved(labels, device), size, *label_range(labels))


def _size(inputs: Any, labels: Any) -> int:
    """How many examples a batch has: the length of its inputs, or of its labels where the inputs have several."""
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in _tensors(inputs)}
    if isinstance(labels, Tensor) and labels.ndim == 0:
        raise ValueError("the loader gave a single example, its label has no dimension: it must give batches")
    if len(lengths) != 1:
        if not isinstance(labels, Tensor):
            raise ValueError(f"the inputs of a batch must be tensors of one length, got lengths {sorted(lengths)}")
        lengths = {len(labels)}
    size = lengths.pop()
    if size == 0:
        raise ValueError("the loader gave an empty batch")
    if isinstance(labels, Tensor) and len(labels) % size:  # several positions an example may have been flattened
        raise ValueError(f"a batch of {size} inputs has {len(labels)} labels: they must pair up")
    return size


def _tensors(inputs: Any) -> Iterator[Tensor]:
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, (Mapping, tuple, list)):
        for part in inputs.values() if isinstance(inputs, Mapping) else inputs:
            yield from _tensors(part)


def label_range(labels: Any) -> tuple[int, int]:
    """The lowest and the highest class label; 0 and 0 for what is not a class label."""
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or len(labels) == 0:
        return 0, 0
    lowest, highest = labels.aminmax()
    return int(lowest), int(highest)


def moved(value: Any, device: torch.device | None) -> Any:
    """``value`` with every tensor in it on ``device``; None leaves them where they are."""
    if device is None:
        return value
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=device.type == "cuda")
    if isinstance(value, Mapping):
        return {name: moved(part, device) for name, part in value.items()}
    if type(value) in (tuple, list):
        return [moved(part, device) for part in value]
    if hasattr(value, "to"):  # a PackedSequence is a named tuple that can do it itself
        return value.to(device)
    return type(value)(*(moved(part, device) for part in value)) if hasattr(value, "_fields") else value
