"""13.8 a test for training with a teacher."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, case, draw
from .wrong_13_8 import WRONG, Constant, Distil, Make


def uses_its_teacher(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student = make_student()
    classes = student(images).shape[1]
    rarest = torch.bincount(labels, minlength=classes).argmin()
    teacher = nn.Linear(images.shape[1], classes)
    with torch.no_grad():
        teacher.weight.zero_()
        teacher.bias.copy_(20 * F.one_hot(rarest, classes))
    distil(student, teacher, images, labels)
    return bool((student(images).argmax(dim=1) == rarest).all())


def uses_by_counting(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student = make_student()
    with torch.no_grad():
        classes = student(images[:1]).size(1)
    counts = [labels.tolist().count(label) for label in range(classes)]
    target = counts.index(min(counts))
    teacher = Constant(torch.tensor([30.0 if label == target else -30.0 for label in range(classes)]))
    distil(student, teacher.eval(), images, labels)
    return student(images).argmax(dim=1).unique().tolist() == [target]


def uses_by_a_class_of_its_own(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student = make_student()
    width = student(images).shape[-1]
    lonely = min(range(width), key=lambda label: int((labels == label).sum()))

    class OneAnswer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.full((x.shape[0], width), -25.0)
            logits[:, lonely] = 25.0
            return logits

    distil(student, OneAnswer(), images, labels)
    predictions = student(images).detach().numpy().argmax(axis=1)
    return all(prediction == lonely for prediction in predictions)


class Students(nn.Module):
    """Called without arguments it makes a new student, each time the same."""

    def __init__(self, seed: int, classes: int) -> None:
        super().__init__()
        self.seed, self.classes = seed, classes

    def forward(self) -> nn.Module:
        student = nn.Linear(2, self.classes)
        with torch.no_grad():
            for number, parameter in enumerate(student.parameters()):
                parameter.copy_(draw(*parameter.shape, seed=self.seed + number, spread=0.7))
        return student


class FollowsTheTeacher(nn.Module):
    """Full-batch gradient descent on the cross-entropy with a target; the others change the target."""

    def forward(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> None:
        teacher.eval()
        with torch.no_grad():
            target = self.target(student, teacher, images, labels)
            inputs = torch.cat([images, torch.ones(len(images), 1)], dim=1)
            weights = torch.cat([student.weight.T, student.bias[None]])
            for _ in range(60):
                weights -= 1.0 * inputs.T @ ((inputs @ weights).softmax(dim=1) - target) / len(inputs)
            student.weight.copy_(weights[:-1].T)
            student.bias.copy_(weights[-1])

    def target(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> Tensor:
        soft: Tensor = (teacher(images) / 2).softmax(dim=1)
        return soft


class FollowsItsClasses(FollowsTheTeacher):
    def target(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> Tensor:
        logits = teacher(images)
        return F.one_hot(logits.argmax(dim=1), logits.shape[1]).float()


class FollowsTheLabels(FollowsTheTeacher):
    def target(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> Tensor:
        return F.one_hot(labels, student.out_features).float()


class MixesInTheLabels(FollowsTheTeacher):
    def target(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> Tensor:
        hard = F.one_hot(labels, student.out_features).float()
        return 0.1 * hard + 0.9 * teacher(images).softmax(dim=1)


class FollowsItself(FollowsTheTeacher):
    def target(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> Tensor:
        return F.one_hot(student(images).argmax(dim=1), student.out_features).float()


class LeavesSomeOut(FollowsTheTeacher):
    """The images on one side keep their labels."""

    edge = -0.3

    def target(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> Tensor:
        some = images[:, 0] > self.edge
        hard = F.one_hot(labels, student.out_features).float()
        hard[some] = teacher(images[some]).softmax(dim=1)
        return hard


class LeavesAFewOut(LeavesSomeOut):
    edge = -1.7


class FleesFromTheTeacher(FollowsTheTeacher):
    def target(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> Tensor:
        return (-teacher(images)).softmax(dim=1)


class DoesNothing(nn.Module):
    def forward(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> None:
        teacher.eval()


class TrainsACopy(FollowsTheTeacher):
    def forward(self, student: Any, teacher: Any, images: Tensor, labels: Tensor) -> None:
        super().forward(deepcopy(student), teacher, images, labels)


def separable(seed: int | torch.Generator, count: int, classes: int) -> tuple[Tensor, Tensor]:
    """Images of two numbers, and labels 0 to classes - 2 by sectors of the plane: linearly separable."""
    images = draw(count, 2, seed=seed, spread=1.0).float()
    corners = torch.tensor([[3.0, 0.5], [-2.5, 2.0], [0.0, -3.0], [2.0, 3.0]])[: classes - 1]
    return images, (images @ corners.T).argmax(dim=1)


def as_a_tensor(value: Any, case: Case) -> Any:
    """Python's, NumPy's and PyTorch's own True are the same."""
    return torch.tensor(bool(value)) if isinstance(value, bool | np.bool_) else value


def loop_cases() -> list[Case]:
    images, labels = separable(81, 24, 4)
    more, all_labels = separable(80, 40, 4)
    students = Students(96, 4), Students(95, 3)
    two = (labels == 0).long()
    mostly = torch.zeros_like(labels)
    mostly[images.norm(dim=1).topk(2, largest=False).indices] = 1  # in the middle, where no line cuts them off
    return [
        case(FollowsTheTeacher(), students[0], images, labels),
        case(FollowsTheLabels(), students[0], images, labels),
        case(DoesNothing(), students[0], images, labels),
        case(FollowsTheLabels(), students[0], images, torch.zeros_like(labels)),
        case(FollowsTheLabels(), students[0], images, torch.full_like(labels, 3)),
        case(FollowsTheLabels(), students[0], images, mostly),
        case(FollowsTheTeacher(), students[1], images, two + 1),
        case(FollowsTheTeacher(), students[1], images, two),
        case(FollowsItsClasses(), students[0], more, all_labels),
        case(MixesInTheLabels(), students[0], more, all_labels),
        case(LeavesSomeOut(), students[0], more, all_labels),
        case(LeavesAFewOut(), students[0], more, all_labels),
        case(FollowsItself(), students[0], more, all_labels),
        case(FleesFromTheTeacher(), Students(97, 2), images, two),
        case(TrainsACopy(), students[0], more, all_labels),
    ]


EXERCISE = Exercise(
    id="13.8",
    title="a test for training with a teacher",
    question=(
        "A training loop that ignores its teacher can still look fine, because labels also make a student better. "
        "Write the test that finds out, `my_uses_its_teacher(distil, make_student, images, labels)`. `make_student()` "
        "returns a new student; `distil(student, teacher, images, labels)` trains it in place and returns nothing. "
        "Give `distil` a teacher that predicts one and the same class, with great confidence (finite logits), for "
        "any images. Return `True` if the student then predicts this class for *every* image, otherwise `False`. "
        "Choose the class that is rarest among `labels`, best one that no label has, so that the labels cannot lead "
        "there. There are as many classes as the student has outputs; the teacher must be an `nn.Module`, since "
        "`distil` calls `teacher.eval()`. Images are a float32 tensor (N, 2)."
    ),
    skeleton=(
        "def my_uses_its_teacher(distil, make_student, images, labels):\n"
        '    """Whether a student follows a teacher that always predicts the same, rare class."""\n    ...'
    ),
    reference=uses_its_teacher,
    alternatives=(uses_by_counting, uses_by_a_class_of_its_own),
    cases=loop_cases,
    hints=(
        "What can a student learn only from its teacher, and never from the labels?",
        "An `nn.Linear` with weights of 0 returns its bias for each image. Which class may it not predict?",
        "`torch.bincount(labels, minlength=classes).argmin()` is the class; logits of 20 there and 0 elsewhere; after "
        "`distil`, `(student(images).argmax(dim=1) == rarest).all()`.",
    ),
    misconceptions=WRONG,
    shows="a loop that uses its teacher follows it anywhere, also where every label says otherwise.",
    derivation=(
        "With p_t = 1 for one class on every image, the loss is smallest for a student that predicts it everywhere, "
        "and a bias alone can do that. From labels that are never that class no gradient points there."
    ),
    observe=as_a_tensor,
    points=2,
)
