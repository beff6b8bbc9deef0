"""14.5 which block costs what."""

from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import Net, blocks, drawn_blocks, parameters


def contributions(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    hybrids = []
    with torch.no_grad():
        for j in range(len(teacher) + 1):
            hybrid = nn.Sequential(*student[:j], *teacher[j:])
            hybrids.append(hybrid(inputs))
    outputs = torch.stack(hybrids)
    return outputs[:-1] - outputs[1:]


def along_the_students_path(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    found, given = [], inputs
    for k in range(len(teacher)):
        right, wrong = teacher[k](given), student[k](given)
        given = wrong
        for later in teacher[k + 1 :]:
            right, wrong = later(right), later(wrong)
        found.append(right - wrong)
    return torch.stack(found).detach()


def by_recursion(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    own = student[0](inputs)
    first = teacher(inputs) - reduce(lambda values, part: part(values), teacher[1:], own)
    if len(teacher) == 1:
        return first[None]
    return torch.cat([first[None], by_recursion(teacher[1:], student[1:], own)])


def contributions_and_networks(result: Any, case: Case) -> Any:
    """The contributions, and the parameters of the two networks, which an answer may not change."""
    if not isinstance(result, Tensor):
        raise ValueError("one tensor is asked for")
    teacher, student, _ = case.arguments
    return {
        "contributions": result,
        "the teacher's parameters": parameters(teacher),
        "the student's parameters": parameters(student),
    }


def _hybrids(first: Net, then: Net, inputs: Tensor) -> Tensor:
    """(K + 1, N, C): the outputs with 0, 1, …, K blocks of ``first``, the others of ``then``."""
    with torch.no_grad():
        return torch.stack([nn.Sequential(*first[:j], *then[j:])(inputs) for j in range(len(first) + 1)])


def _replaced(net: Net, other: Net, k: int, inputs: Tensor) -> Tensor:
    """The outputs of ``net`` with block k of ``other``."""
    with torch.no_grad():
        found: Tensor = nn.Sequential(*net[:k], other[k], *net[k + 1 :])(inputs)
    return found


def one_block_at_a_time(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    whole = teacher(inputs).detach()
    return torch.stack([whole - _replaced(teacher, student, k, inputs) for k in range(len(teacher))])


def one_block_given_back(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    whole = student(inputs).detach()
    return torch.stack([_replaced(student, teacher, k, inputs) - whole for k in range(len(teacher))])


def the_teachers_blocks_first(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    outputs = _hybrids(teacher, student, inputs)
    return outputs[1:] - outputs[:-1]


def student_minus_teacher(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    return -contributions(teacher, student, inputs)


def from_the_teacher(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    outputs = _hybrids(student, teacher, inputs)
    return outputs[0] - outputs[1:]


def to_the_student(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    outputs = _hybrids(student, teacher, inputs)
    return outputs[:-1] - outputs[-1]


def last_block_first(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    return contributions(teacher, student, inputs).flip(0)


def the_hybrids_themselves(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    return _hybrids(student, teacher, inputs)


def last_block_left_out(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    return contributions(teacher, student, inputs)[:-1]


def difference_passed_on(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    found, given = [], inputs
    with torch.no_grad():
        for k in range(len(teacher)):
            found.append(teacher[k + 1 :](teacher[k](given) - student[k](given)))
            given = student[k](given)
    return torch.stack(found)


def absolute(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    return contributions(teacher, student, inputs).abs()


def squared(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    return contributions(teacher, student, inputs).square()


def averaged(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    return contributions(teacher, student, inputs).mean(dim=1)


def as_fractions(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    found = contributions(teacher, student, inputs)
    return found / found.sum(dim=0)


def in_equal_parts(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    whole = (teacher(inputs) - student(inputs)).detach()
    return (whole / len(teacher)).expand(len(teacher), *whole.shape).clone()


def teacher_taken_apart(teacher: Net, student: Net, inputs: Tensor) -> Tensor:
    outputs = [teacher(inputs).detach()]
    for k, ours in enumerate(student):
        teacher[k] = ours
        outputs.append(teacher(inputs).detach())
    return torch.stack(outputs[:-1]) - torch.stack(outputs[1:])


def contribution_cases() -> list[Case]:
    def nets(widths: list[int], seed: int) -> tuple[Net, Net]:
        return blocks(widths, hidden=3, seed=seed), blocks(widths, hidden=1, seed=seed + 1)

    return [
        case(*nets([1, 2, 1], 30), draw(1, 1, seed=40, spread=1.0)),
        case(*nets([2, 3, 3, 2], 32), draw(4, 2, seed=41, spread=1.0)),
        case(*nets([3, 1, 4, 2, 3], 34), draw(5, 3, seed=42, spread=1.0)),
        case(*nets([2, 3], 36), draw(3, 2, seed=43, spread=1.0)),  # one block: all of the error is its own
        case(*(net.float() for net in nets([2, 3, 2], 38)), draw(4, 2, seed=44, spread=1.0).float()),
    ]


def drawn_contributions(g: torch.Generator) -> Case:
    return case(*drawn_blocks(g))


EXERCISE = Exercise(
    id="14.5",
    title="which block costs what",
    question=(
        "`teacher` and `student` are `nn.Sequential`s of K ≥ 1 blocks. Block k of both maps a tensor to one of the "
        "same shape as the other's. Hybrid j has the student's first j blocks and the teacher's from there on, "
        "j = 0 … K. Write `my_contributions(teacher, student, inputs)`: a tensor of shape (K, N, C). Entry k, "
        "k = 0 … K - 1, is by how much the outputs (N, C) for `inputs` change through one more block of the student: "
        "those of hybrid k minus those of hybrid k + 1. No gradient is needed. The two networks stay as they are."
    ),
    skeleton=(
        "def my_contributions(teacher, student, inputs):\n"
        '    """By how much the outputs change as the blocks are replaced one after the other."""\n    ...'
    ),
    reference=contributions,
    alternatives=(along_the_students_path, by_recursion),
    cases=contribution_cases,
    drawn=drawn_contributions,
    hints=(
        "There are K + 1 hybrids: the first is the teacher, the last the student. What do neighbours differ in?",
        "`nn.Sequential(*student[:j], *teacher[j:])` is the j-th hybrid. Run all of them on `inputs`.",
        "Stack the outputs of the hybrids 0 … K; then `outputs[:-1] - outputs[1:]`.",
    ),
    misconceptions=(
        Misconception(
            "one block at a time",
            one_block_at_a_time,
            "you replace one block and keep the teacher's before it. Those differences do not add up to the whole "
            "error: in the hybrids the blocks before block k are already the student's",
        ),
        Misconception(
            "one block given back",
            one_block_given_back,
            "you give the student one block of the teacher. Those differences do not add up to the whole error: in the "
            "hybrids the blocks after block k are still the teacher's",
        ),
        Misconception(
            "the teacher's blocks first",
            the_teachers_blocks_first,
            "your hybrids begin with the teacher's blocks. The differences add up to the same, but each block's "
            "part is another: replace from the front",
        ),
        Misconception(
            "student minus teacher",
            student_minus_teacher,
            "the sign is the other way round: the hybrid before the replacement minus the one after",
        ),
        Misconception(
            "counted from the teacher",
            from_the_teacher,
            "you subtract each hybrid from the teacher. Entry k then contains the blocks before it as well: subtract "
            "neighbours",
        ),
        Misconception(
            "counted to the student",
            to_the_student,
            "you subtract the student from each hybrid. Entry k then contains the blocks after it as well: subtract "
            "neighbours",
        ),
        Misconception(
            "the last block first",
            last_block_first,
            "the entries are right, but in the reverse order: entry 0 belongs to the first block",
        ),
        Misconception(
            "the hybrids themselves",
            the_hybrids_themselves,
            "these are the outputs of the K + 1 hybrids. Subtract each from the one before it",
        ),
        Misconception(
            "the last block left out",
            last_block_left_out,
            "the last block is missing: there are K + 1 hybrids, the student itself among them",
        ),
        Misconception(
            "the difference passed on",
            difference_passed_on,
            "you send the *difference* of the two blocks' outputs through the rest. Only for linear maps is that the "
            "difference of what comes out: send both through, then subtract",
        ),
        Misconception(
            "the teacher taken apart",
            teacher_taken_apart,
            "the differences are right, but you put the student's blocks into `teacher` itself: afterwards it is a "
            "second student. Build a new `nn.Sequential` for each hybrid",
        ),
        Misconception(
            "absolute values",
            absolute,
            "you take absolute values. Contributions may cancel each other, and only with their signs do they add up",
        ),
        Misconception(
            "squared",
            squared,
            "you square the differences. Squares do not add up to the square of the whole: return the differences",
        ),
        Misconception(
            "averaged over the examples",
            averaged,
            "you average over the examples. Return one difference per example and output",
        ),
        Misconception(
            "as fractions",
            as_fractions,
            "you divide by the whole error. Contributions of opposite signs have no meaningful fractions: return "
            "them as they are",
        ),
        Misconception(
            "in equal parts",
            in_equal_parts,
            "you divide the whole error evenly. That it is a sum of K parts says nothing about their sizes: run the "
            "hybrids",
        ),
    ),
    shows=(
        "the error of a whole network is exactly the sum of what its blocks contribute, each passed on through the "
        "teacher's remaining blocks."
    ),
    derivation=(
        "H_0 - H_K = (H_0 - H_1) + … + (H_{K-1} - H_K): all hybrids between the two cancel. For linear blocks each "
        "term is (T_K … T_{k+1}) (T_k - S_k) (S_{k-1} … S_1) x. No assumption about the blocks is needed."
    ),
    observe=contributions_and_networks,
    relative=1e-4,
    absolute=1e-6,
)
