"""10.14 a perfect score on random labels."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import changed, label_step, parameters_now


def _trained(student: nn.Module, images: Tensor, labels: Tensor, steps: int) -> nn.Module:
    student = deepcopy(student).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for _ in range(steps):
        loss = F.cross_entropy(student(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student.eval()


def _share_right(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (student(images).argmax(dim=1) == labels).double().mean().item()


def score(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    student = _trained(student, images[:-held_out], labels[:-held_out], steps)
    return _share_right(student, images[-held_out:], labels[-held_out:])


def score_by_split(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    sizes = [len(images) - held_out, held_out]
    (seen, unseen), (seen_labels, unseen_labels) = images.split(sizes), labels.split(sizes)
    return _share_right(_trained(student, seen, seen_labels, steps), unseen, unseen_labels)


def score_by_counting(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    cut = len(labels) - held_out
    named = _trained(student, images[:cut], labels[:cut], steps)(images[cut:]).argmax(dim=1).tolist()
    return sum(guess == label for guess, label in zip(named, labels[cut:].tolist(), strict=True)) / held_out


def score_on_training_images(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    student = _trained(student, images[:-held_out], labels[:-held_out], steps)
    return _share_right(student, images[:-held_out], labels[:-held_out])


def trained_on_all(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    return _share_right(_trained(student, images, labels, steps), images[-held_out:], labels[-held_out:])


def all_for_both(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    return _share_right(_trained(student, images, labels, steps), images, labels)


def parts_swapped(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    student = _trained(student, images[-held_out:], labels[-held_out:], steps)
    return _share_right(student, images[:-held_out], labels[:-held_out])


def given_student_trained(student: nn.Module, images: Tensor, labels: Tensor, *, held_out: int, steps: int) -> float:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for _ in range(steps):
        label_step(student, optimizer, images[:-held_out], labels[:-held_out])
    return _share_right(student, images[-held_out:], labels[-held_out:])


def score_and_student(result: Any, case: Case) -> Any:
    """The accuracy, and whether the given student was left alone."""
    return {"the accuracy": result, "parameters of the given student that changed": changed(case.arguments[0])}


def score_cases() -> list[Case]:
    def one(number: int, count: int, held_out: int, steps: int) -> Case:
        net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3)).double()
        with torch.no_grad():
            for place, parameter in enumerate(net.parameters()):
                parameter.copy_(draw(*parameter.shape, seed=100 * number + place, spread=0.7))
        net.start = parameters_now(net)  # type: ignore[assignment]
        labels = draw(count, 3, seed=number + 50).argmax(dim=1)
        return case(net, draw(count, 6, seed=number, spread=1.0), labels, held_out=held_out, steps=steps)

    return [one(1, 30, 11, 20), one(2, 45, 13, 40)]


EXERCISE = Exercise(
    id="10.14",
    title="a perfect score on random labels",
    question=(
        "Fix `case_14` as `fixed_14(student, images, labels, *, held_out, steps)`: train a copy of the student and "
        "return an accuracy that is at chance, on average, when the labels are random. `held_out` is the number of "
        "images at the end that are set aside. The student that was passed in is not changed."
    ),
    skeleton=(
        "def fixed_14(student, images, labels, *, held_out, steps):\n"
        '    """Accuracy after training a copy of the student."""\n    ...'
    ),
    reference=score,
    alternatives=(score_by_split, score_by_counting),
    cases=score_cases,
    hints=(
        "Which images can a network classify without having learned a rule?",
        "The accuracy is measured on the images it was trained on.",
        "Train on `images[:-held_out]`, measure on `images[-held_out:]`, and the labels likewise.",
    ),
    misconceptions=(
        Misconception(
            "measured on the training images",
            score_on_training_images,
            "you measure on the images it was trained on. It has seen their labels, and a network that is large enough "
            "memorizes them. Measure on images it has never seen",
        ),
        Misconception(
            "trained on all",
            trained_on_all,
            "measured on the right images, but it was trained on them as well. Held out means held out of training",
        ),
        Misconception(
            "nothing held out",
            all_for_both,
            "`held_out` has no effect: everything is trained on and everything is measured",
        ),
        Misconception(
            "the parts swapped",
            parts_swapped,
            "the two parts are swapped: you train on the held-out images and measure on the others",
        ),
        Misconception(
            "the given student trained",
            given_student_trained,
            "the accuracy is right, but you train the given student itself: the caller still needs it unchanged. "
            "Train a copy",
        ),
    ),
    shows="memorizing is not learning: only images that training has not seen can tell them apart.",
    derivation=(
        "Random labels follow no rule that could be learned, so on new images the expected accuracy is 1/C. What the "
        "training images show beyond that is memorized."
    ),
    observe=score_and_student,
)
