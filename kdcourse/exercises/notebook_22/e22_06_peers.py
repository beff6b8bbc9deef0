"""22.06 gradients of somebody else's loss."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import divergence, with_weights

Students = list[nn.Module]


def own_losses(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    logits = [student(images) for student in students]
    losses = []
    for number, student in enumerate(students):
        loss = F.cross_entropy(logits[number], labels)
        for other, peer in enumerate(logits):
            if other != number:
                loss = loss + divergence(logits[number], peer.detach(), temperature) / (len(students) - 1)
        student.zero_grad()
        loss.backward()
        losses.append(loss.item())
    return losses


def one_backward_for_all(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[Tensor]:
    own = torch.stack([student(images) for student in students])
    fixed = own.detach()
    losses = []
    for number in range(len(students)):
        peers = [fixed[other] for other in range(len(students)) if other != number]
        soft = torch.stack([divergence(own[number], peer, temperature) for peer in peers]).mean()
        losses.append(F.cross_entropy(own[number], labels) + soft)
    for student in students:
        for parameter in student.parameters():
            parameter.grad = None
    torch.stack(losses).sum().backward()
    return [loss.detach() for loss in losses]


def gradients_put_in_place(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> Any:
    losses = []
    logits = [student(images) for student in students]
    for number, student in enumerate(students):
        loss = F.cross_entropy(logits[number], labels)
        for peer in logits[:number] + logits[number + 1 :]:
            loss = loss + divergence(logits[number], peer, temperature) / (len(logits) - 1)
        parameters = list(student.parameters())
        slopes = torch.autograd.grad(loss, parameters, retain_graph=True)
        for parameter, slope in zip(parameters, slopes, strict=True):
            parameter.grad = slope
        losses.append(loss.item())
    return tuple(losses)


def _trained(
    students: Students,
    images: Tensor,
    labels: Tensor,
    temperature: float,
    *,
    detached: bool = True,
    cleared: bool = True,
    reverse: bool = False,
    labels_count: float = 1.0,
    peers_count: float | None = None,
    square: bool = True,
) -> list[float]:
    logits = [student(images) for student in students]
    if cleared:
        for student in students:
            student.zero_grad()
    weight = 1 / (len(students) - 1) if peers_count is None else peers_count
    losses = []
    for number, own in enumerate(logits):
        loss = labels_count * F.cross_entropy(own, labels)
        for other, peer in enumerate(logits):
            if other != number:
                target = peer.detach() if detached else peer
                soft = divergence(target, own, temperature) if reverse else divergence(own, target, temperature)
                loss = loss + weight * soft / (1 if square else temperature**2)
        loss.backward(retain_graph=True)
        losses.append(loss.item())
    return losses


def peers_attached(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    return _trained(students, images, labels, temperature, detached=False)


def old_gradients_kept(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    return _trained(students, images, labels, temperature, cleared=False)


def own_detached(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    losses = _trained(students, images, labels, temperature)
    for student in students:
        student.zero_grad()
    frozen = [{name: value.clone() for name, value in student.state_dict().items()} for student in students]
    torch.stack([F.cross_entropy(student(images), labels) for student in students]).sum().backward()
    for student, state in zip(students, frozen, strict=True):
        student.load_state_dict(state)
    return losses


def the_other_direction(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    return _trained(students, images, labels, temperature, reverse=True)


def without_labels(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    return _trained(students, images, labels, temperature, labels_count=0.0)


def peers_summed(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    return _trained(students, images, labels, temperature, peers_count=1.0)


def divided_by_all(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    return _trained(students, images, labels, temperature, peers_count=1 / len(students))


def no_square(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    return _trained(students, images, labels, temperature, square=False)


def run_for_every_pair(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    losses = _trained(students, images, labels, temperature)
    with torch.no_grad():
        for student in students:
            for _ in students:
                student(images)
    return losses


def peers_in_eval_mode(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    own = [student(images) for student in students]
    with torch.no_grad():
        peers = [student.eval()(images) for student in students]
    losses = []
    for number, student in enumerate(students):
        student.train().zero_grad()
        loss = F.cross_entropy(own[number], labels)
        for other, peer in enumerate(peers):
            if other != number:
                loss = loss + divergence(own[number], peer, temperature) / (len(students) - 1)
        loss.backward()
        losses.append(loss.item())
    return losses


def no_backward(students: Students, images: Tensor, labels: Tensor, *, temperature: float) -> list[float]:
    losses = _trained(students, images, labels, temperature)
    for student in students:
        student.zero_grad()
    return losses


def gradients_as_observed(result: Any, case: Case) -> Any:
    """The losses, and of each student its gradients, its parameters and how often batch norm saw a batch."""
    if not isinstance(result, tuple | list):
        raise TypeError("a list of losses is asked for")
    students: list[Any] = case.arguments[0]
    report = []
    for student in students:
        slopes = [torch.zeros_like(p) if p.grad is None else p.grad for p in student.parameters()]
        report.append(
            {
                "gradient": torch.cat([slope.flatten() for slope in slopes]),
                "parameters": torch.cat([p.detach().flatten() for p in student.parameters()]),
                "batches that batch norm has counted": int(student[1].num_batches_tracked),
                "in train mode": student.training,
            }
        )
    return [*(loss.detach() if isinstance(loss, Tensor) else loss for loss in result), report]


def after_a_step(seed: int) -> nn.Sequential:
    """With a gradient from an earlier step."""
    net = with_weights(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)), seed)
    for number, parameter in enumerate(net.parameters()):
        parameter.grad = draw(*parameter.shape, seed=seed + number)
    return net


def peer_cases() -> list[Case]:
    labels = torch.tensor([0, 2, 1, 0, 2, 2])
    return [
        case([after_a_step(11), after_a_step(12)], draw(4, 2, seed=340), labels[:4], temperature=1.0),
        case([after_a_step(13), after_a_step(14), after_a_step(15)], draw(6, 2, seed=341), labels, temperature=2.0),
        case(
            [after_a_step(16), after_a_step(17), after_a_step(18), after_a_step(19)],
            draw(5, 2, seed=342),
            labels[1:],
            temperature=3.0,
        ),
    ]


EXERCISE = Exercise(
    id="22.06",
    title="gradients of somebody else's loss",
    question=(
        "Fix `case_6` as `fixed_6(students, images, labels, *, temperature)`, one backward pass of deep mutual "
        "learning. `students` is a list of two or more networks in train mode. The loss of each is its cross-entropy "
        "with the labels plus the mean, over its peers, of T² · KL(peer ‖ own), where a peer is a fixed target. "
        "Return the list of the losses as numbers. Afterwards each student's parameters hold in `.grad` the gradient "
        "of its own loss, and nothing else: gradients of earlier steps are gone. Each network runs once, in train "
        "mode; no parameter changes."
    ),
    skeleton=(
        "def fixed_6(students, images, labels, *, temperature):\n"
        '    """The losses of all students, whose gradients are then in .grad."""\n    ...'
    ),
    reference=own_losses,
    alternatives=(one_backward_for_all, gradients_put_in_place),
    cases=peer_cases,
    hints=(
        "Take the gradient of one student's own loss and compare it with its `.grad`. Where does the rest come from?",
        "The loss of student 0 contains the logits of student 1. Which of them does `backward` go through?",
        "A peer is a target: use `peer.detach()`, and clear old gradients before.",
    ),
    misconceptions=(
        Misconception(
            "peers attached",
            peers_attached,
            "a peer's logits are part of the graph: each loss also pulls its *targets* towards the student, and every "
            "student gets the gradients of all the others. Detach the peers",
        ),
        Misconception(
            "old gradients kept",
            old_gradients_kept,
            "the peers are detached now, but gradients of an earlier step are still there: `backward` adds to them",
        ),
        Misconception(
            "both sides detached",
            own_detached,
            "the losses are right, but the gradients are those of the cross-entropy alone: with its own logits "
            "detached a student learns nothing from its peers",
        ),
        Misconception(
            "the other direction",
            the_other_direction,
            "the peers are detached now, but this is KL(own ‖ peer): the peer's distribution comes first",
        ),
        Misconception(
            "without the labels",
            without_labels,
            "the cross-entropy with the labels is missing: peers that only agree with each other can agree on anything",
        ),
        Misconception(
            "sum over the peers",
            peers_summed,
            "right for two students. With more, the mean over the peers is asked for, and you sum",
        ),
        Misconception(
            "divided by all students",
            divided_by_all,
            "you divide by the number of students. A student has one peer less",
        ),
        Misconception(
            "T² left out",
            no_square,
            "the peers are detached now, but T² is gone. It was right",
        ),
        Misconception(
            "run for every pair",
            run_for_every_pair,
            "the gradients are right, but the networks run more than once: in train mode batch norm counts the same "
            "batch each time. Keep the logits",
        ),
        Misconception(
            "peers in eval mode",
            peers_in_eval_mode,
            "the targets come from a second pass in eval mode. Each network runs once, and its logits are both its own "
            "and, detached, the target of its peers",
        ),
        Misconception(
            "no gradients",
            no_backward,
            "the losses are right, but no gradient is left in the students: clear old ones *before* `backward`",
        ),
    ),
    shows="a target that is part of the graph is trained as well.",
    derivation=(
        "∂KL(p ‖ q)/∂(logits of p) = p (ln(p / q) - KL), which is 0 only where p = q. Without `detach` that is what "
        "each peer gets from a loss that is not its own."
    ),
    observe=gradients_as_observed,
    may_change=True,
)
