"""04.4 measuring without a trace."""

from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
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


def after_measuring(result: Any, case: Case) -> Any:
    """The number, the modes the student is left in, and its statistics."""
    student = case.arguments[0]
    statistics = [round(buffer.double().sum().item(), 6) for buffer in student.buffers()]
    return {"accuracy": result, "parts in train mode": modes(student), "statistics": statistics}


def measure_cases() -> list[Case]:
    images, labels = draw(8, 2, seed=31), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    partly = small_net(4)
    partly[1].eval()  # a batch norm that was frozen on purpose
    return [case(small_net(3), images, labels), case(partly, images, labels), case(small_net(3).eval(), images, labels)]


EXERCISE = Exercise(
    id="04.4",
    title="measuring without a trace",
    question=(
        "Write `my_measure(student, images, labels)`: the student's accuracy in *eval mode*. Afterwards "
        "every part of "
        "the student is in the mode it was in before, so that training can go on as if nothing had happened. "
        "Some parts may have been in eval mode on purpose."
    ),
    skeleton=(
        'def my_measure(student, images, labels):\n    """Accuracy in eval mode; every mode is restored."""\n    ...'
    ),
    reference=measure,
    alternatives=(measure_on_a_copy, measure_and_restore),
    cases=measure_cases,
    hints=(
        "What does the next epoch do if nobody switches back?",
        "`student.eval()` changes every part. Remember `module.training` for each of `student.modules()` first.",
        "`before = [(m, m.training) for m in student.modules()]`, measure, then set each `m.training` back.",
    ),
    misconceptions=(
        Misconception(
            "student left in eval mode",
            left_in_eval_mode,
            "the number is right, but the student stays in eval mode. From the second epoch on dropout is "
            "off and batch "
            "norm's statistics stand still, and nothing says so",
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
    ),
    shows="measuring may not change what is measured, down to the mode of every part.",
    derivation=(
        "`eval()` and `train()` set a flag in every part. Only the list of old flags can bring the old state back."
    ),
    observe=after_measuring,
    may_change=True,
    forbidden=("kdcourse.training.predict", "kdcourse.training.evaluate", "kdcourse.training.frozen"),
)
