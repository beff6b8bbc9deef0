"""04.5 an optimizer that holds the right numbers."""

from typing import Any

import torch
from torch import nn

from ..engine.core import Case, Exercise, Misconception, case
from .common import small_net

Prepared = tuple[nn.Module, torch.optim.Optimizer]


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
    student[-1] = nn.Linear(student[-1].in_features, classes, dtype=torch.float64)  # type: ignore[arg-type]
    return student, torch.optim.SGD([{"params": list(part.parameters())} for part in student], lr=0.1)


def optimizer_first(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    return prepare(student, teacher, classes)[0], optimizer


def teacher_in_the_optimizer(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    student = prepare(student, teacher, classes)[0]  # type: ignore[assignment]
    return student, torch.optim.SGD([*student.parameters(), *teacher.parameters()], lr=0.1)


def new_layer_only(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    student = prepare(student, teacher, classes)[0]  # type: ignore[assignment]
    return student, torch.optim.SGD(student[-1].parameters(), lr=0.1)


def layer_added(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    old = student[-1]
    assert isinstance(old, nn.Linear)
    student.append(nn.Linear(old.out_features, classes, dtype=old.weight.dtype))
    return student, torch.optim.SGD(student.parameters(), lr=0.1)


def optimizer_holds(result: Any, case: Case) -> Any:
    """Whose parameters the optimizer holds, and what the student has become."""
    student, optimizer = result
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    own, teachers = ({id(p) for p in net.parameters()} for net in (student, case.arguments[1]))
    return {
        "layers": len(student),
        "classes": student[-1].out_features,
        "student's parameters in the optimizer": len(held & own),
        "student's parameters": len(own),
        "teacher's parameters in the optimizer": len(held & teachers),
        "parameters that belong to neither": len(held - own - teachers),
    }


def prepare_cases() -> list[Case]:
    return [case(small_net(5), small_net(6), 5), case(small_net(7), small_net(8), 2)]


EXERCISE = Exercise(
    id="04.5",
    title="an optimizer that holds the right numbers",
    question=(
        "The student is an `nn.Sequential` that ends in a linear layer. Write `my_prepare(student, teacher, classes)`: "
        "replace that layer by a new linear layer for `classes` classes, of the same dtype, and return "
        "`(student, optimizer)`, an SGD optimizer (learning rate 0.1) that trains the whole student and nothing else."
    ),
    skeleton=(
        "def my_prepare(student, teacher, classes):\n"
        '    """Give the student a new last layer; return it and its SGD optimizer."""\n    ...'
    ),
    reference=prepare,
    alternatives=(prepare_anew, prepare_by_groups),
    cases=prepare_cases,
    hints=(
        "An optimizer holds the very tensors that it was given. What if the layer is replaced afterwards?",
        "First the new layer, then the optimizer. `student[-1].in_features` tells how wide the layer is.",
        "`student[-1] = nn.Linear(old.in_features, classes, dtype=old.weight.dtype)`, then "
        "`torch.optim.SGD(student.parameters(), lr=0.1)`.",
    ),
    misconceptions=(
        Misconception(
            "optimizer built before the model was changed",
            optimizer_first,
            "the optimizer was built before the layer was replaced. It still holds the old layer's weights and never "
            "touches the new one: training runs, and the new layer stays random",
        ),
        Misconception(
            "teacher sits in the optimizer",
            teacher_in_the_optimizer,
            "the teacher's parameters sit in the optimizer too. It drifts towards the student, so the target runs away "
            "from under the loss; and weight decay alone would shrink it",
        ),
        Misconception(
            "the new layer only",
            new_layer_only,
            "the optimizer holds the new layer only. The rest of the student would never learn",
        ),
        Misconception(
            "a layer added, not replaced",
            layer_added,
            "you added a layer behind the old one. The old layer's few outputs are then a bottleneck: replace it",
        ),
    ),
    shows="an optimizer holds tensors, not a network: build it last, from the student alone.",
    derivation="`student.parameters()` is read once, when the optimizer is built. What comes later it does not know.",
    observe=optimizer_holds,
    may_change=True,
)
