"""22.05 generations that do not differ."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ..engine.core import Case, Exercise, Misconception, case
from .common import with_weights

Networks = list[nn.Module]


class Training(nn.Module):
    """A `distil`: changes the student in place, towards its teacher where there is one."""

    def forward(self, student: nn.Module, teacher: nn.Module | None) -> None:
        state = student.state_dict()
        with torch.no_grad():
            for name, value in (student if teacher is None else teacher).state_dict().items():
                if value.is_floating_point():
                    state[name].lerp_(value, 0.75)
                    state[name] += 0.3 * (torch.cos if teacher else torch.sin)(state[name])
                else:
                    state[name] += 1


def generations_from_one_start(student: nn.Module, distil: Any, generations: int) -> Sequence[nn.Module]:
    trained: Networks = []
    teacher = None
    for _ in range(generations):
        pupil = deepcopy(student)
        distil(pupil, teacher)
        trained.append(pupil)
        teacher = pupil
    return tuple(trained)


def by_state_dicts(student: nn.Module, distil: Any, generations: int) -> Networks:
    start = {name: value.clone() for name, value in student.state_dict().items()}
    networks: list[Any] = [None]
    while len(networks) <= generations:
        pupil = deepcopy(networks[-1] or student)
        pupil.load_state_dict(start)
        distil(pupil, networks[-1])
        networks.append(pupil)
    return networks[1:]


def one_after_the_other(student: nn.Module, distil: Any, generations: int) -> Networks:
    pupils = [deepcopy(student) for _ in range(generations)]
    teachers: list[Any] = [None, *pupils]
    for number, pupil in enumerate(pupils):
        distil(pupil, teachers[number])
    return pupils


def its_own_pupil(student: nn.Module, distil: Any, generations: int) -> Networks:
    pupil = deepcopy(student)
    teacher, start, trained = pupil, deepcopy(pupil.state_dict()), []
    for number in range(generations):
        distil(pupil, teacher if number else None)
        trained.append(deepcopy(pupil))
        teacher.load_state_dict(trained[-1].state_dict())
        pupil.load_state_dict(start)
    return trained


def never_reset(student: nn.Module, distil: Any, generations: int) -> Networks:
    trained: Networks = []
    pupil = student
    for _ in range(generations):
        pupil = deepcopy(pupil)
        distil(pupil, trained[-1] if trained else None)
        trained.append(pupil)
    return trained


def parameters_reset_alone(student: nn.Module, distil: Any, generations: int) -> Networks:
    trained: Networks = []
    pupil = deepcopy(student)
    for _ in range(generations):
        with torch.no_grad():
            for own, first in zip(pupil.parameters(), student.parameters(), strict=True):
                own.copy_(first)
        distil(pupil, trained[-1] if trained else None)
        trained.append(deepcopy(pupil))
    return trained


def the_first_teaches_all(student: nn.Module, distil: Any, generations: int) -> Networks:
    trained: Networks = []
    for _ in range(generations):
        pupil = deepcopy(student)
        distil(pupil, trained[0] if trained else None)
        trained.append(pupil)
    return trained


def untrained_teacher_first(student: nn.Module, distil: Any, generations: int) -> Networks:
    trained = [student]
    for _ in range(generations):
        pupil = deepcopy(student)
        distil(pupil, trained[-1])
        trained.append(pupil)
    return trained[1:]


def nobody_teaches(student: nn.Module, distil: Any, generations: int) -> Networks:
    trained = [deepcopy(student) for _ in range(generations)]
    for pupil in trained:
        distil(pupil, None)
    return trained


def one_network_often(student: nn.Module, distil: Any, generations: int) -> Networks:
    last = generations_from_one_start(student, distil, generations)[-1:]
    return list(last) * generations


def student_used_up(student: nn.Module, distil: Any, generations: int) -> Networks:
    trained: Networks = []
    start = deepcopy(student)
    for number in range(generations):
        pupil = student if number == generations - 1 else deepcopy(start)
        distil(pupil, trained[-1] if trained else None)
        trained.append(pupil)
    return trained


def start_among_them(student: nn.Module, distil: Any, generations: int) -> Networks:
    return [deepcopy(student), *generations_from_one_start(student, distil, generations)][: generations or 1]


def networks_as_observed(result: Any, case: Case) -> Any:
    """The state of every network, whether it is one of its own, and that of the student that was passed in."""
    if not isinstance(result, tuple | list | nn.ModuleList):
        raise TypeError("a list of networks is asked for")
    student, networks = case.arguments[0], list(result)

    def state(net: nn.Module) -> dict[str, Any]:
        return {name: value.detach().clone() for name, value in net.state_dict().items()}

    own = [all(net is not other for other in (student, *networks[:n])) for n, net in enumerate(networks)]
    report = {"networks of their own": own, "the student that was passed in": state(student)}
    return [*({"state": state(net)} if isinstance(net, nn.Module) else net for net in networks), report]


def untrained(seed: int) -> nn.Sequential:
    return with_weights(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)), seed)


def generation_cases() -> list[Case]:
    return [case(untrained(seed), Training(), count) for seed, count in ((3, 2), (4, 1), (5, 4), (6, 0))]


EXERCISE = Exercise(
    id="22.05",
    title="generations that do not differ",
    question=(
        "Fix `case_5` as `fixed_5(student, distil, generations)`, born-again networks that all start from the same "
        "weights. `distil(pupil, teacher)` trains `pupil` in place and leaves `teacher` as it is; with `teacher` "
        "None it trains on the labels alone. Every generation starts from the state (parameters *and* buffers) in "
        "which `student` was passed in. The first one has the teacher None, each later one the trained network of "
        "the generation before. Return the list of the trained networks, one per generation, the first generation "
        "first, each a network of its own. `student` itself is not changed; for `generations` = 0 the list is empty."
    ),
    skeleton=(
        "def fixed_5(student, distil, generations):\n"
        '    """The trained networks, one per generation, all from the same start."""\n    ...'
    ),
    reference=generations_from_one_start,
    alternatives=(by_state_dicts, one_after_the_other),
    cases=generation_cases,
    hints=(
        "The loss between student and teacher is 0 from the first step on. When is a divergence exactly 0?",
        "Compare `pupil is teacher`. Then follow both names through the two `load_state_dict` calls.",
        "Give every generation `deepcopy(student)` as its pupil, and the pupil before it as its teacher.",
    ),
    misconceptions=(
        Misconception(
            "its own pupil",
            its_own_pupil,
            "pupil and teacher are two names for one network. Loading the start into the pupil resets the teacher as "
            "well, and a network compared with itself has a loss of 0: every generation is the first one again",
        ),
        Misconception(
            "never reset",
            never_reset,
            "each generation goes on from where the one before ended. It is one longer training and not a new "
            "generation. `state_dict()` returns the parameters themselves: a start that is to be loaded again must be "
            "a copy",
        ),
        Misconception(
            "buffers not reset",
            parameters_reset_alone,
            "parameters are reset, but buffers are not: batch norm keeps the statistics of the generation before",
        ),
        Misconception(
            "the first one teaches all",
            the_first_teaches_all,
            "every generation learns from the first one. Each is to learn from the one before it",
        ),
        Misconception(
            "an untrained teacher for the first",
            untrained_teacher_first,
            "the first generation learns from the untrained student. It has no teacher: pass None",
        ),
        Misconception(
            "nobody teaches",
            nobody_teaches,
            "no generation has a teacher: all are trained on the labels alone, which is the symptom and not its cure",
        ),
        Misconception(
            "one network many times",
            one_network_often,
            "the list has the last network in every place. Each generation's network is a result of its own",
        ),
        Misconception(
            "the student trained as well",
            student_used_up,
            "the last generation trains the student that was passed in. Train copies, and leave it as it is",
        ),
        Misconception(
            "the start among them",
            start_among_them,
            "the list begins with the untrained student. It holds the trained networks only",
        ),
    ),
    shows="two names for one network make a teacher that agrees with its pupil whatever the pupil does.",
    derivation=(
        "KL(p ‖ p) = 0 for every p, and so is its gradient. What is left of the loss is the labels' part, and from the "
        "same start the same labels give the same network."
    ),
    observe=networks_as_observed,
    may_change=True,
)
