"""What a sparse layer costs in bytes, by formula and as a file.

Formats, for a weight of n numbers with k kept, each of b bits:

- ``"dense"``: n·b bits.
- ``"bitmask"``: one bit per weight, then the kept values: n + k·b bits.
- ``"csr"``: compressed sparse rows of the weight as (O, n / O). The kept values, for each its column in the smallest
  unsigned integer that holds the last column, and O + 1 row starts in the smallest one that holds n.
- ``"nm"``: n values of every m inputs whether zero or not, for each its position in the group in ceil(log2 m) bits.

Bits are packed and filled up to whole bytes. Biases are not counted.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .._base.files import read_whole, write_whole
from .masks import grouped_inputs

FORMATS = "dense", "bitmask", "csr", "nm"
VALUE_TYPES = torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8


def storage_bytes(mask: Tensor, format: str, *, value_bits: int = 32, n: int = 2, m: int = 4) -> int:
    """Bytes of a layer stored in ``format``, ``mask`` (O, ...) True = kept, ``value_bits`` 8, 16 or 32.

    Raises ``ValueError`` for an unknown format, and for ``"nm"`` where a group keeps more than n of m.

    >>> mask = torch.arange(64).reshape(8, 8) < 16
    >>> storage_bytes(mask, "dense"), storage_bytes(mask, "bitmask"), storage_bytes(mask, "csr")
    (256, 72, 89)
    """
    if mask.dtype != torch.bool or mask.numel() == 0:
        raise ValueError(f"mask must be a non-empty bool tensor, True = kept, got {mask.dtype} {tuple(mask.shape)}")
    if format == "nm":
        _check_groups(grouped_inputs(mask, n=n, m=m), n=n, m=m)
    fixed, each = _costs(format, mask.shape, value_bits=value_bits, n=n, m=m)
    return fixed + each * int(mask.sum())


def break_even_sparsity(format: str, shape: Sequence[int], *, value_bits: int = 32, n: int = 2, m: int = 4) -> float:
    """Fraction of zeros below which a layer of ``shape`` in ``format`` is not smaller than dense; 1 if it never is.

    ``"bitmask"`` and ``"csr"`` are as large as dense at exactly this fraction. ``"nm"`` has one size, and 1 - n/m is
    the least fraction of zeros that it can store.

    >>> break_even_sparsity("bitmask", (100, 100))
    0.03125
    """
    fixed, each = _costs(format, shape, value_bits=value_bits, n=n, m=m)
    total = math.prod(shape)
    dense = total * value_bits // 8
    if format == "nm":
        return 1 - n / m if fixed < dense else 1.0
    if format == "dense" or fixed >= dense:
        return 1.0
    return 1 - (dense - fixed) / each / total


def write_layer(path: str | os.PathLike[str], weight: Tensor, format: str, *, n: int = 2, m: int = 4) -> None:
    """Write ``weight`` in ``format`` as one uncompressed safetensors file; every number that is not zero is kept.

    The file is `storage_bytes` (of ``weight != 0``, with the weight's own bits) and `header_bytes` long. It is
    written beside ``path`` and renamed, so an interruption leaves the old one whole. Weights may be float32,
    float16, bfloat16, int8 or uint8.

    >>> write_layer("layer.safetensors", torch.eye(4), "csr")
    >>> torch.equal(read_layer("layer.safetensors"), torch.eye(4))
    True
    """
    if weight.dtype not in VALUE_TYPES or weight.numel() == 0:
        raise ValueError(f"cannot store {weight.dtype} {tuple(weight.shape)}: need numbers of 8, 16 or 32 bits")
    _costs(format, weight.shape, value_bits=8 * weight.element_size(), n=n, m=m)
    weight = weight.detach().cpu().contiguous()
    packers = {"dense": _pack_dense, "bitmask": _pack_bitmask, "csr": _pack_csr}
    tensors = _pack_nm(weight, n=n, m=m) if format == "nm" else packers[format](weight)
    about = json.dumps({"format": format, "shape": list(weight.shape), "n": n, "m": m})
    write_whole(path, save(tensors, metadata={"layer": about}))


def read_layer(path: str | os.PathLike[str]) -> Tensor:
    """The weight that `write_layer` wrote, dense and equal in every number, on the CPU.

    Raises ``FileNotFoundError``, or ``ValueError`` naming the file when it is damaged or of another kind.

    >>> write_layer("layer.safetensors", torch.eye(2), "bitmask")
    >>> read_layer("layer.safetensors")
    tensor([[1., 0.],
            [0., 1.]])
    """
    data = read_whole(path)
    try:
        tensors = load(data)
        about = json.loads(_header(data)["__metadata__"]["layer"])
        shape, format = about["shape"], about["format"]
        if format == "dense":
            return tensors["values"]
        if format == "nm":
            return _unpack_nm(tensors, shape, n=about["n"], m=about["m"])
        places = _places_bitmask(tensors, shape) if format == "bitmask" else _places_csr(tensors, shape)
        weight = torch.zeros(math.prod(shape), dtype=tensors["values"].dtype)
        weight[places] = tensors["values"]
        return weight.reshape(shape)
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or was not written by write_layer: {error}") from error


def header_bytes(path: str | os.PathLike[str]) -> int:
    """Bytes of a safetensors file before its numbers: the header's length in 8 bytes, then names, types and shapes.

    >>> from pathlib import Path
    >>> write_layer("layer.safetensors", torch.eye(4), "csr")
    >>> size = Path("layer.safetensors").stat().st_size
    >>> size - header_bytes("layer.safetensors") == storage_bytes(torch.eye(4) != 0, "csr")
    True
    """
    with Path(path).open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def _costs(format: str, shape: Sequence[int], *, value_bits: int, n: int, m: int) -> tuple[int, int]:
    """Bytes that a format takes whatever is kept, and bytes for every kept weight."""
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    if value_bits not in (8, 16, 32):
        raise ValueError(f"value_bits must be 8, 16 or 32, got {value_bits}")
    total, value = math.prod(shape), value_bits // 8
    if format == "dense":
        return total * value, 0
    if format == "bitmask":
        return _packed(total), value
    if format == "csr":
        rows, columns = _as_matrix(shape)
        return (rows + 1) * _unsigned(total).itemsize, value + _unsigned(columns - 1).itemsize
    slots = grouped_inputs(torch.empty(tuple(shape), device="meta"), n=n, m=m)[..., :n].numel()
    return slots * value + _packed(slots * _place_bits(m)), 0


def _packed(bits: int) -> int:
    return (bits + 7) // 8


def _place_bits(m: int) -> int:
    return (m - 1).bit_length()


def _as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns: (O, the rest), and one row for a vector."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def _unsigned(largest: int) -> np.dtype[np.unsignedinteger]:
    return np.min_scalar_type(largest)


def _check_groups(kept: Tensor, *, n: int, m: int) -> None:
    most = int(kept.sum(dim=-1).max())
    if most > n:
        raise ValueError(f"a group keeps {most} of {m} weights, {n}:{m} allows {n}: prune it with nm_mask first")


def _pack_dense(weight: Tensor) -> dict[str, Tensor]:
    return {"values": weight}


def _pack_bitmask(weight: Tensor) -> dict[str, Tensor]:
    kept = weight.flatten() != 0
    return {"values": weight.flatten()[kept], "bitmask": torch.from_numpy(np.packbits(kept.numpy()))}


def _places_bitmask(tensors: dict[str, Tensor], shape: Sequence[int]) -> Tensor:
    bits = np.unpackbits(tensors["bitmask"].numpy(), count=math.prod(shape))
    return torch.from_numpy(np.flatnonzero(bits))


def _pack_csr(weight: Tensor) -> dict[str, Tensor]:
    rows, columns = _as_matrix(weight.shape)
    kept = (weight != 0).reshape(rows, columns).numpy()
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return {
        "values": weight.reshape(rows, columns)[torch.from_numpy(kept)],
        "columns": torch.from_numpy(np.nonzero(kept)[1].astype(_unsigned(columns - 1))),
        "row_starts": torch.from_numpy(starts.astype(_unsigned(kept.size))),
    }


def _places_csr(tensors: dict[str, Tensor], shape: Sequence[int]) -> Tensor:
    rows, columns = _as_matrix(shape)
    kept_in_row = tensors["row_starts"].long().diff()
    return torch.arange(rows).repeat_interleave(kept_in_row) * columns + tensors["columns"].long()


def _pack_nm(weight: Tensor, *, n: int, m: int) -> dict[str, Tensor]:
    groups = grouped_inputs(weight, n=n, m=m)
    _check_groups(groups != 0, n=n, m=m)
    # the kept ones first, filled up with zeros where a group keeps fewer than n
    places = (groups == 0).long().argsort(dim=-1, stable=True)[..., :n].sort(dim=-1).values
    values = groups.gather(-1, places).flatten()
    bits = places.reshape(-1, 1).numpy() >> np.arange(_place_bits(m)) & 1
    return {"values": values, "places": torch.from_numpy(np.packbits(bits.astype(np.uint8)))}


def _unpack_nm(tensors: dict[str, Tensor], shape: Sequence[int], *, n: int, m: int) -> Tensor:
    values = tensors["values"]
    groups = grouped_inputs(torch.zeros(shape, dtype=values.dtype), n=n, m=m).contiguous()
    bits = np.unpackbits(tensors["places"].numpy(), count=values.numel() * _place_bits(m))
    places = bits.reshape(-1, _place_bits(m)).astype(np.int64) @ (1 << np.arange(_place_bits(m)))
    slots = (*groups.shape[:-1], n)
    groups.scatter_(-1, torch.from_numpy(places).reshape(slots), values.reshape(slots))
    return groups.flatten(-2).movedim(-1, 1).contiguous()


def _header(data: bytes) -> dict[str, dict[str, str]]:
    header: dict[str, dict[str, str]] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header
