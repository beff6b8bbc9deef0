"""18.5 outliers moved into the weights."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import table

Smoothed = tuple[Tensor, Tensor, list[Tensor]]


def smooth(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    largest = inputs.reshape(-1, len(gain)).abs().amax(dim=0)
    used = torch.cat(readers).abs().amax(dim=0)
    scale = torch.where((largest > 0) & (used > 0), largest**alpha / used ** (1 - alpha), 1.0)
    return gain / scale, bias / scale, [weight * scale for weight in readers]


def smooth_by_channels(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    gain, bias, readers = gain.clone(), bias.clone(), [weight.clone() for weight in readers]
    for j in range(len(gain)):
        largest = float(inputs[..., j].abs().max())
        used = max(float(weight[:, j].abs().max()) for weight in readers)
        if largest == 0 or used == 0:
            continue
        scale = largest**alpha * used ** (alpha - 1)
        gain[j] /= scale
        bias[j] /= scale
        for weight in readers:
            weight[:, j] *= scale
    return gain, bias, readers


def smooth_in_logarithms(
    gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float
) -> Smoothed:
    largest = inputs.flatten(0, -2).T.norm(p=float("inf"), dim=1)
    used = torch.stack([weight.abs().max(dim=0).values for weight in readers]).max(dim=0).values
    logarithm = alpha * largest.log() - (1 - alpha) * used.log()
    logarithm[(largest == 0) | (used == 0)] = 0
    down, up = torch.diag((-logarithm).exp()), torch.diag(logarithm.exp())
    return gain @ down, bias @ down, [weight @ up for weight in readers]


def _rescaled(gain: Tensor, bias: Tensor, readers: list[Tensor], scale: Tensor) -> Smoothed:
    return gain / scale, bias / scale, [weight * scale for weight in readers]


def _formula(largest: Tensor, used: Tensor, alpha: float) -> Tensor:
    return torch.where((largest > 0) & (used > 0), largest**alpha / used ** (1 - alpha), 1.0)


def _sizes(readers: list[Tensor], inputs: Tensor) -> tuple[Tensor, Tensor]:
    return inputs.flatten(0, -2).abs().amax(dim=0), torch.cat(readers).abs().amax(dim=0)


def first_reader_alone(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    new_gain, new_bias, new = smooth(gain, bias, readers, inputs, alpha=alpha)
    return new_gain, new_bias, [new[0], *readers[1:]]


def scales_of_the_first(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    return _rescaled(gain, bias, readers, _formula(*_sizes(readers[:1], inputs), alpha))


def scales_of_each(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    scales = [_formula(*_sizes([weight], inputs), alpha) for weight in readers]
    return gain / scales[0], bias / scales[0], [w * s for w, s in zip(readers, scales, strict=True)]


def bias_forgotten(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    new_gain, _, new = smooth(gain, bias, readers, inputs, alpha=alpha)
    return new_gain, bias, new


def norm_forgotten(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    return gain, bias, smooth(gain, bias, readers, inputs, alpha=alpha)[2]


def upside_down(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    return _rescaled(gain, bias, readers, 1 / _formula(*_sizes(readers, inputs), alpha))


def alpha_the_other_way(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    return smooth(gain, bias, readers, inputs, alpha=1 - alpha)


def same_power(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    largest, used = _sizes(readers, inputs)
    scale = torch.where((largest > 0) & (used > 0), (largest / used) ** alpha, 1.0)
    return _rescaled(gain, bias, readers, scale)


def multiplied(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    largest, used = _sizes(readers, inputs)
    scale = torch.where((largest > 0) & (used > 0), largest**alpha * used ** (1 - alpha), 1.0)
    return _rescaled(gain, bias, readers, scale)


def mean_sizes(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    largest = inputs.flatten(0, -2).abs().mean(dim=0)
    return _rescaled(gain, bias, readers, _formula(largest, _sizes(readers, inputs)[1], alpha))


def signed_inputs(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    largest, used = inputs.flatten(0, -2).amax(dim=0), _sizes(readers, inputs)[1]
    return _rescaled(gain, bias, readers, _formula(largest, used, alpha))


def signed_weights(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    largest, used = _sizes(readers, inputs)[0], torch.cat(readers).amax(dim=0)
    return _rescaled(gain, bias, readers, _formula(largest, used, alpha))


def last_position(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    return smooth(gain, bias, readers, inputs.flatten(0, -2)[-1:], alpha=alpha)


def no_exception(gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float) -> Smoothed:
    largest, used = _sizes(readers, inputs)
    return _rescaled(gain, bias, readers, largest**alpha / used ** (1 - alpha))


def a_small_number_added(
    gain: Tensor, bias: Tensor, readers: list[Tensor], inputs: Tensor, *, alpha: float
) -> Smoothed:
    largest, used = (size.clamp(min=1e-5) for size in _sizes(readers, inputs))
    return _rescaled(gain, bias, readers, largest**alpha / used ** (1 - alpha))


def _inputs(seed: int | torch.Generator, *shape: int) -> Tensor:
    """Activations with one channel far larger than the others."""
    x = draw(*shape, seed=seed, spread=1.0)
    x[..., 1] *= 40
    return x


def _case(seed: int | torch.Generator, channels: int, outputs: list[int], shape: tuple[int, ...], alpha: float) -> Case:
    def drawn(place: int, *size: int) -> Tensor:
        return draw(*size, seed=seed + place if isinstance(seed, int) else seed, spread=1.0)

    readers = [drawn(3 + place, size, channels) for place, size in enumerate(outputs)]
    inputs = _inputs(seed + 2 if isinstance(seed, int) else seed, *shape, channels)
    return case(drawn(0, channels), drawn(1, channels), readers, inputs, alpha=alpha)


def smooth_cases() -> list[Case]:
    gain, bias = table([1.0, -2.0]), table([0.5, 3.0])
    inputs, reader = table([[1.0, -50.0], [-2.0, 10.0]]), table([[0.5, -0.1]])
    dead = _case(40, 5, [3, 4], (6,), 0.5)
    dead.arguments[3][:, 0] = 0
    dead.arguments[2][0][:, 2] = 0
    for weight in dead.arguments[2]:
        weight[:, 3] = 0
    extreme = [_case(50, 4, [2, 3], (5,), 0.0), _case(60, 4, [4, 2], (5,), 1.0)]
    for each in extreme:
        each.arguments[3][:, 2] = 0
        each.arguments[2][0][:, 3] = each.arguments[2][1][:, 3] = 0
    return [
        case(gain, bias, [reader], inputs, alpha=0.5),
        case(gain.clone(), bias.clone(), [reader.clone(), table([[0.2, 0.4]])], inputs.clone(), alpha=0.5),
        _case(10, 3, [3], (4,), 0.75),
        _case(20, 4, [2, 5, 4], (7,), 0.5),
        _case(30, 3, [3, 3], (2, 5), 0.3),
        dead,
        *extreme,
    ]


def drawn_smooth(g: torch.Generator) -> Case:
    outputs = [integer(g, 1, 4) for _ in range(integer(g, 1, 3))]
    return _case(g, integer(g, 2, 5), outputs, (integer(g, 2, 6),), integer(g, 1, 9) / 10)


EXERCISE = Exercise(
    id="18.5",
    title="outliers moved into the weights",
    question=(
        "A norm ends by multiplying with `gain` and adding `bias`, tensors (C,). `readers` lists the weights of all "
        "layers that read its output, tensors (outputs, C), each with its own number of outputs. `inputs`, a tensor "
        "(…, C), is what they read on some text. Write `my_smooth(gain, bias, readers, inputs, *, alpha)`. For each "
        "channel j, s_j = max|x_j|^alpha / max|W_j|^(1 - alpha): the first maximum is over all positions of `inputs`, "
        "the second over all rows of all readers. If one of these maxima is 0, or both are, s_j = 1. Return the gain "
        "and the bias divided by s and the list of the readers with their columns multiplied by it, in this order: for "
        "every text the readers then compute what they computed before."
    ),
    skeleton=(
        "def my_smooth(gain, bias, readers, inputs, *, alpha):\n"
        '    """Gain, bias and readers of a norm: the same function, with smaller activations."""\n    ...'
    ),
    reference=smooth,
    alternatives=(smooth_by_channels, smooth_in_logarithms),
    cases=smooth_cases,
    drawn=drawn_smooth,
    hints=(
        "What the norm's output is divided by, every layer that reads it has to multiply by. Where does the norm's "
        "output come from?",
        "One scale per channel, the same for all readers: `torch.cat(readers)` has all their rows. The norm's output "
        "is normalized · gain + bias, so both are divided.",
        "`largest = inputs.reshape(-1, C).abs().amax(dim=0)`, `used = torch.cat(readers).abs().amax(dim=0)`, and "
        "`torch.where((largest > 0) & (used > 0), largest**alpha / used ** (1 - alpha), 1.0)`.",
    ),
    misconceptions=(
        Misconception(
            "the first reader alone",
            first_reader_alone,
            "only the first reader is multiplied. The others now read activations that are divided, and nothing makes "
            "up for it: the network computes something else",
        ),
        Misconception(
            "the scales of the first reader",
            scales_of_the_first,
            "your scales look at the first reader alone. The maximum is over the rows of all readers",
        ),
        Misconception(
            "scales of their own",
            scales_of_each,
            "each reader gets scales of its own. The norm can be divided by one set of them only",
        ),
        Misconception(
            "the bias forgotten",
            bias_forgotten,
            "the bias is not divided. It is a part of the norm's output as the gain is",
        ),
        Misconception(
            "the norm forgotten",
            norm_forgotten,
            "you multiply the readers, but leave gain and bias as they were: the network computes something else",
        ),
        Misconception(
            "upside down",
            upside_down,
            "the scales are the wrong way round: you multiply the norm and divide the readers. Large activations get "
            "larger still",
        ),
        Misconception(
            "alpha the other way round",
            alpha_the_other_way,
            "you took alpha for 1 - alpha. It is the power of the activations: with alpha = 1 all of their range moves "
            "into the weights",
        ),
        Misconception(
            "the same power for both",
            same_power,
            "both maxima get the power alpha. The one of the weights has 1 - alpha; only at 0.5 that is the same",
        ),
        Misconception(
            "multiplied",
            multiplied,
            "you multiply by the power of the weights' maximum. Where weights are large already, less can move into "
            "them: divide",
        ),
        Misconception(
            "the mean of the activations",
            mean_sizes,
            "you take the mean of the activations' absolute values. What decides the steps of 8 bits is their maximum",
        ),
        Misconception(
            "signed activations",
            signed_inputs,
            "you take the largest activation instead of the largest absolute value: a channel that is large below zero "
            "is overlooked",
        ),
        Misconception(
            "signed weights",
            signed_weights,
            "you take the largest weight instead of the largest absolute value",
        ),
        Misconception(
            "one position",
            last_position,
            "you look at a single position. The maximum is over all positions of the text",
        ),
        Misconception(
            "zeros without an exception",
            no_exception,
            "a channel of zeros gives a scale of 0 or infinity, and then NaN or weights that are gone. There s = 1",
        ),
        Misconception(
            "a small number instead of 0",
            a_small_number_added,
            "you replace a maximum of 0 by a small number. Its power makes the scale very large or very small: a dead "
            "channel is to stay as it is, with s = 1",
        ),
    ),
    shows="an outlier need not be rounded where it hurts: a scale moves it into the weights, and nothing changes.",
    derivation=(
        "(x / s) · (W · s)ᵀ = x · Wᵀ for each channel, whatever s > 0 is. Afterwards max|x_j| / s_j = (max|x_j| · "
        "max|W_j|)^(1 - alpha) and max|W_j| · s_j = (max|x_j| · max|W_j|)^alpha: at 0.5 both sides have the same "
        "range. Source: Xiao et al. 2022, arXiv:2211.10438, section 4."
    ),
    forbidden=("kdcourse.quantization.smooth",),
)
