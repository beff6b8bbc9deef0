"""What a row is found by, and what tells one teacher from another."""

import hashlib
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._base.modes import Inputs
from .._base.weights import check_initialised

KEY_BYTES = 16
Keys = np.ndarray[Any, np.dtype[np.void]]
"""(N,) of 16 bytes each"""


def row_keys(inputs: Inputs) -> Keys:
    """A hash of each example's input: the first 16 bytes of SHA-256 over its type, shape and bytes.

    ``inputs`` is what the network is called on: a tensor (N, ...), a tuple of tensors, or a dict of them by name. They
    are read on the CPU. Equal bytes have equal keys, wherever they stand: -0.0 and 0.0, float32 and float64, and one
    text padded to two lengths are different inputs. Raises ``TypeError`` for what is not a tensor, and ``ValueError``
    for lengths that differ or are zero.

    >>> images = torch.rand(3, 1, 28, 28)
    >>> keys = row_keys(images)
    >>> (row_keys(images.flip(0)) == keys[::-1]).all().item(), (row_keys(images + 0.1) == keys).any().item()
    (True, False)
    """
    parts = named(inputs)
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in parts.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"inputs must be tensors (N, ...) of one length, at least 1, got lengths {sorted(lengths)}")
    form = [f"{name} {tensor.dtype} {tuple(tensor.shape[1:])}" for name, tensor in parts.items()]
    start, rows = hashlib.sha256("\n".join(form).encode()), [as_bytes(tensor) for tensor in parts.values()]
    found = bytearray()
    for row in zip(*rows, strict=True):
        one = start.copy()
        for part in row:
            one.update(part)
        found += one.digest()[:KEY_BYTES]
    return np.frombuffer(bytes(found), f"V{KEY_BYTES}")


def fingerprint(model: nn.Module) -> str:
    """A network's class and a hash of its parts, parameters and buffers: equal for copies, on any device.

    >>> model = nn.Linear(2, 2)
    >>> before = fingerprint(model)
    >>> _ = nn.init.ones_(model.bias)
    >>> before.startswith("Linear "), before == fingerprint(model)
    (True, False)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"the teacher must be a network (torch.nn.Module), or a name, got {type(model).__name__}")
    check_initialised(model)
    found = hashlib.sha256()
    for name, module in model.named_modules():
        found.update(f"{name} {type(module).__qualname__}\n".encode())
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(as_bytes(tensor.reshape(1, -1)).data)
    return f"{type(model).__qualname__} {found.hexdigest()[:16]}"


def as_bytes(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes (N, bytes per row) of a tensor (N, ...), on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(len(tensor), -1)
    return flat.view(torch.uint8).numpy()


def named(inputs: Inputs) -> dict[str, Tensor]:
    """The tensors of ``inputs`` by name, or by number where they have none."""
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    pairs = sorted(inputs.items()) if isinstance(inputs, Mapping) else [(str(n), part) for n, part in enumerate(inputs)]
    for name, part in pairs:
        if not isinstance(part, Tensor):
            raise TypeError(f"input {name} is a {type(part).__name__}: rows are found by tensors (N, ...) alone")
    return dict(pairs)
