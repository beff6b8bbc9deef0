"""Images made worse at random: noise, blur, less contrast, a covered square. They stay in [0, 1]."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..seeds import seeded
from ._checks import check_images, check_size


def add_noise(images: Tensor, *, strength: float, seed: int = 0) -> Tensor:
    """Normal noise of standard deviation ``strength`` on every pixel, clipped to [0, 1].

    >>> noisy = add_noise(torch.full((1, 1, 28, 28), 0.5), strength=0.1)
    >>> 0.08 < noisy.std() < 0.12
    tensor(True)
    """
    check_size("strength", strength)
    check_images(images)
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
    check_size("radius", radius)
    check_images(images)
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
    check_size("share", share)
    check_images(images)
    if share > 1:
        raise ValueError(f"share must be at most 1, got {share}")
    return images * (1 - share) + share / 2


def cover(images: Tensor, *, side: int, seed: int = 0) -> Tensor:
    """A black square of ``side`` pixels at a place of its own in every image.

    >>> covered = cover(torch.ones(2, 1, 28, 28), side=8)
    >>> (covered == 0).sum().item()
    128
    """
    check_images(images)
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


CORRUPTIONS: Mapping[str, Callable[..., Tensor]] = {
    "clean": lambda images, seed=0: images,
    "noise": lambda images, seed=0: add_noise(images, strength=0.1, seed=seed),
    "blur": lambda images, seed=0: blur(images, radius=1.2),
    "faded": lambda images, seed=0: fade(images, share=0.1),
    "covered": lambda images, seed=0: cover(images, side=8, seed=seed),
}
"""Small corruptions of MNIST, of images and perhaps a ``seed``: people read all but the covered digits as before."""
