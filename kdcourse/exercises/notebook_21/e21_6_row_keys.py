"""21.6 the key of a stored row."""

import hashlib
import struct

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Texts = list[str]


def row_keys(inputs: Tensor) -> Texts:
    form = f"0 {inputs.dtype} {tuple(inputs.shape[1:])}".encode()
    rows = inputs.detach().contiguous().reshape(len(inputs), -1).view(torch.uint8)
    return [hashlib.sha256(form + row.numpy().tobytes()).hexdigest()[:32] for row in rows]


def keys_with_copies(inputs: Tensor) -> Texts:
    start = hashlib.sha256()
    start.update(f"0 {inputs.dtype} ".encode())
    start.update(str(tuple(inputs[0].size())).encode())
    found = []
    for row in inputs.detach():
        one = start.copy()
        one.update(bytes(row.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8).tolist()))
        found.append(one.digest()[:16].hex())
    return found


def keys_through_integers(inputs: Tensor) -> Texts:
    """The bytes through integers as wide as an entry."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    width, letter = inputs.element_size(), {1: "B", 2: "h", 4: "i", 8: "q"}[inputs.element_size()]
    found: Texts = []
    for row in inputs.detach().unbind():
        whole = row.reshape(-1).clone().view(kinds[width]).tolist()
        text = "0 " + str(row.dtype) + " " + str(tuple(row.shape))
        found += [hashlib.sha256(text.encode() + struct.pack(f"={len(whole)}{letter}", *whole)).hexdigest()[:32]]
    return found


def _form(row: Tensor) -> bytes:
    return f"0 {row.dtype} {tuple(row.shape)}".encode()


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().tobytes()


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]


def form_missing(inputs: Tensor) -> Texts:
    return [_hash(_bytes(row)) for row in inputs]


def dtype_missing(inputs: Tensor) -> Texts:
    return [_hash(f"0 {tuple(row.shape)}".encode(), _bytes(row)) for row in inputs]


def shape_missing(inputs: Tensor) -> Texts:
    return [_hash(f"0 {row.dtype}".encode(), _bytes(row)) for row in inputs]


def batch_in_the_shape(inputs: Tensor) -> Texts:
    return [_hash(_form(inputs), _bytes(row)) for row in inputs]


def in_memory_order(inputs: Tensor) -> Texts:
    """Every row's bytes as they lie in memory, whatever its strides."""
    found = []
    for row in inputs.detach():
        order = sorted(range(row.ndim), key=lambda axis: -row.stride(axis))
        found.append(_hash(_form(row), _bytes(row.permute(order))))
    return found


def whole_storage(inputs: Tensor) -> Texts:
    stored = bytes(inputs.untyped_storage().tolist())
    return [_hash(_form(row), stored) for row in inputs]


def flat_memory(inputs: Tensor) -> Texts:
    """As many entries as a row has, from where it begins in memory."""
    memory = inputs.detach().as_strided((inputs.untyped_storage().nbytes() // inputs.element_size(),), (1,), 0)
    return [_hash(_form(row), _bytes(memory[row.storage_offset() :][: row.numel()])) for row in inputs]


def running_on(inputs: Tensor) -> Texts:
    one, found = hashlib.sha256(_form(inputs[0])), []
    for row in inputs:
        one.update(_bytes(row))
        found.append(one.hexdigest()[:32])
    return found


def of_the_batch(inputs: Tensor) -> Texts:
    return [_hash(_form(row), _bytes(inputs)) for row in inputs]


def number_in_the_key(inputs: Tensor) -> Texts:
    return [
        _hash(f"{number} {row.dtype} {tuple(row.shape)}".encode(), _bytes(row)) for number, row in enumerate(inputs)
    ]


def values_as_text(inputs: Tensor) -> Texts:
    return [_hash(_form(row), str(row.flatten().tolist()).encode()) for row in inputs]


def printed(inputs: Tensor) -> Texts:
    return [_hash(_form(row), repr(row.detach()).encode()) for row in inputs]


def in_double(inputs: Tensor) -> Texts:
    return [_hash(_form(row), _bytes(row.double())) for row in inputs]


def zeros_merged(inputs: Tensor) -> Texts:
    return [_hash(_form(row), _bytes(row if row.dtype == torch.bool else row + 0)) for row in inputs]


def half_as_long(inputs: Tensor) -> Texts:
    return [_hash(_form(row), _bytes(row))[:16] for row in inputs]


def another_hash(inputs: Tensor) -> Texts:
    return [hashlib.md5(_form(row) + _bytes(row)).hexdigest() for row in inputs]


def bits(*patterns: int) -> Tensor:
    """float32 values by their bits, which NaNs differ by."""
    return torch.tensor([struct.unpack("<i", struct.pack("<I", pattern))[0] for pattern in patterns]).int().view(
        torch.float32
    )  # fmt: skip


def key_cases() -> list[Case]:
    images = draw(2, 2, 3, seed=2, spread=1.0).float()
    special = bits(0x00000000, 0x80000000, 0x7FC00000, 0x7FC00001, 0xFFC00000, 0x7F800000).reshape(6, 1)
    return [
        case(torch.tensor([[1], [3]])),
        case(torch.tensor([[1, 0], [1, 1]])),
        case(torch.tensor([1.0, -2.5, 1.0])),  # rows of shape ()
        case(images),
        case(images.reshape(2, 3, 2).clone()),
        case(draw(3, 4, 2, seed=3, spread=1.0).float().transpose(1, 2)),
        case(draw(2, 3, seed=4, spread=1.0).float().T),
        case(draw(6, 5, seed=5, spread=1.0)[1:4, ::2]),
        case(torch.tensor([[0.5, 2.0, -1.0]]).expand(3, 3)),  # one row in memory
        case(draw(2, 3, 2, 2, seed=6, spread=1.0).float().contiguous(memory_format=torch.channels_last)),
        case(special),
        case(torch.tensor([[True, False], [False, False], [True, True]])),
        case(draw(3, 4, seed=7, spread=1.0).bfloat16()),
        case(draw(2, 3, seed=8, spread=1.0).half()),
        case(torch.tensor([[2**53 + 1, -1], [2**53, 3]])),
        case(torch.tensor([[3, 200], [7, 0]], dtype=torch.uint8)),
        case(draw(2, 2, seed=9, spread=1.0).requires_grad_()),
        case(draw(1, 2, 1, 3, seed=10, spread=1.0)),
    ]


def drawn_keys(g: torch.Generator) -> Case:
    kind = (torch.float32, torch.float64, torch.float16)[integer(g, 0, 2)]
    inputs = draw(integer(g, 2, 4), integer(g, 2, 3), integer(g, 2, 4), seed=g, spread=1.0).to(kind)
    return case(inputs.transpose(1, 2) if integer(g, 0, 1) else inputs)


EXERCISE = Exercise(
    id="21.6",
    title="the key of a stored row",
    question=(
        "A teacher's outputs lie on disk, each under a key made of its *input*, so that neither shuffling nor another "
        "batch size can mix them up. `inputs` is a tensor (N, …) with at least one row. Write `my_row_keys(inputs)`: a "
        "list of N texts, one key per row. A key is the first 32 hexadecimal digits (`hexdigest()`) of the SHA-256 of "
        "two parts, one right after the other: the text `0 DTYPE SHAPE`, encoded, where 0 is the name of the input, "
        "DTYPE the dtype and SHAPE the shape of *one row* as a tuple, for example `0 torch.float32 (1, 28, 28)`; and "
        "the row's bytes as they are in memory when the row is contiguous (row-major order). Equal rows have equal "
        "keys, wherever they are in a batch, however large it is and whatever the strides of the tensor are: a view, a "
        "transpose, a slice. Bytes decide, not values: 0.0 and -0.0 are different inputs, so are two NaNs of different "
        "bits, and float32 and float64. Every dtype is possible, also bfloat16, bool and integers, and a tensor that "
        "asks for a gradient."
    ),
    skeleton=('def my_row_keys(inputs):\n    """A key for each row, made of its dtype, shape and bytes."""\n    ...'),
    reference=row_keys,
    alternatives=(keys_with_copies, keys_through_integers),
    cases=key_cases,
    drawn=drawn_keys,
    forbidden=("kdcourse.teacher_store.row_keys",),
    hints=(
        "Which bytes does a row have? For a transpose those in memory are in another order: make it contiguous first.",
        "`tensor.detach().contiguous().reshape(len(tensor), -1).view(torch.uint8)` has the bytes of every dtype; "
        "`.numpy().tobytes()` makes one row of it a `bytes` object.",
        '`hashlib.sha256(f"0 {inputs.dtype} {tuple(inputs.shape[1:])}".encode() + row.numpy().tobytes())` for each '
        "row of bytes, then `.hexdigest()[:32]`.",
    ),
    misconceptions=(
        Misconception(
            "dtype and shape missing",
            form_missing,
            "you hash the bytes alone. Four bytes of zeros are a float32, an int32 or two float16: the text with dtype "
            "and shape comes first",
        ),
        Misconception(
            "the dtype missing",
            dtype_missing,
            "the dtype is missing in the text. Zeros of float32 and of int32 have the same bytes",
        ),
        Misconception(
            "the shape missing",
            shape_missing,
            "the shape is missing in the text. A row (2, 3) and a row (3, 2) may have the same bytes",
        ),
        Misconception(
            "the batch in the shape",
            batch_in_the_shape,
            "you write down the shape of the whole tensor. The same row then has another key in a batch of another "
            "size, and the last, shorter batch finds nothing: the shape of one row",
        ),
        Misconception(
            "the order in memory",
            in_memory_order,
            "you take a row's bytes in the order in which they lie in memory. A transpose or `channels_last` then "
            "changes the key of equal rows: `contiguous()` first",
        ),
        Misconception(
            "the whole storage",
            whole_storage,
            "you hash the whole storage. All rows of a tensor, and every view of it, share one: take the row's own "
            "bytes",
        ),
        Misconception(
            "strides ignored",
            flat_memory,
            "you read on in memory from where a row begins. In a transpose or a slice the next entries belong to other "
            "rows: `contiguous()` first",
        ),
        Misconception(
            "one hash for all rows",
            running_on,
            "you go on with the same hash object. From the second row on a key depends on all rows before it: begin "
            "again for each row, or `copy()` the start",
        ),
        Misconception(
            "the batch hashed",
            of_the_batch,
            "you hash the bytes of the whole batch: all rows get the same key, and another one in another batch",
        ),
        Misconception(
            "the row's number in the key",
            number_in_the_key,
            "you put the row's number into the key. After shuffling no row would be found: equal rows have equal keys",
        ),
        Misconception(
            "values as text",
            values_as_text,
            "you hash the values written as text. All NaNs read the same there, and it takes long. Hash the bytes",
        ),
        Misconception(
            "as printed",
            printed,
            "you hash what is printed: four digits, and the middle of a long row left out. Rows that differ elsewhere "
            "then have equal keys",
        ),
        Misconception(
            "in float64",
            in_double,
            "you convert to float64 first. Large integers are rounded there, so that different rows get equal keys: "
            "take the bytes of the dtype that is there",
        ),
        Misconception(
            "zeros merged",
            zeros_merged,
            "you give -0.0 the key of 0.0. A teacher may tell them apart (1 / x does): bytes decide",
        ),
        Misconception(
            "16 digits",
            half_as_long,
            "you keep 16 digits, which are 8 bytes. Among billions of rows two may then share a key: 32 digits",
        ),
        Misconception(
            "another hash", another_hash, "this is MD5, for which collisions can be made. SHA-256 is asked for"
        ),
    ),
    shows="a row that is found by its content stays the right one, whatever the loader does.",
    derivation=(
        "128 bits for n rows: two of them share a key with a probability of about n² / 2¹²⁹, for a trillion rows 10²⁴ "
        "/ 7 · 10³⁸, about 10⁻¹⁵. With 64 bits it would be n² / 2⁶⁵, about 3 % for a billion rows, and for a trillion "
        "a certainty."
    ),
)
