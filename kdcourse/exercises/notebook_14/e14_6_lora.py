"""14.6 a layer with a low-rank update."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import drawn_factors, table


def lora(inputs: Tensor, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    frozen = F.linear(inputs, weight.detach(), bias.detach())
    return frozen + alpha / len(down) * (inputs @ down.T @ up.T)


def through_one_weight(
    inputs: Tensor, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor, *, alpha: float
) -> Tensor:
    rank = up.shape[1]
    whole = weight.detach() + alpha * (up @ down) / rank
    return inputs @ whole.T + bias.detach()


def direction_by_direction(
    inputs: Tensor, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor, *, alpha: float
) -> Tensor:
    outputs = torch.einsum("bi,oi->bo", inputs, weight.detach()) + bias.detach()
    scale = alpha / down.shape[0]
    for row, column in zip(down, up.T, strict=True):
        outputs = outputs + scale * torch.outer(inputs @ row, column)
    return outputs


def _lora(
    inputs: Tensor, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor, scale: float, shift: float = 0.0
) -> Tensor:
    frozen = F.linear(inputs, weight.detach(), bias.detach())
    return frozen + scale * (inputs @ down.T @ up.T + shift * bias.detach())


def rank_missing(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down, up, alpha)


def no_scale(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down, up, 1.0)


def alpha_missing(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down, up, 1 / len(down))


def root_of_the_rank(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down, up, alpha / math.sqrt(len(down)))


def scale_twice(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down, up, (alpha / len(down)) ** 2)


def divided_by_the_outputs(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down, up, alpha / len(up))


def bias_in_the_update(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down, up, alpha / len(down), shift=1.0)


def bias_forgotten(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, torch.zeros_like(b), down, up, alpha / len(down))


def everything_scaled(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    whole = alpha / len(down) * (w.detach() + up @ down)
    return F.linear(x, whole, b.detach())


def update_alone(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return alpha / len(down) * (x @ down.T @ up.T)


def subtracted(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down, up, -alpha / len(down))


def nothing_frozen(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return F.linear(x, w, b) + alpha / len(down) * (x @ down.T @ up.T)


def bias_not_frozen(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return F.linear(x, w.detach(), b) + alpha / len(down) * (x @ down.T @ up.T)


def weight_not_frozen(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return F.linear(x, w, b.detach()) + alpha / len(down) * (x @ down.T @ up.T)


def frozen_without_a_way_back(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    with torch.no_grad():
        frozen = F.linear(x, w, b)
    return frozen + alpha / len(down) * (x @ down.T @ up.T)


def factors_frozen(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down.detach(), up.detach(), alpha / len(down))


def down_frozen(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down.detach(), up, alpha / len(down))


def up_frozen(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    return _lora(x, w, b, down, up.detach(), alpha / len(down))


def a_relu_in_between(x: Tensor, w: Tensor, b: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Tensor:
    frozen = F.linear(x, w.detach(), b.detach())
    return frozen + alpha / len(down) * ((x @ down.T).relu() @ up.T)


WRONG = (
    Misconception(
        "the rank missing",
        rank_missing,
        "you multiply by alpha alone. It is alpha / r: otherwise a higher rank makes the update larger, and every "
        "rank needs another learning rate. With r = 1 the two are the same",
    ),
    Misconception(
        "no scale",
        no_scale,
        "the scale alpha / r is missing. Where alpha equals the rank, nobody notices",
    ),
    Misconception(
        "alpha missing",
        alpha_missing,
        "you divide by the rank, but alpha is missing: the scale is alpha / r",
    ),
    Misconception(
        "root of the rank",
        root_of_the_rank,
        "you divide alpha by the root of the rank. That came later, as rank-stabilized LoRA; here it is alpha / r",
    ),
    Misconception(
        "the scale twice",
        scale_twice,
        "the scale is in there twice, once with each factor: the product then has its square",
    ),
    Misconception(
        "divided by the outputs",
        divided_by_the_outputs,
        "you divide by the number of outputs. `len(up)` is n; the rank is `len(down)`, or `up.shape[1]`",
    ),
    Misconception(
        "the bias in the update",
        bias_in_the_update,
        "the bias is added in the update again. It belongs to the frozen layer, once",
    ),
    Misconception(
        "the bias forgotten",
        bias_forgotten,
        "the layer's bias is missing. The update changes the weight alone; the frozen bias stays in the sum",
    ),
    Misconception(
        "everything scaled",
        everything_scaled,
        "you scale the frozen weight, too. With `up` = 0 the layer would not be what it was: scale the update alone",
    ),
    Misconception(
        "the update alone",
        update_alone,
        "this is the update alone. Add what the frozen layer returns",
    ),
    Misconception(
        "subtracted",
        subtracted,
        "you subtract the update. The weight becomes W *plus* the product",
    ),
    Misconception(
        "nothing frozen",
        nothing_frozen,
        "the outputs are right, but weight and bias get a gradient, too: that is full fine-tuning with some extra "
        "parameters. Detach them",
    ),
    Misconception(
        "the bias not frozen",
        bias_not_frozen,
        "the outputs are right, but the bias gets a gradient. It is frozen: detach it",
    ),
    Misconception(
        "the weight not frozen",
        weight_not_frozen,
        "the outputs are right, but the weight gets a gradient. It is frozen: detach it",
    ),
    Misconception(
        "no way back through the frozen layer",
        frozen_without_a_way_back,
        "the outputs are right, but under `no_grad` the gradient of the inputs goes through the update alone, and "
        "the layers before this one learn the wrong thing. Detach weight and bias, not what is computed with them",
    ),
    Misconception(
        "both factors frozen",
        factors_frozen,
        "the outputs are right, but neither factor gets a gradient: nothing is left to train",
    ),
    Misconception(
        "down frozen",
        down_frozen,
        "the outputs are right, but `down` gets no gradient: it would stay random",
    ),
    Misconception(
        "up frozen",
        up_frozen,
        "the outputs are right, but `up` gets no gradient: it starts at zero, and would stay there",
    ),
    Misconception(
        "a ReLU in between",
        a_relu_in_between,
        "you put a ReLU between the factors. Such an adapter cannot be merged into the weight: the update is linear",
    ),
)


def _lora_case(seed: int, sizes: tuple[int, int, int, int], alpha: float) -> Case:
    count, m, n, rank = sizes
    layer = draw(n, m, seed=seed + 1, spread=1.0), draw(n, seed=seed + 2)
    factors = draw(rank, m, seed=seed + 3, spread=1.0), draw(n, rank, seed=seed + 4, spread=1.0)
    return case(draw(count, m, seed=seed, spread=1.0), *layer, *factors, alpha=alpha)


def lora_cases() -> list[Case]:
    start = _lora_case(40, (3, 4, 3, 2), 8.0)
    inputs, weight, bias, down, up = start.arguments
    half = [part.float() for part in _lora_case(60, (4, 3, 5, 3), 1.0).arguments]
    return [
        case(
            table([[1.0, 2.0]]),
            table([[0.5, -1.0]]),
            torch.tensor([3.0], dtype=torch.float64),
            table([[2.0, 1.0]]),
            table([[0.5]]),
            alpha=4.0,
        ),
        _lora_case(10, (3, 4, 2, 2), 3.0),
        _lora_case(20, (2, 3, 3, 3), 5.0),  # square
        case(inputs, weight, bias, down, torch.zeros_like(up), alpha=8.0),  # as it starts
        case(*half, alpha=1.5),
    ]


def drawn_lora(g: torch.Generator) -> Case:
    rank, m, n = drawn_factors(g)
    return _lora_case(integer(g, 100, 9999), (integer(g, 1, 5), m, n, rank), integer(g, 1, 30) / 2)


EXERCISE = Exercise(
    id="14.6",
    title="a layer with a low-rank update",
    question=(
        "A trained linear layer has `weight` (n, m) and `bias` (n,), both frozen. Two new tensors are to adapt it: "
        "`down` (r, m) and `up` (n, r). Its weight becomes W + (alpha / r) · up · down. Write `my_lora(inputs, "
        "weight, bias, down, up, *, alpha)`: the outputs (N, n) for `inputs` (N, m). `inputs`, `down` and `up` get a "
        "gradient; `weight` and `bias` get none."
    ),
    skeleton=(
        "def my_lora(inputs, weight, bias, down, up, *, alpha):\n"
        '    """The outputs of a frozen layer with a low-rank update."""\n    ...'
    ),
    reference=lora,
    alternatives=(through_one_weight, direction_by_direction),
    cases=lora_cases,
    drawn=drawn_lora,
    hints=(
        "The frozen layer and the update see the same inputs, and their outputs are added. Which tensors must not "
        "learn?",
        "For rows the update is `inputs @ down.T @ up.T`, times alpha over the rank. The rank is `len(down)`.",
        "`F.linear(inputs, weight.detach(), bias.detach()) + alpha / len(down) * (inputs @ down.T @ up.T)`.",
    ),
    misconceptions=WRONG,
    shows="an update of low rank is a second way from the inputs to the outputs, added to a layer that stays as it is.",
    derivation=(
        "(W + s B A) x + b = (W x + b) + s B (A x): the product B A is never needed. Its rank is at most r, and it "
        "has r (m + n) numbers instead of m n. Source: Hu et al. 2022, arXiv:2106.09685, section 4.1."
    ),
    gradients=(0, 1, 2, 3, 4),
)
