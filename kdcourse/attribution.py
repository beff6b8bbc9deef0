"""What an image classifier looks at: each pixel's part in one class's logit, by gradients and by covering it.

Networks run in eval mode and are left as they were. ``targets`` (N,) int64 are the classes that are explained;
``output`` picks the logits (N, C) from what the model returns, as in `kdcourse.training.fit`.
"""

from typing import NamedTuple

import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from ._base.checks import check_count, check_finite_float, check_float_images, check_label_range, check_labels, widen
from ._base.gradients import NONE, check_network, input_gradient
from ._base.weights import check_initialised
from .training import frozen
from .training.networks import Output, logits_of


class Attribution(NamedTuple):
    """Each input's part (N, ...) in its target's logit, and by how much each image's parts (N,) miss their sum."""

    values: Tensor
    gap: Tensor


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    baseline: float | Tensor,
    steps: int = 64,
    output: Output | None = None,
) -> Attribution:
    """How much each pixel of ``images`` (N, ...) adds to the target's logit on the way from ``baseline`` to the image.

    (x - x') · mean over k of ∂f(x' + α_k (x - x')) / ∂x, at the midpoints α_k = (k - ½) / steps. Completeness: as
    steps → ∞ the parts add up to f(x) - f(x'), which checks the number of steps: ``gap`` is what they add up to less
    f(x) - f(x'). It stays large for a network that rounds with a straight-through gradient, which is not the slope of
    what it computes. ``baseline`` is a number for every pixel, or a tensor that broadcasts to ``images``; a pixel equal
    to it gets 0, whatever the network does with it.

    Raises ``ValueError`` where no gradient reaches the images, although the logit changes: use `occlusion` there.

    Source: Sundararajan, Taly, Yan 2017, arXiv:1703.01365, equations 1 and 3, proposition 1. In production: Captum.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    >>> images, targets = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
    >>> found = integrated_gradients(network, images, targets, baseline=0.0)
    >>> found.values.shape, (found.gap.abs() < 1e-5).all()
    (torch.Size([2, 1, 4, 4]), tensor(True))
    """
    check_count("steps", steps, least=1)
    images = _checked(model, images)
    start = _baseline(baseline, images)
    mean = torch.zeros_like(widen(images))
    with frozen(model):
        with torch.no_grad():
            change = _logits(model, images, targets, output) - _logits(model, start, targets, output)
        with torch.enable_grad():
            for step in range(steps):
                point = (start + (step + 0.5) / steps * (images - start)).requires_grad_(True)
                mean += widen(input_gradient(_logits(model, point, targets, output).sum(), point)) / steps
    changed = change != 0
    if changed.any() and not mean[changed].any():
        raise ValueError(NONE)
    values = (images - start) * mean
    return Attribution(values, values.flatten(1).sum(dim=1) - change)


def occlusion(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    size: int,
    stride: int = 1,
    fill: float = 0.0,
    output: Output | None = None,
) -> Tensor:
    """How far the target's logit falls where a square of ``images`` (N, C, H, W) is covered: maps (N, H, W).

    A square of ``size`` pixels with the value ``fill`` moves in steps of ``stride``, the last one at the edge; a pixel
    gets the mean of f(x) - f(x covered) over the squares that cover it. It needs no gradient. Raises ``ValueError`` for
    a ``stride`` above ``size``, which leaves pixels out.

    Source: Zeiler, Fergus 2014, arXiv:1311.2901, section 4.2. In production: Captum.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    >>> occlusion(network, torch.rand(2, 1, 4, 4), torch.tensor([0, 2]), size=2).shape
    torch.Size([2, 4, 4])
    """
    images = _checked(model, images)
    if images.ndim != 4:
        raise ValueError(f"images must have shape (N, C, H, W), got {tuple(images.shape)}")
    check_count("size", size, least=1)
    check_count("stride", stride, least=1)
    if size > min(images.shape[-2:]) or stride > size:
        raise ValueError(
            f"need stride <= size <= {min(images.shape[-2:])} pixels, so that every pixel is covered, got stride "
            f"{stride} and size {size}"
        )
    check_finite_float("fill", torch.tensor([float(fill)]))
    rows, columns = ([*range(0, extent - size, stride), extent - size] for extent in images.shape[-2:])
    total = torch.zeros_like(widen(images[:, 0]))
    count = torch.zeros_like(total)
    with frozen(model), torch.no_grad():
        whole = _logits(model, images, targets, output)
        for top in rows:
            for left in columns:
                inside = (..., slice(top, top + size), slice(left, left + size))
                covered = images.clone()
                covered[inside] = fill
                total[inside] += (whole - _logits(model, covered, targets, output)).reshape(-1, 1, 1)
                count[inside] += 1
    return total / count


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation (N,) of two attributions (N, ...), image by image: 1 where they rank all pixels equally.

    Equal values share their mean rank. Pixels that are 0 in both, such as a black margin, count as agreement: compare
    with what another seed, or a network that was not trained, has in common with the first. Raises ``ValueError`` for
    an image all of whose values are the same, which has no ranks.

    >>> one = torch.tensor([[0.1, 0.2, 0.9], [0.1, 0.2, 0.9]])
    >>> rank_correlation(one, torch.tensor([[1.0, 5.0, 6.0], [3.0, 2.0, 1.0]])).round(decimals=6)
    tensor([ 1., -1.], dtype=torch.float64)
    """
    if first.shape != second.shape or first.ndim < 2:
        raise ValueError(f"need two attributions (N, ...), got {tuple(first.shape)} and {tuple(second.shape)}")
    rows: list[Tensor] = []
    for name, values in (("first", first), ("second", second)):
        check_finite_float(name, values)
        ranks = torch.from_numpy(rankdata(values.detach().double().flatten(1).cpu().numpy(), axis=1))
        centred = ranks - ranks.mean(dim=1, keepdim=True)
        norms = centred.norm(dim=1, keepdim=True)
        if not norms.all():
            which = int((norms == 0).nonzero()[0, 0])
            raise ValueError(f"{name} is the same for all pixels of image {which}: leave it out")
        rows.append(centred / norms)
    return (rows[0] * rows[1]).sum(dim=1)


def _checked(model: nn.Module, images: Tensor) -> Tensor:
    """The images without their history, if both can be used."""
    check_network(model)
    check_initialised(model)
    check_float_images(images)
    if images.ndim < 2 or images.numel() == 0 or not torch.isfinite(images).all():
        raise ValueError(f"images must have shape (N, ...), N >= 1, and finite values, got {tuple(images.shape)}")
    return images.detach()


def _baseline(baseline: float | Tensor, images: Tensor) -> Tensor:
    start = torch.as_tensor(baseline).detach().to(images)
    check_finite_float("baseline", start.reshape(-1))
    try:
        return start.expand_as(images)
    except RuntimeError as error:
        raise ValueError(
            f"baseline must be a number or broadcast to the images, {tuple(start.shape)} to {tuple(images.shape)}"
        ) from error


def _logits(model: nn.Module, images: Tensor, targets: Tensor, output: Output | None) -> Tensor:
    """Each image's logit (N,) of its target."""
    logits: Tensor = logits_of(model(images), output)
    if logits.ndim != 2 or len(logits) != len(images):
        raise ValueError(
            f"the logits have shape {tuple(logits.shape)}: an attribution needs one row (N, C) per image, pick a "
            "position with output="
        )
    check_labels(targets, logits)
    if check_label_range(targets, logits.shape[1]):
        raise ValueError("targets must be classes, and -100 is none: leave those images out")
    return logits.gather(1, targets.unsqueeze(1)).squeeze(1)
