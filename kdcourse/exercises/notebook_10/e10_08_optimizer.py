"""10.08 two networks that meet halfway."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from ...losses import kd_loss
from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import attached_soft_loss, small_net
from .e10_07_train_mode import away, step_detached, step_frozen, step_quietly_as_is, whom_it_touched


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
        student.zero_grad()
        step_frozen(student, teacher, images, temperature=temperature)
    return student


def train_student_by_hand(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    for _ in range(steps):
        student.zero_grad()
        step_detached(student, teacher, images, temperature=temperature)
    return student


def _descended(
    student: nn.Module, targets: Callable[[], Tensor], images: Tensor, steps: int, temperature: float, *held: nn.Module
) -> nn.Module:
    """The recipe of `case_8`, for an optimizer that holds the given networks."""
    optimizer = torch.optim.AdamW([parameter for net in held for parameter in net.parameters()], lr=0.01)
    for _ in range(steps):
        loss = attached_soft_loss(student(images), targets(), temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def both_in_the_optimizer(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.eval()
    return _descended(student, lambda: teacher(images), images, steps, temperature, student, teacher)


def teacher_put_back(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    kept = deepcopy(teacher.state_dict())
    both_in_the_optimizer(student, teacher, images, temperature=temperature, steps=steps)
    teacher.load_state_dict(kept)
    return student


def teacher_gets_gradients(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.eval()
    return _descended(student, lambda: teacher(images), images, steps, temperature, student)


def teacher_alone_in_the_optimizer(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.eval()
    return _descended(student, lambda: teacher(images), images, steps, temperature, teacher)


def teacher_in_train_mode_here(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.train()
    return _descended(student, lambda: teacher(images).detach(), images, steps, temperature, student)


def one_step_for_all(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    return step_quietly_as_is(student, teacher.eval(), images, temperature=temperature)


def one_step_more(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    return train_student(student, teacher, images, temperature=temperature, steps=steps + 1)


def away_from_it(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    for _ in range(steps):
        away(student, teacher, images, temperature=temperature)
    return student


def gradients_pile_up(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    with torch.no_grad():
        targets = teacher.eval()(images)
    for _ in range(steps):
        attached_soft_loss(student(images), targets, temperature).backward()
        optimizer.step()
    return student


def no_temperature(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    targets = teacher.eval()(images).detach()
    return _descended(student, lambda: targets, images, steps, 1.0, student)


def student_in_eval_mode(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    targets = teacher.eval()(images).detach()
    return _descended(student.eval(), lambda: targets, images, steps, temperature, student)


def training_cases() -> list[Case]:
    return [
        case(small_net(1), small_net(2), draw(6, 2, seed=82), temperature=2.0, steps=3),
        case(small_net(3), small_net(4), draw(9, 2, seed=83), temperature=4.0, steps=2),
    ]


EXERCISE = Exercise(
    id="10.08",
    title="two networks that meet halfway",
    question=(
        "Fix `case_8` as `fixed_8(student, teacher, images, *, temperature, steps)`: `steps` steps of the student "
        "towards the teacher. During the call and after it the teacher is exactly what it was, including its "
        "statistics and every `.grad`. Return the student."
    ),
    skeleton=(
        "def fixed_8(student, teacher, images, *, temperature, steps):\n"
        '    """Train the student towards the teacher, and return it."""\n    ...'
    ),
    reference=train_student,
    alternatives=(train_student_anew_each_step, train_student_by_hand),
    cases=training_cases,
    hints=(
        "The distance falls so quickly. Which network moves?",
        "Whose parameters does the optimizer update? Where does the gradient flow?",
        "Give the optimizer `student.parameters()` alone, and compute the teacher's logits under `no_grad`.",
    ),
    misconceptions=(
        Misconception(
            "teacher in the optimizer",
            both_in_the_optimizer,
            "the optimizer updates the teacher's parameters as well, and gradients reach them. The teacher moves "
            "towards the student: the loss looks splendid while the teacher forgets",
        ),
        Misconception(
            "teacher put back afterwards",
            teacher_put_back,
            "the teacher is what it was, but only because you put it back: while it trained it moved, and the student "
            "followed a teacher on its way to the student",
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
            "the optimizer updates the teacher alone. Now the teacher learns from the student",
        ),
        Misconception(
            "teacher back in train mode",
            teacher_in_train_mode_here,
            "no gradient reaches the teacher, but in train mode its batch norm statistics change with every batch",
        ),
        Misconception(
            "one step for all",
            one_step_for_all,
            "the teacher is frozen, but the student takes a single step: `steps` has no effect",
        ),
        Misconception(
            "one step too many",
            one_step_more,
            "the teacher is frozen, but the student takes one step more than `steps`",
        ),
        Misconception(
            "away from the teacher",
            away_from_it,
            "the teacher is frozen, but every step of the student leads away from it: the sign of the step or of the "
            "loss is wrong",
        ),
        Misconception(
            "gradients pile up",
            gradients_pile_up,
            "the teacher is frozen, but the student's gradients pile up: `backward` adds to those of the steps "
            "before. Call `optimizer.zero_grad()` in every step",
        ),
        Misconception(
            "temperature left out",
            no_temperature,
            "the teacher is frozen, but the temperature has no effect: divide both networks' logits by it",
        ),
        Misconception(
            "student in eval mode",
            student_in_eval_mode,
            "the student is in eval mode while it trains: its batch norm must see its batches. Only the teacher is "
            "in eval mode",
        ),
    ),
    shows="a small distance proves nothing before you know which of the two has moved.",
    derivation="The loss has a gradient for both arguments. Descending both moves each towards the other.",
    observe=whom_it_touched,
    may_change=True,
)
