"""22.16 a group that is sixteen steps off."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def unpacked_weights(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    zeros = (stored.long() + 1) % 16
    return scale[:, None] * (codes.long() - zeros[:, None])


def with_a_mask(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    zeros = (stored.int() + 1) & 15
    return (codes.int() - zeros.unsqueeze(1)).to(scale.dtype) * scale.unsqueeze(1)


def group_by_group(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    rows = []
    for row, kept, step in zip(codes.tolist(), stored.tolist(), scale.tolist(), strict=True):
        zero = 0 if kept == 15 else kept + 1
        rows.append([step * (code - zero) for code in row])
    return torch.tensor(rows, dtype=scale.dtype)


def _dequantized(codes: Tensor, zeros: Tensor, scale: Tensor) -> Tensor:
    return scale[:, None] * (codes.long() - zeros[:, None])


def sixteen(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    return _dequantized(codes, stored.long() + 1, scale)


def as_stored(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    return _dequantized(codes, stored.long(), scale)


def clamped(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    return _dequantized(codes, (stored.long() + 1).clamp(max=15), scale)


def one_less(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    return _dequantized(codes, (stored.long() - 1) % 16, scale)


def modulo_fifteen(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    return _dequantized(codes, (stored.long() + 1) % 15, scale)


def unsigned_difference(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    zeros = (stored + 1) % 16
    return scale[:, None] * (codes - zeros[:, None])


def symmetric_for_all(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    return _dequantized(codes, torch.full_like(stored, 8).long(), scale)


def middle_for_zero(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    zeros = stored.long() + 1
    return _dequantized(codes, torch.where(zeros == 16, 8, zeros), scale)


def scale_of_the_codes_alone(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    return scale[:, None] * codes.long() - (stored.long()[:, None] + 1) % 16


def other_sign(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    return -unpacked_weights(codes, stored, scale)


def differences_clamped(codes: Tensor, stored: Tensor, scale: Tensor) -> Tensor:
    zeros = (stored.long() + 1) % 16
    return scale[:, None] * (codes.long() - zeros[:, None]).clamp(-8, 7)


def zero_case(zeros: list[int], size: int, generator: torch.Generator) -> Case:
    codes = torch.randint(16, (len(zeros), size), generator=generator).to(torch.uint8)
    codes[:, 0], codes[:, -1] = 0, 15
    stored = torch.tensor([(zero - 1) % 16 for zero in zeros], dtype=torch.uint8)
    return case(codes, stored, draw(len(zeros), seed=generator, spread=0.5).abs() + 0.1)


def zero_cases() -> list[Case]:
    g = torch.Generator().manual_seed(391)
    return [
        case(torch.tensor([[0, 9]], dtype=torch.uint8), torch.tensor([15], dtype=torch.uint8), torch.ones(1).double()),
        zero_case([0, 7], 3, g),
        zero_case([0, 1, 8, 14, 15], 6, g),
    ]


def drawn_zeros(g: torch.Generator) -> Case:
    zeros = [integer(g, 0, 15) for _ in range(integer(g, 1, 5))]
    return zero_case(zeros, integer(g, 2, 6), g)


EXERCISE = Exercise(
    id="22.16",
    title="a group that is sixteen steps off",
    question=(
        "A file holds weights in groups of 4-bit codes: the weights of a group are scale · (code - zero point), and a "
        "zero point is an integer from 0 to 15. In this format it is stored as zero point - 1 in four bits, so that 0 "
        "is stored as 15. Fix `case_16` as `fixed_16(codes, stored, scale)`: the weights, a tensor (G, S) in the "
        "dtype of `scale`. `codes` (G, S) and `stored` (G,) are uint8 from 0 to 15, `scale` (G,) is one "
        "floating-point number per group."
    ),
    skeleton=(
        "def fixed_16(codes, stored, scale):\n"
        '    """The weights that codes, stored zero points and scales stand for."""\n    ...'
    ),
    reference=unpacked_weights,
    alternatives=(with_a_mask, group_by_group),
    cases=zero_cases,
    drawn=drawn_zeros,
    hints=(
        "Only some groups are wrong, and those by exactly 16 steps. Which zero points do they have?",
        "Store 0, and read it again: 0 - 1 is 15 in four bits, and 15 + 1 is …",
        "`(stored + 1) % 16`, in a type that can hold negative differences.",
    ),
    misconceptions=(
        Misconception(
            "16 for 0",
            sixteen,
            "the zero point 0 was stored as 15, and 15 + 1 is 16: every weight of such a group is 16 steps too low. "
            "What wrapped around when it was written must wrap around when it is read",
        ),
        Misconception(
            "as stored",
            as_stored,
            "you use the stored number as the zero point. In this format 1 is to be added; files of another version "
            "store it as it is, and nothing in the numbers tells them apart",
        ),
        Misconception(
            "clamped to 15",
            clamped,
            "you clamp 16 to 15. The zero point was 0, so the weights are now 15 steps off instead of 16",
        ),
        Misconception(
            "one less",
            one_less,
            "you subtract 1 once more. It was subtracted when the file was written: add it",
        ),
        Misconception(
            "modulo 15",
            modulo_fifteen,
            "four bits hold 16 numbers: the sum wraps around at 16. With 15 a zero point of 15 turns into 0, and one "
            "of 0 into 1",
        ),
        Misconception(
            "unsigned difference",
            unsigned_difference,
            "the zero points are right now, but code and zero point are uint8: where the code is smaller, the "
            "difference wraps around to about 250. Convert before you subtract",
        ),
        Misconception(
            "8 for all",
            symmetric_for_all,
            "8 is the zero point of symmetric codes. Here each group has its own",
        ),
        Misconception(
            "8 for 0",
            middle_for_zero,
            "you take 16 for an invalid zero point and replace it by the middle. It stands for 0",
        ),
        Misconception(
            "scale on the codes alone",
            scale_of_the_codes_alone,
            "the scale multiplies the difference: you multiply the codes only",
        ),
        Misconception(
            "the other sign",
            other_sign,
            "the sign is reversed: it is code - zero point",
        ),
        Misconception(
            "differences clamped",
            differences_clamped,
            "you clamp the differences to -8 … 7. With a zero point of 0 or 15 they go up to 15",
        ),
    ),
    shows="a number that wraps around on the way into a file has to wrap around on the way out.",
    derivation="Modulo 16, 0 - 1 = 15 and 15 + 1 = 0. Without the modulo the round trip maps 0 to 16.",
)
