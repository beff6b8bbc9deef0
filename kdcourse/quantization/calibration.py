"""Ranges of activations, measured on a few batches: where to clip is the choice between two errors.

A method takes batches of one tensor and returns a `Range`; it is any function ``batches -> Range``. All raise
``ValueError`` for no batches, an empty one, NaN or infinity.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._base.checks import check_finite, widen
from .._base.modes import Inputs, call, in_eval_mode, layer_by_layer
from .._base.weights import Place, called_layers, matrices, warn_left_out
from .affine import fake_quantize_formula, integer_range, qparams_from_range


class Range(NamedTuple):
    """The smallest and largest number to be represented."""

    minimum: float
    maximum: float


class LayerRange(NamedTuple):
    """What a layer was given and what it returned."""

    inputs: Range
    outputs: Range


Method = Callable[[Sequence[Tensor]], Range]
"""From the batches of one tensor to the range to keep: `min_max_range`, or a ``functools.partial`` of another."""


def min_max_range(batches: Sequence[Tensor]) -> Range:
    """The extremes over all batches: nothing is clipped, and one outlier decides the step.

    >>> min_max_range([torch.tensor([1.0, -2.0]), torch.tensor([5.0, 0.0])])
    Range(minimum=-2.0, maximum=5.0)
    """
    _check_batches(batches)
    return Range(min(batch.min().item() for batch in batches), max(batch.max().item() for batch in batches))


def moving_average_range(batches: Sequence[Tensor], *, momentum: float = 0.01) -> Range:
    """Exponential average of the batches' extremes: m ← m + momentum · (m_batch - m), the first batch unchanged.

    Depends on the order of the batches. ``momentum`` in (0, 1].

    Source: Jacob et al. 2018, arXiv:1712.05877, section 3.1.

    >>> moving_average_range([torch.tensor([0.0, 1.0]), torch.tensor([0.0, 3.0])], momentum=0.5)
    Range(minimum=0.0, maximum=2.0)
    """
    _check_batches(batches)
    if not 0 < momentum <= 1:
        raise ValueError(f"momentum must lie in (0, 1], got {momentum}")
    low, high = min_max_range(batches[:1])
    for batch in batches[1:]:
        low += momentum * (batch.min().item() - low)
        high += momentum * (batch.max().item() - high)
    return Range(low, high)


def percentile_range(batches: Sequence[Tensor], *, percentile: float = 99.99) -> Range:
    """The range that contains ``percentile`` percent of all values, the rest clipped in equal parts at both ends.

    The limits are values that occurred: no larger part is clipped than asked for. ``percentile`` in (0, 100].
    Differs from onnxruntime, which reads the same limits off a histogram, right to one of its bins.

    >>> percentile_range([torch.arange(1000.0)], percentile=99.8)
    Range(minimum=1.0, maximum=998.0)
    """
    _check_batches(batches)
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must lie in (0, 100], got {percentile}")
    values = torch.cat([batch.detach().flatten() for batch in batches]).sort().values
    # the small term keeps 0.1 % of 1,000 at one value, where the floating-point fraction is slightly below
    cut = math.floor((100 - percentile) / 200 * len(values) + 1e-9)
    return Range(values[cut].item(), values[len(values) - 1 - cut].item())


def mse_range(
    batches: Sequence[Tensor],
    *,
    bits: int = 8,
    symmetric: bool = False,
    signed: bool | None = None,
    candidates: int = 100,
) -> Range:
    """The range with the smallest mean squared quantization error among ``candidates`` shrunken min-max ranges.

    Both limits are multiplied by k / candidates, k = 1 … candidates, and all values are quantized with each.
    Clipping a few large values costs less than a coarse step for all; the fewer bits, the more it pays.

    Source: the criterion of Banner, Nahshan, Soudry 2019, arXiv:1810.05723, section 3, searched and not assumed
    to follow a distribution.

    >>> values = torch.cat([torch.linspace(-1, 1, 1000), torch.tensor([3.0])])
    >>> mse_range([values], bits=2).maximum < 3  # one outlier is clipped
    True
    """
    low, high = min_max_range(batches)
    if candidates < 1:
        raise ValueError(f"candidates must be >= 1, got {candidates}")

    def squared_error(range_: Range) -> float:
        params = qparams_from_range(*range_, bits=bits, symmetric=symmetric, signed=signed)
        errors = (fake_quantize_formula(batch.detach(), params) - batch.detach() for batch in batches)
        return sum(error.double().square().sum().item() for error in errors)

    shares = (number / candidates for number in range(candidates, 0, -1))  # of equal ones, min keeps the widest
    return min((Range(low * share, high * share) for share in shares), key=squared_error)


def entropy_range(batches: Sequence[Tensor], *, bits: int = 8, bins: int = 2048) -> Range:
    """The range whose quantized histogram diverges least from the full one, KL(p ‖ q), outliers counted at its ends.

    p is the histogram inside the candidate, with everything outside added to the end bins; q spreads each of the
    2^bits levels' counts evenly over that level's non-empty bins. Candidates are symmetric, [-t, t], or [0, t]
    where no value is negative. Exact zeros are left out: every candidate represents them exactly.

    Source: Migacz 2017, "8-bit Inference with TensorRT", GPU Technology Conference. Differs from onnxruntime: its
    q is rounded down to whole counts, its [-t, t] serves non-negative values too, it keeps zeros, and with its
    default of 128 bins for 128 levels the one candidate is the whole range.

    >>> values = torch.erfinv(torch.linspace(-0.9999, 0.9999, 10_001))  # as a normal distribution has them
    >>> entropy_range([values], bits=4).maximum < values.max()  # the tails are clipped
    tensor(True)
    """
    low, high = min_max_range(batches)
    levels = integer_range(bits, symmetric=False)[1] + 1
    if bins < 2 * levels or bins % 2:
        raise ValueError(f"bins must be even and at least 2 · 2^bits = {2 * levels}, got {bins}")
    reach = max(-low, high)
    if reach <= 0:
        return Range(low, high)  # nothing but zeros
    values = torch.cat([batch.detach().flatten().double() for batch in batches])
    counts = torch.histc(values[values != 0], bins, -reach if low < 0 else 0.0, reach)
    # [-t, t] grows by a bin at both ends, [0, t] at one
    centre, smallest = (bins // 2, levels // 2) if low < 0 else (0, levels)
    widths = range(smallest, bins - centre + 1)
    best = min(reversed(widths), key=lambda width: _divergence(counts, max(centre - width, 0), centre + width, levels))
    limit = best * reach / (bins - centre)
    return Range(max(low, -limit), min(high, limit))


def calibrate(model: nn.Module, batches: Iterable[Inputs], *, method: Method = min_max_range) -> dict[str, LayerRange]:
    """Run ``model`` in eval mode on batches of inputs and find, by layer name, the range of what goes in and out.

    The layers are the linear and convolution layers, whose activations `fake_quantize_model` rounds, in the order in
    which they ran; one that did not run is missing. A batch is a tensor, a tuple of the model's inputs, or a dictionary
    of them by name. `min_max_range` and `moving_average_range` keep two numbers per batch; other methods need all
    activations of these layers in memory until the end, for which a few hundred images are enough. Half-precision
    activations are looked at in float32. Modes are restored and hooks removed, also after an error. Raises
    ``ValueError`` for a model without such layers or whose activations are rounded already, no batches, and NaN,
    infinity or nothing in an activation.

    >>> model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> with torch.no_grad():
    ...     _ = model[0].weight.copy_(torch.eye(2))
    >>> calibrate(model, [torch.tensor([[-1.0, 2.0]]), torch.tensor([[0.0, 3.0]])])["0"].outputs
    Range(minimum=-1.0, maximum=3.0)
    """
    layers = called_layers(model, matrices(model))
    if not layers:
        raise ValueError("the model has no nn.Linear or nn.Conv2d, whose activations could be rounded")
    if any("input_quantizer" in layer._modules for layer in layers.values()):
        raise ValueError("the model rounds its activations already: calibrate the plain one, or bake() it first")
    covered = [Place(layer, "weight") for layer in layers.values()]
    warn_left_out(model, covered, "only the activations of linear and convolution layers are rounded")
    given: dict[str, list[Tensor]] = {}
    returned: dict[str, list[Tensor]] = {}
    extremes = getattr(method, "func", method) in (min_max_range, moving_average_range)
    handles, ran = [], False
    try:
        for name, layer in layers.items():
            # before and after, because a ReLU in place overwrites what it was given
            handles.append(layer.register_forward_pre_hook(_keeper(given, name, extremes)))
            handles.append(layer.register_forward_hook(_keeper(returned, name, extremes)))
        with in_eval_mode(model), layer_by_layer(), torch.no_grad():
            for batch in batches:
                call(model, batch)
                ran = True
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise ValueError("no batches to calibrate on: pass at least one (an iterator can be used up only once)")
    return {name: LayerRange(method(given[name]), method(returned[name])) for name in returned}


def _keeper(kept: dict[str, list[Tensor]], name: str, extremes: bool) -> Callable[..., None]:
    """A hook that keeps what a layer is given or, after the call, what it returns: whole, or its two extremes."""

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], *outputs: Tensor) -> None:
        if not inputs:
            raise ValueError(f"layer {name!r} was given its input by name: put the input first, without a name")
        tensor = widen((*outputs, *inputs)[0].detach())
        check_finite(f"the {'output' if outputs else 'input'} of layer {name!r}", tensor)
        kept.setdefault(name, []).append(torch.stack(torch.aminmax(tensor)) if extremes else tensor.clone())

    return keep


def _check_batches(batches: Sequence[Tensor]) -> None:
    if len(batches) == 0:
        raise ValueError("no batches to calibrate on: pass at least one")
    for batch in batches:
        check_finite("a calibration batch", batch)


def _divergence(counts: Tensor, start: int, end: int, levels: int) -> float:
    """KL(p ‖ q) in nats of the histogram ``counts`` clipped to [start, end) and quantized to ``levels`` levels."""
    inside = counts[start:end]
    p = inside.clone()
    p[0] += counts[:start].sum()
    p[-1] += counts[end:].sum()
    width = end - start
    level = torch.arange(width) * levels // width
    occupied = (p > 0).double()
    total = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, inside)
    sharing = torch.zeros(levels, dtype=torch.float64).index_add_(0, level, occupied)
    q = (total / sharing.clamp(min=1))[level] * occupied
    if ((p > 0) & (q == 0)).any():
        return math.inf  # only outliers in a level: q says they cannot happen
    kept = p > 0
    p, q = p[kept] / p.sum(), q[kept] / q.sum()
    return float((p * (p / q).log()).sum())
