"""07.3 where to clip."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


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


def _least(x: Tensor, candidates: list[float], become: Callable[[float], Tensor]) -> float:
    return min(candidates, key=lambda clip: float((become(clip) - x).square().mean()))


def nearest_to_the_largest(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return min(candidates, key=lambda clip: abs(clip - x.abs().max().item()))


def one_code_more_on_each_side(x: Tensor, candidates: list[float], *, bits: int) -> float:
    n = 2 ** (bits - 1)
    return _least(x, candidates, lambda clip: (x / clip * n).round().clamp(-n, n) * clip / n)


def cut_off(x: Tensor, candidates: list[float], *, bits: int) -> float:
    n = 2 ** (bits - 1) - 1
    return _least(x, candidates, lambda clip: (x / clip * n).trunc().clamp(-n, n) * clip / n)


def smallest_mean_of_the_errors(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return min(candidates, key=lambda clip: abs(float((_symmetric(x, clip, bits) - x).mean())))


def only_the_high_end_clamped(x: Tensor, candidates: list[float], *, bits: int) -> float:
    n = 2 ** (bits - 1) - 1
    return _least(x, candidates, lambda clip: (x / clip * n).round().clamp(max=n) * clip / n)


def error_of_the_codes(x: Tensor, candidates: list[float], *, bits: int) -> float:
    return min(candidates, key=lambda clip: float(((_symmetric(x, clip, bits) - x) / clip).square().mean()))


def unsigned_codes(x: Tensor, candidates: list[float], *, bits: int) -> float:
    n = 2 ** (bits - 1) - 1
    return _least(x, candidates, lambda clip: (x / clip * n).round().clamp(0, n) * clip / n)


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


def drawn_clip(g: torch.Generator) -> Case:
    clips = (torch.rand(6, generator=g, dtype=torch.float64) * 4 + 0.5).sort().values
    return case(draw(integer(g, 20, 60), seed=g, spread=1.0), clips.tolist(), bits=integer(g, 2, 5))


EXERCISE = Exercise(
    id="07.3",
    title="where to clip",
    question=(
        "Symmetric quantization with the clipping value c has integers from -n to n as codes, n = 2^(bits-1) - 1, "
        "and the scale c / n. A number becomes round(x / scale), clamped to the codes; multiplied by the scale it "
        "is dequantized. Write `my_best_clip(x, candidates, *, bits)`: the element of `candidates`, a list of positive "
        "floats in ascending order, for which the mean squared error between `x` and its dequantized values is "
        "smallest. Return the candidate itself, a float. Round half to even. One candidate is always best."
    ),
    skeleton=(
        "def my_best_clip(x, candidates, *, bits):\n"
        '    """The candidate with the smallest mean squared quantization error."""\n    ...'
    ),
    reference=best_clip,
    alternatives=(best_clip_by_key, best_clip_at_once),
    cases=clip_cases,
    drawn=drawn_clip,
    hints=(
        "A small c clips large numbers; a large c makes coarse steps for all. Which error measures both?",
        "For each candidate: quantize, dequantize, compare with `x` itself, unclipped.",
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
            "Rounding errors count as well, and every number has one",
        ),
        Misconception(
            "only the clipping error",
            only_the_clipping_error,
            "you measure only the clipping error, and so never clip. Rounding is missing from your error: "
            "quantize and dequantize",
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
            "the smallest code as well",
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
            "you choose the candidate with the largest error. Take the smallest",
        ),
        Misconception(
            "the index of the best",
            place_of_the_best,
            "this is the index of the best candidate in the list. Return the candidate",
        ),
        Misconception(
            "the error of the best",
            error_of_the_best,
            "this is the smallest error. Return the candidate that has it",
        ),
        Misconception(
            "the nearest to the largest number",
            nearest_to_the_largest,
            "you choose the candidate nearest to the largest absolute value. Then nothing is clipped, and one outlier "
            "makes the steps coarse for all. Compute the error",
        ),
        Misconception(
            "one code more on each side",
            one_code_more_on_each_side,
            "your last code is 2^(bits-1). Codes from -n to n with n = 2^(bits-1) - 1 are asked for; with 2 bits that "
            "is one step, not two, from 0 to c",
        ),
        Misconception(
            "truncated instead of rounded",
            cut_off,
            "you truncate, as `int` and `trunc` do. Take the nearest code: `torch.round`",
        ),
        Misconception(
            "errors that cancel",
            smallest_mean_of_the_errors,
            "you average the errors with their signs, and so positive and negative ones cancel. Square them first",
        ),
        Misconception(
            "only the high end clamped",
            only_the_high_end_clamped,
            "you clamp only at n. Below -n there is no code either",
        ),
        Misconception(
            "the error of the codes",
            error_of_the_codes,
            "you measure the error in steps of the scale. The scale differs between candidates, so a coarse one looks "
            "better than it is: dequantize first",
        ),
        Misconception(
            "no negative codes",
            unsigned_codes,
            "your codes start at 0: every negative number becomes 0. Symmetric codes go from -n to n",
        ),
    ),
    shows="the best clip balances two errors: a few clipped numbers against coarser steps for all.",
    derivation=(
        "The squared error is Σ over |x| > c of (|x| - c)², which falls with c, plus rounding inside, about scale² / "
        "12 per number, which grows as c². With fewer bits the second weighs more, so the best c is smaller. Source: "
        "Banner, Nahshan, Soudry 2019, arXiv:1810.05723."
    ),
    forbidden=("kdcourse.quantization.mse_range",),
)
