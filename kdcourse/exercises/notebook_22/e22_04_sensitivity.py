"""22.04 a network that no input changes."""

from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import with_weights


def squared_sensitivity(net: nn.Module, images: Tensor) -> Tensor:
    x = images.clone().requires_grad_()
    outputs = net(x)
    total = torch.zeros(len(images), dtype=images.dtype)
    for column in range(outputs.shape[1]):
        [slope] = torch.autograd.grad(outputs[:, column].sum(), x, retain_graph=True)
        total += slope.pow(2).sum(dim=1)
    return total


def image_by_image(net: nn.Module, images: Tensor) -> Tensor:
    found = []
    for image in images:
        x = image[None].clone().requires_grad_()
        outputs = net(x)[0]
        rows = [torch.autograd.grad(output, x, retain_graph=True)[0].flatten() for output in outputs]
        found.append(torch.stack(rows).norm() ** 2)
    return torch.stack(found)


def by_jacobian(net: nn.Module, images: Tensor) -> Tensor:
    found: Any = torch.autograd.functional.jacobian(net, images)
    return torch.stack([found[n, :, n].norm() ** 2 for n in range(len(images))])


def _jacobian(net: nn.Module, images: Tensor) -> Tensor:
    """(N, C, D)."""
    x = images.clone().requires_grad_()
    outputs = net(x)
    slopes = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in outputs.unbind(dim=1)]
    return torch.stack(slopes, dim=1)


def sum_of_the_rows(net: nn.Module, images: Tensor) -> Tensor:
    return _jacobian(net, images).sum(dim=1).pow(2).sum(dim=1)


def mean_of_the_rows(net: nn.Module, images: Tensor) -> Tensor:
    return _jacobian(net, images).mean(dim=1).pow(2).sum(dim=1)


def squared_sum_over_inputs(net: nn.Module, images: Tensor) -> Tensor:
    return _jacobian(net, images).sum(dim=2).pow(2).sum(dim=1)


def largest_output_only(net: nn.Module, images: Tensor) -> Tensor:
    best = net(images).argmax(dim=1)
    return _jacobian(net, images)[torch.arange(len(images)), best].pow(2).sum(dim=1)


def first_output_only(net: nn.Module, images: Tensor) -> Tensor:
    return _jacobian(net, images)[:, 0].pow(2).sum(dim=1)


def not_squared(net: nn.Module, images: Tensor) -> Tensor:
    return _jacobian(net, images).pow(2).sum(dim=(1, 2)).sqrt()


def absolute_values(net: nn.Module, images: Tensor) -> Tensor:
    return _jacobian(net, images).abs().sum(dim=(1, 2))


def per_output(net: nn.Module, images: Tensor) -> Tensor:
    return _jacobian(net, images).pow(2).sum(dim=2).mean(dim=1)


def per_entry(net: nn.Module, images: Tensor) -> Tensor:
    return _jacobian(net, images).pow(2).mean(dim=(1, 2))


def of_the_log_softmax(net: nn.Module, images: Tensor) -> Tensor:
    return _jacobian(nn.Sequential(net, nn.LogSoftmax(dim=1)), images).pow(2).sum(dim=(1, 2))


def squared_outputs(net: nn.Module, images: Tensor) -> Tensor:
    x = images.clone().requires_grad_()
    [slope] = torch.autograd.grad(net(x).pow(2).sum(), x)
    return slope.pow(2).sum(dim=1)


def parameters_filled(net: nn.Module, images: Tensor) -> Tensor:
    net(images).sum().backward()
    return squared_sensitivity(net, images)


def seen_from_outside(result: Any, case: Case) -> Any:
    if not isinstance(result, Tensor):
        return result
    gradients = sum(parameter.grad is not None for parameter in case.arguments[0].parameters())
    return (
        torch.cat([result.detach(), torch.full((1,), float(gradients), dtype=result.dtype)])
        if (result.ndim == 1)
        else result
    )


def with_softmax(seed: int) -> nn.Sequential:
    net = with_weights(nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)), seed, 0.7)
    return nn.Sequential(*net, nn.Softmax(dim=1))


def with_logits(seed: int, inputs: int, outputs: int) -> nn.Sequential:
    return with_weights(nn.Sequential(nn.Linear(inputs, 5), nn.SiLU(), nn.Linear(5, outputs)), seed, 0.7)


def sensitivity_cases() -> list[Case]:
    return [
        case(with_softmax(7).eval(), draw(2, 2, seed=330, spread=1.0)),
        case(with_logits(8, 3, 4).eval(), draw(3, 3, seed=331, spread=1.0)),
        case(with_logits(9, 4, 1).eval(), draw(2, 4, seed=332, spread=1.0)),
        case(with_softmax(10).eval(), draw(1, 2, seed=333, spread=1.0)),
    ]


def drawn_sensitivity(g: torch.Generator) -> Case:
    inputs = integer(g, 2, 4)
    net = with_logits(integer(g, 20, 999), inputs, integer(g, 2, 4))
    return case(net.eval(), draw(integer(g, 1, 4), inputs, seed=g, spread=1.0))


EXERCISE = Exercise(
    id="22.04",
    title="a network that no input changes",
    question=(
        "Fix `case_4` as `fixed_4(net, images)`: how much the outputs of a network react to each image. `net` is in "
        "eval mode and maps images (N, D) to outputs (N, C), each image for itself. Return a tensor (N,): for each "
        "image the sum, over all C outputs and all D inputs, of the squared derivative of that output by that input, "
        "which is the squared norm of the image's Jacobian. No parameter gets a stored gradient."
    ),
    skeleton=('def fixed_4(net, images):\n    """The squared norm of each image\'s Jacobian."""\n    ...'),
    reference=squared_sensitivity,
    alternatives=(image_by_image, by_jacobian),
    cases=sensitivity_cases,
    drawn=drawn_sensitivity,
    hints=(
        "The outputs do change with the image. Which number made of them does not?",
        "The gradient of `outputs.sum()` is the *sum* of the C rows of the Jacobian. Ten probabilities sum to 1.",
        "One gradient per output: `torch.autograd.grad(outputs[:, c].sum(), x, retain_graph=True)`, squared, then "
        "summed over c.",
    ),
    misconceptions=(
        Misconception(
            "rows summed first",
            sum_of_the_rows,
            "the gradient of the summed outputs is the sum of the Jacobian's rows. They cancel before they are "
            "squared, and for probabilities, which sum to 1, they cancel completely",
        ),
        Misconception(
            "rows averaged first",
            mean_of_the_rows,
            "the mean of the rows is their sum divided by C: they still cancel before they are squared",
        ),
        Misconception(
            "inputs summed first",
            squared_sum_over_inputs,
            "you sum each row over the inputs before you square: derivatives of opposite sign cancel. Square first",
        ),
        Misconception(
            "the largest output only",
            largest_output_only,
            "this is the row of the predicted class alone. The others react as well",
        ),
        Misconception(
            "the first output only",
            first_output_only,
            "this is the row of output 0 alone. Go through all C outputs",
        ),
        Misconception(
            "not squared",
            not_squared,
            "the rows are right now, but this is the norm itself: its square is asked for",
        ),
        Misconception(
            "absolute values",
            absolute_values,
            "you sum absolute values. They do not cancel either, but it is another norm: square the derivatives",
        ),
        Misconception(
            "mean over the outputs",
            per_output,
            "C times too small: over the outputs it is a sum",
        ),
        Misconception(
            "mean over all entries",
            per_entry,
            "C · D times too small: this is the mean of the squared entries. Their sum is asked for",
        ),
        Misconception(
            "of the log-probabilities",
            of_the_log_softmax,
            "this is the Jacobian of a log-softmax of the outputs. Take the outputs as the network returns them",
        ),
        Misconception(
            "outputs squared",
            squared_outputs,
            "you square the outputs and not their derivatives: rows are then weighted by their outputs, and summed "
            "before the square",
        ),
        Misconception(
            "gradients left in the parameters",
            parameters_filled,
            "the numbers are right, but `backward` also fills `.grad` of every parameter, and the next step of an "
            "optimizer would use it. `torch.autograd.grad` returns the gradient and stores nothing",
        ),
    ),
    shows="the gradient of a sum is a sum of gradients, and terms that cancel there are not small.",
    derivation=(
        "∂(Σ_c y_c)/∂x is the sum over c of the rows ∂y_c/∂x. For a softmax Σ_c y_c = 1 for every x, so that sum is 0, "
        "however large the rows are."
    ),
    observe=seen_from_outside,
    may_change=True,
)
