"""Exercises of notebook 08: sums in 32 bits, a factor as a multiplication and a shift, and times worth comparing."""

import math
from fractions import Fraction
from statistics import fmean, median, median_high, median_low

import torch
import torch.nn.functional as F
from torch import Tensor

from .core import Case, Exercise, Misconception, case, draw


def whole(low: int, high: int, *shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    """The same whole numbers from low to high each time."""
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# --- 08.1 -------------------------------------------------------------------------------------------------------------


def integer_sum(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    centred = codes.to(torch.int32) - zero_point
    return centred @ weights.to(torch.int32).T


def sum_with_correction(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    wide = weights.int()
    return codes.int() @ wide.T - zero_point * wide.sum(dim=1, dtype=torch.int32)


def sum_by_float64(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return F.linear(codes.double() - zero_point, weights.double()).to(torch.int32)


def sum_one_by_one(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    rows = [
        [sum((q - zero_point) * w for q, w in zip(row, unit, strict=True)) for unit in weights.tolist()]
        for row in codes.tolist()
    ]
    return torch.tensor(rows, dtype=torch.int32)


def sum_by_products(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    products = (codes.to(torch.int16) - zero_point)[:, None] * weights.to(torch.int16)
    return products.sum(dim=-1, dtype=torch.int32)  # one product fits in 16 bits, the sum does not


def all_in_int8(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return ((codes.to(torch.int8) - zero_point) @ weights.T).to(torch.int32)


def products_in_int8(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return ((codes.to(torch.int8) - zero_point)[:, None] * weights).sum(dim=-1, dtype=torch.int32)


def sums_in_int16(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return ((codes.to(torch.int16) - zero_point) @ weights.to(torch.int16).T).to(torch.int32)


def pairs_saturated(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    products = (codes.int() - zero_point)[:, None] * weights.int()
    pairs = F.pad(products, (0, products.shape[-1] % 2)).unflatten(-1, (-1, 2)).sum(dim=-1)
    return pairs.clamp(-(2**15), 2**15 - 1).sum(dim=-1, dtype=torch.int32)


def sum_saturated(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return integer_sum(codes, weights, zero_point).clamp(-(2**15), 2**15 - 1)


def difference_in_uint8(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return (codes - zero_point).to(torch.int32) @ weights.to(torch.int32).T


def zero_point_forgotten(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return codes.to(torch.int32) @ weights.to(torch.int32).T


def zero_point_of_the_weights(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return codes.to(torch.int32) @ (weights.to(torch.int32) - zero_point).T


def zero_point_once(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return codes.to(torch.int32) @ weights.to(torch.int32).T - zero_point


def zero_point_by_inputs(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return codes.to(torch.int32) @ weights.to(torch.int32).T - zero_point * codes.shape[1]


def sum_cases() -> list[Case]:
    small = torch.tensor([[250, 3]], dtype=torch.uint8), torch.tensor([[2, -1], [100, 120]], dtype=torch.int8)
    codes = whole(0, 255, 3, 40, seed=801, dtype=torch.uint8)
    weights = whole(-127, 127, 4, 40, seed=802, dtype=torch.int8)
    bright = whole(200, 255, 2, 7, seed=803, dtype=torch.uint8)
    large = whole(90, 127, 3, 7, seed=804, dtype=torch.int8)
    return [case(*small, 5), case(codes, weights, 37), case(bright, large, 0), case(bright, -large, 12)]


INTEGER_SUM = Exercise(
    id="08.1",
    title="a sum in 32 bits",
    question=(
        "A linear layer in whole numbers. `codes` (N, I) is uint8, `weights` (O, I) is int8, `zero_point` is an int "
        "from 0 to 255: the code of the real number 0. Weights have no zero point. Write "
        "`my_integer_sum(codes, weights, zero_point)`: the accumulators Σ_i (codes[n, i] - zero_point) · "
        "weights[o, i], exactly, as an int32 tensor (N, O). Every one of them fits in int32."
    ),
    skeleton=(
        "def my_integer_sum(codes, weights, zero_point):\n"
        '    """The int32 accumulators (N, O) of a linear layer."""\n    ...'
    ),
    reference=integer_sum,
    alternatives=(sum_with_correction, sum_by_float64, sum_one_by_one, sum_by_products),
    cases=sum_cases,
    hints=(
        "How large can one product become? And two of them? Which type holds that?",
        "Integer tensors wrap around without a word. Make both int32 before the first subtraction.",
        "`(codes.to(torch.int32) - zero_point) @ weights.to(torch.int32).T`.",
    ),
    misconceptions=(
        Misconception(
            "everything in int8",
            all_in_int8,
            "you compute in int8. One product reaches 255 · 127 = 32385, and int8 ends at 127, so it wraps around "
            "without a warning. Make both int32 first",
        ),
        Misconception(
            "products in int8",
            products_in_int8,
            "your sum is wide, but the products in it are int8 and have wrapped around before they are added. "
            "Make the factors int32, not the result",
        ),
        Misconception(
            "sums in int16",
            sums_in_int16,
            "you add up in int16. It holds one product of 255 · 127, but not two: the sum wraps around at 32767",
        ),
        Misconception(
            "pairs of products saturated at int16",
            pairs_saturated,
            "you add products in pairs that stop at ±2¹⁵. Some processors do this, and that is why their weights are "
            "kept to 7 bits. Two products of 255 · 127 need more",
        ),
        Misconception(
            "the sum saturated at int16",
            sum_saturated,
            "your sums stop at ±2¹⁵. To clamp is better than to wrap around, but the value is lost all the same: an "
            "accumulator has 32 bits",
        ),
        Misconception(
            "zero point subtracted in uint8",
            difference_in_uint8,
            "you subtract while the codes are still uint8. That type knows no negative numbers, so 3 - 5 becomes 254. "
            "Make them int32 first",
        ),
        Misconception(
            "zero point forgotten",
            zero_point_forgotten,
            "the zero point is missing. A code is not the number: the code `zero_point` means 0 and must add nothing",
        ),
        Misconception(
            "zero point subtracted from the weights",
            zero_point_of_the_weights,
            "you subtract the zero point from the weights. It belongs to the codes; these weights are symmetric, and "
            "their 0 is 0",
        ),
        Misconception(
            "zero point subtracted once",
            zero_point_once,
            "you subtract the zero point once from the whole sum. Every input carries it, times its weight: "
            "zero_point · Σ weights must go",
        ),
        Misconception(
            "zero point times the number of inputs",
            zero_point_by_inputs,
            "you subtract the zero point once for every input, but without its weight. In the sum it was multiplied "
            "by each weight: zero_point · Σ weights must go",
        ),
    ),
    shows="int8 products are added in int32, and the zero point leaves every input before it meets its weight.",
    derivation=(
        "x = s_x (q - z), w = s_w v: Σ x w = s_x s_w Σ (q - z) v, and Σ (q - z) v = Σ q v - z Σ v. "
        "Source: Jacob et al. 2018, arXiv:1712.05877, section 2.3."
    ),
    forbidden=("kdcourse.quantization.integer_linear",),
    relative=0.0,
    absolute=0.0,
)

# --- 08.2 -------------------------------------------------------------------------------------------------------------


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


def bias_cases() -> list[Case]:
    few = torch.tensor([0.3101, -0.02716, 0.75003], dtype=torch.float64)
    return [
        case(few, 0.02, torch.tensor([0.004, 0.005, 0.002], dtype=torch.float64)),
        case(draw(6, seed=811, spread=0.5), 0.013, 0.001 + draw(6, seed=812, spread=0.004).abs()),
        case(draw(9, seed=813, spread=2.0), 0.047, 0.0005 + draw(9, seed=814, spread=0.01).abs()),
    ]


INTEGER_BIAS = Exercise(
    id="08.2",
    title="a bias in the accumulators' unit",
    question=(
        "An accumulator of output o counts in steps of `input_scale` · `weight_scales[o]`. The bias is added to it, "
        "so it must be a whole number of the same steps. `bias` (O,) and `weight_scales` (O,) are float64, "
        "`input_scale` is a float; all scales are positive. Write `my_integer_bias(bias, input_scale, "
        "weight_scales)`: the bias in whole steps, rounded to the nearest, as an int32 tensor (O,). No zero point. "
        "Nothing here lies halfway, and everything fits in int32."
    ),
    skeleton=(
        "def my_integer_bias(bias, input_scale, weight_scales):\n"
        '    """The bias as int32 (O,), in steps of input scale times weight scale."""\n    ...'
    ),
    reference=integer_bias,
    alternatives=(bias_in_two_steps, bias_one_by_one, bias_by_half_up),
    cases=bias_cases,
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
            "cut off without rounding",
            bias_cut_off,
            "a cast to int32 cuts the fraction off: it pulls every bias toward 0. Round first, then cast",
        ),
        Misconception(
            "multiplied instead of divided",
            bias_multiplied,
            "you multiply by the scales. A number of steps is value / step; your result is nearly 0 everywhere",
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

# --- 08.3 -------------------------------------------------------------------------------------------------------------

Pair = tuple[int, int]


def multiplier(real: float) -> Pair:
    fraction, exponent = math.frexp(real)
    mantissa = round(fraction * 2**31)
    if mantissa == 2**31:
        return 2**30, -exponent - 1
    return mantissa, -exponent


def multiplier_by_doubling(real: float) -> Pair:
    shift = 0
    while round(real * 2 ** (31 + shift)) < 2**30:
        shift += 1
    while (mantissa := round(real * 2 ** (31 + shift))) >= 2**31:
        shift -= 1
    return mantissa, shift


def multiplier_exactly(real: float) -> Pair:
    return next(
        (mantissa, shift)
        for shift in range(-1, 100)
        if 2**30 <= (mantissa := round(Fraction(real) * 2 ** (31 + shift))) < 2**31
    )


def multiplier_by_tensor(real: float) -> tuple[int, ...]:
    fraction, exponent = torch.frexp(torch.tensor(real, dtype=torch.float64))
    mantissa = torch.round(fraction * 2**31).long()
    full = mantissa >> 31
    return int(mantissa >> full), int(-exponent - full)


def _normal(real: float, bits: int = 31) -> Pair:
    """Rounded to so many bits, and not looked at again."""
    fraction, exponent = math.frexp(real)
    return round(fraction * 2**bits) << (31 - bits), -exponent


def always_shift_zero(real: float) -> Pair:
    return round(real * 2**31), 0


def one_bit_given_away(real: float) -> Pair:
    fraction, exponent = math.frexp(real)
    return round(fraction * 2**30), -exponent - 1


def shift_off_by_one(real: float) -> Pair:
    mantissa, shift = multiplier(real)
    return mantissa, shift + 1


def shift_one_too_few(real: float) -> Pair:
    mantissa, shift = multiplier(real)
    return mantissa, shift - 1


def whole_shift(real: float) -> Pair:
    mantissa, shift = multiplier(real)
    return mantissa, 31 + shift


def exponent_for_shift(real: float) -> Pair:
    mantissa, shift = multiplier(real)
    return mantissa, -shift


def mantissa_cut_off(real: float) -> Pair:
    fraction, exponent = math.frexp(real)
    return int(fraction * 2**31), -exponent


def sixteen_bits(real: float) -> Pair:
    return _normal(real, 15)


def single_precision(real: float) -> Pair:
    return _normal(torch.tensor(real, dtype=torch.float32).item())


def half_precision(real: float) -> Pair:
    return _normal(torch.tensor(real, dtype=torch.float16).item())


def overflow_left(real: float) -> Pair:
    return _normal(real)


def overflow_capped(real: float) -> Pair:
    mantissa, shift = _normal(real)
    return min(mantissa, 2**31 - 1), shift


def overflow_without_shift(real: float) -> Pair:
    mantissa, shift = _normal(real)
    return (mantissa // 2 if mantissa == 2**31 else mantissa), shift


def by_logarithm(real: float) -> Pair:
    shift = math.floor(-math.log2(real))
    return round(real * 2 ** (31 + shift)), shift


def multiplier_cases() -> list[Case]:
    reals = (0.3, 0.0047, 0.5, 0.7310585786, 0.00012345, 0.25 - 2.0**-40, 0.015625)
    return [case(real) for real in reals]


MULTIPLIER = Exercise(
    id="08.3",
    title="a factor without a fraction",
    question=(
        "Between two layers an accumulator is multiplied by a real factor, 0 < `real` < 1, in whole numbers alone. "
        "Write `my_multiplier(real)`: two ints `(mantissa, shift)` with `real` ≈ mantissa · 2^(-31 - shift) and "
        "2^30 ≤ mantissa < 2^31. Of all such pairs return the one that comes nearest to `real`, a Python float. No "
        "`real` here has two that are equally near, and every shift is 0 or more."
    ),
    skeleton=(
        'def my_multiplier(real):\n    """(mantissa, shift): real is about mantissa * 2 ** (-31 - shift)."""\n    ...'
    ),
    reference=multiplier,
    alternatives=(multiplier_by_doubling, multiplier_exactly, multiplier_by_tensor),
    cases=multiplier_cases,
    hints=(
        "As in scientific notation: first move the point until the number has no zeros in front, and count the moves.",
        "`math.frexp(real)` gives a fraction from 0.5 up to 1 and an exponent. The fraction takes 31 bits. And if it "
        "rounds up to a whole 1?",
        "`fraction, exponent = math.frexp(real)`, then `round(fraction * 2**31)` and `-exponent`. If the mantissa "
        "became 2**31, return half of it and one shift fewer.",
    ),
    misconceptions=(
        Misconception(
            "not normalized",
            always_shift_zero,
            "your shift is always 0, so a small factor leaves a mantissa with few bits: below 2^30 precision is given "
            "away. Move the leading 1 to bit 30, and count the moves",
        ),
        Misconception(
            "a mantissa below 2^30",
            one_bit_given_away,
            "your mantissa lies from 2^29 to 2^30: one bit stays unused, and the error doubles. The leading 1 belongs "
            "in bit 30",
        ),
        Misconception(
            "one shift too many",
            shift_off_by_one,
            "your shift is one too large, so every output is halved. `math.frexp` gives a fraction from 0.5 to 1; "
            "one from 1 to 2 has another exponent",
        ),
        Misconception(
            "one shift too few",
            shift_one_too_few,
            "your shift is one too small, so every output is doubled. Test it: mantissa * 2 ** (-31 - shift)",
        ),
        Misconception(
            "the 31 in the shift",
            whole_shift,
            "you return the whole shift, 31 + shift. The formula adds the 31 again, and everything becomes 0",
        ),
        Misconception(
            "the exponent for the shift",
            exponent_for_shift,
            "your shift has the wrong sign. `math.frexp` says by which power of two the fraction is multiplied; a "
            "shift to the right divides",
        ),
        Misconception(
            "mantissa cut off",
            mantissa_cut_off,
            "`int(…)` cuts the mantissa off. It is then too small every time, and up to twice as wrong as a rounded "
            "one",
        ),
        Misconception(
            "a mantissa of 16 bits",
            sixteen_bits,
            "the lower half of your mantissa is empty: 15 bits are used of 31. An accumulator has up to 32 bits, and "
            "a large one comes out wrong",
        ),
        Misconception(
            "through float32",
            single_precision,
            "your factor went through float32, which keeps 24 bits, so the last 7 of your mantissa are lost. A Python "
            "float has 53 bits; a tensor made of one by default does not",
        ),
        Misconception(
            "through float16",
            half_precision,
            "your factor went through float16, which keeps 11 bits at most. That is an error of up to 1 in 2000 in "
            "every output",
        ),
        Misconception(
            "overflow to 2^31",
            overflow_left,
            "right but for one thing: a fraction just below 1 rounds up to a mantissa of 2^31, one more than int32 "
            "holds. Halve it and shift by one less",
        ),
        Misconception(
            "overflow capped",
            overflow_capped,
            "a fraction just below 1 rounds up to 2^31, and you cap it at 2^31 - 1. 2^30 with one shift fewer is "
            "nearer",
        ),
        Misconception(
            "overflow halved alone",
            overflow_without_shift,
            "where the mantissa rounds up to 2^31 you halve it, but leave the shift as it was. The factor is then "
            "half as large",
        ),
        Misconception(
            "2^31 at powers of two",
            by_logarithm,
            "at 1/2, 1/4, 1/8, … your mantissa is 2^31, one more than int32 holds. There `-math.log2(real)` is a whole "
            "number, and the shift is one less than that",
        ),
    ),
    shows="a real factor becomes 31 significant bits and a shift, as near as float arithmetic needs it.",
    derivation=(
        "real = f · 2^e with f in [0.5, 1): mantissa = round(f · 2^31), shift = -e, relative error at most 2^-31. "
        "f above 1 - 2^-32 rounds up to 2^31 = 2 · 2^30. Source: Jacob et al. 2018, arXiv:1712.05877, equation 6."
    ),
    forbidden=("kdcourse.quantization.fixed_point",),
    relative=0.0,
    absolute=0.0,
)

# --- 08.4 -------------------------------------------------------------------------------------------------------------


def requantize(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    half = 2 ** (30 + shift)
    scaled = (accumulators.long() * mantissa + half) >> (31 + shift)
    return (scaled + zero_point).clamp(0, 255).to(torch.uint8)


def requantize_by_division(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    unit = 2 ** (31 + shift)
    shifted = accumulators.to(torch.int64) * mantissa + unit // 2 + zero_point * unit
    return torch.div(shifted, unit, rounding_mode="floor").clamp(min=0, max=255).to(torch.uint8)


def requantize_one_by_one(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    factor = Fraction(mantissa, 2 ** (31 + shift))
    codes = [math.floor(int(value) * factor + Fraction(1, 2)) + zero_point for value in accumulators.flatten()]
    return torch.tensor([min(max(code, 0), 255) for code in codes], dtype=torch.uint8).reshape(accumulators.shape)


def requantize_by_float64(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    scaled = torch.floor(accumulators.double() * (mantissa / 2 ** (31 + shift)) + 0.5)
    return (scaled + zero_point).clamp(0, 255).to(torch.uint8)


def _as_codes(scaled: Tensor, zero_point: int) -> Tensor:
    return (scaled + zero_point).clamp(0, 255).to(torch.uint8)


def _scaled(accumulators: Tensor, mantissa: int, shift: int) -> Tensor:
    return (accumulators.long() * mantissa + 2 ** (30 + shift)) >> (31 + shift)


def _real(accumulators: Tensor, mantissa: int, shift: int) -> Tensor:
    return accumulators.double() * mantissa / 2 ** (31 + shift)


def shift_alone(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes((accumulators.long() * mantissa) >> (31 + shift), zero_point)


def scaled_toward_zero(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(_real(accumulators, mantissa, shift).trunc(), zero_point)


def ties_to_even(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(torch.round(_real(accumulators, mantissa, shift)), zero_point)


def zero_point_before_rounding(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(torch.round(_real(accumulators, mantissa, shift) + zero_point), 0)


def ties_away_from_zero(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    real = _real(accumulators, mantissa, shift)
    return _as_codes(real.sign() * torch.floor(real.abs() + 0.5), zero_point)


def rounded_twice(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    high = (accumulators.long() * mantissa + 2**30) >> 31
    return _as_codes((high + (2**shift >> 1)) >> shift, zero_point)


def rounded_as_gemmlowp(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    high = (accumulators.long() * mantissa + 2**30) >> 31
    below = (high < 0).long() * min(shift, 1)
    return _as_codes((high + (2**shift >> 1) - below) >> shift, zero_point)


def zero_point_before_scaling(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(_scaled(accumulators + zero_point, mantissa, shift), 0)


def codes_without_zero_point(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(_scaled(accumulators, mantissa, shift), 0)


def codes_not_clamped(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return (_scaled(accumulators, mantissa, shift) + zero_point).to(torch.uint8)


def clamped_too_early(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return (_scaled(accumulators, mantissa, shift).clamp(0, 255) + zero_point).to(torch.uint8)


def clamped_as_int8(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return (_scaled(accumulators, mantissa, shift) + zero_point).clamp(-128, 127).to(torch.uint8)


def product_in_int32(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    product = (accumulators * mantissa).long()  # wrapped around before it is widened
    return _as_codes((product + 2 ** (30 + shift)) >> (31 + shift), zero_point)


def everything_in_int32(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes((accumulators * mantissa + 2 ** (30 + shift)) >> (31 + shift), zero_point)


def in_float32(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes(torch.round(accumulators.to(torch.float32) * (mantissa / 2 ** (31 + shift))), zero_point)


def shift_without_31(accumulators: Tensor, mantissa: int, shift: int, zero_point: int) -> Tensor:
    return _as_codes((accumulators.long() * mantissa + (2**shift >> 1)) >> shift, zero_point)


def requantize_cases() -> list[Case]:
    small = torch.tensor(
        [[2, 6, -2, 5], [-6, 1100, -400, -5]], dtype=torch.int32
    )  # times 1/4: halves, and beyond both ends
    return [
        case(small, 2**30, 1, 3),
        case(small.T.contiguous(), 2**30, 1, 128),
        case(whole(-9000, 9000, 3, 30, seed=831, dtype=torch.int32), 1717986918, 5, 120),
        case(whole(-900_000, 900_000, 4, 20, seed=832, dtype=torch.int32), 1288490189, 11, 37),
        case(whole(-40, 300, 2, 25, seed=833, dtype=torch.int32), 1932735283, 0, 0),
    ]


REQUANTIZE = Exercise(
    id="08.4",
    title="back to 8 bits",
    question=(
        "`accumulators` is an int32 tensor (N, O). `mantissa` and `shift` are the ints of 08.3, with "
        "2^30 ≤ mantissa < 2^31 and 0 ≤ shift ≤ 31; `zero_point` is an int from 0 to 255. Write "
        "`my_requantize(accumulators, mantissa, shift, zero_point)`: uint8 codes (N, O). The exact value of "
        "accumulator · mantissa / 2^(31 + shift) is rounded *once*, to the nearest whole number, an exact half up: "
        "0.5 to 1, -0.5 to 0. Then the zero point is added, and codes beyond 0 to 255 become 0 or 255."
    ),
    skeleton=(
        "def my_requantize(accumulators, mantissa, shift, zero_point):\n"
        '    """The uint8 codes of int32 accumulators, scaled by mantissa * 2 ** (-31 - shift)."""\n    ...'
    ),
    reference=requantize,
    alternatives=(requantize_by_division, requantize_one_by_one, requantize_by_float64),
    cases=requantize_cases,
    hints=(
        "How many bits has the product of an int32 and a mantissa? And in which direction does a shift round?",
        "`>>` rounds down. What has to be added before it, so that it rounds to the nearest? Do all of it in int64.",
        "`(accumulators.long() * mantissa + 2 ** (30 + shift)) >> (31 + shift)`, plus the zero point, then "
        "`.clamp(0, 255).to(torch.uint8)`.",
    ),
    misconceptions=(
        Misconception(
            "shifted without rounding",
            shift_alone,
            "a shift rounds down, toward minus infinity. Every code then loses half a step on average, and layers add "
            "that up. Add half of 2^(31 + shift) first",
        ),
        Misconception(
            "cut off toward zero",
            scaled_toward_zero,
            "you cut the fraction off. That pulls every value toward 0 by half a step on average. Round to the nearest",
        ),
        Misconception(
            "halves to the even number",
            ties_to_even,
            "`torch.round` sends an exact half to the even number, 0.5 to 0. Adding half and rounding down sends it "
            "up, and that is what whole numbers can do cheaply",
        ),
        Misconception(
            "zero point added before rounding",
            zero_point_before_rounding,
            "you add the zero point before `torch.round`, which sends a half to the even number. Now an odd zero point "
            "sends halves the other way than an even one. Round first",
        ),
        Misconception(
            "halves away from zero",
            ties_away_from_zero,
            "you send a negative half down: -0.5 to -1. Some runtimes do so, others send halves up; two that disagree "
            "here differ by one code. Half up was asked for",
        ),
        Misconception(
            "rounded twice",
            rounded_twice,
            "you round twice, after 31 bits and after the shift. The first rounding lifts some values from just below "
            "a half onto it, and the second lifts them again. Some runtimes accept that; round once here",
        ),
        Misconception(
            "rounded twice, as gemmlowp does",
            rounded_as_gemmlowp,
            "you round a half up after 31 bits, and a half away from zero after the shift. gemmlowp does, to stay in "
            "32 bits, and now and then it is one code off. Round once here",
        ),
        Misconception(
            "zero point before scaling",
            zero_point_before_scaling,
            "you add the zero point to the accumulators, so it is scaled away with them. It is a code of the output "
            "and comes after the scaling",
        ),
        Misconception(
            "zero point forgotten",
            codes_without_zero_point,
            "the zero point is missing. The real number 0 has the code `zero_point` in the output, not 0",
        ),
        Misconception(
            "not clamped",
            codes_not_clamped,
            "a cast to uint8 wraps around: 278 becomes 22, and the brightest turns dark. Clamp to 0 and 255 first",
        ),
        Misconception(
            "clamped before the zero point",
            clamped_too_early,
            "you clamp before the zero point is added. Every value below the real 0 is lost, and large codes still "
            "leave the range",
        ),
        Misconception(
            "clamped as int8",
            clamped_as_int8,
            "you clamp to -128 and 127, the range of int8. These codes are uint8: half of their range stays unused, "
            "and negative ones wrap around",
        ),
        Misconception(
            "product in int32",
            product_in_int32,
            "you multiply in int32. The product of a 32-bit and a 31-bit number needs up to 63 bits, and the upper "
            "ones, which you want, have wrapped away. Use int64",
        ),
        Misconception(
            "everything in int32",
            everything_in_int32,
            "all of this happens in int32. The product wraps around, and a shift by 31 or more leaves nothing of "
            "32 bits. Make the accumulators int64 first",
        ),
        Misconception(
            "in float32",
            in_float32,
            "an int32 tensor times a Python float becomes float32, with 24 bits for a factor of 31. Values near a half "
            "go astray, and a processor without floats cannot do it. Stay with whole numbers",
        ),
        Misconception(
            "the 31 forgotten",
            shift_without_31,
            "you shift by `shift` alone. The mantissa is the factor times 2^(31 + shift), so 31 more bits must go",
        ),
    ),
    shows="accumulators become codes by one product in 64 bits, one rounding shift, the zero point and a clamp.",
    derivation=(
        "round half up: floor(a m / 2^k + 1/2) = floor((a m + 2^(k-1)) / 2^k) = (a m + 2^(k-1)) >> k, k = 31 + shift. "
        "|a m| < 2^62, so nothing overflows int64. Source: Jacob et al. 2018, arXiv:1712.05877, section 2.2; their "
        "code rounds twice, to stay in 32 bits."
    ),
    forbidden=("kdcourse.quantization.requantize", "kdcourse.quantization.integer.multiply"),
    relative=0.0,
    absolute=0.0,
)

# --- 08.5 -------------------------------------------------------------------------------------------------------------

Call = tuple[int, int, float]
"""threads, images, milliseconds"""


def speedup(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    medians = []
    for calls in (baseline, candidate):
        times = [milliseconds / images for used, images, milliseconds in calls if used == threads]
        medians.append(median(times[warm_up:]))
    return medians[0] / medians[1]


def speedup_by_tensors(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    def typical(calls: list[Call]) -> float:
        used, images, milliseconds = torch.tensor(calls, dtype=torch.float64).T
        chosen = (milliseconds / images)[used == threads]
        return chosen[warm_up:].quantile(0.5).item()

    return typical(baseline) / typical(candidate)


def speedup_by_throughput(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    middle = []
    for calls in (candidate, baseline):
        times = sorted([one for one in calls if one[0] == threads][warm_up:], key=lambda one: one[2] / one[1])
        pair = times[(len(times) - 1) // 2], times[len(times) // 2]
        middle.append(1 / fmean(milliseconds / images for _, images, milliseconds in pair))
    return middle[0] / middle[1]


def _times(calls: list[Call], warm_up: int, threads: int) -> list[float]:
    """Milliseconds an image of the calls that count."""
    return [milliseconds / images for used, images, milliseconds in calls if used == threads][warm_up:]


def first_calls_counted(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median(_times(baseline, 0, threads)) / median(_times(candidate, 0, threads))


def warm_up_of_the_list(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median(_times(baseline[warm_up:], 0, threads)) / median(_times(candidate[warm_up:], 0, threads))


def means_of_times(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return fmean(_times(baseline, warm_up, threads)) / fmean(_times(candidate, warm_up, threads))


def upside_down(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median(_times(candidate, warm_up, threads)) / median(_times(baseline, warm_up, threads))


def best_against_median(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median(_times(baseline, warm_up, threads)) / min(_times(candidate, warm_up, threads))


def best_of_both(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return min(_times(baseline, warm_up, threads)) / min(_times(candidate, warm_up, threads))


def more_threads_for_one(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    most = max(used for used, _, _ in candidate)
    return median(_times(baseline, warm_up, threads)) / median(_times(candidate, warm_up, most))


def threads_mixed(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    times = [[milliseconds / images for _, images, milliseconds in calls] for calls in (baseline, candidate)]
    return median(times[0][warm_up:]) / median(times[1][warm_up:])


def unlike_work(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    times = [[milliseconds for used, _, milliseconds in calls if used == threads] for calls in (baseline, candidate)]
    return median(times[0][warm_up:]) / median(times[1][warm_up:])


def lower_medians(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median_low(_times(baseline, warm_up, threads)) / median_low(_times(candidate, warm_up, threads))


def upper_medians(baseline: list[Call], candidate: list[Call], *, warm_up: int, threads: int) -> float:
    return median_high(_times(baseline, warm_up, threads)) / median_high(_times(candidate, warm_up, threads))


def _calls(threads: int, images: int, *times: float) -> list[Call]:
    return [(threads, images, milliseconds) for milliseconds in times]


def speedup_cases() -> list[Case]:
    return [
        case(_calls(1, 1, 9.0, 4.0, 4.4, 5.6), _calls(1, 1, 8.0, 2.0, 2.3, 1.9), warm_up=1, threads=1),
        case(
            [*_calls(1, 64, 61.0, 25.4, 25.9, 25.1, 48.7, 25.6), *_calls(4, 64, 19.6, 8.8, 9.2, 8.3, 8.5, 8.1)],
            [*_calls(4, 16, 7.7, 1.4, 1.2, 1.3, 2.9), *_calls(1, 16, 15.0, 5.3, 3.4, 9.9, 3.1, 3.2)],
            warm_up=2,
            threads=1,
        ),
        case(
            [*_calls(1, 8, 7.0, 5.4), *_calls(2, 8, 5.9, 3.3, 3.1, 3.8, 3.2), *_calls(8, 8, 4.8, 1.7, 1.9, 1.6)],
            [*_calls(2, 32, 21.0, 13.9, 13.2, 19.8), *_calls(8, 32, 30.5, 4.9, 5.1, 5.5, 5.0)],
            warm_up=1,
            threads=2,
        ),
    ]


SPEEDUP = Exercise(
    id="08.5",
    title="how many times as fast",
    question=(
        "`baseline` and `candidate` are lists of timed calls, in the order measured: tuples (threads, images, "
        "milliseconds), the time that one call took for so many images with so many threads. Write "
        "`my_speedup(baseline, candidate, *, warm_up, threads)`: how many times as fast the candidate is, a float. On "
        "both sides take the calls with exactly `threads` threads, drop the first `warm_up` *of those*, and take "
        "the median of the milliseconds per image (of an even number of calls: the mean of the middle two). Return "
        "baseline's median / candidate's median. The lists may differ in length and in images."
    ),
    skeleton=(
        "def my_speedup(baseline, candidate, *, warm_up, threads):\n"
        '    """Median time per image of the baseline over that of the candidate, on equal terms."""\n    ...'
    ),
    reference=speedup,
    alternatives=(speedup_by_tensors, speedup_by_throughput),
    cases=speedup_cases,
    hints=(
        "Go through the two lists: in what do the calls differ besides the network? All of that has to be made equal.",
        "For each side: choose by threads, then drop the first, then divide by images, then the median.",
        "`times = [ms / images for used, images, ms in calls if used == threads][warm_up:]` on both sides, then "
        "`statistics.median(times)`.",
    ),
    misconceptions=(
        Misconception(
            "the first calls counted",
            first_calls_counted,
            "you count the first calls too. They load code, fill caches and reserve memory, once, and say nothing of "
            "all later ones",
        ),
        Misconception(
            "warm-up taken from the whole list",
            warm_up_of_the_list,
            "you drop the first calls of the list and then choose by threads. Each number of threads needs a warm-up "
            "of its own, as the threads are started then. Choose first",
        ),
        Misconception(
            "the mean with its outliers",
            means_of_times,
            "you take means. One call during which the machine was busy with something else moves the mean as far as "
            "it likes, and the median hardly",
        ),
        Misconception(
            "upside down",
            upside_down,
            "your ratio is upside down: it falls when the candidate gets faster. Times as fast is the old time over "
            "the new one",
        ),
        Misconception(
            "the best of one against the median of the other",
            best_against_median,
            "you compare the candidate's best call with the baseline's median. Two copies of one network would then "
            "show a speed-up",
        ),
        Misconception(
            "the best of both",
            best_of_both,
            "you take the best call of each side. The minimum of more calls is lower, and nobody gets to choose their "
            "call; the median is what a user meets",
        ),
        Misconception(
            "more threads for one side",
            more_threads_for_one,
            "you let the candidate use more threads than the baseline. That measures the threads. Equal terms: the "
            "same number on both sides",
        ),
        Misconception(
            "thread counts mixed",
            threads_mixed,
            "you put the calls of all thread counts together. The median then depends on how many were made with how "
            "many threads. Choose `threads` on both sides",
        ),
        Misconception(
            "unlike work",
            unlike_work,
            "you compare calls that do different work: the batches are not of one size. Divide by the images. A "
            "published 17 × compared a matmul with an elementwise product; that is the same mistake",
        ),
        Misconception(
            "the lower of two middle values",
            lower_medians,
            "of an even number of calls you take the lower of the middle two, as `torch.median` does. The median is "
            "their mean: `statistics.median`",
        ),
        Misconception(
            "the upper of two middle values",
            upper_medians,
            "of an even number of calls you take the upper of the middle two, as `sorted(times)[len(times) // 2]` "
            "does. The median is their mean",
        ),
    ),
    shows="a speed-up is a ratio of medians, after the warm-up, for the same work with the same threads.",
    derivation=(
        "Only what differs between the two sides can explain the ratio: so equal threads, equal work, equal warm-up, "
        "the same statistic. The median, as delays are one-sided: nothing makes a call too fast."
    ),
)

EXERCISES = (INTEGER_SUM, INTEGER_BIAS, MULTIPLIER, REQUANTIZE, SPEEDUP)
