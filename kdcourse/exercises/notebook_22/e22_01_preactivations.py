"""22.01 activations that are never negative."""

from typing import Any

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw
from .common import with_weights

Pair = tuple[Tensor, Tensor]


def with_a_hook(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    kept = []
    handle = net[layer].register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
    output = net(images)
    handle.remove()
    return output, kept[0]


def layer_by_layer(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    features = x = images
    for number, module in enumerate(net):
        x = module(x)
        if number == layer:
            features = x + 0
    return x, features


def in_two_parts(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    features = net[: layer + 1](images)
    return net[layer + 1 :](features.clone()), features


def out_of_place_for_a_while(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    working_in_place: list[Any] = [module for module in net if getattr(module, "inplace", False)]
    for module in working_in_place:
        module.inplace = False
    kept = _hooked(net, images, layer)
    for module in working_in_place:
        module.inplace = True
    return kept


def _hooked(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    kept = []
    handle = net[layer].register_forward_hook(lambda module, inputs, output: kept.append(output))
    output = net(images)
    handle.remove()
    return output, kept[0]


def stored_as_it_is(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    return _hooked(net, images, layer)


def stored_detached(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    output, features = with_a_hook(net, images, layer)
    return output, features.detach()


def inputs_of_the_layer(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    kept = []
    handle = net[layer].register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].clone()))
    output = net(images)
    handle.remove()
    return output, kept[0]


def outputs_of_the_next_one(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    return with_a_hook(net, images, min(layer + 1, len(net) - 1))


def run_twice(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    return net(images), net[: layer + 1](images)


def out_of_place_for_good(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    modules: list[Any] = list(net)
    for module in modules:
        module.inplace = False
    return _hooked(net, images, layer)


def hook_left_behind(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    kept = []
    net[layer].register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
    return net(images), kept[0]


def in_eval_mode(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    return with_a_hook(net.eval(), images, layer)


def without_gradients(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    with torch.no_grad():
        return with_a_hook(net, images, layer)


def features_first(net: nn.Sequential, images: Tensor, layer: int) -> Pair:
    return with_a_hook(net, images, layer)[::-1]


def what_was_seen(result: Any, case: Case) -> Any:
    """Both tensors, whether gradients of the network reach them, and what happened to the network."""
    if not isinstance(result, tuple | list):
        raise TypeError("output and features are asked for")
    net: Any = case.arguments[0]
    parameters = list(net.parameters())
    report: dict[str, Any] = {
        "hooks left in the network": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net),
        "layers that work in place": [bool(getattr(module, "inplace", False)) for module in net],
        "layers in train mode": [module.training for module in net],
        "batches that batch norm has counted": [int(m.num_batches_tracked) for m in net if hasattr(m, "running_mean")],
    }
    for name, value in zip(("output", "features"), result, strict=False):
        if isinstance(value, Tensor):
            weighted = value * torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
            found = torch.autograd.grad(weighted.sum(), parameters, allow_unused=True, retain_graph=True)
            slopes = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
            report[f"gradient of the {name}"] = torch.cat([slope.flatten() for slope in slopes])
    return [*(value.detach() if isinstance(value, Tensor) else value for value in result), report]


def watched(result: Any, case: Case) -> Any:
    """As above; a result without a gradient has gradient zero."""
    if isinstance(result, tuple | list):
        net = case.arguments[0]
        nothing = sum((parameter * 0).sum() for parameter in net.parameters())
        result = [v + nothing if isinstance(v, Tensor) and not v.requires_grad else v for v in result]
    return what_was_seen(result, case)


def small_net(seed: int) -> nn.Sequential:
    linear, relu = nn.Linear, nn.ReLU
    return with_weights(nn.Sequential(linear(2, 4), relu(inplace=True), linear(4, 3), relu(inplace=True)), seed)


def normed_net(seed: int) -> nn.Sequential:
    parts = (nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, 4), nn.SiLU(inplace=True))
    return with_weights(nn.Sequential(*parts, nn.Linear(4, 2)), seed)


def preactivation_cases() -> list[Case]:
    small = [case(small_net(1), draw(3, 2, seed=220), layer) for layer in (0, 2, 1, 3)]
    return small + [case(normed_net(2), draw(6, 3, seed=221), layer) for layer in (1, 3, 0, 5)]


EXERCISE = Exercise(
    id="22.01",
    title="activations that are never negative",
    question=(
        "Fix `case_1` as `fixed_1(net, images, layer)`: run the `nn.Sequential` `net` on the tensor `images` and "
        "return `(output, features)`, what the network returns, and what its layer number `layer` (counted from 0) "
        "returned. Both keep their gradient to the network's parameters. The network runs once, in the modes that "
        "its layers are in, and is afterwards as before: no hook is left, and layers that work in place still do."
    ),
    skeleton=(
        "def fixed_1(net, images, layer):\n"
        '    """What the network returns, and what one of its layers returned."""\n    ...'
    ),
    reference=with_a_hook,
    alternatives=(layer_by_layer, in_two_parts, out_of_place_for_a_while),
    cases=preactivation_cases,
    hints=(
        "Half of the entries are exactly 0. Which layer makes zeros, and when does it run?",
        "A hook gets the tensor itself. What may the next layer do to that tensor?",
        "`nn.ReLU(inplace=True)` overwrites its input. Store `output.clone()`.",
    ),
    misconceptions=(
        Misconception(
            "stored as it is",
            stored_as_it_is,
            "the hook stores the tensor and not a copy. The next layer works in place and writes its own result into "
            "that very tensor: the features before the activation turn into those after it",
        ),
        Misconception(
            "detached",
            stored_detached,
            "the numbers are right now, but the features are detached: a loss on them trains nothing. `clone()` copies "
            "and keeps the gradient, `detach()` cuts it",
        ),
        Misconception(
            "what goes into the layer",
            inputs_of_the_layer,
            "these are the layer's inputs. What it *returned* is asked for",
        ),
        Misconception(
            "one layer later",
            outputs_of_the_next_one,
            "these features are of the next layer: behind the activation, and what was negative before is lost",
        ),
        Misconception(
            "run twice",
            run_twice,
            "the features are right, but the first layers run twice: batch norm in train mode counts the batch twice, "
            "and dropout would draw again. Take the features from the pass that gives the output",
        ),
        Misconception(
            "in place switched off for good",
            out_of_place_for_good,
            "the result is right, but you change the network: its activations no longer work in place, and every later "
            "pass needs more memory. Copy the one tensor that you want",
        ),
        Misconception(
            "hook left behind",
            hook_left_behind,
            "the result is right, but the hook stays in the network: it copies and keeps the features of every later "
            "pass as well. `remove()` it",
        ),
        Misconception(
            "in eval mode",
            in_eval_mode,
            "you put the network into eval mode: batch norm then uses other statistics than in the training step that "
            "the features are for. Leave the modes as they are",
        ),
        Misconception(
            "under no_grad",
            without_gradients,
            "the numbers are right, but under `no_grad` neither output nor features have a gradient: nothing can be "
            "trained with them",
        ),
        Misconception(
            "features first",
            features_first,
            "features and output are swapped: return `(output, features)`",
        ),
    ),
    shows="a hook gets the tensor itself, and whatever works in place changes it later.",
    derivation=(
        "An in-place layer writes max(z, 0) where z was. Two names for one tensor see the same numbers: a copy made "
        "before the next layer runs does not."
    ),
    observe=watched,
    may_change=True,
)
