"""07.6 a gradient straight through."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


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


def straight_drawn(g: torch.Generator) -> Case:
    shape, bits = (integer(g, 1, 4), integer(g, 1, 9)), integer(g, 2, 8)
    scale = draw(1, seed=g).abs().item() / 2**bits + 0.01
    return case(draw(*shape, seed=g), draw(*shape, seed=g), scale, integer(g, 0, 2**bits - 1), bits=bits)


EXERCISE = Exercise(
    id="07.6",
    title="a gradient straight through",
    question=(
        "In training, fake quantization replaces x by scale · (q - zero_point), where q is the code "
        "round(x / scale) + zero_point, clamped to 0 … 2^bits - 1. `gradient`, of the shape of `x`, is the loss's "
        "gradient with respect to the result. Write "
        "`my_straight_through_gradient(x, gradient, scale, zero_point, *, bits)`: the gradient handed on to x by the "
        "straight-through estimator. It treats rounding as the identity, but not clamping: the gradient passes "
        "unchanged where the code before clamping is in 0 … 2^bits - 1, both ends included, and is 0 elsewhere. "
        "Round half to even; there are no ties here."
    ),
    skeleton=(
        "def my_straight_through_gradient(x, gradient, scale, zero_point, *, bits):\n"
        '    """The gradient that fake quantization hands on to x."""\n    ...'
    ),
    reference=straight_through_gradient,
    alternatives=(gradient_where_unsaturated, gradient_by_autograd),
    cases=straight_cases,
    drawn=straight_drawn,
    hints=(
        "Where would a small change of x still change the result, if only rounding were not there?",
        "Compute the codes, unclamped. A comparison with both ends gives a mask.",
        "`codes = torch.round(x / scale) + zero_point`, and `gradient * ((codes >= 0) & (codes <= 2**bits - 1))`.",
    ),
    misconceptions=(
        Misconception(
            "passes everywhere",
            passes_everywhere,
            "your gradient passes where the code is saturated as well. `x + (quantized - x).detach()` does that, "
            "and so does a look at codes already clamped. Out there x may drift on, and the result never moves",
        ),
        Misconception(
            "zero everywhere",
            zero_everywhere,
            "your gradient is 0 everywhere. That is the true derivative of rounding, almost everywhere, and with it "
            "nothing is ever learned. Straight through means: treat rounding as the identity",
        ),
        Misconception(
            "the condition on x",
            condition_on_reals,
            "you compare x with the values of the first and last code. Up to half a step beyond them x still "
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
            "you also block the first and the last code. They are proper codes: only what had to be clamped is "
            "saturated. Some versions of PyTorch do this as well: the gradient of `torch.clamp` is 0 at its very ends",
        ),
        Misconception(
            "the low end forgotten",
            low_end_forgotten,
            "you ask only whether the code is too large. Below 0 it is clamped as well",
        ),
        Misconception(
            "the high end forgotten",
            high_end_forgotten,
            "you ask only whether the code is negative. Above 2^bits - 1 it is clamped as well",
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
            "you divide by the scale. That is the gradient of the code; dequantizing multiplies by the "
            "scale again, and the two cancel",
        ),
        Misconception(
            "multiplied by the scale",
            multiplied_by_the_scale,
            "you multiply by the scale. Dequantizing does, but x / scale divided before: the two cancel",
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
            "you clamp the gradient's values to the range. Clamping concerned x: what matters is where x was, not how "
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
