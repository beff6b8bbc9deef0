"""07.4 a scale for every output channel."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def channel_scales(weight: Tensor, *, bits: int) -> Tensor:
    scales = weight.abs().flatten(1).amax(dim=1) / (2 ** (bits - 1) - 1)
    return torch.where(scales == 0, torch.ones_like(scales), scales)


def scales_by_loop(weight: Tensor, *, bits: int) -> Tensor:
    largest = torch.stack([channel.abs().max() for channel in weight])
    return (largest / (2 ** (bits - 1) - 1)).masked_fill(largest == 0, 1.0)


def scales_from_both_ends(weight: Tensor, *, bits: int) -> Tensor:
    low, high = weight.reshape(len(weight), -1).aminmax(dim=1)
    last = (1 << bits - 1) - 1
    largest = torch.maximum(-low, high)
    return (largest + last * (largest == 0)) / last


def _alive(scales: Tensor) -> Tensor:
    return scales.masked_fill(scales == 0, 1.0)


def scales_of_input_channels(weight: Tensor, *, bits: int) -> Tensor:
    return channel_scales(weight.transpose(0, 1), bits=bits)


def one_scale_for_all(weight: Tensor, *, bits: int) -> Tensor:
    return weight.abs().max() / (2 ** (bits - 1) - 1)


def one_scale_repeated(weight: Tensor, *, bits: int) -> Tensor:
    return one_scale_for_all(weight, bits=bits).repeat(len(weight))


def dead_channel_without_scale(weight: Tensor, *, bits: int) -> Tensor:
    return weight.abs().flatten(1).amax(dim=1) / (2 ** (bits - 1) - 1)


def dead_channel_is_nan(weight: Tensor, *, bits: int) -> Tensor:
    scales = dead_channel_without_scale(weight, bits=bits)
    return scales * scales / scales


def all_codes_of_a_sign(weight: Tensor, *, bits: int) -> Tensor:
    return _alive(weight.abs().flatten(1).amax(dim=1) / 2 ** (bits - 1))


def bits_without_sign(weight: Tensor, *, bits: int) -> Tensor:
    return _alive(weight.abs().flatten(1).amax(dim=1) / (2**bits - 1))


def without_absolute_value(weight: Tensor, *, bits: int) -> Tensor:
    return _alive(weight.flatten(1).amax(dim=1) / (2 ** (bits - 1) - 1))


def absolute_value_last(weight: Tensor, *, bits: int) -> Tensor:
    return _alive(weight.flatten(1).amax(dim=1).abs() / (2 ** (bits - 1) - 1))


def affine_steps(weight: Tensor, *, bits: int) -> Tensor:
    low, high = weight.flatten(1).aminmax(dim=1)
    return _alive((high - low) / (2**bits - 1))


def mean_size(weight: Tensor, *, bits: int) -> Tensor:
    return _alive(weight.abs().flatten(1).mean(dim=1) / (2 ** (bits - 1) - 1))


def channel_cases() -> list[Case]:
    small = torch.tensor([[0.5, -2.0, 1.0], [0.0, 0.0, 0.0], [-0.25, 0.125, -0.5]], dtype=torch.float64)
    square = draw(4, 4, 3, 3, seed=702) * torch.tensor([0.01, 1.0, 0.0, 30.0], dtype=torch.float64).view(4, 1, 1, 1)
    wide = draw(3, 5, seed=703)
    return [case(small, bits=8), case(square, bits=4), case(wide, bits=2), case(-wide.abs().mT, bits=3)]


def channels_drawn(g: torch.Generator) -> Case:
    sizes = [integer(g, 2, 5), integer(g, 1, 4), *[integer(g, 1, 3)] * integer(g, 0, 2)]
    weight = draw(*sizes, seed=g)
    weight[integer(g, 0, sizes[0] - 1)] *= integer(g, 0, 1)
    return case(weight.float() if integer(g, 0, 1) else weight, bits=integer(g, 2, 8))


EXERCISE = Exercise(
    id="07.4",
    title="a scale for every output channel",
    question=(
        "`weight` belongs to a linear layer, shape (O, I), or a convolution, shape (O, I, height, width). O is the "
        "number of output channels. Write `my_channel_scales(weight, *, bits)`: a tensor (O,), for each output channel "
        "the scale of its symmetric quantization. The codes are integers from -(2^(bits-1) - 1) to 2^(bits-1) - "
        "1, the zero point is 0, and the largest absolute weight of a channel gets the last code. A channel whose "
        "weights are all 0 gets the scale 1."
    ),
    skeleton=(
        'def my_channel_scales(weight, *, bits):\n    """The symmetric scale of every output channel, (O,)."""\n    ...'
    ),
    reference=channel_scales,
    alternatives=(scales_by_loop, scales_from_both_ends),
    cases=channel_cases,
    drawn=channels_drawn,
    hints=(
        "Which dimension stays? Everything that one output channel reads shares a scale.",
        "`weight.abs().flatten(1)` has a row for every output channel. And what is 0 / 0?",
        "`scales = weight.abs().flatten(1).amax(dim=1) / (2 ** (bits - 1) - 1)`, then "
        "`torch.where(scales == 0, 1.0, scales)`.",
    ),
    misconceptions=(
        Misconception(
            "scales of the input channels",
            scales_of_input_channels,
            "this is a scale for every input channel. Output channels with small weights then get the step of "
            "large ones: the worst falls from some 43 dB to 9. In a square layer the shape does not show it. "
            "Dimension 0 must stay",
        ),
        Misconception(
            "one scale for all",
            one_scale_for_all,
            "this is one scale for the whole tensor. The loudest channel then sets the step, and the weights of quiet "
            "ones all round to 0. Take the maximum of each channel",
        ),
        Misconception(
            "one scale repeated",
            one_scale_repeated,
            "the shape is right, but every channel has the same scale. The loudest sets the step, and the weights of "
            "quiet ones all round to 0. Take the maximum of each channel",
        ),
        Misconception(
            "a dead channel's scale is 0",
            dead_channel_without_scale,
            "right but for the dead channel: its scale is 0, or next to it. Quantizing it means 0 / 0, which is NaN, "
            "and one NaN makes every later output NaN. Any positive scale represents zeros exactly: take 1",
        ),
        Misconception(
            "a dead channel's scale is NaN",
            dead_channel_is_nan,
            "right but for the dead channel: somewhere you divide 0 by 0, and that is NaN. One NaN makes every later "
            "output NaN. Give that channel the scale 1",
        ),
        Misconception(
            "2^(bits-1) for the last code",
            all_codes_of_a_sign,
            "you divide by 2^(bits-1). That is one code more than there is on the positive side: the largest weight "
            "would get 128 with 8 bits, and saturate",
        ),
        Misconception(
            "a sign for free",
            bits_without_sign,
            "you divide by 2^bits - 1, as if all codes were positive. One bit goes to the sign: here half of the range "
            "would saturate",
        ),
        Misconception(
            "no absolute value",
            without_absolute_value,
            "you take the largest weight with its sign. A channel whose negative weights are larger saturates, and one "
            "with negative weights alone gets a negative scale",
        ),
        Misconception(
            "absolute value too late",
            absolute_value_last,
            "you take the absolute value of the maximum. The most negative weight has been lost by then: "
            "first absolute values, then the maximum",
        ),
        Misconception(
            "affine steps",
            affine_steps,
            "this is the affine scale, (max - min) / (2^bits - 1). It needs a zero point of its own; with zero point 0 "
            "the longer side saturates",
        ),
        Misconception(
            "the mean for the maximum",
            mean_size,
            "you take the mean of the absolute weights. All that are larger than it would saturate",
        ),
    ),
    shows="each output channel gets the step that its own largest weight needs, and a channel of zeros does no harm.",
    derivation=(
        "|w| ≤ s · (2^(bits-1) - 1) for all w of a channel, with equality for the largest. Output k is a sum over "
        "weight[k] alone, so s_k can be taken out of the sum; a scale for each input could not. For a channel of zeros "
        "any s gives 0 exactly. Source: Krishnamoorthi 2018, arXiv:1806.08342."
    ),
    forbidden=("kdcourse.quantization.choose_qparams", "kdcourse.quantization.qparams_from_range"),
)
