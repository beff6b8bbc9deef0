"""10.11 training that changes nothing."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import batches_seen, changed, label_step, small_net, training_of


def trained_copy(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    student = deepcopy(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(steps):
        loss = F.cross_entropy(student(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def trained_copy_by_adam(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    mine = deepcopy(student)
    optimizer = torch.optim.Adam(mine.parameters(), lr=0.05)
    for _ in range(steps):
        label_step(mine, optimizer, images, labels)
    return mine


def trained_copy_with_groups(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student = deepcopy(student)
    optimizer.param_groups[0]["params"] = list(student.parameters())
    for _ in range(steps):
        label_step(student, optimizer, images, labels)
    return student


def optimizer_of_the_old(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student = deepcopy(student)
    for _ in range(steps):
        label_step(student, optimizer, images, labels)
    return student


def no_copy(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(steps):
        label_step(student, optimizer, images, labels)
    return student


def wrong_one_trained(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    copy = deepcopy(student)
    no_copy(student, images, labels, steps=steps)
    return copy


def last_layer_alone(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    student = deepcopy(student)
    *_, last = student.children()
    optimizer = torch.optim.SGD(last.parameters(), lr=0.1)
    for _ in range(steps):
        label_step(student, optimizer, images, labels)
    return student


def gradients_pile_up(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    student = deepcopy(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(steps):
        F.cross_entropy(student(images), labels).backward()
        optimizer.step()
    return student


def one_step_for_all(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    return trained_copy(student, images, labels, steps=1)


def which_was_trained(result: Any, case: Case) -> Any:
    """What the steps did to the result, and to the given network."""
    given, images, labels = case.arguments
    report = training_of(result, images, lambda logits: F.cross_entropy(logits, labels), list(result.diary))
    return report | {
        "parameters of the result that changed": changed(result),
        "batches that the result's norm has seen": batches_seen(result),
        "parameters of the given student that changed": changed(given),
        "batches that the given student's norm has seen": batches_seen(given),
    }


def copy_cases() -> list[Case]:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    return [
        case(small_net(7), draw(6, 2, seed=88), labels, steps=3),
        case(small_net(8), draw(6, 2, seed=89), labels.flip(0), steps=4),
    ]


EXERCISE = Exercise(
    id="10.11",
    title="training that changes nothing",
    question=(
        "Fix `case_11` as `fixed_11(student, images, labels, *, steps)`: train a copy of the student and return it; "
        "the student that was passed in is not changed."
    ),
    skeleton=(
        "def fixed_11(student, images, labels, *, steps):\n"
        '    """A trained copy; the given student is left alone."""\n    ...'
    ),
    reference=trained_copy,
    alternatives=(trained_copy_by_adam, trained_copy_with_groups),
    cases=copy_cases,
    hints=(
        "Which tensors does the optimizer update? Which get a gradient?",
        "An optimizer keeps the very tensors it was built with. Later the name `student` refers to another network.",
        "First the copy, then the optimizer.",
    ),
    misconceptions=(
        Misconception(
            "optimizer built before the model was replaced",
            optimizer_of_the_old,
            "the optimizer was built before the network was replaced. It holds the old tensors, which get no gradient; "
            "the new ones get a gradient that nobody uses. Nothing is trained",
        ),
        Misconception(
            "no copy",
            no_copy,
            "it trains now, but it trains the network that was passed in: the caller still needs that one unchanged",
        ),
        Misconception(
            "the wrong one trained",
            wrong_one_trained,
            "you train the given network and return the copy from before",
        ),
        Misconception(
            "the last layer alone",
            last_layer_alone,
            "the optimizer updates the last layer alone; the others stay random",
        ),
        Misconception(
            "gradients pile up",
            gradients_pile_up,
            "the copy is trained, but its gradients pile up: `backward` adds to those of the steps before. Call "
            "`optimizer.zero_grad()` in every step",
        ),
        Misconception(
            "one step for all",
            one_step_for_all,
            "the copy is trained, but for a single step: `steps` has no effect",
        ),
    ),
    shows="build the optimizer last: it holds tensors, not names.",
    derivation="`optimizer.step()` goes through its own tensors and skips those whose `.grad` is None.",
    observe=which_was_trained,
    may_change=True,
)
