"""Wrong answers to 12.7."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Misconception

Losses = tuple[Tensor, Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]


def discrepancy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return (student_logits - teacher_logits).abs().mean()


def step(student: nn.Module, first: Tensor, second: Tensor) -> Losses:
    """Gradients of the first loss in the generator, of the second in the student."""
    first.backward(retain_graph=True)
    student.zero_grad()
    second.backward()
    return first, second


def by(distance: Distance, generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    """A correct step with another distance."""
    fakes = generator(noise)
    first, fixed = -distance(student(fakes), teacher(fakes)), fakes.detach()
    return step(student, first, distance(student(fixed), teacher(fixed)))


def teacher_without_gradient(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    targets = teacher(fakes).detach()
    first = -discrepancy(student(fakes), targets)
    return step(student, first, discrepancy(student(fakes.detach()), targets))


def student_without_gradient(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    first = -discrepancy(student(fakes).detach(), teacher(fakes))
    return step(student, first, discrepancy(student(fakes.detach()), teacher(fakes).detach()))


def fakes_attached(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    second = discrepancy(student(fakes), teacher(fakes))
    return step(student, -second, second)


def student_keeps_both(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    first = -discrepancy(student(fakes), teacher(fakes))
    first.backward()
    second = discrepancy(student(fakes.detach()), teacher(fakes.detach()))
    second.backward()
    return first, second


def everything_cancels(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    second = discrepancy(student(fakes), teacher(fakes))
    first = -second
    first.backward(retain_graph=True)
    second.backward()
    return first, second


def generator_downhill(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    first, fixed = discrepancy(student(fakes), teacher(fakes)), fakes.detach()
    return step(student, first, discrepancy(student(fixed), teacher(fixed)))


def both_uphill(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    first, fixed = -discrepancy(student(fakes), teacher(fakes)), fakes.detach()
    return step(student, first, -discrepancy(student(fixed), teacher(fixed)))


def signs_exchanged(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    first, fixed = discrepancy(student(fakes), teacher(fakes)), fakes.detach()
    return step(student, first, -discrepancy(student(fixed), teacher(fixed)))


def other_fakes(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes, fixed = generator(noise), generator(torch.randn_like(noise)).detach()
    first = -discrepancy(student(fakes), teacher(fakes))
    return step(student, first, discrepancy(student(fixed), teacher(fixed)))


def noise_for_fakes(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    first = -discrepancy(student(fakes), teacher(fakes))
    return step(student, first, discrepancy(student(noise), teacher(noise)))


def summed(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    return by(lambda s, t: (s - t).abs().sum(), generator, student, teacher, noise)


def summed_over_classes(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    return by(lambda s, t: (s - t).abs().sum(dim=1).mean(), generator, student, teacher, noise)


def squared(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    return by(lambda s, t: F.mse_loss(s, t), generator, student, teacher, noise)


def probabilities(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    return by(lambda s, t: discrepancy(s.softmax(dim=1), t.softmax(dim=1)), generator, student, teacher, noise)


def without_absolute_values(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    return by(lambda s, t: (s - t).mean(), generator, student, teacher, noise)


def no_backward(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    first, fixed = -discrepancy(student(fakes), teacher(fakes)), fakes.detach()
    return first, discrepancy(student(fixed), teacher(fixed))


def detached_for_both(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise).detach()
    first = -discrepancy(student(fakes), teacher(fakes))
    return step(student, first, discrepancy(student(fakes), teacher(fakes)))


def student_zeroed_last(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    found = by(discrepancy, generator, student, teacher, noise)
    student.zero_grad()
    return found


def one_backward(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    fakes = generator(noise)
    second = discrepancy(student(fakes), teacher(fakes))
    second.backward()
    return -second, second


def exchanged(generator: nn.Module, student: nn.Module, teacher: nn.Module, noise: Tensor) -> Losses:
    first, second = by(discrepancy, generator, student, teacher, noise)
    return second, first


WRONG = (
    Misconception(
        "the teacher under no_grad",
        teacher_without_gradient,
        "both values are correct, but in the generator's loss the teacher is a constant. The gradient then passes "
        "through the student alone, and the generator learns something else, without an error. Frozen parameters are "
        "enough: no `no_grad` and no `detach` on the teacher's logits there",
    ),
    Misconception(
        "the student without a gradient in the generator's loss",
        student_without_gradient,
        "both values are correct, but in the generator's loss the student is a constant. The gradient then passes "
        "through the teacher alone. Let it flow through both, and call `student.zero_grad()` afterwards",
    ),
    Misconception(
        "both losses on one graph, nothing zeroed between",
        everything_cancels,
        "all gradients are 0. The two losses are the same number with opposite signs, and both `backward` calls reach "
        "both networks: everything cancels, and nobody learns. The student's loss is on `fakes.detach()`, and "
        "`student.zero_grad()` comes between the two",
    ),
    Misconception(
        "fakes not detached",
        fakes_attached,
        "both values and the student are correct, but the student's loss also sends its gradient into the generator, "
        "where it cancels that of the generator's loss exactly. The student's loss is on `fakes.detach()`",
    ),
    Misconception(
        "the student keeps the generator's gradient",
        student_keeps_both,
        "the student's gradients are 0. The generator's `backward` leaves -∂D/∂θ in the student, its own adds +∂D/∂θ: "
        "they cancel exactly, and the student never learns. Call `student.zero_grad()` between the two",
    ),
    Misconception(
        "the generator goes downhill",
        generator_downhill,
        "the generator's loss has the wrong sign: it would learn fakes on which both agree. It looks for "
        "disagreement, so its loss is *minus* the discrepancy",
    ),
    Misconception(
        "both go uphill",
        both_uphill,
        "the student's loss has the wrong sign: the student would move away from the teacher. Its loss is the "
        "discrepancy itself, without the minus",
    ),
    Misconception(
        "the signs exchanged",
        signs_exchanged,
        "both signs are wrong: the generator makes the discrepancy small and the student makes it large. The minus "
        "belongs to the generator",
    ),
    Misconception(
        "other fakes for the student",
        other_fakes,
        "you draw new noise for the student. The question asks for the same fakes in both losses, so that the student "
        "learns where the generator found a disagreement",
    ),
    Misconception(
        "noise for fakes",
        noise_for_fakes,
        "in the student's loss the networks get `noise` itself. It has the right shape here, so nothing fails. They "
        "look at what the generator makes of it: `fakes.detach()`",
    ),
    Misconception(
        "sums instead of means",
        summed,
        "you sum over examples and classes. The discrepancy is a mean over both, so that it does not grow with the "
        "batch",
    ),
    Misconception(
        "the sum over the classes",
        summed_over_classes,
        "C times too large: you sum over the classes and take the mean over the examples. It is a mean over both",
    ),
    Misconception(
        "squared differences",
        squared,
        "you square the differences. The discrepancy has their absolute values, whose gradient does not vanish as the "
        "student gets close",
    ),
    Misconception(
        "probabilities instead of logits",
        probabilities,
        "you compare probabilities. The discrepancy is between logits: where both networks are confident, a softmax "
        "leaves the generator hardly any gradient",
    ),
    Misconception(
        "no absolute values",
        without_absolute_values,
        "differences of opposite signs cancel in your mean. Take the absolute value of each first",
    ),
    Misconception(
        "no backward pass",
        no_backward,
        "both values are correct, but no backward pass has run, so the networks have no gradients: call `backward` on "
        "each loss",
    ),
    Misconception(
        "no gradient in the generator",
        detached_for_both,
        "no gradient reaches the generator, so it learns nothing. Either its own loss is on fakes that are detached "
        "or made under `no_grad`, or there is no `backward` for it",
    ),
    Misconception(
        "no gradient in the student",
        student_zeroed_last,
        "the student has no gradients when your function returns. Either there is no `backward` for its loss, or you "
        "call `zero_grad()` after it: zero them between the two passes",
    ),
    Misconception(
        "one backward pass for both",
        one_backward,
        "the generator's gradients have the wrong sign: one `backward` of the discrepancy sends both networks "
        "downhill. The generator needs the gradient of *its* loss, which is minus the discrepancy",
    ),
    Misconception(
        "the losses exchanged",
        exchanged,
        "the two losses are exchanged: the generator's comes first",
    ),
)
