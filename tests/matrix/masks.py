"""Masks, what is counted of them, and channels removed: how they are applied and what must hold."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kdcourse import pruning

from . import oracles
from .judging import Failed, Twin, demand, named, near, said_of

HALF = 0.5
Masks = dict[str, Tensor]
Way = tuple[Callable[[Twin], Any], Callable[[Twin, Any, str], None]]
"""How a helper is applied, and its check."""


def masking(make: Callable[[Twin], Masks], by_hand: Callable[[Twin, Masks], Masks]) -> Way:
    """Act and check of a maker of masks, followed by `apply_masks`."""

    def act(twin: Twin) -> Masks:
        masks = make(twin)
        pruning.apply_masks(twin.real, masks)
        return masks

    def check(twin: Twin, masks: Masks, said: str) -> None:
        wanted = by_hand(twin, {name: oracles.effective(twin.plain, name) for name in masks})
        for name, mask in masks.items():
            demand(torch.equal(mask.cpu(), wanted[name]), f"the mask of {name!r} is not that made by hand")
        if by_hand is not by_group:
            left_out(twin, masks, said)
        zero(twin, wanted)
        twin.hold(twin.real, "masked")
        keep_zero_in_training(twin)

    return act, check


def left_out(twin: Twin, layers: Any, said: str, what: str = "weights") -> None:
    """Every weight matrix that is not among ``layers`` must have been named."""
    covered = {id(getattr(*oracles.place(twin.plain, name))) for name in layers}
    left = [name for name, value in twin.plain.named_parameters() if value.ndim > 1 and id(value) not in covered]
    said_of(left, said, what)
    demand(left or not said, f"a warning, and nothing left out: {said}")


def zero(twin: Twin, masks: Masks) -> None:
    """Zero by hand; a weight that is rounded is masked first, and gets its scale anew."""
    for name, mask in masks.items():
        weight = oracles.effective(twin.plain, name)
        if name in twin.before_rounding:
            before, rounding = twin.before_rounding[name]
            twin.before_rounding[name] = before.masked_fill(~mask, 0), rounding
            weight.copy_(rounding(twin.before_rounding[name][0]))
        else:
            weight.masked_fill_(~mask, 0)
    twin.masks |= masks


def keep_zero_in_training(twin: Twin) -> None:
    """Trained on, a copy keeps its zeros, and computes with the weights that it shows."""
    trained = copy_of(twin.real)
    oracles.shake(trained, twin.example, twin.loss)
    for name, mask in twin.masks.items():
        demand(not oracles.effective(trained, name)[~mask].any(), f"pruned weights of {name!r} came back in training")
    alone = twin.aside()
    alone.plain = oracles.strip(trained).double()
    alone.hold(trained, "trained while masked")


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy; PyTorch's older weight norm can be copied only after a forward pass without gradient."""
    for part in model.modules():
        for hook in part._forward_pre_hooks.values():
            if name := oracles.computed_by(hook):
                setattr(part, name, getattr(part, name).detach())
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise Failed(f"it can no longer be copied: {error}") from error


def by_layer(twin: Twin, weights: Masks) -> Masks:
    return {name: oracles.smallest(weight.abs(), HALF) for name, weight in weights.items()}


def together(twin: Twin, scores: Masks) -> Masks:
    kept = oracles.smallest(torch.cat([score.abs().flatten() for score in scores.values()]), HALF)
    parts = kept.split([score.numel() for score in scores.values()])
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def drawn(twin: Twin, weights: Masks) -> Masks:
    """Any half: the draw is the helper's own, so it is made again by the name of the seed alone."""
    found = {name: pruning.random_mask(torch.ones(weight.shape), HALF) for name, weight in weights.items()}
    for name, mask in found.items():
        demand(int((~mask).sum()) == round(HALF * mask.numel()), f"not half of {name!r} is pruned")
    return found


def two_of_four(twin: Twin) -> Masks:
    weights = pruning.prunable_weights(twin.real)
    fit = {name: weight for name, weight in weights.items() if weight.ndim > 1 and weight.shape[1] % 4 == 0}
    return {name: pruning.nm_mask(weight) for name, weight in fit.items()}


def by_group(twin: Twin, weights: Masks) -> Masks:
    return {name: oracles.two_of_four(weight) for name, weight in weights.items()}


def taylor(twin: Twin) -> Masks:
    return pruning.taylor_scores(twin.real, lambda: twin.loss(run_as_is(twin.real, twin.example)))


def taylor_by_hand(twin: Twin, weights: Masks) -> Masks:
    alone = twin.aside()
    loss = twin.loss(alone.expected())
    leaves = [getattr(*oracles.place(alone.plain, name)) for name in weights]
    gradients = torch.autograd.grad(loss, leaves)
    products = [(leaf * gradient).square().detach() for leaf, gradient in zip(leaves, gradients, strict=True)]
    return dict(zip(weights, products, strict=True))


def run_as_is(model: nn.Module, example: Any) -> Any:
    return model(*example) if isinstance(example, tuple) else model(example)


def by_name(twin: Twin) -> Masks:
    """Masks of every weight matrix, asked for by name."""
    names = [oracles.short(name) for name in oracles.matrices(twin.plain)]
    return pruning.layer_magnitude_masks(twin.real, HALF, layers=names)


def check_taylor(twin: Twin, scores: Masks, said: str) -> None:
    for name, wanted in taylor_by_hand(twin, scores).items():
        near(scores[name], wanted, twin.kind, f"scores of {name!r}", 1e-6)
    left_out(twin, scores, said)


def check_same_and_plain(kinds: str) -> Callable[[Twin, Any, str], None]:
    """Outputs did not move, and nothing of the named classes is left."""

    def check(twin: Twin, result: Any, said: str) -> None:
        twin.real = result if isinstance(result, nn.Module) else twin.real
        left = [type(part).__name__ for part in twin.real.modules() if type(part).__name__ in kinds.split()]
        demand(not left, f"still there: {left}")
        if "ActivationQuantizer" in kinds:
            twin.inputs_rounded, twin.outputs_rounded, twin.before_rounding = {}, {}, {}
        twin.hold(twin.real, "made plain")
        twin.masks = {}

    return check


def ticket(twin: Twin) -> Masks:
    """Lottery ticket: remember, mask, train, rewind."""
    saved = pruning.snapshot(twin.real)
    masks = pruning.layer_magnitude_masks(twin.real, HALF)
    pruning.apply_masks(twin.real, masks)
    oracles.shake(twin.real, twin.example, twin.loss)
    pruning.rewind(twin.real, saved)
    return masks


def check_ticket(twin: Twin, masks: Masks, said: str) -> None:
    zero(twin, by_layer(twin, {name: oracles.effective(twin.plain, name) for name in masks}))
    left_out(twin, masks, said)
    twin.hold(twin.real, "rewound")


def rewind(twin: Twin) -> None:
    saved = pruning.snapshot(twin.real)
    oracles.shake(twin.real, twin.example, twin.loss)
    pruning.rewind(twin.real, saved)


def check_masks_of(twin: Twin, masks: Masks, said: str) -> None:
    lost = twin.masks.keys() - masks.keys()
    demand(not lost, f"no masks found of {lost}")
    for name, mask in masks.items():
        wanted = [other for known, other in twin.masks.items() if same_tensor(twin, name, known)]
        demand(wanted and torch.equal(mask, wanted[0]), f"the mask found of {name!r} is another")


def same_tensor(twin: Twin, first: str, second: str) -> bool:
    """Whether two names are of one weight, as tied weights have."""
    return getattr(*oracles.place(twin.plain, first)) is getattr(*oracles.place(twin.plain, second))


def sprinkled(measure: Callable[[nn.Module], Any]) -> Callable[[Twin], Any]:
    """``measure`` after a different fraction of zeros has gone into every plain matrix."""

    def act(twin: Twin) -> Any:
        values = [value for value in twin.real.parameters() if value.ndim > 1]
        with torch.no_grad():
            for number, value in enumerate(values, 1):
                value.view(-1) if value.is_contiguous() else None
                flat = torch.zeros(value.numel(), dtype=torch.bool)
                flat[: number * value.numel() // (len(values) + 2)] = True
                value.masked_fill_(flat.reshape(value.shape), 0)
        twin.read()
        return measure(twin.real)

    return act


def check_sparsity(twin: Twin, found: float, said: str) -> None:
    weights = oracles.matrices(twin.plain)
    kept = {name: weight for name, weight in weights.items() if not named(name, said)}
    wanted = oracles.zeros(kept)
    left = [name for name in weights if name not in kept]
    demand(abs(found - wanted) < 1e-12, f"says {found:.3f}; zeros of all matrices but {left}: {wanted:.3f}")


def check_layer_sparsities(twin: Twin, found: dict[str, float], said: str) -> None:
    for name, fraction in found.items():
        wanted = oracles.zeros({name: oracles.effective(twin.plain, name)})
        demand(abs(fraction - wanted) < 1e-12, f"{name!r}: {fraction:.3f}, must be {wanted:.3f}")
    left_out(twin, found, said)


def power(model: nn.Module, example: Any) -> float:
    """Some number that depends on every weight."""
    return oracles.tensors(oracles.run(model, example)).square().mean().item()


def check_scan(twin: Twin, found: dict[str, list[float]], said: str) -> None:
    for name, (value,) in found.items():
        alone = twin.aside()
        zero(alone, by_layer(alone, {name: oracles.effective(alone.plain, name)}))
        wanted = oracles.tensors(alone.expected()).square().mean()
        near(value, wanted, twin.kind, f"measured with {name!r} pruned: values")
    left_out(twin, found, said)


def first_producer(plain: nn.Module) -> str:
    return next(name for name, part in plain.named_modules() if isinstance(part, nn.Linear | nn.modules.conv._ConvNd))


def kept_channels(twin: Twin) -> Masks:
    name = first_producer(twin.plain)
    channels = len(twin.plain.get_submodule(name).weight)
    return {name: torch.tensor([c for c in range(channels) if c not in removed(channels)])}


def removed(channels: int) -> list[int]:
    """Of which channels surgery frees the first layer."""
    return [0, 2][: channels - 1]


def surgery(cut: Callable[..., nn.Module], *, smaller: bool) -> Way:
    """Act and check of a function that removes channels of the first layer."""

    def act(twin: Twin) -> nn.Module:
        return cut(twin.real, kept_channels(twin), example=twin.example)

    def check(twin: Twin, result: nn.Module, said: str) -> None:
        ((name, kept),) = kept_channels(twin).items()
        hand, before = twin.aside(), len(twin.plain.get_submodule(name).weight)
        for layer in filter(None, (name, twin.kind.ties)):
            remove_by_hand(hand.plain, layer, removed(before))
        hand.hold(result, "without some channels")
        rows = len(result.get_submodule(name).weight)
        demand(rows == (len(kept) if smaller else before), f"{name!r} has {rows} channels left")
        twin.real, twin.masks = result, {}
        twin.read()

    return act, check


def remove_by_hand(plain: nn.Module, name: str, channels: list[int]) -> None:
    """Zero a layer's channels, and those of all that treats each alone until the next layer that mixes them."""
    started = False
    with torch.no_grad():
        for path, part in plain.named_modules():
            mixes = isinstance(part, nn.Linear | nn.modules.conv._ConvNd) and getattr(part, "groups", 1) == 1
            if started and mixes:
                return
            started = started or path == name
            if started and not list(part.children()):
                for value in part.parameters():
                    value[channels] = 0


def check_channel_scores(twin: Twin, found: Masks, said: str) -> None:
    for name, scores in found.items():
        tied = [name, twin.kind.ties] if twin.kind.ties and name == first_producer(twin.plain) else [name]
        wanted = sum(oracles.effective(twin.plain, layer).abs().flatten(1).sum(1) for layer in tied)
        near(scores, wanted, twin.kind, f"scores of {name!r}", 1e-6)


def scores_of_channels(twin: Twin) -> Masks:
    return pruning.channel_scores(twin.real, "l1", example=twin.example)


def scan(twin: Twin) -> dict[str, list[float]]:
    return pruning.sensitivity_scan(twin.real, lambda model: power(model, twin.example), (HALF,))


def random(twin: Twin) -> Masks:
    weights = pruning.prunable_weights(twin.real)
    return {name: pruning.random_mask(weight, HALF) for name, weight in weights.items()}


LAYER = masking(lambda twin: pruning.layer_magnitude_masks(twin.real, HALF), by_layer)
GLOBAL = masking(lambda twin: pruning.global_magnitude_masks(twin.real, HALF), together)
RANDOM = masking(random, drawn)
TWO_OF_FOUR = masking(two_of_four, by_group)
TAYLOR = masking(
    lambda twin: pruning.global_masks(taylor(twin), HALF),
    lambda twin, weights: together(twin, taylor_by_hand(twin, weights)),
)
BY_NAME = masking(by_name, by_layer)
REMOVE = lambda twin: pruning.remove_masks(twin.real), check_same_and_plain("Masked")
FOUND = lambda twin: pruning.masks_of(twin.real), check_masks_of
REWIND = rewind, lambda twin, result, said: twin.hold(twin.real, "rewound")
TICKET = ticket, check_ticket
SPARSITY = sprinkled(pruning.sparsity), check_sparsity
LAYERS = sprinkled(pruning.layer_sparsities), check_layer_sparsities
SCAN = scan, check_scan
SCORES = taylor, check_taylor
EMPTY = surgery(pruning.mask_filters, smaller=False)
CUT = surgery(pruning.prune_filters, smaller=True)
CHANNELS = scores_of_channels, check_channel_scores
