"""Wrong answers to 13.8, each with its diagnosis."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Misconception

Distil = Callable[[Any, Any, Tensor, Tensor], Any]
Make = Callable[[], Any]


class Constant(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def _constant(classes: int, label: int) -> Constant:
    return Constant(20.0 * F.one_hot(torch.tensor(label), classes).float())


def _trained(distil: Distil, make: Make, images: Tensor, labels: Tensor, label: int | None = None) -> tuple[Any, int]:
    """A student distilled from a teacher that predicts ``label``, the rarest by default; and its class."""
    student = make()
    classes = student(images).shape[1]
    label = int(labels.bincount(minlength=classes).argmin()) if label is None else label % classes
    distil(student, _constant(classes, label), images, labels)
    return student, label


def _predicts(student: Any, images: Tensor) -> Tensor:
    classes: Tensor = student(images).argmax(dim=1)
    return classes


def always_true(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    _trained(distil, make_student, images, labels)
    return True


def another_student(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    _, label = _trained(distil, make_student, images, labels)
    return bool((_predicts(make_student(), images) == label).all())


def the_majority_class(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, label = _trained(distil, make_student, images, labels, int(labels.mode().values))
    return bool((_predicts(student, images) == label).all())


def class_0(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, label = _trained(distil, make_student, images, labels, 0)
    return bool((_predicts(student, images) == label).all())


def the_last_class(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, label = _trained(distil, make_student, images, labels, -1)
    return bool((_predicts(student, images) == label).all())


def rarest_that_occurs(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    found, counts = labels.unique(return_counts=True)
    student, label = _trained(distil, make_student, images, labels, int(found[counts.argmin()]))
    return bool((_predicts(student, images) == label).all())


def most_is_enough(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, label = _trained(distil, make_student, images, labels)
    return bool((_predicts(student, images) == label).float().mean() > 0.5)


def one_is_enough(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, label = _trained(distil, make_student, images, labels)
    return bool((_predicts(student, images) == label).any())


def any_one_class(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, _ = _trained(distil, make_student, images, labels)
    return len(_predicts(student, images).unique()) == 1


def something_changed(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, _ = _trained(distil, make_student, images, labels)
    pairs = zip(make_student().parameters(), student.parameters(), strict=True)
    return any(not torch.equal(old, new) for old, new in pairs)


def compared_with_the_labels(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, _ = _trained(distil, make_student, images, labels)
    return bool((_predicts(student, images) == labels).all())


def unlike_the_labels(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, _ = _trained(distil, make_student, images, labels)
    return bool((_predicts(student, images) != labels).any())


class Knowing(nn.Module):
    """A teacher that has learned the labels by heart."""

    def __init__(self, images: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__()
        self.images, self.targets = images, 20.0 * F.one_hot(labels, classes).float()

    def forward(self, images: Tensor) -> Tensor:
        return self.targets[torch.cdist(images, self.images).argmin(dim=1)]


def a_teacher_that_is_right(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student = make_student()
    teacher = Knowing(images, labels, student(images).shape[1])
    distil(student, teacher, images, labels)
    return bool((_predicts(student, images) == _predicts(teacher, images)).float().mean() > 0.9)


def an_untrained_teacher(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, teacher = make_student(), make_student()
    distil(student, teacher, images, labels)
    return bool((_predicts(student, images) == _predicts(teacher, images)).all())


def two_teachers_differ(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    students = [_trained(distil, make_student, images, labels, label)[0] for label in (0, -1)]
    return not torch.allclose(students[0](images), students[1](images), atol=1e-4)


def a_lower_loss(distil: Distil, make_student: Make, images: Tensor, labels: Tensor) -> bool:
    student, _ = _trained(distil, make_student, images, labels)
    before, after = (F.cross_entropy(net(images), labels) for net in (make_student(), student))
    return bool(after < before)


WRONG = (
    Misconception(
        "always True",
        always_true,
        "your test returns True for every `distil` here, also for one that does nothing. Whoever looks at the "
        "*teacher's* predictions finds them constant, of course: look at those of the student",
    ),
    Misconception(
        "another student",
        another_student,
        "your test returns False for every `distil` here, also for one that follows its teacher. Look at the student "
        "that you gave to `distil`, in the place of the student (a new one was not trained), and ask for its predicted "
        "classes, nothing more",
    ),
    Misconception(
        "the majority class",
        the_majority_class,
        "your teacher predicts the most frequent label. If all labels are the same, a student that only learns "
        "labels predicts it too. Take the rarest class",
    ),
    Misconception(
        "always class 0",
        class_0,
        "your teacher always predicts class 0. Where most labels are 0, a student that only learns labels does so "
        "too. Look at `labels` and take the rarest class",
    ),
    Misconception(
        "always the last class",
        the_last_class,
        "your teacher always predicts the last class. Where most labels are that class, a student that only learns "
        "labels does so too. Look at `labels` and take the rarest class",
    ),
    Misconception(
        "the rarest that occurs",
        rarest_that_occurs,
        "you take the rarest of the labels that occur. If all labels are the same, that is the most frequent one as "
        "well. Count for every output of the student: `torch.bincount(labels, minlength=classes)`",
    ),
    Misconception(
        "most is enough",
        most_is_enough,
        "you accept a student that predicts the class for most images. One that forgets its teacher for some of "
        "them passes. The teacher says the same everywhere, so ask for all",
    ),
    Misconception(
        "one is enough",
        one_is_enough,
        "you accept a student that predicts the class for a single image; an untrained student may do that. Ask for "
        "all",
    ),
    Misconception(
        "any one class",
        any_one_class,
        "you only ask whether the student predicts one class throughout, not which. Labels that are all the same do "
        "that as well, without a teacher",
    ),
    Misconception(
        "something changed",
        something_changed,
        "you only ask whether the student has changed. Labels change it as well",
    ),
    Misconception(
        "compared with the labels",
        compared_with_the_labels,
        "you compare the student with the labels. A student that follows *this* teacher must get them wrong: your "
        "test praises the loop that ignores it",
    ),
    Misconception(
        "unlike the labels",
        unlike_the_labels,
        "you only ask whether the student gets labels wrong. An untrained one does too. It must predict the "
        "teacher's class",
    ),
    Misconception(
        "a teacher that is right",
        a_teacher_that_is_right,
        "your teacher predicts the labels, so a student that learns from the labels agrees with it. Only a teacher "
        "that is wrong can be told from them",
    ),
    Misconception(
        "an untrained teacher",
        an_untrained_teacher,
        "your teacher is an untrained network, here the same as the untrained student: doing nothing is then enough "
        "to agree. Build one that predicts a constant class",
    ),
    Misconception(
        "two teachers differ",
        two_teachers_differ,
        "you only ask whether the teacher makes a difference. A student that is driven *away* from it differs too: "
        "it must predict the teacher's class",
    ),
    Misconception(
        "a lower loss",
        a_lower_loss,
        "you only look at the loss on the labels. It falls in a loop that ignores its teacher, and rises in one "
        "that follows yours",
    ),
)
