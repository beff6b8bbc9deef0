"""05.4 zeros that stay zero."""

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Steps = list[Tensor]


def masked_steps(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    after = []
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        weight = (weight - learning_rate * velocity) * mask
        after.append(weight)
    return after


def all_three_masked(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    weight, velocity = weight * mask, velocity * mask
    after: Steps = []
    for gradient in gradients:
        velocity = velocity * momentum + gradient * mask
        weight = weight - learning_rate * velocity
        after += [weight]
    return after


def masked_view(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    stored = nn.Parameter(weight.clone())
    optimizer = torch.optim.SGD([stored], lr=learning_rate, momentum=momentum)
    optimizer.state[stored]["momentum_buffer"] = velocity.clone()
    after = []
    for gradient in gradients:
        stored.grad = gradient.clone()
        optimizer.step()
        after.append(torch.where(mask, stored.detach(), 0.0))
    return after


def _steps(weight: Tensor, velocity: Tensor, gradients: Steps, learning_rate: float, momentum: float) -> Steps:
    return masked_steps(
        weight, velocity, torch.ones_like(weight), gradients, learning_rate=learning_rate, momentum=momentum
    )


def gradient_masked_only(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    masked = [gradient * mask for gradient in gradients]
    return _steps(weight * mask, velocity, masked, learning_rate, momentum)


def gradient_masked_never_zeroed(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    return _steps(weight, velocity, [gradient * mask for gradient in gradients], learning_rate, momentum)


def zeroed_once_before(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    return _steps(weight * mask, velocity, gradients, learning_rate, momentum)


def zeroed_at_the_end(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    after = _steps(weight, velocity, gradients, learning_rate, momentum)
    return [*after[:-1], after[-1] * mask]


def momentum_masked_only(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    return _steps(weight * mask, velocity * mask, gradients, learning_rate, momentum)


def zeroed_before_each_step(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    after = []
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        weight = weight * mask - learning_rate * velocity
        after.append(weight)
    return after


def momentum_thrown_away(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    fresh = torch.zeros_like(velocity)
    return masked_steps(weight, fresh, mask, gradients, learning_rate=learning_rate, momentum=momentum)


def true_taken_for_pruned(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    return masked_steps(weight, velocity, ~mask, gradients, learning_rate=learning_rate, momentum=momentum)


def one_tensor_many_times(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    after = masked_steps(weight, velocity, mask, gradients, learning_rate=learning_rate, momentum=momentum)
    return [after[-1] for _ in after]


def gradient_damped(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    damped = [(1 - momentum) * gradient for gradient in gradients]
    return masked_steps(weight, velocity, mask, damped, learning_rate=learning_rate, momentum=momentum)


def momentum_ignored(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    return masked_steps(weight, velocity, mask, gradients, learning_rate=learning_rate, momentum=0.0)


def uphill(
    weight: Tensor, velocity: Tensor, mask: Tensor, gradients: Steps, *, learning_rate: float, momentum: float
) -> Steps:
    return masked_steps(weight, velocity, mask, gradients, learning_rate=-learning_rate, momentum=momentum)


def steps_cases() -> list[Case]:
    weight = torch.tensor([0.5, -0.1, 0.8], dtype=torch.float64)
    velocity = torch.tensor([0.2, 0.4, -0.1], dtype=torch.float64)
    slopes = [torch.tensor(g, dtype=torch.float64) for g in ([0.1, 0.3, -0.2], [-0.1, 0.2, 0.1])]
    mask = torch.tensor([True, False, True])
    larger = [draw(3, 4, seed=seed) for seed in (54, 55, 56, 57, 58)]
    return [
        case(weight, velocity, mask, slopes, learning_rate=0.5, momentum=0.5),
        case(larger[0], larger[1], larger[0].abs() > 2, larger[2:], learning_rate=0.1, momentum=0.9),
    ]


def steps_drawn(g: torch.Generator) -> Case:
    shape, count = (integer(g, 1, 3), integer(g, 2, 5)), integer(g, 2, 4)
    weight, velocity, *gradients = (draw(*shape, seed=g) for _ in range(2 + count))
    rates = {"learning_rate": integer(g, 1, 9) / 10, "momentum": integer(g, 1, 9) / 10}
    return case(weight, velocity, draw(*shape, seed=g) > 0, gradients, **rates)


EXERCISE = Exercise(
    id="05.4",
    title="zeros that stay zero",
    question=(
        "A network was trained by SGD with momentum, and now a mask prunes it in the middle of training. Write "
        "`my_masked_steps(weight, velocity, mask, gradients, *, learning_rate, momentum)`. `weight` and `velocity` are "
        "as training left them, not masked; `mask` is a bool tensor, `True` = kept; all have the same shape. For each "
        "tensor in the list `gradients` take one step: velocity ← momentum · velocity + gradient, then weight ← "
        "weight - learning_rate · velocity. Return the list of the weights after each step. In *every* one the "
        "pruned weights are exactly 0, and the kept ones are as without a mask. Change no argument."
    ),
    skeleton=(
        "def my_masked_steps(weight, velocity, mask, gradients, *, learning_rate, momentum):\n"
        '    """The weights after each step of SGD with momentum, the pruned ones 0 in all of them."""\n    ...'
    ),
    reference=masked_steps,
    alternatives=(all_three_masked, masked_view),
    cases=steps_cases,
    drawn=steps_drawn,
    hints=(
        "What can move a weight whose gradient is zero?",
        "The velocity remembers gradients from before the mask. Do not ask what moved: look at the weight after "
        "each step.",
        "In the loop, the two updates as given; then `weight = weight * mask` before you append it.",
    ),
    misconceptions=(
        Misconception(
            "masking gradients only",
            gradient_masked_only,
            "you mask the gradients, but the velocity from before still moves pruned weights: they come back. With "
            "Adam they do too; only plain SGD would hide it. Mask the weight after each step",
        ),
        Misconception(
            "gradients masked, weights never zeroed",
            gradient_masked_never_zeroed,
            "you mask the gradients and never zero the weights. A zero gradient keeps a weight where it is, and that "
            "was not zero; the velocity moves it on as well",
        ),
        Misconception(
            "zeroed once, before training",
            zeroed_once_before,
            "you zero the weights once and then train on as before. The first step brings them back: a zero in a "
            "dense tensor is a weight like any other",
        ),
        Misconception(
            "zeroed once, at the end",
            zeroed_at_the_end,
            "the last weights are masked, but all steps before were taken by a dense network. The others never learn "
            "to do without the pruned ones, which go in one blow at the end",
        ),
        Misconception(
            "momentum masked only",
            momentum_masked_only,
            "you clear the pruned weights and their velocity once, but their gradients are not zero and fill it "
            "again. A pruned weight has a gradient like any other",
        ),
        Misconception(
            "zeroed before each step",
            zeroed_before_each_step,
            "you mask before each step, and the step itself brings the weights back. What is returned, saved and "
            "validated is not pruned. Mask after the step",
        ),
        Misconception(
            "momentum thrown away",
            momentum_thrown_away,
            "the zeros stay, but you start from a velocity of zero. The kept weights then move less than they would "
            "have: the mask does not change where they were going",
        ),
        Misconception(
            "True taken for pruned",
            true_taken_for_pruned,
            "you zero the weights that the mask keeps. `True` means kept here, as in PyTorch's own pruning",
        ),
        Misconception(
            "one tensor many times",
            one_tensor_many_times,
            "every entry of your list is the last weights. Steps in place change one and the same tensor: append a "
            "`clone()`, or make a new tensor in each step",
        ),
        Misconception(
            "the gradient damped",
            gradient_damped,
            "you weight the gradient by 1 - momentum, as Adam does. SGD adds it whole: momentum · velocity + gradient",
        ),
        Misconception(
            "no momentum",
            momentum_ignored,
            "you step along the gradient alone. The velocity remembers: momentum · velocity + gradient",
        ),
        Misconception(
            "uphill",
            uphill,
            "you add the step. It is subtracted: the loss falls against the gradient",
        ),
    ),
    shows="a mask works only if it acts on the weight after every step: momentum moves weights without a gradient.",
    derivation=(
        "After the mask w = 0, yet the next step adds -η (μ v + g). With g masked, -η μ v is left, from gradients "
        "before the mask. Only μ v = 0 or a mask on w itself makes it zero. Weight decay alone moves no zero: -η λ · 0."
    ),
    points=2,
)
