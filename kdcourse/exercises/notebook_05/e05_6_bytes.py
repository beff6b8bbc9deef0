"""05.6 what zeros save."""

import math

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .e05_1_magnitude_mask import magnitude_mask

Bytes = tuple[int, int]


def masked_and_sparse_bytes(weight: Tensor, *, value_bits: int) -> Bytes:
    value, kept = value_bits // 8, int((weight != 0).sum())
    masked = weight.numel() * value + weight.numel()
    sparse = kept * (value + 2) + 4 * (len(weight) + 1)
    return masked, sparse


def bytes_by_rows(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = 0, 4
    for row in weight.tolist():
        masked += len(row) * (value_bits + 8) // 8
        sparse += 4 + sum(value_bits // 8 + 2 for value in row if value)
    return masked, sparse


def bytes_of_real_tensors(weight: Tensor, *, value_bits: int) -> Bytes:
    rows, columns = weight.nonzero(as_tuple=True)
    starts = torch.zeros(weight.shape[0] + 1, dtype=torch.int32)
    mask, places, values = weight.bool(), columns.to(torch.int16), weight[rows, columns]
    value = value_bits / 8
    return int(value * weight.numel()) + mask.nbytes, int(value * len(values)) + places.nbytes + starts.nbytes


def _kept(weight: Tensor) -> int:
    return int(weight.count_nonzero())


def masked_zeros_take_no_space(weight: Tensor, *, value_bits: int) -> Bytes:
    _, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return _kept(weight) * value_bits // 8 + weight.numel(), sparse


def mask_for_free(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked - weight.numel(), sparse


def mask_of_single_bits(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked - weight.numel() + math.ceil(weight.numel() / 8), sparse


def only_the_values(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, _ = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked, _kept(weight) * value_bits // 8


def row_starts_forgotten(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked, sparse - 4 * (len(weight) + 1)


def one_row_start_too_few(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked, sparse - 4


def row_start_for_every_value(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, _ = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked, _kept(weight) * (value_bits // 8 + 2 + 4)


def zeros_stored_too(weight: Tensor, *, value_bits: int) -> Bytes:
    return masked_and_sparse_bytes(torch.ones_like(weight), value_bits=value_bits)


def zeros_counted(weight: Tensor, *, value_bits: int) -> Bytes:
    return masked_and_sparse_bytes((weight == 0).double(), value_bits=value_bits)


def bits_for_bytes(weight: Tensor, *, value_bits: int) -> Bytes:
    return masked_and_sparse_bytes(weight, value_bits=8 * value_bits)


def results_swapped(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return sparse, masked


def columns_in_four_bytes(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked, sparse + 2 * _kept(weight)


def starts_of_columns(weight: Tensor, *, value_bits: int) -> Bytes:
    return masked_and_sparse_bytes(weight.mT, value_bits=value_bits)


def own_dtype(weight: Tensor, *, value_bits: int) -> Bytes:
    return masked_and_sparse_bytes(weight, value_bits=8 * weight.element_size())


def bytes_cases() -> list[Case]:
    small = torch.tensor([[0.0, 1.5, 0.0, 0.0, 0.0], [2.5, 0.0, -1.0, 0.0, 0.0]], dtype=torch.float64)
    large = draw(20, 30, seed=72)
    return [
        case(small, value_bits=32),
        case(large * magnitude_mask(large, 0.9), value_bits=8),
        case(large * magnitude_mask(large, 0.6), value_bits=16),
    ]


def bytes_drawn(g: torch.Generator) -> Case:
    weight = draw(integer(g, 1, 6), integer(g, 7, 9), seed=g)
    return case(weight * magnitude_mask(weight, integer(g, 2, 18) / 20), value_bits=8 * integer(g, 1, 9))


EXERCISE = Exercise(
    id="05.6",
    title="what zeros save",
    question=(
        "`weight` is a pruned matrix of O rows: a weight of 0 is a pruned one. A value takes `value_bits` bits, a "
        "multiple of 8, whatever the tensor's own dtype. Write `my_bytes(weight, *, value_bits)`: a tuple of two "
        "integers, both in bytes. First: the size while it trains, as a dense tensor of values and a mask of its "
        "shape, one byte per entry (`torch.bool`). Second: the size stored as compressed sparse rows, which contain "
        "the value of every weight that is not 0, the column of each in 2 bytes, and O + 1 row starts of 4 bytes."
    ),
    skeleton=(
        "def my_bytes(weight, *, value_bits):\n"
        '    """Bytes of weight and mask while training, and of compressed sparse rows."""\n    ...'
    ),
    reference=masked_and_sparse_bytes,
    alternatives=(bytes_by_rows, bytes_of_real_tensors),
    cases=bytes_cases,
    drawn=bytes_drawn,
    hints=(
        "What does a zero cost in a dense tensor? And if it is left out, how does a reader know where it was?",
        "Dense: every weight has a value and a mask entry. Sparse: count the weights that are not 0, and what each "
        "of them needs; then the rows.",
        "With v = value_bits // 8, n weights and k of them not 0: `(n * v + n, k * (v + 2) + 4 * (O + 1))`.",
    ),
    misconceptions=(
        Misconception(
            "masks expected to save memory",
            masked_zeros_take_no_space,
            "you leave the zeros of the dense tensor out. It stores a zero like any number, and multiplies by it: a "
            "mask saves neither memory nor time, and comes on top",
        ),
        Misconception(
            "a mask for free",
            mask_for_free,
            "you forget the mask itself: one byte per weight. Masked training takes *more* memory than dense",
        ),
        Misconception(
            "a mask of single bits",
            mask_of_single_bits,
            "you count one bit per entry. `torch.bool` takes a whole byte; bits have to be packed by hand",
        ),
        Misconception(
            "only the values",
            only_the_values,
            "you count the values alone: '90 % sparse is 10 % of the bytes'. Without columns and row starts no "
            "reader could tell where they belong",
        ),
        Misconception(
            "row starts forgotten",
            row_starts_forgotten,
            "values and columns are there, but no row starts. Nothing says which row a column number belongs to",
        ),
        Misconception(
            "one row start too few",
            one_row_start_too_few,
            "four bytes too few: O rows need O + 1 starts, as a fence needs one post more. The last one says where the "
            "last row ends",
        ),
        Misconception(
            "a row number for every value",
            row_start_for_every_value,
            "you store a row with every value. That is the coordinate format; compressed rows store only where each "
            "row starts",
        ),
        Misconception(
            "zeros stored too",
            zeros_stored_too,
            "you store the zeros as well. That sparse format is larger than the dense one: count what is not 0",
        ),
        Misconception(
            "zeros counted",
            zeros_counted,
            "you count the zeros and store those. What is stored is what is *not* 0",
        ),
        Misconception(
            "bits for bytes",
            bits_for_bytes,
            "a value takes `value_bits` bytes in your sum. Eight bits are one byte",
        ),
        Misconception(
            "results swapped",
            results_swapped,
            "both numbers are right, in the wrong order: weight and mask while training come first",
        ),
        Misconception(
            "columns in four bytes",
            columns_in_four_bytes,
            "you store a column number in 4 bytes. The question gives it 2; the row starts have 4",
        ),
        Misconception(
            "starts of columns",
            starts_of_columns,
            "you count the columns for the row starts. O rows have O + 1 starts: `len(weight) + 1`",
        ),
        Misconception(
            "the tensor's own dtype",
            own_dtype,
            "you ask the tensor how large a value is. The question gives it: `value_bits`, whatever the dtype",
        ),
    ),
    shows="a mask costs memory, and a sparse format pays for every value it keeps with the position of that value.",
    derivation=(
        "Dense and mask: n · v + n. Compressed rows: k values of v bytes, k columns of 2, O + 1 starts of 4, together "
        "k (v + 2) + 4 (O + 1). At 32 bits and 90 % zeros that is 15 % of the dense bytes and more, not 10 %."
    ),
)
