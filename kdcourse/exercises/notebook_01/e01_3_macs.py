"""01.3 the work of a convolution."""

import torch
import torch.nn.functional as F

from ..engine.core import Case, Exercise, Misconception, case


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


def macs_cases() -> list[Case]:
    # the last has a side that the stride does not divide
    return [case(3, 4, 3, 8, 1, 0), case(16, 32, 3, 14, 2, 1), case(2, 5, 5, 9, 1, 2), case(2, 3, 3, 7, 2, 1)]


EXERCISE = Exercise(
    id="01.3",
    title="the work of a convolution",
    question=(
        "Write `my_conv_macs(inputs, outputs, kernel, side, stride, padding)`: the number of "
        "multiply-accumulates of one "
        "convolution on one square image. `inputs` and `outputs` count channels, `side` is the image's side *before* "
        "the convolution, `padding` is added at each edge. Biases are not counted."
    ),
    skeleton=(
        "def my_conv_macs(inputs, outputs, kernel, side, stride, padding):\n"
        '    """Multiply-accumulates of one convolution on one image."""\n    ...'
    ),
    reference=conv_macs,
    alternatives=(macs_by_running, macs_by_positions),
    cases=macs_cases,
    hints=(
        "How many numbers come out, and what does one of them cost?",
        "One output number costs inputs × kernel × kernel. There are outputs × new side × new side of them.",
        "The new side is `(side + 2 * padding - kernel) // stride + 1`.",
    ),
    misconceptions=(
        Misconception(
            "the side before the convolution",
            input_side,
            "you use the side before the convolution. The filter stops only at every stride-th place: count the places "
            "of the *output*",
        ),
        Misconception(
            "weights for work",
            weights_only,
            "this is the number of weights. Each weight is used again at every place of the output: weights are not "
            "work",
        ),
        Misconception(
            "one input channel",
            one_input_channel,
            "you forget the input channels. Each output channel has a filter of its own for every one of them",
        ),
        Misconception(
            "operations for multiply-accumulates",
            additions_too,
            "twice too large: you count multiplication and addition apart. A multiply-accumulate is both at once. "
            "Published numbers mix the two, so a ratio of exactly two deserves suspicion",
        ),
        Misconception(
            "padding at one edge",
            padding_on_one_side,
            "padding is added at both edges, so the side grows by twice as much",
        ),
    ),
    shows="work is weights times places, which is why an early layer with few weights can cost most.",
    derivation=(
        "A filter fits at (side + 2·padding - kernel) // stride + 1 places along a side. Each of the outputs · places² "
        "numbers is a sum of inputs · kernel² products."
    ),
    forbidden=("kdcourse.metrics.count_macs",),
)
