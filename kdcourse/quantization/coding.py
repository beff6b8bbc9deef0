"""Entropy-coded files of shared weights: a small header, then one range-coded stream that rebuilds every index.

The last stage of Deep Compression, with an adaptive range coder where the paper has Huffman codes. Meant for the sparse
weights of small networks.

The file (integers little-endian; a *varint* has 7 bits per byte, lowest first, bit 7 set on all bytes but the last):

- ``b"KDC"``, the version 1; CRC32 (4 bytes) of all bytes after it; CRC32 (4 bytes) of the decoded indices, one byte
  each, in row-major order, tensor after tensor.
- varint number of tensors. Each: varint bytes that its UTF-8 name has in common with the start of the name before,
  varint number of further bytes, these; varint number of dimensions, varint each; one byte, the codebook's size
  less 1; the codebook in float16.
- 32-bit words of constriction's ``queue.RangeEncoder``, fed with Bernoulli and categorical models, ``perfect=False``.

A tensor of 0 or 1 dimensions is coded by `_adaptive.code_vector`. Any other is a matrix, the first dimension by the
rest. Its columns are pixels of an image where a 2-d tensor has a square number of them, whose root is the width, and
where a 4-d tensor's last dimension, then the width, is at most 64. Its *base* is the first codebook entry of zero, or
entry 0. First `_adaptive.code_kept`, over the whole matrix: is the index another than the base? Then
`_adaptive.code_values`: which? The texts of these functions are the models, and part of the format.
"""

import math
import os
from collections.abc import Mapping

import numpy as np
import torch

from .._base.extras import needed
from .._base.files import read_whole, write_whole
from ._adaptive import Array, code_indices
from ._decoding import MAGIC, MOST_WEIGHTS, checksum, decode
from .sharing import SharedWeight


def write_coded(path: str | os.PathLike[str], shared: Mapping[str, SharedWeight]) -> None:
    """Write shared weights as one entropy-coded file, of which `read_coded` gives every bit back.

    Codebooks are float32, of 1 to 256 finite values that float16 represents exactly, as `shared_weights` rounds them; a
    file stores up to 2^24 weights. It is written beside ``path`` and renamed, so an interruption leaves the old one
    whole. Raises ``ValueError`` naming the tensor that cannot be stored, ``ImportError`` without constriction.

    Source: Han, Mao, Dally 2016, arXiv:1510.00149, section 4. Differs: adaptive models, range coder.

    >>> shared = shared_weights(share_model(nn.Sequential(nn.Linear(8, 4))))
    >>> write_coded("weights.kdc", shared)
    >>> list(read_coded("weights.kdc"))
    ['0.weight']
    """
    header, encoder = _header(shared), _Encoder()
    indices = b"".join(code_indices(encoder, *_arrays(entry)).tobytes() for entry in shared.values())
    content = checksum(indices) + header + encoder.words()
    write_whole(path, MAGIC + checksum(content) + content)


def read_coded(path: str | os.PathLike[str]) -> dict[str, SharedWeight]:
    """The shared weights that `write_coded` wrote: names in their order, shapes, codebooks and indices bit for bit.

    Raises ``FileNotFoundError``, or ``ValueError`` naming the file when it is damaged, truncated or of another kind.

    >>> shared = shared_weights(share_model(nn.Sequential(nn.Linear(8, 4))))
    >>> write_coded("weights.kdc", shared)
    >>> torch.equal(read_coded("weights.kdc")["0.weight"].weight(), shared["0.weight"].weight())
    True
    """
    try:
        decoded = decode(read_whole(path))
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    return {
        name: SharedWeight(torch.from_numpy(codebook), torch.from_numpy(indices))
        for name, (codebook, indices) in decoded.items()
    }


def entropy_bytes(shared: Mapping[str, SharedWeight]) -> float:
    """The least that coding index by index takes, Σ n·H / 8 bytes: H = -Σ p log2 p of a tensor's symbol frequencies.

    Names, shapes, codebooks and the frequencies themselves are not counted. An adaptive model can take less.

    >>> entropy_bytes({"weight": SharedWeight(torch.tensor([0.0, 1.0]), torch.tensor([0, 1] * 8, dtype=torch.uint8))})
    2.0
    """
    counts = (torch.bincount(entry.indices.flatten().long()).double() for entry in shared.values())
    return sum(float(torch.special.entr(count / count.sum()).sum() * count.sum()) for count in counts) / math.log(256)


def model_bytes(shared: Mapping[str, SharedWeight]) -> float:
    """The file's header, plus -Σ log2 p / 8 bytes, p the probabilities that `write_coded` codes with: its own floor.

    >>> shared = shared_weights(share_model(nn.Sequential(nn.Linear(8, 4))))
    >>> 0 < model_bytes(shared) < 4 * 32  # float32 takes 4 bytes for each of the 32 weights
    True
    """
    header, meter = _header(shared), _Meter()
    for entry in shared.values():
        code_indices(meter, *_arrays(entry))
    return len(MAGIC) + 8 + len(header) + meter.bits / 8


class _Encoder:
    def __init__(self) -> None:
        stream = needed("constriction", extra="coding").stream
        self.coder = stream.queue.RangeEncoder()
        self.model, self.bernoulli = stream.model, stream.model.Bernoulli(perfect=False)

    def flags(self, probabilities: Array, flags: Array) -> Array:
        self.coder.encode(flags.astype(np.int32), self.bernoulli, probabilities)
        return flags

    def symbol(self, counts: Array, symbol: int) -> int:
        self.coder.encode(symbol, self.model.Categorical(counts, perfect=False))
        return symbol

    def words(self) -> bytes:
        return bytes(self.coder.get_compressed().astype("<u4").tobytes())


class _Meter:
    def __init__(self) -> None:
        self.bits = 0.0

    def flags(self, probabilities: Array, flags: Array) -> Array:
        self.bits -= float(np.log2(np.where(flags, probabilities, 1 - probabilities)).sum())
        return flags

    def symbol(self, counts: Array, symbol: int) -> int:
        self.bits -= math.log2(counts[symbol] / counts.sum())
        return symbol


def _arrays(entry: SharedWeight) -> tuple[Array, Array]:
    return entry.codebook.numpy(force=True), entry.indices.contiguous().numpy(force=True)


def _header(shared: Mapping[str, SharedWeight]) -> bytes:
    """Everything between the checksums and the words."""
    if not shared:
        raise ValueError("there is nothing to write: pass shared weights by parameter name")
    if sum(entry.indices.numel() for entry in shared.values()) > MOST_WEIGHTS:
        raise ValueError(f"more than {MOST_WEIGHTS} weights: write them into several files")
    parts, before = [_varint(len(shared))], b""
    for name, entry in shared.items():
        _check(name, entry)
        encoded = name.encode()
        common = len(os.path.commonprefix([before, encoded]))
        parts += [_varint(common), _varint(len(encoded) - common), encoded[common:]]
        parts += map(_varint, (entry.indices.ndim, *entry.indices.shape))
        codebook = entry.codebook.detach().cpu().numpy().astype("<f2")
        parts += [bytes([len(codebook) - 1]), codebook.tobytes()]
        before = encoded
    return b"".join(parts)


def _check(name: str, entry: SharedWeight) -> None:
    codebook, indices = entry
    if codebook.dtype != torch.float32 or codebook.ndim != 1 or not 1 <= len(codebook) <= 256:
        raise ValueError(
            f"the codebook of {name!r} must be 1 to 256 float32 numbers, got {codebook.dtype} {tuple(codebook.shape)}"
        )
    if not torch.isfinite(codebook).all() or not torch.equal(codebook.half().float(), codebook):
        raise ValueError(f"the codebook of {name!r} is not exact in float16: round it with codebook.half().float()")
    if indices.dtype != torch.uint8 or indices.numel() == 0 or int(indices.max()) >= len(codebook):
        raise ValueError(
            f"the indices of {name!r} must be uint8 below {len(codebook)}, and some, "
            f"got {indices.dtype} {tuple(indices.shape)}"
        )


def _varint(number: int) -> bytes:
    septets = [number >> shift & 127 for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([*(septet | 128 for septet in septets[:-1]), septets[-1]])
