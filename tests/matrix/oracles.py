"""What must come out, by hand: nothing here uses `kdcourse`."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

Bounds = tuple[float, float]


def run(model: nn.Module, example: Any, *, gradient: bool = False) -> Any:
    """What the network returns in eval mode; its modes stay. Without gradient attention takes its fast path."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        with torch.set_grad_enabled(gradient):
            return model(*example) if isinstance(example, tuple) else model(example)
    finally:
        for part, mode in modes.items():
            part.training = mode


def tensors(output: Any) -> Tensor:
    """Every number that came out, in a row, as float64."""
    if isinstance(output, Tensor):
        return output.detach().double().flatten()
    return torch.cat([tensors(part) for part in (output.values() if isinstance(output, Mapping) else output)])


def place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Module and attribute behind a layer's name (its weight) or a parameter's."""
    named = dict(model.named_modules())
    if name in named and hasattr(named[name], "weight"):
        return named[name], "weight"
    path, _, attribute = name.rpartition(".")
    return named[path], attribute


def effective(model: nn.Module, name: str) -> Tensor:
    """The weight that a reader of the network finds."""
    module, attribute = place(model, name)
    return getattr(module, attribute).detach()


def matrices(plain: nn.Module) -> dict[str, Tensor]:
    """The weights of two or more dimensions of a network of plain parameters, each tensor once."""
    return {name: value.detach() for name, value in plain.named_parameters() if value.ndim > 1}


def short(name: str) -> str:
    """The layer's name, where the parameter is its weight."""
    return name.removesuffix(".weight")


def strip(model: nn.Module) -> nn.Module:
    """A copy with plain parameters alone: every computed weight is read once and stored; nothing rounds inputs."""
    for part in model.modules():
        for hook in part._forward_pre_hooks.values():
            if computed := computed_by(hook):  # refreshed without gradient: torch cannot copy it otherwise
                with torch.no_grad():
                    _refresh(part, hook, computed)
    plain = copy.deepcopy(model)
    for part in list(plain.modules()):
        values = {}
        if parametrize.is_parametrized(part):
            values = {name: getattr(part, name).detach().clone() for name in part.parametrizations}
            part.__class__ = type(part).__bases__[0]
            del part._modules["parametrizations"]
        for key, hook in list(part._forward_pre_hooks.items()):
            if name := computed_by(hook):
                values[name] = getattr(part, name).detach().clone()
                del part._forward_pre_hooks[key], part.__dict__[name]
                for found in [found for found in part._parameters if found.startswith(name + "_")]:
                    del part._parameters[found]
        for hooks in (part._forward_pre_hooks, part._forward_hooks):
            for key in [key for key, hook in hooks.items() if getattr(hook, "__module__", "").startswith("kdcourse")]:
                del hooks[key]
        for name in [name for name, child in part._modules.items() if type(child).__module__.startswith("kdcourse.q")]:
            del part._modules[name]
        for name, value in values.items():
            setattr(part, name, nn.Parameter(value))
    return plain


def computed_by(hook: Any) -> str:
    """The weight that one of PyTorch's older hooks computes before each call."""
    ours = type(hook).__module__.startswith("torch.nn.utils.")
    return str(getattr(hook, "name", None) or getattr(hook, "_tensor_name", "")) if ours else ""


def _refresh(part: nn.Module, hook: Any, name: str) -> None:
    training, part.training = part.training, False
    hook(part, ())
    setattr(part, name, getattr(part, name).detach())
    part.training = training


def untied(plain: nn.Module) -> nn.Module:
    """A copy in which no parameter is shared by two modules."""
    free = copy.deepcopy(plain)
    for part in free.modules():
        for name, value in list(part._parameters.items()):
            if value is not None:
                setattr(part, name, nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad))
    return free


# weights


def smallest(magnitudes: Tensor, fraction: float) -> Tensor:
    """Which are kept when the smallest ``fraction`` goes, of equal ones the first."""
    values = magnitudes.detach().double().numpy().ravel()
    kept = np.ones(values.size, bool)
    kept[np.argsort(values, kind="stable")[: round(fraction * values.size)]] = False
    return torch.from_numpy(kept.reshape(magnitudes.shape))


def two_of_four(weight: Tensor) -> Tensor:
    """The two largest of every four inputs, in a loop."""
    rows = weight.detach().abs().double().movedim(1, -1).contiguous().numpy()
    kept = np.zeros(rows.shape, bool)
    for index in np.ndindex(*rows.shape[:-1], rows.shape[-1] // 4):
        group = rows[index[:-1]][4 * index[-1] : 4 * index[-1] + 4]
        for winner in np.argsort(-group, kind="stable")[:2]:
            kept[(*index[:-1], 4 * index[-1] + winner)] = True
    return torch.from_numpy(kept).movedim(-1, 1)


def rounded(weight: Tensor, bits: int, axis: int = 0) -> Tensor:
    """Symmetric, a scale for each output channel."""
    values = np.moveaxis(weight.detach().double().numpy(), axis, 0)
    scale = np.abs(values).reshape(len(values), -1).max(1) / (2 ** (bits - 1) - 1)
    scale = np.where(scale == 0, 1, scale).reshape(-1, *[1] * (values.ndim - 1))
    return torch.from_numpy(np.moveaxis(np.round(values / scale) * scale, 0, axis).copy())


def learned(weight: Tensor, bits: int) -> Tensor:
    """One scale for the layer, as it starts: 2 · mean|w| / √qmax (Esser et al. 2020)."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = weight.detach().double().numpy()
    scale = 2 * np.abs(values).mean() / math.sqrt(high)
    return torch.from_numpy(np.round(np.clip(values / scale, low, high)) * scale)


def straight_through(values: Tensor, bounds: Bounds, bits: int) -> Tensor:
    """Rounded to 2^bits levels from min(low, 0) to max(high, 0), zero among them; the gradient is 1 inside alone."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = np.float64(np.float32(high - low) / np.float32(2**bits - 1)) or 1.0
    zero = np.clip(-np.round(low / scale), 0, 2**bits - 1)
    codes = np.round(values.detach().double().numpy() / scale) + zero
    kept = np.clip(codes, 0, 2**bits - 1)
    passed = values * torch.from_numpy(codes == kept)
    return passed + (torch.from_numpy((kept - zero) * scale) - passed).detach()


def axis_of(plain: nn.Module, name: str) -> int:
    """The output channels' dimension."""
    return 1 if isinstance(place(plain, name)[0], nn.modules.conv._ConvTransposeNd) else 0


# activations


def detached(found: Any) -> Any:
    return found.detach().clone() if isinstance(found, Tensor) else found


def observed(plain: nn.Module, example: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes in and comes out of every part with one tensor argument, over all of its calls."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def note(name: str) -> Callable[..., None]:
        def kept(part: nn.Module, given: tuple[Any, ...], found: Any) -> None:
            # those called last come last
            seen[name] = [*seen.pop(name, []), (given[0].detach().clone(), detached(found))]

        return kept

    handles = [
        part.register_forward_hook(note(name)) for name, part in plain.named_modules() if not list(part.children())
    ]
    run(plain, example, gradient=True)
    for handle in handles:
        handle.remove()
    kept = {name: calls for name, calls in seen.items() if all(isinstance(found, Tensor) for _, found in calls)}
    return {
        name: (torch.cat([given.flatten() for given, _ in calls]), torch.cat([found.flatten() for _, found in calls]))
        for name, calls in kept.items()
    }


def bounds(values: Tensor) -> Bounds:
    return values.min().item(), values.max().item()


# counting


def macs(plain: nn.Module, example: Any) -> int:
    """Multiply-accumulates by the formulas of each kind of layer; nothing else in `kinds` multiplies matrices."""
    total = [0]
    plain = untied(plain)

    def count(part: nn.Module, given: tuple[Any, ...], found: Any) -> None:
        total[0] += _macs(part, given, found)

    for part in plain.modules():
        part.register_forward_hook(count)
    run(plain, example, gradient=True)  # with gradient attention calls its parts
    if hasattr(plain, "mix"):
        total[0] += example[..., 0].numel() * plain.mix.numel()
    return total[0]


def _macs(part: nn.Module, given: tuple[Any, ...], found: Any) -> int:
    if isinstance(part, nn.Linear):
        return found.numel() * part.in_features
    if isinstance(part, nn.modules.conv._ConvTransposeNd):
        return given[0].numel() * part.weight[0].numel()
    if isinstance(part, nn.modules.conv._ConvNd):
        return found.numel() * part.weight[0].numel()
    if isinstance(part, nn.MultiheadAttention):  # batch, length, width
        batch, length, width = given[0].shape
        return batch * (4 * length * width**2 + 2 * length**2 * width)
    if isinstance(part, nn.LSTMCell | nn.GRUCell):
        return len(given[0]) * (part.weight_ih.numel() + part.weight_hh.numel())
    if isinstance(part, nn.RNNBase):
        weights = [value for name, value in part.named_parameters() if name.startswith("weight")]
        return given[0][..., 0].numel() * sum(weight.numel() for weight in weights)
    return 0


def zeros(weights: Mapping[str, Tensor]) -> float:
    return sum(int((w == 0).sum()) for w in weights.values()) / sum(w.numel() for w in weights.values())


# training


def training_step(
    model: nn.Module,
    example: Any,
    loss: Callable[[Any], Tensor],
    still: Sequence[nn.Module] = (),
) -> None:
    """One step of AdamW without weight decay, by a bare loop; parts in ``still`` stay in eval mode."""
    model.train()
    for part in still:
        part.eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.0)
    loss(model(*example) if isinstance(example, tuple) else model(example)).backward()
    optimizer.step()
    model.zero_grad()
    model.eval()


def shake(model: nn.Module, example: Any, loss: Callable[[Any], Tensor], steps: int = 2) -> None:
    """Train with momentum and weight decay: what is not kept on purpose moves."""
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.01
    )
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(*example) if isinstance(example, tuple) else model(example)).backward()
        optimizer.step()
    model.zero_grad()


def distillation(logits: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float) -> Tensor:
    """(1 - α) · cross-entropy + α · T² · KL(p_t ‖ p_s), the mean over the positions."""
    rows, soft, classes = logits.flatten(0, -2), teacher.flatten(0, -2), labels.flatten()
    p = torch.softmax(soft / temperature, 1)
    kl = (p * (torch.log(p) - torch.log_softmax(rows / temperature, 1))).sum(1).mean()
    return (1 - alpha) * F.cross_entropy(rows, classes) + alpha * temperature**2 * kl


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest wrong logit less the label's, row by row (Carlini and Wagner 2017)."""
    rows = zip(logits, labels.tolist(), strict=True)
    return torch.stack([torch.cat([row[:label], row[label + 1 :]]).max() - row[label] for row, label in rows]).mean()


def attack(
    logits: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    steps: int,
    seed: int,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Tensor:
    """Projected gradient descent (Madry et al. 2018) from the start that the seed gives."""
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        noise = torch.rand(images.shape).to(images)
    found = (images + epsilon * (2 * noise - 1)).clamp(low, high)
    for _ in range(steps):
        found = found.detach().requires_grad_(True)
        loss(logits(found).flatten(0, -2), labels.flatten()).backward()
        found = (found.detach() + 2.5 * epsilon / steps * found.grad.sign()).clamp(low, high)
    return found.detach()
