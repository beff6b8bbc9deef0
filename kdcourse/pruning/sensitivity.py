"""How much each weight, and each layer, matters to the loss."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .._base.modes import in_eval_mode
from .._base.weights import Place, hooked, maskable, owners
from ._layers import places
from .masks import layer_magnitude_masks


def taylor_scores(
    model: nn.Module, batch_loss: Callable[[], Tensor], *, layers: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """How much the loss would change without each weight, to first order and squared: (w · dL/dw)².

    ``batch_loss()`` runs the model on a batch and returns the 0-d loss; it is called once, in eval mode, so that
    dropout and batch norm stay quiet. For several batches add up their scores. Gradients, modes and buffers are
    left as they were. w is what the layer computes with, also under masks and quantizers; the gradients of tied
    weights are added. Raises ``ValueError`` naming a layer that is frozen, that a hook computes, or that the loss does
    not depend on.

    Source: Molchanov, Mallya, Tyree, Frosio, Kautz 2019, arXiv:1906.10771, first-order criterion. Differs from the
    authors' code: a score for every weight, not for a filter.

    >>> model, x = nn.Linear(2, 1, bias=False), torch.tensor([[1.0, 3.0]])
    >>> with torch.no_grad():
    ...     _ = model.weight.copy_(torch.tensor([[2.0, 1.0]]))
    >>> taylor_scores(model, lambda: model(x).sum())[""].tolist()  # (2 · 1)² and (1 · 3)²
    [[4.0, 9.0]]
    """
    chosen, ties = places(model, layers), owners(model)
    groups = {name: list(ties[id(place.stored)].values()) for name, place in chosen.items()}
    for name, group in groups.items():
        if not group[0].stored.requires_grad:
            raise ValueError(f"layer {name!r} is frozen: call requires_grad_(True) on it or leave it out")
        if hooked(group[0].module):
            raise ValueError(f"layer {name!r} is computed by {group[0].computed_by}")
    with in_eval_mode(model), torch.enable_grad(), _as_used(groups) as used:
        loss = batch_loss()
    flat = [weight for weights in used.values() for weight in weights if weight.requires_grad]
    gradients = dict(zip(map(id, flat), torch.autograd.grad(loss, flat, allow_unused=True), strict=True))
    scores = {}
    for name, weights in used.items():
        found = [gradient for weight in weights if (gradient := gradients.get(id(weight))) is not None]
        if not found:
            raise ValueError(f"the loss does not depend on layer {name!r}: leave it out, or look at batch_loss")
        scores[name] = (chosen[name].effective.detach() * sum(found)).square()
    return scores


@contextmanager
def _as_used(groups: Mapping[str, Sequence[Place]]) -> Iterator[dict[str, list[Tensor]]]:
    """Collects, inside the block, the tensors that the forward pass multiplies with: parameters, or computed at "
    "each use."""
    used: dict[str, list[Tensor]] = {}
    handles = []
    for name, group in groups.items():
        used[name] = [place.stored for place in group[:1] if not place.steps]
        for place in group:
            if place.steps:
                keep = used[name].append
                handles.append(place.steps.register_forward_hook(lambda steps, given, weight, keep=keep: keep(weight)))
    try:
        yield used
    finally:
        for handle in handles:
            handle.remove()


def sensitivity_scan(
    model: nn.Module,
    measure: Callable[[nn.Module], float],
    sparsities: Sequence[float],
    *,
    layers: Iterable[str] | None = None,
) -> dict[str, list[float]]:
    """What ``measure(model)`` gives with one layer alone pruned by magnitude, to each of ``sparsities`` in turn.

    The model is in eval mode while it is measured. Weights and modes are put back exactly, even when ``measure``
    raises; of a model that carries masks the masks stay.

    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> sensitivity_scan(model, sparsity, [0.0, 0.5])  # measured here: the sparsity of the whole
    {'0': [0.0, 0.3333333333333333], '2': [0.0, 0.16666666666666666]}
    """
    chosen = places(model, layers)
    for name, place in chosen.items():
        if place.computed_by and not maskable(place):
            raise ValueError(f"layer {name!r} is computed by {place.computed_by}")
    masks = {
        name: [layer_magnitude_masks(model, share, layers=[name])[name] for share in sparsities] for name in chosen
    }
    return {name: _measure_masked(model, place.stored, masks[name], measure) for name, place in chosen.items()}


def _measure_masked(
    model: nn.Module, stored: Tensor, masks: Sequence[Tensor], measure: Callable[[nn.Module], float]
) -> list[float]:
    before, measured = stored.detach().clone(), []
    with in_eval_mode(model):
        try:
            for mask in masks:
                with torch.no_grad():
                    stored.copy_(before.masked_fill(~mask, 0))
                measured.append(measure(model))
        finally:
            with torch.no_grad():
                stored.copy_(before)
    return measured
