"""05.7 from which sparsity on it pays."""

from fractions import Fraction

from ..engine.core import Case, Exercise, Misconception, case


def break_even(rows: int, columns: int, *, value_bits: int) -> float:
    n, value = rows * columns, value_bits / 8
    kept = (n * value - 4 * (rows + 1)) / (value + 2)
    return 1 - kept / n


def break_even_in_bits(rows: int, columns: int, *, value_bits: int) -> float:
    n = rows * columns
    return float(Fraction(16 * n + 32 * (rows + 1), n * (value_bits + 16)))


def break_even_between_two(rows: int, columns: int, *, value_bits: int) -> float:
    n, value = rows * columns, value_bits // 8
    empty, full = 4 * (rows + 1), 4 * (rows + 1) + n * (value + 2)
    return (full - n * value) / (full - empty)


def any_zero_saves(rows: int, columns: int, *, value_bits: int) -> float:
    return 0.0


def share_kept(rows: int, columns: int, *, value_bits: int) -> float:
    return 1 - break_even(rows, columns, value_bits=value_bits)


def place_as_dear_as_value(rows: int, columns: int, *, value_bits: int) -> float:
    return 0.5


def starts_left_out(rows: int, columns: int, *, value_bits: int) -> float:
    return 2 / (value_bits / 8 + 2)


def columns_left_out(rows: int, columns: int, *, value_bits: int) -> float:
    return 4 * (rows + 1) / (rows * columns * value_bits / 8)


def always_32_bits(rows: int, columns: int, *, value_bits: int) -> float:
    return break_even(rows, columns, value_bits=32)


def bits_taken_for_bytes(rows: int, columns: int, *, value_bits: int) -> float:
    return break_even(rows, columns, value_bits=8 * value_bits)


def break_even_cases() -> list[Case]:
    return [case(10, 50, value_bits=32), case(64, 256, value_bits=8), case(512, 512, value_bits=16)]


EXERCISE = Exercise(
    id="05.7",
    title="from which sparsity on it pays",
    question=(
        "Write `my_break_even(rows, columns, *, value_bits)`: the share of zeros at which a matrix takes as many bytes "
        "in compressed sparse rows as dense. Dense: `value_bits` bits a weight. Sparse: for every weight that is not 0 "
        "`value_bits` bits and a column of 2 bytes; and rows + 1 row starts of 4 bytes. The share need not be one that "
        "whole weights give. In every case here it lies between 0 and 1."
    ),
    skeleton=(
        "def my_break_even(rows, columns, *, value_bits):\n"
        '    """The share of zeros at which sparse rows are as large as dense."""\n    ...'
    ),
    reference=break_even,
    alternatives=(break_even_in_bits, break_even_between_two),
    cases=break_even_cases,
    hints=(
        "Write both sizes down for k kept weights. Which k makes them equal?",
        "With v bytes a value and n weights: n · v = k · (v + 2) + 4 · (rows + 1).",
        "`kept = (n * v - 4 * (rows + 1)) / (v + 2)`. The share of zeros is `1 - kept / n`.",
    ),
    misconceptions=(
        Misconception(
            "any zero saves",
            any_zero_saves,
            "you say that the first zero already saves. A sparse format stores a place for every value it keeps: "
            "nearly dense matrices get larger",
        ),
        Misconception(
            "the share kept",
            share_kept,
            "this is the share of weights that are kept at that point. Sparsity is the share of zeros: 1 minus it",
        ),
        Misconception(
            "half, always",
            place_as_dear_as_value,
            "one half is right where a place costs as much as a value. Here a column takes 2 bytes and a value "
            "`value_bits` bits, so it depends on them",
        ),
        Misconception(
            "row starts left out",
            starts_left_out,
            "nearly right: the row starts are missing. In a small or narrow matrix they weigh most",
        ),
        Misconception(
            "columns left out",
            columns_left_out,
            "the columns are missing: 2 bytes for every weight that is kept. They are the larger part of the price",
        ),
        Misconception(
            "32 bits whatever the values",
            always_32_bits,
            "you compute with 32 bits always. Smaller values leave less to save, while the places cost the same: "
            "quantized weights must be much sparser before it pays",
        ),
        Misconception(
            "bits for bytes",
            bits_taken_for_bytes,
            "a value takes `value_bits` bytes in your sum. Eight bits are one byte; the places then look cheaper than "
            "they are",
        ),
    ),
    shows="the fewer bits a value has, the sparser a matrix must be before storing places pays.",
    derivation=(
        "n v = k (v + 2) + 4 (rows + 1) gives k; the share of zeros is 1 - k/n = (2 + 4 (rows + 1)/n) / (v + 2). For "
        "large matrices: 1/3 at 32 bits, 1/2 at 16, 2/3 at 8."
    ),
    forbidden=("kdcourse.pruning.break_even_sparsity",),
)
