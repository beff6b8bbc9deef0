"""10.09 five epochs, one of them training."""

from copy import deepcopy
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import Seen, batches_seen, changed, label_step, small_net, training_of


def epochs_with_validation(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        student.train()
        loss = F.cross_entropy(student(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        student.eval()
        with torch.no_grad():
            student(validation_images)
    return student


def back_to_train_mode(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        label_step(student, optimizer, images, labels)
        student.eval()
        student(validation_images)
        student.train()
    return student


def validated_on_a_copy(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        label_step(student, optimizer, images, labels)
        deepcopy(student).eval()(validation_images)
    return student


def left_in_eval_mode(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student.train()
    for _ in range(epochs):
        label_step(student, optimizer, images, labels)
        student.eval()
        student(validation_images)
    return student


def never_in_eval_mode(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        label_step(student, optimizer, images, labels)
        student(validation_images)
    return student


def always_in_eval_mode(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.eval().parameters(), lr=0.1)
    for _ in range(epochs):
        label_step(student, optimizer, images, labels)
    return student


def never_looks(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        label_step(student, optimizer, images, labels)
    return student


def looks_once(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    student = never_looks(student, images, labels, validation_images, epochs=epochs)
    student.eval()(validation_images)
    return student


def modes_exchanged(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        label_step(student.eval(), optimizer, images, labels)
        student.train()(validation_images)
    return student


def gradients_pile_up(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        F.cross_entropy(student.train()(images), labels).backward()
        optimizer.step()
        student.eval()(validation_images)
    return student


def an_epoch_more(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    return epochs_with_validation(student, images, labels, validation_images, epochs=epochs + 1)


def looks_before(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        student.eval()(validation_images)
        label_step(student.train(), optimizer, images, labels)
    return student


def what_it_saw(result: Any, case: Case) -> Any:
    """Which images passed it in which mode, in turn, and where its steps went."""
    images, labels, validation = case.arguments[1:]
    passes = [seen for seen in result.diary if torch.equal(seen.images, images)]
    told = [name_of(seen, images, validation) for seen in result.diary]
    report = training_of(result, images, lambda logits: F.cross_entropy(logits, labels), passes)
    return report | {
        "what passed it": "; ".join(name for name, _ in merged(told)),
        "batches that the norm has seen": batches_seen(result),
        "parameters that changed": changed(result),
    }


def merged(told: list[str]) -> list[tuple[str, int]]:
    """Without looks at the training images in eval mode, which do no harm; a look in several parts is one."""
    some = [(name, number * name.startswith("training")) for number, name in enumerate(told)]
    return [key for key, _ in groupby(one for one in some if one[0] != "training images in eval mode")]


def name_of(seen: Seen, images: Tensor, validation: Tensor) -> str:
    inside = all(bool((validation == image).all(dim=1).any()) for image in seen.images)
    which = "training" if torch.equal(seen.images, images) else "validation" if inside else "other"
    return f"{which} images in {'train' if seen.training else 'eval'} mode"


def epochs_cases() -> list[Case]:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    return [
        case(small_net(5), draw(6, 2, seed=84), labels, draw(4, 2, seed=85), epochs=3),
        case(small_net(6), draw(6, 2, seed=86), labels.flip(0), draw(5, 2, seed=87), epochs=5),
    ]


EXERCISE = Exercise(
    id="10.09",
    title="five epochs, one of them training",
    question=(
        "Fix `case_9` as `fixed_9(student, images, labels, validation_images, *, epochs)`: train on one batch per "
        "epoch and run the validation images through the student after each epoch. Batch norm then counts as many "
        "batches as there were epochs. No validation image changes the student, or the output for another image. "
        "Return the student."
    ),
    skeleton=(
        "def fixed_9(student, images, labels, validation_images, *, epochs):\n"
        '    """Train, look at the validation images after every epoch, return the student."""\n    ...'
    ),
    reference=epochs_with_validation,
    alternatives=(back_to_train_mode, validated_on_a_copy),
    cases=epochs_cases,
    hints=(
        "In which mode does the second epoch begin?",
        "`train()` is called before the loop, `eval()` inside it.",
        "Begin each epoch with `student.train()`.",
    ),
    misconceptions=(
        Misconception(
            "student left in eval mode",
            left_in_eval_mode,
            "after the first look at validation the student stays in eval mode: from the second epoch on dropout is "
            "off and batch norm's statistics are frozen, and no message says so",
        ),
        Misconception(
            "never in eval mode",
            never_in_eval_mode,
            "now validation runs in train mode, and its images move the statistics of batch norm: a leak",
        ),
        Misconception(
            "always in eval mode",
            always_in_eval_mode,
            "the student is never in train mode, so its batch norm keeps its initial statistics",
        ),
        Misconception(
            "no look at validation",
            never_looks,
            "every epoch trains in train mode, but the validation images are never used: that avoids the symptom. "
            "Look after each epoch, in eval mode",
        ),
        Misconception(
            "one look at the end",
            looks_once,
            "you look at the validation images once, after the last epoch. Look after each one",
        ),
        Misconception(
            "the modes swapped",
            modes_exchanged,
            "the modes are swapped: it trains in eval mode and looks at validation in train mode",
        ),
        Misconception(
            "gradients pile up",
            gradients_pile_up,
            "the modes are right, but the gradients pile up: `backward` adds to those of the epochs before. Call "
            "`optimizer.zero_grad()` in every epoch",
        ),
        Misconception(
            "a look before each epoch",
            looks_before,
            "the modes are right, but you look at validation before each epoch: the last epoch is never validated",
        ),
        Misconception(
            "an epoch too many",
            an_epoch_more,
            "the modes are right, but there is one epoch more than `epochs`",
        ),
    ),
    shows="a mode is a state that outlives the line that set it: set it where you rely on it.",
    derivation=(
        "`eval()` sets `training = False` in every part until someone sets it back. Nothing does that automatically."
    ),
    observe=what_it_saw,
    may_change=True,
)
