"""20.6 one step of an attack."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def attack_step(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    moved = attacked + size * gradient.sign()
    moved = torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon)
    return moved.clamp(0, 1)


def step_by_limits(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    return (attacked + size * torch.sign(gradient)).clamp(low, high)


def step_of_the_change(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    up, down = (gradient > 0).to(images.dtype), (gradient < 0).to(images.dtype)
    change = (attacked - images + size * (up - down)).clamp(-epsilon, epsilon)
    return (images + change).clamp(0, 1)


def downhill(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    return attack_step(images, attacked, -gradient, epsilon=epsilon, size=size)


def no_sign(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    return step_by_limits(images, attacked + size * gradient, 0 * gradient, epsilon=epsilon, size=size)


def box_around_attacked(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    return attack_step(attacked, attacked, gradient, epsilon=epsilon, size=size)


def outside_the_range(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    return (attacked + size * gradient.sign()).clamp(images - epsilon, images + epsilon)


def no_box(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    return (attacked + size * gradient.sign()).clamp(0, 1)


def epsilon_for_size(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    return attack_step(images, attacked, gradient, epsilon=epsilon, size=epsilon)


def from_the_image(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    return attack_step(images, images, gradient, epsilon=epsilon, size=size)


def of_unit_length(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    unit = gradient / gradient.flatten(1).norm(dim=1).reshape(-1, *[1] * (gradient.ndim - 1)).clamp(min=1e-12)
    return step_by_limits(images, attacked + size * unit, 0 * gradient, epsilon=epsilon, size=size)


def change_returned(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    return attack_step(images, attacked, gradient, epsilon=epsilon, size=size) - images


def zero_goes_up(images: Tensor, attacked: Tensor, gradient: Tensor, *, epsilon: float, size: float) -> Tensor:
    up = torch.where(gradient >= 0, 1.0, -1.0).to(images.dtype)
    return attack_step(images, attacked, up, epsilon=epsilon, size=size)


def _attack(seed: int | torch.Generator, *shape: int, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Images with black and white pixels, attacked ones in their box, gradients of which some are 0."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    images = (draw(*shape, seed=generator, spread=0.5) + 0.5).clamp(0, 1)
    attacked = (images + draw(*shape, seed=generator, spread=epsilon).clamp(-epsilon, epsilon)).clamp(0, 1)
    gradient = draw(*shape, seed=generator, spread=0.7)
    return images, attacked, gradient * (gradient.abs() > 0.1)


def step_cases() -> list[Case]:
    one = torch.tensor([[[[0.5, 0.95], [0.02, 0.3]]]], dtype=torch.float64)
    at = torch.tensor([[[[0.58, 0.9], [0.05, 0.3]]]], dtype=torch.float64)
    slope = torch.tensor([[[[2.0, 0.3], [-0.2, 0.0]]]], dtype=torch.float64)
    return [
        case(one, at, slope, epsilon=0.1, size=0.03),
        case(*_attack(1, 2, 1, 3, 3, epsilon=0.2), epsilon=0.2, size=0.05),
        case(*_attack(2, 3, 2, 2, 4, epsilon=0.05), epsilon=0.05, size=0.08),
        case(*_attack(3, 2, 1, 4, 4, epsilon=0.6), epsilon=0.6, size=0.25),
        case(*(part.float() for part in _attack(4, 1, 1, 5, 5, epsilon=0.1)), epsilon=0.1, size=0.025),
    ]


def drawn_step(g: torch.Generator) -> Case:
    epsilon = integer(g, 5, 40) / 100
    parts = _attack(g, integer(g, 1, 3), integer(g, 1, 2), integer(g, 2, 4), integer(g, 2, 4), epsilon=epsilon)
    return case(*parts, epsilon=epsilon, size=epsilon * integer(g, 10, 90) / 100)


EXERCISE = Exercise(
    id="20.6",
    title="one step of an attack",
    question=(
        "`images` (N, C, H, W) lie in [0, 1]. `attacked` is what an attack has made of them so far, `gradient` the "
        "gradient of the loss at `attacked`, which the attack wants to *raise*. Write `my_attack_step(images, "
        "attacked, gradient, *, epsilon, size)`: move each pixel by `size` in the direction of its gradient's sign "
        "(where it is 0, not at all). Then bring each pixel back to within `epsilon` of `images` and into [0, 1]. "
        "Return new images; change no argument."
    ),
    skeleton=(
        "def my_attack_step(images, attacked, gradient, *, epsilon, size):\n"
        '    """One step along the sign of the gradient, and back into the box around the images."""\n    ...'
    ),
    reference=attack_step,
    alternatives=(step_by_limits, step_of_the_change),
    cases=step_cases,
    drawn=drawn_step,
    hints=(
        "The step starts at `attacked`; the box it must not leave lies around `images`.",
        "`moved = attacked + size * gradient.sign()`, then two clamps.",
        "`Tensor.clamp` also takes tensors: `moved.clamp(images - epsilon, images + epsilon).clamp(0, 1)`.",
    ),
    misconceptions=(
        Misconception(
            "downhill",
            downhill,
            "you go against the gradient: that is training. An attack raises the loss",
        ),
        Misconception(
            "no sign",
            no_sign,
            "you use the gradient itself. Where it is tiny the attack does not move; in a box whose sides are "
            "epsilon, the sign is the steepest direction",
        ),
        Misconception(
            "the box around the attacked images",
            box_around_attacked,
            "your box lies around `attacked`, so it limits the step and not the distance from `images`. After ten "
            "steps the image is far away from where it began",
        ),
        Misconception(
            "outside [0, 1]",
            outside_the_range,
            "your pixels leave [0, 1]. No camera takes such images, and a network that is fed them is not attacked "
            "fairly",
        ),
        Misconception(
            "no box",
            no_box,
            "you never bring the pixels back to within epsilon of the images",
        ),
        Misconception(
            "epsilon for size",
            epsilon_for_size,
            "your step has the size epsilon. `size` is the step, epsilon the limit of all steps together",
        ),
        Misconception(
            "from the images",
            from_the_image,
            "you start at `images`, so all steps before this one are lost",
        ),
        Misconception(
            "unit length",
            of_unit_length,
            "you divide the gradient by its length. That is the step for a limit on the Euclidean distance. Here every "
            "pixel has its own limit: use the sign",
        ),
        Misconception(
            "the change alone",
            change_returned,
            "this is the change. Return the images",
        ),
        Misconception(
            "a gradient of 0 goes up",
            zero_goes_up,
            "a pixel whose gradient is 0 moves up. It should not move: `sign(0)` is 0",
        ),
    ),
    shows="the strongest step in a box goes to its corners.",
    derivation=(
        "To first order the loss rises by gᵀd. Under |dᵢ| ≤ size this is largest for dᵢ = size · sign(gᵢ), and then "
        "equals size · ‖g‖₁. The projection onto the box is entry by entry, because the box is."
    ),
    relative=1e-4,
    absolute=1e-6,
)
