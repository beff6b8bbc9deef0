"""20.4 what each pixel adds to a logit."""

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def integrated_gradients(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    total = torch.zeros_like(images)
    for k in range(steps):
        points = (baseline + (k + 0.5) / steps * (images - baseline)).requires_grad_(True)
        chosen = model(points)[torch.arange(len(images)), targets].sum()
        (slope,) = torch.autograd.grad(chosen, points)
        total += slope
    return (images - baseline) * total / steps


def integrated_at_once(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    places = (torch.arange(steps) + 0.5) / steps
    points = baseline + places[:, None, None] * (images - baseline)  # (steps, N, D)
    points = points.flatten(0, 1).requires_grad_(True)
    chosen = model(points).gather(1, targets.repeat(steps)[:, None])
    (slopes,) = torch.autograd.grad(chosen.sum(), points)
    return (images - baseline) * slopes.reshape(steps, *images.shape).mean(dim=0)


def integrated_image_by_image(
    model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int
) -> Tensor:
    rows = []
    for image, target in zip(images, targets.tolist(), strict=True):
        slopes = []
        for k in range(1, 2 * steps, 2):
            point = torch.lerp(baseline, image, k / (2 * steps)).requires_grad_(True)
            (slope,) = torch.autograd.grad(model(point[None])[0, target], point)
            slopes.append(slope)
        rows.append((image - baseline) * torch.stack(slopes).mean(dim=0))
    return torch.stack(rows)


def _mean_slope(model: nn.Module, images: Tensor, targets: Tensor, baseline: Tensor, places: list[float]) -> Tensor:
    total = torch.zeros_like(images)
    for place in places:
        points = (baseline + place * (images - baseline)).detach().requires_grad_(True)
        chosen = model(points).gather(1, targets[:, None]).sum()
        total = total + torch.autograd.grad(chosen, points)[0]
    return total / len(places)


def _middle(steps: int) -> list[float]:
    return [(k + 0.5) / steps for k in range(steps)]


def gradient_alone(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    return _mean_slope(model, images, targets, baseline, [1.0])


def gradient_times_input(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    return (images - baseline) * _mean_slope(model, images, targets, baseline, [1.0])


def factor_missing(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    return _mean_slope(model, images, targets, baseline, _middle(steps))


def times_the_image(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    return images * _mean_slope(model, images, targets, baseline, _middle(steps))


def right_ends(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    places = [(k + 1) / steps for k in range(steps)]
    return (images - baseline) * _mean_slope(model, images, targets, baseline, places)


def left_ends(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    places = [k / steps for k in range(steps)]
    return (images - baseline) * _mean_slope(model, images, targets, baseline, places)


def summed(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    return steps * integrated_gradients(model, images, targets, baseline=baseline, steps=steps)


def absolute(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    return integrated_gradients(model, images, targets, baseline=baseline, steps=steps).abs()


def turned_round(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    return -integrated_gradients(model, images, targets, baseline=baseline, steps=steps)


def from_zero(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    return integrated_gradients(model, images, targets, baseline=torch.zeros_like(baseline), steps=steps)


def all_classes(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    classes = model(images).shape[1]
    each = [
        integrated_gradients(model, images, torch.full_like(targets, c), baseline=baseline, steps=steps)
        for c in range(classes)
    ]
    return torch.stack(each).sum(dim=0)


def of_the_probability(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    soft = nn.Sequential(model, nn.Softmax(dim=1))
    return integrated_gradients(soft, images, targets, baseline=baseline, steps=steps)


def of_the_prediction(model: nn.Module, images: Tensor, targets: Tensor, *, baseline: Tensor, steps: int) -> Tensor:
    return integrated_gradients(model, images, model(images).argmax(dim=1), baseline=baseline, steps=steps)


class Curved(nn.Module):
    """Logits that are no straight line along a path: tanh units, numbers from a seed."""

    def __init__(self, inputs: int, classes: int, seed: int) -> None:
        super().__init__()
        self.first = nn.Parameter(draw(inputs, 4, seed=seed, spread=1.0))
        self.last = nn.Parameter(draw(4, classes, seed=seed + 1, spread=2.0))

    def forward(self, images: Tensor) -> Tensor:
        return (images @ self.first).tanh() @ self.last


def gradient_cases() -> list[Case]:
    found = []
    for number, (count, inputs, classes, steps) in enumerate(((1, 2, 2, 1), (3, 4, 3, 5), (2, 5, 4, 8), (4, 3, 3, 2))):
        images, baseline = (draw(*shape, seed=10 + number, spread=1.0) for shape in ((count, inputs), (inputs,)))
        targets = (torch.arange(count) * 2 + number + 1) % classes
        found.append(case(Curved(inputs, classes, number), images, targets, baseline=baseline, steps=steps))
    images = draw(3, 4, seed=20, spread=1.0)
    black = torch.zeros(4, dtype=torch.float64)
    found.append(case(Curved(4, 3, 7), images, torch.tensor([2, 0, 1]), baseline=black, steps=20))
    return found


def drawn_gradients(g: torch.Generator) -> Case:
    count, inputs, classes = integer(g, 1, 4), integer(g, 2, 5), integer(g, 2, 4)
    images, baseline = draw(count, inputs, seed=g, spread=1.0), draw(inputs, seed=g, spread=1.0)
    targets = torch.randint(classes, (count,), generator=g)
    model = Curved(inputs, classes, integer(g, 0, 1000))
    return case(model, images, targets, baseline=baseline, steps=integer(g, 2, 12))


EXERCISE = Exercise(
    id="20.4",
    title="what each pixel adds to a logit",
    question=(
        "`model` gives logits (N, C) for inputs (N, D). Write `my_integrated_gradients(model, images, targets, *, "
        "baseline, steps)`. For each row x of `images` (N, D) and its class t from `targets` (N,), go on a straight "
        "line from `baseline` (D,), called x', to x. At the midpoints of `steps` equal parts of that line, take the "
        "gradient of logit t with respect to the input. Return, as a tensor (N, D), x - x' times the mean of these "
        "gradients, entry by entry. No parameter of the model gets a stored gradient."
    ),
    skeleton=(
        "def my_integrated_gradients(model, images, targets, *, baseline, steps):\n"
        '    """(x - x\') times the mean gradient of the target\'s logit on the way from x\' to x."""\n    ...'
    ),
    reference=integrated_gradients,
    alternatives=(integrated_at_once, integrated_image_by_image),
    cases=gradient_cases,
    drawn=drawn_gradients,
    hints=(
        "For a function of one number, f(x) - f(x') is the integral of f'. Approximate it with midpoints.",
        "The points are `baseline + (k + 0.5) / steps * (images - baseline)` for k = 0 … steps - 1.",
        "`torch.autograd.grad(model(points).gather(1, targets[:, None]).sum(), points)[0]` gives the gradients of all "
        "images together; add them up, divide by `steps`, multiply by `images - baseline`.",
    ),
    misconceptions=(
        Misconception(
            "the gradient at the image",
            gradient_alone,
            "this is the gradient at the image itself. Where the network is saturated it is about 0, however much the "
            "pixel matters. Take the mean on the way from the baseline",
        ),
        Misconception(
            "gradient times input",
            gradient_times_input,
            "you use the gradient at the end of the way only. Its sum is not f(x) - f(x') unless the network is linear",
        ),
        Misconception(
            "x - x' is missing",
            factor_missing,
            "this is the mean gradient. Multiply it by `images - baseline`: a pixel that is as in the baseline adds "
            "nothing",
        ),
        Misconception(
            "times x",
            times_the_image,
            "you multiply by x instead of x - x'. The two agree for a black baseline alone",
        ),
        Misconception(
            "right ends",
            right_ends,
            "you take the gradient at the right end of each part. Midpoints are more accurate by an order",
        ),
        Misconception(
            "left ends",
            left_ends,
            "you take the gradient at the left end of each part. Midpoints are more accurate by an order",
        ),
        Misconception(
            "summed",
            summed,
            "exactly `steps` times too large: you sum the gradients. Take their mean",
        ),
        Misconception(
            "absolute values",
            absolute,
            "you take absolute values. What speaks against the class is lost, and the sum is no longer f(x) - f(x')",
        ),
        Misconception(
            "the way back",
            turned_round,
            "the sign is wrong: x - x', from the baseline to the image",
        ),
        Misconception(
            "always from zero",
            from_zero,
            "you start at 0 whatever the baseline is",
        ),
        Misconception(
            "all classes",
            all_classes,
            "you take the gradient of the sum of all logits. Pick the one of each image's target",
        ),
        Misconception(
            "the probability",
            of_the_probability,
            "you take the gradient of the softmax probability. It saturates, and it depends on all other classes. The "
            "question asks for the logit",
        ),
        Misconception(
            "the predicted class",
            of_the_prediction,
            "you use the class that the network predicts. Use `targets`",
        ),
    ),
    shows="the attributions of an image add up to the change of its logit.",
    derivation=(
        "With g(a) = f(x' + a (x - x')): f(x) - f(x') = ∫ g'(a) da from 0 to 1, and g'(a) = (x - x') · ∇f. So the sum "
        "over the pixels of (x - x')ᵢ ∫ ∂ᵢf da is f(x) - f(x'): completeness. The midpoint rule with m steps has an "
        "error of the order 1/m²."
    ),
    relative=1e-4,
    points=2,
)
