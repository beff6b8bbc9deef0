"""Structured pruning: whole channels, with everything that belongs to them. `groups` finds what that is."""

import copy
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .groups import Example, Group, channel_groups

Kind = Literal["l1", "l2", "batch_norm", "taylor", "random"]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def channel_scores(
    model: nn.Module,
    kind: Kind,
    *,
    example: Example,
    batch_loss: Callable[[], Tensor] | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """How much each channel seems to matter, (channels,) on the CPU for every prunable group; coupled layers are added.

    - "l1", "l2": norm of the filter, Σ|w| or √Σw², biases left out (Li et al. 2017, arXiv:1608.08710)
    - "batch_norm": |γ|, the scale after the filter (Liu et al. 2017, arXiv:1708.06519)
    - "taylor": (∂L/∂z)², with L = ``batch_loss()`` and z = 1 a gate that multiplies the channel. It is (γ·∂L/∂γ +
      β·∂L/∂β)² at each batch norm of a group; where there is none, (Σ w·∂L/∂w + b·∂L/∂b)² at each of its layers
      (Molchanov et al. 2019, arXiv:1906.10771). ``batch_loss`` runs `model` as it stands, in train or eval mode.
    - "random": uniform numbers from ``seed``, the control

    Raises ``ValueError`` for a group without batch norms ("batch_norm") or a loss its weights do not reach ("taylor").

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> with torch.no_grad():
    ...     _ = model[0].weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.5], [3.0, 0.0]]))
    >>> channel_scores(model, "l1", example=torch.zeros(1, 2))
    {'0': tensor([2.0000, 0.5000, 3.0000])}
    """
    groups = [group for group in channel_groups(model, example) if group.prunable]
    if kind == "taylor":
        return _taylor_scores(model, groups, batch_loss)
    if kind == "random":
        generator = torch.Generator().manual_seed(seed)
        return {group.name: torch.rand(group.channels, generator=generator) for group in groups}
    if kind not in ("l1", "l2", "batch_norm"):
        raise ValueError(f"kind must be l1, l2, batch_norm, taylor or random, got {kind!r}")
    scores = {}
    for group in groups:
        filters, norms = _layers_with_filters(model, group), _batch_norms(model, group)
        if kind == "batch_norm" and not norms:
            raise ValueError(f"group {group.name!r} has no batch norm with a scale: score it with 'l1' or 'l2'")
        if kind == "batch_norm":
            terms = [norm.weight.detach().abs().reshape(group.channels, -1).sum(dim=1) for norm in norms]
        else:
            order = 1 if kind == "l1" else 2
            terms = [layer.weight.detach().flatten(1).norm(p=order, dim=1) for layer in filters]
        scores[group.name] = torch.stack(terms).sum(dim=0).cpu()
    return scores


def best_channels(
    scores: Mapping[str, Tensor], share: float | Mapping[str, float], *, across_groups: bool = False
) -> dict[str, Tensor]:
    """Sorted indices of the highest scores of each group: round(share · channels) of them, halves up, at least one.

    ``share`` in (0, 1] is what is kept; a mapping gives it by group, and a group it does not name stays whole.
    With ``across_groups`` the share is one of all channels together, after the best of each group: groups whose
    scores are larger keep more, so the scores must be comparable between layers. Of equal scores the first wins.

    >>> best_channels({"conv1": torch.tensor([0.1, 0.5, 0.3, 0.9])}, 0.5)
    {'conv1': tensor([1, 3])}
    """
    for name, values in scores.items():
        if values.ndim != 1 or len(values) == 0 or not values.isfinite().all():
            raise ValueError(f"scores of {name!r} must be finite numbers (channels,), got shape {tuple(values.shape)}")
    if isinstance(share, Mapping):
        if across_groups:
            raise ValueError("across_groups takes one share for all groups: give a number, or leave across_groups out")
        for name in share:
            _check_known(name, scores)
    shares = share if isinstance(share, Mapping) else dict.fromkeys(scores, share)
    for name, value in shares.items():
        if not 0 < value <= 1:
            raise ValueError(f"the share to keep of {name!r} must be in (0, 1], got {value}")
    if across_groups:
        return _best_of_all(scores, shares)
    return {name: _highest(values, _count(shares.get(name, 1.0), len(values))) for name, values in scores.items()}


def mask_filters(model: nn.Module, kept: Mapping[str, Tensor], *, example: Example) -> nn.Module:
    """A copy of `model` in which the channels that are not ``kept`` are exactly zero in what the next layers read.

    Filter, bias, and the batch norm's scale and shift become 0: with the filter alone at zero, relu(shift) is left.
    It computes what `prune_filters` computes, with nothing saved. Training it can bring the channels back.
    ``kept`` and what is raised: see `prune_filters`.

    >>> model, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.ones(1, 2)
    >>> masked = mask_filters(model, {"0": torch.tensor([0, 2])}, example=x)
    >>> masked[0].weight[1], masked[0].bias[1]
    (tensor([0., 0.], grad_fn=<SelectBackward0>), tensor(0., grad_fn=<SelectBackward0>))
    """
    groups = _chosen(channel_groups(model, example), kept)
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for group, indices in groups:
            for name, features in _own(group):
                removed = torch.ones(group.channels, dtype=torch.bool)
                removed[indices] = False
                for parameter in masked.get_submodule(name).parameters():
                    parameter[removed.repeat_interleave(features).to(parameter.device)] = 0
    return masked


def prune_filters(model: nn.Module, kept: Mapping[str, Tensor], *, example: Example) -> nn.Module:
    """A smaller network of the same kind with only the ``kept`` channels; `model` is left as it was.

    ``kept``: int64 indices of the channels to keep, by the group's name; a group that is not named stays whole.
    Its filters, its batch norms with their statistics, its depthwise convolutions and the inputs of the layers that
    read it shrink together. Modes, ``requires_grad``, dtype and memory format stay; the sizes in ``.architecture``,
    where the model has one, are brought up to date. Make the optimizer afterwards: the parameters are new ones.

    Raises ``ValueError`` for an unknown group, one that is not prunable or would be emptied, an index out of range
    or given twice, and a network that `channel_groups` cannot follow.

    >>> model, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.ones(1, 2)
    >>> prune_filters(model, {"0": torch.tensor([0, 2])}, example=x)
    Sequential(
      (0): Linear(in_features=2, out_features=2, bias=True)
      (1): ReLU()
      (2): Linear(in_features=2, out_features=1, bias=True)
    )
    """
    every = channel_groups(model, example)
    groups = _chosen(every, kept)
    slim = copy.deepcopy(model)
    for group, indices in groups:
        for name, features in _own(group):
            _keep_outputs(slim.get_submodule(name), _features(indices, features))
        for name, features in group.readers:
            _keep_inputs(slim.get_submodule(name), _features(indices, features))
    _update_architecture(slim, every, {group.name: len(indices) for group, indices in groups})
    return slim


def _taylor_scores(model: nn.Module, groups: list[Group], batch_loss: Callable[[], Tensor] | None) -> dict[str, Tensor]:
    if batch_loss is None:
        raise ValueError("'taylor' needs batch_loss, a function that runs the model on a batch and returns its loss")
    # before a batch norm in train mode the gate would always score 0: the norm undoes any scale
    gated = [_batch_norms(model, group) or _layers_with_filters(model, group) for group in groups]
    parameters = [parameter for layers in gated for layer in layers for parameter in layer.parameters()]
    if not all(parameter.requires_grad for parameter in parameters):
        raise ValueError("'taylor' needs gradients, and some weights have requires_grad=False: unfreeze the model")
    found = torch.autograd.grad(batch_loss(), parameters, allow_unused=True) if parameters else ()
    if any(gradient is None for gradient in found):
        raise ValueError("batch_loss does not depend on every prunable layer: does it run this very model?")
    products = iter([(parameter.detach() * gradient) for parameter, gradient in zip(parameters, found, strict=True)])
    scores = {}
    for group, layers in zip(groups, gated, strict=True):
        gates = [
            sum(next(products).reshape(group.channels, -1).sum(dim=1) for _ in layer.parameters()) for layer in layers
        ]
        scores[group.name] = torch.stack(gates).square().sum(dim=0).cpu()
    return scores


def _layers_with_filters(model: nn.Module, group: Group) -> list[Any]:
    layers = [model.get_submodule(name) for name, _ in _own(group)]
    return [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]


def _batch_norms(model: nn.Module, group: Group) -> list[Any]:
    layers = [model.get_submodule(name) for name, _ in group.passengers]
    return [layer for layer in layers if isinstance(layer, BATCH_NORMS) and layer.affine]


def _own(group: Group) -> list[tuple[str, int]]:
    """Layers whose output channels are the group's, with the features a channel has there."""
    return [(name, 1) for name in group.outputs] + [(name, features) for name, features in group.passengers]


def _count(share: float, channels: int) -> int:
    return max(1, math.floor(share * channels + 0.5))


def _highest(values: Tensor, count: int) -> Tensor:
    return values.sort(descending=True, stable=True).indices[:count].sort().values


def _best_of_all(scores: Mapping[str, Tensor], shares: Mapping[str, float]) -> dict[str, Tensor]:
    if not scores:
        return {}
    total = _count(next(iter(shares.values())), sum(map(len, scores.values())))
    lifted = []
    for values in scores.values():
        values = values.double().clone()
        values[values.argmax()] = math.inf  # the best of each group comes first
        lifted.append(values)
    winners = _highest(torch.cat(lifted), max(total, len(scores)))
    chosen = torch.zeros(sum(map(len, lifted)), dtype=torch.bool)
    chosen[winners] = True
    parts = chosen.split([len(values) for values in lifted])
    return {name: part.nonzero().flatten() for name, part in zip(scores, parts, strict=True)}


def _chosen(groups: list[Group], kept: Mapping[str, Tensor]) -> list[tuple[Group, Tensor]]:
    """The groups that ``kept`` names, each with its checked and sorted indices."""
    by_name = {group.name: group for group in groups}
    first = {name: group.name for group in groups for name in group.outputs[1:]}
    chosen = []
    for name, indices in kept.items():
        if name in first:
            raise ValueError(f"{name!r} is tied to {first[name]!r}: give the channels to keep under that name")
        _check_known(name, by_name)
        group = by_name[name]
        if not group.prunable:
            raise ValueError(f"group {name!r} cannot be pruned: {group.reason}; leave it out of kept")
        _check_indices(group, indices)
        chosen.append((group, indices.sort().values.cpu()))
    return chosen


def _check_indices(group: Group, indices: Tensor) -> None:
    what = f"kept[{group.name!r}]"
    if not isinstance(indices, Tensor) or indices.dtype != torch.int64 or indices.ndim != 1:
        raise ValueError(f"{what} must be a tensor of int64 channel indices (kept,); a mask: mask.nonzero().flatten()")
    if len(indices) == 0:
        raise ValueError(f"group {group.name!r} would be emptied: keep at least one of its {group.channels} channels")
    if indices.min() < 0 or indices.max() >= group.channels:
        raise ValueError(f"{what} must be within 0 .. {group.channels - 1}, got {indices.tolist()}")
    if len(indices.unique()) < len(indices):
        raise ValueError(f"{what} names a channel twice: {indices.tolist()}")


def _check_known(name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known
        raise ValueError(f"no group is named {name!r}; nearest: {', '.join(nearest)}")


def _features(channels: Tensor, features: int) -> Tensor:
    """Indices of the features that belong to the channels: flatten puts those of one channel side by side."""
    return (channels[:, None] * features + torch.arange(features)).flatten()


def _keep_outputs(layer: Any, indices: Tensor) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        _select(layer, name, 0, indices)
    if isinstance(layer, nn.Conv2d):
        layer.out_channels = len(indices)
        if layer.groups > 1:
            layer.in_channels = layer.groups = len(indices)
    elif isinstance(layer, nn.Linear):
        layer.out_features = len(indices)
    else:
        layer.num_features = len(indices)


def _keep_inputs(layer: Any, indices: Tensor) -> None:
    _select(layer, "weight", 1, indices)
    if isinstance(layer, nn.Conv2d):
        layer.in_channels = len(indices)
    else:
        layer.in_features = len(indices)


def _select(layer: nn.Module, name: str, dimension: int, indices: Tensor) -> None:
    """Replace a parameter or buffer by its part, with what else there is to know of it unchanged."""
    whole = getattr(layer, name, None)
    if whole is None:
        return
    part = whole.detach().index_select(dimension, indices.to(whole.device))
    if whole.ndim == 4 and whole.is_contiguous(memory_format=torch.channels_last) and not whole.is_contiguous():
        part = part.contiguous(memory_format=torch.channels_last)
    if isinstance(whole, nn.Parameter):
        part = nn.Parameter(part, requires_grad=whole.requires_grad)
    setattr(layer, name, part)


def _update_architecture(model: nn.Module, groups: list[Group], kept: Mapping[str, int]) -> None:
    """Bring the list of sizes in ``model.architecture`` up to date where it lists the prunable groups in order."""
    architecture = getattr(model, "architecture", None)
    if not isinstance(architecture, dict):
        return
    prunable = [group for group in groups if group.prunable]
    for key in ("channels", "hidden"):
        if architecture.get(key) == [group.channels for group in prunable]:
            architecture[key] = [kept.get(group.name, group.channels) for group in prunable]
