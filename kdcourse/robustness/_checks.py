"""What corruptions and attacks check of images, and of how much they change them."""

from torch import Tensor

from .._base.checks import check_float_images


def check_size(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be > 0, got {value}")


def check_images(images: Tensor) -> None:
    check_float_images(images, " in [0, 1]")
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(f"images must have shape (N, C, H, W), at least one, got {tuple(images.shape)}")
    if not ((images >= 0) & (images <= 1)).all():
        low, high = images.min().item(), images.max().item()
        raise ValueError(
            f"images must lie in [0, 1], found {low:.3g} to {high:.3g}: corrupt first, normalize afterwards"
        )
