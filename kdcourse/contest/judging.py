"""One submission measured: bytes, accuracy, robustness and time, each with an interval."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..data import data_dir
from ..metrics import Interval
from .counts import Count, median_interval
from .inside import CODED
from .receiving import Refused, check_unchanged, received
from .sets import Digits, digits, spread
from .trying import Limits, plain, tried

REFERENCE = "compressed/model.onnx"


class Scores(NamedTuple):
    """What was measured of a file that ran."""

    public: Count
    final: Count | None
    versions: dict[str, Count]
    """of images spread over the set that decides: as they are, corrupted, attacked"""
    robust: Count
    """images that are right in all versions"""
    milliseconds: Interval
    """one image, the median"""
    ratio: Interval
    """to the reference file, in pairs"""
    logits: Tensor
    """of the public digits"""
    learned: Count | None = None
    """on the keyed digits that are made of embedded training digits"""
    spent: Mapping[str, int] = {}
    """bytes of the file, by what they tell"""

    @property
    def deciding(self) -> Count:
        """On the final images, or the public ones where there are none."""
        return self.final or self.public


class Entry(NamedTuple):
    """A submission: what was measured, or why nothing was."""

    name: str
    kind: str
    size: int
    digest: str
    scores: Scores | None
    refused: str
    notes: list[str]
    of_course: bool = False
    """whether it is one of the course's own files"""


def judge(
    path: str | Path, *, on: Digits | None = None, limits: Limits | None = None, name: str | None = None
) -> Entry:
    """Measure a submission, an ONNX file or one of the coded format, or say in ``refused`` why it is not measured.

    It runs in a fresh process under ``limits``, one image at a time, ``on`` the digits given: by default the public
    ones, and MNIST's test file where it is there. Raises ``ImportError`` where onnxruntime, onnx or constriction is not
    installed; nothing that is in the file raises.

    >>> with open("notes.txt", "w") as file:
    ...     _ = file.write("a card: 100 %")
    >>> judge("notes.txt").refused
    "ends in '.txt': hand in an ONNX file (.onnx) or a coded one (.kdc)"
    """
    path = Path(path)
    name, content = plain(path.name if name is None else name, 60), b""
    scores, refused, notes = None, "", list[str]()
    try:
        content = received(path)
        scores, notes = measured(content, on or digits(), limits or Limits())
        check_unchanged(path, content)
    except Refused as error:
        scores, refused = None, plain(str(error))
    kind = "coded" if content[:4] == CODED else "ONNX"
    return Entry(name, kind, len(content), hashlib.sha256(content).hexdigest(), scores, refused, notes)


def measured(content: bytes, on: Digits, limits: Limits) -> tuple[Scores, list[str]]:
    """Scores of a file's content, and what to note; raises `Refused`."""
    sets = [split for split in (on.public, on.final, on.learned) if split]
    parts = [split.images for split in sets] + list(on.worse.values())
    found = tried(content, (data_dir() / REFERENCE).read_bytes(), torch.cat(parts), limits)
    logits = found.logits.split([len(part) for part in parts])
    counts = [_count(part.argmax(dim=1) == split.labels) for part, split in zip(logits, sets, strict=False)]
    versions = {}
    labels = spread(on.deciding, len(parts[-1])).labels
    all_right = torch.ones(len(labels), dtype=torch.bool)
    for version, part in zip(on.worse, logits[len(sets) :], strict=True):
        right = part.argmax(dim=1) == labels
        versions[version], all_right = _count(right), all_right & right
    ours, ratios = [one for one, _ in found.times], [one / other for one, other in found.times]
    final = counts[1] if on.final else None
    times = median_interval(ours), median_interval(ratios)
    learned = counts[-1] if on.learned else None
    return Scores(counts[0], final, versions, _count(all_right), *times, logits[0], learned, found.spent), found.notes


def _count(right: Tensor) -> Count:
    return Count(int(right.sum()), len(right))
