"""10.06 classes that are never predicted."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def classifier(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def classifier_by_layers(hidden: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, hidden)]
    layers += [nn.ReLU(), nn.Linear(hidden, 10), nn.Identity()]
    return nn.Sequential(*layers)


class Classifier(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(784, hidden), nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(F.relu(self.first(images.flatten(1))))


def classifier_as_a_module(hidden: int) -> nn.Module:
    return Classifier(hidden)


def relu_last(hidden: int) -> nn.Module:
    return nn.Sequential(*classifier(hidden), nn.ReLU())


def softmax_last(hidden: int) -> nn.Module:
    return nn.Sequential(*classifier(hidden), nn.Softmax(dim=1))


def tanh_last(hidden: int) -> nn.Module:
    return nn.Sequential(*classifier(hidden), nn.Tanh())


def leaky_last(hidden: int) -> nn.Module:
    return nn.Sequential(*classifier(hidden), nn.LeakyReLU(0.01))


def no_relu_at_all(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.Linear(hidden, 10))


def logits_of(result: Any, case: Case) -> Any:
    """What holds of a network's outputs, whatever its weights."""
    net = deepcopy(result).double()
    one, other = draw(40, 1, 28, 28, seed=80), draw(40, 1, 28, 28, seed=81)
    with torch.no_grad():
        logits, far = net(one), net(1e5 * one)
        bent = net(one) + net(other) - net(one + other) - net(0 * one)
    *_, last = (part for part in net.modules() if not isinstance(part, nn.Identity))
    return {
        "output shape": tuple(logits.shape),
        "parameters": sum(parameter.numel() for parameter in result.parameters()),
        "some logit is below zero": bool((logits < 0).any()),
        "no logit is beyond 1": bool(far.abs().max() <= 1),
        "is a linear map": bool(bent.abs().max() < 1e-3 * logits.abs().max()),
        "below zero as far as above": bool(far.min() < -0.1 * far.max()),
        "the last layer is linear": isinstance(last, nn.Linear),
    }


EXERCISE = Exercise(
    id="10.06",
    title="classes that are never predicted",
    question=(
        "Fix `case_6` as `fixed_6(hidden)`: a network for images (N, 1, 28, 28) with one hidden layer of `hidden` "
        "units with ReLU. It scores 10 classes for `F.cross_entropy`, and training can bring back any class that it "
        "never predicts."
    ),
    skeleton='def fixed_6(hidden):\n    """A classifier with one hidden layer, for images (N, 1, 28, 28)."""\n    ...',
    reference=classifier,
    alternatives=(classifier_by_layers, classifier_as_a_module),
    cases=lambda: [case(8), case(16)],
    drawn=lambda g: case(integer(g, 3, 30)),
    hints=(
        "Which values can a logit take? Which values can this network return?",
        "What gradient does a class get whose last ReLU is off for every image?",
        "The ReLU between the layers stays, the one after the last layer goes.",
    ),
    misconceptions=(
        Misconception(
            "ReLU on the logits",
            relu_last,
            "the logits pass a ReLU. A class that is below zero for all images gets no gradient any more: it is dead. "
            "A baseline that collapses like this makes distillation look miraculous",
        ),
        Misconception(
            "softmax in the network",
            softmax_last,
            "your network returns probabilities. `F.cross_entropy` and every softened loss take logits, and would "
            "soften a second time",
        ),
        Misconception(
            "logits squeezed",
            tanh_last,
            "your logits cannot leave (-1, 1), so the network can never be confident",
        ),
        Misconception(
            "a leak for a cure",
            leaky_last,
            "with a leak no class dies, but logits below zero are still squeezed, a hundredfold. Logits need no "
            "activation",
        ),
        Misconception(
            "no ReLU at all",
            no_relu_at_all,
            "you removed both. Two linear layers without anything between them are one linear layer",
        ),
    ),
    shows="a logit may be any number, so no activation follows the last layer.",
    derivation="The gradient of ReLU is 0 below zero. After the last layer that switches a class off for good.",
    observe=logits_of,
)
