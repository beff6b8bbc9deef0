"""06.3 what a masked filter leaves behind."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw


def constant_channels(weight: Tensor, norm: Any) -> Tensor:
    constant = (weight == 0).flatten(1).all(dim=1) | (norm.weight == 0)
    spread = torch.sqrt(norm.running_var + norm.eps)
    left = torch.relu(norm.bias - norm.weight * norm.running_mean / spread)
    return torch.where(constant, left, torch.nan)


def constants_by_the_norm(weight: Tensor, norm: Any) -> Tensor:
    left = F.relu(norm(torch.zeros(1, len(weight), 1, 1, dtype=weight.dtype))).flatten()
    reads = weight.abs().sum(dim=(1, 2, 3)) * norm.weight.abs()
    return left.masked_fill(reads > 0, float("nan"))


def constants_one_by_one(weight: Tensor, norm: Any) -> Tensor:
    found = []
    for filter, g, b, m, v in zip(weight, norm.weight, norm.bias, norm.running_mean, norm.running_var, strict=True):
        depends = bool(filter.any()) and bool(g != 0)
        found.append(math.nan if depends else max(0.0, float(b - g * m / math.sqrt(v + norm.eps))))
    return torch.tensor(found, dtype=torch.float64)


def constants_by_images(weight: Tensor, norm: Any) -> Tensor:
    images = draw(3, weight.shape[1], 5, 5, seed=640)
    seen = norm(F.conv2d(images, weight)).transpose(0, 1).flatten(1)
    left = seen[:, 0].clamp(min=0)
    return torch.where(seen.amax(dim=1) == seen.amin(dim=1), left, torch.nan)


def _masked(weight: Tensor) -> Tensor:
    return (weight == 0).flatten(1).all(dim=1)


def _off(weight: Tensor, norm: Any) -> Tensor:
    return _masked(weight) | (norm.weight == 0)


def zero_filter_gives_zero(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_masked(weight), 0.0, constant_channels(weight, norm))


def dead_means_zero(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_off(weight, norm), 0.0, constant_channels(weight, norm))


def shift_alone(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_off(weight, norm), norm.bias.relu(), torch.nan)


def shift_pruned_too(weight: Tensor, norm: Any) -> Tensor:
    spread = torch.sqrt(norm.running_var + norm.eps)
    return torch.where(_off(weight, norm), (-norm.weight * norm.running_mean / spread).relu(), torch.nan)


def without_eps(weight: Tensor, norm: Any) -> Tensor:
    left = norm.bias - norm.weight * norm.running_mean / norm.running_var.sqrt()
    return torch.where(_off(weight, norm), left.relu(), torch.nan)


def variance_for_deviation(weight: Tensor, norm: Any) -> Tensor:
    left = norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps)
    return torch.where(_off(weight, norm), left.relu(), torch.nan)


def relu_forgotten(weight: Tensor, norm: Any) -> Tensor:
    left = norm(torch.zeros(1, len(weight), 1, 1, dtype=weight.dtype)).flatten()
    return torch.where(_off(weight, norm), left, torch.nan)


def scales_not_looked_at(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_masked(weight), constant_channels(weight, norm), torch.nan)


def norm_with(scale: list[float], shift: list[float], mean: list[float], variance: list[float], eps: float) -> Any:
    """A batch norm in eval mode with these numbers, float64, that takes no gradient."""
    norm: Any = nn.BatchNorm2d(len(scale), eps=eps).double().eval().requires_grad_(False)
    names = ("weight", "bias", "running_mean", "running_var")
    for name, values in zip(names, (scale, shift, mean, variance), strict=True):
        getattr(norm, name).copy_(torch.tensor(values, dtype=torch.float64))
    norm.as_given = norm.weight.tolist()
    return norm


def any_zero(weight: Tensor, norm: Any) -> Tensor:
    zero = (weight == 0).flatten(1).any(dim=1) | (norm.weight == 0)
    return torch.where(zero, _at_zero(norm), torch.nan)


def sum_is_zero(weight: Tensor, norm: Any) -> Tensor:
    zero = (weight.sum(dim=(1, 2, 3)) == 0) | (norm.weight == 0)
    return torch.where(zero, _at_zero(norm), torch.nan)


def filters_not_looked_at(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(norm.weight == 0, _at_zero(norm), torch.nan)


def both_asked_for(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_masked(weight) & (norm.weight == 0), _at_zero(norm), torch.nan)


def mean_added(weight: Tensor, norm: Any) -> Tensor:
    spread = torch.sqrt(norm.running_var + norm.eps)
    return torch.where(_off(weight, norm), (norm.bias + norm.weight * norm.running_mean / spread).relu(), torch.nan)


def zero_for_the_others(weight: Tensor, norm: Any) -> Tensor:
    return constant_channels(weight, norm).nan_to_num()


def zero_scale_gives_zero(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(norm.weight == 0, 0.0, constant_channels(weight, norm))


def negative_scales_too(weight: Tensor, norm: Any) -> Tensor:
    return torch.where(_masked(weight) | (norm.weight <= 0), _at_zero(norm), torch.nan)


def small_ones_too(weight: Tensor, norm: Any) -> Tensor:
    small = (weight.abs().sum(dim=(1, 2, 3)) < 1e-3) | (norm.weight.abs() < 1e-3)
    return torch.where(small, _at_zero(norm), torch.nan)


def _at_zero(norm: Any) -> Tensor:
    return torch.relu(norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps))


def values_and_norm(result: Any, case: Case) -> Any:
    """The values, and with them the scales of the norm where they are no longer what they were."""
    norm = case.arguments[1]
    return result if norm.weight.tolist() == norm.as_given else (result, norm.weight)


def constant_cases() -> list[Case]:
    few = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, -1.0], [2.0, 0.0]], dtype=torch.float64).reshape(4, 1, 1, 2)
    many = draw(6, 2, 3, 3, seed=641, spread=1.0)
    many[[0, 2, 3]] = 0
    edges = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, -1.5], [1e-4, 0.0], [1.0, 2.0]], dtype=torch.float64)
    numbers = ([1.0, -1.5, -0.5, 1.0, 1e-4], [0.5, 0.3, 0.4, 0.6, 0.7], [0.1, 0.7, -0.2, 0.3, 0.2], [0.3] * 5, 1e-2)
    return [
        case(edges.reshape(5, 1, 1, 2), norm_with(*numbers)),  # a 0 in a filter, negative and tiny scales
        case(few, norm_with([2.0, 1.0, 1.0, 0.0], [0.5, 0.25, 0.5, 0.75], [-0.5, 1.0, 0.5, 1.0], [0.25] * 4, 1e-3)),
        case(
            many,
            norm_with(
                [1.0, 0.5, 1.5, 0.8, 0.0, 0.0],
                [0.2, 0.4, -0.1, 0.3, 0.6, -0.2],
                [-0.3, 0.1, -0.4, 0.2, 0.5, 0.1],
                [0.04, 0.09, 0.16, 0.25, 0.36, 0.01],
                1e-4,
            ),
        ),
    ]


def drawn_norm(g: torch.Generator) -> Case:
    scale, shift, mean, variance = (draw(4, seed=g).tolist() for _ in range(4))
    weight = draw(4, 2, 2, 2, seed=g) * torch.randint(2, (4, 1, 1, 1), generator=g)
    return case(weight, norm_with([0.0, *scale[1:]], shift, mean, [v**2 + 0.1 for v in variance], 1e-3))


EXERCISE = Exercise(
    id="06.3",
    title="what a masked filter leaves behind",
    question=(
        "A convolution without bias, its batch norm in eval mode, then a ReLU. `weight` has the shape "
        "(outputs, inputs, height, width), `norm` is the BatchNorm2d, both float64. Some filters are masked: all of "
        "their weights are 0. Some scales (`norm.weight`) are 0 as well. Write "
        "`my_constant_channels(weight, norm)`: a float64 tensor (outputs,). For a channel whose filter or scale is 0 "
        "it contains the one value that the next layer reads from it after the ReLU, whatever the image. For every "
        "other channel it contains NaN."
    ),
    skeleton=(
        "def my_constant_channels(weight, norm):\n"
        '    """The value of each channel that reads nothing of the image, NaN for the others."""\n    ...'
    ),
    reference=constant_channels,
    alternatives=(constants_by_the_norm, constants_one_by_one, constants_by_images),
    cases=constant_cases,
    drawn=drawn_norm,
    observe=values_and_norm,
    hints=(
        "What does the norm receive from a filter of zeros? And what does it make of that?",
        "In eval mode the norm computes scale · (z - mean) / √(variance + eps) + shift. Put in z = 0. With scale 0 any "
        "z gives the same.",
        "`torch.relu(norm.bias - norm.weight * norm.running_mean / torch.sqrt(norm.running_var + norm.eps))`, and "
        "`torch.where(constant, left, torch.nan)`.",
    ),
    misconceptions=(
        Misconception(
            "a zero filter gives zero",
            zero_filter_gives_zero,
            "you assume that a filter of zeros gives a channel of zeros. The norm after it subtracts its mean and "
            "adds its shift, and the next layer reads what is left",
        ),
        Misconception(
            "dead means zero",
            dead_means_zero,
            "you take a channel that reads nothing for one that outputs nothing. It is constant, not 0: the shift is "
            "added after filter and scale. Only a channel at exactly 0 can go without a change",
        ),
        Misconception(
            "scales pruned like weights",
            scales_not_looked_at,
            "you look at the filters only. A scale of 0, as when batch-norm weights are pruned like weights, switches "
            "its channel off silently: the filter is whole, and nothing of it arrives",
        ),
        Misconception(
            "the shift pruned too",
            shift_pruned_too,
            "you leave the shift out, as if the mask also set it to 0. A mask on the filter does not touch the norm",
        ),
        Misconception(
            "the running mean forgotten",
            shift_alone,
            "you count only the shift. In eval mode the norm subtracts its running mean from the filter's zeros first, "
            "and that was measured before the mask",
        ),
        Misconception(
            "eps forgotten",
            without_eps,
            "eps is missing below the root. The error is small where the variance is large, and that is why it stays "
            "unseen",
        ),
        Misconception(
            "variance for deviation",
            variance_for_deviation,
            "you divide by the variance. The norm divides by its root, the standard deviation",
        ),
        Misconception(
            "the ReLU forgotten",
            relu_forgotten,
            "this is the value before the ReLU. The next layer never reads a negative one",
        ),
        Misconception(
            "any weight 0",
            any_zero,
            "you ask whether any weight of a filter is 0. A masked filter has only zeros: `all`",
        ),
        Misconception(
            "a sum of 0",
            sum_is_zero,
            "you ask whether the weights add up to 0. 1 and -1 also do, and still read the image: take absolute "
            "values first",
        ),
        Misconception(
            "filters not looked at",
            filters_not_looked_at,
            "you look only at the scales. A filter of zeros reads nothing of the image either",
        ),
        Misconception(
            "both asked for",
            both_asked_for,
            "you ask for a filter *and* a scale of 0. Either alone makes the channel constant",
        ),
        Misconception(
            "the mean added",
            mean_added,
            "the mean has the wrong sign. Batch norm subtracts it from 0 before it multiplies",
        ),
        Misconception(
            "0 for the others",
            zero_for_the_others,
            "the constants are right, but the other channels are 0. That would be a value like any other: the question "
            "asks for NaN",
        ),
        Misconception(
            "a scale of 0 gives 0",
            zero_scale_gives_zero,
            "you take a channel whose scale is 0 for 0. Its shift is left, after the ReLU",
        ),
        Misconception(
            "negative scales too",
            negative_scales_too,
            "you take a negative scale for a dead channel. It turns the channel's sign around, and the image is still "
            "read",
        ),
        Misconception(
            "small ones too",
            small_ones_too,
            "you count small weights or scales as 0. They still read the image: compare with 0 itself",
        ),
    ),
    shows="a masked filter leaves relu(shift - scale · mean / √(variance + eps)), and a scale of 0 leaves relu(shift).",
    derivation=(
        "norm(z) = γ (z - μ) / √(v + eps) + β. At z = 0 it is β - γμ / √(v + eps); at γ = 0 it is β, the same formula. "
        "So a mask that is to equal removal sets filter, bias, scale and shift to 0."
    ),
)
