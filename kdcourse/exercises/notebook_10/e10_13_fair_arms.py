"""10.13 a gain out of nothing."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...losses import kd_loss
from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import (
    Loss,
    attached_soft_loss,
    batches_seen,
    changed,
    differing,
    label_step,
    parameters_now,
    small_net,
    train_mode_logits,
    training_of,
)

Arms = tuple[nn.Module, nn.Module]


def _arm(student: nn.Module, images: Tensor, targets: Tensor, epochs: int) -> nn.Module:
    """A copy of the student, trained on labels or on teacher's logits."""
    student = deepcopy(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        logits = student(images)
        soft = targets.is_floating_point()
        loss = kd_loss(logits, targets, temperature=2.0) if soft else F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def two_arms(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    networks = deepcopy(student), deepcopy(student)
    for network, targets in zip(networks, (labels, teacher_logits), strict=True):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(epochs):
            logits = network(images)
            is_soft = targets.is_floating_point()
            loss = kd_loss(logits, targets, temperature=2.0) if is_soft else F.cross_entropy(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return networks


def two_arms_by_copies(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int
) -> Arms:
    return _arm(student, images, labels, epochs), _arm(student, images, teacher_logits, epochs)


def two_arms_in_turn(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int
) -> Arms:
    distilled = _arm(student, images, teacher_logits, epochs)
    return _arm(student, images, labels, epochs), distilled


def second_goes_on(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    alone = _arm(student, images, labels, epochs)
    return alone, _arm(alone, images, teacher_logits, epochs)


def one_network(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    both = _arm(_arm(student, images, labels, epochs), images, teacher_logits, epochs)
    return both, both


def half_each(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    alone = _arm(student, images, labels, epochs // 2)
    return alone, _arm(student, images, teacher_logits, epochs)


def other_start(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    other = deepcopy(student)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(draw(*parameter.shape, seed=99, spread=1.0))
    other.start = [parameter.detach().clone() for parameter in other.parameters()]  # type: ignore[assignment]
    return _arm(student, images, labels, epochs), _arm(other, images, teacher_logits, epochs)


def arms_swapped(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    return _arm(student, images, teacher_logits, epochs), _arm(student, images, labels, epochs)


def labels_for_both(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    return _arm(student, images, labels, epochs), _arm(student, images, labels, epochs)


def classes_of_the_teacher(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int
) -> Arms:
    return _arm(student, images, labels, epochs), _arm(student, images, teacher_logits.argmax(dim=1), epochs)


def given_student_trained(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int
) -> Arms:
    distilled = _arm(student, images, teacher_logits, epochs)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        label_step(student, optimizer, images, labels)
    return student, distilled


def what_each_arm_got(result: Any, case: Case) -> Any:
    """How long each arm trained, from where, and towards what."""
    alone, distilled = result
    given, images, labels, teacher_logits = case.arguments
    logits = train_mode_logits(alone, images), train_mode_logits(distilled, images)
    to_teacher = [float(attached_soft_loss(some, teacher_logits, 2.0)) for some in logits]
    named = teacher_logits.argmax(dim=1)
    return {
        "two networks": alone is not distilled,
        "epochs of the student alone": batches_seen(alone),
        "epochs of the distilled student": batches_seen(distilled),
        "epochs asked for": case.keywords["epochs"],
        "the same start": all(map(torch.equal, given.start, distilled.start)),
        "the given student is as it was": changed(given) == 0 and batches_seen(given) == 0,
        "the distilled student is the nearer to the teacher": to_teacher[1] < to_teacher[0],
        "every epoch of the student alone follows the labels": follows(
            alone, images, lambda logits: F.cross_entropy(logits, labels)
        ),
        "the distilled student learns the classes that the teacher predicts": follows(
            distilled, images, lambda logits: F.cross_entropy(logits, named), must_be_left=True
        ),
    }


def follows(net: Any, images: Tensor, loss: Loss, *, must_be_left: bool = False) -> bool:
    """Whether each epoch changed every parameter, and the first and the last went by this loss.

    What cannot be seen counts as such, or where the gradient must be left, as not.
    """
    passes = [seen for seen in net.diary if not differing(parameters_now(seen.net), parameters_now(net))]
    trained = passes[-1].net if passes else net
    if must_be_left and all(value.grad is None or not value.grad.any() for value in trained.parameters()):
        return False
    changes, *cosines = training_of(trained, images, loss, passes).values()
    return not passes or "0" not in changes.split(", ") and min(cosines) > 1 - 1e-6


def arms_cases() -> list[Case]:
    """Labels that the teacher holds for the least likely: what an arm learned shows."""
    teachers = draw(6, 3, seed=91), draw(6, 3, seed=93)
    return [
        case(small_net(9), draw(6, 2, seed=90), teachers[0].argmin(dim=1), teachers[0], epochs=2),
        case(small_net(10), draw(6, 2, seed=92), teachers[1].argmin(dim=1), teachers[1], epochs=5),
    ]


EXERCISE = Exercise(
    id="10.13",
    title="a gain out of nothing",
    question=(
        "Fix `case_13` as `fixed_13(student, images, labels, teacher_logits, *, epochs)`: return two networks "
        "`(alone, distilled)`, one trained on the labels, one on the teacher's logits, so that a teacher that has "
        "nothing to teach shows no gain. Each has a budget of `epochs` epochs, each of them one step on the whole "
        "batch. The student that was passed in is not changed."
    ),
    skeleton=(
        "def fixed_13(student, images, labels, teacher_logits, *, epochs):\n"
        '    """(alone, distilled): one learns from the labels, one from the teacher."""\n    ...'
    ),
    reference=two_arms,
    alternatives=(two_arms_by_copies, two_arms_in_turn),
    cases=arms_cases,
    hints=(
        "Where does the second arm begin?",
        "Count the epochs of training that the final weights of each arm have had.",
        "Both arms are a `deepcopy(student)`, made before anything is trained.",
    ),
    misconceptions=(
        Misconception(
            "the second arm continues where the first ended",
            second_goes_on,
            "the distilled student starts from the weights of the trained one: it has had twice the training. Its "
            "lead shows that training helps",
        ),
        Misconception(
            "one network in both arms",
            one_network,
            "both arms are the same network, so any difference between them is zero",
        ),
        Misconception(
            "half the budget for the baseline",
            half_each,
            "the baseline gets fewer epochs. Give the baseline everything that the favourite gets",
        ),
        Misconception(
            "another start",
            other_start,
            "the arms begin with different weights. The difference then includes the luck of the initialization",
        ),
        Misconception(
            "the arms swapped",
            arms_swapped,
            "both arms are trained as they should be, but they come back in the wrong order: `(alone, distilled)`",
        ),
        Misconception(
            "labels for both",
            labels_for_both,
            "both arms are trained on the labels; neither is distilled",
        ),
        Misconception(
            "the classes that the teacher predicts",
            classes_of_the_teacher,
            "the distilled student learns only which class the teacher predicts. It must learn from all its logits: "
            "a soft loss",
        ),
        Misconception(
            "the given student trained",
            given_student_trained,
            "one arm is the given student itself: train a copy in each arm, the caller still needs it unchanged",
        ),
    ),
    shows="only what differs between two arms can explain what differs in their results.",
    derivation="Same start, same batches, same number of steps: then the targets are the only difference left.",
    observe=what_each_arm_got,
    may_change=True,
)
