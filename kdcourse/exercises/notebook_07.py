"""Exercises of notebook 07: a step and a zero, codes, channels, folded batch norm, straight through, where to clip."""

from typing import Any

import torch
from torch import Tensor, nn

from .core import Case, Exercise, Misconception, case, draw

# --- 07.1 -------------------------------------------------------------------------------------------------------------

Affine = tuple[float, int]


def scale_and_zero_point(minimum: float, maximum: float, *, bits: int) -> Affine:
    low, high = min(minimum, 0.0), max(maximum, 0.0)
    last = 2**bits - 1
    scale = (high - low) / last
    zero_point = min(max(round(-low / scale), 0), last)
    return scale, zero_point


def affine_by_tensors(minimum: float, maximum: float, *, bits: int) -> Affine:
    low, high = torch.tensor([minimum, maximum, 0.0], dtype=torch.float64).aminmax()
    scale = (high - low) / (2**bits - 1)
    return scale.item(), int(torch.round(-low / scale))


def affine_from_above(minimum: float, maximum: float, *, bits: int) -> Affine:
    ends, last = sorted((0.0, minimum, maximum)), (1 << bits) - 1
    scale = (ends[-1] - ends[0]) / last
    return scale, last - round(ends[-1] / scale)


def _affine(low: float, high: float, steps: int) -> Affine:
    return (high - low) / steps, round(-low * steps / (high - low))


def zero_excluded(minimum: float, maximum: float, *, bits: int) -> Affine:
    return _affine(minimum, maximum, 2**bits - 1)


def zero_excluded_and_clamped(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = _affine(minimum, maximum, 2**bits - 1)
    return scale, min(max(zero_point, 0), 2**bits - 1)


def as_many_steps_as_codes(minimum: float, maximum: float, *, bits: int) -> Affine:
    return _affine(min(minimum, 0.0), max(maximum, 0.0), 2**bits)


def one_step_too_many_and_clamped(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = as_many_steps_as_codes(minimum, maximum, bits=bits)
    return scale, min(zero_point, 2**bits - 1)


def zero_point_not_rounded(minimum: float, maximum: float, *, bits: int) -> tuple[float, float]:
    scale, _ = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, -min(minimum, 0.0) / scale


def zero_point_cut_off(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, _ = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, int(-min(minimum, 0.0) / scale + 1e-9)


def symmetric_range(minimum: float, maximum: float, *, bits: int) -> Affine:
    return max(abs(minimum), abs(maximum)) / (2 ** (bits - 1) - 1), 0


def zero_in_the_middle(minimum: float, maximum: float, *, bits: int) -> Affine:
    return 2 * max(abs(minimum), abs(maximum)) / (2**bits - 1), 2 ** (bits - 1)


def zero_point_below_zero(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, -zero_point


def zero_point_for_signed_codes(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = scale_and_zero_point(minimum, maximum, bits=bits)
    return scale, zero_point - 2 ** (bits - 1)


def codes_for_each_unit(minimum: float, maximum: float, *, bits: int) -> Affine:
    scale, zero_point = scale_and_zero_point(minimum, maximum, bits=bits)
    return 1 / scale, zero_point


def affine_cases() -> list[Case]:
    return [
        case(-1.0, 3.0, bits=8),
        case(0.5, 2.5, bits=4),
        case(-6.0, -2.0, bits=4),
        case(-1.7, 0.4, bits=3),
    ]


SCALE_AND_ZERO_POINT = Exercise(
    id="07.1",
    title="a step and a code for zero",
    question=(
        "A real number r is stored as a whole number q, its code, with r ≈ scale · (q - zero_point). The codes are "
        "0 … 2^bits - 1. Write `my_scale_and_zero_point(minimum, maximum, *, bits)`: the tuple (scale, zero_point) "
        "that spreads the codes over the numbers from `minimum` to `maximum`, the lowest code at one end and the "
        "highest at the other. The number 0 must be exactly representable: where the range leaves it out, first widen "
        "the range until it ends at 0. `scale` is a float. `zero_point` is an int among the codes, rounded to the "
        "nearest; there are no ties here. `minimum` is below `maximum`."
    ),
    skeleton=(
        "def my_scale_and_zero_point(minimum, maximum, *, bits):\n"
        '    """Scale and zero point of the codes 0 ... 2^bits - 1 over a range."""\n    ...'
    ),
    reference=scale_and_zero_point,
    alternatives=(affine_by_tensors, affine_from_above),
    cases=affine_cases,
    hints=(
        "Draw the range as a line with the codes on it. How many gaps lie between them, and which code sits at 0?",
        "Widen first: `low = min(minimum, 0.0)`, `high = max(maximum, 0.0)`. The scale is the width of one gap; the "
        "zero point counts the gaps from `low` up to 0.",
        "`scale = (high - low) / (2**bits - 1)`, `zero_point = round(-low / scale)`.",
    ),
    misconceptions=(
        Misconception(
            "a range that excludes zero",
            zero_excluded,
            "your zero point leaves the codes where the range leaves out 0. Then no code means 0, and padding and the "
            "zeros of a ReLU are no longer exact. Widen the range first",
        ),
        Misconception(
            "a range that excludes zero, then clamped",
            zero_excluded_and_clamped,
            "you clamp the zero point but keep the narrow range. Code 0 then means 0, but most of the range lies "
            "beyond the last code. Widen the range to include 0 first",
        ),
        Misconception(
            "as many steps as codes",
            as_many_steps_as_codes,
            "you divide by 2^bits. That is the number of codes; between them lie 2^bits - 1 gaps, as a fence has one "
            "gap fewer than posts",
        ),
        Misconception(
            "as many steps as codes, then clamped",
            one_step_too_many_and_clamped,
            "you divide by 2^bits, the number of codes: between them lie 2^bits - 1 gaps. Your clamp hides that the "
            "zero point of a negative range fell beyond the last code",
        ),
        Misconception(
            "zero point not rounded",
            zero_point_not_rounded,
            "your zero point is a fraction. It is a code like any other: only a whole number makes q - zero_point come "
            "out at exactly 0",
        ),
        Misconception(
            "zero point cut off",
            zero_point_cut_off,
            "you cut the zero point off instead of rounding it: `int(63.75)` is 63. The whole range is then shifted by "
            "up to a step, not half of one",
        ),
        Misconception(
            "a symmetric range",
            symmetric_range,
            "this is a symmetric range around 0, with zero point 0. Codes from 0 up then hold no negative number at "
            "all, and an uneven range wastes codes",
        ),
        Misconception(
            "zero in the middle",
            zero_in_the_middle,
            "you make the range symmetric and put 0 in the middle. Where it reaches further to one side, codes of the "
            "other side are never used. Take both ends as they are",
        ),
        Misconception(
            "the zero point's sign",
            zero_point_below_zero,
            "your zero point has the wrong sign. `low` has the code 0, so scale · (0 - zero_point) = low: a low end "
            "below 0 needs a zero point above 0",
        ),
        Misconception(
            "signed codes",
            zero_point_for_signed_codes,
            "your zero point is right for codes that start at -2^(bits-1). Here they start at 0",
        ),
        Misconception(
            "codes for each unit",
            codes_for_each_unit,
            "your scale is upside down: it says how many codes a unit has. In r ≈ scale · (q - zero_point) it is the "
            "width of one step",
        ),
    ),
    shows="the scale is the width of one gap between codes, and the zero point is the code that means exactly 0.",
    derivation=(
        "low = scale · (0 - z) and high = scale · (2^bits - 1 - z). Subtracted: scale = (high - low) / (2^bits - 1); "
        "the first gives z = -low / scale, rounded so that 0 has a code. As low ≤ 0 ≤ high, z lies among the codes; a "
        "clamp only guards against rounding errors. Source: Jacob et al. 2018, arXiv:1712.05877."
    ),
    forbidden=("kdcourse.quantization.qparams_from_range", "kdcourse.quantization.choose_qparams"),
)

# --- 07.2 -------------------------------------------------------------------------------------------------------------


def quantize(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    codes = torch.round(x / scale) + zero_point
    return codes.clamp(0, 2**bits - 1).to(torch.int32)


def quantize_in_integers(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    steps = (x / scale).round().to(torch.int32)
    return torch.clip(steps + zero_point, min=0, max=(1 << bits) - 1)


def quantize_one_by_one(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    codes = [min(max(round(value / scale) + zero_point, 0), 2**bits - 1) for value in x.flatten().tolist()]
    return torch.tensor(codes, dtype=torch.int32).reshape(x.shape)


def _saturated(codes: Tensor, bits: int) -> Tensor:
    return codes.clamp(0, 2**bits - 1).to(torch.int32)


def never_clamped(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return (torch.round(x / scale) + zero_point).to(torch.int32)


def cast_without_clamping(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    # by way of int64: what a float outside of uint8 becomes directly depends on the machine
    return never_clamped(x, scale, zero_point, bits=bits).to(torch.int64).to(torch.uint8).to(torch.int32)


def signed_cast_without_clamping(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return never_clamped(x, scale, zero_point, bits=bits).to(torch.int8).to(torch.int32)


def wrapped_into_the_bits(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return never_clamped(x, scale, zero_point, bits=bits) % 2**bits


def stored_as_signed(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return quantize(x, scale, zero_point, bits=bits).to(torch.int8).to(torch.int32)


def truncated(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.trunc(x / scale) + zero_point, bits)


def floored(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.floor(x / scale) + zero_point, bits)


def ties_away_from_zero(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    steps = x / scale
    return _saturated(steps.sign() * torch.floor(steps.abs() + 0.5) + zero_point, bits)


def ties_up(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.floor(x / scale + 0.5) + zero_point, bits)


def zero_point_before_rounding(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x / scale + zero_point), bits)


def clamped_before_the_zero_point(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x / scale), bits) + zero_point


def zero_point_forgotten(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x / scale), bits)


def zero_point_subtracted(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x / scale) - zero_point, bits)


def zero_point_in_reals(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round((x + zero_point) / scale), bits)


def times_the_scale(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return _saturated(torch.round(x * scale) + zero_point, bits)


def clamped_to_signed_codes(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    half = 2 ** (bits - 1)
    return (torch.round(x / scale) + zero_point).clamp(-half, half - 1).to(torch.int32)


def one_code_too_many(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return (torch.round(x / scale) + zero_point).clamp(0, 2**bits).to(torch.int32)


def reals_again(x: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return (quantize(x, scale, zero_point, bits=bits) - zero_point) * scale


def quantize_cases() -> list[Case]:
    # halves and quarters are exact in floating point, so ties are ties
    small = torch.tensor([-0.4, -0.25, -0.75, 0.25, 0.75, 0.4, 4.0, -4.0, 130.0], dtype=torch.float64)
    ties = torch.arange(-9, 10, dtype=torch.float64).reshape(1, 19) / 8
    return [
        case(small, 0.5, 3, bits=4),
        case(ties, 0.25, 131, bits=8),
        case(draw(6, 8, seed=700), 0.0317, 117, bits=8),
        case(draw(2, 3, 4, seed=701), 0.4, 9, bits=4),
    ]


QUANTIZE = Exercise(
    id="07.2",
    title="real numbers become codes",
    question=(
        "Write `my_quantize(x, scale, zero_point, *, bits)` for a float tensor `x` of any shape: its codes, a tensor "
        "of the same shape, dtype `torch.int32`. The codes are 0 … 2^bits - 1. Divide by the scale, round to the "
        "nearest whole number, half to even as `torch.round` does, and then add the zero point. What lies beyond the "
        "codes gets the nearest one that there is: it saturates."
    ),
    skeleton=(
        "def my_quantize(x, scale, zero_point, *, bits):\n"
        '    """The codes 0 ... 2^bits - 1 of real numbers, int32."""\n    ...'
    ),
    reference=quantize,
    alternatives=(quantize_in_integers, quantize_one_by_one),
    cases=quantize_cases,
    hints=(
        "Four steps: into steps of the scale, to whole numbers, shifted, kept within the codes. Their order matters.",
        "Converting a dtype neither rounds nor saturates: it cuts off, and what does not fit wraps around.",
        "`codes = torch.round(x / scale) + zero_point`, then `.clamp(0, 2**bits - 1)`, then `.to(torch.int32)`.",
    ),
    misconceptions=(
        Misconception(
            "never clamped",
            never_clamped,
            "numbers beyond the range get codes that do not exist. With 4 bits there is no code 16: clamp to "
            "0 … 2^bits - 1",
        ),
        Misconception(
            "cast without clamping",
            cast_without_clamping,
            "you cast without clamping. A cast to `uint8` wraps around: 263 becomes 7, so the largest numbers turn "
            "into small ones. And it knows nothing of 4 bits",
        ),
        Misconception(
            "signed cast without clamping",
            signed_cast_without_clamping,
            "you cast to `int8` without clamping. It wraps around: 130 becomes -126, so the largest numbers turn into "
            "the smallest",
        ),
        Misconception(
            "wrapped into the bits",
            wrapped_into_the_bits,
            "you keep the last bits of the code. That wraps around: with 4 bits 17 becomes 1. A number too large must "
            "get the largest code",
        ),
        Misconception(
            "stored as signed",
            stored_as_signed,
            "you clamp rightly, and then `int8` spoils it: it ends at 127, so 130 becomes -126. Codes up to 255 need "
            "`uint8` or something wider",
        ),
        Misconception(
            "truncated",
            truncated,
            "you cut off instead of rounding, as a conversion to integers does. Every number moves towards 0, by half "
            "a step on average",
        ),
        Misconception(
            "rounded down",
            floored,
            "you always round down, as `floor` does, or a conversion to integers after the zero point is added. That "
            "is a bias of half a step",
        ),
        Misconception(
            "ties away from zero",
            ties_away_from_zero,
            "only ties are wrong: you round 0.5 to 1 and -0.5 to -1. `torch.round` takes the even neighbour, here 0, "
            "so that ties push neither outwards nor inwards",
        ),
        Misconception(
            "ties up",
            ties_up,
            "only ties are wrong: `floor(r + 0.5)` rounds all of them up. `torch.round` takes the even neighbour, "
            "which is down as often as up",
        ),
        Misconception(
            "zero point before rounding",
            zero_point_before_rounding,
            "only ties are wrong: you add the zero point before rounding. With an odd one, even and odd change places, "
            "so ties fall the other way than in the reference",
        ),
        Misconception(
            "clamped before the zero point",
            clamped_before_the_zero_point,
            "you clamp first and add the zero point then. So all negative numbers become 0, and the largest get codes "
            "that do not exist",
        ),
        Misconception(
            "zero point forgotten",
            zero_point_forgotten,
            "the zero point is missing. So the number 0 gets the code 0, and every negative number with it",
        ),
        Misconception(
            "zero point subtracted",
            zero_point_subtracted,
            "you subtract the zero point. That belongs to the way back: r ≈ scale · (q - zero_point), so "
            "q ≈ r / scale + zero_point",
        ),
        Misconception(
            "zero point in reals",
            zero_point_in_reals,
            "you add the zero point to x. It is a code, not a real number: add it after dividing by the scale",
        ),
        Misconception(
            "times the scale",
            times_the_scale,
            "you multiply by the scale. It is the width of a step: how many steps fit into x is x / scale",
        ),
        Misconception(
            "clamped to signed codes",
            clamped_to_signed_codes,
            "you clamp to -2^(bits-1) … 2^(bits-1) - 1. Those are signed codes; these go from 0 to 2^bits - 1",
        ),
        Misconception(
            "one code too many",
            one_code_too_many,
            "you clamp at 2^bits. With 0 among them the codes end at 2^bits - 1: with 8 bits, 256 does not fit into a "
            "byte",
        ),
        Misconception(
            "real numbers again",
            reals_again,
            "these are the real numbers that the codes stand for. Asked for are the codes themselves",
        ),
    ),
    shows="quantizing is divide, round, shift, saturate, in this order, and a cast neither rounds nor saturates.",
    derivation=(
        "q = clamp(round(r / scale) + zero_point, 0, 2^bits - 1). Half to even has no bias: of 0.5, 1.5, 2.5, 3.5 two "
        "go down and two up. The zero point comes after rounding, since round(n + ½ + z) = round(n + ½) + z only for "
        "even z. Source: Jacob et al. 2018, arXiv:1712.05877."
    ),
    forbidden=("kdcourse.quantization.quantize",),
)

# --- 07.3 -------------------------------------------------------------------------------------------------------------


def best_clip(x: Tensor, candidates: list[float], *, bits: int) -> float:
    last = 2 ** (bits - 1) - 1
    errors = []
    for clip in candidates:
        scale = clip / last
        codes = torch.round(x / scale).clamp(-last, last)
        errors.append((codes * scale - x).square().mean().item())
    return candidates[errors.index(min(errors))]


def best_clip_by_key(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return min(candidates, key=lambda clip: float((_symmetric(x, clip, bits) - x).norm()))


def best_clip_at_once(x: Tensor, candidates: list[float], *, bits: int) -> float:
    clips = torch.tensor(candidates, dtype=x.dtype).unsqueeze(1)
    steps = clips / (2 ** (bits - 1) - 1)
    values = x.flatten().clamp(-clips, clips)  # clamped before rounding: the ends are codes, so it is the same
    return candidates[int(((values / steps).round() * steps - x.flatten()).pow(2).sum(dim=1).argmin())]


def _symmetric(x: Tensor, clip: float, bits: int) -> Tensor:
    last = 2 ** (bits - 1) - 1
    return (x / clip * last).round().clamp(-last, last) * clip / last


def largest_number(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return x.abs().max().item()


def largest_candidate(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return max(candidates)


def only_the_clipping_error(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return min(candidates, key=lambda clip: float((x.clamp(-clip, clip) - x).square().mean()))


def only_the_rounding_error(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return min(candidates, key=lambda clip: float((_symmetric(x, clip, bits) - x.clamp(-clip, clip)).square().mean()))


def smallest_maximum_error(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return min(candidates, key=lambda clip: float((_symmetric(x, clip, bits) - x).abs().max()))


def smallest_absolute_error(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return min(candidates, key=lambda clip: float((_symmetric(x, clip, bits) - x).abs().mean()))


def one_bit_too_many(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return best_clip(x, candidates, bits=bits + 1)


def smallest_code_too(x: Tensor, candidates: list[float], *, bits: int) -> float:
    last = 2 ** (bits - 1) - 1

    def error(clip: float) -> float:
        codes = (x / clip * last).round().clamp(-last - 1, last)
        return float((codes * clip / last - x).square().mean())

    return min(candidates, key=error)


def uneven_codes(x: Tensor, candidates: list[float], *, bits: int) -> float:
    half = 2 ** (bits - 1)

    def error(clip: float) -> float:
        codes = (x / clip * half).round().clamp(-half, half - 1)
        return float((codes * clip / half - x).square().mean())

    return min(candidates, key=error)


def largest_error(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return max(candidates, key=lambda clip: float((_symmetric(x, clip, bits) - x).square().mean()))


def place_of_the_best(x: Tensor, candidates: list[float], *, bits: int) -> int:
    return candidates.index(best_clip(x, candidates, bits=bits))


def error_of_the_best(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return min(float((_symmetric(x, clip, bits) - x).square().mean()) for clip in candidates)


def clip_cases() -> list[Case]:
    small = torch.tensor([0.8, -0.9, 1.1, -0.2, 1.0, -1.2, 0.1, 2.5], dtype=torch.float64)
    halves = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0]
    outliers = torch.cat([draw(200, seed=710, spread=1.0), torch.tensor([7.3, -6.1], dtype=torch.float64)])
    return [
        case(small, [0.5, 1.2, 1.9, 3.0, 4.0], bits=2),
        case(draw(300, seed=73, spread=1.0), halves, bits=3),
        case(draw(20, 15, seed=72, spread=1.0), halves, bits=3),
        case(outliers, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], bits=4),
    ]


BEST_CLIP = Exercise(
    id="07.3",
    title="where to clip",
    question=(
        "Symmetric quantization with the clipping value c has whole numbers from -n to n as codes, n = 2^(bits-1) - 1, "
        "and the scale c / n. A number becomes round(x / scale), clamped to the codes, and times the scale it is a "
        "real number again. Write `my_best_clip(x, candidates, *, bits)`: the one of `candidates`, a list of positive "
        "floats in ascending order, for which the mean squared error between `x` and what it becomes is smallest. "
        "Return the candidate itself, a float. Round half to even. One candidate is always best."
    ),
    skeleton=(
        "def my_best_clip(x, candidates, *, bits):\n"
        '    """The candidate with the smallest mean squared quantization error."""\n    ...'
    ),
    reference=best_clip,
    alternatives=(best_clip_by_key, best_clip_at_once),
    cases=clip_cases,
    hints=(
        "A small c cuts off large numbers; a large c makes coarse steps for all. Which error knows of both?",
        "For each candidate: quantize, go back to real numbers, compare with `x` itself, unclipped.",
        "`codes = torch.round(x / scale).clamp(-n, n)` with `scale = c / n`; the error is "
        "`(codes * scale - x).square().mean()`. Keep the c of the smallest.",
    ),
    misconceptions=(
        Misconception(
            "the maximum",
            largest_number,
            "you return the largest absolute number: nothing is clipped, and one outlier makes the steps coarse for "
            "all. Clipping a few costs less",
        ),
        Misconception(
            "the largest candidate",
            largest_candidate,
            "you take the largest candidate. Nothing is clipped then, but the steps are as coarse as they can be. "
            "Rounding errors count too, and every number has one",
        ),
        Misconception(
            "only the clipping error",
            only_the_clipping_error,
            "you measure only what clipping cuts off, and so never clip. Rounding is missing from your error: go "
            "through the codes and back",
        ),
        Misconception(
            "only the rounding error",
            only_the_rounding_error,
            "you measure only rounding, and so take the smallest steps. That happens when the codes are not clamped, "
            "or when you compare with the clipped x. Compare with x itself",
        ),
        Misconception(
            "the maximum error",
            smallest_maximum_error,
            "you make the largest error smallest. It is the outlier's, so one number decides for all. The mean square "
            "weighs the many against the few",
        ),
        Misconception(
            "absolute for squared",
            smallest_absolute_error,
            "you average absolute errors. Large ones, from clipping, then count too little, and you clip too much. "
            "Square them",
        ),
        Misconception(
            "one bit too many",
            one_bit_too_many,
            "you have codes up to 2^bits - 1 on both sides, twice as many as there are. Finer steps make clipping look "
            "less worth it. One bit goes to the sign",
        ),
        Misconception(
            "the smallest code too",
            smallest_code_too,
            "your codes go down to -2^(bits-1). That one more reaches beyond -c: only the negative side is then "
            "clipped too late. Symmetric codes end at ±(2^(bits-1) - 1)",
        ),
        Misconception(
            "2^(bits-1) for the last code",
            uneven_codes,
            "your scale is c / 2^(bits-1). Then c itself has no code, and the positive side is clipped a step too "
            "early. The last code is 2^(bits-1) - 1",
        ),
        Misconception(
            "the largest error",
            largest_error,
            "you choose the candidate with the largest error. The smallest is wanted",
        ),
        Misconception(
            "the place of the best",
            place_of_the_best,
            "this is the place of the best candidate in the list. Return the candidate",
        ),
        Misconception(
            "the error of the best",
            error_of_the_best,
            "this is the smallest error. Return the candidate that has it",
        ),
    ),
    shows="the best clip balances two errors: a few numbers cut off against coarser steps for all.",
    derivation=(
        "The squared error is Σ over |x| > c of (|x| - c)², which falls with c, plus rounding inside, about scale² / "
        "12 a number, which grows as c². With fewer bits the second weighs more, so the best c is smaller. Source: "
        "Banner, Nahshan, Soudry 2019, arXiv:1810.05723."
    ),
    forbidden=("kdcourse.quantization.mse_range",),
)

# --- 07.4 -------------------------------------------------------------------------------------------------------------


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


CHANNEL_SCALES = Exercise(
    id="07.4",
    title="a scale for every output channel",
    question=(
        "`weight` belongs to a linear layer, shape (O, I), or a convolution, shape (O, I, height, width). O is the "
        "number of output channels. Write `my_channel_scales(weight, *, bits)`: a tensor (O,), for each output channel "
        "the scale of its symmetric quantization. The codes are whole numbers from -(2^(bits-1) - 1) to 2^(bits-1) - "
        "1, the zero point is 0, and the largest absolute weight of a channel gets the last code. A channel whose "
        "weights are all 0 gets the scale 1."
    ),
    skeleton=(
        'def my_channel_scales(weight, *, bits):\n    """The symmetric scale of every output channel, (O,)."""\n    ...'
    ),
    reference=channel_scales,
    alternatives=(scales_by_loop, scales_from_both_ends),
    cases=channel_cases,
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
            "this is a scale for every input channel. Quiet output channels then share the step of loud ones: the "
            "worst falls from some 43 dB to 9. In a square layer no shape gives it away. Dimension 0 must stay",
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
            "and one NaN spoils every output after it. Any proper scale stores zeros exactly: take 1",
        ),
        Misconception(
            "a dead channel's scale is NaN",
            dead_channel_is_nan,
            "right but for the dead channel: somewhere you divide 0 by 0, and that is NaN. One NaN spoils every output "
            "after it. Give that channel the scale 1",
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
            "you take the absolute value of the maximum. The most negative weight is long out of the race by then: "
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

# --- 07.5 -------------------------------------------------------------------------------------------------------------

Layer = tuple[Tensor, Tensor]


def folded(weight: Tensor, norm: Any) -> Layer:
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * factor
    return weight * factor.reshape(-1, 1, 1, 1), bias


def folded_by_trying(weight: Tensor, norm: Any) -> Layer:
    """What the norm does to 0 and to 1 says all: it is a straight line in each channel."""
    with torch.no_grad():
        bias = norm.eval()(weight.new_zeros(1, len(weight), 1, 1))
        factor = norm(torch.ones_like(bias)) - bias
    return weight * factor.transpose(0, 1), bias.flatten()


def folded_as_pytorch_does(weight: Tensor, norm: Any) -> Layer:
    return nn.utils.fusion.fuse_conv_bn_weights(
        weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _fold(weight: Tensor, norm: Any, factor: Tensor) -> Layer:
    return weight * factor.view(-1, 1, 1, 1), norm.bias - norm.running_mean * factor


def _factor(norm: Any) -> Tensor:
    return norm.weight * (norm.running_var + norm.eps).rsqrt()


def without_eps(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight / norm.running_var.sqrt())


def eps_outside_the_root(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight / (norm.running_var.sqrt() + norm.eps))


def variance_for_deviation(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight / (norm.running_var + norm.eps))


def variance_without_eps(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, norm.weight / norm.running_var)


def mean_forgotten(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, _factor(norm))[0], norm.bias.clone()


def mean_not_scaled(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, _factor(norm))[0], norm.bias - norm.running_mean


def mean_added(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return _fold(weight, norm, factor)[0], norm.bias + norm.running_mean * factor


def shift_forgotten(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return _fold(weight, norm, factor)[0], -norm.running_mean * factor


def shift_scaled_too(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return _fold(weight, norm, factor)[0], (norm.bias - norm.running_mean) * factor


def gain_forgotten(weight: Tensor, norm: Any) -> Layer:
    return _fold(weight, norm, (norm.running_var + norm.eps).rsqrt())


def along_the_inputs(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return weight * factor.view(1, -1, 1, 1), _fold(weight, norm, factor)[1]


def along_the_last_axis(weight: Tensor, norm: Any) -> Layer:
    factor = _factor(norm)
    return weight * factor, _fold(weight, norm, factor)[1]


def only_the_bias(weight: Tensor, norm: Any) -> Layer:
    return weight.clone(), _fold(weight, norm, _factor(norm))[1]


def _norm(gain: list[float], shift: list[float], mean: list[float], variance: list[float], eps: float) -> nn.Module:
    norm = nn.BatchNorm2d(len(gain), eps=eps).double().eval()
    values = (gain, shift, mean, variance)
    places = (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var)
    for place, value in zip(places, values, strict=True):
        assert place is not None
        place.copy_(torch.tensor(value))
    return norm


def folded_cases() -> list[Case]:
    small = torch.tensor([[[[1.0, 2.0]], [[0.0, -1.0]]], [[[3.0, 0.5]], [[-2.0, 1.0]]]], dtype=torch.float64)
    two = _norm([2.0, 0.5], [1.0, -1.0], [0.5, 2.0], [3.0, 0.25], 1e-2)
    three = _norm([1.5, -0.75, 0.25], [0.5, 2.0, -1.0], [-3.0, 0.5, 4.0], [0.0004, 1.7, 6.0], 1e-5)
    four = _norm([1.0, 3.0, 0.5, -2.0], [0.0, 1.0, 2.0, 3.0], [1.0, -1.0, 0.25, 2.0], [0.01, 2.0, 5.0, 0.5], 1e-3)
    return [case(small, two), case(draw(3, 3, 3, 3, seed=704), three), case(draw(4, 2, 3, 3, seed=705), four)]


FOLDED = Exercise(
    id="07.5",
    title="batch norm folded in",
    question=(
        "A convolution without bias has the weight `weight` of shape (O, I, height, width). It is followed by `norm`, "
        "an `nn.BatchNorm2d` of O channels in eval mode. For each channel `norm` has `weight` (γ), `bias` (β), "
        "`running_mean` (μ) and `running_var` (σ²), and one number `eps` (ε). It computes "
        "(z - μ) / √(σ² + ε) · γ + β. Write `my_folded(weight, norm)`: the tuple of a weight, shape (O, I, height, "
        "width), and a bias, shape (O,), with which one convolution does what the two layers did."
    ),
    skeleton=(
        "def my_folded(weight, norm):\n"
        '    """Weight and bias of the convolution that has taken in its batch norm."""\n    ...'
    ),
    reference=folded,
    alternatives=(folded_by_trying, folded_as_pytorch_does),
    cases=folded_cases,
    hints=(
        "In eval mode batch norm is a straight line in each channel: a factor and a shift. What is the factor?",
        "`factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)`. It scales whatever makes up output channel "
        "k; the rest is bias.",
        "`weight * factor.reshape(-1, 1, 1, 1)` and `norm.bias - norm.running_mean * factor`.",
    ),
    misconceptions=(
        Misconception(
            "eps left out",
            without_eps,
            "you leave out eps. The error is small and constant, and so easily overlooked; where a channel's variance "
            "is small it is large",
        ),
        Misconception(
            "eps outside the root",
            eps_outside_the_root,
            "you add eps to the root. Batch norm adds it to the variance, under the root: √(σ² + ε)",
        ),
        Misconception(
            "the variance for the deviation",
            variance_for_deviation,
            "you divide by the variance. Batch norm divides by the standard deviation: the root is missing",
        ),
        Misconception(
            "the variance for the deviation, without eps",
            variance_without_eps,
            "you divide by `running_var` as it is. Batch norm divides by √(σ² + ε): both the root and eps are missing",
        ),
        Misconception(
            "the mean forgotten",
            mean_forgotten,
            "the weight is right, but the bias forgets the running mean. Batch norm subtracts it from every output, so "
            "-μ · factor stays behind in the bias",
        ),
        Misconception(
            "the mean not scaled",
            mean_not_scaled,
            "you take the mean off unscaled. It is subtracted before batch norm multiplies, so it is multiplied too: "
            "β - μ · factor",
        ),
        Misconception(
            "the mean added",
            mean_added,
            "the mean has the wrong sign in your bias. Batch norm subtracts it",
        ),
        Misconception(
            "the shift forgotten",
            shift_forgotten,
            "the weight is right, but the bias lacks β, which batch norm adds last",
        ),
        Misconception(
            "the shift scaled too",
            shift_scaled_too,
            "you multiply β by the factor as well. Batch norm adds it after multiplying, so it stays as it is",
        ),
        Misconception(
            "the gain forgotten",
            gain_forgotten,
            "you forget γ, `norm.weight`: batch norm multiplies by it after dividing by the deviation",
        ),
        Misconception(
            "along the inputs",
            along_the_inputs,
            "you scale the input channels. Batch norm comes after the convolution, so factor k belongs to output k, "
            "dimension 0. In a square layer no shape gives it away",
        ),
        Misconception(
            "along the last axis",
            along_the_last_axis,
            "`weight * factor` aligns the factors with the last dimension, the width of the kernel. They belong to the "
            "output channels: reshape them to (O, 1, 1, 1)",
        ),
        Misconception(
            "only the bias",
            only_the_bias,
            "your weight is unchanged. Batch norm also multiplies: its factor has to go into the weight",
        ),
    ),
    shows="in eval mode batch norm is a factor and a shift of each output channel: the layer before can take in both.",
    derivation=(
        "z_k = Σ w_k · x, so (z_k - μ_k) f_k + β_k = Σ (w_k f_k) · x + (β_k - μ_k f_k) with f_k = γ_k / √(σ²_k + ε). "
        "Source: Jacob et al. 2018, arXiv:1712.05877, section 3.2."
    ),
    forbidden=("kdcourse.quantization.fold_batchnorm",),
    points=2,
)

# --- 07.6 -------------------------------------------------------------------------------------------------------------


def straight_through_gradient(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    codes = torch.round(x / scale) + zero_point
    inside = (codes >= 0) & (codes <= 2**bits - 1)
    return torch.where(inside, gradient, torch.zeros_like(gradient))


def gradient_where_unsaturated(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    codes = (x / scale).round() + zero_point
    return gradient * (codes == codes.clamp(0, 2**bits - 1))


def gradient_by_autograd(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    torch.fake_quantize_per_tensor_affine(leaf, scale, zero_point, 0, 2**bits - 1).backward(gradient)
    assert leaf.grad is not None
    return leaf.grad


def _codes(x: Tensor, scale: float, zero_point: int) -> Tensor:
    return torch.round(x / scale) + zero_point


def passes_everywhere(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return gradient.clone()


def zero_everywhere(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return torch.zeros_like(gradient)


def condition_on_reals(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    low, high = -scale * zero_point, scale * (2**bits - 1 - zero_point)
    return gradient * ((x >= low) & (x <= high))


def zero_inside(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    codes = _codes(x, scale, zero_point)
    return gradient * ((codes < 0) | (codes > 2**bits - 1))


def end_codes_blocked(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    codes = _codes(x, scale, zero_point)
    return gradient * ((codes > 0) & (codes < 2**bits - 1))


def low_end_forgotten(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return gradient * (_codes(x, scale, zero_point) <= 2**bits - 1)


def high_end_forgotten(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return gradient * (_codes(x, scale, zero_point) >= 0)


def inside_without_zero_point(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return straight_through_gradient(x, gradient, scale, 0, bits=bits)


def inside_signed_codes(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    half, codes = 2 ** (bits - 1), _codes(x, scale, zero_point)
    return gradient * ((codes >= -half) & (codes <= half - 1))


def divided_by_the_scale(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return straight_through_gradient(x, gradient, scale, zero_point, bits=bits) / scale


def multiplied_by_the_scale(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return straight_through_gradient(x, gradient, scale, zero_point, bits=bits) * scale


def only_the_mask(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return straight_through_gradient(x, torch.ones_like(gradient), scale, zero_point, bits=bits)


def gradient_clamped(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    return gradient.clamp(-scale * zero_point, scale * (2**bits - 1 - zero_point))


def gradient_quantized(x: Tensor, gradient: Tensor, scale: float, zero_point: int, *, bits: int) -> Tensor:
    passed = straight_through_gradient(x, gradient, scale, zero_point, bits=bits)
    return (_codes(passed, scale, zero_point).clamp(0, 2**bits - 1) - zero_point) * scale


def straight_cases() -> list[Case]:
    # codes 0 … 3 for -0.5 … 1.0: -0.7 and 1.2 lie outside of that, but still round to the end codes
    small = torch.tensor([-2.0, -0.7, -0.4, 0.1, 0.9, 1.2, 3.0], dtype=torch.float64)
    arriving = torch.tensor([1.0, 2.0, -3.0, 4.0, 5.0, 6.0, -7.0], dtype=torch.float64)
    return [
        case(small, arriving, 0.5, 1, bits=2),
        case(draw(6, 8, seed=706), draw(6, 8, seed=707), 0.25, 7, bits=4),
        case(draw(3, 2, 5, seed=708, spread=6.0), draw(3, 2, 5, seed=709), 1.7, 2, bits=3),
    ]


STRAIGHT_THROUGH = Exercise(
    id="07.6",
    title="a gradient straight through",
    question=(
        "In training, fake quantization replaces x by scale · (q - zero_point), where q is the code "
        "round(x / scale) + zero_point, clamped to 0 … 2^bits - 1. `gradient`, of the shape of `x`, is the loss's "
        "gradient with respect to the result. Write "
        "`my_straight_through_gradient(x, gradient, scale, zero_point, *, bits)`: the gradient handed on to x by the "
        "straight-through estimator. It takes rounding for the identity and clamping as it is: the gradient passes "
        "unchanged where the code before clamping lies in 0 … 2^bits - 1, both ends included, and is 0 elsewhere. "
        "Round half to even; there are no ties here."
    ),
    skeleton=(
        "def my_straight_through_gradient(x, gradient, scale, zero_point, *, bits):\n"
        '    """The gradient that fake quantization hands on to x."""\n    ...'
    ),
    reference=straight_through_gradient,
    alternatives=(gradient_where_unsaturated, gradient_by_autograd),
    cases=straight_cases,
    hints=(
        "Where would a small change of x still change the result, if only rounding were not there?",
        "Compute the codes, unclamped. A comparison with both ends gives a mask.",
        "`codes = torch.round(x / scale) + zero_point`, and `gradient * ((codes >= 0) & (codes <= 2**bits - 1))`.",
    ),
    misconceptions=(
        Misconception(
            "passes everywhere",
            passes_everywhere,
            "your gradient passes where the code is saturated too. `x + (quantized - x).detach()` does that, and so "
            "does a look at codes already clamped. Out there x may drift on, and the result never moves",
        ),
        Misconception(
            "zero everywhere",
            zero_everywhere,
            "your gradient is 0 everywhere. That is the true derivative of rounding, almost everywhere, and with it "
            "nothing is ever learned. Straight through means: take rounding for the identity",
        ),
        Misconception(
            "the condition on x",
            condition_on_reals,
            "you compare x with the real numbers of the first and last code. Up to half a step beyond them x still "
            "rounds to an end code and is not clamped: ask the code, not x",
        ),
        Misconception(
            "zero inside",
            zero_inside,
            "your mask is the wrong way round: the gradient passes only where the code is saturated",
        ),
        Misconception(
            "end codes blocked",
            end_codes_blocked,
            "you also block the first and the last code. They are proper codes: saturated is only what had to be "
            "clamped. Some versions of PyTorch do so too: the gradient of `torch.clamp` is 0 at its very ends",
        ),
        Misconception(
            "the low end forgotten",
            low_end_forgotten,
            "you ask only whether the code is too large. Below 0 it is clamped too",
        ),
        Misconception(
            "the high end forgotten",
            high_end_forgotten,
            "you ask only whether the code is negative. Above 2^bits - 1 it is clamped too",
        ),
        Misconception(
            "zero point forgotten",
            inside_without_zero_point,
            "your codes lack the zero point. So every negative x counts as saturated",
        ),
        Misconception(
            "signed codes",
            inside_signed_codes,
            "you compare with -2^(bits-1) … 2^(bits-1) - 1. Those are the ends of signed codes; these go from 0 to "
            "2^bits - 1",
        ),
        Misconception(
            "divided by the scale",
            divided_by_the_scale,
            "you divide by the scale. That is the gradient of the code; the way back to real numbers multiplies by the "
            "scale again, and the two cancel",
        ),
        Misconception(
            "multiplied by the scale",
            multiplied_by_the_scale,
            "you multiply by the scale. The way back to real numbers does, but x / scale divided before: the two "
            "cancel",
        ),
        Misconception(
            "only the mask",
            only_the_mask,
            "this is the mask alone, the derivative of the result by x. The chain rule multiplies it by the gradient "
            "that arrives",
        ),
        Misconception(
            "the gradient clamped",
            gradient_clamped,
            "you clamp the gradient's values to the range. Clamping concerned x: what decides is where x was, not how "
            "large the gradient is",
        ),
        Misconception(
            "the gradient quantized",
            gradient_quantized,
            "you quantize the gradient as well. It passes unchanged: only the forward pass rounds",
        ),
    ),
    shows="straight through, rounding counts as the identity, and only saturation stops the gradient.",
    derivation=(
        "x̂ = s · (clamp(round(x / s) + z) - z). With round' = 1 the chain rule gives s · clamp'(q) · 1/s = "
        "clamp'(q): 1 inside and 0 where saturated. Source: Bengio, Léonard, Courville 2013, arXiv:1308.3432."
    ),
    forbidden=("kdcourse.quantization.fake_quantize",),
    points=2,
)

EXERCISES = (SCALE_AND_ZERO_POINT, QUANTIZE, BEST_CLIP, CHANNEL_SCALES, FOLDED, STRAIGHT_THROUGH)
