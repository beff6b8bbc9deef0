"""22.19 a network that no attack can hurt."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Layers = list[tuple[Tensor, Tensor, float]]


def attacked(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    x = images.clone().requires_grad_()
    h = x
    for number, (weight, bias, step) in enumerate(layers):
        h = h @ weight.T + bias
        h = h + (step * torch.round(h / step) - h).detach()
        if number < len(layers) - 1:
            h = h.relu()
    [gradient] = torch.autograd.grad(F.cross_entropy(h, labels), x)
    return (images + epsilon * gradient.sign()).clamp(0, 1)


class Rounding(torch.autograd.Function):
    """Rounds to multiples of a step; the gradient passes unchanged."""

    @staticmethod
    def forward(context: Any, h: Tensor, step: float) -> Tensor:
        return torch.round(h / step) * step

    @staticmethod
    def backward(context: Any, *slopes: Any) -> Any:
        return slopes[0], None


def attacked_by_a_function(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    x = images.detach().clone().requires_grad_(True)
    *hidden, last = layers
    h: Any = x
    for weight, bias, step in hidden:
        h = Rounding.apply(F.linear(h, weight, bias), step).relu()
    weight, bias, step = last
    logits = Rounding.apply(F.linear(h, weight, bias), step)
    F.cross_entropy(logits, labels, reduction="sum").backward()
    slopes: Any = x.grad
    return torch.clamp(images + epsilon * torch.sign(slopes), min=0, max=1)


def attacked_by_hand(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    active: list[Tensor] = []
    h = images
    for weight, bias, step in layers:
        active.append(h > 0 if active else torch.ones_like(h, dtype=torch.bool))
        outputs = step * torch.round((h @ weight.T + bias) / step)
        h = outputs.relu()
    slopes = outputs.softmax(dim=1) - F.one_hot(labels, outputs.shape[1])
    for (weight, _, _), on in zip(reversed(layers), reversed(active), strict=True):
        slopes = (slopes @ weight) * on
    return (images + epsilon * slopes.sign()).clamp(0.0, 1.0)


def _gradient(layers: Layers, images: Tensor, labels: Tensor, *, through: str = "all") -> Tensor:
    """Of the cross-entropy by the images. Rounding lets it pass, stops it, or is left out altogether."""
    x = images.clone().requires_grad_()
    h = x
    for number, (weight, bias, step) in enumerate(layers):
        h = h @ weight.T + bias
        rounded = step * torch.round(h / step)
        if through == "all":
            h = h + (rounded - h).detach()
        elif through == "inside":
            h = torch.where((h - rounded).abs() < step / 4, h + (rounded - h).detach(), rounded.detach())
        elif through == "nothing":
            h = rounded
        elif through == "hidden" and number < len(layers) - 1:
            h = h + (rounded - h).detach()
        h = h.relu() if number < len(layers) - 1 else h
    return torch.autograd.grad(F.cross_entropy(h, labels), x)[0]


def gradient_of_the_rounding(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    slope = _gradient(layers, images, labels, through="nothing")
    return (images + epsilon * slope.sign()).clamp(0, 1)


def never_rounded(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    slope = _gradient(layers, images, labels, through="none of it")
    return (images + epsilon * slope.sign()).clamp(0, 1)


def last_layer_not_rounded(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    slope = _gradient(layers, images, labels, through="hidden")
    return (images + epsilon * slope.sign()).clamp(0, 1)


def only_near_a_level(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    slope = _gradient(layers, images, labels, through="inside")
    return (images + epsilon * slope.sign()).clamp(0, 1)


def downhill(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    return (images - epsilon * _gradient(layers, images, labels).sign()).clamp(0, 1)


def no_sign(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    return (images + epsilon * _gradient(layers, images, labels)).clamp(0, 1)


def outside_the_range(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    return images + epsilon * _gradient(layers, images, labels).sign()


def change_alone(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    return attacked(layers, images, labels, epsilon=epsilon) - images


def random_instead(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    slope = _gradient(layers, images, labels, through="nothing") + 1e-12
    return (images + epsilon * slope.sign()).clamp(0, 1)


def the_other_labels(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    return (images + epsilon * _gradient(layers, images, (labels + 1) % len(layers[-1][1])).sign()).clamp(0, 1)


def unit_length(layers: Layers, images: Tensor, labels: Tensor, *, epsilon: float) -> Tensor:
    slope = _gradient(layers, images, labels)
    return (images + epsilon * slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(0, 1)


def rounded_net(sizes: list[int], step: float, generator: torch.Generator) -> Layers:
    return [
        (
            draw(after, before, seed=generator, spread=0.7),
            draw(after, seed=generator, spread=0.5),
            step * (1 + 2 * number),
        )
        for number, (before, after) in enumerate(itertools.pairwise(sizes))
    ]


def attack_case(sizes: list[int], step: float, count: int, generator: torch.Generator) -> Case:
    images = torch.rand(count, sizes[0], generator=generator, dtype=torch.float64)
    images[0, 0], images[-1, -1] = 1.0, 0.0
    labels = torch.randint(sizes[-1], (count,), generator=generator)
    return case(rounded_net(sizes, step, generator), images, labels, epsilon=0.1)


def attack_cases() -> list[Case]:
    g = torch.Generator().manual_seed(395)
    return [
        attack_case([2, 2], 0.5, 2, g),
        attack_case([3, 8, 3], 0.5, 4, g),
        attack_case([4, 8, 6, 3], 0.25, 5, g),
        attack_case([5, 9, 6], 0.5, 8, g),
    ]


def drawn_attack(g: torch.Generator) -> Case:
    return attack_case([integer(g, 3, 5), integer(g, 5, 9), integer(g, 3, 6)], 0.5, integer(g, 3, 6), g)


EXERCISE = Exercise(
    id="22.19",
    title="a network that no attack can hurt",
    question=(
        "A quantized network is given as a list `layers` of `(weight, bias, step)`: each layer computes "
        "h · weightᵀ + bias and rounds the result to the nearest multiple of `step`; between layers there is a ReLU, "
        "whose derivative is 0 for inputs of 0. Fix `case_19` as `fixed_19(layers, images, labels, *, epsilon)`, one "
        "step of the fast gradient sign attack on images (N, D) in [0, 1]: each pixel moves by `epsilon` in the "
        "direction in which the cross-entropy of the *rounded* network grows, where the backward pass takes the "
        "derivative of rounding to be 1. A pixel with gradient 0 does not move. Return the new images, a tensor, "
        "within [0, 1]."
    ),
    skeleton=(
        "def fixed_19(layers, images, labels, *, epsilon):\n"
        '    """Images that attack a network which rounds."""\n    ...'
    ),
    reference=attacked,
    alternatives=(attacked_by_a_function, attacked_by_hand),
    cases=attack_cases,
    drawn=drawn_attack,
    hints=(
        "Is the network robust, or the attack broken? Look at the gradient.",
        "Rounding is a staircase, and its derivative is 0 everywhere except at the steps. What reaches the images?",
        "Straight through: `h = h + (step * torch.round(h / step) - h).detach()` rounds forward and passes the "
        "gradient back.",
    ),
    misconceptions=(
        Misconception(
            "the gradient of the rounding",
            gradient_of_the_rounding,
            "the gradient of rounding is 0, so no pixel moves, and the attack returns the images. That says nothing "
            "about the network: an attack without a gradient would find any network robust",
        ),
        Misconception(
            "not rounded at all",
            never_rounded,
            "you attack the network without its rounding. That is a transfer attack, and another network: round in the "
            "forward pass, and pass the gradient straight through in the backward pass",
        ),
        Misconception(
            "last layer not rounded",
            last_layer_not_rounded,
            "the hidden layers are right now, but the logits are not rounded. The network that is attacked rounds them",
        ),
        Misconception(
            "only near a level",
            only_near_a_level,
            "you let the gradient pass only where rounding changes little. It passes everywhere",
        ),
        Misconception(
            "downhill",
            downhill,
            "the gradient is right now, but you step downhill: the images become easier",
        ),
        Misconception(
            "no sign",
            no_sign,
            "the gradient is right now, but the step is its value and not its sign: most pixels hardly move",
        ),
        Misconception(
            "outside [0, 1]",
            outside_the_range,
            "the step is right, but pixels leave [0, 1]: clamp them",
        ),
        Misconception(
            "the change alone",
            change_alone,
            "this is the change. Return the changed images",
        ),
        Misconception(
            "every pixel up",
            random_instead,
            "a gradient of 0 got a sign: every pixel moves up, whatever the network is",
        ),
        Misconception(
            "another class",
            the_other_labels,
            "the cross-entropy is taken with another class than the label",
        ),
        Misconception(
            "unit length",
            unit_length,
            "you scale the gradient of an image to length 1. Each pixel moves by `epsilon` in the direction of its "
            "sign",
        ),
    ),
    shows="an attack that cannot move a pixel measures the attack, not the network.",
    derivation=(
        "d round(h) / dh = 0 almost everywhere, and the chain rule multiplies by it. Taken as 1, the gradient is that "
        "of the smooth function between the stairs, at the point that the rounded network is at."
    ),
)
