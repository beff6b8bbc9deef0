"""What an image classifier does when its images get worse: corruptions, and an attack that looks for the worst.

Images are (N, 1, H, W) in [0, 1] and stay in it. What is drawn is drawn from ``seed``: every network sees the same.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .seeds import seeded
from .training import frozen
from .training.networks import Output, check_class_labels, logits_of


def add_noise(images: Tensor, *, strength: float, seed: int = 0) -> Tensor:
    """Normal noise of standard deviation ``strength`` on every pixel, clipped to [0, 1].

    >>> noisy = add_noise(torch.full((1, 1, 28, 28), 0.5), strength=0.1)
    >>> 0.08 < noisy.std() < 0.12
    tensor(True)
    """
    _check("strength", strength)
    _check_images(images)
    with seeded(seed):
        return (images + strength * torch.randn(images.shape).to(images)).clamp(0, 1)


def blur(images: Tensor, *, radius: float) -> Tensor:
    """A Gaussian of standard deviation ``radius`` pixels, cut off at three of them; outside the image is 0.

    >>> dot = torch.zeros(1, 1, 9, 9)
    >>> dot[..., 4, 4] = 1.0
    >>> blurred = blur(dot, radius=1.0)
    >>> round(blurred.sum().item(), 4), round(blurred.max().item(), 2)
    (1.0, 0.16)
    """
    _check("radius", radius)
    _check_images(images)
    reach = max(1, int(3 * radius + 0.5))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).to(images) / radius) ** 2)
    weights = weights / weights.sum()
    channels = images.shape[1]
    rows = weights.reshape(1, 1, 1, -1).expand(channels, 1, 1, -1)
    sideways = F.conv2d(images, rows, padding=(0, reach), groups=channels)
    return F.conv2d(sideways, rows.transpose(2, 3), padding=(reach, 0), groups=channels)


def fade(images: Tensor, *, share: float) -> Tensor:
    """Reduced contrast: images · (1 - share) + share / 2, so that black becomes grey.

    >>> fade(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3), share=0.2).flatten()
    tensor([0.1000, 0.5000, 0.9000])
    """
    _check("share", share)
    _check_images(images)
    if share > 1:
        raise ValueError(f"share must be at most 1, got {share}")
    return images * (1 - share) + share / 2


def cover(images: Tensor, *, side: int, seed: int = 0) -> Tensor:
    """A black square of ``side`` pixels at a place of its own in every image.

    >>> covered = cover(torch.ones(2, 1, 28, 28), side=8)
    >>> (covered == 0).sum().item()
    128
    """
    _check_images(images)
    height, width = images.shape[-2:]
    if not 1 <= side <= min(height, width):
        raise ValueError(f"side must be from 1 to {min(height, width)} pixels, got {side}")
    with seeded(seed):
        top = torch.randint(height - side + 1, (len(images), 1, 1, 1)).to(images.device)
        left = torch.randint(width - side + 1, (len(images), 1, 1, 1)).to(images.device)
    down = torch.arange(height, device=images.device).reshape(1, 1, -1, 1)
    across = torch.arange(width, device=images.device)
    inside = (down >= top) & (down < top + side) & (across >= left) & (across < left + side)
    return images.masked_fill(inside, 0)


def pgd_attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int = 10,
    seed: int = 0,
    output: Output | None = None,
) -> Tensor:
    """Images within ``epsilon`` of the given ones, in every pixel and in [0, 1], that raise the model's loss.

    Projected gradient descent: from a random start in the box, ``steps`` moves of 2.5 · epsilon / steps (enough to
    cross it) along the sign of the gradient of the cross-entropy, each clipped back into the box. ``model`` runs in
    eval mode and is left as it was; ``output`` picks its logits (..., C), as in `fit`. A network that rounds must pass
    gradients, as `fake_quantize_model` does. Raises ``ValueError`` where none arrives.

    Source: Madry, Makelov, Schmidt, Tsipras, Vladu 2018, arXiv:1706.06083, section 2.1.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    >>> images = torch.rand(2, 1, 4, 4)
    >>> attacked = pgd_attack(network, images, torch.tensor([0, 2]), epsilon=0.1)
    >>> round((attacked - images).abs().max().item(), 3)
    0.1
    """
    _check("epsilon", epsilon)
    _check_images(images)
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    with seeded(seed):
        start = images + epsilon * (2 * torch.rand(images.shape).to(images) - 1)
    attacked = start.clamp(low, high)
    with frozen(model), torch.enable_grad():
        for _ in range(steps):
            attacked = attacked.detach().requires_grad_(True)
            logits = logits_of(model(attacked), output)
            check_class_labels(labels, logits)
            loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten())  # (M, C), (M,)
            (slope,) = torch.autograd.grad(loss, attacked)
            if not slope.any():
                raise ValueError("no gradient reaches the images: the model rounds without a straight-through gradient")
            attacked = (attacked + 2.5 * epsilon / steps * slope.sign()).clamp(low, high)
    return attacked.detach()


CORRUPTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "clean": lambda images: images,
    "noise": lambda images: add_noise(images, strength=0.1),
    "blur": lambda images: blur(images, radius=1.2),
    "faded": lambda images: fade(images, share=0.1),
    "covered": lambda images: cover(images, side=8),
}
"""Small corruptions of MNIST: all but the covered digits are read by people as before."""


def _check(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be > 0, got {value}")


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        found = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a floating-point tensor in [0, 1], got {found}: divide bytes by 255")
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(f"images must have shape (N, C, H, W), at least one, got {tuple(images.shape)}")
    if not ((images >= 0) & (images <= 1)).all():
        low, high = images.min().item(), images.max().item()
        raise ValueError(
            f"images must lie in [0, 1], found {low:.3g} to {high:.3g}: corrupt first, normalize afterwards"
        )
