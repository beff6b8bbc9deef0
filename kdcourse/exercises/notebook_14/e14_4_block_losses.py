"""14.4 a loss for each block."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import Net, blocks, convolutions, drawn_blocks, parameters

Error = Callable[[Tensor, Tensor], Tensor]


def block_losses(teacher: Net, student: Net, inputs: Tensor, *, parallel: bool) -> Tensor:
    losses, target, own = [], inputs, inputs
    for theirs, ours in zip(teacher, student, strict=True):
        own = ours(target if parallel else own.detach())
        target = theirs(target).detach()
        losses.append((own - target).square().mean())
        losses[-1].backward()
    return torch.stack(losses)


def from_recorded_maps(teacher: Net, student: Net, inputs: Tensor, *, parallel: bool) -> Tensor:
    maps, path = [inputs], [inputs]
    with torch.no_grad():
        for theirs in teacher:
            maps.append(theirs(maps[-1]))
        for ours in student:
            path.append(ours(path[-1]))
    given = maps if parallel else path
    losses = [nn.functional.mse_loss(ours(given[k]), maps[k + 1]) for k, ours in enumerate(student)]
    torch.stack(losses).sum().backward()
    return torch.stack(losses)


def with_gradients_set_by_hand(teacher: Net, student: Net, inputs: Tensor, *, parallel: bool) -> Tensor:
    losses = []
    for k in range(len(student)):
        before = teacher if parallel else student
        error = student[k](before[:k](inputs)) - teacher[: k + 1](inputs)
        losses.append((error * error).sum() / error.numel())
        own = list(student[k].parameters())
        for parameter, gradient in zip(own, torch.autograd.grad(losses[k], own), strict=True):
            parameter.grad = gradient
    return torch.stack(losses)


def losses_and_gradients(result: Any, case: Case) -> Any:
    """The losses, the gradients that are left in the networks (zero is as good as none), and the parameters."""
    if not isinstance(result, Tensor):
        raise ValueError("a tensor of losses is asked for")
    teacher, student, _ = case.arguments
    return {
        "losses": result.detach(),
        "the student's gradients": gradients(student),
        "the teacher's gradients": gradients(teacher),
        "parameters that take a gradient": [
            sum(p.requires_grad for p in net.parameters()) for net in (teacher, student)
        ],
        "parameters": parameters(teacher) + parameters(student),
    }


def gradients(net: Net) -> list[Tensor | None]:
    found = [parameter.grad for parameter in net.parameters()]
    return [None if gradient is None or not gradient.any() else gradient.clone() for gradient in found]


def _mean_square(own: Tensor, target: Tensor) -> Tensor:
    return (own - target).square().mean()


def _losses(
    t: Net, s: Net, x: Tensor, parallel: bool, *, error: Error = _mean_square, detach: bool = True, frozen: bool = True
) -> Tensor:
    """As asked for, without the backward pass; ``detach`` what a block gets, ``frozen`` the teacher."""
    losses, target, own = [], x, x
    for theirs, ours in zip(t, s, strict=True):
        given = target if parallel else own
        own = ours(given.detach() if detach else given)
        target = theirs(target).detach() if frozen else theirs(target)
        losses.append(error(own, target))
    return torch.stack(losses)


def _trained(losses: Tensor) -> Tensor:
    losses.sum().backward()
    return losses


def teacher_fed_by_the_student(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    losses, given = [], x
    for theirs, ours in zip(t, s, strict=True):
        own, target = ours(given), theirs(given).detach()
        losses.append(_mean_square(own, target))
        given = target if parallel else own.detach()
    return _trained(torch.stack(losses))


def always_parallel(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    return _trained(_losses(t, s, x, True))


def always_in_sequence(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    return _trained(_losses(t, s, x, False))


def settings_swapped(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    return _trained(_losses(t, s, x, not parallel))


def gradient_through_the_blocks(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    return _trained(_losses(t, s, x, parallel, detach=False))


def teacher_not_detached(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    return _trained(_losses(t, s, x, parallel, frozen=False))


def nothing_detached(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    return _trained(_losses(t, s, x, parallel, detach=False, frozen=False))


def no_backward_pass(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    return _losses(t, s, x, parallel)


def backward_from_the_last(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    losses = _losses(t, s, x, parallel)
    losses[-1].backward()
    return losses


def backward_from_the_mean(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    losses = _losses(t, s, x, parallel)
    losses.mean().backward()
    return losses


def end_to_end(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    whole, before = t(x).detach(), t if parallel else s
    rest = [s[k + 1 :](s[k](before[:k](x).detach())) for k in range(len(s))]
    return _trained(torch.stack([_mean_square(own, whole) for own in rest]))


def targets_one_early(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    before = t if parallel else s
    pairs = [(s[k](before[:k](x).detach()), t[:k](x).detach()) for k in range(len(s))]
    return _trained(torch.stack([_mean_square(own, target) for own, target in pairs]))


def summed(t: Net, s: Net, x: Tensor, *, parallel: bool) -> Tensor:
    return _trained(_losses(t, s, x, parallel, error=lambda own, target: (own - target).square().sum()))


WRONG = (
    Misconception(
        "the student's output fed to the teacher",
        teacher_fed_by_the_student,
        "right in parallel. In sequence you feed the student's output into the teacher's next block, so the target "
        "follows the student's errors and asks for them to be kept. The teacher runs on its own path",
    ),
    Misconception(
        "always in parallel",
        always_parallel,
        "you give every block the teacher's input, whatever `parallel` is. With `parallel=False` a block gets what "
        "the student's block before it returned",
    ),
    Misconception(
        "always in sequence",
        always_in_sequence,
        "you give every block the student's own last output, whatever `parallel` is. With `parallel=True` a block "
        "gets what the teacher's block gets",
    ),
    Misconception(
        "the two settings swapped",
        settings_swapped,
        "you have the two settings the wrong way round. In parallel means: every block gets the teacher's inputs, and "
        "none waits for another",
    ),
    Misconception(
        "gradients into earlier blocks",
        gradient_through_the_blocks,
        "the losses are right, but in sequence the gradient of a later block reaches the earlier ones. Each loss "
        "trains its own block: detach what goes in",
    ),
    Misconception(
        "the teacher not detached",
        teacher_not_detached,
        "the losses are right, but the targets pass a gradient on to the teacher. Detach them",
    ),
    Misconception(
        "nothing detached",
        nothing_detached,
        "the losses are right, but the gradient goes everywhere: into earlier blocks and into the teacher. Detach "
        "the targets and what each block gets",
    ),
    Misconception(
        "no backward pass",
        no_backward_pass,
        "the losses are right, but no gradient is stored: each loss needs its backward pass",
    ),
    Misconception(
        "backward from the last loss only",
        backward_from_the_last,
        "the losses are right, but only the last one has its backward pass. It reaches the last block alone, so the "
        "others get no gradient",
    ),
    Misconception(
        "backward from the mean",
        backward_from_the_mean,
        "the losses are right, but the backward pass starts at their mean: every gradient is K times too small. Each "
        "loss has its own, or their sum has one",
    ),
    Misconception(
        "all errors measured at the end",
        end_to_end,
        "you compare at the end of the network. The loss of block k compares what block k returns with what the "
        "teacher's block k returns",
    ),
    Misconception(
        "targets one block early",
        targets_one_early,
        "your target is what the teacher's block *gets*. It is what that block returns",
    ),
    Misconception(
        "summed",
        summed,
        "you sum over all entries, so that a wider block and a larger batch weigh more. Take the mean",
    ),
)


def block_cases() -> list[Case]:
    def nets(widths: list[int], seed: int) -> tuple[Net, Net]:
        return blocks(widths, hidden=3, seed=seed), blocks(widths, hidden=1, seed=seed + 1)

    maps = convolutions([1, 2, 1], kernel=3, seed=18), convolutions([1, 2, 1], kernel=1, seed=19)
    half = [net.float() for net in nets([2, 3, 2], 16)]
    return [
        case(*nets([1, 2, 1], 10), draw(2, 1, seed=20, spread=1.0), parallel=True),
        case(*nets([1, 2, 1], 10), draw(2, 1, seed=20, spread=1.0), parallel=False),
        case(*nets([3, 2, 4, 2], 12), draw(5, 3, seed=21, spread=1.0), parallel=True),
        case(*nets([2, 2, 2, 2], 14), draw(3, 2, seed=22, spread=1.0), parallel=False),
        case(*maps, draw(3, 1, 4, 3, seed=24, spread=1.0), parallel=False),
        case(*half, draw(4, 2, seed=23, spread=1.0).float(), parallel=False),
    ]


def drawn_case(g: torch.Generator) -> Case:
    teacher, student, inputs = drawn_blocks(g)
    return case(teacher, student, inputs, parallel=bool(torch.randint(2, (), generator=g)))


EXERCISE = Exercise(
    id="14.4",
    title="a loss for each block",
    question=(
        "`teacher` and `student` are `nn.Sequential`s of K blocks each. Block k of both maps a tensor to one of the "
        "same shape as the other's. Write `my_block_losses(teacher, student, inputs, *, parallel)`: it returns a "
        "tensor of K losses and runs their backward passes. The k-th loss is the mean, over all entries, of the "
        "squared difference between the output of the student's block k and its target. The target is what the "
        "teacher's block k returns when the *teacher* alone runs on `inputs`. With `parallel=True` the student's "
        "block k gets what the teacher's block k gets; with `parallel=False` it gets what the student's own block "
        "before it returned, and the first one gets `inputs`. Each loss trains one block. Before the call no "
        "gradients are stored. Afterwards each parameter of the student's block k has in `.grad` the gradient of the "
        "k-th loss alone, and no gradient is stored in the teacher. Leave all parameters and their `requires_grad` "
        "as they are."
    ),
    skeleton=(
        "def my_block_losses(teacher, student, inputs, *, parallel):\n"
        '    """One loss per block of the student; each leaves its gradient in that block alone."""\n    ...'
    ),
    reference=block_losses,
    alternatives=(from_recorded_maps, with_gradients_set_by_hand),
    cases=block_cases,
    drawn=drawn_case,
    hints=(
        "Two paths run through the blocks, the teacher's and the student's. Which of them does the target come from, "
        "in both settings?",
        "Go through the pairs of blocks in a loop and keep two tensors: what the teacher returned last, and what the "
        "student returned last. Detach what must not pass a gradient on.",
        "`own = ours(target if parallel else own.detach())`, then `target = theirs(target).detach()`, then the mean "
        "square of `own - target` and its `backward()`; `torch.stack` at the end.",
    ),
    misconceptions=WRONG,
    shows=(
        "blocks can be learned one by one; on which path their inputs lie decides whether they see each other's errors."
    ),
    derivation=(
        "In parallel all inputs and targets are the teacher's: K separate regressions, which could run on K "
        "machines. In sequence block k sees the errors of those before it and can make up for some of them. In both "
        "the target stays on the teacher's path; otherwise it would follow the student's errors. Source: Li et al. "
        "2020 (DNA), arXiv:1911.13053."
    ),
    observe=losses_and_gradients,
    relative=1e-4,
)
