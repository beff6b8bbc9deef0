"""08.6 enough images to be compute bound."""

import math
from fractions import Fraction

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer


def batch(macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int) -> int:
    # n · macs · bandwidth ≥ peak · bytes · (weights + n · activations)
    per_image = macs * bandwidth - peak * bytes_a_number * activations
    if per_image <= 0:
        return 0
    return math.ceil(peak * bytes_a_number * weights / per_image)


def batch_by_the_ridge(
    macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int
) -> int:
    ridge = Fraction(peak, bandwidth)
    most = Fraction(macs, bytes_a_number * activations)  # the intensity of an endless batch
    if most <= ridge:
        return 0
    return math.ceil(ridge * weights / (activations * (most - ridge)))


def batch_by_times(macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int) -> int:
    computing, fetching = macs / peak, bytes_a_number * activations / bandwidth  # for each image
    once = bytes_a_number * weights / bandwidth
    return 0 if computing <= fetching else math.ceil(once / (computing - fetching))


def _first(macs: int, fixed: int, each: int, ridge: Fraction) -> int:
    """The fewest images n with n · macs ≥ ridge · (fixed + n · each)."""
    gained = macs - ridge * each
    return 0 if gained <= 0 else max(1, math.ceil(ridge * fixed / gained))


def weights_for_each_image(
    macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int
) -> int:
    return _first(macs, 0, bytes_a_number * (weights + activations), Fraction(peak, bandwidth))


def weights_alone(macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int) -> int:
    return _first(macs, bytes_a_number * weights, 0, Fraction(peak, bandwidth))


def activations_once(
    macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int
) -> int:
    return _first(macs, bytes_a_number * (weights + activations), 0, Fraction(peak, bandwidth))


def numbers_for_bytes(
    macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int
) -> int:
    return _first(macs, weights, activations, Fraction(peak, bandwidth))


def upside_down(macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int) -> int:
    return _first(macs, bytes_a_number * weights, bytes_a_number * activations, Fraction(bandwidth, peak))


def two_operations(macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int) -> int:
    return _first(2 * macs, bytes_a_number * weights, bytes_a_number * activations, Fraction(peak, bandwidth))


def roles_swapped(macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int) -> int:
    return _first(macs, bytes_a_number * activations, bytes_a_number * weights, Fraction(peak, bandwidth))


def _exact(macs: int, weights: int, activations: int, bytes_a_number: int, peak: int, bandwidth: int) -> Fraction:
    """The solution as a fraction, below 0 or 0 where no batch is large enough."""
    gained = macs * bandwidth - peak * bytes_a_number * activations
    return Fraction(peak * bytes_a_number * weights, gained) if gained else Fraction(0)


def rounded_down(macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int) -> int:
    return max(0, math.floor(_exact(macs, weights, activations, bytes_a_number, peak, bandwidth)))


def strictly_above(macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int) -> int:
    solution = _exact(macs, weights, activations, bytes_a_number, peak, bandwidth)
    return math.floor(solution) + 1 if solution > 0 else 0


def no_limit_seen(macs: int, weights: int, activations: int, *, bytes_a_number: int, peak: int, bandwidth: int) -> int:
    return math.ceil(_exact(macs, weights, activations, bytes_a_number, peak, bandwidth))


def batch_cases() -> list[Case]:
    return [
        case(12, 30, 2, bytes_a_number=4, peak=3, bandwidth=4),  # 15 exactly
        case(7680, 7690, 778, bytes_a_number=4, peak=50, bandwidth=16),  # never: below the ridge
        case(7680, 7690, 778, bytes_a_number=1, peak=50, bandwidth=16),  # 5 in int8
        case(24, 5, 2, bytes_a_number=4, peak=48, bandwidth=16),  # never: an endless batch would just reach it
        case(147456, 32, 1568, bytes_a_number=4, peak=60, bandwidth=16),  # one image is enough
        case(3, 7, 47, bytes_a_number=1, peak=1, bandwidth=16),  # reached by a hair: 48 against 47
        case(410, 4100, 61, bytes_a_number=2, peak=37, bandwidth=32),
        case(1000, 9000, 1, bytes_a_number=4, peak=700, bandwidth=64),
    ]


def batch_drawn(g: torch.Generator) -> Case:
    sizes = integer(g, 200, 4000), integer(g, 100, 9000), integer(g, 10, 90)
    return case(*sizes, bytes_a_number=2 ** integer(g, 0, 2), peak=integer(g, 20, 150), bandwidth=2 ** integer(g, 3, 6))


EXERCISE = Exercise(
    id="08.6",
    title="enough images to be compute bound",
    question=(
        "For each image a layer does `macs` multiply-accumulates and moves `activations` numbers, its inputs and "
        "outputs together. Its `weights` numbers are fetched once per batch. Every number has `bytes_a_number` bytes. "
        "Write `my_batch(macs, weights, activations, *, bytes_a_number, peak, bandwidth)`: the fewest images per "
        "batch, an int, with which intensity × `bandwidth` is at least `peak`. `peak` is in 10⁹ multiply-accumulates "
        "per second, `bandwidth` in 10⁹ bytes per second; all arguments are positive integers. Return 0 if no batch, "
        "however large, reaches it."
    ),
    skeleton=(
        "def my_batch(macs, weights, activations, *, bytes_a_number, peak, bandwidth):\n"
        '    """The fewest images with which the layer is compute bound; 0 if there is no such batch."""\n    ...'
    ),
    reference=batch,
    alternatives=(batch_by_the_ridge, batch_by_times),
    cases=batch_cases,
    drawn=batch_drawn,
    hints=(
        "Write the intensity of a batch of n images as a fraction. What in it grows with n, and what does not?",
        "The intensity is n · macs / (bytes · (weights + n · activations)). Multiply by the bandwidth, set it at least "
        "the peak, and solve for n. When has that no solution?",
        "n · (macs · bandwidth − peak · bytes · activations) ≥ peak · bytes · weights. If the bracket is not positive, "
        "return 0; otherwise divide and round up.",
    ),
    misconceptions=(
        Misconception(
            "weights fetched for each image",
            weights_for_each_image,
            "you fetch the weights for every image. Then the intensity would not depend on the batch. One batch "
            "fetches them once: that is why batches pay",
        ),
        Misconception(
            "the weights alone",
            weights_alone,
            "you leave out the activations. They grow with the batch and limit the intensity to macs / (bytes · "
            "activations), however large the batch is",
        ),
        Misconception(
            "activations once",
            activations_once,
            "you count the activations once per batch. Every image brings its own inputs and outputs",
        ),
        Misconception(
            "numbers in place of bytes",
            numbers_for_bytes,
            "you count numbers, not bytes. The bandwidth is in bytes: multiply by `bytes_a_number`, four in "
            "float32 and one in int8",
        ),
        Misconception(
            "the ridge upside down",
            upside_down,
            "you compare the intensity with bandwidth / peak. It has to reach peak / bandwidth, which is in "
            "multiply-accumulates per byte like the intensity itself",
        ),
        Misconception(
            "two operations each",
            two_operations,
            "you count every multiply-accumulate as two operations. The peak here is in multiply-accumulates: one each",
        ),
        Misconception(
            "weights and activations swapped",
            roles_swapped,
            "you swap weights and activations. The weights are fetched once per batch, the activations once per image",
        ),
        Misconception(
            "rounded down",
            rounded_down,
            "you round down. With so few images the layer is still memory bound: round up to the first that is enough",
        ),
        Misconception(
            "strictly above",
            strictly_above,
            "you ask for more than the peak. At least the peak is enough: where the two roofs meet exactly, the layer "
            "is compute bound",
        ),
        Misconception(
            "no limit seen",
            no_limit_seen,
            "you solve the inequality although the bracket is negative, which turns ≥ around: a batch below zero. "
            "There even an infinite batch is memory bound: return 0",
        ),
    ),
    shows="the batch spreads the weights over its images, and the activations limit what that can give.",
    derivation=(
        "n · macs / (bytes · (weights + n · activations)) rises with n and tends to macs / (bytes · activations). If "
        "that limit is not above peak / bandwidth, no n is enough; else n ≥ peak · bytes · weights / (macs · bandwidth "
        "− peak · bytes · activations), rounded up."
    ),
)
