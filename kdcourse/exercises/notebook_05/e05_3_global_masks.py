"""05.3 one threshold for all layers."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .e05_1_magnitude_mask import magnitude_mask

Weights = dict[str, Tensor]


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
    last = [-1.0, *ranked][round(sparsity * len(ranked))]
    return {name: weights[name].abs() > last for name in names}


def same_share_everywhere(weights: Weights, sparsity: float) -> Weights:
    return {name: magnitude_mask(weight, sparsity) for name, weight in weights.items() if weight.ndim >= 2}


def _as_rows(weights: Weights) -> Weights:
    return {name: weight if weight.ndim >= 2 else weight.reshape(1, -1) for name, weight in weights.items()}


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
    each = [[-1.0, *sorted(w.flatten().tolist())][round(sparsity * w.numel())] for w in chosen.values()]
    return {name: weight > sum(each) / len(each) for name, weight in chosen.items()}


def scaled_by_layer(weights: Weights, sparsity: float) -> Weights:
    scaled = {name: weight / weight.norm() for name, weight in weights.items() if weight.ndim >= 2}
    return global_masks(scaled, sparsity)


def largest_pruned_everywhere(weights: Weights, sparsity: float) -> Weights:
    return {name: ~mask for name, mask in masks_split_again(weights, 1 - sparsity).items()}


def others_kept_whole(weights: Weights, sparsity: float) -> Weights:
    return {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()} | global_masks(weights, sparsity)


def only_matrices(weights: Weights, sparsity: float) -> Weights:
    return global_masks({name: weight for name, weight in weights.items() if weight.ndim == 2}, sparsity)


def true_for_the_pruned(weights: Weights, sparsity: float) -> Weights:
    return {name: ~mask for name, mask in global_masks(weights, sparsity).items()}


def by_value(weights: Weights, sparsity: float) -> Weights:
    lowest = min(weight.min().item() for weight in weights.values())
    return global_masks({name: weight - lowest for name, weight in weights.items()}, sparsity)


def all_pruned_for_none(weights: Weights, sparsity: float) -> Weights:
    n = sum(weight.numel() for weight in weights.values() if weight.ndim >= 2)
    return masks_split_again(weights, sparsity if round(sparsity * n) else 1.0)


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
    larger["norm1.num_batches_tracked"] = torch.tensor(0.3, dtype=torch.float64)  # no dimension at all
    return [case(small, 0.5), case(larger, 0.6), case(small, 0.0)]


def drawn_layers(g: torch.Generator) -> Case:
    shapes = {"first.weight": (integer(g, 2, 4), 3), "first.bias": (4,), "last.weight": (2, integer(g, 2, 4), 2)}
    return case({name: draw(*shape, seed=g) for name, shape in shapes.items()}, integer(g, 1, 9) / 10)


EXERCISE = Exercise(
    id="05.3",
    title="one threshold for all layers",
    question=(
        "`weights` is a dictionary from names such as `conv1.weight`, `conv1.bias`, `norm1.weight` to tensors. Write "
        "`my_global_masks(weights, sparsity)`: a dictionary from name to mask (bool, `True` = kept, the tensor's "
        "shape), for tensors of *two or more dimensions* only. With n the number of all their weights together, the "
        "`round(sparsity * n)` of smallest absolute value are pruned, wherever they are. Biases and norms, which have "
        "one dimension, neither count nor appear. There are no ties. Where that number is 0, everything is kept."
    ),
    skeleton=(
        "def my_global_masks(weights, sparsity):\n"
        '    """A mask for every tensor of two or more dimensions, by one threshold."""\n    ...'
    ),
    reference=global_masks,
    alternatives=(masks_split_again, masks_by_ranked_list),
    cases=global_cases,
    drawn=drawn_layers,
    hints=(
        "Which tensors take part? And how many rankings are there, one for each or one for all?",
        "Keep the tensors with `ndim >= 2`, then `torch.cat` all their absolute values, flattened, into one vector.",
        "`threshold = together.sort().values[round(sparsity * len(together))]`, and each mask is "
        "`weight.abs() >= threshold`.",
    ),
    misconceptions=(
        Misconception(
            "the same fraction of each layer",
            same_share_everywhere,
            "you prune the same fraction of every layer. A small layer that everything passes through then loses "
            "as much as a large one with weights to spare. The question asks for one ranking",
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
            "you go by the name, and a batch norm's scale is also called `weight`. Where it becomes 0 the whole "
            "channel dies silently. Go by the number of dimensions",
        ),
        Misconception(
            "biases counted",
            biases_counted,
            "the result leaves biases and norms out, but your threshold was found with them. The weights then get "
            "another sparsity than the requested one",
        ),
        Misconception(
            "the mean of the thresholds",
            mean_of_thresholds,
            "you average the thresholds of the layers. Each layer counts equally in that mean, however many weights it "
            "has, so the sparsity is not the requested one",
        ),
        Misconception(
            "scaled layer by layer",
            scaled_by_layer,
            "you divide each layer by its norm before you rank. That is another criterion, though it has its friends: "
            "here absolute values are compared directly",
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
        Misconception(
            "only matrices",
            only_matrices,
            "you take tensors of exactly two dimensions. The weight of a convolution has four: `ndim >= 2`",
        ),
        Misconception(
            "True for the pruned",
            true_for_the_pruned,
            "your masks are inverted: `True` is where weights are pruned",
        ),
        Misconception(
            "by value",
            by_value,
            "you rank by value, so the most negative weights go first. Rank the absolute values",
        ),
        Misconception(
            "all pruned for none",
            all_pruned_for_none,
            "right, except where no weight is to be pruned: `values[k - 1]` is then `values[-1]`, the largest, and "
            "all weights go",
        ),
    ),
    shows="one ranking over all layers lets those with small weights lose more, and biases and norms stay out of it.",
    derivation=(
        "Sort the n magnitudes of all layers together; with p = round(sparsity · n) the weights from rank p on stay. "
        "Layers whose weights are small end up sparser than the others."
    ),
    points=2,
)
