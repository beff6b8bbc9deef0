"""Wrong answers to 12.1."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from torch import nn

from ..engine.core import Misconception

Make = Callable[[int], nn.Module]
Distil = Callable[[nn.Module, nn.Module], Any]
Networks = Sequence[nn.Module]


def chain(teacher: nn.Module, make_student: Make, distil: Distil, numbers: Sequence[int]) -> list[nn.Module]:
    """The teacher and its descendants."""
    networks = [teacher]
    for k in numbers:
        student = make_student(k)
        distil(student, networks[-1])
        networks.append(student)
    return networks


def its_own_pupil(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    networks = []
    for _ in range(generations):
        student = teacher
        distil(student, teacher)
        networks.append(student)
    return networks


def renamed_too_early(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    networks = []
    for k in range(1, generations + 1):
        student = teacher = make_student(k)
        distil(student, teacher)
        networks.append(student)
    return networks


def always_the_first_teacher(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    networks = [make_student(k) for k in range(1, generations + 1)]
    for student in networks:
        distil(student, teacher)
    return networks


def copies_of_the_teacher(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    networks = []
    for _ in range(generations):
        student = deepcopy(teacher)
        distil(student, teacher)
        networks.append(student)
        teacher = student
    return networks


def one_student_for_all(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    student, networks = make_student(1), []
    for _ in range(generations):
        distil(student, teacher)
        networks.append(student)
        teacher = student
    return networks


def one_student_trained_on(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    student, networks = make_student(1), []
    for _ in range(generations):
        distil(student, teacher)
        networks.append(student)
    return networks


def students_trained_on(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    student, networks = make_student(1), []
    for _ in range(generations):
        distil(student, teacher)
        networks.append(student)
        teacher, student = student, deepcopy(student)
    return networks


def the_same_start(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    return chain(teacher, make_student, distil, [1] * generations)[1:]


def numbered_from_zero(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    return chain(teacher, make_student, distil, range(generations))[1:]


def one_generation_too_few(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    return chain(teacher, make_student, distil, range(1, generations))[1:]


def one_generation_too_many(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    return chain(teacher, make_student, distil, range(1, generations + 2))[1:]


def with_the_teacher(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    return chain(teacher, make_student, distil, range(1, generations + 1))


def the_teachers(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    return chain(teacher, make_student, distil, range(1, generations + 1))[:-1]


def the_last(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Any:
    return chain(teacher, make_student, distil, range(1, generations + 1))[-1]


def the_last_in_a_list(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    return chain(teacher, make_student, distil, range(1, generations + 1))[1:][-1:]


def last_first(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    return chain(teacher, make_student, distil, range(1, generations + 1))[:0:-1]


def roles_swapped(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    return chain(teacher, make_student, lambda student, before: distil(before, student), range(1, generations + 1))[1:]


def what_distil_returns(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    networks = []
    for k in range(1, generations + 1):
        student = make_student(k)
        networks.append(distil(student, teacher))
        teacher = student
    return networks


def from_all_before(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    networks = [teacher]
    for k in range(1, generations + 1):
        student = make_student(k)
        for before in networks:
            distil(student, before)
        networks.append(student)
    return networks[1:]


def trained_by_an_untrained_one(teacher: nn.Module, make_student: Make, distil: Distil, generations: int) -> Networks:
    students = [make_student(k) for k in range(1, generations + 1)]
    for place in reversed(range(generations)):
        distil(students[place], students[place - 1] if place else teacher)
    return students


WRONG = (
    Misconception(
        "a teacher that is its own pupil",
        its_own_pupil,
        "`student = teacher` gives the teacher a second name, so you distil a network into itself. The two always "
        "agree, the loss is exactly 0, and nothing is learned. Make a new network with `make_student(k)`",
    ),
    Misconception(
        "students that are never trained",
        renamed_too_early,
        "your students are as `make_student` made them. Either `distil` never gets the network that you return, or "
        "the new network is already called `teacher` when `distil` is called: then it learns from itself, the loss is "
        "exactly 0, and nothing moves. Distil first; then it becomes the teacher",
    ),
    Misconception(
        "always the first teacher",
        always_the_first_teacher,
        "every student learns from the first teacher. These are several students of one generation; the second "
        "generation learns from the student of the first",
    ),
    Misconception(
        "copies of the teacher",
        copies_of_the_teacher,
        "each student starts as a copy of its teacher. It agrees with the teacher before the first step, so the loss "
        "is 0 and nothing is learned. A born-again student starts from new weights: `make_student(k)`",
    ),
    Misconception(
        "one student for all generations",
        one_student_for_all,
        "you make one student and use it in all generations. From the second on it is its own teacher, and your list "
        "holds the same network several times",
    ),
    Misconception(
        "one student trained for longer",
        one_student_trained_on,
        "you train one student again and again by the first teacher, and your list holds the same network several "
        "times. That is one generation with more epochs",
    ),
    Misconception(
        "copies of the student before",
        students_trained_on,
        "from the second generation on, each student starts as a copy of the one before, which is its teacher: the "
        "loss is 0 from the start. Make a new network with `make_student(k)`",
    ),
    Misconception(
        "the same start in each generation",
        the_same_start,
        "you call `make_student(1)` in every generation, so that all students start from the same weights. Generation "
        "k starts from `make_student(k)`",
    ),
    Misconception(
        "numbered from zero",
        numbered_from_zero,
        "your students are `make_student(0)`, `make_student(1)`, …; the first generation is number 1",
    ),
    Misconception(
        "a generation too few",
        one_generation_too_few,
        "a generation is missing: `range(1, generations)` ends before `generations`",
    ),
    Misconception(
        "a generation too many",
        one_generation_too_many,
        "there is one generation more than asked for",
    ),
    Misconception(
        "the teacher among the students",
        with_the_teacher,
        "your list begins with the teacher. The question asks for the students alone",
    ),
    Misconception(
        "the teachers instead of the students",
        the_teachers,
        "you keep the teacher of each generation, so the list begins with `teacher` and the last student is missing. "
        "Keep the students",
    ),
    Misconception(
        "only the last student",
        the_last,
        "you return the last student alone. The question asks for the students of all generations: is the last one "
        "the best? You would have to compare",
    ),
    Misconception(
        "a list with the last student alone",
        the_last_in_a_list,
        "your list holds the last student alone. The question asks for the students of all generations",
    ),
    Misconception(
        "the last generation first",
        last_first,
        "the students are right, but the last generation comes first. The first generation comes first",
    ),
    Misconception(
        "student and teacher exchanged",
        roles_swapped,
        "you call `distil(teacher, student)`: the trained network learns from the untrained one. The student comes "
        "first",
    ),
    Misconception(
        "what `distil` returns",
        what_distil_returns,
        "your list holds what `distil` returns, which is None: it trains in place. Keep the student itself",
    ),
    Misconception(
        "all earlier networks as teachers",
        from_all_before,
        "each student learns from all earlier networks. The question asks for the network directly before it",
    ),
    Misconception(
        "the later generations first",
        trained_by_an_untrained_one,
        "you train the last generation first, by a student that is not trained yet. Each teacher must be trained "
        "before it teaches",
    ),
)
