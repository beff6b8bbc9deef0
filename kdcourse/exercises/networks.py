"""Exercises of notebook 04 that handle networks: freezing a teacher, measuring a student, preparing an optimizer."""

from typing import Any

import torch
from torch import Tensor, nn

from .core import Case, Exercise, Misconception, case, draw


def small_net(seed: int) -> nn.Sequential:
    """Two inputs, three classes, batch norm and dropout; float64, in train mode, the same weights each time."""
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=100 * seed + number, spread=1.0))
    return net


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


# --- 04.1 -------------------------------------------------------------------------------------------------------------


def freeze(teacher: nn.Module) -> nn.Module:
    teacher.eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


def freeze_in_a_line(teacher: nn.Module) -> nn.Module:
    return teacher.requires_grad_(False).train(False)


def freeze_by_modules(teacher: nn.Module) -> nn.Module:
    for module in teacher.modules():
        module.training = False
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False
    return teacher


def gradients_only(teacher: nn.Module) -> nn.Module:
    return teacher.requires_grad_(False)


def eval_only(teacher: nn.Module) -> nn.Module:
    return teacher.eval()


def no_grad_here(teacher: nn.Module) -> nn.Module:
    with torch.no_grad():
        return teacher


def outermost_mode_only(teacher: nn.Module) -> nn.Module:
    teacher.training = False
    return teacher.requires_grad_(False)


def last_layer_only(teacher: nn.Module) -> nn.Module:
    *_, last = teacher.children()
    last.requires_grad_(False)
    return teacher.eval()


def is_frozen(result: Any, case: Case) -> Any:
    """What holds of the returned teacher: parameters that take gradients, modes, statistics moved by a batch."""
    if not isinstance(result, nn.Module):
        return result
    wants, found = [parameter.requires_grad for parameter in result.parameters()], modes(result)
    before = [buffer.clone() for buffer in result.buffers()]
    with torch.no_grad():
        result(draw(5, 2, seed=30))
    moved = [not torch.equal(old, new) for old, new in zip(before, result.buffers(), strict=True)]
    return {
        "the same network": result is case.arguments[0],
        "parameters that take a gradient": sum(wants),
        "parts in train mode": sum(found),
        "statistics that a batch moved": sum(moved),
    }


def freeze_cases() -> list[Case]:
    return [case(small_net(1)), case(nn.Sequential(small_net(2), nn.BatchNorm1d(3).double()))]


FREEZE = Exercise(
    id="04.1",
    title="a teacher that holds still",
    question=(
        "Write `my_freeze(teacher)`: it makes a network hold still while a student learns from it, and returns it. "
        "Afterwards none of its parameters takes a gradient, and a batch moves none of its statistics. "
        "Change the network itself."
    ),
    skeleton='def my_freeze(teacher):\n    """Make the teacher hold still, and return it."""\n    ...',
    reference=freeze,
    alternatives=(freeze_in_a_line, freeze_by_modules),
    cases=freeze_cases,
    hints=(
        "Two different things can move in a network: what the optimizer changes, and what a forward pass changes.",
        "Batch norm keeps running statistics in train mode, even under `torch.no_grad()`.",
        "`teacher.eval()` for the statistics and `teacher.requires_grad_(False)` for the gradients.",
    ),
    misconceptions=(
        Misconception(
            "teacher left in train mode",
            gradients_only,
            "the parameters hold still, but the teacher is in train mode: every batch moves the statistics "
            "of its batch "
            "norm, and dropout makes its targets random. `torch.no_grad()` does not stop that; `eval()` does",
        ),
        Misconception(
            "teacher receives gradients",
            eval_only,
            "the teacher is in eval mode, but its parameters still take gradients. `eval()` does not stop that: memory "
            "doubles, and an optimizer that holds them lets the teacher drift towards the student",
        ),
        Misconception(
            "no_grad around nothing",
            no_grad_here,
            "the network is as before. `torch.no_grad()` acts on what is computed inside its block; it changes nothing "
            "in a network that is only passed through",
        ),
        Misconception(
            "the outermost mode only",
            outermost_mode_only,
            "setting `.training` on the outermost module reaches none of its layers: batch norm still trains. `eval()` "
            "goes through all of them",
        ),
        Misconception(
            "the last layer only",
            last_layer_only,
            "only the last layer is frozen. That is for fine-tuning; a teacher holds still as a whole",
        ),
    ),
    shows="a teacher holds still only with both: eval mode for its statistics, no gradients for its parameters.",
    derivation=(
        "`requires_grad` decides what backward computes, `training` how batch norm and dropout act forward. Neither "
        "touches the other."
    ),
    observe=is_frozen,
    may_change=True,
    forbidden=("kdcourse.training.frozen",),
)

# --- 04.4 -------------------------------------------------------------------------------------------------------------


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


MEASURE = Exercise(
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

# --- 04.5 -------------------------------------------------------------------------------------------------------------

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


PREPARE = Exercise(
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
