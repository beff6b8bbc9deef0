"""The course's own files as entries: what they score is stored, and how long they take is measured here.

`make results JOB=baselines_judged` stores it. It counts for these files, digits and attacks alone: on others, such as
those of a key, they are judged again.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._base.places import say
from ..data import data_dir, load_results
from .counts import Count
from .inside import BATCH
from .judging import REFERENCE, Entry, Scores, judge
from .receiving import SUFFIXES
from .sets import EPSILON, SOURCES, Digits

JOB = "baselines_judged"
SEEN = {"lenet_300_100.kdc": "was trained on the full MNIST, and has seen the public digits and those behind a key"}
"""what to know of the course's own files"""
STEPS = 32767
"""of stored logits, up to the largest"""


def baselines(on: Digits) -> list[Entry]:
    """The course's own files, each judged or, where its scores are stored, only timed; says which are judged."""
    stored, of, entries, again = known(), identity(on), list[Entry](), list[str]()
    for path in files():
        scores = stored.get((hashlib.sha256(path.read_bytes()).hexdigest(), of))
        again += [] if scores else [path.name]
        entry = judge(path, on=_few(on) if scores else on, name=f"{path.name} (the course's)")
        if scores and entry.scores:
            entry = entry._replace(scores=entry.scores._replace(**scores))
        notes = [*entry.notes, *filter(None, [SEEN.get(path.name)])]
        entries.append(entry._replace(of_course=True, notes=notes))
    if again:
        say(f"Judged now, for no scores of these files on these digits are stored: {', '.join(again)}.")
    return entries


def files() -> list[Path]:
    """Those of data/baselines, the reference, and the coded LeNet."""
    own = [path for path in sorted((data_dir() / "baselines").glob("*")) if path.suffix in SUFFIXES]
    return [*own, data_dir() / REFERENCE, *(data_dir() / name for name in SEEN)]


def known() -> dict[tuple[str, str], dict[str, Any]]:
    """Stored scores without times, by the SHA-256 of the file and the `identity` of the digits."""
    try:
        records = load_results(JOB)["records"]
    except FileNotFoundError:
        return {}
    return {(record["sha256"], record["digits"]): _scores(record) for record in records}


def identity(on: Digits) -> str:
    """Sixteen digits of all that decides scores but the submission.

    The worse images themselves are not among it: another processor rounds them differently. Whoever changes how they
    are made, or how files run, renews what is stored: `tests/test_course_files.py` judges these files and compares.
    """
    splits = on.public, on.final, on.learned
    found = hashlib.sha256(json.dumps([list(on.worse), EPSILON, [bool(split) for split in splits]]).encode())
    for tensor in [*(part for split in splits for part in split or ()), next(iter(on.worse.values()))]:
        found.update(str(tuple(tensor.shape)).encode() + tensor.numpy(force=True).tobytes())
    for name in SOURCES.values():
        found.update((data_dir() / name).read_bytes())
    return found.hexdigest()[:16]


def counted(scores: Scores) -> dict[str, Any]:
    """What is stored of scores: all but times. Logits become 16-bit integers, finer than what makes files twins."""
    largest = float(scores.logits.abs().max()) or 1.0
    integers = (scores.logits * (STEPS / largest)).round().numpy().astype("<i2")
    return {"public": scores.public, "final": scores.final, "versions": scores.versions, "robust": scores.robust,
            "largest": largest, "logits": b64encode(integers.tobytes()).decode()}  # fmt: skip


def _scores(record: dict[str, Any]) -> dict[str, Any]:
    """What `counted` gave, from JSON."""
    integers = np.frombuffer(b64decode(record["logits"]), "<i2").astype(np.float32)
    logits = torch.from_numpy(integers * (record["largest"] / STEPS)).reshape(-1, 10)
    versions = {name: Count(*count) for name, count in record["versions"].items()}
    final = Count(*record["final"]) if record["final"] else None
    return {"public": Count(*record["public"]), "final": final, "versions": versions,
            "robust": Count(*record["robust"]), "logits": logits}  # fmt: skip


def _few(on: Digits) -> Digits:
    """Enough images to time it."""
    split = on.public.take(torch.arange(min(BATCH, len(on.public.labels))))
    return Digits(split, None, "", {"clean": split.images})
