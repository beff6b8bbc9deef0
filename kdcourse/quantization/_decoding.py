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
    return decode_and_measure(data)[0]


def decode_and_measure(data: bytes) -> tuple[dict[str, Coded], dict[str, int]]:
    """The same, and how many bytes of the file tell what.

    The words mix positions and values; they are split as the bits -log2 p that the models take for each.
    """
    if data[:4] != MAGIC:
        raise ValueError(f"was not written by write_coded: it does not begin with {MAGIC!r}")
    if data[4:8] != checksum(data[8:]):
        raise ValueError("is damaged or truncated: its checksum differs")
    try:
        found, words = _parse(data[12:])
        decoder = _Decoder(words)
        for name, (codebook, zeros) in found.items():
            decoder.positions = zeros.size if zeros.ndim > 1 else 0
            found[name] = codebook, code_indices(decoder, codebook, zeros)
    except (ValueError, AssertionError, RuntimeError) as error:  # constriction asserts
        raise ValueError(f"is damaged: {error}") from error
    if data[8:12] != checksum(b"".join(indices.tobytes() for _, indices in found.values())):
        raise ValueError("decodes to other weights than were written: its second checksum differs")
    positions = round(len(words) * decoder.bits[0] / max(sum(decoder.bits), 1e-9))
    spent = {"header and codebooks": len(data) - len(words), "positions": positions, "values": len(words) - positions}
    return found, spent


def checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


class _Decoder:
    def __init__(self, words: bytes) -> None:
        stream = needed("constriction", extra="coding").stream
        self.coder = stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
        self.model, self.bernoulli = stream.model, stream.model.Bernoulli(perfect=False)
        self.bits = [0.0, 0.0]
        """of positions, and of values"""
        self.positions = 0
        """so many flags of this tensor are yet to say which weights are kept; what comes after them tells values"""

    def flags(self, probabilities: Array, flags: Array) -> Array:
        found = np.asarray(self.coder.decode(self.bernoulli, probabilities))
        self.bits[self.positions <= 0] -= float(np.log2(np.where(found, probabilities, 1 - probabilities)).sum())
        self.positions -= len(found)
        return found

    def symbol(self, counts: Array, symbol: int) -> int:
        found = int(self.coder.decode(self.model.Categorical(counts, perfect=False)))
        self.bits[1] -= math.log2(counts[found] / counts.sum())
        return found


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
