"""Exercises of notebook 05: which weights go, how they stay away, where a ticket starts, and what zeros save."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .core import Case, Exercise, Misconception, case, draw

Weights = dict[str, Tensor]

# --- 05.1 -------------------------------------------------------------------------------------------------------------


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    pruned = round(sparsity * weight.numel())
    order = weight.abs().flatten().argsort(stable=True)
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[:pruned]] = False
    return mask.reshape(weight.shape)


def mask_by_rank(weight: Tensor, sparsity: float) -> Tensor:
    rank = weight.detach().square().flatten().argsort(stable=True).argsort()
    return (rank >= round(sparsity * weight.numel())).reshape(weight.shape)


def mask_by_threshold(weight: Tensor, sparsity: float) -> Tensor:
    pruned = round(sparsity * weight.numel())
    return weight.abs() > weight.abs().flatten().kthvalue(pruned).values


def mask_by_topk(weight: Tensor, sparsity: float) -> Tensor:
    kept = weight.numel() - round(sparsity * weight.numel())
    places = weight.abs().flatten().topk(kept).indices
    return torch.zeros(weight.numel()).scatter(0, places, 1.0).bool().reshape(weight.shape)


def keeps_below_the_threshold(weight: Tensor, sparsity: float) -> Tensor:
    return ~magnitude_mask(weight, sparsity)


def prunes_the_largest(weight: Tensor, sparsity: float) -> Tensor:
    return ~magnitude_mask(weight, 1 - sparsity)


def keeps_the_share(weight: Tensor, sparsity: float) -> Tensor:
    return magnitude_mask(weight, 1 - sparsity)


def by_value(weight: Tensor, sparsity: float) -> Tensor:
    return magnitude_mask(weight - weight.min(), sparsity)


def share_of_the_maximum(weight: Tensor, sparsity: float) -> Tensor:
    return weight.abs() > sparsity * weight.abs().max()


def norm_of_the_tensor(weight: Tensor, sparsity: float) -> Tensor:
    return torch.full_like(weight, weight.norm().item() > sparsity * weight.abs().max().item(), dtype=torch.bool)


def row_by_row(weight: Tensor, sparsity: float) -> Tensor:
    return torch.stack([magnitude_mask(row, sparsity) for row in weight])


def rounded_down(weight: Tensor, sparsity: float) -> Tensor:
    return magnitude_mask(weight, int(sparsity * weight.numel()) / weight.numel())


def by_quantile(weight: Tensor, sparsity: float) -> Tensor:
    return weight.abs() > weight.abs().flatten().quantile(sparsity)


def threshold_itself_kept(weight: Tensor, sparsity: float) -> Tensor:
    return magnitude_mask(weight, (round(sparsity * weight.numel()) - 1) / weight.numel())


def mask_cases() -> list[Case]:
    small = torch.tensor([[0.3, -0.1, 0.05], [-0.9, 0.2, -0.4]], dtype=torch.float64)
    return [case(small, 0.4), case(draw(4, 6, seed=50), 0.9), case(draw(3, 2, 3, 3, seed=51) - 1, 0.65)]


_MASK = "kdcourse.pruning.magnitude_mask"
MAGNITUDE_MASK = Exercise(
    id="05.1",
    title="which weights go",
    question=(
        "Write `my_magnitude_mask(weight, sparsity)` for a tensor of any shape with n weights. It returns a mask: a "
        "bool tensor of the same shape, `True` = kept. The `round(sparsity * n)` weights of smallest absolute value "
        "are pruned, looked for in the whole tensor. No two weights here have the same absolute value."
    ),
    skeleton=(
        "def my_magnitude_mask(weight, sparsity):\n"
        '    """True for the weights that are kept when the smallest are pruned."""\n    ...'
    ),
    reference=magnitude_mask,
    alternatives=(mask_by_rank, mask_by_threshold, mask_by_topk),
    cases=mask_cases,
    hints=(
        "A weight of -0.9 and one of 0.9 matter alike. What do you sort by?",
        "Count first: `pruned = round(sparsity * weight.numel())`. Then find the places of that many smallest "
        "absolute values.",
        "`order = weight.abs().flatten().argsort()`; a mask of `True` gets `False` at `order[:pruned]` and then the "
        "shape of the weight.",
    ),
    misconceptions=(
        Misconception(
            "keeps the weights below the threshold",
            keeps_below_the_threshold,
            "your mask is the wrong way round: `True` stands where weights are pruned. A formula that circulates "
            "keeps |w| below the threshold too: the important weights go and the useless ones stay",
            _MASK,
        ),
        Misconception(
            "prunes the largest",
            prunes_the_largest,
            "you prune as many as asked for, but the largest. A weight near zero changes the output least, so the "
            "small ones go",
            _MASK,
        ),
        Misconception(
            "sparsity taken for the share kept",
            keeps_the_share,
            "you keep the share `sparsity` and prune the rest. Sparsity is the share of zeros: 0.9 leaves one weight "
            "in ten",
            _MASK,
        ),
        Misconception(
            "ordered by value",
            by_value,
            "you order by value, so the most negative weights go first. They are large: it is the absolute value that "
            "says how much a weight does",
            _MASK,
        ),
        Misconception(
            "sparsity times the maximum",
            share_of_the_maximum,
            "you prune below sparsity × the largest magnitude. That says nothing of how many go: weights crowd around "
            "zero, so far more do. A share of weights is a matter of ranks",
            _MASK,
        ),
        Misconception(
            "the norm of the whole tensor",
            norm_of_the_tensor,
            "your mask keeps everything. So does code that circulates: it compares one norm of the whole tensor with "
            "the threshold, and so prunes nothing or all. Compare each weight",
            _MASK,
        ),
        Misconception(
            "row by row",
            row_by_row,
            "you prune the same share of every row. A row of large weights then loses some that matter more than what "
            "its neighbour keeps. Rank the whole tensor at once",
            _MASK,
        ),
        Misconception(
            "rounded down",
            rounded_down,
            "one weight too few is pruned here and there: you cut off where the count was to be rounded. "
            "`int(4.8)` is 4, `round(4.8)` is 5",
            _MASK,
        ),
        Misconception(
            "a quantile for the threshold",
            by_quantile,
            "a quantile interpolates over n - 1 gaps, so the number of weights below it is not always "
            "round(sparsity · n). Count and rank instead",
            _MASK,
        ),
        Misconception(
            "the threshold itself kept",
            threshold_itself_kept,
            "one weight too few is pruned, every time: your threshold is the largest weight that was to go, and you "
            "keep it",
            _MASK,
        ),
    ),
    shows="a magnitude mask is a ranking: it counts first, then prunes that many of the smallest absolute values.",
    derivation=(
        "To keep Σ (w - ŵ)² smallest with k weights set to zero, zero the k smallest w²: the error is just the sum of "
        "those. That the loss follows this error is an assumption. Source: Han, Pool, Tran, Dally 2015, "
        "arXiv:1506.02626."
    ),
    forbidden=(_MASK,),
)

# --- 05.2 -------------------------------------------------------------------------------------------------------------


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


PRUNED_WEIGHTS = Exercise(
    id="05.2",
    title="the others unchanged",
    question=(
        "Write `my_pruned_weights(weight, threshold)`: a new tensor in which every weight with |w| ≤ threshold is 0 "
        "and every other one is exactly what it was. `weight` may have any shape; `threshold` is a positive number. "
        "Leave `weight` as it is."
    ),
    skeleton=(
        "def my_pruned_weights(weight, threshold):\n"
        '    """Zero where |w| <= threshold, and w itself everywhere else."""\n    ...'
    ),
    reference=pruned_weights,
    alternatives=(pruned_by_product, pruned_by_masked_fill, pruned_by_hardshrink),
    cases=pruned_cases,
    hints=(
        "Two kinds of weights, two rules. What happens to a weight of -0.75 when the threshold is 0.25?",
        "Decide for each weight by itself, and by its absolute value: a comparison of tensors gives a mask.",
        "`torch.where(weight.abs() > threshold, weight, 0.0)`.",
    ),
    misconceptions=(
        Misconception(
            "one norm, then clamping",
            norm_then_clamp,
            "you compare one norm of the whole tensor, so nothing is pruned; then you clamp the rest up to the "
            "threshold, and every weight below it, all negative ones too, becomes the threshold. This code circulates",
        ),
        Misconception(
            "all or nothing",
            all_or_nothing,
            "you compare one norm of the whole tensor, so either all weights go or none. Compare each weight by itself",
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
            "this is soft thresholding: every survivor loses the threshold too. That solves a problem with an L1 "
            "penalty; pruning leaves survivors as they are",
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
            "a weight exactly at the threshold stays with you; ≤ was asked for. With a threshold taken from the "
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
        "ŵ = w · [|w| > θ], the hard threshold. Soft thresholding sign(w) · max(|w| - θ, 0) moves the survivors too."
    ),
)

# --- 05.3 -------------------------------------------------------------------------------------------------------------


def global_masks(weights: Weights, sparsity: float) -> Weights:
    chosen = {name: weight for name, weight in weights.items() if weight.ndim >= 2}
    together = torch.cat([weight.abs().flatten() for weight in chosen.values()])
    pruned = round(sparsity * len(together))
    threshold = together.sort().values[pruned]
    return {name: weight.abs() >= threshold for name, weight in chosen.items()}


def masks_split_again(weights: Weights, sparsity: float) -> Weights:
    chosen = {name: weight for name, weight in weights.items() if weight.dim() > 1}
    mask = magnitude_mask(torch.cat([weight.reshape(-1) for weight in chosen.values()]), sparsity)
    parts = mask.split([weight.numel() for weight in chosen.values()])
    return {name: part.view_as(weights[name]) for name, part in zip(chosen, parts, strict=True)}


def masks_by_ranked_list(weights: Weights, sparsity: float) -> Weights:
    names = [name for name in weights if weights[name].ndim not in (0, 1)]
    ranked = sorted(abs(value) for name in names for value in weights[name].flatten().tolist())
    last = ranked[round(sparsity * len(ranked)) - 1]
    return {name: weights[name].abs() > last for name in names}


def same_share_everywhere(weights: Weights, sparsity: float) -> Weights:
    return {name: magnitude_mask(weight, sparsity) for name, weight in weights.items() if weight.ndim >= 2}


def _as_rows(weights: Weights) -> Weights:
    return {name: weight if weight.ndim >= 2 else weight[None] for name, weight in weights.items()}


def everything_pruned(weights: Weights, sparsity: float) -> Weights:
    masks = global_masks(_as_rows(weights), sparsity)
    return {name: mask.reshape(weights[name].shape) for name, mask in masks.items()}


def everything_named_weight(weights: Weights, sparsity: float) -> Weights:
    return everything_pruned({name: w for name, w in weights.items() if name.endswith("weight")}, sparsity)


def biases_counted(weights: Weights, sparsity: float) -> Weights:
    masks = everything_pruned(weights, sparsity)
    return {name: mask for name, mask in masks.items() if mask.ndim >= 2}


def mean_of_thresholds(weights: Weights, sparsity: float) -> Weights:
    chosen = {name: weight.abs() for name, weight in weights.items() if weight.ndim >= 2}
    each = [w.flatten().sort().values[round(sparsity * w.numel()) - 1] for w in chosen.values()]
    return {name: weight > torch.stack(each).mean() for name, weight in chosen.items()}


def scaled_by_layer(weights: Weights, sparsity: float) -> Weights:
    scaled = {name: weight / weight.norm() for name, weight in weights.items() if weight.ndim >= 2}
    return global_masks(scaled, sparsity)


def largest_pruned_everywhere(weights: Weights, sparsity: float) -> Weights:
    return {name: ~mask for name, mask in global_masks(weights, 1 - sparsity).items()}


def others_kept_whole(weights: Weights, sparsity: float) -> Weights:
    return {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()} | global_masks(weights, sparsity)


def global_cases() -> list[Case]:
    def layers(spread: float, seed: int, shapes: dict[str, tuple[int, ...]]) -> Weights:
        """Layers of ever larger weights; biases and norms among them, as in a state dict."""
        sizes = {name: spread * (1 + number) for number, name in enumerate(shapes)}
        return {n: draw(*s, seed=seed + k, spread=sizes[n]) for k, (n, s) in enumerate(shapes.items())}

    small = layers(1.0, 61, {"hidden.weight": (2, 3), "hidden.bias": (2,), "classes.weight": (3, 2)})
    larger = layers(
        0.5,
        64,
        {
            "conv1.weight": (2, 1, 3, 3),
            "conv1.bias": (2,),
            "norm1.weight": (2,),
            "norm1.bias": (2,),
            "classes.weight": (4, 8),
            "classes.bias": (4,),
        },
    )
    return [case(small, 0.5), case(larger, 0.6)]


GLOBAL_MASKS = Exercise(
    id="05.3",
    title="one threshold for all layers",
    question=(
        "`weights` is a dictionary from names such as `conv1.weight`, `conv1.bias`, `norm1.weight` to tensors. Write "
        "`my_global_masks(weights, sparsity)`: a dictionary from name to mask (bool, `True` = kept, the tensor's "
        "shape), for tensors of *two or more dimensions* only. With n the number of all their weights together, the "
        "`round(sparsity * n)` of smallest absolute value are pruned, wherever they are. Biases and norms, of one "
        "dimension, neither count nor appear. There are no ties."
    ),
    skeleton=(
        "def my_global_masks(weights, sparsity):\n"
        '    """A mask for every tensor of two or more dimensions, by one threshold."""\n    ...'
    ),
    reference=global_masks,
    alternatives=(masks_split_again, masks_by_ranked_list),
    cases=global_cases,
    hints=(
        "Which tensors take part? And how many rankings are there, one for each or one for all?",
        "Keep the tensors with `ndim >= 2`, then `torch.cat` all their absolute values, flattened, into one vector.",
        "`threshold = together.sort().values[round(sparsity * len(together))]`, and each mask is "
        "`weight.abs() >= threshold`.",
    ),
    misconceptions=(
        Misconception(
            "the same share of each layer",
            same_share_everywhere,
            "you prune the same share of every layer. A small layer that everything passes through then loses as much "
            "as a large one with weights to spare. One ranking was asked for",
        ),
        Misconception(
            "biases and norms pruned like weights",
            everything_pruned,
            "you prune biases and norms like weights. A batch norm's scale that becomes 0 silences its whole channel, "
            "and hardly a byte is saved",
        ),
        Misconception(
            "norms pruned by their name",
            everything_named_weight,
            "you go by the name, and a batch norm's scale is called `weight` too. Where it becomes 0 the whole channel "
            "dies silently. Go by the number of dimensions",
        ),
        Misconception(
            "biases counted",
            biases_counted,
            "the result leaves biases and norms out, but your threshold was found with them. The weights then get "
            "another sparsity than the one asked for",
        ),
        Misconception(
            "the mean of the thresholds",
            mean_of_thresholds,
            "you average the thresholds of the layers. Each layer weighs alike in that mean, however many weights it "
            "has, so the sparsity is not the one asked for",
        ),
        Misconception(
            "scaled layer by layer",
            scaled_by_layer,
            "you divide each layer by its norm before you rank. That is another criterion, though it has its friends: "
            "here absolute values are compared as they are",
        ),
        Misconception(
            "the largest pruned",
            largest_pruned_everywhere,
            "one threshold for all, but the weights above it go. The small ones were to be pruned",
        ),
        Misconception(
            "masks of ones for the others",
            others_kept_whole,
            "the masks are right, but you add masks of `True` for biases and norms. A sparsity counted over them all "
            "comes out too low. Leave them out",
        ),
    ),
    shows="one ranking over all layers lets those with small weights lose more, and biases and norms stay out of it.",
    derivation=(
        "Sort the n magnitudes of all layers together; with p = round(sparsity · n) the weights from rank p on stay. "
        "Layers whose weights are small end up sparser than the others."
    ),
    points=2,
)

# --- 05.4 -------------------------------------------------------------------------------------------------------------

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


MASKED_STEPS = Exercise(
    id="05.4",
    title="zeros that stay zero",
    question=(
        "A network was trained by SGD with momentum, and now a mask prunes it in the middle of training. Write "
        "`my_masked_steps(weight, velocity, mask, gradients, *, learning_rate, momentum)`. `weight` and `velocity` are "
        "as training left them, not masked; `mask` is a bool tensor, `True` = kept; all have one shape. For each "
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
            "the zeros hold, but you start from a velocity of zero. The kept weights then move less than they would "
            "have: the mask is no reason to forget where they were going",
        ),
        Misconception(
            "True taken for pruned",
            true_taken_for_pruned,
            "you zero the weights that the mask keeps. `True` means kept here, as in PyTorch's own pruning",
        ),
        Misconception(
            "one tensor many times",
            one_tensor_many_times,
            "every entry of your list holds the last weights. Steps in place change one and the same tensor: append a "
            "`clone()`, or make a new tensor in each step",
        ),
    ),
    shows="a mask holds only if it acts on the weight after every step: momentum moves weights without a gradient.",
    derivation=(
        "After the mask w = 0, yet the next step adds -η (μ v + g). With g masked, -η μ v is left, from gradients "
        "before the mask. Only μ v = 0 or a mask on w itself makes it zero. Weight decay alone moves no zero: -η λ · 0."
    ),
    points=2,
)

# --- 05.5 -------------------------------------------------------------------------------------------------------------

Train = Callable[[Tensor], None]


class Training(nn.Module):
    """Pulls a tensor most of the way to a target, in place. A module, because the engine lets modules be."""

    def __init__(self, target: Tensor) -> None:
        super().__init__()
        self.target = target

    def forward(self, weight: Tensor) -> None:
        with torch.no_grad():
            for _ in range(3):
                weight += 0.4 * (self.target - weight)


def ticket(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial.clone()
    train(weight)
    return initial * magnitude_mask(weight, sparsity)


def ticket_by_snapshot(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    snapshot, weight = initial.clone(), initial.clone()
    train(weight)
    smallest = weight.abs().flatten().topk(round(sparsity * weight.numel()), largest=False).indices
    weight.copy_(snapshot)
    weight.view(-1)[smallest] = 0
    return weight


def ticket_by_where(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    trained = torch.tensor(initial.tolist(), dtype=initial.dtype)
    train(trained)
    return torch.where(mask_by_rank(trained, sparsity), initial, 0.0)


def rewound_by_reference(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial
    train(weight)
    return initial * magnitude_mask(weight, sparsity)


def trained_the_initial_ones(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    snapshot = initial.clone()
    train(initial)
    return snapshot * magnitude_mask(initial, sparsity)


def masked_by_initial_magnitudes(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    return initial * magnitude_mask(initial, sparsity)


def not_rewound(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial.clone()
    train(weight)
    return weight * magnitude_mask(weight, sparsity)


def drawn_anew(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = initial.clone()
    train(weight)
    torch.manual_seed(0)
    return torch.randn_like(initial) * magnitude_mask(weight, sparsity)


def mask_never_applied(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    return initial.clone()


def trained_once_more(initial: Tensor, train: Train, sparsity: float) -> Tensor:
    weight = ticket(initial, train, sparsity)
    train(weight)
    return weight


def ticket_cases() -> list[Case]:
    start = torch.tensor([0.6, -0.1, 0.3, -0.2], dtype=torch.float64)
    goal = torch.tensor([0.1, -0.9, 0.4, -0.2], dtype=torch.float64)
    return [
        case(start, Training(goal), 0.5),
        case(draw(3, 4, seed=59, spread=0.5), Training(draw(3, 4, seed=60)), 0.7),
    ]


def ticket_and_its_start(result: Any, case: Case) -> Any:
    """The ticket, and with it the initial weights where they are no longer what they were."""
    initial = case.arguments[0]
    fresh = next(c.arguments[0] for c in ticket_cases() if c.arguments[0].shape == initial.shape)
    return result if torch.equal(initial, fresh) else (result, initial)


TICKET = Exercise(
    id="05.5",
    title="a winning ticket",
    question=(
        "Write `my_ticket(initial, train, sparsity)`. `initial` is a tensor of initial weights. `train(weight)` trains "
        "a tensor *in place* and returns nothing. Train, find the `round(sparsity * n)` weights whose *trained* "
        "absolute values are smallest (there are no ties), and return the ticket: a tensor with 0 there and the "
        "*initial* values everywhere else. Leave `initial` as it is. You may use `magnitude_mask` from "
        "`kdcourse.pruning`."
    ),
    skeleton=(
        "def my_ticket(initial, train, sparsity):\n"
        '    """The initial weights under the mask that training found."""\n    ...'
    ),
    reference=ticket,
    alternatives=(ticket_by_snapshot, ticket_by_where),
    cases=ticket_cases,
    hints=(
        "Two sets of numbers: one says which weights stay, the other what they are set to.",
        "`train` changes the tensor that you hand to it. What do you still need afterwards?",
        "`weight = initial.clone()`, `train(weight)`, and then `initial` times the mask of `weight`.",
    ),
    misconceptions=(
        Misconception(
            "rewind by reference",
            rewound_by_reference,
            "your initial weights were trained: `weight = initial` is a second name, no copy, and training is in "
            "place. `dict(model.state_dict())` does the same. Nothing is rewound. Take a `clone()`",
        ),
        Misconception(
            "the initial weights trained",
            trained_the_initial_ones,
            "the ticket is right, but `initial` itself was trained on the way. The next arm that starts from it, with "
            "a random mask say, starts from trained weights. Train a copy",
        ),
        Misconception(
            "masked by the initial magnitudes",
            masked_by_initial_magnitudes,
            "you rank the initial weights. Before training their sizes are chance; the mask that wins is the one that "
            "training found",
        ),
        Misconception(
            "not rewound",
            not_rewound,
            "you keep the trained values: this is ordinary pruning. The claim is about *starting points*, so the kept "
            "weights go back to their initial values",
        ),
        Misconception(
            "drawn anew",
            drawn_anew,
            "the mask is right, but you draw new initial weights. That is the control of the experiment: it shows "
            "whether the mask alone would do",
        ),
        Misconception(
            "mask never applied",
            mask_never_applied,
            "you return the initial weights whole. A ticket without its mask is just the beginning",
        ),
        Misconception(
            "trained once more",
            trained_once_more,
            "you train the ticket as well. `train` knows no mask, so pruned weights come back. Asked for is the "
            "starting point",
        ),
    ),
    shows="a ticket takes its mask from the trained weights and its values from a copy of the initial ones.",
    derivation=(
        "m = mask of |w_T|, ticket = m ⊙ w_0. w_0 has to be copied before training, which overwrites it. Source: "
        "Frankle, Carbin 2019, arXiv:1803.03635."
    ),
    observe=ticket_and_its_start,
    may_change=True,  # so that a rewind by reference reaches its own diagnosis
    points=2,
)

# --- 05.6 -------------------------------------------------------------------------------------------------------------

Bytes = tuple[int, int]


def masked_and_sparse_bytes(weight: Tensor, *, value_bits: int) -> Bytes:
    value, kept = value_bits // 8, int((weight != 0).sum())
    masked = weight.numel() * value + weight.numel()
    sparse = kept * (value + 2) + 4 * (len(weight) + 1)
    return masked, sparse


def bytes_by_rows(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = 0, 4
    for row in weight.tolist():
        masked += len(row) * (value_bits + 8) // 8
        sparse += 4 + sum(value_bits // 8 + 2 for value in row if value)
    return masked, sparse


def bytes_of_real_tensors(weight: Tensor, *, value_bits: int) -> Bytes:
    rows, columns = weight.nonzero(as_tuple=True)
    starts = torch.zeros(weight.shape[0] + 1, dtype=torch.int32)
    mask, places, values = weight.bool(), columns.to(torch.int16), weight[rows, columns]
    value = value_bits / 8
    return int(value * weight.numel()) + mask.nbytes, int(value * len(values)) + places.nbytes + starts.nbytes


def _kept(weight: Tensor) -> int:
    return int(weight.count_nonzero())


def masked_zeros_take_no_space(weight: Tensor, *, value_bits: int) -> Bytes:
    _, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return _kept(weight) * value_bits // 8 + weight.numel(), sparse


def mask_for_free(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked - weight.numel(), sparse


def mask_of_single_bits(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked - weight.numel() + math.ceil(weight.numel() / 8), sparse


def only_the_values(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, _ = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked, _kept(weight) * value_bits // 8


def row_starts_forgotten(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked, sparse - 4 * (len(weight) + 1)


def one_row_start_too_few(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, sparse = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked, sparse - 4


def row_start_for_every_value(weight: Tensor, *, value_bits: int) -> Bytes:
    masked, _ = masked_and_sparse_bytes(weight, value_bits=value_bits)
    return masked, _kept(weight) * (value_bits // 8 + 2 + 4)


def zeros_stored_too(weight: Tensor, *, value_bits: int) -> Bytes:
    return masked_and_sparse_bytes(torch.ones_like(weight), value_bits=value_bits)


def zeros_counted(weight: Tensor, *, value_bits: int) -> Bytes:
    return masked_and_sparse_bytes((weight == 0).double(), value_bits=value_bits)


def bits_for_bytes(weight: Tensor, *, value_bits: int) -> Bytes:
    return masked_and_sparse_bytes(weight, value_bits=8 * value_bits)


def bytes_cases() -> list[Case]:
    small = torch.tensor([[0.0, 1.5, 0.0, 0.0, 0.0], [2.5, 0.0, -1.0, 0.0, 0.0]], dtype=torch.float64)
    large = draw(20, 30, seed=72)
    return [
        case(small, value_bits=32),
        case(large * magnitude_mask(large, 0.9), value_bits=8),
        case(large * magnitude_mask(large, 0.6), value_bits=16),
    ]


BYTES = Exercise(
    id="05.6",
    title="what zeros save",
    question=(
        "`weight` is a pruned matrix of O rows: a weight of 0 is a pruned one. A value takes `value_bits` bits, a "
        "multiple of 8, whatever the tensor's own dtype. Write `my_bytes(weight, *, value_bits)`: a tuple of two whole "
        "numbers of bytes. First: while it trains, as a dense tensor of values and a mask of its shape, one byte an "
        "entry (`torch.bool`). Second: stored as compressed sparse rows. They hold the value of every weight that is "
        "not 0, the column of each in 2 bytes, and O + 1 row starts of 4 bytes."
    ),
    skeleton=(
        "def my_bytes(weight, *, value_bits):\n"
        '    """Bytes of weight and mask while training, and of compressed sparse rows."""\n    ...'
    ),
    reference=masked_and_sparse_bytes,
    alternatives=(bytes_by_rows, bytes_of_real_tensors),
    cases=bytes_cases,
    hints=(
        "What does a zero cost in a dense tensor? And if it is left out, how does a reader know where it was?",
        "Dense: every weight has a value and a mask entry. Sparse: count the weights that are not 0, and what each "
        "of them needs; then the rows.",
        "With v = value_bits // 8, n weights and k of them not 0: `(n * v + n, k * (v + 2) + 4 * (O + 1))`.",
    ),
    misconceptions=(
        Misconception(
            "masks expected to save memory",
            masked_zeros_take_no_space,
            "you leave the zeros of the dense tensor out. It stores a zero like any number, and multiplies by it: a "
            "mask saves neither memory nor time, and comes on top",
        ),
        Misconception(
            "a mask for free",
            mask_for_free,
            "you forget the mask itself: one byte a weight. Masked training takes *more* memory than dense",
        ),
        Misconception(
            "a mask of single bits",
            mask_of_single_bits,
            "you count one bit an entry. `torch.bool` takes a whole byte; bits have to be packed by hand",
        ),
        Misconception(
            "only the values",
            only_the_values,
            "you count the values alone: '90 % sparse is 10 % of the bytes'. Without columns and row starts nobody "
            "could tell where they belong",
        ),
        Misconception(
            "row starts forgotten",
            row_starts_forgotten,
            "values and columns are there, but no row starts. Nothing says which row a column number belongs to",
        ),
        Misconception(
            "one row start too few",
            one_row_start_too_few,
            "four bytes too few: O rows need O + 1 starts, as a fence needs one post more. The last one says where the "
            "last row ends",
        ),
        Misconception(
            "a row number for every value",
            row_start_for_every_value,
            "you store a row with every value. That is the coordinate format; compressed rows store only where each "
            "row starts",
        ),
        Misconception(
            "zeros stored too",
            zeros_stored_too,
            "you store the zeros as well. That sparse format is larger than the dense one: count what is not 0",
        ),
        Misconception(
            "zeros counted",
            zeros_counted,
            "you count the zeros and store those. What is stored is what is *not* 0",
        ),
        Misconception(
            "bits for bytes",
            bits_for_bytes,
            "a value takes `value_bits` bytes in your sum. Eight bits are one byte",
        ),
    ),
    shows="a mask costs memory, and a sparse format pays for every value it keeps with the place of that value.",
    derivation=(
        "Dense and mask: n · v + n. Compressed rows: k values of v bytes, k columns of 2, O + 1 starts of 4, together "
        "k (v + 2) + 4 (O + 1). At 32 bits and 90 % zeros that is 15 % of the dense bytes and more, not 10 %."
    ),
)

# --- 05.7 -------------------------------------------------------------------------------------------------------------


def break_even(rows: int, columns: int, *, value_bits: int) -> float:
    n, value = rows * columns, value_bits / 8
    kept = (n * value - 4 * (rows + 1)) / (value + 2)
    return 1 - kept / n


def break_even_in_bits(rows: int, columns: int, *, value_bits: int) -> float:
    n = rows * columns
    return float(Fraction(16 * n + 32 * (rows + 1), n * (value_bits + 16)))


def break_even_between_two(rows: int, columns: int, *, value_bits: int) -> float:
    n, value = rows * columns, value_bits // 8
    empty, full = 4 * (rows + 1), 4 * (rows + 1) + n * (value + 2)
    return (full - n * value) / (full - empty)


def any_zero_saves(rows: int, columns: int, *, value_bits: int) -> float:
    return 0.0


def share_kept(rows: int, columns: int, *, value_bits: int) -> float:
    return 1 - break_even(rows, columns, value_bits=value_bits)


def place_as_dear_as_value(rows: int, columns: int, *, value_bits: int) -> float:
    return 0.5


def starts_left_out(rows: int, columns: int, *, value_bits: int) -> float:
    return 2 / (value_bits / 8 + 2)


def columns_left_out(rows: int, columns: int, *, value_bits: int) -> float:
    return 4 * (rows + 1) / (rows * columns * value_bits / 8)


def always_32_bits(rows: int, columns: int, *, value_bits: int) -> float:
    return break_even(rows, columns, value_bits=32)


def bits_taken_for_bytes(rows: int, columns: int, *, value_bits: int) -> float:
    return break_even(rows, columns, value_bits=8 * value_bits)


def break_even_cases() -> list[Case]:
    return [case(10, 50, value_bits=32), case(64, 256, value_bits=8), case(512, 512, value_bits=16)]


BREAK_EVEN = Exercise(
    id="05.7",
    title="from which sparsity on it pays",
    question=(
        "Write `my_break_even(rows, columns, *, value_bits)`: the share of zeros at which a matrix takes as many bytes "
        "in compressed sparse rows as dense. Dense: `value_bits` bits a weight. Sparse: for every weight that is not 0 "
        "`value_bits` bits and a column of 2 bytes; and rows + 1 row starts of 4 bytes. The share need not be one that "
        "whole weights give. In every case here it lies between 0 and 1."
    ),
    skeleton=(
        "def my_break_even(rows, columns, *, value_bits):\n"
        '    """The share of zeros at which sparse rows are as large as dense."""\n    ...'
    ),
    reference=break_even,
    alternatives=(break_even_in_bits, break_even_between_two),
    cases=break_even_cases,
    hints=(
        "Write both sizes down for k kept weights. Which k makes them equal?",
        "With v bytes a value and n weights: n · v = k · (v + 2) + 4 · (rows + 1).",
        "`kept = (n * v - 4 * (rows + 1)) / (v + 2)`. The share of zeros is `1 - kept / n`.",
    ),
    misconceptions=(
        Misconception(
            "any zero saves",
            any_zero_saves,
            "you say that the first zero already saves. A sparse format stores a place for every value it keeps: "
            "nearly dense matrices get larger",
        ),
        Misconception(
            "the share kept",
            share_kept,
            "this is the share of weights that are kept at that point. Sparsity is the share of zeros: 1 minus it",
        ),
        Misconception(
            "half, always",
            place_as_dear_as_value,
            "one half is right where a place costs as much as a value. Here a column takes 2 bytes and a value "
            "`value_bits` bits, so it depends on them",
        ),
        Misconception(
            "row starts left out",
            starts_left_out,
            "nearly right: the row starts are missing. In a small or narrow matrix they weigh most",
        ),
        Misconception(
            "columns left out",
            columns_left_out,
            "the columns are missing: 2 bytes for every weight that is kept. They are the larger part of the price",
        ),
        Misconception(
            "32 bits whatever the values",
            always_32_bits,
            "you compute with 32 bits always. Smaller values leave less to save, while the places cost the same: "
            "quantized weights must be much sparser before it pays",
        ),
        Misconception(
            "bits for bytes",
            bits_taken_for_bytes,
            "a value takes `value_bits` bytes in your sum. Eight bits are one byte; the places then look cheaper than "
            "they are",
        ),
    ),
    shows="the fewer bits a value has, the sparser a matrix must be before storing places pays.",
    derivation=(
        "n v = k (v + 2) + 4 (rows + 1) gives k; the share of zeros is 1 - k/n = (2 + 4 (rows + 1)/n) / (v + 2). For "
        "large matrices: 1/3 at 32 bits, 1/2 at 16, 2/3 at 8."
    ),
    forbidden=("kdcourse.pruning.break_even_sparsity",),
)

EXERCISES = (MAGNITUDE_MASK, PRUNED_WEIGHTS, GLOBAL_MASKS, MASKED_STEPS, TICKET, BYTES, BREAK_EVEN)
