"""14.8 one weight again."""

import math

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer
from .common import drawn_factors, table


def merged(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    update = (alpha / len(down) * (up @ down)).reshape(weight.shape)
    if mask is not None:
        update = torch.where(mask, update, 0)
    return weight + update


def merged_as_a_matrix(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    whole = torch.addmm(weight.flatten(1), up, down, alpha=alpha / up.shape[1]).view_as(weight)
    return whole if mask is None else whole * mask


def merged_entry_by_entry(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    total = weight.clone()
    update = torch.einsum("nr,rm->nm", up, down).reshape(weight.shape) * alpha / down.shape[0]
    kept = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask
    total[kept] += update[kept]
    return total


def _update(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    return (scale * (up @ down)).reshape(weight.shape)


def _kept(update: Tensor, mask: Tensor | None) -> Tensor:
    return update if mask is None else update * mask


def _merged(weight: Tensor, down: Tensor, up: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    return weight + _kept(_update(weight, down, up, scale), mask)


def scale_lost(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, 1.0, mask)


def rank_missing(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, alpha, mask)


def root_of_the_rank(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, alpha / math.sqrt(len(down)), mask)


def merged_twice(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, 2 * alpha / len(down), mask)


def scale_squared(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, (alpha / len(down)) ** 2, mask)


def divided_by_the_outputs(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, alpha / len(up), mask)


def subtracted(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, -alpha / len(down), mask)


def nothing_added(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return weight.clone()


def update_alone(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _kept(_update(weight, down, up, alpha / len(down)), mask)


def mask_ignored(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, alpha / len(down), None)


def mask_inverted(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, alpha / len(down), None if mask is None else ~mask)


def zeros_for_the_mask(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, alpha / len(down), weight != 0)


def zeros_for_the_mask_if_any(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return _merged(weight, down, up, alpha / len(down), None if mask is None else weight != 0)


def whole_rows_kept(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    update = _update(weight, down, up, alpha / len(down))
    if mask is None:
        return weight + update
    untouched = mask.flatten(1).all(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
    return weight + update * untouched


def rescaled(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    kept = 1.0 if mask is None else mask.double().mean().item()
    return _merged(weight, down, up, alpha / len(down) / kept, mask)


def averaged(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    return torch.lerp(weight, _merged(weight, down, up, alpha / len(down), mask), 0.5)


def filters_last(weight: Tensor, down: Tensor, up: Tensor, *, alpha: float, mask: Tensor | None) -> Tensor:
    update = alpha / len(down) * (up @ down)
    if weight.ndim == 4:
        n, channels, height, width = weight.shape
        update = update.reshape(n, height, width, channels).permute(0, 3, 1, 2)
    return weight + _kept(update, mask)


WRONG = (
    Misconception(
        "the scale lost",
        scale_lost,
        "the scale alpha / r is lost in the merge. No error is raised, but the outputs change, unless alpha equals the "
        "rank",
    ),
    Misconception(
        "the rank missing",
        rank_missing,
        "you multiply by alpha alone. The layer was trained with alpha / r, so that is what it computes",
    ),
    Misconception(
        "root of the rank",
        root_of_the_rank,
        "you divide alpha by the root of the rank. The layer was trained with alpha / r",
    ),
    Misconception(
        "merged twice",
        merged_twice,
        "you add the update twice. That happens, too, when a merged layer keeps its adapter",
    ),
    Misconception(
        "the scale squared",
        scale_squared,
        "the scale is in there twice: the product of the factors has it once",
    ),
    Misconception(
        "the outputs for the rank",
        divided_by_the_outputs,
        "you divide alpha by the number of outputs: `len(up)` is n. The rank is `len(down)`",
    ),
    Misconception(
        "subtracted",
        subtracted,
        "you subtract the update. That is how a merged adapter is taken out again",
    ),
    Misconception(
        "nothing added",
        nothing_added,
        "this is the weight without its update: what was trained is lost",
    ),
    Misconception(
        "the update alone",
        update_alone,
        "this is the update alone. An adapter adds to a weight and does not replace it: return the sum",
    ),
    Misconception(
        "the mask ignored",
        mask_ignored,
        "right without a mask. With one the update fills the zeros of the pruned layer, and it is dense again",
    ),
    Misconception(
        "the mask inverted",
        mask_inverted,
        "you add the update where the mask is False. True means kept",
    ),
    Misconception(
        "zeros taken for the mask",
        zeros_for_the_mask,
        "you add nothing where the weight is 0. A weight may be 0 without being pruned: only the mask knows",
    ),
    Misconception(
        "zeros taken for the mask, where there is one",
        zeros_for_the_mask_if_any,
        "with a mask you add nothing where the weight is 0. A weight may be 0 without being pruned: use the mask "
        "itself",
    ),
    Misconception(
        "pruned rows left out",
        whole_rows_kept,
        "you update only the rows in which nothing was pruned. The mask is entry by entry",
    ),
    Misconception(
        "made up for the zeros",
        rescaled,
        "you divide by the fraction that is kept, as dropout does. The update was trained with the mask: add it as "
        "it is",
    ),
    Misconception(
        "averaged",
        averaged,
        "this is the mean of the weight with and without its update: add all of it",
    ),
    Misconception(
        "the channels last",
        filters_last,
        "right for a matrix. A filter's numbers are in the order of the weight, channels first: "
        "`reshape(weight.shape)` is all it takes",
    ),
)


def _merge_case(seed: int, shape: list[int], rank: int, alpha: float, *, masked: bool) -> Case:
    """A pruned weight, or one that is not; in both some entries are 0 that the update may change."""
    weight = draw(*shape, seed=seed)
    columns = weight[0].numel()
    weight[-1] = torch.where(draw(*shape[1:], seed=seed + 5) > 1, 0.0, weight[-1])
    weight.view(-1)[0] = 0.0  # exactly 0, and not pruned
    mask = draw(*shape, seed=seed + 3) > -1
    mask.view(-1)[0], mask.view(-1)[1] = True, False
    factors = draw(rank, columns, seed=seed + 1, spread=1.0), draw(shape[0], rank, seed=seed + 2, spread=1.0)
    return case(weight * mask if masked else weight, *factors, alpha=alpha, mask=mask if masked else None)


def merge_cases() -> list[Case]:
    half = _merge_case(60, [4, 5], 2, 3.0, masked=True)
    return [
        case(table([[0.5, -1.0]]), table([[2.0, 1.0]]), table([[3.0]]), alpha=4.0, mask=None),
        _merge_case(10, [3, 4], 2, 3.0, masked=False),
        _merge_case(20, [4, 3], 2, 5.0, masked=True),
        _merge_case(30, [3, 2, 2, 3], 2, 1.0, masked=True),  # a convolution
        _merge_case(40, [2, 3, 3, 3], 1, 8.0, masked=False),
        _merge_case(50, [3, 3], 3, 2.0, masked=True),  # square
        case(*(part.float() for part in half.arguments), **half.keywords),
    ]


def drawn_merge(g: torch.Generator) -> Case:
    rank, m, n = drawn_factors(g)
    shape = [n, m] if integer(g, 0, 1) else [n, m, integer(g, 1, 2), integer(g, 1, 3)]
    masked = bool(integer(g, 0, 1))
    return _merge_case(integer(g, 100, 9999), shape, rank, integer(g, 1, 30) / 2, masked=masked)


EXERCISE = Exercise(
    id="14.8",
    title="one weight again",
    question=(
        "An adapter was trained, and the layer is to be shipped as one weight. `weight` has the shape (n, m), or that "
        "of a convolution, (n, channels, height, width), whose filters count as rows of m = channels · height · width "
        "numbers. `down` is (r, m), `up` is (n, r). Write `my_merged(weight, down, up, *, alpha, mask)`: a new tensor, "
        "the weight plus (alpha / r) · up · down, in the shape of `weight`. `mask` is None, or for a pruned layer a "
        "tensor of booleans in that shape. With None the update is added everywhere. Where the mask is False, the "
        "weight is 0 and stays 0; where it is True, the update is added, also to a weight that happens to be 0. Leave "
        "all arguments as they are."
    ),
    skeleton=(
        "def my_merged(weight, down, up, *, alpha, mask):\n"
        '    """The weight that computes what the layer and its update do together."""\n    ...'
    ),
    reference=merged,
    alternatives=(merged_as_a_matrix, merged_entry_by_entry),
    cases=merge_cases,
    drawn=drawn_merge,
    hints=(
        "The merged layer has to compute exactly what the layer with its adapter did, the scale included.",
        "`up @ down` is a matrix (n, m): reshape it to the weight's shape. Then decide where it may be added.",
        "`update = (alpha / len(down) * (up @ down)).reshape(weight.shape)`; with a mask `torch.where(mask, update, "
        "0)`; return `weight + update`.",
    ),
    misconceptions=WRONG,
    shows=(
        "a merged adapter costs nothing at inference, and a pruned layer stays pruned only if the mask is applied to "
        "it."
    ),
    derivation=(
        "W x + s B (A x) = (W + s B A) x for all x. B A is dense: without the mask every zero of a pruned weight is "
        "filled. Source: Hu et al. 2022, arXiv:2106.09685, section 4.1."
    ),
    forbidden=("kdcourse.lowrank.merge_lora",),
)
