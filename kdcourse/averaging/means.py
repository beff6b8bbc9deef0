"""Averages of networks, weight by weight."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .._base.checks import check_fraction, check_not_negative
from .._base.parametrizing import copied
from ._alike import check_alike, is_inexact, tensors

COUNTER = "num_batches_tracked"


@torch.no_grad()
def moving_average(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Move ``average`` towards ``model``, in place: an exponential moving average of a network while it is trained.

    θ_average ← decay · θ_average + (1 - decay) · θ_model, for parameters and for floating-point buffers, such as the
    running statistics of batch norm; integer and bool buffers (counters, masks) are copied. Call it after each step of
    the optimizer. After t steps with the same model the average is (1 - decay^t) · θ_model + decay^t · θ_start. Start
    with ``average = copy.deepcopy(model)``; modes and ``requires_grad`` of both stay as they are, ``model`` untouched.
    Masked and quantized networks are averaged in the weights that they store.

    Raises ``ValueError`` for a ``decay`` outside [0, 1], networks that differ in architecture, names, shapes, ties or
    dtype (an average may be wider), tensors that both share, a weight that something other than a mask or a quantizer
    computes, and an average in half precision: there 1 - decay of a weight rounds away, and the average stops.

    In production: `torch.optim.swa_utils.AveragedModel` with ``get_ema_multi_avg_fn(decay)`` and
    ``use_buffers=True``. It gives the same numbers, but rounds averages of integer buffers towards zero, and wraps the
    network.

    Source: Tarvainen, Valpola 2017, arXiv:1703.01780, section 2; Polyak, Juditsky 1992.

    >>> import copy
    >>> student = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> teacher = copy.deepcopy(student)
    >>> with torch.no_grad():
    ...     _ = student[1].weight.fill_(3.0)  # a step of training
    >>> moving_average(teacher, student, decay=0.75)
    >>> teacher[1].weight.tolist()
    [1.5, 1.5]
    """
    check_fraction("decay", decay)
    check_alike([average, model], ["average", "model"], wider=True)
    ours, theirs = tensors(average), tensors(model)
    _check_can_move(ours, theirs)
    for name, old in ours.items():
        new = theirs[name].to(old)
        if is_inexact(old):
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


@torch.no_grad()
def average_models(models: Iterable[nn.Module], weights: Sequence[float] | None = None) -> nn.Module:
    """A new network whose parameters and floating-point buffers are the weighted mean of those of ``models``.

    θ = Σ_k w_k · θ_k, with ``weights`` ≥ 0 that add up to 1; without them all are equal. It is computed in float64.
    All else is that of the first network: modes, ``requires_grad``, tied weights, and batch norm's counters. Running
    variances of a mean network are not the mean of the variances: follow with `reset_batchnorm`. Masked and quantized
    networks are averaged in the weights that they store.

    Raises ``ValueError`` for no networks, wrong weights, networks that differ in architecture, names, shapes, ties or
    dtypes, other integer or bool buffers that differ (masks), and a weight that something other than a mask or a
    quantizer computes.

    In production: `torch.optim.swa_utils.AveragedModel`, which is updated with one network after the other.

    Source: Wortsman et al. 2022, arXiv:2203.05482, section 2; along one run, Izmailov et al. 2018, arXiv:1803.05407.

    >>> first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> soup = average_models([first, second], [0.25, 0.75])
    >>> torch.equal(soup.weight, 0.25 * first.weight + 0.75 * second.weight)
    True
    """
    models = list(models)
    shares = _shares(weights, len(models))
    check_alike(models, [f"models[{number}]" for number in range(len(models))])
    parts = [tensors(model) for model in models]
    _check_same_integers(parts)
    result = copied(models[0])
    for name, mean in tensors(result).items():
        if is_inexact(mean):
            mean.copy_(_weighted_sum([part[name] for part in parts], shares))
    return result


def _weighted_sum(values: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    total = torch.zeros_like(values[0], dtype=torch.promote_types(values[0].dtype, torch.float64))
    for value, share in zip(values, shares, strict=True):
        total += share * value.to(total)
    return total


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if count == 0:
        raise ValueError("models is empty: there must be at least one network to average")
    if weights is None:
        return [1 / count] * count
    shares = [float(weight) for weight in weights]
    if len(shares) != count:
        raise ValueError(f"there are {count} models and {len(shares)} weights: give one weight for each model")
    for number, share in enumerate(shares):
        check_not_negative(f"weights[{number}]", share)
    if not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"weights must add up to 1, got {sum(shares):g}: divide them by their sum")
    return shares


def _check_same_integers(parts: Sequence[dict[str, Tensor]]) -> None:
    for name, first in parts[0].items():
        if is_inexact(first) or name.rpartition(".")[2] == COUNTER:
            continue
        for number, part in enumerate(parts):
            if not torch.equal(part[name].to(first.device), first):
                raise ValueError(
                    f"{name!r} holds integers or bools that differ between models[0] and models[{number}], which have "
                    "no mean: of masks, use one for all networks, or make them permanent with remove_masks()"
                )


def _check_can_move(average: dict[str, Tensor], model: dict[str, Tensor]) -> None:
    for name, tensor in average.items():
        if is_inexact(tensor) and tensor.dtype.itemsize < 4:
            raise ValueError(
                f"{name!r} of average is {tensor.dtype}, in which small updates round away and the average stops: "
                "keep it in float32, copy.deepcopy(model).float()"
            )
        if name.rpartition(".")[2] == "zero_point" and not torch.equal(tensor, model[name].to(tensor.device)):
            raise ValueError(f"{name!r} differs between average and model: calibrate once, before the average begins")
    owned = {tensor.untyped_storage().data_ptr() for tensor in model.values() if tensor.numel()}
    shared = [
        name for name, tensor in average.items() if tensor.numel() and tensor.untyped_storage().data_ptr() in owned
    ]
    if shared:
        raise ValueError(f"average and model share {shared[0]!r}: start with average = copy.deepcopy(model)")
