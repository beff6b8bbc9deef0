"""10.07 a teacher that changes while it is watched."""

from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from ..notebook_03.e03_2_kd_loss import kd_loss
from .common import attached_soft_loss, batches_seen, changed, descend, small_net, with_gradient


def step_quietly(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student.train()
    teacher.eval()
    with torch.no_grad():
        teacher_logits = teacher(images)
    loss = kd_loss(student(images), teacher_logits, temperature=temperature)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return student


def step_frozen(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    teacher.eval().requires_grad_(False)
    optimizer = torch.optim.Adam(student.train().parameters(), lr=0.01)
    kd_loss(student(images), teacher(images), temperature=temperature).backward()
    optimizer.step()
    return student


def step_detached(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    targets = teacher.train(False)(images).detach()
    kd_loss(student(images), targets, temperature=temperature).backward()
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-0.1)
    return student


def teacher_in_train_mode(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    student.train()
    with torch.no_grad():
        targets = teacher(images)
    descend(attached_soft_loss(student(images), targets, temperature), student)
    return student


def teacher_with_gradients(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    descend(attached_soft_loss(student(images), teacher.eval()(images), temperature), student)
    return student


def both_at_rest(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    student.eval()
    return step_quietly_as_is(student, teacher.eval(), images, temperature=temperature)


def step_quietly_as_is(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    with torch.no_grad():
        targets = teacher(images)
    descend(attached_soft_loss(student(images), targets, temperature), student)
    return student


def never_steps(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    teacher.eval()
    with torch.no_grad():
        targets = teacher(images)
    attached_soft_loss(student(images), targets, temperature).backward()
    return student


def whom_it_touched(result: Any, case: Case) -> Any:
    """Which network was changed, and by what."""
    student, teacher = case.arguments[:2]
    return {
        "the student is returned": result.training is not None and result is student,
        "student's parameters that changed": changed(student) > 0,
        "batches that the student's norm has seen": batches_seen(student),
        "teacher's parameters that changed": changed(teacher),
        "teacher's parameters with a gradient": with_gradient(teacher),
        "batches that the teacher's norm has seen": batches_seen(teacher),
    }


def step_cases() -> list[Case]:
    return [
        case(small_net(1), small_net(2), draw(6, 2, seed=82), temperature=2.0),
        case(small_net(3), small_net(4), draw(9, 2, seed=83), temperature=4.0),
    ]


EXERCISE = Exercise(
    id="10.07",
    title="a teacher that changes while it is watched",
    question=(
        "Mend `case_7` as `mended_7(student, teacher, images, *, temperature)`: one step of the student towards the "
        "teacher, after which the teacher is what it was. Return the student, which was given in train mode."
    ),
    skeleton=(
        "def mended_7(student, teacher, images, *, temperature):\n"
        '    """One step of the student; the teacher is left as it was."""\n    ...'
    ),
    reference=step_quietly,
    alternatives=(step_frozen, step_detached),
    cases=step_cases,
    hints=(
        "No parameter of the teacher changed. What else is stored in a network?",
        "Batch norm keeps running statistics. When does it update them?",
        "`teacher.eval()` before it looks. `no_grad` stays: it is for the gradients.",
    ),
    misconceptions=(
        Misconception(
            "teacher left in train mode",
            teacher_in_train_mode,
            "the teacher is in train mode: `no_grad` stops gradients, and batch norm's statistics are none. Every "
            "batch moves them, and the answer for one image depends on the others",
        ),
        Misconception(
            "eval mode for no_grad",
            teacher_with_gradients,
            "the teacher's statistics hold still now, but it receives gradients: memory and time for nothing, and an "
            "optimizer that holds it would move it",
        ),
        Misconception(
            "both in eval mode",
            both_at_rest,
            "the student is in eval mode as well. It is the one that trains: its batch norm must see its batches",
        ),
        Misconception(
            "no step",
            never_steps,
            "the teacher holds still, and so does the student: `optimizer.step()` is missing",
        ),
    ),
    shows="`no_grad` holds a teacher's gradients, `eval` its statistics; it takes both.",
    derivation="In train mode batch norm sets running ← 0.9 running + 0.1 batch on every forward pass.",
    observe=whom_it_touched,
    may_change=True,
)
