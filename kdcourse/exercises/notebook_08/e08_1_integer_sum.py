"""08.1 a sum in 32 bits."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer
from .common import whole


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


def codes_in_int8(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return (codes.to(torch.int8).int() - zero_point) @ weights.int().T


def weights_in_uint8(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return (codes.int() - zero_point) @ weights.to(torch.uint8).int().T


def zero_point_added(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return (codes.int() + zero_point) @ weights.int().T


def zero_point_of_both(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return (codes.int() - zero_point) @ (weights.int() - zero_point).T


def correction_in_int8(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return codes.int() @ weights.int().T - zero_point * weights.sum(dim=1, dtype=torch.int8).int()


def outputs_first(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return integer_sum(codes, weights, zero_point).T


def through_float32(codes: Tensor, weights: Tensor, zero_point: int) -> Tensor:
    return ((codes.float() - zero_point) @ weights.float().T).int()


def sum_cases() -> list[Case]:
    small = torch.tensor([[250, 3]], dtype=torch.uint8), torch.tensor([[2, -1], [100, 120]], dtype=torch.int8)
    codes = whole(0, 255, 3, 40, seed=801, dtype=torch.uint8)
    weights = whole(-127, 127, 4, 40, seed=802, dtype=torch.int8)
    bright = whole(200, 255, 2, 7, seed=803, dtype=torch.uint8)
    large = whole(90, 127, 3, 7, seed=804, dtype=torch.int8)
    long = (  # beyond 2^24 float32 has no room for every integer
        whole(200, 255, 1, 1500, seed=805, dtype=torch.uint8),
        whole(90, 127, 2, 1500, seed=806, dtype=torch.int8),
    )
    return [case(*small, 5), case(codes, weights, 37), case(bright, large, 0), case(bright, -large, 12), case(*long, 3)]


def sum_drawn(g: torch.Generator) -> Case:
    images, outputs, inputs = integer(g, 1, 4), integer(g, 1, 4), integer(g, 2, 30)
    codes = torch.randint(0, 256, (images, inputs), generator=g).to(torch.uint8)
    return case(codes, torch.randint(-127, 128, (outputs, inputs), generator=g).to(torch.int8), integer(g, 0, 255))


EXERCISE = Exercise(
    id="08.1",
    title="a sum in 32 bits",
    question=(
        "A linear layer in integers. `codes` (N, I) is uint8, `weights` (O, I) is int8, `zero_point` is an int "
        "from 0 to 255: the code of 0. Weights have no zero point. Write "
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
    drawn=sum_drawn,
    hints=(
        "How large can one product become? And two of them? Which type can represent that?",
        "Integer tensors wrap around without a warning. Make both int32 before the first subtraction.",
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
            "you add up in int16. It fits one product of 255 · 127, but not two: the sum wraps around at 32767",
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
            "your sums stop at ±2¹⁵. To clamp is better than to wrap around, but the value is lost anyway: an "
            "accumulator has 32 bits",
        ),
        Misconception(
            "zero point subtracted in uint8",
            difference_in_uint8,
            "you subtract while the codes are still uint8. That type has no negative numbers, so 3 - 5 becomes 254. "
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
        Misconception(
            "codes in int8",
            codes_in_int8,
            "you read the codes as int8. They go up to 255: in int8 250 becomes -6",
        ),
        Misconception(
            "weights in uint8",
            weights_in_uint8,
            "you read the weights as uint8. They are signed: there -1 becomes 255",
        ),
        Misconception(
            "zero point added",
            zero_point_added,
            "you add the zero point. It is subtracted: the code of 0 must count as 0",
        ),
        Misconception(
            "a zero point for the weights as well",
            zero_point_of_both,
            "you take the zero point off the weights as well. Theirs is 0: they are symmetric",
        ),
        Misconception(
            "the correction in int8",
            correction_in_int8,
            "the sum of the weights wraps around in int8. Make it int32 before you multiply it by the zero point",
        ),
        Misconception(
            "outputs first",
            outputs_first,
            "your result is transposed: (O, N). Return (N, O), a row for every image",
        ),
        Misconception(
            "through float32",
            through_float32,
            "you compute in float32. It represents every integer only up to 2^24, and these sums are larger: use "
            "int32 all along",
        ),
    ),
    shows=(
        "int8 products are added in int32, and the zero point is subtracted from every input before it is multiplied."
    ),
    derivation=(
        "x = s_x (q - z), w = s_w v: Σ x w = s_x s_w Σ (q - z) v, and Σ (q - z) v = Σ q v - z Σ v. "
        "Source: Jacob et al. 2018, arXiv:1712.05877, section 2.3."
    ),
    forbidden=("kdcourse.quantization.integer_linear",),
    relative=0.0,
    absolute=0.0,
)
