"""Exercises of notebook 10 that train networks: modes, gradients, optimizers and equal chances.

What is compared is what training touched: whose parameters moved, how many batches a batch norm has seen.
"""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .core import Case, Exercise, Misconception, case, draw
from .notebook_03 import kd_loss


def small_net(seed: int) -> nn.Sequential:
    """Two inputs, three classes, batch norm; float64, in train mode, the same weights each time, which it remembers."""
    net = nn.Sequential(nn.Linear(2, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=100 * seed + number, spread=1.0))
    net.start = [parameter.detach().clone() for parameter in net.parameters()]  # type: ignore[assignment]
    return net


def changed(net: Any) -> int:
    """How many of a network's parameters are no longer what `small_net` made them."""
    return sum(not torch.equal(old, new) for old, new in zip(net.start, net.parameters(), strict=True))


def with_gradient(net: Any) -> int:
    return sum(parameter.grad is not None for parameter in net.parameters())


def batches_seen(net: Any) -> int:
    """How many batches passed its batch norm in train mode."""
    return int(net[1].num_batches_tracked)


# --- 10.06 ------------------------------------------------------------------------------------------------------------


def classifier(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def classifier_by_layers(hidden: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, hidden)]
    layers += [nn.ReLU(), nn.Linear(hidden, 10), nn.Identity()]
    return nn.Sequential(*layers)


class Classifier(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(784, hidden), nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(F.relu(self.first(images.flatten(1))))


def classifier_as_a_module(hidden: int) -> nn.Module:
    return Classifier(hidden)


def relu_last(hidden: int) -> nn.Module:
    return nn.Sequential(*classifier(hidden), nn.ReLU())


def softmax_last(hidden: int) -> nn.Module:
    return nn.Sequential(*classifier(hidden), nn.Softmax(dim=1))


def tanh_last(hidden: int) -> nn.Module:
    return nn.Sequential(*classifier(hidden), nn.Tanh())


def leaky_last(hidden: int) -> nn.Module:
    return nn.Sequential(*classifier(hidden), nn.LeakyReLU(0.01))


def no_relu_at_all(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.Linear(hidden, 10))


def logits_of(result: Any, case: Case) -> Any:
    """What holds of a network's outputs, whatever its weights."""
    net = deepcopy(result).double()
    one, other = draw(40, 1, 28, 28, seed=80), draw(40, 1, 28, 28, seed=81)
    with torch.no_grad():
        logits, far = net(one), net(1e5 * one)
        bent = net(one) + net(other) - net(one + other) - net(0 * one)
    *_, last = (part for part in net.modules() if not isinstance(part, nn.Identity))
    return {
        "output shape": tuple(logits.shape),
        "parameters": sum(parameter.numel() for parameter in result.parameters()),
        "some logit is below zero": bool((logits < 0).any()),
        "no logit is beyond 1": bool(far.abs().max() <= 1),
        "is a linear map": bool(bent.abs().max() < 1e-3 * logits.abs().max()),
        "below zero as far as above": bool(far.min() < -0.1 * far.max()),
        "the last layer is linear": isinstance(last, nn.Linear),
    }


LOGITS = Exercise(
    id="10.06",
    title="classes that are never named",
    question=(
        "Mend `case_6` as `mended_6(hidden)`: a network for images (N, 1, 28, 28) with one hidden layer of `hidden` "
        "units behind a ReLU, that returns logits for 10 classes."
    ),
    skeleton='def mended_6(hidden):\n    """Flatten, a hidden layer with ReLU, ten logits."""\n    ...',
    reference=classifier,
    alternatives=(classifier_by_layers, classifier_as_a_module),
    cases=lambda: [case(8), case(16)],
    hints=(
        "Which numbers can a logit be? Which numbers can this network return?",
        "What gradient does a class get whose last ReLU is off for every image?",
        "The ReLU between the layers stays, the one behind the last layer goes.",
    ),
    misconceptions=(
        Misconception(
            "ReLU on the logits",
            relu_last,
            "the logits pass a ReLU. A class that is below zero for all images gets no gradient any more: it is dead. "
            "A baseline that collapses so makes distillation look miraculous",
        ),
        Misconception(
            "softmax in the network",
            softmax_last,
            "your network returns probabilities. `F.cross_entropy` and every softened loss take logits, and would "
            "soften a second time",
        ),
        Misconception(
            "logits squeezed",
            tanh_last,
            "your logits cannot leave (-1, 1), so the network can never be sure of anything",
        ),
        Misconception(
            "a leak for a cure",
            leaky_last,
            "with a leak no class dies, but logits below zero are still squeezed, a hundredfold. Logits need no "
            "activation",
        ),
        Misconception(
            "no ReLU at all",
            no_relu_at_all,
            "you removed both. Two linear layers without anything between them are one linear layer",
        ),
    ),
    shows="a logit may be any number, so nothing stands behind the last layer.",
    derivation="The gradient of ReLU is 0 below zero. Behind the last layer that switches a class off for good.",
    observe=logits_of,
)

# --- 10.07 and 10.08 --------------------------------------------------------------------------------------------------


def step_quietly(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student.train()
    teacher.eval()
    with torch.no_grad():
        teacher_logits = teacher(images)
    loss = kd_loss(student(images), teacher_logits, temperature=temperature)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return student


def step_frozen(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    teacher.eval().requires_grad_(False)
    optimizer = torch.optim.Adam(student.train().parameters(), lr=0.01)
    kd_loss(student(images), teacher(images), temperature=temperature).backward()
    optimizer.step()
    return student


def step_detached(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    targets = teacher.train(False)(images).detach()
    kd_loss(student(images), targets, temperature=temperature).backward()
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-0.1)
    return student


def _soft(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """The soft loss with a teacher that is not detached."""
    log_p_s, log_p_t = F.log_softmax(s / temperature, dim=1), F.log_softmax(t / temperature, dim=1)
    return temperature**2 * (log_p_t.exp() * (log_p_t - log_p_s)).sum(dim=1).mean()


def _descend(loss: Tensor, *nets: nn.Module) -> None:
    optimizer = torch.optim.SGD([parameter for net in nets for parameter in net.parameters()], lr=0.1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def teacher_in_train_mode(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    student.train()
    with torch.no_grad():
        targets = teacher(images)
    _descend(_soft(student(images), targets, temperature), student)
    return student


def teacher_with_gradients(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    _descend(_soft(student(images), teacher.eval()(images), temperature), student)
    return student


def both_at_rest(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    student.eval()
    return step_quietly_as_is(student, teacher.eval(), images, temperature=temperature)


def step_quietly_as_is(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    with torch.no_grad():
        targets = teacher(images)
    _descend(_soft(student(images), targets, temperature), student)
    return student


def never_steps(student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float) -> nn.Module:
    teacher.eval()
    with torch.no_grad():
        targets = teacher(images)
    _soft(student(images), targets, temperature).backward()
    return student


def whom_it_touched(result: Any, case: Case) -> Any:
    """Which network was changed, and by what."""
    student, teacher = case.arguments[:2]
    return {
        "the student is returned": result.training is not None and result is student,
        "student's parameters that changed": changed(student) > 0,
        "batches that the student's norm has seen": batches_seen(student),
        "teacher's parameters that changed": changed(teacher),
        "teacher's parameters with a gradient": with_gradient(teacher),
        "batches that the teacher's norm has seen": batches_seen(teacher),
    }


def step_cases() -> list[Case]:
    return [
        case(small_net(1), small_net(2), draw(6, 2, seed=82), temperature=2.0),
        case(small_net(3), small_net(4), draw(9, 2, seed=83), temperature=4.0),
    ]


TRAIN_MODE = Exercise(
    id="10.07",
    title="a teacher that changes while it is watched",
    question=(
        "Mend `case_7` as `mended_7(student, teacher, images, *, temperature)`: one step of the student towards the "
        "teacher, after which the teacher is what it was. Return the student, which was given in train mode."
    ),
    skeleton=(
        "def mended_7(student, teacher, images, *, temperature):\n"
        '    """One step of the student; the teacher is left as it was."""\n    ...'
    ),
    reference=step_quietly,
    alternatives=(step_frozen, step_detached),
    cases=step_cases,
    hints=(
        "No parameter of the teacher changed. What else is stored in a network?",
        "Batch norm keeps running statistics. When does it update them?",
        "`teacher.eval()` before it looks. `no_grad` stays: it is for the gradients.",
    ),
    misconceptions=(
        Misconception(
            "teacher left in train mode",
            teacher_in_train_mode,
            "the teacher is in train mode: `no_grad` stops gradients, and batch norm's statistics are none. Every "
            "batch moves them, and the answer for one image depends on the others",
        ),
        Misconception(
            "eval mode for no_grad",
            teacher_with_gradients,
            "the teacher's statistics hold still now, but it receives gradients: memory and time for nothing, and an "
            "optimizer that holds it would move it",
        ),
        Misconception(
            "both in eval mode",
            both_at_rest,
            "the student is in eval mode as well. It is the one that trains: its batch norm must see its batches",
        ),
        Misconception(
            "no step",
            never_steps,
            "the teacher holds still, and so does the student: `optimizer.step()` is missing",
        ),
    ),
    shows="`no_grad` holds a teacher's gradients, `eval` its statistics; it takes both.",
    derivation="In train mode batch norm sets running ← 0.9 running + 0.1 batch on every forward pass.",
    observe=whom_it_touched,
    may_change=True,
)


def train_student(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    teacher.eval()
    with torch.no_grad():
        teacher_logits = teacher(images)
    for _ in range(steps):
        loss = kd_loss(student(images), teacher_logits, temperature=temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def train_student_anew_each_step(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    for _ in range(steps):
        step_frozen(student, teacher, images, temperature=temperature)
    return student


def train_student_by_hand(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    for _ in range(steps):
        student.zero_grad()
        step_detached(student, teacher, images, temperature=temperature)
    return student


def both_in_the_optimizer(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.eval()
    for _ in range(steps):
        _descend(_soft(student(images), teacher(images), temperature), student, teacher)
    return student


def teacher_gets_gradients(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.eval()
    for _ in range(steps):
        _descend(_soft(student(images), teacher(images), temperature), student)
    return student


def teacher_alone_in_the_optimizer(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.eval()
    for _ in range(steps):
        _descend(_soft(student(images), teacher(images), temperature), teacher)
    return student


def teacher_in_train_mode_here(
    student: nn.Module, teacher: nn.Module, images: Tensor, *, temperature: float, steps: int
) -> nn.Module:
    teacher.train()
    for _ in range(steps):
        step_quietly_as_is(student, teacher, images, temperature=temperature)
    return student


def training_cases() -> list[Case]:
    return [
        case(small_net(1), small_net(2), draw(6, 2, seed=82), temperature=2.0, steps=3),
        case(small_net(3), small_net(4), draw(9, 2, seed=83), temperature=4.0, steps=2),
    ]


OPTIMIZER = Exercise(
    id="10.08",
    title="two that meet half-way",
    question=(
        "Mend `case_8` as `mended_8(student, teacher, images, *, temperature, steps)`: `steps` steps of the student "
        "towards the teacher, who receives no gradient and stays as it is. Return the student."
    ),
    skeleton=(
        "def mended_8(student, teacher, images, *, temperature, steps):\n"
        '    """Train the student alone, and return it."""\n    ...'
    ),
    reference=train_student,
    alternatives=(train_student_anew_each_step, train_student_by_hand),
    cases=training_cases,
    hints=(
        "The distance falls so quickly. Who moves?",
        "Whose parameters does the optimizer hold? Where does the gradient flow?",
        "Give the optimizer `student.parameters()` alone, and compute the teacher's logits under `no_grad`.",
    ),
    misconceptions=(
        Misconception(
            "teacher in the optimizer",
            both_in_the_optimizer,
            "the optimizer holds the teacher's parameters too, and gradients reach them. The teacher comes to meet "
            "the student: the loss looks splendid, and the knowledge is going",
        ),
        Misconception(
            "teacher receives gradients",
            teacher_gets_gradients,
            "the optimizer is right now, but backward still runs through the teacher: twice the memory, and gradients "
            "that pile up. Use `no_grad` or `detach`",
        ),
        Misconception(
            "teacher alone in the optimizer",
            teacher_alone_in_the_optimizer,
            "the optimizer holds the teacher alone. Now the teacher learns from the student",
        ),
        Misconception(
            "teacher back in train mode",
            teacher_in_train_mode_here,
            "no gradient reaches the teacher, but in train mode its batch norm moves with every batch",
        ),
    ),
    shows="a small distance proves nothing before you know which of the two has moved.",
    derivation="The loss has a gradient for both arguments. Descending both lets each give way.",
    observe=whom_it_touched,
    may_change=True,
)

# --- 10.09 ------------------------------------------------------------------------------------------------------------


def _label_step(student: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(student(images), labels).backward()
    optimizer.step()


def epochs_with_validation(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        student.train()
        loss = F.cross_entropy(student(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        student.eval()
        with torch.no_grad():
            student(validation_images)
    return student


def back_to_train_mode(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        _label_step(student, optimizer, images, labels)
        student.eval()
        student(validation_images)
        student.train()
    return student


def validated_on_a_copy(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        _label_step(student, optimizer, images, labels)
        deepcopy(student).eval()(validation_images)
    return student


def left_in_eval_mode(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student.train()
    for _ in range(epochs):
        _label_step(student, optimizer, images, labels)
        student.eval()
        student(validation_images)
    return student


def never_in_eval_mode(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        _label_step(student, optimizer, images, labels)
        student(validation_images)
    return student


def always_in_eval_mode(
    student: nn.Module, images: Tensor, labels: Tensor, validation_images: Tensor, *, epochs: int
) -> nn.Module:
    optimizer = torch.optim.SGD(student.eval().parameters(), lr=0.1)
    for _ in range(epochs):
        _label_step(student, optimizer, images, labels)
    return student


def what_the_norm_saw(result: Any, case: Case) -> Any:
    """How many batches trained its batch norm, and whether it learned."""
    return {"batches that the norm has seen": batches_seen(result), "it has learned": changed(result) > 0}


def epochs_cases() -> list[Case]:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    return [
        case(small_net(5), draw(6, 2, seed=84), labels, draw(4, 2, seed=85), epochs=3),
        case(small_net(6), draw(6, 2, seed=86), labels.flip(0), draw(5, 2, seed=87), epochs=5),
    ]


MODES = Exercise(
    id="10.09",
    title="trained for one epoch, and five on the clock",
    question=(
        "Mend `case_9` as `mended_9(student, images, labels, validation_images, *, epochs)`: one batch an epoch, a "
        "look at the validation images after each, in eval mode. Every epoch trains in train mode. Return the student."
    ),
    skeleton=(
        "def mended_9(student, images, labels, validation_images, *, epochs):\n"
        '    """Train, look at validation after every epoch, return the student."""\n    ...'
    ),
    reference=epochs_with_validation,
    alternatives=(back_to_train_mode, validated_on_a_copy),
    cases=epochs_cases,
    hints=(
        "In which mode does the second epoch begin?",
        "`train()` stands before the loop, `eval()` inside it.",
        "Begin each epoch with `student.train()`.",
    ),
    misconceptions=(
        Misconception(
            "student left in eval mode",
            left_in_eval_mode,
            "after the first look at validation the student stays in eval mode: from the second epoch on dropout is "
            "off and batch norm's statistics stand still, and no message says so",
        ),
        Misconception(
            "never in eval mode",
            never_in_eval_mode,
            "now validation runs in train mode, and its images move the statistics of batch norm: a leak",
        ),
        Misconception(
            "always in eval mode",
            always_in_eval_mode,
            "the student never is in train mode, so its batch norm keeps the statistics it was born with",
        ),
    ),
    shows="a mode is a state that outlives the line that set it: set it where you rely on it.",
    derivation="`eval()` sets `training = False` in every part until someone sets it back. Nothing does so by itself.",
    observe=what_the_norm_saw,
    may_change=True,
)

# --- 10.11 ------------------------------------------------------------------------------------------------------------


def trained_copy(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    student = deepcopy(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(steps):
        loss = F.cross_entropy(student(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def trained_copy_by_adam(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    mine = deepcopy(student)
    optimizer = torch.optim.Adam(mine.parameters())
    for _ in range(steps):
        _label_step(mine, optimizer, images, labels)
    return mine


def trained_copy_with_groups(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student = deepcopy(student)
    optimizer.param_groups[0]["params"] = list(student.parameters())
    for _ in range(steps):
        _label_step(student, optimizer, images, labels)
    return student


def optimizer_of_the_old(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    student = deepcopy(student)
    for _ in range(steps):
        _label_step(student, optimizer, images, labels)
    return student


def no_copy(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(steps):
        _label_step(student, optimizer, images, labels)
    return student


def wrong_one_trained(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    copy = deepcopy(student)
    no_copy(student, images, labels, steps=steps)
    return copy


def last_layer_alone(student: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> nn.Module:
    student = deepcopy(student)
    *_, last = student.children()
    optimizer = torch.optim.SGD(last.parameters(), lr=0.1)
    for _ in range(steps):
        _label_step(student, optimizer, images, labels)
    return student


def which_was_trained(result: Any, case: Case) -> Any:
    """How many parameters of the result and of the given network changed."""
    given = case.arguments[0]
    return {"parameters of the result that changed": changed(result), "of the given student": changed(given)}


def copy_cases() -> list[Case]:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    return [
        case(small_net(7), draw(6, 2, seed=88), labels, steps=3),
        case(small_net(8), draw(6, 2, seed=89), labels.flip(0), steps=4),
    ]


REPLACED = Exercise(
    id="10.11",
    title="training that changes nothing",
    question=(
        "Mend `case_11` as `mended_11(student, images, labels, *, steps)`: train a copy of the student and return it; "
        "the student that was given stays as it is."
    ),
    skeleton=(
        "def mended_11(student, images, labels, *, steps):\n"
        '    """A trained copy; the given student is left alone."""\n    ...'
    ),
    reference=trained_copy,
    alternatives=(trained_copy_by_adam, trained_copy_with_groups),
    cases=copy_cases,
    hints=(
        "Which tensors does the optimizer hold? Which get a gradient?",
        "An optimizer keeps the very tensors it was built with. The name `student` means another network later.",
        "First the copy, then the optimizer.",
    ),
    misconceptions=(
        Misconception(
            "optimizer built before the model was replaced",
            optimizer_of_the_old,
            "the optimizer was built before the network was replaced. It holds the old tensors, which get no gradient; "
            "the new ones get a gradient that nobody uses. Nothing is trained",
        ),
        Misconception(
            "no copy",
            no_copy,
            "it trains now, but the network that was given: whoever called still needs it as it was",
        ),
        Misconception(
            "the wrong one trained",
            wrong_one_trained,
            "you train the given network and return the copy from before",
        ),
        Misconception(
            "the last layer alone",
            last_layer_alone,
            "the optimizer holds the last layer alone; the others stay random",
        ),
    ),
    shows="build the optimizer last: it holds tensors, and knows nothing of names.",
    derivation="`optimizer.step()` goes through its own tensors and skips those whose `.grad` is None.",
    observe=which_was_trained,
    may_change=True,
)

# --- 10.13 ------------------------------------------------------------------------------------------------------------

Arms = tuple[nn.Module, nn.Module]


def _arm(student: nn.Module, images: Tensor, targets: Tensor, epochs: int) -> nn.Module:
    """A copy of the student, trained on labels or on teacher's logits."""
    student = deepcopy(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(epochs):
        logits = student(images)
        soft = targets.is_floating_point()
        loss = kd_loss(logits, targets, temperature=2.0) if soft else F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student


def two_arms(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    networks = deepcopy(student), deepcopy(student)
    for network, targets in zip(networks, (labels, teacher_logits), strict=True):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(epochs):
            logits = network(images)
            is_soft = targets.is_floating_point()
            loss = kd_loss(logits, targets, temperature=2.0) if is_soft else F.cross_entropy(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return networks


def two_arms_by_copies(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int
) -> Arms:
    return _arm(student, images, labels, epochs), _arm(student, images, teacher_logits, epochs)


def two_arms_in_turn(
    student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int
) -> Arms:
    start = deepcopy(student.state_dict())
    distilled = _arm(student, images, teacher_logits, epochs)
    alone = deepcopy(student)
    alone.load_state_dict(start)
    return _arm(alone, images, labels, epochs), distilled


def second_goes_on(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    alone = _arm(student, images, labels, epochs)
    return alone, _arm(alone, images, teacher_logits, epochs)


def one_network(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    both = _arm(_arm(student, images, labels, epochs), images, teacher_logits, epochs)
    return both, both


def half_each(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    alone = _arm(student, images, labels, epochs // 2)
    return alone, _arm(student, images, teacher_logits, epochs)


def other_start(student: nn.Module, images: Tensor, labels: Tensor, teacher_logits: Tensor, *, epochs: int) -> Arms:
    other = deepcopy(student)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(draw(*parameter.shape, seed=99, spread=1.0))
    other.start = [parameter.detach().clone() for parameter in other.parameters()]  # type: ignore[assignment]
    return _arm(student, images, labels, epochs), _arm(other, images, teacher_logits, epochs)


def what_each_arm_got(result: Any, case: Case) -> Any:
    """How long each arm trained, and from where."""
    alone, distilled = result
    given, epochs = case.arguments[0], case.keywords["epochs"]
    return {
        "two networks": alone is not distilled,
        "epochs of the student alone": batches_seen(alone),
        "epochs of the distilled student": batches_seen(distilled),
        "epochs asked for": epochs,
        "the same start": all(map(torch.equal, given.start, distilled.start)),
        "the given student is as it was": changed(given) == 0,
    }


def arms_cases() -> list[Case]:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    return [
        case(small_net(9), draw(6, 2, seed=90), labels, draw(6, 3, seed=91), epochs=2),
        case(small_net(10), draw(6, 2, seed=92), labels.flip(0), draw(6, 3, seed=93), epochs=5),
    ]


FAIR_ARMS = Exercise(
    id="10.13",
    title="a second helping",
    question=(
        "Mend `case_13` as `mended_13(student, images, labels, teacher_logits, *, epochs)`: two copies of the student, "
        "one trained on the labels, one on the teacher's logits, both from the same start for `epochs` epochs of one "
        "batch. Return `(alone, distilled)`; the student that was given stays as it is."
    ),
    skeleton=(
        "def mended_13(student, images, labels, teacher_logits, *, epochs):\n"
        '    """(alone, distilled): the same start, the same number of epochs."""\n    ...'
    ),
    reference=two_arms,
    alternatives=(two_arms_by_copies, two_arms_in_turn),
    cases=arms_cases,
    hints=(
        "Where does the second arm begin?",
        "Count the epochs that the weights of each arm have behind them at the end.",
        "Both arms are a `deepcopy(student)`, made before anything is trained.",
    ),
    misconceptions=(
        Misconception(
            "the second arm goes on where the first ended",
            second_goes_on,
            "the distilled student begins with the weights of the trained one: it has had twice the training. Its "
            "lead shows that training helps",
        ),
        Misconception(
            "one network in both arms",
            one_network,
            "both arms are the same network, so any difference between them is zero",
        ),
        Misconception(
            "half the budget for the baseline",
            half_each,
            "the baseline gets fewer epochs. A baseline deserves all that the favourite gets",
        ),
        Misconception(
            "another start",
            other_start,
            "the arms begin with different weights. The difference then holds the luck of the start",
        ),
    ),
    shows="only what differs between two arms can explain what differs in their results.",
    derivation="Same start, same batches, same number of steps: then the targets are the only difference left.",
    observe=what_each_arm_got,
    may_change=True,
)
