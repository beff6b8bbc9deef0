"""12.7 images made to find a disagreement."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, case, draw, integer
from .common import with_weights
from .wrong_12_7 import WRONG

Losses = tuple[Tensor, Tensor]


def adversarial_losses(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    generator_loss = -(student(fakes) - teacher(fakes)).abs().mean()
    generator_loss.backward()
    fakes = fakes.detach()
    student_loss = (student(fakes) - teacher(fakes)).abs().mean()
    student.zero_grad()
    student_loss.backward()
    return generator_loss, student_loss


def student_first(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    with torch.no_grad():
        targets = teacher(fakes)
    student_loss = F.l1_loss(student(fakes.detach()), targets)
    student_loss.backward()
    generator_loss = 0 - F.l1_loss(student(fakes), teacher(fakes))
    generator_loss.backward(inputs=list(generator.parameters()))
    return generator_loss, student_loss


def gradients_set_by_hand(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    difference = student(fakes) - teacher(fakes)
    discrepancy = difference.norm(p=1) / difference.numel()
    for net, sign in ((generator, -1), (student, 1)):
        parameters = list(net.parameters())
        found = torch.autograd.grad(sign * discrepancy, parameters, retain_graph=True)
        for place, parameter in enumerate(parameters):
            parameter.grad = found[place]
    return -discrepancy, discrepancy


def losses_and_networks(result: Any, case: Case) -> Any:
    """Both losses, the gradients that are left in the networks, and what an answer may not change there."""
    if not isinstance(result, tuple | list):
        raise ValueError("two losses are asked for")
    generator, student, teacher, _ = case.arguments
    return {
        "losses": [loss.detach() if isinstance(loss, Tensor) else loss for loss in result],
        "the generator's gradients": gradients(generator),
        "the student's gradients": gradients(student),
        "the teacher's gradients": gradients(teacher),
        "parts in train mode": [modes(net) for net in (generator, student, teacher)],
        "parameters that take a gradient": [wanting(net) for net in (generator, student, teacher)],
        "parameters": [parameter.detach().clone() for net in case.arguments[:3] for parameter in net.parameters()],
    }


def gradients(net: nn.Module) -> list[Tensor | None]:
    """What is stored for each parameter. None is not zero here: it was not reached; at zero, two may have cancelled."""
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in net.parameters()]


def modes(net: nn.Module) -> int:
    return sum(part.training for part in net.modules())


def wanting(net: nn.Module) -> int:
    return sum(parameter.requires_grad for parameter in net.parameters())


def making_images(seed: int) -> nn.Module:
    return with_weights(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)), seed)


def classifying(seed: int) -> nn.Module:
    return with_weights(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), seed)


def frozen(net: nn.Module) -> nn.Module:
    return net.eval().requires_grad_(False)


def adversarial_cases() -> list[Case]:
    return [
        case(making_images(1), classifying(2), frozen(classifying(3)), draw(2, 3, seed=142)),
        case(making_images(4), classifying(5), frozen(classifying(6)), draw(5, 3, seed=143)),
        case(making_images(7).eval(), classifying(8), frozen(classifying(9)), draw(1, 3, seed=144)),
    ]


def drawn_adversarial(g: torch.Generator) -> Case:
    seed, count = integer(g, 20, 999), integer(g, 1, 5)
    return case(making_images(seed), classifying(seed + 1), frozen(classifying(seed + 2)), draw(count, 3, seed=g))


EXERCISE = Exercise(
    id="12.7",
    title="images made to find a disagreement",
    question=(
        "One step of data-free distillation, but for the optimizers. `generator(noise)` makes a batch of fakes, for "
        "which `student` and `teacher` give logits of shape (N, C). The discrepancy is the mean, over examples and "
        "classes, of |student - teacher|. The generator's loss is *minus* the discrepancy, with a gradient through "
        "both networks; the student's loss is the discrepancy on the *same* fakes. Write "
        "`my_adversarial_losses(generator, student, teacher, noise)`: run the backward passes and return "
        "`(generator_loss, student_loss)`. Before the call no gradients are stored. Afterwards each generator "
        "parameter has in `.grad` the gradient of the generator's loss alone, and each student parameter that of the "
        "student's loss alone. The teacher is frozen (eval mode, no parameter takes a gradient) and stays so. Leave "
        "all parameters, modes and `requires_grad` as they are."
    ),
    skeleton=(
        "def my_adversarial_losses(generator, student, teacher, noise):\n"
        '    """Both losses of one step without data; the gradients are left in generator and student."""\n    ...'
    ),
    reference=adversarial_losses,
    alternatives=(student_first, gradients_set_by_hand),
    cases=adversarial_cases,
    drawn=drawn_adversarial,
    hints=(
        "One number, two players: one makes it large, the other makes it small. What does each `backward` leave in "
        "the other player?",
        "A frozen teacher's parameters take no gradient, but a gradient can pass *through* it to the fakes; "
        "`torch.no_grad()` cuts that off. And both losses are the same number with opposite signs: where two "
        "gradients meet, they cancel.",
        "`generator_loss.backward()` on `fakes`; then `student.zero_grad()`; then the student's loss on "
        "`fakes.detach()` and its `backward()`.",
    ),
    misconceptions=WRONG,
    shows="a frozen teacher still passes a gradient on to its input, and opposite losses cancel where they meet.",
    derivation=(
        "With D = mean |s(x) - t(x)| and x = G(z), dD/dx is a mean of sign(s - t) · (∂s/∂x - ∂t/∂x). Under `no_grad` "
        "the second term is missing: the generator follows the student's slope alone, not the disagreement. The "
        "student's parameters get +∂D/∂θ from the student's loss and -∂D/∂θ from the generator's: added, they are 0."
    ),
    observe=losses_and_networks,
    may_change=True,
    points=2,
)
