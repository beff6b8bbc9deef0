"""Wrong answers to 04.5."""

from copy import deepcopy

import torch
from torch import nn

from ..engine.core import Misconception

Prepared = tuple[nn.Module, torch.optim.Optimizer]


def _replaced(student: nn.Sequential, classes: int) -> nn.Sequential:
    old = student[-1]
    assert isinstance(old, nn.Linear)
    student[-1] = nn.Linear(old.in_features, classes, dtype=old.weight.dtype)
    return student


def _with_last(student: nn.Sequential, new: nn.Module) -> Prepared:
    student[-1] = new
    return student, torch.optim.SGD(student.parameters(), lr=0.1)


def optimizer_first(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    return _replaced(student, classes), optimizer


def teacher_in_the_optimizer(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    _replaced(student, classes)
    return student, torch.optim.SGD([*student.parameters(), *teacher.parameters()], lr=0.1)


def new_layer_only(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    _replaced(student, classes)
    return student, torch.optim.SGD(student[-1].parameters(), lr=0.1)


def layer_added(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    old = student[-1]
    assert isinstance(old, nn.Linear)
    student.append(nn.Linear(old.out_features, classes, dtype=old.weight.dtype))
    return student, torch.optim.SGD(student.parameters(), lr=0.1)


def dtype_forgotten(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    return _with_last(student, nn.Linear(student[-1].in_features, classes))  # type: ignore[arg-type]


def always_float64(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    return _with_last(student, nn.Linear(student[-1].in_features, classes).double())  # type: ignore[arg-type]


def renamed_only(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    student[-1].out_features = classes  # type: ignore[assignment]
    return _with_last(student, student[-1])


def not_replaced(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    return _with_last(student, student[-1])


def teachers_layer(student: nn.Sequential, teacher: nn.Sequential, classes: int) -> Prepared:
    return _with_last(student, teacher[-1])


def without_bias(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    old = student[-1]
    return _with_last(student, nn.Linear(old.in_features, classes, bias=False).to(old.weight))  # type: ignore[arg-type]


def relu_behind(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    return _with_last(student, nn.Sequential(_replaced(student, classes)[-1], nn.ReLU()))


def body_frozen(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    return _with_last(student, _replaced(student.requires_grad_(False), classes)[-1])


def optimizer_of_the_original(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    return _replaced(deepcopy(student), classes), torch.optim.SGD(student.parameters(), lr=0.1)


def learning_rate_left_out(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    _replaced(student, classes)
    return student, torch.optim.SGD(student.parameters())


def with_momentum(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    _replaced(student, classes)
    return student, torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)


def adam(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    _replaced(student, classes)
    return student, torch.optim.Adam(student.parameters(), lr=0.1)


def adamw(student: nn.Sequential, teacher: nn.Module, classes: int) -> Prepared:
    _replaced(student, classes)
    return student, torch.optim.AdamW(student.parameters(), lr=0.1)


WRONG = (
    Misconception(
        "optimizer built before the model was changed",
        optimizer_first,
        "the optimizer was built before the layer was replaced. It still has the old layer's weights and never "
        "touches the new one: training runs, and the new layer stays random",
    ),
    Misconception(
        "teacher sits in the optimizer",
        teacher_in_the_optimizer,
        "the optimizer also has the teacher's parameters. The teacher drifts towards the student, so the target "
        "runs away from under the loss; and weight decay alone would shrink it",
    ),
    Misconception(
        "the new layer only",
        new_layer_only,
        "the optimizer has the new layer only. The rest of the student would never learn",
    ),
    Misconception(
        "a layer added, not replaced",
        layer_added,
        "you added a layer after the old one. The old layer's few outputs are then a bottleneck: replace it",
    ),
    Misconception(
        "dtype forgotten",
        dtype_forgotten,
        "the new layer has PyTorch's default dtype, float32. A student of another dtype then fails at its first "
        "batch: `dtype=old.weight.dtype`",
    ),
    Misconception(
        "always float64",
        always_float64,
        "the new layer is float64 whatever the student is. Take the dtype of the layer that goes: "
        "`dtype=old.weight.dtype`",
    ),
    Misconception(
        "a new number on the old layer",
        renamed_only,
        "you changed `out_features`, which is only a note. The weights keep their shape, and the student its old "
        "number of classes: build a new `nn.Linear`",
    ),
    Misconception(
        "layer not replaced",
        not_replaced,
        "the old last layer is still there, with its old weights and its old number of classes",
    ),
    Misconception(
        "the teacher's layer",
        teachers_layer,
        "the student got the teacher's own last layer. It has the teacher's classes, and training the student "
        "changes the teacher",
    ),
    Misconception(
        "no bias",
        without_bias,
        "the new layer has no bias; the question asks for one, which is the default of `nn.Linear`",
    ),
    Misconception(
        "a ReLU after the layer",
        relu_behind,
        "there is a ReLU after the new layer. Logits may be negative: a class that is cut off at zero gets no "
        "gradient any more",
    ),
    Misconception(
        "the body frozen",
        body_frozen,
        "the optimizer has the layers before the new one, but they take no gradients any more, so they never "
        "move. The whole student is to be trained",
    ),
    Misconception(
        "optimizer of the original, student a copy",
        optimizer_of_the_original,
        "you return a copy of the student, but the optimizer has the original's parameters. The copy never learns",
    ),
    Misconception(
        "learning rate left out",
        learning_rate_left_out,
        "you left the learning rate to its default, 0.001. Here it is 0.1: `lr=0.1`",
    ),
    Misconception(
        "momentum",
        with_momentum,
        "your optimizer has a momentum of 0.9, so its steps grow over the first ten. The question asks for plain SGD",
    ),
    Misconception(
        "Adam",
        adam,
        "you built Adam, whose first steps are as long as the learning rate whatever the gradient is. At 0.1 that "
        "destroys what the student knows; the question asks for SGD",
    ),
    Misconception(
        "AdamW",
        adamw,
        "you built AdamW: its steps do not depend on the gradient's size, and it also shrinks every weight. The "
        "question asks for SGD",
    ),
)
