"""The reader of `coding`'s files, with NumPy and constriction alone: what judges a file need not import PyTorch."""

import io
import math
import zlib

import numpy as np

from .._base.extras import needed
from ._adaptive import Array, code_indices

MAGIC = b"KDC\x01"
MOST_WEIGHTS = 2**24

Coded = tuple[Array, Array]
"""a codebook (float32) and the indices into it (uint8)"""


def decode(data: bytes) -> dict[str, Coded]:
    """Codebooks and indices by name, in their order, of a file's content.

    Raises ``ValueError`` with the end of a sentence about the file.
    """
    if data[:4] != MAGIC:
        raise ValueError(f"was not written by write_coded: it does not begin with {MAGIC!r}")
    if data[4:8] != checksum(data[8:]):
        raise ValueError("is damaged or truncated: its checksum differs")
    try:
        found, words = _parse(data[12:])
        decoder = _Decoder(words)
        for name, (codebook, zeros) in found.items():
            found[name] = codebook, code_indices(decoder, codebook, zeros)
    except (ValueError, AssertionError, RuntimeError) as error:  # constriction asserts
        raise ValueError(f"is damaged: {error}") from error
    if data[8:12] != checksum(b"".join(indices.tobytes() for _, indices in found.values())):
        raise ValueError("decodes to other weights than were written: its second checksum differs")
    return found


def checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


class _Decoder:
    def __init__(self, words: bytes) -> None:
        stream = needed("constriction", extra="coding").stream
        self.coder = stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
        self.model, self.bernoulli = stream.model, stream.model.Bernoulli(perfect=False)

    def flags(self, probabilities: Array, flags: Array) -> Array:
        return np.asarray(self.coder.decode(self.bernoulli, probabilities))

    def symbol(self, counts: Array, symbol: int) -> int:
        return int(self.coder.decode(self.model.Categorical(counts, perfect=False)))


def _parse(data: bytes) -> tuple[dict[str, Coded], bytes]:
    """Names, codebooks and shapes (as zeros that take no memory), and the words after them."""
    file, name, elements = io.BytesIO(data), b"", 0
    found: dict[str, Coded] = {}
    count = _read_varint(file)
    for _ in range(count):
        name = name[: _read_varint(file)] + _read(file, _read_varint(file))
        shape = [_read_varint(file) for _ in range(_read_varint(file))]
        codebook = np.frombuffer(_read(file, 2 * (_read(file, 1)[0] + 1)), "<f2").astype(np.float32)
        elements += math.prod(shape)
        most = min(MOST_WEIGHTS, 4096 * (8 * len(data) + 64))  # a coded index takes at least 1/4096 bit
        if math.prod(shape) == 0 or elements > most or not np.isfinite(codebook).all():
            raise ValueError(f"its header claims {elements} weights of {name!r}, in {len(data)} bytes")
        found[name.decode()] = codebook, np.broadcast_to(np.uint8(0), shape)
    if len(found) != count:
        raise ValueError("a name occurs twice")
    return found, file.read()


def _read_varint(file: io.BytesIO) -> int:
    number = 0
    for shift in range(0, 63, 7):
        byte = _read(file, 1)[0]
        number |= (byte & 127) << shift
        if byte < 128:
            return number
    raise ValueError("a number in its header is too long")


def _read(file: io.BytesIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise ValueError("it ends within its header")
    return found
