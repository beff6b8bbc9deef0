"""06.4 half the channels, a quarter of the work."""

import math

import torch
from torch import nn

from ..engine.core import Case, Exercise, Misconception, case, integer


def macs_of(widths: list[int], side: int, classes: int) -> int:
    total, inputs = 0, 1
    for outputs in widths:
        side = (side + 1) // 2
        total += 9 * inputs * outputs * side**2
        inputs = outputs
    return total + inputs * side**2 * classes


def macs(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    return macs_of(channels, side, classes), macs_of(kept, side, classes)


def macs_by_layers(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    found = []
    for widths in (channels, kept):
        image, total = torch.zeros(1, 1, side, side), 0
        for outputs in widths:
            conv = nn.Conv2d(image.shape[1], outputs, 3, stride=2, padding=1)
            image = conv(image)
            total += image.numel() * conv.weight[0].numel()
        found.append(total + image.numel() * classes)
    return found[0], found[1]


def macs_by_pairs(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    def count(widths: list[int]) -> int:
        areas = [math.ceil(side / 2**layer) ** 2 for layer in range(1, len(widths) + 1)]
        convolutions = sum(9 * a * b * area for a, b, area in zip([1, *widths], widths, areas, strict=False))
        return convolutions + widths[-1] * areas[-1] * classes

    return count(channels), count(kept)


def masks_save(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    return macs_of(kept, side, classes), macs_of(kept, side, classes)


def _with_full_inputs(channels: list[int], kept: list[int], side: int, read: int) -> int:
    """Kept outputs, but all inputs; ``read`` products for each place of the last output."""
    total = 0
    for inputs, outputs in zip([1, *channels], kept, strict=False):
        side = (side + 1) // 2
        total += 9 * inputs * outputs * side**2
    return total + read * side**2


def only_outputs_shrink(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    return macs_of(channels, side, classes), _with_full_inputs(channels, kept, side, channels[-1] * classes)


def only_the_linear_layer_reads_less(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    return macs_of(channels, side, classes), _with_full_inputs(channels, kept, side, kept[-1] * classes)


def share_squared(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    whole = macs_of(channels, side, classes)
    return whole, whole * sum(kept) ** 2 // sum(channels) ** 2


def _miscounted(widths: list[int], side: int, classes: int, *, mistake: str) -> int:
    total, inputs = 0, 1
    for outputs in widths:
        before, side = side, side // 2 if mistake == "down" else (side + 1) // 2
        places = {"parameters": 1, "input side": before**2}.get(mistake, side**2)
        total += 9 * inputs * outputs * places
        inputs = outputs
    return total + (0 if mistake == "no linear" else inputs * side**2 * classes)


def parameters_counted(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    one, other = (_miscounted(widths, side, classes, mistake="parameters") for widths in (channels, kept))
    return one, other


def input_side(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    one, other = (_miscounted(widths, side, classes, mistake="input side") for widths in (channels, kept))
    return one, other


def rounded_down(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    one, other = (_miscounted(widths, side, classes, mistake="down") for widths in (channels, kept))
    return one, other


def linear_forgotten(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    one, other = (_miscounted(widths, side, classes, mistake="no linear") for widths in (channels, kept))
    return one, other


def results_swapped(channels: list[int], kept: list[int], side: int, classes: int) -> tuple[int, int]:
    return macs_of(kept, side, classes), macs_of(channels, side, classes)


def macs_cases() -> list[Case]:
    return [case([4, 6], [1, 3], 7, 3), case([16, 32, 48], [8, 16, 24], 28, 10), case([5, 8], [5, 2], 10, 4)]


def macs_drawn(g: torch.Generator) -> Case:
    channels = [integer(g, 2, 9) for _ in range(integer(g, 1, 3))]
    return case(channels, [integer(g, 1, width) for width in channels], integer(g, 5, 20), integer(g, 2, 10))


EXERCISE = Exercise(
    id="06.4",
    title="half the channels, a quarter of the work",
    question=(
        "The course's network takes an image (1, side, side). For each entry of `channels` it has a 3×3 convolution "
        "with so many outputs, without bias. Each reads the outputs of the one before and halves the side, "
        "rounded *up*: 28 → 14 → 7 → 4. A flatten and one linear layer to `classes` outputs follow. `kept`, a list "
        "as long as `channels`, says how many channels are kept in each layer. Write "
        "`my_macs(channels, kept, side, classes)`: two integers, the multiply-accumulates for one image that "
        "PyTorch carries out (first) if the other channels are masked with zeros, (second) if they are removed. "
        "MACs on padding count. Norms, ReLUs and biases do not."
    ),
    skeleton=(
        "def my_macs(channels, kept, side, classes):\n"
        '    """Multiply-accumulates for one image: (masked, removed)."""\n    ...'
    ),
    reference=macs,
    alternatives=(macs_by_layers, macs_by_pairs),
    cases=macs_cases,
    drawn=macs_drawn,
    hints=(
        "How many multiplications make one number of a convolution's output? How many such numbers are there?",
        "A layer: 9 · inputs · outputs · (side of its **output**)². The linear layer: inputs · side² · classes. Does a "
        "dense convolution look whether a weight is 0?",
        "One function `count(widths)` that goes through the layers with `side = (side + 1) // 2`. The answer is "
        "`count(channels), count(kept)`.",
    ),
    misconceptions=(
        Misconception(
            "masks save time",
            masks_save,
            "you expect masked channels to cost nothing. A dense convolution multiplies with zeros as with any other "
            "number, and stores them: a mask saves neither time nor memory",
        ),
        Misconception(
            "only the outputs shrink",
            only_outputs_shrink,
            "you shrink each layer's outputs, but let the next layer read as many inputs as before. They go as well, "
            "which is why half the channels are about a quarter of the work",
        ),
        Misconception(
            "convolutions read as before",
            only_the_linear_layer_reads_less,
            "the linear layer reads fewer channels in your count, but each convolution still reads all of the layer "
            "before. What is removed as an output is missing there as an input",
        ),
        Misconception(
            "the fraction squared",
            share_squared,
            "you square the fraction of the channels. That holds between two pruned layers only: the image's own "
            "channel and the classes stay, and layers may keep different fractions",
        ),
        Misconception(
            "parameters counted",
            parameters_counted,
            "you count a convolution's weights. Each is used again at every position of the output, so the work is the "
            "weights times the output's side squared",
        ),
        Misconception(
            "the side of the input",
            input_side,
            "you multiply by the side of the input. With stride 2 a filter is computed at every second position, "
            "once for each number of the output",
        ),
        Misconception(
            "sides rounded down",
            rounded_down,
            "you round an odd side down. With padding 1 the last position still counts: 7 becomes 4",
        ),
        Misconception(
            "the linear layer forgotten",
            linear_forgotten,
            "the linear layer is missing. It also multiplies: each of its inputs with one weight per class",
        ),
        Misconception(
            "results swapped",
            results_swapped,
            "both numbers are right, in the wrong order: masked first, removed second",
        ),
    ),
    shows="work goes with inputs times outputs, so removing half of both leaves a quarter; a mask leaves all of it.",
    derivation=(
        "Each of outputs · side² numbers is a sum of 9 · inputs products. A removed channel is missing as an output "
        "here and as an input there. Between two layers that keep the fraction a, a² of the work is left; in the first "
        "and in the linear layer a is, for the image's channel and the classes stay."
    ),
    forbidden=("kdcourse.metrics.count_macs",),
)
