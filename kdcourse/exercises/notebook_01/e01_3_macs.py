"""01.3 the work of a convolution."""

import torch
import torch.nn.functional as F

from ..engine.core import Case, Exercise, Misconception, case, integer


def conv_macs(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    new_side = (side + 2 * padding - kernel) // stride + 1
    return outputs * new_side**2 * inputs * kernel**2


def macs_by_running(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    image, weight = torch.zeros(1, inputs, side, side), torch.zeros(outputs, inputs, kernel, kernel)
    return F.conv2d(image, weight, stride=stride, padding=padding).numel() * weight[0].numel()


def macs_by_positions(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    starts = range(-padding, side + padding - kernel + 1, stride)
    return sum(inputs * kernel * kernel for _ in range(outputs) for _ in starts for _ in starts)


def input_side(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return outputs * side**2 * inputs * kernel**2


def weights_only(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return outputs * inputs * kernel**2


def one_input_channel(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return conv_macs(1, outputs, kernel, side, stride, padding)


def additions_too(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return 2 * conv_macs(inputs, outputs, kernel, side, stride, padding)


def padding_on_one_side(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return outputs * ((side + padding - kernel) // stride + 1) ** 2 * inputs * kernel**2


def _macs(inputs: int, outputs: int, kernel: int, new_side: float) -> int:
    return int(outputs * new_side**2 * inputs * kernel**2)


def without_padding(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return conv_macs(inputs, outputs, kernel, side, stride, 0)


def one_place_forgotten(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return _macs(inputs, outputs, kernel, (side + 2 * padding - kernel) // stride)


def kernel_forgotten(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return _macs(inputs, outputs, kernel, side // stride)


def kernel_forgotten_rounded_up(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return _macs(inputs, outputs, kernel, -(-side // stride))


def kernel_along_one_side(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return conv_macs(inputs, outputs, kernel, side, stride, padding) // kernel


def places_along_one_side(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return outputs * inputs * kernel**2 * ((side + 2 * padding - kernel) // stride + 1)


def side_not_rounded(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return _macs(inputs, outputs, kernel, (side + 2 * padding - kernel) / stride + 1)


def side_rounded_up(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return _macs(inputs, outputs, kernel, 1 - (kernel - side - 2 * padding) // stride)


def biases_counted(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    places = ((side + 2 * padding - kernel) // stride + 1) ** 2
    return outputs * places * (inputs * kernel**2 + 1)


def one_output_channel(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return conv_macs(inputs, 1, kernel, side, stride, padding)


def stride_forgotten(inputs: int, outputs: int, kernel: int, side: int, stride: int, padding: int) -> int:
    return conv_macs(inputs, outputs, kernel, side, 1, padding)


def macs_cases() -> list[Case]:
    # the fourth has a side that the stride does not divide; the last has one channel, one pixel, one place
    return [case(3, 4, 3, 8, 1, 0), case(16, 32, 3, 14, 2, 1), case(2, 5, 5, 9, 1, 2), case(2, 3, 3, 7, 2, 1),
            case(5, 2, 2, 10, 3, 1), case(1, 1, 1, 1, 1, 0)]  # fmt: skip


def drawn_convolution(generator: torch.Generator) -> Case:
    kernel = integer(generator, 1, 5)
    inputs, outputs, stride = (integer(generator, 1, 6) for _ in range(3))
    return case(inputs, outputs, kernel, kernel + integer(generator, 0, 9), stride, integer(generator, 0, 3))


EXERCISE = Exercise(
    id="01.3",
    title="the work of a convolution",
    question=(
        "Write `my_conv_macs(inputs, outputs, kernel, side, stride, padding)`: the number of multiply-accumulates of "
        "one convolution on one square image. `inputs` and `outputs` count channels, `side` is the side of the image "
        "*before* the convolution, `padding` is added at each edge. Do not count biases."
    ),
    skeleton=(
        "def my_conv_macs(inputs, outputs, kernel, side, stride, padding):\n"
        '    """Multiply-accumulates of one convolution on one image."""\n    ...'
    ),
    reference=conv_macs,
    alternatives=(macs_by_running, macs_by_positions),
    cases=macs_cases,
    drawn=drawn_convolution,
    hints=(
        "How many values come out, and what does one of them cost?",
        "One output value costs inputs × kernel × kernel. There are outputs × new side × new side of them.",
        "The new side is `(side + 2 * padding - kernel) // stride + 1`.",
    ),
    misconceptions=(
        Misconception(
            "the side before the convolution",
            input_side,
            "you use the side before the convolution. The filter visits only every stride-th position: count the "
            "positions in the *output*",
        ),
        Misconception(
            "weights instead of work",
            weights_only,
            "this is the number of weights. Each weight is used again at every output position: weights are not work",
        ),
        Misconception(
            "one input channel",
            one_input_channel,
            "you forget the input channels. Each output channel has its own filter for every one of them",
        ),
        Misconception(
            "operations instead of multiply-accumulates",
            additions_too,
            "too large by a factor of two: you count multiplication and addition separately. A multiply-accumulate "
            "is both at once. Published numbers use either count, so be suspicious of a ratio of exactly two",
        ),
        Misconception(
            "padding at one edge",
            padding_on_one_side,
            "padding is added at both edges, so the side grows by twice the padding",
        ),
        Misconception(
            "padding left out",
            without_padding,
            "you leave out the padding. It is added at both edges before the filter moves: side + 2·padding",
        ),
        Misconception(
            "one position forgotten",
            one_place_forgotten,
            "one position is missing along each side: a filter as wide as the image still fits once. Add 1 after "
            "dividing",
        ),
        Misconception(
            "the kernel's width forgotten",
            kernel_forgotten,
            "you use side // stride as the new side. The kernel's width and the padding change it as well",
        ),
        Misconception(
            "the kernel's width forgotten, rounded up",
            kernel_forgotten_rounded_up,
            "you use side / stride, rounded up, as the new side. That is correct for one padding only: the kernel's "
            "width and the padding change it",
        ),
        Misconception(
            "the kernel along one side",
            kernel_along_one_side,
            "exactly kernel times too small: the kernel is a square, kernel × kernel",
        ),
        Misconception(
            "the positions along one side",
            places_along_one_side,
            "you count the positions along one side only: there are new side × new side",
        ),
        Misconception(
            "a side that is not rounded",
            side_not_rounded,
            "correct if the stride divides evenly. Otherwise you count a fraction of a position: the filter visits "
            "only positions where it fits, so divide with //",
        ),
        Misconception(
            "the side rounded up",
            side_rounded_up,
            "correct if the stride divides evenly. Otherwise you count a position where the filter sticks out over "
            "the edge: divide with //",
        ),
        Misconception(
            "biases counted",
            biases_counted,
            "you count one addition for the bias of every output value. Do not count biases here",
        ),
        Misconception(
            "one output channel",
            one_output_channel,
            "you forget the output channels. Each has its own filters, one for every input channel. A single filter "
            "for each input channel would be a depthwise convolution",
        ),
        Misconception(
            "the stride forgotten",
            stride_forgotten,
            "you leave out the stride. The filter visits only every stride-th position along each side",
        ),
    ),
    shows="work is weights times positions, so an early layer with few weights can cost most.",
    derivation=(
        "A filter fits at (side + 2·padding - kernel) // stride + 1 positions along a side. Each of the outputs · "
        "positions² values is a sum of inputs · kernel² products."
    ),
    forbidden=("kdcourse.metrics.count_macs",),
)
