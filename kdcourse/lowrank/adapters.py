"""Low-rank updates of frozen weights (LoRA)."""

import math
from collections.abc import Iterable
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from .._base.checks import check_count, check_positive
from .._base.parametrizing import add_step, drop_step
from .._base.weights import Masked, Place, maskable, matrices, owners

TRAINED = "_trained_before_lora"


class LowRankUpdate(nn.Module):
    """Adds (alpha / rank) · up @ down to a weight (n, ...), with down (rank, m) and up (n, rank); put on by `add_lora`.

    ``kept`` is a mask under which the update keeps zeros zero.

    >>> update = LowRankUpdate(torch.zeros(2, 3), rank=1, alpha=4.0, generator=torch.Generator())
    >>> with torch.no_grad():
    ...     _ = update.down.fill_(1.0), update.up.copy_(torch.tensor([[1.0], [2.0]]))
    >>> update(torch.zeros(2, 3)).tolist()
    [[4.0, 4.0, 4.0], [8.0, 8.0, 8.0]]
    """

    scale: Tensor
    kept: Tensor | None

    def __init__(
        self, weight: Tensor, *, rank: int, alpha: float, generator: torch.Generator, kept: Tensor | None = None
    ) -> None:
        super().__init__()
        outputs, inputs = len(weight), math.prod(weight.shape[1:])
        random = torch.randn(rank, inputs, generator=generator, dtype=torch.float64, device="cpu") / math.sqrt(inputs)
        self.down = nn.Parameter(random.to(weight))
        self.up = nn.Parameter(torch.zeros(outputs, rank, dtype=weight.dtype, device=weight.device))
        # a buffer: a state dict would be loaded with another scale
        self.register_buffer("scale", torch.tensor(alpha / rank, dtype=weight.dtype, device=weight.device))
        self.register_buffer("kept", None if kept is None else kept.clone())

    def forward(self, weight: Tensor) -> Tensor:
        update = (self.scale * (self.up @ self.down)).reshape(weight.shape)
        total = weight + (update if self.kept is None else torch.where(self.kept, update, 0))
        # laid out in memory as it was: for another layout PyTorch takes another kernel, which rounds otherwise
        return torch.empty_strided(weight.shape, weight.stride(), dtype=total.dtype, device=total.device).copy_(total)


def add_lora(model: nn.Module, layers: Iterable[str], *, rank: int, alpha: float, seed: int = 0) -> None:
    """Freeze ``model`` and let ``layers`` compute with W + (alpha / rank) · B·A from now on, in place: LoRA.

    A (rank, m) starts with random numbers of variance 1/m from ``seed``, B (n, rank) with zeros: at first all weights
    are bit for bit as they were, and only B has a gradient. A convolution's W is taken as (n, m), m the weights of a
    filter. ``layers`` are names of linear, convolution and recurrent layers and of attention. All other parameters take
    no gradient until `merge_lora`; running statistics of batch norm still move in train mode. Train `lora_parameters`.

    A masked weight's zeros stay zero; a rounded weight is not rounded again after the update. The scale alpha / rank is
    in the state dict, as A and B are. Raises ``ValueError``, and changes nothing, for a model that has updates already,
    an unknown layer, a rank above min(m, n), tied weights, and a weight that something other than a mask or a quantizer
    computes.

    In production: `peft`, which multiplies the inputs by A and B in turn, without the matrix B·A.

    Source: Hu et al. 2022, arXiv:2106.09685, section 4.1.

    >>> model, inputs = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)), torch.rand(3, 8)
    >>> before = model(inputs)
    >>> add_lora(model, ["0"], rank=2, alpha=4)
    >>> torch.equal(model(inputs), before), sum(value.numel() for value in model.parameters() if value.requires_grad)
    (True, 28)
    """
    check_positive("alpha", alpha)
    check_count("rank", rank, least=1)
    if _updated(model):
        raise ValueError("the model has low-rank updates already: merge_lora() first")
    places = _places(model, layers)
    for name, place in places.items():
        _check_place(name, place, rank, model)
    _freeze(model)
    generator = torch.Generator().manual_seed(seed)
    for place in places.values():
        kept = None if place.mask is None else place.mask.mask
        step = LowRankUpdate(place.stored, rank=rank, alpha=alpha, generator=generator, kept=kept)
        add_step(place, step)


def lora_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The factors A and B of all low-rank updates of ``model``, for an optimizer; empty for a model without.

    >>> model = nn.Sequential(nn.Linear(8, 6))
    >>> add_lora(model, ["0"], rank=2, alpha=4)
    >>> [tuple(value.shape) for value in lora_parameters(model)]
    [(2, 8), (6, 2)]
    """
    return [value for step, _ in _updated(model).values() for value in (step.down, step.up)]


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Store the sum W + (alpha / rank) · B·A as the weight, in place; what took a gradient before takes one again.

    The outputs stay the same, the parameters are the same objects as before `add_lora`. A mask stays. A quantizer that
    rounded W goes, for most updates are smaller than its step and would be rounded away: quantize the merged network
    again, and compare. Raises ``ValueError`` for a model without updates.

    >>> model, inputs = nn.Sequential(nn.Linear(8, 6)), torch.rand(3, 8)
    >>> add_lora(model, ["0"], rank=2, alpha=4)
    >>> _ = nn.init.ones_(lora_parameters(model)[1])  # after training, usually
    >>> unmerged = model(inputs)
    >>> merge_lora(model)
    >>> torch.equal(model(inputs), unmerged), list(model.state_dict())
    (True, ['0.weight', '0.bias'])
    """
    found = _updated(model)
    if not found:
        raise ValueError("the model has no low-rank updates to merge: call add_lora() first")
    _unfreeze(model)
    for update, place in found.values():
        steps = list(place.steps)
        last = steps.index(update)
        value = place.stored
        for step in steps[: last + 1]:
            value = step(value)
        place.stored.copy_(value)
        for number in range(last, -1, -1):
            if not isinstance(steps[number], Masked):
                drop_step(place, number)


def _updated(model: nn.Module) -> dict[str, tuple[LowRankUpdate, Place]]:
    return {
        name: (step, place)
        for name, place in matrices(model).items()
        for step in place.steps
        if isinstance(step, LowRankUpdate)
    }


def _places(model: nn.Module, layers: Iterable[str]) -> dict[str, Place]:
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names, got the string {layers!r}: write [{layers!r}]")
    known, names = matrices(model), list(layers)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"layers must name at least one layer, and each once, got {names}")
    for name in names:
        if name not in known:
            nearest = get_close_matches(name, known, n=3, cutoff=0.0)
            raise ValueError(
                f"there is no layer {name!r} with a weight matrix: use one of {', '.join(map(repr, nearest))}"
            )
    return {name: known[name] for name in names}


def _check_place(name: str, place: Place, rank: int, model: nn.Module) -> None:
    if not maskable(place):
        raise ValueError(f"layer {name!r} is computed by {place.computed_by}")
    tied = [other for other in owners(model)[id(place.stored)] if other != name]
    if tied:
        raise ValueError(f"{name!r} and {tied[0]!r} are one tied tensor: give each a weight of its own first")
    largest = min(len(place.stored), math.prod(place.stored.shape[1:]))
    if rank > largest:
        raise ValueError(f"rank must be at most {largest}, that of the weight of layer {name!r}; got {rank}")


def _freeze(model: nn.Module) -> None:
    """No parameter takes a gradient; each module remembers which of its own did."""
    for module in model.modules():
        trained = [name for name, value in module._parameters.items() if value is not None and value.requires_grad]
        if trained:
            vars(module)[TRAINED] = trained
    model.requires_grad_(False)


def _unfreeze(model: nn.Module) -> None:
    for module in model.modules():
        for name in vars(module).pop(TRAINED, ()):
            for value in Place(module, name).originals:
                value.requires_grad_(True)
