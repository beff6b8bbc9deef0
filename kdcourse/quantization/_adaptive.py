"""The adaptive models of `coding`: probabilities that encoder and decoder both learn from what is coded already.

Arithmetic is + - * /, square roots and sums in a fixed order, in float64, so that every machine computes the same:
exp(x) stands for (1 + x/1024)^1024, log for its inverse. Both bounds on probabilities make a coded flag cost at least
1/4096 bit, so that a short file cannot stand for a huge tensor.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

LARGEST_LOGIT = 8.0
LARGEST_PROBABILITY = 1 - 2.0**-12

Array = NDArray[Any]
Cells = Sequence[tuple[int, int]]
CAUSAL: Cells = [(down, right) for down in range(-5, 1) for right in range(-5, 6) if (down, right) < (0, 0)]
NEAR: Cells = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)]
MIDDLE: Cells = [cell for cell in CAUSAL if 2 <= max(map(abs, cell)) <= 3]
FAR: Cells = [cell for cell in CAUSAL if max(map(abs, cell)) >= 4]
DIAMOND: Cells = [(down, right) for down in range(-2, 3) for right in range(-2, 3) if abs(down) + abs(right) <= 2]


class Coder(Protocol):
    """Codes symbols under the model's probabilities and returns them; a decoder ignores those that it is given."""

    def flags(self, probabilities: Array, flags: Array) -> Array: ...

    def symbol(self, counts: Array, symbol: int) -> int: ...


class _Logistic:
    """Logistic regression that learns as it goes: p = 1 / (1 + exp(-z)), z = offset + Σ w·x, |z| <= 8.

    After every batch w += 0.2 · Σ (y - p)·x / √G with G = 1 + Σ p·(1 - p)·x² over all batches; w starts at 0.
    """

    def __init__(self, features: int) -> None:
        self.weights, self.curvatures = [0.0] * features, [1.0] * features

    def probabilities(self, features: Sequence[Array], offset: float = 0.0) -> Array:
        logits = np.full(len(features[0]), offset)
        for weight, feature in zip(self.weights, features, strict=True):
            logits = logits + weight * feature
        return 1 / (1 + _exp(-logits.clip(-LARGEST_LOGIT, LARGEST_LOGIT)))

    def learn(self, features: Sequence[Array], probabilities: Array, flags: Array) -> None:
        for number, feature in enumerate(features):
            self.curvatures[number] += _sum(probabilities * (1 - probabilities) * feature * feature)
            step = _sum((flags - probabilities) * feature) / math.sqrt(self.curvatures[number])
            self.weights[number] += 0.2 * step


def code_indices(coder: Coder, codebook: Array, given: Array) -> Array:
    """All indices of one tensor, coded; ``given`` has its shape, and for an encoder its indices."""
    if given.ndim < 2:
        return code_vector(coder, len(codebook), given.reshape(-1)).reshape(given.shape)
    matrix = given.reshape(len(given), -1)
    side, width = math.isqrt(matrix.shape[1]), 0
    if given.ndim == 4 and given.shape[3] <= 64:
        width = given.shape[3]
    elif given.ndim == 2 and side**2 == matrix.shape[1]:
        width = side
    base = int(np.argmax(codebook == 0))
    kept = code_kept(coder, matrix != base, width)
    return code_values(coder, kept, codebook, base, width, matrix).reshape(given.shape)


def code_vector(coder: Coder, size: int, given: Array) -> Array:
    """Entry by entry: does it repeat the one before (not asked of the first)? If not: which of the others is it?

    p(repeats) = (repeats + 1/2) / (asked + 1), at most 1 - 2^-12; p(other) as its count so far, plus 1/2. Codebooks
    of one entry ask for repeats alone.
    """
    indices, counts = np.zeros(len(given), np.uint8), np.full(size, 0.5)
    previous, repeats = -1, 0
    for place, wanted in enumerate(given.tolist()):
        chance = min((repeats + 0.5) / place, LARGEST_PROBABILITY) if place else 0.0
        if place and coder.flags(np.array([chance]), np.array([wanted == previous]))[0]:
            repeats += 1
        else:
            others = np.delete(np.arange(size), previous) if place else np.arange(size)
            rank = _symbol(coder, counts[others], others, wanted)
            previous = int(others[rank])
            counts[previous] += 1
        indices[place] = previous
    return indices


def code_kept(coder: Coder, given: Array, width: int) -> Array:
    """Which weights differ from the base, along anti-diagonals (row + column = 0, 1, 2, …), by growing row.

    `_Logistic` with offset log(r / (1 - r)), r = (kept + 0.4) / (coded + 20) over the matrix. Features: 1; log(d / r)
    of the pixel's density d = (kept + 0.4) / (coded + 0.4 / r) in other rows, itself and the 12 pixels that are at
    most two steps away; log((k + 1) / (e + 1)) for k kept weights in this row and e the sum of d at its cells so far;
    and log(d / r) for d the density where the same was around in the row: the pattern of 6 near cells, and
    8 · min(7, kept cells at distance 2 and 3) + min(6, half of those at distance 4 and 5, rounded down).
    A cell (down, right) steps away is down · width + right columns away: no border stops it. Cells that are not coded
    yet, or lie outside the matrix, count as not kept, and distance is the larger of both steps. Without an image there
    are no steps down or up. An anti-diagonal is one batch.
    """
    rows, columns = given.shape
    pad = 5 * (width + 1)
    kept = np.zeros((rows, columns + 2 * pad), np.int16)
    pixels, patterns, rings = _Densities(columns + 2 * pad), _Densities(64), _Densities(64)
    row_kept, row_expected = np.zeros(rows), np.zeros(rows)
    near, middle, far, diamond = (_offsets(cells, width) for cells in (NEAR, MIDDLE, FAR, DIAMOND))
    logistic, total = _Logistic(5), _Densities(1)
    for diagonal in range(rows + columns - 1):
        row = np.arange(max(0, diagonal - columns + 1), min(rows - 1, diagonal) + 1)
        column = diagonal - row + pad
        rate = (total.kept[0] + 0.4) / (total.coded[0] + 20)
        pattern = sum((kept[row, column + step] << bit for bit, step in enumerate(near)), np.zeros(len(row), np.int16))
        ring = [_count(kept, row, column, steps) for steps in (middle, far)]
        ring_index = 8 * np.minimum(ring[0], 7) + np.minimum(ring[1] // 2, 6)
        density = pixels.of([column + step for step in diamond], rate)
        features = [
            np.ones(len(row)),
            _log(density / rate),
            _log((row_kept[row] + 1) / (row_expected[row] + 1)),
            _log(patterns.of([pattern], rate) / rate),
            _log(rings.of([ring_index], rate) / rate),
        ]
        probabilities = logistic.probabilities(features, float(_log(np.array(rate / (1 - rate)))))
        flags = coder.flags(probabilities, given[row, column - pad])
        logistic.learn(features, probabilities, flags)
        kept[row, column] = flags
        row_kept[row] += flags
        row_expected[row] += density
        for counts, index in ((pixels, column), (patterns, pattern), (rings, ring_index), (total, 0 * row)):
            counts.add(index, flags)
    return kept[:, pad : pad + columns].astype(bool)


def code_values(coder: Coder, kept: Array, codebook: Array, base: int, width: int, given: Array) -> Array:
    """The indices of kept weights, row by row: first the sign, then which of the entries with that sign.

    Sign: `_Logistic` on 1 and on the signs (0 where not kept or not coded) of the left cell, the upper, the two
    upper diagonal ones together, and the two that are two steps left and up together. The entry: by its count so far,
    plus 1/2, among the entries at or above zero, or below. What the codebook leaves no choice about is not coded.
    """
    others = np.delete(np.arange(len(codebook)), base)
    groups = [others[codebook[others] >= 0], others[codebook[others] < 0]]
    counts = [np.full(len(group), 0.5) for group in groups]
    pad = 2 * (width + 1)
    steps = [_offsets(cells, width) for cells in (NEAR[:1], NEAR[1:2], NEAR[2:4], NEAR[4:])]
    logistic, indices = _Logistic(5), np.full(kept.shape, base, np.uint8)
    for row in range(len(kept)):
        signs = [0] * (kept.shape[1] + pad)
        for column in np.flatnonzero(kept[row]).tolist():
            wanted = int(given[row, column])
            negative = len(groups[0]) == 0
            if all(map(len, groups)):
                around = (sum(signs[pad + column + step] for step in group) for group in steps)
                features = [np.ones(1), *(np.array([float(total)]) for total in around)]
                probabilities = logistic.probabilities(features)
                flags = coder.flags(probabilities, np.array([wanted in groups[1]]))
                logistic.learn(features, probabilities, flags)
                negative = bool(flags[0])
            signs[pad + column] = -1 if negative else 1
            rank = _symbol(coder, counts[negative], groups[negative], wanted)
            counts[negative][rank] += 1
            indices[row, column] = groups[negative][rank]
    return indices


def _symbol(coder: Coder, counts: Array, entries: Array, wanted: int) -> int:
    """The rank of ``wanted`` among ``entries``, coded unless there is but one."""
    if len(entries) == 0:
        raise ValueError("an index is not in its codebook")
    return coder.symbol(counts, int(np.argmax(entries == wanted))) if len(entries) > 1 else 0


class _Densities:
    """How many cells were kept of those coded, by context."""

    def __init__(self, contexts: int) -> None:
        self.kept, self.coded = np.zeros(contexts), np.zeros(contexts)

    def of(self, contexts: Sequence[Array], rate: float) -> Array:
        """(kept + 0.4) / (coded + 0.4 / rate) over all ``contexts`` together."""
        kept, coded = (sum(counts[context] for context in contexts) for counts in (self.kept, self.coded))
        return np.asarray((kept + 0.4) / (coded + 0.4 / rate))

    def add(self, context: Array, flags: Array) -> None:
        np.add.at(self.kept, context, flags)
        np.add.at(self.coded, context, 1)


def _offsets(cells: Cells, width: int) -> list[int]:
    """Distances along a row; without an image, only the cells beside."""
    return [down * width + right for down, right in cells if width or not down]


def _count(kept: Array, row: Array, column: Array, steps: Sequence[int]) -> Array:
    total = np.zeros(len(row), np.int64)
    for step in steps:
        total += kept[row, column + step]
    return total


def _exp(values: Array) -> Array:
    result = 1 + values / 1024
    for _ in range(10):
        result = result * result
    return result


def _log(values: Array) -> Array:
    for _ in range(10):
        values = np.sqrt(values)
    return (values - 1) * 1024


def _sum(values: Array) -> float:
    """One after the other: NumPy's sum has an order that depends on the processor."""
    return float(np.cumsum(values)[-1])
