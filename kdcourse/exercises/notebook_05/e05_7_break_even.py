"""05.7 from which sparsity on it pays."""

from fractions import Fraction

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer


def break_even(rows: int, columns: int, *, value_bits: int) -> float:
    n, value = rows * columns, value_bits / 8
    kept = (n * value - 4 * (rows + 1)) / (value + 2)
    return 1 - kept / n


def break_even_in_bits(rows: int, columns: int, *, value_bits: int) -> float:
    n = rows * columns
    return float(Fraction(16 * n + 32 * (rows + 1), n * (value_bits + 16)))


def break_even_between_two(rows: int, columns: int, *, value_bits: int) -> float:
    n, value = rows * columns, value_bits / 8
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


def percent(rows: int, columns: int, *, value_bits: int) -> float:
    return 100 * break_even(rows, columns, value_bits=value_bits)


def one_start_a_row(rows: int, columns: int, *, value_bits: int) -> float:
    return break_even(rows, columns, value_bits=value_bits) - 4 / (rows * columns * (value_bits / 8 + 2))


def starts_of_columns(rows: int, columns: int, *, value_bits: int) -> float:
    return break_even(columns, rows, value_bits=value_bits)


def starts_subtracted(rows: int, columns: int, *, value_bits: int) -> float:
    n, value = rows * columns, value_bits / 8
    return 1 - (n * value + 4 * (rows + 1)) / (n * (value + 2))


def of_whole_weights(rows: int, columns: int, *, value_bits: int) -> float:
    n = rows * columns
    return 1 - int(n * share_kept(rows, columns, value_bits=value_bits)) / n


def number_of_zeros(rows: int, columns: int, *, value_bits: int) -> float:
    return rows * columns * break_even(rows, columns, value_bits=value_bits)


def whole_bytes(rows: int, columns: int, *, value_bits: int) -> float:
    return break_even(rows, columns, value_bits=value_bits // 8 * 8)


def column_over_value(rows: int, columns: int, *, value_bits: int) -> float:
    return 16 / value_bits


def break_even_cases() -> list[Case]:
    return [
        case(10, 50, value_bits=32),
        case(64, 256, value_bits=8),
        case(512, 512, value_bits=16),
        case(30, 70, value_bits=4),
    ]


def break_even_drawn(g: torch.Generator) -> Case:
    return case(integer(g, 2, 50), integer(g, 60, 400), value_bits=integer(g, 4, 32))


EXERCISE = Exercise(
    id="05.7",
    title="from which sparsity on it pays",
    question=(
        "Write `my_break_even(rows, columns, *, value_bits)`: the fraction of zeros at which a matrix takes as many "
        "bytes in compressed sparse rows as dense. Dense: `value_bits` bits per weight. Sparse: for every weight that "
        "is not 0 `value_bits` bits and a column of 2 bytes; and rows + 1 row starts of 4 bytes. The fraction need "
        "not correspond to an integer number of weights. Return a float. In every case here it is between 0 and 1."
    ),
    skeleton=(
        "def my_break_even(rows, columns, *, value_bits):\n"
        '    """The fraction of zeros at which sparse rows are as large as dense."""\n    ...'
    ),
    reference=break_even,
    alternatives=(break_even_in_bits, break_even_between_two),
    cases=break_even_cases,
    drawn=break_even_drawn,
    hints=(
        "Write both sizes down for k kept weights. Which k makes them equal?",
        "With v bytes per value and n weights: n · v = k · (v + 2) + 4 · (rows + 1).",
        "`kept = (n * v - 4 * (rows + 1)) / (v + 2)`. The fraction of zeros is `1 - kept / n`.",
    ),
    misconceptions=(
        Misconception(
            "any zero saves",
            any_zero_saves,
            "you say that the first zero already saves. A sparse format stores a position for every value it keeps: "
            "nearly dense matrices get larger",
        ),
        Misconception(
            "the fraction kept",
            share_kept,
            "this is the fraction of weights that are kept at that point. Sparsity is the fraction of zeros: 1 "
            "minus it",
        ),
        Misconception(
            "half, always",
            place_as_dear_as_value,
            "one half is right where a position costs as much as a value. Here a column takes 2 bytes and a value "
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
            "you compute with 32 bits always. Smaller values leave less to save, while the positions cost the same: "
            "quantized weights must be much sparser before it pays",
        ),
        Misconception(
            "bits for bytes",
            bits_taken_for_bytes,
            "a value takes `value_bits` bytes in your sum. Eight bits are one byte; the positions then look cheaper "
            "than they are",
        ),
        Misconception(
            "percent",
            percent,
            "this is a percentage. The question asks for a fraction between 0 and 1",
        ),
        Misconception(
            "one start a row",
            one_start_a_row,
            "nearly right: rows + 1 row starts, not rows. The last one says where the last row ends",
        ),
        Misconception(
            "starts of columns",
            starts_of_columns,
            "you count columns + 1 starts. It is the rows that have starts in compressed sparse rows",
        ),
        Misconception(
            "the starts with the wrong sign",
            starts_subtracted,
            "the row starts have the wrong sign. They cost bytes in the sparse format, so more zeros are needed, not "
            "fewer",
        ),
        Misconception(
            "of whole weights",
            of_whole_weights,
            "you round to a number of weights. The fraction need not correspond to an integer number of weights",
        ),
        Misconception(
            "the number of zeros",
            number_of_zeros,
            "this is the number of zeros. Divide it by the number of weights",
        ),
        Misconception(
            "whole bytes",
            whole_bytes,
            "you count whole bytes per value: `4 // 8` is 0. A value of 4 bits takes half a byte: `value_bits / 8`",
        ),
        Misconception(
            "a column against a value",
            column_over_value,
            "you divide the bits of a column by those of a value. Every weight kept costs both: write down the bytes "
            "of the two formats and solve",
        ),
    ),
    shows="the fewer bits a value has, the sparser a matrix must be before storing positions pays.",
    derivation=(
        "n v = k (v + 2) + 4 (rows + 1) gives k; the fraction of zeros is 1 - k/n = (2 + 4 (rows + 1)/n) / (v + "
        "2). For large matrices: 1/3 at 32 bits, 1/2 at 16, 2/3 at 8."
    ),
    forbidden=("kdcourse.pruning.break_even_sparsity",),
)
