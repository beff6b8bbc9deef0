"""15.3 a sum that remembers what it lost."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import uniform

Pair = tuple[Tensor, Tensor]


def compensated_add(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    wanted = update + lost
    new_total = total + wanted
    return new_total, wanted - (new_total - total)


def add_in_two_parts(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    """Knuth's sum, which needs no order of sizes."""
    wanted = lost + update
    new_total = wanted + total
    arrived = new_total - total
    return new_total, (total - (new_total - arrived)) + (wanted - arrived)


def add_in_float32(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    exact = total.float() + (update + lost).float()
    new_total = exact.to(total.dtype)
    return new_total, (exact - new_total).to(total.dtype)


def lost_forgotten(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    new_total = total + update
    return new_total, update - (new_total - total)


def plain(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    return total + update, lost


def nothing_is_lost(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    return total + (update + lost), torch.zeros_like(lost)


def of_the_update_alone(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    new_total = total + (update + lost)
    return new_total, update - (new_total - total)


def subtracted(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    return compensated_add(total, -lost, update)


def other_sign(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    new_total, new_lost = compensated_add(total, lost, update)
    return new_total, -new_lost


def kahans_sign(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    wanted = update - lost
    new_total = total + wanted
    return new_total, (new_total - total) - wanted


def accumulated(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    new_total, new_lost = compensated_add(total, lost, update)
    return new_total, lost + new_lost


def rest_to_the_total(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    new_total = (total + lost) + update
    return new_total, (update + lost) - (new_total - total)


def exchanged(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    new_total, new_lost = compensated_add(total, lost, update)
    return new_lost, new_total


def summed_in_float32(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    return total.float() + update.float() + lost.float(), torch.zeros_like(lost)


def lost_in_float32(total: Tensor, lost: Tensor, update: Tensor) -> Pair:
    new_total, exact = total + (update + lost), total.float() + update.float() + lost.float()
    return new_total, exact - new_total.float()


def _signed(count: int, g: torch.Generator, low: float, high: float) -> Tensor:
    return draw(count, seed=g).sign() * (low + (high - low) * uniform(count, seed=g))


def _case(seed: int, count: int, dtype: torch.dtype, size: float) -> Case:
    """No update is so small that a sum in float32 would be inexact: it is another right way to find what is lost."""
    g = torch.Generator().manual_seed(seed)
    total, lost = _signed(count, g, 2, 8), _signed(count, g, size / 10, size)
    return case(total.to(dtype), lost.to(dtype), _signed(count, g, 2 * size, 6 * size).to(dtype))


def add_cases() -> list[Case]:
    bf16 = torch.bfloat16
    one, none = torch.tensor([1.0, 4.0], dtype=bf16), torch.zeros(2, dtype=bf16)
    return [
        case(one, none, torch.tensor([0.001, -0.01], dtype=bf16)),
        case(one.clone(), torch.tensor([0.003, 0.007], dtype=bf16), torch.tensor([0.002, 0.02], dtype=bf16)),
        case(torch.tensor([1.0], dtype=bf16), torch.tensor([-0.003], dtype=bf16), torch.tensor([0.25], dtype=bf16)),
        _case(30, 6, bf16, 0.01),
        _case(40, 6, torch.float16, 0.002),
        _case(50, 4, bf16, 0.15),
    ]


def drawn_add(g: torch.Generator) -> Case:
    dtype = (torch.bfloat16, torch.float16)[integer(g, 0, 1)]
    return _case(integer(g, 100, 9999), integer(g, 1, 6), dtype, integer(g, 1, 9) / 100)


EXERCISE = Exercise(
    id="15.3",
    title="a sum that remembers what it lost",
    question=(
        "A long sum is kept in half precision. A second tensor beside it keeps what rounding takes away: `lost`, what "
        "is still missing from `total`. Write `my_compensated_add(total, lost, update)` for three tensors of the same "
        "shape and dtype, bfloat16 or float16. What has to be added is the update plus what was lost before, rounded "
        "to that dtype. Return two tensors of that dtype: the new total, and the new lost, which is exactly the part "
        "of what had to be added that did not arrive in the new total. `total` is always larger in magnitude than what "
        "is added."
    ),
    skeleton=(
        "def my_compensated_add(total, lost, update):\n"
        '    """One step of a compensated sum: the new total, and what is missing from it."""\n    ...'
    ),
    reference=compensated_add,
    alternatives=(add_in_two_parts, add_in_float32),
    cases=add_cases,
    drawn=drawn_add,
    hints=(
        "After `new_total = total + wanted`, how can you find out how much of `wanted` really arrived?",
        "`new_total - total` arrived, and this difference is exact. What is missing is `wanted` minus that.",
        "`wanted = update + lost`, `new_total = total + wanted`, `return new_total, wanted - (new_total - total)`.",
    ),
    misconceptions=(
        Misconception(
            "what was lost is forgotten",
            lost_forgotten,
            "you add the update alone. What was lost before must be added with it, or it stays lost",
        ),
        Misconception(
            "a plain sum",
            plain,
            "this is the plain sum: `lost` is neither used nor renewed",
        ),
        Misconception(
            "nothing is lost",
            nothing_is_lost,
            "the new total is correct, but you say that nothing is missing. In algebra (total + wanted) - total is "
            "wanted; in half precision it is not",
        ),
        Misconception(
            "lost of the update alone",
            of_the_update_alone,
            "the new total is correct. But you compare what arrived with the update alone. What had to be added is the "
            "update *plus* the old rest",
        ),
        Misconception(
            "the rest is subtracted",
            subtracted,
            "you subtract the old rest. In some books the compensation has the other sign; here `lost` is what is "
            "missing, so it is added",
        ),
        Misconception(
            "the new rest has the other sign",
            other_sign,
            "the new total is correct, and the new rest has the wrong sign: it is what had to be added minus what "
            "arrived",
        ),
        Misconception(
            "Kahan's sign",
            kahans_sign,
            "this is Kahan's sum with the sign of his paper, where the compensation is what was added too much. Here "
            "`lost` is what is missing: add it, and return what had to be added minus what arrived",
        ),
        Misconception(
            "rests accumulated",
            accumulated,
            "you add the old rest to the new one. It has just been added to the update, so it is counted twice",
        ),
        Misconception(
            "the rest goes to the total",
            rest_to_the_total,
            "you add the old rest to the total first. It is far too small for that and is rounded away again: add it "
            "to the update, which has its size",
        ),
        Misconception("exchanged", exchanged, "the two results are exchanged: first the total, then what is missing"),
        Misconception(
            "summed in float32",
            summed_in_float32,
            "you sum in float32, where almost nothing is lost. The total has to be kept in the dtype of `total`",
        ),
        Misconception(
            "lost in float32",
            lost_in_float32,
            "you compute what is missing from sums in float32. It contains what update plus rest lost before they were "
            "added. Compute in the tensors' dtype",
        ),
    ),
    shows="two numbers of a short format can hold a sum as well as one number of a format twice as long.",
    derivation=(
        "If |total| ≥ |wanted|, the difference new_total - total is a number of the format, so it is exact, and so is "
        "wanted minus it: total + wanted = new_total + new_lost without any error. Sources: Kahan 1965, "
        "doi:10.1145/363707.363723; Dekker 1971, doi:10.1007/BF01397083."
    ),
    relative=1e-6,
    absolute=0.0,
)
