"""10.07 a teacher that changes while it is watched."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import kd_loss
from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import attached_soft_loss, batches_seen, changed, descend, small_net, training_of


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
            parameter.add_(parameter.grad, alpha=-0.1)  # type: ignore[arg-type]
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


def nothing_done(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    return student


def away(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    with torch.no_grad():
        targets = teacher.eval()(images)
    descend(-attached_soft_loss(student(images), targets, temperature), student)
    return student


def statistics_put_back(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    kept = deepcopy(teacher.state_dict())
    teacher_in_train_mode(student, teacher, images, temperature=temperature)
    teacher.load_state_dict(kept)
    return student


def temperature_left_out(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    return step_quietly_as_is(student, teacher.eval(), images, temperature=1.0)


def copy_stepped(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    return step_quietly_as_is(deepcopy(student), teacher.eval(), images, temperature=temperature)


def class_of_the_teacher(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    with torch.no_grad():
        named = teacher.eval()(images).argmax(dim=1)
    descend(F.cross_entropy(student(images), named), student)
    return student


def reversed_divergence(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    with torch.no_grad():
        targets = teacher.eval()(images)
    descend(attached_soft_loss(targets, student(images), temperature), student)
    return student


def softmax_over_the_batch(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    with torch.no_grad():
        targets = teacher.eval()(images)
    descend(attached_soft_loss(student(images).T, targets.T, temperature), student)
    return student


def teacher_returned(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    step_quietly(student, teacher, images, temperature=temperature)
    return teacher


def whom_it_touched(result: Any, case: Case) -> Any:
    """Which network was changed, by what, and in which direction."""
    student, teacher, images = case.arguments
    with torch.no_grad():
        look = deepcopy(teacher)
        for parameter, value in zip(look.parameters(), teacher.start, strict=True):
            parameter.copy_(value)
        look[1].reset_running_stats()
        targets = look.eval()(images)
    temperature = case.keywords["temperature"]
    report = training_of(
        student, images, lambda logits: attached_soft_loss(logits, targets, temperature), list(student.diary)
    )
    return report | {
        "the student is returned": result.training is not None and result is student,
        "student's parameters that changed": changed(student),
        "batches that the student's norm has seen": batches_seen(student),
        "the teacher's parameters changed": changed(teacher) > 0,
        "gradients reached the teacher": bool(teacher.reached),
        "the teacher's statistics moved": batches_seen(teacher) > 0,
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
        "Fix `case_7` as `fixed_7(student, teacher, images, *, temperature)`: one step of the student towards the "
        "teacher, which afterwards is what it was. Return the student, which is passed in in train mode."
    ),
    skeleton=(
        "def fixed_7(student, teacher, images, *, temperature):\n"
        '    """One step of the student; the teacher is left as it was."""\n    ...'
    ),
    reference=step_quietly,
    alternatives=(step_frozen, step_detached),
    cases=step_cases,
    hints=(
        "No parameter of the teacher changed. What else is stored in a network?",
        "Batch norm keeps running statistics. When does it update them?",
        "Call `teacher.eval()` before the forward pass. `no_grad` stays: it is for the gradients.",
    ),
    misconceptions=(
        Misconception(
            "teacher left in train mode",
            teacher_in_train_mode,
            "the teacher is in train mode: `no_grad` stops gradients, and batch norm's statistics are not "
            "gradients. Every batch changes them, and the output for one image depends on the others",
        ),
        Misconception(
            "eval mode for no_grad",
            teacher_with_gradients,
            "the teacher's statistics are frozen now, but it receives gradients: wasted memory and time, and an "
            "optimizer with its parameters would change them",
        ),
        Misconception(
            "both in eval mode",
            both_at_rest,
            "the student is in eval mode as well. It is the one that trains: its batch norm must see its batches",
        ),
        Misconception(
            "no step",
            never_steps,
            "the teacher does not change, and neither does the student: `optimizer.step()` is missing",
        ),
        Misconception(
            "nothing done",
            nothing_done,
            "the student comes back as it was given: compute the loss, its gradient, and take the step",
        ),
        Misconception(
            "away from the teacher",
            away,
            "the teacher is left alone, but the student steps away from it: the sign of the step or of the loss is "
            "wrong",
        ),
        Misconception(
            "statistics put back afterwards",
            statistics_put_back,
            "the teacher is what it was, but its targets were computed in train mode: they depend on the other images "
            "of the batch. Call `teacher.eval()` before the forward pass",
        ),
        Misconception(
            "temperature left out",
            temperature_left_out,
            "the teacher is left alone, but the temperature has no effect: divide both networks' logits by it",
        ),
        Misconception(
            "the class that the teacher predicts",
            class_of_the_teacher,
            "the teacher is left alone, but the student learns only which class it puts first. Its softened "
            "probabilities are the target",
        ),
        Misconception(
            "the divergence reversed",
            reversed_divergence,
            "the teacher is left alone, but the divergence is that of the teacher from the student: the two are "
            "swapped in the loss",
        ),
        Misconception(
            "softmax over the batch",
            softmax_over_the_batch,
            "the teacher is left alone, but the softmax is taken over the batch. Take it over the classes, `dim=1`",
        ),
        Misconception(
            "the teacher returned",
            teacher_returned,
            "the step is right, but you return the teacher: return the student",
        ),
        Misconception(
            "a copy takes the step",
            copy_stepped,
            "you train a copy of the student. The student that was passed in must take the step, and be returned",
        ),
    ),
    shows="`no_grad` stops a teacher's gradients, `eval` freezes its statistics; it takes both.",
    derivation="In train mode batch norm sets running ← 0.9 running + 0.1 batch on every forward pass.",
    observe=whom_it_touched,
    may_change=True,
)
