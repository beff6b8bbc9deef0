"""Digits from elsewhere in MNIST's form: scikit-learn's, of other writers and another scanner, and printed ones."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ._base.extras import needed
from .data import Mnist, Split, rows_digest, stratified_order

SCIKIT_SIZES = {"train": 100, "validation": 10}  # a class; the rest is the test split
SCIKIT_SPLIT_SHA256 = "ca6f2ab53212323a988b7221d1db96def1785ef8afd63e3e44cd77b21a514ea4"
SYMBOLS = ("cmex", "cmmi", "cmsy", "LastResort", "Display", "NonUni", "Siz")  # in names of fonts without plain digits
TURNS, ZOOMS = (-10.0, 0.0, 10.0), (0.8, 1.0)


def like_mnist(images: Tensor) -> Tensor:
    """Images (N, 8, 8) of integers 0 to 16 in MNIST's form: (N, 1, 28, 28) in [0, 1].

    Divided by 16, enlarged to 20 × 20 (bilinear) and centred on black, as MNIST's digits are fitted into 20 × 20.
    Floating point keeps its dtype, integers become float32. Raises ``ValueError`` for another shape or for values
    outside 0 to 16.

    >>> like_mnist(torch.full((2, 8, 8), 16)).sum(dim=(1, 2, 3))
    tensor([400., 400.])
    """
    if images.ndim != 3 or images.shape[1:] != (8, 8) or len(images) == 0:
        raise ValueError(f"need images (N, 8, 8), N >= 1, got {tuple(images.shape)}")
    if not ((images >= 0) & (images <= 16)).all():
        raise ValueError("the pixels must lie in 0 to 16, as scikit-learn's do")
    images = images if images.is_floating_point() else images.float()
    enlarged = F.interpolate(images.unsqueeze(1) / 16, size=(20, 20), mode="bilinear", align_corners=False)
    return F.pad(enlarged, (4, 4, 4, 4))


def load_scikit_digits() -> Mnist:
    """scikit-learn's 1,797 digits of 8 × 8 pixels in MNIST's form: 1,000 / 100 / 697, balanced but for the last.

    All writers are in every split. Source: Alpaydin, Kaynak 1998, UCI, doi:10.24432/C50P49, CC BY 4.0. Raises
    ``ImportError`` naming the extra that brings scikit-learn, ``ValueError`` for a copy with other digits.

    >>> digits = load_scikit_digits()
    >>> digits.train.images.shape, len(digits.validation.labels), len(digits.test.labels)
    (torch.Size([1000, 1, 28, 28]), 100, 697)
    """
    found = needed("sklearn.datasets", extra="data").load_digits()
    pixels, labels = found.images.astype(np.uint8), found.target.astype(np.int64)
    orders, start, parts = stratified_order(labels), 0, []
    for size in (*SCIKIT_SIZES.values(), len(labels)):
        parts.append(np.sort(np.concatenate([order[start : start + size] for order in orders.values()])))
        start += size
    if rows_digest([np.concatenate([pixels.reshape(-1), labels]).astype(np.int64), *parts]) != SCIKIT_SPLIT_SHA256:
        raise ValueError("scikit-learn's digits are not those that the splits were made for: install it again")
    whole = Split(like_mnist(torch.from_numpy(pixels)), torch.from_numpy(labels))
    return Mnist(*(whole.take(torch.from_numpy(rows)) for rows in parts))


def load_printed_digits() -> Mnist:
    """Printed digits in MNIST's form, from the fonts that come with matplotlib: 720 / 180 / 360.

    Each digit of each font appears turned by -10, 0 and 10 degrees, in two sizes. A font is in one split only. Raises
    ``ImportError`` naming the extra that brings matplotlib.

    >>> digits = load_printed_digits()
    >>> digits.train.images.shape, len(digits.validation.labels), len(digits.test.labels)
    (torch.Size([720, 1, 28, 28]), 180, 360)
    """
    fonts = plain_fonts()
    places = [(4, 0, 1, 6), (3,), (2, 5)]  # of every seven fonts
    splits = []
    for kept in places:
        drawn = [_glyph(font, digit) for place, font in enumerate(fonts) if place % 7 in kept for digit in range(10)]
        images = torch.cat([_changed(torch.stack(drawn), turn, zoom) for turn in TURNS for zoom in ZOOMS])
        splits.append(Split(images, torch.arange(10).repeat(len(images) // 10)))
    return Mnist(*splits)


def plain_fonts() -> list[Path]:
    """The files of matplotlib's fonts that draw the ten digits plainly, in alphabetical order.

    >>> len(plain_fonts())
    21
    """
    folder = Path(needed("matplotlib", extra="plots").get_data_path()) / "fonts" / "ttf"
    return [path for path in sorted(folder.glob("*.ttf")) if not any(word in path.name for word in SYMBOLS)]


def _glyph(font: Path, digit: int) -> Tensor:
    """One printed digit (1, 28, 28), its longer side 20 pixels, centred."""
    library = needed("matplotlib.ft2font", extra="plots")
    face = library.FT2Font(str(font))
    face.set_size(80, 72)
    face.set_text(str(digit), 0.0, flags=library.LoadFlags.NO_HINTING)
    face.draw_glyphs_to_bitmap(antialiased=True)
    ink = torch.from_numpy(np.array(face.get_image(), dtype=np.float32) / 255)
    rows, columns = (ink.amax(dim=dim).nonzero().flatten() for dim in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (max(1, round(20 * side / max(ink.shape))) for side in ink.shape)
    small = F.interpolate(ink[None, None], size=(height, width), mode="bilinear", antialias=True)[0]
    top, left = (28 - height) // 2, (28 - width) // 2
    return F.pad(small.clamp(0, 1), (left, 28 - width - left, top, 28 - height - top))


def _changed(images: Tensor, turn: float, zoom: float) -> Tensor:
    """The images turned by ``turn`` degrees and scaled by ``zoom``."""
    angle = torch.tensor(turn).deg2rad()
    rows = torch.stack([angle.cos(), -angle.sin(), angle * 0, angle.sin(), angle.cos(), angle * 0]) / zoom
    grid = F.affine_grid(rows.reshape(1, 2, 3).expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
