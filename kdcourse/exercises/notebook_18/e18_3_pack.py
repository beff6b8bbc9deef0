"""18.3 several codes in a byte."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer, refusal


def pack(codes: Tensor, *, bits: int) -> Tensor:
    half, per_byte = 2 ** (bits - 1), 8 // bits
    if (codes < -half).any() or (codes >= half).any():
        raise ValueError(f"{bits} bits hold codes from {-half} to {half - 1}")
    unsigned = F.pad(codes.flatten() + half, (0, -codes.numel() % per_byte))
    places = bits * torch.arange(per_byte)
    return (unsigned.reshape(-1, per_byte) << places).sum(dim=1).to(torch.uint8)


def pack_by_loop(codes: Tensor, *, bits: int) -> Tensor:
    packed: list[int] = []
    for number, code in enumerate(codes.flatten().tolist()):
        unsigned = code + 2 ** (bits - 1)
        if not 0 <= unsigned < 2**bits:
            raise ValueError(f"{code} does not fit into {bits} bits")
        place = number * bits % 8
        if place == 0:
            packed.append(0)
        packed[-1] += unsigned * 2**place
    return torch.tensor(packed, dtype=torch.uint8)


def pack_by_numpy(codes: Tensor, *, bits: int) -> Tensor:
    unsigned = codes.numpy().reshape(-1, 1) + 2 ** (bits - 1)
    if np.any((unsigned < 0) | (unsigned > 2**bits - 1)):
        raise ValueError("a code is out of range")
    each = np.unpackbits(unsigned.astype(np.uint8), axis=1, bitorder="little")[:, :bits]
    return torch.from_numpy(np.packbits(each.flatten(), bitorder="little"))


def _unsigned(codes: Tensor, bits: int) -> Tensor:
    """From 0 on, in one row, or the refusal."""
    half = 2 ** (bits - 1)
    if (codes < -half).any() or (codes >= half).any():
        raise ValueError("a code is out of range")
    return codes.flatten() + half


def _packed(unsigned: Tensor, bits: int, fill: int = 0) -> Tensor:
    """The lowest bits first; what does not fit into its place is added to the next one, as a sum does it."""
    per_byte = 8 // bits
    full = F.pad(unsigned, (0, -len(unsigned) % per_byte), value=fill)
    sums = (full.reshape(-1, per_byte) << bits * torch.arange(per_byte)).sum(dim=1)
    return (sums % 256).to(torch.uint8)


def highest_first(codes: Tensor, *, bits: int) -> Tensor:
    unsigned, per_byte = _unsigned(codes, bits), 8 // bits
    full = F.pad(unsigned, (0, -len(unsigned) % per_byte))
    return _packed(full.reshape(-1, per_byte).flip(1).flatten(), bits)


def last_byte_shifted(codes: Tensor, *, bits: int) -> Tensor:
    result = [0] * -(-codes.numel() * bits // 8)
    for number, code in enumerate(_unsigned(codes, bits).tolist()):
        result[number * bits // 8] = (result[number * bits // 8] << bits) | code
    return torch.tensor(result, dtype=torch.uint8)


def twos_complement(codes: Tensor, *, bits: int) -> Tensor:
    _unsigned(codes, bits)
    return _packed(codes.flatten() % 2**bits, bits)


def offset_one_less(codes: Tensor, *, bits: int) -> Tensor:
    return _packed((_unsigned(codes, bits) - 1) % 2**bits, bits)


def sign_and_size(codes: Tensor, *, bits: int) -> Tensor:
    half = 2 ** (bits - 1)
    _unsigned(codes, bits)
    return _packed(codes.flatten().abs() % half + half * (codes.flatten() < 0), bits)


def a_byte_each(codes: Tensor, *, bits: int) -> Tensor:
    return _unsigned(codes, bits).to(torch.uint8)


def rows_padded(codes: Tensor, *, bits: int) -> Tensor:
    _unsigned(codes, bits)
    if codes.ndim < 2:
        return pack(codes, bits=bits)
    rows = codes.reshape(-1, codes.shape[-1]) if codes.numel() else codes.reshape(0, 1)
    return torch.cat([torch.zeros(0, dtype=torch.uint8), *(_packed(_unsigned(row, bits), bits) for row in rows)])


def column_by_column(codes: Tensor, *, bits: int) -> Tensor:
    return pack(codes.permute(*reversed(range(codes.ndim))), bits=bits)


def rest_dropped(codes: Tensor, *, bits: int) -> Tensor:
    unsigned = _unsigned(codes, bits)
    return _packed(unsigned[: len(unsigned) - len(unsigned) % (8 // bits)], bits)


def filled_with_code_zero(codes: Tensor, *, bits: int) -> Tensor:
    return _packed(_unsigned(codes, bits), bits, fill=2 ** (bits - 1))


def halves_beside_each_other(codes: Tensor, *, bits: int) -> Tensor:
    unsigned, per_byte = _unsigned(codes, bits), 8 // bits
    full = F.pad(unsigned, (0, -len(unsigned) % per_byte))
    return _packed(full.reshape(per_byte, -1).T.flatten(), bits)


def always_four(codes: Tensor, *, bits: int) -> Tensor:
    return _packed(_unsigned(codes, bits), 4)


def range_unchecked(codes: Tensor, *, bits: int) -> Tensor:
    return _packed(codes.flatten() + 2 ** (bits - 1), bits)


def cut_to_the_bits(codes: Tensor, *, bits: int) -> Tensor:
    return _packed((codes.flatten() + 2 ** (bits - 1)) % 2**bits, bits)


def saturated(codes: Tensor, *, bits: int) -> Tensor:
    half = 2 ** (bits - 1)
    return pack(codes.clamp(-half, half - 1), bits=bits)


def a_code_too_many(codes: Tensor, *, bits: int) -> Tensor:
    half = 2 ** (bits - 1)
    if (codes < -half).any() or (codes > half).any():
        raise ValueError("a code is out of range")
    return range_unchecked(codes, bits=bits)


def _codes(generator: torch.Generator | int, bits: int, *shape: int) -> Tensor:
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    return torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, generator=generator)


def pack_cases() -> list[Case]:
    why = "a code that does not fit into its bits"
    return [
        case(torch.tensor([-7, 2]), bits=4),
        case(torch.tensor([-8, 7, 1]), bits=4),
        case(torch.tensor([0, 1, -2, -1, 1]), bits=2),
        case(torch.tensor([-1, 0, 0, -1, -1, 0, 0, 0, 0, -1, 0]), bits=1),
        case(torch.tensor([[-128, 127, 0], [5, -6, -1]]), bits=8),
        case(_codes(1, 4, 3, 5), bits=4),
        case(_codes(2, 2, 2, 3, 3), bits=2),
        case(_codes(3, 4, 4, 6), bits=4),
        case(_codes(4, 1, 3, 7), bits=1),
        case(torch.zeros(0, dtype=torch.int64), bits=4),
        refusal(why, torch.tensor([3, 8]), bits=4),
        refusal(why, torch.tensor([-9, 3, 1]), bits=4),
        refusal(why, torch.tensor([[0, 3], [1, 1]]), bits=2),
        refusal(why, torch.tensor([1, 0]), bits=1),
        refusal(why, torch.tensor([-200, 300]), bits=8),
    ]


def drawn_pack(g: torch.Generator) -> Case:
    bits = 2 ** integer(g, 0, 3)
    shape = (integer(g, 1, 5), integer(g, 1, 7))[: integer(g, 1, 2)]
    return case(_codes(g, bits, *shape), bits=bits)


EXERCISE = Exercise(
    id="18.3",
    title="several codes in a byte",
    question=(
        "`codes` is an int64 tensor of any shape with codes from -2^(bits-1) to 2^(bits-1) - 1, and `bits` is 1, 2, 4 "
        "or 8. Write `my_pack(codes, *, bits)`: the bytes to be stored, a uint8 tensor of one dimension, with 8 / bits "
        "codes in each byte. Take the codes row after row, as `flatten` does, without a gap between rows. Add "
        "2^(bits-1) to each, so that none is negative. The first code of a byte goes into its lowest bits, the next "
        "one into the bits above, and so on. Bits of the last byte that no code needs are 0. Without any code there is "
        "no byte: the tensor has length 0. If a code does not fit into `bits` bits, raise a `ValueError`."
    ),
    skeleton=('def my_pack(codes, *, bits):\n    """The codes in bytes, several in each, uint8."""\n    ...'),
    reference=pack,
    alternatives=(pack_by_loop, pack_by_numpy),
    cases=pack_cases,
    drawn=drawn_pack,
    hints=(
        "In a decimal number, 2 and 7 are packed as 72: the first digit, plus ten times the second. What is the ten "
        "here?",
        "Flatten, add 2^(bits-1), append zeros until the length is a multiple of 8 / bits, and reshape to one row per "
        "byte. Code number k of a byte counts 2^(bits · k).",
        "`(unsigned.reshape(-1, 8 // bits) << bits * torch.arange(8 // bits)).sum(dim=1).to(torch.uint8)`, where "
        "`torch.nn.functional.pad` appended the zeros.",
    ),
    misconceptions=(
        Misconception(
            "the highest bits first",
            highest_first,
            "your first code lies in the highest bits of its byte. It belongs in the lowest ones. A reader of the "
            "file would swap the weights of every byte",
        ),
        Misconception(
            "shifted up one after another",
            last_byte_shifted,
            "you shift what is there upwards for each new code, so that the first one ends at the top. It stays in the "
            "lowest bits: shift the new one",
        ),
        Misconception(
            "two's complement",
            twos_complement,
            "you did not add 2^(bits-1): negative codes are stored by their last bits, in two's complement. A reader "
            "that subtracts 2^(bits-1) gets other codes",
        ),
        Misconception(
            "one less",
            offset_one_less,
            "you add 2^(bits-1) - 1. The lowest code then becomes -1, which wraps around to the highest one. Every "
            "weight is read one step off",
        ),
        Misconception(
            "sign and size",
            sign_and_size,
            "you store a bit for the sign and the size beside it. Then 0 has two codes, and the lowest one has none. "
            "Add 2^(bits-1) instead",
        ),
        Misconception(
            "a byte for each",
            a_byte_each,
            "you store each code in a byte of its own. With 4 bits half of the file is zeros",
        ),
        Misconception(
            "rows padded",
            rows_padded,
            "you start a new byte with each row. The codes follow one another without a gap; only the last byte may "
            "have bits to spare",
        ),
        Misconception(
            "column by column",
            column_by_column,
            "you take the codes column by column. `flatten` goes row after row",
        ),
        Misconception(
            "the rest dropped",
            rest_dropped,
            "where the last byte is not full you leave it out, and its codes are lost",
        ),
        Misconception(
            "filled with the code of 0",
            filled_with_code_zero,
            "you append codes of 0 and then add 2^(bits-1) to them, too. The bits that no code needs are to be 0",
        ),
        Misconception(
            "parts beside each other",
            halves_beside_each_other,
            "you put the first codes of all bytes first, then the second ones. Neighbours share a byte: reshape to one "
            "row per byte",
        ),
        Misconception(
            "always 4 bits",
            always_four,
            "you always pack two codes into a byte. That is right for 4 bits alone; there are 8 / bits",
        ),
        Misconception(
            "range unchecked",
            range_unchecked,
            "you do not look at the range. A code that is too large spills into the bits of its neighbour, and two "
            "weights are wrong without a word: raise a `ValueError`",
        ),
        Misconception(
            "cut to the bits",
            cut_to_the_bits,
            "you keep the last bits of a code that is too large. It becomes another code without a word: raise a "
            "`ValueError`",
        ),
        Misconception(
            "saturated",
            saturated,
            "you clamp a code that does not fit. Packing must not change weights: raise a `ValueError`",
        ),
        Misconception(
            "a code too many",
            a_code_too_many,
            "you accept 2^(bits-1). With 4 bits the codes end at 7: 8 becomes 16, which does not fit",
        ),
    ),
    shows="a file of 4-bit codes is half a byte per weight only because someone packs them.",
    derivation=(
        "With B = 2^bits, each byte is u₀ + u₁·B + u₂·B² + …, each u in 0 … B - 1, so that every byte stands for one "
        "sequence of codes only: u_k = (byte >> bits · k) mod B. n codes take ⌈n · bits / 8⌉ bytes. Some files "
        "store a zero point minus one: whoever forgets to add it again reads every weight one step off."
    ),
    forbidden=("kdcourse.quantization.pack_codes",),
)
