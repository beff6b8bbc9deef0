"""12.1 generations of students."""

from itertools import accumulate
from typing import Any

import torch
from torch import nn

from ..engine.core import Case, Exercise, case, draw, integer
from .common import with_weights
from .wrong_12_1 import WRONG, Distil, Make, Networks


class Making(nn.Module):
    """A `make_student`: for each number a new network, with the same weights each time it is asked."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, number: int) -> nn.Module:
        return small_net(50 * self.seed + number)


class Pulling(nn.Module):
    """A `distil`: pulls the student's weights most of the way to its teacher's, in place."""

    def forward(self, student: nn.Module, teacher: nn.Module) -> None:
        with torch.no_grad():
            for own, other in zip(student.parameters(), teacher.parameters(), strict=True):
                own.lerp_(other, 0.75)


def small_net(seed: int) -> nn.Sequential:
    return with_weights(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), seed)


def born_again(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    networks = [teacher]
    for k in range(1, generations + 1):
        student = make_student(k)
        distil(student, networks[-1])
        networks.append(student)
    return tuple(networks[1:])


def made_first(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    students = [make_student(k + 1) for k in range(generations)]
    for student, before in zip(students, [teacher, *students], strict=False):
        distil(student, before)
    return students


def accumulated(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    untrained = map(make_student, range(1, generations + 1))
    return [*accumulate(untrained, lambda before, student: distil(student, before) or student, initial=teacher)][1:]


def networks_as_observed(result: Any, case: Case) -> Any:
    """What each network computes and whether it is a new one; what the teacher computes afterwards."""
    teacher, images = case.arguments[0], draw(4, 2, seed=121)
    if isinstance(result, nn.Module) and not isinstance(result, nn.ModuleList):
        return {"a single network": result(images).detach()}
    if not isinstance(result, tuple | list | nn.ModuleList):
        raise ValueError("a list of networks is asked for")
    networks = list(result)

    def report(place: int, net: Any) -> Any:
        if net is None:
            return net
        new = all(net is not other for other in (teacher, *networks[:place]))
        return {"logits": net(images).detach(), "a network of its own": new}

    found = [report(place, net) for place, net in enumerate(networks)]
    return {"networks": found, "the teacher's logits afterwards": teacher(images).detach()}


def born_again_cases() -> list[Case]:
    counts = (2, 1, 3, 0)
    return [case(small_net(seed), Making(seed), Pulling(), count) for seed, count in enumerate(counts)]


def drawn_generations(g: torch.Generator) -> Case:
    seed = integer(g, 20, 999)
    return case(small_net(seed), Making(seed), Pulling(), integer(g, 0, 5))


EXERCISE = Exercise(
    id="12.1",
    title="generations of students",
    question=(
        "Write `my_born_again(teacher, make_student, distil, generations)`. `make_student(k)` returns a new, "
        "untrained network; call it with k = 1 for the first generation, k = 2 for the second, and so on. "
        "`distil(student, its_teacher)` trains `student` in place, leaves `its_teacher` as it is, and returns "
        "nothing. The first student is trained by `teacher`, every later one by the student before it. Return a list "
        "or tuple with the trained students of all generations, the first generation first, without `teacher`. For "
        "`generations` = 0 it is empty."
    ),
    skeleton=(
        "def my_born_again(teacher, make_student, distil, generations):\n"
        '    """The students of all generations, each distilled from the one before."""\n    ...'
    ),
    reference=born_again,
    alternatives=(made_first, accumulated),
    cases=born_again_cases,
    drawn=drawn_generations,
    hints=(
        "Which network is the teacher in the second generation? Is it another object than the student?",
        "In each round: make a new student, distil it, keep it. Then it is the teacher of the next round.",
        "`student = make_student(k)`, `distil(student, teacher)`, append it, and only then `teacher = student`.",
    ),
    misconceptions=WRONG,
    shows="a generation is a new network with a teacher of its own kind: without new weights nothing is learned.",
    derivation=(
        "KL(p ‖ p) = 0 and its gradient is 0. A student that is the teacher, or starts as its copy, already has the "
        "smallest possible loss; only new initial weights lead to another solution."
    ),
    observe=networks_as_observed,
)
