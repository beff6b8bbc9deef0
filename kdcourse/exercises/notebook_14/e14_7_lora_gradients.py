"""14.7 what reaches the two factors."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import drawn_factors, table

Gradients = tuple[Tensor, Tensor]


def lora_gradients(weight_gradient: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    scale = alpha / len(down)
    return scale * up.T @ weight_gradient, scale * weight_gradient @ down.T


def by_backpropagation(weight_gradient: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    leaves = [factor.detach().clone().requires_grad_() for factor in (down, up)]
    update = alpha / up.shape[1] * (leaves[1] @ leaves[0])
    first, second = torch.autograd.grad((update * weight_gradient).sum(), leaves)
    return first, second


def entry_by_entry(weight_gradient: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    scale = alpha / down.shape[0]
    of_down = torch.einsum("nr,nm->rm", up, weight_gradient) * scale
    of_up = torch.einsum("nm,rm->nr", weight_gradient, down) * scale
    return of_down, of_up


def no_scale(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    return up.T @ g, g @ down.T


def rank_missing(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    return alpha * up.T @ g, alpha * g @ down.T


def scale_squared(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    scale = (alpha / len(down)) ** 2
    return scale * up.T @ g, scale * g @ down.T


def scale_in_one(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    return up.T @ g, alpha / len(down) * g @ down.T


def divided_by_the_scale(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    scale = len(down) / alpha
    return scale * up.T @ g, scale * g @ down.T


def rank_of_the_outputs(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    scale = alpha / len(up)
    return scale * up.T @ g, scale * g @ down.T


def the_wrong_way_round(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    of_down, of_up = lora_gradients(g, down, up, alpha=alpha)
    return of_up, of_down


def transposed(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    of_down, of_up = lora_gradients(g, down, up, alpha=alpha)
    return of_down.T, of_up.T


def downhill(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    of_down, of_up = lora_gradients(g, down, up, alpha=alpha)
    return -of_down, -of_up


def down_fixed(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    return torch.zeros_like(down), alpha / len(down) * g @ down.T


def up_fixed(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    return alpha / len(down) * up.T @ g, torch.zeros_like(up)


def mean_over_the_outputs(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    of_down, of_up = lora_gradients(g, down, up, alpha=alpha)
    return of_down / len(g), of_up / g.shape[1]


def of_the_squared_update(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    whole = g + alpha / len(down) * up @ down
    return lora_gradients(whole, down, up, alpha=alpha)


def projected(g: Tensor, down: Tensor, up: Tensor, *, alpha: float) -> Gradients:
    scale = alpha / len(down)
    return scale * torch.linalg.pinv(up) @ g, scale * g @ torch.linalg.pinv(down)


def _gradient_case(seed: int, rank: int, m: int, n: int, alpha: float) -> Case:
    factors = draw(rank, m, seed=seed + 1, spread=1.0), draw(n, rank, seed=seed + 2, spread=1.0)
    return case(draw(n, m, seed=seed), *factors, alpha=alpha)


def gradient_cases() -> list[Case]:
    gradient, down, up = _gradient_case(30, 2, 4, 3, 8.0).arguments
    half = [part.float() for part in _gradient_case(40, 3, 5, 4, 1.0).arguments]
    return [
        case(table([[3.0, -2.0]]), table([[1.0, 2.0]]), table([[0.5]]), alpha=4.0),
        _gradient_case(10, 2, 3, 4, 3.0),
        _gradient_case(20, 3, 3, 3, 5.0),  # square
        case(gradient, down, torch.zeros_like(up), alpha=8.0),  # as it starts
        case(gradient, torch.zeros_like(down), up, alpha=8.0),
        case(gradient, torch.zeros_like(down), torch.zeros_like(up), alpha=8.0),
        case(*half, alpha=1.5),
    ]


def drawn_gradients(g: torch.Generator) -> Case:
    rank, m, n = drawn_factors(g)
    return _gradient_case(integer(g, 100, 9999), rank, m, n, integer(g, 1, 30) / 2)


EXERCISE = Exercise(
    id="14.7",
    title="what reaches the two factors",
    question=(
        "A layer computes with the weight V = W + (alpha / r) · up · down; `down` is (r, m), `up` is (n, r). "
        "Backpropagation has found `weight_gradient`, the tensor of shape (n, m) with the derivative of the loss "
        "with respect to each entry of V. Write `my_lora_gradients(weight_gradient, down, up, *, alpha)`: the "
        "gradients of the loss with respect to `down` and to `up`, two tensors in this order, each in the shape of "
        "its factor."
    ),
    skeleton=(
        "def my_lora_gradients(weight_gradient, down, up, *, alpha):\n"
        '    """The gradients of the two factors, from that of the weight."""\n    ...'
    ),
    reference=lora_gradients,
    alternatives=(by_backpropagation, entry_by_entry),
    cases=gradient_cases,
    drawn=drawn_gradients,
    hints=(
        "V[i, j] = W[i, j] + s · Σ_k up[i, k] · down[k, j]. What is the derivative of V[i, j] with respect to "
        "down[k, j]?",
        "dL/d down[k, j] = s · Σ_i up[i, k] · G[i, j]. That is one matrix product. The same for up, with the sum "
        "over j.",
        "`scale * up.T @ weight_gradient` and `scale * weight_gradient @ down.T`, with `scale = alpha / len(down)`.",
    ),
    misconceptions=(
        Misconception(
            "no scale",
            no_scale,
            "the products are right, but the factor alpha / r is missing: the chain rule passes it on",
        ),
        Misconception(
            "the rank missing",
            rank_missing,
            "you multiply by alpha alone. V contains the product times alpha / r, so each gradient has that factor",
        ),
        Misconception(
            "the scale squared",
            scale_squared,
            "you multiply by the scale twice. V contains it once, so each gradient does",
        ),
        Misconception(
            "the scale in one only",
            scale_in_one,
            "only the gradient of `up` has the scale. The product of the two factors is scaled, so both gradients "
            "have it",
        ),
        Misconception(
            "divided by the scale",
            divided_by_the_scale,
            "you divide by alpha / r. V contains the product times alpha / r, and the chain rule multiplies by that "
            "factor",
        ),
        Misconception(
            "the outputs for the rank",
            rank_of_the_outputs,
            "you divide alpha by the number of outputs: `len(up)` is n. The rank is `len(down)`",
        ),
        Misconception(
            "the wrong way round",
            the_wrong_way_round,
            "both are right, but in the other order: first that of `down`, then that of `up`",
        ),
        Misconception(
            "transposed",
            transposed,
            "both are transposed. A gradient has the shape of what it belongs to",
        ),
        Misconception(
            "the negative gradient",
            downhill,
            "these are the directions of a step, the negative gradients. Leave the sign to the optimizer",
        ),
        Misconception(
            "down held fixed",
            down_fixed,
            "right as long as `up` is 0, which is the start. From the second step on, `down` gets a gradient, too",
        ),
        Misconception(
            "up held fixed",
            up_fixed,
            "you leave out the gradient of `up`. It is the only one that is there at the start, when `up` is 0",
        ),
        Misconception(
            "a mean instead of a sum",
            mean_over_the_outputs,
            "you average over the outputs and the inputs. The chain rule adds up all paths from a factor to the loss",
        ),
        Misconception(
            "the update added",
            of_the_squared_update,
            "you add the update to the gradient, as weight decay on it would. Return the gradient of the loss alone",
        ),
        Misconception(
            "the inverse for the transpose",
            projected,
            "you use a pseudoinverse. A gradient goes back through the transposed matrix, not through the inverse",
        ),
    ),
    shows=(
        "at the start only one factor learns, since the other is multiplied by zero; with both at zero neither ever "
        "does."
    ),
    derivation=(
        "dL = ⟨G, dV⟩ = s ⟨G, dB A⟩ + s ⟨G, B dA⟩ = ⟨s G Aᵀ, dB⟩ + ⟨s Bᵀ G, dA⟩, with A = down, B = up. B = 0 makes "
        "the second gradient 0, A = 0 the first. (0, 0) is a saddle point."
    ),
)
