"""23.5 the bytes of a coded tensor, by entropy."""

import math
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer


def bytes_of(indices: Tensor, entries: int) -> float:
    def bits(counts: Tensor) -> float:
        counts = counts[counts > 0].double()
        return float((counts * (counts.sum() / counts).log2()).sum())

    kept = indices[indices != 0]
    positions = bits(torch.tensor([len(kept), indices.numel() - len(kept)]))
    values = bits(torch.bincount(kept))
    return (positions + values) / 8 + 2 * entries


def bytes_by_counter(indices: Tensor, entries: int) -> float:
    numbers = indices.flatten().tolist()
    kept = [number for number in numbers if number]
    total = 0.0
    for group in ([number > 0 for number in numbers], kept):
        for count in Counter(group).values():
            total -= count * math.log2(count / len(group))
    return total / 8 + 2 * entries


def bytes_by_the_chain_rule(indices: Tensor, entries: int) -> float:
    # whether, and then which, is as much as which of all: one entropy, zero counted as a value
    _, counts = np.unique(indices.numpy(), return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8 + entries * 2)


def _bits(symbols: Tensor, base: float = 2.0) -> float:
    """n · H of the symbols."""
    counts = torch.bincount(symbols.flatten().long()).double()
    counts = counts[counts > 0]
    return float((counts * (counts.sum() / counts).log()).sum() / math.log(base)) if len(counts) else 0.0


def _kept(indices: Tensor) -> Tensor:
    return indices[indices != 0]


def bits_for_bytes(indices: Tensor, entries: int) -> float:
    return _bits(indices) + 2 * entries


def natural_logarithm(indices: Tensor, entries: int) -> float:
    return _bits(indices, math.e) / 8 + 2 * entries


def codebook_forgotten(indices: Tensor, entries: int) -> float:
    return _bits(indices) / 8


def codebook_in_float32(indices: Tensor, entries: int) -> float:
    return _bits(indices) / 8 + 4 * entries


def codebook_in_bits(indices: Tensor, entries: int) -> float:
    return (_bits(indices) + 2 * entries) / 8


def zero_not_stored(indices: Tensor, entries: int) -> float:
    return _bits(indices) / 8 + 2 * (entries - 1)


def entries_in_use(indices: Tensor, entries: int) -> float:
    return _bits(indices) / 8 + 2 * len(indices.unique())


def fixed_bits(indices: Tensor, entries: int) -> float:
    return indices.numel() * math.ceil(math.log2(entries)) / 8 + 2 * entries


def fixed_bits_of_kept(indices: Tensor, entries: int) -> float:
    return (_bits(indices != 0) + len(_kept(indices)) * math.ceil(math.log2(entries))) / 8 + 2 * entries


def uniform_values(indices: Tensor, entries: int) -> float:
    return (_bits(indices != 0) + len(_kept(indices)) * math.log2(entries - 1)) / 8 + 2 * entries


def a_mask_of_bits(indices: Tensor, entries: int) -> float:
    return (indices.numel() + _bits(_kept(indices))) / 8 + 2 * entries


def positions_twice(indices: Tensor, entries: int) -> float:
    return (_bits(indices != 0) + _bits(indices)) / 8 + 2 * entries


def positions_free(indices: Tensor, entries: int) -> float:
    return _bits(_kept(indices)) / 8 + 2 * entries


def values_free(indices: Tensor, entries: int) -> float:
    return _bits(indices != 0) / 8 + 2 * entries


def _per_symbol(symbols: Tensor) -> float:
    return _bits(symbols) / max(1, symbols.numel())


def entropies_added(indices: Tensor, entries: int) -> float:
    """Both entropies for every weight."""
    each = _per_symbol(indices != 0) + _per_symbol(_kept(indices))
    return indices.numel() * each / 8 + 2 * entries


def positions_of_kept_only(indices: Tensor, entries: int) -> float:
    kept = _kept(indices)
    return (len(kept) * _per_symbol(indices != 0) + _bits(kept)) / 8 + 2 * entries


def ones_only(indices: Tensor, entries: int) -> float:
    """-p log p for the kept ones alone."""
    kept, count = _kept(indices), indices.numel()
    positions = -len(kept) * math.log2(len(kept) / count) if len(kept) else 0.0
    return (positions + _bits(kept)) / 8 + 2 * entries


def rounded_up(indices: Tensor, entries: int) -> int:
    return math.ceil(_bits(indices) / 8) + 2 * entries


def symbols(counts: list[int], seed: int, *shape: int) -> Tensor:
    """Indices that occur so often each, in a random order."""
    flat = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))
    return flat[order].reshape(shape or (-1,))


def bytes_cases() -> list[Case]:
    return [
        case(symbols([9, 2, 1], 1, 3, 4), 5),
        case(symbols([40, 5, 0, 11, 3, 1], 2, 6, 10), 8),
        case(symbols([300, 30, 22, 9, 3, 0, 1, 35], 3, 20, 20), 16),
        case(symbols([0, 5, 4, 3], 4, 12), 4),  # nothing pruned
        case(symbols([7], 5, 7), 3),  # everything pruned
        case(symbols([20, 0, 10], 6, 2, 3, 5), 6),  # one value for all that is kept
        case(symbols([0, 0, 6], 7, 6), 3),
    ]


def drawn_bytes(g: torch.Generator) -> Case:
    counts = [integer(g, 20, 200), *(integer(g, 0, 30) for _ in range(integer(g, 2, 9)))]
    return case(symbols(counts, integer(g, 0, 999)), len(counts) + integer(g, 0, 5))


EXERCISE = Exercise(
    id="23.5",
    title="the bytes of a coded tensor",
    question=(
        "`indices` is a tensor of int64, of any shape: for each weight the entry of a codebook, 0 if the weight is "
        "pruned. The codebook has `entries` entries, not all of which need to occur. Write "
        "`my_bytes(indices, entries)`: an estimate of the coded tensor's bytes, as a float that is not rounded. Add up "
        "three parts: the positions, N · H bits with H the entropy of 'kept or pruned' over all N weights; the values, "
        "K · H bits with H the entropy of the indices of the K kept weights; and 2 bytes for every entry of the "
        "codebook. Entropies are in bits, from the frequencies in this tensor; what never or always occurs adds 0."
    ),
    skeleton=(
        "def my_bytes(indices, entries):\n"
        '    """Bytes of positions, values and codebook, if the code reaches the entropy."""\n    ...'
    ),
    reference=bytes_of,
    alternatives=(bytes_by_counter, bytes_by_the_chain_rule),
    cases=bytes_cases,
    drawn=drawn_bytes,
    hints=(
        "How many bits does a symbol take that occurs in a fraction p of all cases?",
        "A symbol that occurs n times among N adds n · log2(N / n) bits. Count the kept and the pruned weights, then "
        "each index among the kept ones.",
        "`torch.bincount(indices[indices != 0])` counts the values; leave out the counts of 0. Sum both parts, divide "
        "by 8 and add `2 * entries`.",
    ),
    misconceptions=(
        Misconception(
            "bits for bytes",
            bits_for_bytes,
            "you add bits to bytes. Divide the bits of positions and values by 8 first",
        ),
        Misconception(
            "the natural logarithm",
            natural_logarithm,
            "your entropy is in nats: `log` has the base e. Bits need `log2`",
        ),
        Misconception(
            "the codebook forgotten",
            codebook_forgotten,
            "the codebook is missing. Without it nobody knows the values: 2 bytes for every entry",
        ),
        Misconception(
            "a codebook of 4 bytes per entry",
            codebook_in_float32,
            "you count 4 bytes for each codebook entry, as for float32. They are stored in 2",
        ),
        Misconception(
            "the codebook divided by 8",
            codebook_in_bits,
            "you divide the codebook's bytes by 8 as well. It is 2 *bytes* for each entry",
        ),
        Misconception(
            "the entry of zero not stored",
            zero_not_stored,
            "you leave out the codebook's entry 0. The question counts all `entries`",
        ),
        Misconception(
            "entries in use",
            entries_in_use,
            "you count only the entries that occur. The file stores the whole codebook",
        ),
        Misconception(
            "the same bits for every weight",
            fixed_bits,
            "every weight gets equally many bits, as without a code. Frequent symbols take fewer: use the entropy",
        ),
        Misconception(
            "the same bits for every kept weight",
            fixed_bits_of_kept,
            "every kept weight gets equally many bits. Frequent values take fewer: use the entropy of the indices",
        ),
        Misconception(
            "values equally frequent",
            uniform_values,
            "you take all values as equally frequent. Then the entropy is the largest possible; use their frequencies",
        ),
        Misconception(
            "one bit per weight for the mask",
            a_mask_of_bits,
            "the positions take one bit per weight here. If few weights are kept, N · H of 'kept or "
            "pruned' is far less",
        ),
        Misconception(
            "the positions twice",
            positions_twice,
            "you take the entropy of all indices, zeros included, and add the positions. It contains them already: "
            "only the kept weights have a value",
        ),
        Misconception(
            "the positions are missing",
            positions_free,
            "the positions are missing. Without them nobody knows where the values belong",
        ),
        Misconception(
            "the values are missing",
            values_free,
            "the values are missing: which entry each kept weight has takes K · H bits",
        ),
        Misconception(
            "a value for every weight",
            entropies_added,
            "you multiply both entropies by N. Only the K kept weights have a value",
        ),
        Misconception(
            "positions of the kept ones only",
            positions_of_kept_only,
            "you multiply the entropy of the positions by K. All N weights are kept or pruned, and that is coded for "
            "each",
        ),
        Misconception(
            "half of the entropy",
            ones_only,
            "your positions have the term of the kept weights only. That of the pruned ones belongs to the entropy: "
            "-p log2 p - (1 - p) log2 (1 - p)",
        ),
        Misconception(
            "rounded up",
            rounded_up,
            "you round up to whole bytes. A range coder joins all tensors of a file in one stream; the question asks "
            "for the estimate without rounding",
        ),
    ),
    shows="a sparse file has three costs: where the kept weights are, what they are, and the codebook.",
    derivation=(
        "Let S be 'kept or pruned' and W the index. S follows from W, so N · H(W) = N · H(S) + N · H(W | S). Of the "
        "second term only the K kept weights have a part, K · H(W | kept). Positions and values together are the "
        "entropy of all indices, zero included: splitting costs nothing, and says where the bytes are."
    ),
)
