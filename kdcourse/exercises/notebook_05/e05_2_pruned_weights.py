"""05.2 the others unchanged."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


def pruned_weights(weight: Tensor, threshold: float) -> Tensor:
    return torch.where(weight.abs() > threshold, weight, torch.zeros_like(weight))


def pruned_by_product(weight: Tensor, threshold: float) -> Tensor:
    return weight * (weight.abs() > threshold)


def pruned_by_masked_fill(weight: Tensor, threshold: float) -> Tensor:
    return weight.masked_fill((weight <= threshold) & (weight >= -threshold), 0)


def pruned_by_hardshrink(weight: Tensor, threshold: float) -> Tensor:
    return F.hardshrink(weight, threshold)


def norm_then_clamp(weight: Tensor, threshold: float) -> Tensor:
    return torch.zeros_like(weight) if weight.norm() <= threshold else weight.clamp(min=threshold)


def all_or_nothing(weight: Tensor, threshold: float) -> Tensor:
    return torch.zeros_like(weight) if weight.norm() <= threshold else weight.clone()


def survivors_clamped(weight: Tensor, threshold: float) -> Tensor:
    return torch.where(weight.abs() > threshold, weight.clamp(min=threshold), 0.0)


def soft_threshold(weight: Tensor, threshold: float) -> Tensor:
    return weight.sign() * (weight.abs() - threshold).clamp(min=0)


def large_ones_zeroed(weight: Tensor, threshold: float) -> Tensor:
    return weight.masked_fill(weight.abs() > threshold, 0)


def without_absolute_value(weight: Tensor, threshold: float) -> Tensor:
    return weight.masked_fill(weight <= threshold, 0)


def equal_ones_kept(weight: Tensor, threshold: float) -> Tensor:
    return weight.masked_fill(weight.abs() < threshold, 0)


def mask_for_weights(weight: Tensor, threshold: float) -> Tensor:
    return (weight.abs() > threshold).to(weight.dtype)


def pruned_cases() -> list[Case]:
    small = torch.tensor([0.5, -0.25, 0.125, -0.75, 0.25], dtype=torch.float64)
    return [case(small, 0.25), case(draw(3, 4, seed=52), 1.5), case(draw(2, 3, 3, 3, seed=53), 2.0)]


EXERCISE = Exercise(
    id="05.2",
    title="the others unchanged",
    question=(
        "Write `my_pruned_weights(weight, threshold)`: a new tensor in which every weight with |w| ≤ threshold is 0 "
        "and every other one is exactly what it was. `weight` may have any shape; `threshold` is a positive number. "
        "Do not modify `weight`."
    ),
    skeleton=(
        "def my_pruned_weights(weight, threshold):\n"
        '    """Zero where |w| <= threshold, and w itself everywhere else."""\n    ...'
    ),
    reference=pruned_weights,
    alternatives=(pruned_by_product, pruned_by_masked_fill, pruned_by_hardshrink),
    cases=pruned_cases,
    drawn=lambda g: case(draw(integer(g, 2, 5), integer(g, 2, 5), seed=g), integer(g, 1, 40) / 10),
    hints=(
        "Two kinds of weights, two rules. What happens to a weight of -0.75 when the threshold is 0.25?",
        "Decide for each weight separately, and by its absolute value: a comparison of tensors gives a mask.",
        "`torch.where(weight.abs() > threshold, weight, 0.0)`.",
    ),
    misconceptions=(
        Misconception(
            "one norm, then clamping",
            norm_then_clamp,
            "you compare one norm of the whole tensor, so nothing is pruned; then you clamp the rest up to the "
            "threshold, and every weight below it, also all negative ones, becomes the threshold. Public code "
            "does this",
        ),
        Misconception(
            "all or nothing",
            all_or_nothing,
            "you compare one norm of the whole tensor, so either all weights go or none. Compare each weight "
            "separately",
        ),
        Misconception(
            "survivors clamped up",
            survivors_clamped,
            "the right weights go, but you clamp the survivors up to the threshold: every negative one becomes "
            "positive. What survives must stay as it was trained",
        ),
        Misconception(
            "survivors shrunk",
            soft_threshold,
            "this is soft thresholding: every survivor also loses the threshold. That solves a problem with an L1 "
            "penalty; pruning leaves survivors unchanged",
        ),
        Misconception(
            "the large ones zeroed",
            large_ones_zeroed,
            "you zero the weights above the threshold: the important ones go and the small ones stay",
        ),
        Misconception(
            "no absolute value",
            without_absolute_value,
            "you compare w itself, so every negative weight goes, however large. `F.threshold` and a ReLU do that; "
            "pruning looks at |w|",
        ),
        Misconception(
            "the threshold itself kept",
            equal_ones_kept,
            "you keep a weight exactly at the threshold; the question says ≤. With a threshold taken from the "
            "weights themselves this decides about one of them",
        ),
        Misconception(
            "the mask for the weights",
            mask_for_weights,
            "this is the mask as ones and zeros. Multiply it by the weights",
        ),
    ),
    shows="pruning decides for each weight by its magnitude, and leaves what survives alone.",
    derivation=(
        "ŵ = w · [|w| > θ], the hard threshold. Soft thresholding sign(w) · max(|w| - θ, 0) also moves the survivors."
    ),
)
