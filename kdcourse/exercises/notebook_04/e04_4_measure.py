"""04.4 measuring without a trace."""

from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import modes, small_net


def measure(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    before = [(module, module.training) for module in student.modules()]
    student.eval()
    with torch.no_grad():
        right = student(images).argmax(dim=-1) == labels
    for module, mode in before:
        module.training = mode
    return right.double().mean().item()


def measure_on_a_copy(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    from copy import deepcopy

    logits = deepcopy(student).eval()(images)
    return float((logits.argmax(dim=1) == labels).float().mean())


def measure_and_restore(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    training = [module for module in student.modules() if module.training]
    try:
        named = student.eval()(images).argmax(dim=1).tolist()
    finally:
        for module in training:
            module.training = True
    return sum(a == b for a, b in zip(named, labels.tolist(), strict=True)) / len(named)


def left_in_eval_mode(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (student.eval()(images).argmax(dim=-1) == labels).double().mean().item()


def everything_to_train_mode(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    found = left_in_eval_mode(student, images, labels)
    student.train()
    return found


def batch_statistics(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm1d)]
    kept = [(module, module.training) for module in student.modules()]
    student.eval()
    for norm in norms:
        norm.train()
    found = (student(images).argmax(dim=-1) == labels).double().mean().item()
    for module, mode in kept:
        module.training = mode
    return found


def outermost_restored_only(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    mode = student.training
    found = left_in_eval_mode(student, images, labels)
    student.training = mode
    return found


def measured_in_train_mode(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (student(images).argmax(dim=-1) == labels).double().mean().item()


def outermost_mode_for_all(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    mode = student.training
    found = left_in_eval_mode(student, images, labels)
    student.train(mode)
    return found


def children_restored_only(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    kept = [(module, module.training) for module in (student, *student.children())]
    found = left_in_eval_mode(student, images, labels)
    for module, mode in kept:
        module.training = mode
    return found


def frozen_afterwards(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    return measure(student.requires_grad_(False), images, labels)


def thawed_afterwards(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    found = measure(student.requires_grad_(False), images, labels)
    student.requires_grad_(True)
    return found


def counted(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    return measure(student, images, labels) * len(labels)


def in_percent(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    return measure(student, images, labels) * 100


def errors(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    return 1 - measure(student, images, labels)


def after_measuring(result: Any, case: Case) -> Any:
    """The number, and all of the student that the next step of training depends on."""
    student = case.arguments[0]
    return {
        "accuracy": result,
        "parts in train mode": modes(student),
        "parameters that take a gradient": [parameter.requires_grad for parameter in student.parameters()],
        "parameters": [parameter.detach().clone() for parameter in student.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in student.parameters()],
        "statistics": [buffer.clone() for buffer in student.buffers()],
    }


def nested(seed: int) -> nn.Sequential:
    """Batch norm and dropout lie two levels deep; one batch norm and one layer are frozen on purpose."""
    inner, norm = small_net(seed), nn.BatchNorm1d(3).double().eval()
    inner[0].requires_grad_(False)
    return nn.Sequential(nn.Sequential(inner, norm.requires_grad_(False)), nn.Identity())


def measure_cases() -> list[Case]:
    images, labels = draw(8, 2, seed=31), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    partly = small_net(4)
    partly[1].eval()  # a batch norm that was frozen on purpose
    return [
        case(small_net(3), images, labels),
        case(partly, images, labels),
        case(small_net(3).eval(), images, labels),
        case(nested(5), draw(7, 2, seed=32), torch.tensor([2, 2, 0, 1, 2, 0, 2])),
    ]


def drawn_measure(g: torch.Generator) -> Case:
    """Any network, any of its parts in eval mode, any number of images."""
    student, count = small_net(integer(g, 20, 999)), integer(g, 3, 9)
    for module in student.modules():
        module.training = bool(integer(g, 0, 1))
    return case(student, draw(count, 2, seed=g), torch.randint(3, (count,), generator=g))


EXERCISE = Exercise(
    id="04.4",
    title="measuring without a trace",
    question=(
        "Write `my_measure(student, images, labels)`: the student's accuracy in *eval mode*. Afterwards every part of "
        "the student is in the mode it was in before, so that training can continue as if nothing had happened. Some "
        "parts may have been in eval mode on purpose, and some parameters may take no gradient."
    ),
    skeleton=(
        'def my_measure(student, images, labels):\n    """Accuracy in eval mode; every mode is restored."""\n    ...'
    ),
    reference=measure,
    alternatives=(measure_on_a_copy, measure_and_restore),
    cases=measure_cases,
    drawn=drawn_measure,
    hints=(
        "What does the next epoch do if the mode is not switched back?",
        "`student.eval()` changes every part. Remember `module.training` for each of `student.modules()` first.",
        "`before = [(m, m.training) for m in student.modules()]`, measure, then set each `m.training` back.",
    ),
    misconceptions=(
        Misconception(
            "student left in eval mode",
            left_in_eval_mode,
            "the number is right, but the student stays in eval mode. From the second epoch on dropout is off and "
            "batch norm's statistics no longer change, and nothing says so",
        ),
        Misconception(
            "everything to train mode",
            everything_to_train_mode,
            "you put everything into train mode afterwards. A part that had been frozen on purpose, or a student that "
            "was in eval mode, is now switched on. Restore what was",
        ),
        Misconception(
            "measured in train mode",
            batch_statistics,
            "batch norm is in train mode while you measure: the answer for one image then depends on the others in its "
            "batch, and measuring itself moves the statistics",
        ),
        Misconception(
            "the outermost mode only",
            outermost_restored_only,
            "you restore the outermost module only. Its layers stay in eval mode, and they are what dropout and batch "
            "norm listen to",
        ),
        Misconception(
            "the whole in train mode",
            measured_in_train_mode,
            "you measure in the mode the student happens to be in. In train mode dropout makes the answers random, "
            "each depends on the other images of its batch, and `torch.no_grad()` does not stop that: `eval()` first",
        ),
        Misconception(
            "the outermost mode for all",
            outermost_mode_for_all,
            "every part ends in the mode of the outermost one: `train(mode)` reaches all parts inside a module. One "
            "that had been frozen on purpose is now switched on. Remember each part's mode, and set its `training`",
        ),
        Misconception(
            "one level only",
            children_restored_only,
            "you restore the student and its direct children. What is nested deeper stays in eval mode: "
            "`modules()` goes through all levels, `children()` through one",
        ),
        Misconception(
            "parameters frozen afterwards",
            frozen_afterwards,
            "the number is right, but the student's parameters take no gradients any more, so the next step trains "
            "nothing. `torch.no_grad()` around the forward pass is enough",
        ),
        Misconception(
            "parameters thawed afterwards",
            thawed_afterwards,
            "every parameter takes a gradient afterwards, also one that was frozen on purpose. `torch.no_grad()` "
            "around the forward pass leaves them unchanged",
        ),
        Misconception(
            "a count for a fraction",
            counted,
            "you return how many answers are right. Accuracy is their fraction: divide by the number of images",
        ),
        Misconception(
            "percent",
            in_percent,
            "you return percent. Accuracy is a fraction here, from 0 to 1",
        ),
        Misconception(
            "the error rate",
            errors,
            "you return the fraction that is wrong. Accuracy is the fraction that is right",
        ),
    ),
    shows="measuring may not change what is measured, down to the mode of every part.",
    derivation=(
        "`eval()` and `train()` set a flag in every part. Only the list of old flags can bring the old state back."
    ),
    observe=after_measuring,
    may_change=True,
    forbidden=("kdcourse.training.predict", "kdcourse.training.evaluate", "kdcourse.training.frozen"),
)
