"""14.2 where two layers are smaller than one."""

import math

import torch

from ..engine.core import Case, Exercise, Misconception, case, integer


def largest_saving_rank(shape: list[int]) -> int:
    outputs, inputs = shape[0], math.prod(shape[1:])
    return (outputs * inputs - 1) // (outputs + inputs)


def by_trying(shape: list[int]) -> int:
    outputs, *rest = shape
    inputs = math.prod(rest)
    return max(rank for rank in range(outputs) if rank * (inputs + outputs) < inputs * outputs)


def by_rounding_up(shape: list[int]) -> int:
    weights = math.prod(shape)
    each = shape[0] + weights // shape[0]
    return math.ceil(weights / each) - 1


def _sizes(shape: list[int]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])


def equality_counted(shape: list[int]) -> int:
    n, m = _sizes(shape)
    return n * m // (n + m)


def rounded(shape: list[int]) -> int:
    n, m = _sizes(shape)
    return round(n * m / (n + m))


def rounded_up(shape: list[int]) -> int:
    n, m = _sizes(shape)
    return math.ceil(n * m / (n + m))


def always_one_less(shape: list[int]) -> int:
    n, m = _sizes(shape)
    return max(0, n * m // (n + m) - 1)


def not_an_integer(shape: list[int]) -> float:
    n, m = _sizes(shape)
    return n * m / (n + m)


def never_zero(shape: list[int]) -> int:
    return max(1, largest_saving_rank(shape))


def the_smaller_size(shape: list[int]) -> int:
    return min(_sizes(shape))


def half_the_smaller_size(shape: list[int]) -> int:
    return min(_sizes(shape)) // 2


def first_factor_only(shape: list[int]) -> int:
    return shape[0] - 1


def second_factor_only(shape: list[int]) -> int:
    return math.prod(shape[1:]) - 1


def kernel_forgotten(shape: list[int]) -> int:
    return largest_saving_rank(shape[:2])


def kernel_with_the_outputs(shape: list[int]) -> int:
    return (math.prod(shape) - 1) // (shape[1] + shape[0] * math.prod(shape[2:]))


def one_side_of_the_kernel(shape: list[int]) -> int:
    return largest_saving_rank(shape[:3])


def a_bias_in_the_middle(shape: list[int]) -> int:
    n, m = _sizes(shape)
    return (n * m - 1) // (n + m + 1)


def root_of_the_weights(shape: list[int]) -> int:
    return math.isqrt(math.prod(shape))


def saving_cases() -> list[Case]:
    shapes = [[3, 7], [10, 100], [10, 90], [2, 2], [1, 5], [300, 784], [784, 300], [20, 20]]
    convolutions = [[9, 2, 3, 3], [48, 32, 3, 3], [6, 4, 5], [12, 30, 1, 1], [4, 1, 5, 3], [8, 3, 2, 3, 4]]
    return [case(shape) for shape in shapes + convolutions]


def drawn_saving(g: torch.Generator) -> Case:
    kernel = [integer(g, 1, 4) for _ in range(integer(g, 0, 3))]
    return case([integer(g, 1, 60), integer(g, 1, 60), *kernel])


EXERCISE = Exercise(
    id="14.2",
    title="where two layers are smaller than one",
    question=(
        "A layer's weight has the sizes in the list `shape`: first the n outputs, then what goes into each. That is "
        "m for a linear layer. For a convolution it is the input channels and the sides of the kernel; their "
        "product is m. It is replaced by two layers of some rank. The first keeps the kernel and has `rank` "
        "outputs, the second maps these to the n outputs, at each position for itself. Write "
        "`my_largest_saving_rank(shape)`: the largest integer rank at which the two layers together have *fewer* "
        "weights than the one. Biases do not count. Where no rank of 1 or more saves any, return 0."
    ),
    skeleton=(
        "def my_largest_saving_rank(shape):\n"
        '    """The largest rank at which two layers have fewer weights than one of this shape."""\n    ...'
    ),
    reference=largest_saving_rank,
    alternatives=(by_trying, by_rounding_up),
    cases=saving_cases,
    drawn=drawn_saving,
    hints=(
        "How many weights does each of the two layers have? Write it down for 100 inputs, 10 outputs and rank 5.",
        "rank · m for the first, n · rank for the second: rank · (m + n) must be *below* m · n.",
        "The largest integer r with r · (m + n) < m · n is `(m * n - 1) // (m + n)`, with `m = math.prod(shape[1:])`.",
    ),
    misconceptions=(
        Misconception(
            "equal counted as a saving",
            equality_counted,
            "right except where m · n / (m + n) is an integer: there the two layers have as many weights as the one, "
            "which saves nothing",
        ),
        Misconception(
            "rounded to the nearest",
            rounded,
            "you round m · n / (m + n) to the nearest integer. Rounded up, it is a rank that makes the layer larger",
        ),
        Misconception(
            "rounded up",
            rounded_up,
            "you round m · n / (m + n) up: at that rank the two layers are as large as the one, or larger",
        ),
        Misconception(
            "always one less",
            always_one_less,
            "you always subtract 1. That is right only where m · n / (m + n) is an integer; elsewhere one more rank "
            "still saves",
        ),
        Misconception(
            "not an integer",
            not_an_integer,
            "this is the break-even point itself, m · n / (m + n). Return the largest *integer* below it",
        ),
        Misconception(
            "never zero",
            never_zero,
            "right except where nothing saves: one output, or 2 × 2, has no rank that pays. Then the result is 0",
        ),
        Misconception(
            "the smaller size",
            the_smaller_size,
            "this is the largest rank that the weight can have, the smaller of n and m. Two layers of that rank have "
            "more weights than the one",
        ),
        Misconception(
            "half the smaller size",
            half_the_smaller_size,
            "half the smaller size is where a square layer breaks even, and saves nothing. A wide and short layer "
            "saves at higher ranks: count the weights",
        ),
        Misconception(
            "only the first layer counted",
            first_factor_only,
            "you count rank · m alone. The second layer adds n · rank weights",
        ),
        Misconception(
            "only the second layer counted",
            second_factor_only,
            "you count n · rank alone. The first layer adds rank · m weights",
        ),
        Misconception(
            "the kernel forgotten",
            kernel_forgotten,
            "right for a linear layer. In a convolution each output reads channels × kernel: m is the product of all "
            "sizes but the first. (A kernel in both layers gives the same number: the second one has side 1.)",
        ),
        Misconception(
            "the kernel in the second layer",
            kernel_with_the_outputs,
            "you give the kernel to the second layer. The first one keeps it, the second one has a kernel of side 1",
        ),
        Misconception(
            "one side of the kernel",
            one_side_of_the_kernel,
            "you count one side of the kernel only. A 3 × 3 kernel has nine weights per channel",
        ),
        Misconception(
            "a bias in the middle",
            a_bias_in_the_middle,
            "you count a bias in the middle layer. It would be absorbed by the second one's, and biases do not count "
            "here",
        ),
        Misconception(
            "root of the weights",
            root_of_the_weights,
            "this is the root of the number of weights. Solve rank · (m + n) < m · n instead",
        ),
    ),
    shows="a factorized layer can be larger than the layer it replaces: only ranks below m · n / (m + n) pay.",
    derivation=(
        "First layer rank · m, second n · rank. rank · (m + n) < m · n is rank < m · n / (m + n), and for integers "
        "rank · (m + n) ≤ m · n - 1. For a square layer that is n / 2; for 10 × 100 it is 9, nearly the full rank of "
        "10."
    ),
    forbidden=("kdcourse.lowrank.break_even_rank",),
)
