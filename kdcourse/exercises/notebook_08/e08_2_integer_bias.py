"""08.2 a bias in the accumulators' unit."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def integer_bias(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return torch.round(bias / (input_scale * weight_scales)).to(torch.int32)


def bias_in_two_steps(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return (bias / weight_scales / input_scale).round().int()


def bias_one_by_one(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    pairs = zip(bias.tolist(), weight_scales.tolist(), strict=True)
    return torch.tensor([round(value / (input_scale * scale)) for value, scale in pairs], dtype=torch.int32)


def bias_by_half_up(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return torch.floor(bias / (input_scale * weight_scales) + 0.5).to(torch.int32)


def _counted(bias: Tensor, scale: Tensor | float) -> Tensor:
    return torch.round(bias / scale).to(torch.int32)


def bias_of_its_own(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return _counted(bias, bias.abs().max() / 127)


def bias_clamped(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return _counted(bias, input_scale * weight_scales).clamp(-128, 127)


def bias_wrapped(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return _counted(bias, input_scale * weight_scales).to(torch.int8).to(torch.int32)


def bias_by_weight_scale(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return _counted(bias, weight_scales)


def bias_by_input_scale(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return _counted(bias, input_scale)


def bias_by_the_first(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return _counted(bias, input_scale * weight_scales[0])


def bias_by_the_largest(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return _counted(bias, input_scale * weight_scales.max())


def bias_rounded_down(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return torch.floor(bias / (input_scale * weight_scales)).to(torch.int32)


def bias_cut_off(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return (bias / (input_scale * weight_scales)).to(torch.int32)


def bias_multiplied(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return torch.round(bias * input_scale * weight_scales).to(torch.int32)


def bias_rounded_up(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return torch.ceil(bias / (input_scale * weight_scales)).to(torch.int32)


def scales_divided(bias: Tensor, input_scale: float, weight_scales: Tensor) -> Tensor:
    return _counted(bias, input_scale / weight_scales)


def bias_cases() -> list[Case]:
    few = torch.tensor([0.3101, -0.02716, 0.75003], dtype=torch.float64)
    return [
        case(few, 0.02, torch.tensor([0.004, 0.005, 0.002], dtype=torch.float64)),
        case(draw(6, seed=811, spread=0.5), 0.013, 0.001 + draw(6, seed=812, spread=0.004).abs()),
        case(draw(9, seed=813, spread=2.0), 0.047, 0.0005 + draw(9, seed=814, spread=0.01).abs()),
    ]


def bias_drawn(g: torch.Generator) -> Case:
    outputs = integer(g, 1, 8)
    scales = 0.001 + draw(outputs, seed=g).abs() / 100
    return case(draw(outputs, seed=g), integer(g, 1, 90) / 1000, scales)


EXERCISE = Exercise(
    id="08.2",
    title="a bias in the accumulators' unit",
    question=(
        "An accumulator of output o counts in steps of `input_scale` · `weight_scales[o]`. The bias is added to it, "
        "so it must be an integer number of the same steps. `bias` (O,) and `weight_scales` (O,) are float64, "
        "`input_scale` is a float; all scales are positive. Write `my_integer_bias(bias, input_scale, "
        "weight_scales)`: the bias in whole steps, rounded to the nearest, as an int32 tensor (O,). No zero point. "
        "There are no ties here, and everything fits in int32."
    ),
    skeleton=(
        "def my_integer_bias(bias, input_scale, weight_scales):\n"
        '    """The bias as int32 (O,), in steps of input scale times weight scale."""\n    ...'
    ),
    reference=integer_bias,
    alternatives=(bias_in_two_steps, bias_one_by_one, bias_by_half_up),
    cases=bias_cases,
    drawn=bias_drawn,
    hints=(
        "Euros and cents cannot be added as they are. What is the unit of the accumulator?",
        "How many steps of `input_scale * weight_scales` are there in the bias? Each output has its own step.",
        "`torch.round(bias / (input_scale * weight_scales)).to(torch.int32)`.",
    ),
    misconceptions=(
        Misconception(
            "8 bits and a scale of its own",
            bias_of_its_own,
            "you give the bias a scale of its own, in 8 bits. It then counts in another unit than the accumulator, "
            "and the two cannot be added. There is one bias for each output, so 32 bits cost little",
        ),
        Misconception(
            "clamped to 8 bits",
            bias_clamped,
            "the unit is right, but you clamp to 8 bits. This unit is tiny, so a bias is thousands of steps: keep "
            "32 bits",
        ),
        Misconception(
            "wrapped around in int8",
            bias_wrapped,
            "the unit is right, but a cast to int8 wraps your numbers around. A bias is thousands of these tiny "
            "steps: keep 32 bits",
        ),
        Misconception(
            "the weight scale alone",
            bias_by_weight_scale,
            "you divide by the weight scale alone. The accumulator sums products of an input and a weight, so its "
            "step is the product of both scales",
        ),
        Misconception(
            "the input scale alone",
            bias_by_input_scale,
            "you divide by the input scale alone. The accumulator sums products of an input and a weight, so each "
            "output's weight scale belongs to its step",
        ),
        Misconception(
            "the first channel's scale for all",
            bias_by_the_first,
            "you use the first weight scale for every output. Each output has its own, and so its own step",
        ),
        Misconception(
            "the largest scale for all",
            bias_by_the_largest,
            "you use the largest weight scale for every output, as if the weights had one scale. Each output has its "
            "own, and so its own step",
        ),
        Misconception(
            "rounded down",
            bias_rounded_down,
            "you round down. Every bias then loses half a step on average, all in the same direction, and the next "
            "layers sum that up. Round to the nearest",
        ),
        Misconception(
            "truncated",
            bias_cut_off,
            "a cast to int32 truncates: it pulls every bias toward 0. Round first, then cast",
        ),
        Misconception(
            "multiplied instead of divided",
            bias_multiplied,
            "you multiply by the scales. A number of steps is value / step; your result is nearly 0 everywhere",
        ),
        Misconception(
            "rounded up",
            bias_rounded_up,
            "you round up. The nearest integer is asked for: `torch.round`",
        ),
        Misconception(
            "one scale divided by the other",
            scales_divided,
            "you divide one scale by the other. A step of the accumulator is their product",
        ),
    ),
    shows="a bias is added to the accumulator, so it has the accumulator's scale, one for each output, and 32 bits.",
    derivation=(
        "Σ x w + b = s_x s_w (Σ (q - z) v + b / (s_x s_w)), so b's scale is s_x s_w and its zero point 0. "
        "Source: Jacob et al. 2018, arXiv:1712.05877, section 2.4."
    ),
    relative=0.0,
    absolute=0.0,
)
