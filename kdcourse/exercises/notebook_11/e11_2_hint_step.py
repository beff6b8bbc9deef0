"""11.2 a step that trains all it must."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, case, draw, integer
from .wrong_11_2 import WRONG


def hint_step(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    optimizer = torch.optim.SGD([*student.parameters(), *regressor.parameters()], lr=learning_rate)
    loss = F.mse_loss(regressor(student(images)), teacher_features.detach())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def hint_step_by_hand(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    parameters = [*student.parameters(), *regressor.parameters()]
    loss = (regressor(student(images)) - teacher_features.detach()).square().mean()
    with torch.no_grad():
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.sub_(learning_rate * gradient)
    return loss.item()


def hint_step_as_one_network(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    whole = nn.Sequential(student, regressor)
    whole.zero_grad()
    error = whole(images) - teacher_features.detach()
    loss = torch.mean(error * error)
    loss.backward()
    for parameter in whole.parameters():
        assert parameter.grad is not None
        parameter.data = parameter.data - learning_rate * parameter.grad
    return loss.item()


def after_the_step(result: Any, case: Case) -> Any:
    """What was returned, what the two networks are now, and whether the teacher's features are as they were."""
    student, regressor, images, teacher_features = case.arguments
    return {
        "returned": result,
        "student": [parameter.detach() for parameter in student.parameters()],
        "regressor": [parameter.detach() for parameter in regressor.parameters()],
        "images": images,
        "teacher's features": teacher_features.detach(),
        "teacher's features have a gradient": teacher_features.grad is not None,
    }


class Used(nn.Sequential):
    """A network whose parameters hold the gradients of an earlier step, also after a grader has sent it on."""

    left: list[Tensor]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.put_back()

    def put_back(self) -> None:
        for parameter, gradient in zip(self.parameters(), self.left, strict=True):
            parameter.grad = gradient.clone()


def _used(seed: int, *layers: nn.Module) -> Used:
    """The same weights and gradients each time, float64."""
    net = Used(*layers).double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=100 * seed + number, spread=0.7))
    net.left = [draw(*part.shape, seed=100 * seed + 50 + place) / 6 for place, part in enumerate(net.parameters())]
    net.put_back()
    return net


def _step_case(seed: int, count: int, widths: tuple[int, int, int], learning_rate: float) -> Case:
    inputs, narrow, wide = widths
    student, regressor = _used(seed, nn.Linear(inputs, narrow), nn.Tanh()), _used(seed + 1, nn.Linear(narrow, wide))
    teacher_features = draw(count, wide, seed=seed + 2).requires_grad_()
    return case(student, regressor, draw(count, inputs, seed=seed + 3), teacher_features, learning_rate=learning_rate)


def step_cases() -> list[Case]:
    student, regressor = _used(20, nn.Conv2d(1, 2, 2, bias=False)), _used(21, nn.Conv2d(2, 3, 1))
    images, teacher_maps = draw(3, 1, 3, 4, seed=30), draw(3, 3, 2, 3, seed=31).requires_grad_()
    return [
        _step_case(10, 2, (1, 1, 2), 0.5),
        _step_case(14, 5, (3, 2, 4), 0.05),
        case(student, regressor, images, teacher_maps, learning_rate=0.02),
    ]


def drawn_step(g: torch.Generator) -> Case:
    seed, widths = integer(g, 100, 999), (integer(g, 1, 4), integer(g, 1, 3), integer(g, 1, 5))
    return _step_case(seed, integer(g, 1, 6), widths, integer(g, 1, 9) / 40)


EXERCISE = Exercise(
    id="11.2",
    title="a step that trains all it must",
    question=(
        "Write `my_hint_step(student, regressor, images, teacher_features, *, learning_rate)`: one step of plain SGD "
        "(no momentum, no weight decay) on the mean squared difference between `regressor(student(images))` and the "
        "tensor `teacher_features`, the mean over all entries. It changes, in place, every parameter that a hint "
        "has to train. Parameters may still hold a `.grad` from an earlier step: it must not count. "
        "`teacher_features` may ask for a gradient, but must neither change nor get one. Return the loss *before* the "
        "step as a Python float."
    ),
    skeleton=(
        "def my_hint_step(student, regressor, images, teacher_features, *, learning_rate):\n"
        '    """One step of SGD on the hint; returns the loss before it."""\n    ...'
    ),
    reference=hint_step,
    alternatives=(hint_step_by_hand, hint_step_as_one_network),
    cases=step_cases,
    drawn=drawn_step,
    hints=(
        "List what is still random at the start and is needed to compute the loss.",
        "An optimizer changes only what it was given. `student.parameters()` does not contain the regressor's.",
        "`torch.optim.SGD([*student.parameters(), *regressor.parameters()], lr=learning_rate)`; then the loss with "
        "`teacher_features.detach()`, `zero_grad`, `backward`, `step`, and `return loss.item()`.",
    ),
    misconceptions=WRONG,
    shows="a regressor is trained only if the optimizer holds it, and a loss that falls does not prove that it does.",
    derivation=(
        "The loss depends on the parameters of both networks. Descending only one of the two gradients also lowers "
        "the loss, which is why the mistake goes unnoticed: compare the regressor before and after a step."
    ),
    observe=after_the_step,
    may_change=True,
)
