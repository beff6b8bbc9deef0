"""The images of the judge: public ones, final ones that nobody has trained on, and worse versions of both."""

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from ..data import FULL_SHA256, Split, data_dir, full_dir, load_mnist
from ..models import load_model
from ..robustness import CORRUPTIONS, pgd_attack

ROBUST = 500
"""images of which there are worse versions"""
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
    """versions of the first images of the set that decides, by name; the first version is the images as they are"""

    @property
    def deciding(self) -> Split:
        """The final images, or the public ones where there are none."""
        return self.final or self.public


def digits(key: str | None = None, folder: Path | None = None) -> Digits:
    """The sets: final ones by ``key``, else MNIST's test file where ``folder`` (or ``$KDCOURSE_DATA``) has it."""
    embedded, root = load_mnist(), folder or full_dir()
    final, name = None, ""
    if key is not None:
        final, name = keyed_digits(embedded.test, key), f"1,000 digits made with the key ({fingerprint(key)})"
    elif all((root / "MNIST" / "raw" / file).is_file() for file in FULL_SHA256):  # else it would be downloaded
        final, name = load_mnist(subset=False, root=root).test, "MNIST's 10,000 test digits"
    elif folder is not None:
        raise FileNotFoundError(f"the full MNIST is not in {folder}: data/README.md says which four files it has")
    deciding = final or embedded.validation
    return Digits(embedded.validation, final, name, worse(deciding.take(torch.arange(ROBUST))))


def worse(split: Split) -> dict[str, Tensor]:
    """The images as they are, corrupted, and attacked through the course's networks."""
    found = {name: change(split.images) for name, change in CORRUPTIONS.items()}
    for name, file in SOURCES.items():
        source = load_model(data_dir() / file)
        parts = zip(split.images.split(250), split.labels.split(250), strict=True)
        attacked = [pgd_attack(source, images, labels, epsilon=EPSILON) for images, labels in parts]
        found[f"attacked, {name} teacher"] = torch.cat(attacked)
    return found


def keyed_digits(split: Split, key: str) -> Split:
    """Other images of the same digits, in another order: the same for the same key, and nobody's without it.

    Each is turned, scaled, sheared, shifted and bent smoothly, and its strokes made bolder or fainter, by numbers that
    SHAKE-256 draws from the key; then rounded to 256 levels. Raises ``ValueError`` for a short key.

    >>> from kdcourse.data import Split
    >>> digits = Split(torch.rand(3, 1, 28, 28), torch.tensor([1, 2, 3]))
    >>> one, other = (keyed_digits(digits, "a key of twelve or more" + end) for end in "ab")
    >>> sorted(one.labels.tolist()), torch.equal(one.images, other.images)
    ([1, 2, 3], False)
    """
    count = len(split.labels)
    stream = hashlib.shake_256(_secret(key)).digest(8 * count * (DRAWN + 1))
    drawn = np.frombuffer(stream, "<u8").astype(np.float64).reshape(count, DRAWN + 1) / 2.0**64
    images = split.images.numpy(force=True).astype(np.float64)[:, 0]
    changed = np.stack([_bent(image, 2 * own[1:] - 1) for image, own in zip(images, drawn, strict=True)])
    order = torch.from_numpy(np.argsort(drawn[:, 0], kind="stable"))
    rounded = torch.from_numpy(np.rint(255 * changed).astype(np.float32) / 255).unsqueeze(1)
    return Split(rounded, split.labels).take(order)


def fingerprint(key: str) -> str:
    """Eight digits that tell two keys apart and say nothing about them."""
    return hashlib.sha256(b"fingerprint" + _secret(key)).hexdigest()[:8]


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
