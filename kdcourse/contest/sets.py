"""The images of the judge: public ones, final ones, and worse versions of those that decide.

Public digits are the embedded validation digits: their labels lie in the package, so that anybody can train or choose
on them. Final ones are made with a key, or are MNIST's test file, which is public, too.

What a key protects: the final images themselves. Nobody can store them, and nobody can choose among tries on them:
which digits are taken (where the full MNIST is there), how each is bent, the noise and the covered squares all follow
from it. What it does not protect: the digits they are made of are public, and so is the program that bends them.
Whoever trains on MNIST's test file, or without it on the embedded test digits, under bends of their own, has as good as
seen them. A second keyed set shows a part of that: it is made of embedded training digits, on which an honest entry is
as good or better. One that was trained on the test digits as well may show no gap, and neither may an honest one.
"""

import hashlib
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from ..data import FULL_SHA256, Split, data_dir, full_dir, load_full_test, load_mnist
from ..models import load_model
from ..robustness import CORRUPTIONS, pgd_attack

ROBUST = 500
"""images of which there are worse versions"""
KEYED = 1000
"""digits in a set that is made with a key"""
EPSILON = 0.05
SOURCES = {"small": "teacher.safetensors", "wide": "wide_teacher.safetensors"}
"""the course's networks that attacks are made for"""
LEAST_KEY = 12
ROUNDS = 200_000
GRID = 5
DRAWN = 7 + 2 * GRID**2
"""numbers drawn for each keyed image"""

Array = NDArray[np.float64]


class Digits(NamedTuple):
    """What a submission is judged on; the robustness is that on the final images, if there are any."""

    public: Split
    final: Split | None
    final_name: str
    worse: dict[str, Tensor]
    """versions of images `spread` over the set that decides, by name; the first version is the images as they are"""
    learned: Split | None = None
    """made with the key like the final ones, of embedded training digits, which any entry may have learned from"""

    @property
    def deciding(self) -> Split:
        """The final images, or the public ones where there are none."""
        return self.final or self.public


def digits(key: str | None = None, folder: Path | None = None, *, full: bool = True) -> Digits:
    """The sets. Final digits are MNIST's test file, where ``folder`` (or ``$KDCOURSE_DATA``) has it.

    With a ``key`` they are made from it, or else, or for ``full=False``, from the embedded test digits; all that is
    drawn follows from the key.
    Raises ``FileNotFoundError`` where ``folder`` lacks the full MNIST, ``ValueError`` for a short key.
    """
    embedded, root = load_mnist(), folder or full_dir()
    final, learned, name = None, None, ""
    if full and all((root / "MNIST" / "raw" / file).is_file() for file in FULL_SHA256):  # else it would be downloaded
        final, name = load_full_test(root), "MNIST's 10,000 test digits"
    elif folder is not None:
        raise FileNotFoundError(f"the full MNIST is not in {folder}: data/README.md says which four files it has")
    if key is not None:
        source = "MNIST's test file" if final else "embedded test digits"
        name = f"{KEYED:,} digits by key {fingerprint(key)}, {source}"
        final = keyed_digits(final or embedded.test, key, count=KEYED)
        learned = keyed_digits(embedded.train, key, count=KEYED, series="learned")
    hard = spread(final or embedded.validation, ROBUST)
    return Digits(embedded.validation, final, name, worse(hard, seed_of(key)), learned)


def spread(split: Split, count: int) -> Split:
    """So many images at equal distances: the first half of MNIST's test file is the easier one."""
    return split.take(torch.arange(count) * len(split.labels) // count)


def worse(split: Split, seed: int = 0) -> dict[str, Tensor]:
    """The images as they are, corrupted, and attacked through the course's networks; what is drawn is ``seed``'s."""
    found = {name: change(split.images, seed=seed) for name, change in CORRUPTIONS.items()}
    for name, file in SOURCES.items():
        source = load_model(data_dir() / file)
        parts = zip(split.images.split(250), split.labels.split(250), strict=True)
        attacked = [pgd_attack(source, images, labels, epsilon=EPSILON, seed=seed) for images, labels in parts]
        found[f"attacked, {name} teacher"] = torch.cat(attacked)
    return found


def keyed_digits(split: Split, key: str, *, count: int | None = None, series: str = "") -> Split:
    """Other images of ``count`` of the digits (default: all), in another order: nobody's without the key.

    Each is turned, scaled, sheared, shifted and bent smoothly, and its strokes made bolder or fainter, by numbers that
    SHAKE-256 draws from the key and the name of the ``series``; then rounded to 256 levels. The same key gives the same
    images. Raises ``ValueError`` for a short key, and for more digits than there are.

    >>> from kdcourse.data import Split
    >>> digits = Split(torch.rand(3, 1, 28, 28), torch.tensor([1, 2, 3]))
    >>> one, other = (keyed_digits(digits, "a key of twelve or more" + end) for end in "ab")
    >>> sorted(one.labels.tolist()), torch.equal(one.images, other.images)
    ([1, 2, 3], False)
    """
    there = len(split.labels)
    count = there if count is None else count
    if not 1 <= count <= there:
        raise ValueError(f"count must be from 1 to the {there} digits that there are, got {count}")
    stream = hashlib.shake_256(_secret(key) + series.encode()).digest(8 * there * (DRAWN + 1))
    drawn = np.frombuffer(stream, "<u8").astype(np.float64).reshape(there, DRAWN + 1) / 2.0**64
    order = np.argsort(drawn[:, 0], kind="stable")[:count]
    chosen = split.take(torch.from_numpy(order))
    images = chosen.images.numpy(force=True).astype(np.float64)[:, 0]
    changed = np.stack([_bent(image, 2 * own[1:] - 1) for image, own in zip(images, drawn[order], strict=True)])
    rounded = torch.from_numpy(np.rint(255 * changed).astype(np.float32) / 255).unsqueeze(1)
    return Split(rounded, chosen.labels)


def seed_of(key: str | None) -> int:
    """What noise, covered squares and attacks begin from: 0 without a key."""
    return 0 if key is None else int.from_bytes(hashlib.sha256(b"seed" + _secret(key)).digest()[:4])


def fingerprint(key: str) -> str:
    """Eight digits that tell two keys apart and say nothing about them."""
    return hashlib.sha256(b"fingerprint" + _secret(key)).hexdigest()[:8]


@cache
def _secret(key: str) -> bytes:
    """What is drawn from: slow to compute, so that keys cannot be tried by the million."""
    if len(key) < LEAST_KEY:
        raise ValueError(f"a key has {LEAST_KEY} characters or more, or it can be guessed; this one has {len(key)}")
    return hashlib.pbkdf2_hmac("sha256", key.encode(), b"kdcourse, the judge's final digits", ROUNDS)


def _bent(image: Array, drawn: Array) -> Array:
    """One image changed by numbers between -1 and 1."""
    angle, slope, zoom, tall = 0.2 * drawn[0], 0.15 * drawn[1], 1 + 0.1 * drawn[2], 1 + 0.08 * drawn[3]
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.array([[zoom * tall, 0.0], [slope, zoom / tall]])
    side = len(image)
    middle = (side - 1) / 2
    places = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij")).reshape(2, -1) - middle
    coarse = drawn[7:].reshape(2, GRID, GRID)
    cells = (places + middle) * (GRID - 1) / (side - 1)
    bend = np.stack([map_coordinates(part, cells, order=1, mode="nearest") for part in coarse])
    where = matrix @ places + middle + 1.5 * drawn[4:6, None] + 0.8 * bend
    found = map_coordinates(image, where, order=1, mode="constant").clip(0, 1)
    return np.asarray(found ** math.exp(0.35 * drawn[6])).reshape(side, side)
