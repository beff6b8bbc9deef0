"""10.08 two that meet half-way."""

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from ..notebook_03.e03_2_kd_loss import kd_loss
from .common import attached_soft_loss, descend, small_net
from .e10_07_train_mode import step_detached, step_frozen, step_quietly_as_is, whom_it_touched


def train_student(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    teacher.eval()
    with torch.no_grad():
        teacher_logits = teacher(images)
    for _ in range(steps):
        loss = kd_loss(student(images), teacher_logits, temperature=temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def train_student_anew_each_step(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    for _ in range(steps):
        step_frozen(student, teacher, images, temperature=temperature)
    return student


def train_student_by_hand(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    for _ in range(steps):
        student.zero_grad()
        step_detached(student, teacher, images, temperature=temperature)
    return student


def both_in_the_optimizer(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.eval()
    for _ in range(steps):
        descend(attached_soft_loss(student(images), teacher(images), temperature), student, teacher)
    return student


def teacher_gets_gradients(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.eval()
    for _ in range(steps):
        descend(attached_soft_loss(student(images), teacher(images), temperature), student)
    return student


def teacher_alone_in_the_optimizer(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.eval()
    for _ in range(steps):
        descend(attached_soft_loss(student(images), teacher(images), temperature), teacher)
    return student


def teacher_in_train_mode_here(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.train()
    for _ in range(steps):
        step_quietly_as_is(student, teacher, images, temperature=temperature)
    return student


def training_cases() -> list[Case]:
    return [
        case(small_net(1), small_net(2), draw(6, 2, seed=82), temperature=2.0, steps=3),
        case(small_net(3), small_net(4), draw(9, 2, seed=83), temperature=4.0, steps=2),
    ]


EXERCISE = Exercise(
    id="10.08",
    title="two that meet half-way",
    question=(
        "Mend `case_8` as `mended_8(student, teacher, images, *, temperature, steps)`: `steps` steps of the student "
        "towards the teacher, who receives no gradient and stays as it is. Return the student."
    ),
    skeleton=(
        "def mended_8(student, teacher, images, *, temperature, steps):\n"
        '    """Train the student alone, and return it."""\n    ...'
    ),
    reference=train_student,
    alternatives=(train_student_anew_each_step, train_student_by_hand),
    cases=training_cases,
    hints=(
        "The distance falls so quickly. Who moves?",
        "Whose parameters does the optimizer hold? Where does the gradient flow?",
        "Give the optimizer `student.parameters()` alone, and compute the teacher's logits under `no_grad`.",
    ),
    misconceptions=(
        Misconception(
            "teacher in the optimizer",
            both_in_the_optimizer,
            "the optimizer holds the teacher's parameters too, and gradients reach them. The teacher comes to meet "
            "the student: the loss looks splendid, and the knowledge is going",
        ),
        Misconception(
            "teacher receives gradients",
            teacher_gets_gradients,
            "the optimizer is right now, but backward still runs through the teacher: twice the memory, and gradients "
            "that pile up. Use `no_grad` or `detach`",
        ),
        Misconception(
            "teacher alone in the optimizer",
            teacher_alone_in_the_optimizer,
            "the optimizer holds the teacher alone. Now the teacher learns from the student",
        ),
        Misconception(
            "teacher back in train mode",
            teacher_in_train_mode_here,
            "no gradient reaches the teacher, but in train mode its batch norm moves with every batch",
        ),
    ),
    shows="a small distance proves nothing before you know which of the two has moved.",
    derivation="The loss has a gradient for both arguments. Descending both lets each give way.",
    observe=whom_it_touched,
    may_change=True,
)
