"""Which weights to prune. A mask is a bool tensor of the weight's shape; True means kept.

Nothing here changes a model for good: `apply_masks` does. Layers are named by their module ("conv1" means its weight)
or, where a module has several, by the parameter ("attention.in_proj_weight"). ``layers=None`` means the weights of
all linear, convolution (also transposed ones) and recurrent layers and of attention, tied ones once; other matrices,
such as embeddings, are left out with a warning that names them, biases and norms without one. They are pruned when
asked for by name: ``layers=["conv1", "norm1", "classes.bias"]``. On a model that carries masks or quantizers the
weights that it computes with are looked at. A sparsity is a fraction of zeros in [0, 1); anything else raises
``ValueError``, as do NaN or infinite weights and unknown layers.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from .._base.checks import check_weight
from ._layers import check_not_emptied, check_sparsity, places


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Prune the round(sparsity · n) weights of smallest absolute value; of equal ones the first in memory order.

    Source: Han, Pool, Tran, Dally 2015, arXiv:1506.02626, section 3, there with a threshold.

    >>> magnitude_mask(torch.tensor([0.3, -0.1, 0.0, -0.9]), 0.5)
    tensor([ True, False, False,  True])
    """
    check_sparsity(sparsity)
    check_weight("weight", weight)
    return _keep_largest(weight.detach().abs(), sparsity)


def random_mask(weight: Tensor, sparsity: float, *, seed: int = 0) -> Tensor:
    """Prune round(sparsity · n) weights drawn at random: the control that any criterion has to beat.

    The same ``seed`` gives the same mask on every device; the global random state is left alone.

    >>> random_mask(torch.ones(10), 0.3, seed=0).sum()
    tensor(7)
    """
    check_sparsity(sparsity)
    check_weight("weight", weight)
    order = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(seed))
    return _keep_largest(order.reshape(weight.shape), sparsity).to(weight.device)


def nm_mask(weight: Tensor, *, n: int = 2, m: int = 4) -> Tensor:
    """Keep the n largest absolute values of every m consecutive inputs; of equal ones the first.

    ``weight`` (O, I) or (O, I, kH, kW): groups run along I, for every output and kernel position by itself, as the
    hardware multiplies; of a transposed convolution, (I, O, ...), pass ``weight.transpose(0, 1)``. Raises
    ``ValueError`` where I is not a multiple of m.

    Source: Mishra et al. 2021, arXiv:2104.08378, for 2:4; Zhou et al. 2021, arXiv:2102.04010, for N:M.

    >>> nm_mask(torch.tensor([[0.1, -0.9, 0.3, -0.2]]))
    tensor([[False,  True,  True, False]])
    """
    check_weight("weight", weight)
    groups = grouped_inputs(weight.detach().abs(), n=n, m=m)
    order = groups.argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter(-1, order[..., :n], True)
    return kept.flatten(-2).movedim(-1, 1).contiguous()


def grouped_inputs(weight: Tensor, *, n: int, m: int) -> Tensor:
    """``weight`` (O, I, ...) as (O, ..., I / m, m)."""
    if not 1 <= n < m:
        raise ValueError(f"n:m must keep at least one of m weights and not all, got {n}:{m}")
    if weight.ndim < 2 or weight.shape[1] % m:
        raise ValueError(
            f"{n}:{m} sparsity needs a weight (O, I, ...) with I a multiple of {m}, got {tuple(weight.shape)}: "
            "leave this layer out"
        )
    inputs_last = weight.movedim(1, -1)
    return inputs_last.reshape(*inputs_last.shape[:-1], -1, m)


def prunable_weights(model: nn.Module, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
    """The weight that each layer computes with, by the layer's name.

    It is the ``nn.Parameter`` itself, or under a mask a masked tensor computed from it.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> list(prunable_weights(model)), list(prunable_weights(model, ["2", "2.bias"]))
    (['0', '2'], ['2', '2.bias'])
    """
    return {name: place.effective for name, place in places(model, layers).items()}


def global_masks(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Prune the round(sparsity · n) lowest of all n scores together: one threshold over every layer.

    ``scores`` holds one tensor of a weight's shape for each layer, larger for what matters more. Raises
    ``ValueError`` naming the layer that would be emptied.

    >>> global_masks({"a": torch.tensor([1.0, 8.0]), "b": torch.tensor([2.0, 9.0, 7.0])}, 0.4)
    {'a': tensor([False,  True]), 'b': tensor([False,  True,  True])}
    """
    check_sparsity(sparsity)
    if not scores:
        raise ValueError("scores is empty: it needs a tensor for every layer to prune")
    for name, score in scores.items():
        check_weight(f"the score of {name!r}", score)
    together = torch.cat([score.detach().flatten() for score in scores.values()])
    parts = _keep_largest(together, sparsity).split([score.numel() for score in scores.values()])
    masks = {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}
    for name, mask in masks.items():
        check_not_emptied(name, mask)
    return masks


def global_magnitude_masks(
    model: nn.Module, sparsity: float, *, layers: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """`global_masks` of the weights' absolute values: layers of small weights lose more.

    >>> masks = global_magnitude_masks(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), 0.5)
    >>> sum(int(mask.sum()) for mask in masks.values())  # of 80
    40
    """
    return global_masks({name: w.detach().abs() for name, w in prunable_weights(model, layers).items()}, sparsity)


def layer_magnitude_masks(
    model: nn.Module, sparsity: float | Mapping[str, float], *, layers: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """`magnitude_mask` of each layer by itself: the same sparsity for all, or a mapping from layer to sparsity.

    With a mapping only the layers that it names get a mask, and ``layers`` must be left out. Raises ``ValueError``
    naming the layer that would be emptied.

    >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> layer_sparsities(layer_magnitude_masks(model, {"0": 0.75, "2": 0.5}))
    {'0': 0.75, '2': 0.5}
    """
    if isinstance(sparsity, Mapping):
        if layers is not None:
            raise ValueError("a mapping of sparsities already names the layers: leave layers=... out")
        weights = prunable_weights(model, sparsity)
        shares = dict(zip(weights, sparsity.values(), strict=True))
    else:
        weights = prunable_weights(model, layers)
        shares = dict.fromkeys(weights, sparsity)
    masks = {name: magnitude_mask(weight, shares[name]) for name, weight in weights.items()}
    for name, mask in masks.items():
        check_not_emptied(name, mask)
    return masks


def sparsity(model_or_masks: nn.Module | Mapping[str, Tensor], *, layers: Iterable[str] | None = None) -> float:
    """Fraction of zeros among the prunable weights, or of pruned ones in a mapping of masks.

    >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> apply_masks(model, layer_magnitude_masks(model, 0.75))
    >>> sparsity(model)
    0.75
    """
    pruned = _pruned(model_or_masks, layers).values()
    return sum(int(zeros.sum()) for zeros in pruned) / sum(zeros.numel() for zeros in pruned)


def layer_sparsities(
    model_or_masks: nn.Module | Mapping[str, Tensor], *, layers: Iterable[str] | None = None
) -> dict[str, float]:
    """`sparsity` of each layer by its name.

    >>> layer_sparsities({"a": torch.tensor([True, False]), "b": torch.tensor([True])})
    {'a': 0.5, 'b': 0.0}
    """
    return {name: int(zeros.sum()) / zeros.numel() for name, zeros in _pruned(model_or_masks, layers).items()}


def polynomial_sparsity(
    progress: float, *, final: float, initial: float = 0.0, begin: float = 0.0, end: float = 1.0
) -> float:
    """Sparsity to prune to when the fraction ``progress`` of training is done: fast at first, then ever slower.

    final + (initial - final) · (1 - (progress - begin) / (end - begin))³ between ``begin`` and ``end``, which are
    fractions of training; ``initial`` before, ``final`` after. All are in [0, 1], sparsities below 1.

    Source: Zhu, Gupta 2017, arXiv:1710.01878, equation 1.

    >>> [round(polynomial_sparsity(progress, final=0.8), 3) for progress in (0.0, 0.5, 1.0)]
    [0.0, 0.7, 0.8]
    """
    check_sparsity(initial, "initial")
    check_sparsity(final, "final")
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress must be the fraction of training done, in [0, 1], got {progress}")
    if not 0.0 <= begin < end <= 1.0:
        raise ValueError(f"need 0 <= begin < end <= 1, fractions of training, got {begin} and {end}")
    left = 1 - min(max((progress - begin) / (end - begin), 0.0), 1.0)
    return final + (initial - final) * left**3


def _keep_largest(scores: Tensor, sparsity: float) -> Tensor:
    pruned = round(sparsity * scores.numel())
    # a stable sort, unlike topk, settles ties by position: the same on every machine, and nested in sparsity
    order = scores.flatten().argsort(stable=True)
    kept = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    kept[order[:pruned]] = False
    return kept.reshape(scores.shape)


def _pruned(model_or_masks: nn.Module | Mapping[str, Tensor], layers: Iterable[str] | None) -> dict[str, Tensor]:
    if isinstance(model_or_masks, nn.Module):
        return {name: weight == 0 for name, weight in prunable_weights(model_or_masks, layers).items()}
    names = list(model_or_masks if layers is None else layers)
    if not names or not set(names) <= set(model_or_masks):
        raise ValueError(f"cannot count {names}: there are masks for {list(model_or_masks)}")
    return {name: model_or_masks[name] == 0 for name in names}
