"""04.5 an optimizer with the right parameters."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..engine.core import Case, Exercise, case, draw, integer
from .common import modes, small_net
from .wrong_04_5 import WRONG, Prepared


def prepare(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    old = student[-1]
    assert isinstance(old, nn.Linear)
    student[-1] = nn.Linear(old.in_features, classes, dtype=old.weight.dtype)
    return student, torch.optim.SGD(student.parameters(), lr=0.1)


def prepare_anew(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    *body, old = student
    assert isinstance(old, nn.Linear)
    new = nn.Sequential(*body, nn.Linear(old.in_features, classes, dtype=old.weight.dtype))
    return new, torch.optim.SGD([parameter for parameter in new.parameters()], lr=0.1)


def prepare_by_groups(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    old = student[-1]
    student[-1] = nn.Linear(old.in_features, classes).to(old.weight)  # type: ignore[arg-type]
    return student, torch.optim.SGD([{"params": list(part.parameters())} for part in student], lr=0.1)


def prepared(result: Any, case: Case) -> Any:
    """What the student is now, whose parameters the optimizer holds, and what three steps of training make of it."""
    student, optimizer = result
    teacher, last = case.arguments[1], student[-1]
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    own, teachers = ({id(p) for p in net.parameters()} for net in (student, teacher))
    began = getattr(last, "began", None)
    facts = {
        "last layer": repr(last),
        "last layer is the old one": began is not None and torch.equal(began, last.weight),
        "dtypes": sorted({str(parameter.dtype) for parameter in student.parameters()}),
        "student's parameters in the optimizer": len(held & own),
        "student's parameters": len(own),
        "teacher's parameters in the optimizer": len(held & teachers),
        "parameters that belong to neither": len(held - own - teachers),
        "optimizer": type(optimizer).__name__,
        "learning rates": sorted({group["lr"] for group in optimizer.param_groups}),
        "parts in train mode": sum(modes(student)),
        "frozen parameters": sum(not parameter.requires_grad for parameter in student.parameters()),
        "weights before": torch.cat([p.detach().double().flatten() for p in student[:-1].parameters()]),
    }
    return facts | after_steps(student, optimizer) | {"teacher": [p.detach().clone() for p in teacher.parameters()]}


def after_steps(student: nn.Sequential, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Three steps without dropout, from the same new layer for every answer: its start is random, so it is replaced."""
    student.double()
    for part in student.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    with torch.no_grad():
        for number, parameter in enumerate(student[-1].parameters()):
            parameter.copy_(draw(*parameter.shape, seed=40 + number, spread=0.5))
    images = draw(6, 2, seed=42)
    for _ in range(3):
        optimizer.zero_grad()
        logits = student(images)
        F.cross_entropy(logits, torch.arange(6) % logits.shape[-1]).backward()
        optimizer.step()
    return {
        "classes": logits.shape[-1],
        "weights after three steps": torch.cat([p.detach().flatten() for p in student.parameters()]),
    }


def nets(seed: int, classes: int) -> Case:
    """Student and teacher; their last layers remember their weights, so that an old one is recognised."""
    pair = small_net(seed), small_net(seed + 1)
    for net in pair:
        net[-1].began = net[-1].weight.detach().clone()  # type: ignore[operator]
    return case(*pair, classes)


def prepare_cases() -> list[Case]:
    single = case(small_net(9).float(), small_net(10).float(), 4)
    return [nets(5, 5), nets(7, 2), nets(11, 3), single]


EXERCISE = Exercise(
    id="04.5",
    title="an optimizer with the right parameters",
    question=(
        "The student is an `nn.Sequential` that ends in a linear layer. Write `my_prepare(student, teacher, classes)`: "
        "replace that layer by a new linear layer with a bias for `classes` classes, of the same dtype, and return "
        "`(student, optimizer)`: a plain SGD optimizer (learning rate 0.1, no momentum, no weight decay) that trains "
        "the whole student and nothing else. Do not modify the other layers or the teacher."
    ),
    skeleton=(
        "def my_prepare(student, teacher, classes):\n"
        '    """Give the student a new last layer; return it and its SGD optimizer."""\n    ...'
    ),
    reference=prepare,
    alternatives=(prepare_anew, prepare_by_groups),
    cases=prepare_cases,
    drawn=lambda g: nets(integer(g, 20, 999), integer(g, 2, 6)),
    hints=(
        "An optimizer updates exactly the tensors that it was given. What if the layer is replaced afterwards?",
        "First the new layer, then the optimizer. `student[-1].in_features` tells how wide the layer is.",
        "`student[-1] = nn.Linear(old.in_features, classes, dtype=old.weight.dtype)`, then "
        "`torch.optim.SGD(student.parameters(), lr=0.1)`.",
    ),
    misconceptions=WRONG,
    shows="an optimizer updates tensors, not a network: build it last, from the student alone.",
    derivation="`student.parameters()` is read once, when the optimizer is built. What comes later it does not know.",
    observe=prepared,
    may_change=True,
)
