"""15.4 a step with master weights."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Pair = tuple[Tensor, Tensor]


def master_step(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    new_master = master - learning_rate * gradients.float()
    return new_master, new_master.half()


def master_step_on_a_copy(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    new_master = master.clone()
    new_master.add_(gradients.to(torch.float32), alpha=-learning_rate)
    return new_master, new_master.to(torch.float16)


def master_step_in_float64(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    new_master = (master.double() - learning_rate * gradients.double()).to(torch.float32)
    return new_master, new_master.to(gradients.dtype)


def in_half(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    weights = master.half() - learning_rate * gradients
    return weights.float(), weights


def product_in_half(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    new_master = master - (learning_rate * gradients).float()
    return new_master, new_master.half()


def from_the_copy(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    new_master = master.half().float() - learning_rate * gradients.float()
    return new_master, new_master.half()


def master_rounded(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    weights = (master - learning_rate * gradients.float()).half()
    return weights.float(), weights


def copy_of_the_old(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    return master - learning_rate * gradients.float(), master.half()


def copy_stepped_apart(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    return master - learning_rate * gradients.float(), master.half() - learning_rate * gradients


def copy_not_rounded(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    new_master = master - learning_rate * gradients.float()
    return new_master, new_master.clone()


def copy_in_bfloat16(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    new_master = master - learning_rate * gradients.float()
    return new_master, new_master.bfloat16()


def ascent(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    return master_step(master, -gradients, learning_rate=learning_rate)


def no_learning_rate(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    return master_step(master, gradients, learning_rate=1.0)


def exchanged(master: Tensor, gradients: Tensor, *, learning_rate: float) -> Pair:
    new_master, weights = master_step(master, gradients, learning_rate=learning_rate)
    return weights, new_master


def _case(g: torch.Generator, count: int, learning_rate: float, sizes: tuple[float, float]) -> Case:
    """No new weight is so near a tie that the last bit of float32 decides where its copy goes."""
    while True:
        master, gradients = draw(count, seed=g, spread=sizes[0]).float(), draw(count, seed=g, spread=sizes[1]).half()
        exact = master.double() - learning_rate * gradients.double()
        if torch.equal((exact * (1 - 1e-6)).half(), (exact * (1 + 1e-6)).half()):
            return case(master, gradients, learning_rate=learning_rate)


def step_cases() -> list[Case]:
    return [
        case(torch.tensor([1.0, 0.1]), torch.tensor([0.1, -0.2]).half(), learning_rate=0.001),
        case(torch.tensor([1e-3, -2e-3, 0.7]), torch.tensor([3e-5, 7e-4, 5e-2]).half(), learning_rate=0.003),
        _case(torch.Generator().manual_seed(60), 5, 0.01, (1e-3, 1e-3)),
        _case(torch.Generator().manual_seed(70), 6, 0.3, (1.0, 0.1)),
    ]


def drawn_step(g: torch.Generator) -> Case:
    return _case(g, integer(g, 2, 6), integer(g, 1, 9) / 1000, (10.0 ** -integer(g, 0, 3), 10.0 ** -integer(g, 1, 3)))


EXERCISE = Exercise(
    id="15.4",
    title="a step with master weights",
    question=(
        "A network computes with float16 weights. Its *master* weights are a float32 tensor, and only they are "
        "trained. Write `my_master_step(master, gradients, *, learning_rate)`: one step of gradient descent, where "
        "`gradients` is a float16 tensor. Return two tensors: the new master weights in float32, computed without "
        "rounding anything to float16 on the way, and the float16 weights for the next forward pass: the new master "
        "weights, rounded."
    ),
    skeleton=(
        "def my_master_step(master, gradients, *, learning_rate):\n"
        '    """The new master weights, and their copy for the next forward pass."""\n    ...'
    ),
    reference=master_step,
    alternatives=(master_step_on_a_copy, master_step_in_float64),
    cases=step_cases,
    drawn=drawn_step,
    hints=(
        "In which dtype does PyTorch compute `learning_rate * gradients`? A Python number does not change a tensor's "
        "dtype.",
        "Convert the gradients first, step in float32, and only then make the copy.",
        "`new_master = master - learning_rate * gradients.float()`; `return new_master, new_master.half()`.",
    ),
    misconceptions=(
        Misconception(
            "the step in float16",
            in_half,
            "you step in float16. An update smaller than half a spacing leaves the weight where it is: that is what "
            "master weights are for",
        ),
        Misconception(
            "the product in float16",
            product_in_half,
            "the step is in float32, but `learning_rate * gradients` is computed in float16, where a small product "
            "loses its bits or becomes 0. Convert the gradients before you multiply",
        ),
        Misconception(
            "from the copy",
            from_the_copy,
            "you start from the float16 copy. What the master weights had collected below its precision is thrown "
            "away in every step",
        ),
        Misconception(
            "the master rounded",
            master_rounded,
            "you keep the rounded weights as the new master. Then small updates are lost as if there were no master",
        ),
        Misconception(
            "a copy of the old master",
            copy_of_the_old,
            "the new master is correct, but the copy is that of the *old* one: the network always computes with the "
            "weights of the step before",
        ),
        Misconception(
            "the copy steps on its own",
            copy_stepped_apart,
            "the new master is correct, but the copy makes its own step in float16. Round the new master instead, or "
            "the two drift apart",
        ),
        Misconception(
            "the copy is not rounded",
            copy_not_rounded,
            "the second result has to be float16: it is what the next forward pass computes with",
        ),
        Misconception(
            "a copy in bfloat16",
            copy_in_bfloat16,
            "the copy has to be float16. bfloat16 has 3 fraction bits less",
        ),
        Misconception("uphill", ascent, "you add the gradients. A step of gradient descent subtracts them"),
        Misconception(
            "no learning rate",
            no_learning_rate,
            "you subtract the gradients themselves. Multiply them by the learning rate",
        ),
        Misconception("exchanged", exchanged, "the two results are exchanged: first the master, then its copy"),
    ),
    shows="mixed precision keeps the weights twice, so that it needs more memory for them, not less.",
    derivation=(
        "A float16 weight of 1 ignores updates up to 2^-12 downwards and 2^-11 upwards. In float32 these are 2^-25 and "
        "2^-24, and the copy is made again from the sum of all updates. Per weight that is 4 + 2 bytes instead of 4. "
        "Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.1."
    ),
    relative=1e-6,
    absolute=1e-9,
)
