"""Wrong answers to 11.2."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Misconception


def _descend(loss: Tensor, learning_rate: float, *nets: nn.Module) -> float:
    for net in nets:
        net.zero_grad()
    loss.backward()
    return _move(loss, learning_rate, *nets)


def _move(loss: Tensor, learning_rate: float, *nets: nn.Module) -> float:
    torch.optim.SGD([parameter for net in nets for parameter in net.parameters()], lr=learning_rate).step()
    return loss.item()


def _loss(student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor) -> Tensor:
    return F.mse_loss(regressor(student(images)), teacher_features.detach())


def regressor_never(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    return _descend(_loss(student, regressor, images, teacher_features), learning_rate, student)


def student_never(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    return _descend(_loss(student, regressor, images, teacher_features), learning_rate, regressor)


def stale_gradients(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    loss = _loss(student, regressor, images, teacher_features)
    loss.backward()
    return _move(loss, learning_rate, student, regressor)


def regressor_not_cleared(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    student.zero_grad()
    loss = _loss(student, regressor, images, teacher_features)
    loss.backward()
    return _move(loss, learning_rate, student, regressor)


def halved(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    return _descend(0.5 * _loss(student, regressor, images, teacher_features), learning_rate, student, regressor)


def cleared_after_backward(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    loss = _loss(student, regressor, images, teacher_features)
    loss.backward()
    for net in (student, regressor):
        net.zero_grad()
    return _move(loss, learning_rate, student, regressor)


def loss_after_the_step(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    _descend(_loss(student, regressor, images, teacher_features), learning_rate, student, regressor)
    return _loss(student, regressor, images, teacher_features).item()


def uphill(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    loss = _loss(student, regressor, images, teacher_features)
    _descend(-loss, learning_rate, student, regressor)
    return loss.item()


def teacher_gets_a_gradient(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    loss = (regressor(student(images)) - teacher_features).square().mean()
    return _descend(loss, learning_rate, student, regressor)


def summed(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    error = regressor(student(images)) - teacher_features.detach()
    return _descend(error.square().sum(), learning_rate, student, regressor)


def mean_over_examples_only(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    error = regressor(student(images)) - teacher_features.detach()
    return _descend(error.square().sum() / len(images), learning_rate, student, regressor)


def adam(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    optimizer = torch.optim.Adam([*student.parameters(), *regressor.parameters()], lr=learning_rate)
    loss = _loss(student, regressor, images, teacher_features)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def two_steps(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    first, _ = (
        _descend(_loss(student, regressor, images, teacher_features), learning_rate, student, regressor)
        for _ in range(2)
    )
    return first


def one_after_the_other(
    student: nn.Module, regressor: nn.Module, images: Tensor, teacher_features: Tensor, *, learning_rate: float
) -> float:
    loss = student_never(student, regressor, images, teacher_features, learning_rate=learning_rate)
    regressor_never(student, regressor, images, teacher_features, learning_rate=learning_rate)
    return loss


WRONG = (
    Misconception(
        "regressor not in the optimizer",
        regressor_never,
        "the regressor does not move: the optimizer never got its parameters. Nothing crashes and the loss still "
        "falls, but the student is fitted to a frozen random projection",
    ),
    Misconception(
        "student not trained",
        student_never,
        "only the regressor moves, the student does not: it was detached, or the optimizer never got its "
        "parameters. The loss falls, and the student is as it was",
    ),
    Misconception(
        "stale gradients",
        stale_gradients,
        "the step also contains gradients from before: `backward` adds to what `.grad` holds. Call `zero_grad` "
        "before it, on both networks",
    ),
    Misconception(
        "regressor's stale gradients",
        regressor_not_cleared,
        "the regressor's step also contains gradients from before: `student.zero_grad()` clears the student's only. "
        "An optimizer that holds both clears both",
    ),
    Misconception(
        "nothing moved",
        cleared_after_backward,
        "neither network has moved: no step was taken, or copies were trained, or the gradients were cleared between "
        "`backward` and the step. The order is `zero_grad`, `backward`, `step`, on the networks themselves",
    ),
    Misconception(
        "the loss after the step",
        loss_after_the_step,
        "the step is right, but you return the loss after it. Return the one that the gradient was computed from",
    ),
    Misconception(
        "uphill",
        uphill,
        "both networks move against what is asked: the loss grows. A step subtracts learning_rate times the gradient",
    ),
    Misconception(
        "teacher's features get a gradient",
        teacher_gets_a_gradient,
        "the step is right, but `teacher_features` gets a gradient as well. Detach them: otherwise the teacher "
        "moves as soon as an optimizer holds its parameters",
    ),
    Misconception(
        "summed",
        summed,
        "you sum the squares. The step then grows with the batch and with the width of the layer: take the mean",
    ),
    Misconception(
        "mean over examples only",
        mean_over_examples_only,
        "you divide by the number of examples only. The step then grows with the teacher's width: take the mean "
        "over all entries",
    ),
    Misconception(
        "halved",
        halved,
        "exactly half the loss, and half the step. The mean squared difference has no factor 1/2",
    ),
    Misconception(
        "another optimizer",
        adam,
        "this is a step of Adam: each entry moves by about the learning rate, however large its gradient. Plain "
        "SGD is asked for",
    ),
    Misconception(
        "two steps",
        two_steps,
        "you take two steps. One call is one step",
    ),
    Misconception(
        "one network after the other",
        one_after_the_other,
        "the regressor steps first, and the student's gradient is then computed through the new regressor. One "
        "backward pass gives the gradients of both",
    ),
)
