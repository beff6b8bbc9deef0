"""Stored results: one JSON file a job, whole at every moment, gone on with where the job stopped.

A file holds the ``recipe`` (every hyperparameter), the ``environment`` and a list of ``records``, one a
finished measurement: its key (``{"seed": 0, "arm": "alone"}``), what was measured, and the seconds it took;
and a ``digest`` of all that, so that nobody alters a number.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

import kdcourse
from kdcourse import training
from kdcourse._base.files import digest_of, exclusive, read_whole, write_whole
from kdcourse.data import Split
from kdcourse.seeds import seeded
from kdcourse.training import evaluate

Record = dict[str, Any]
Results = dict[str, Any]


def warm_up_from_zero(progress: float) -> float:
    """`cosine` as it was until kdcourse 0.1, with a first step of rate 0: jobs not measured again keep it."""
    return progress / 0.1 if progress < 0.1 else training.cosine(progress)


fit = partial(training.fit, schedule=warm_up_from_zero)
distill = partial(training.distill, schedule=warm_up_from_zero)


def write_json(path: str | os.PathLike[str], content: Results) -> None:
    """Write ``content`` and its digest beside ``path`` and rename it into place: a reader never sees half a file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    content = {**content, "digest": digest_of(content)}
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load(path: str | os.PathLike[str]) -> Results:
    """Read a results file. Raises ``FileNotFoundError`` or ``ValueError`` that says what to do."""
    path = Path(path)
    try:
        content = json.loads(read_whole(path), parse_constant=_refuse)
        stored: Results = {name: content[name] for name in ("recipe", "environment", "records")}
        if list(map(type, stored.values())) != [dict, dict, list] or any(
            type(one) is not dict for one in stored["records"]
        ):
            raise TypeError("its parts are of other kinds")
        if content.get("digest") != digest_of(content):
            raise ValueError("its numbers are not those that were stored")
    except FileNotFoundError:
        raise FileNotFoundError(f"no results at {path}: make results JOB={path.stem} measures them") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and measure again") from error
    return stored


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no result")


def environment(device: str = "cpu") -> dict[str, str]:
    """What the numbers may depend on: versions and the kind of machine, in words that identify nobody's."""
    machine = f"{platform.machine()} CPU, {os.cpu_count()} cores"
    if device.startswith("cuda"):
        machine = f"{torch.cuda.get_device_name(device)}, {machine}"
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "kdcourse": kdcourse.__version__,
    }
    return {**versions, "machine": machine}


def find(stored: Results, key: Record) -> Record | None:
    """The record with this key, or None when it has not been measured."""
    return next((record for record in stored["records"] if key.items() <= record.items()), None)


def resume(
    path: str | os.PathLike[str],
    key: Record,
    measure: Callable[[], Record],
    *,
    recipe: dict[str, Any],
    device: str = "cpu",
) -> Record:
    """The record with this key: read if it is there, else measured, timed and stored at once.

    Raises ``ValueError`` when the file was measured with another recipe, or must be continued in another
    environment: such records do not compare, so a file is finished the way it was begun, or deleted. What is
    measured takes no name of the key, or the record would not be found again.
    """
    new: Results = {"recipe": json.loads(json.dumps(recipe)), "environment": environment(device), "records": []}
    _, found = _look(path, key, new)
    if found is not None:
        return found
    begin = time.perf_counter()
    record = {**key, **measure()}
    if altered := sorted(name for name in key if record[name] != key[name]):
        raise ValueError(f"what was measured alters the key ({', '.join(altered)}): give it another name")
    record["seconds"] = round(time.perf_counter() - begin, 1)
    with exclusive(path):  # others may have gone on with the job meanwhile
        stored, found = _look(path, key, new)
        if found is None:
            write_json(path, {**stored, "records": [*stored["records"], record]})
    return found or record


def _look(path: str | os.PathLike[str], key: Record, new: Results) -> tuple[Results, Record | None]:
    """What is stored, ``new`` where nothing is, and the record with this key, if it has been measured."""
    try:
        stored = load(path)
    except FileNotFoundError:
        stored = new
    _check_same(path, "recipe", stored["recipe"], new["recipe"])
    found = find(stored, key)
    if found is None:
        _check_same(path, "environment", stored["environment"], new["environment"])
    return stored, found


def resume_all(
    path: str | os.PathLike[str], keys: list[Record], measure: Callable[..., Record], *, recipe: dict[str, Any]
) -> None:
    """`resume` every key in turn, with a bar; ``measure(**key)`` measures one."""
    for key in tqdm(keys, desc=Path(path).stem):
        resume(path, key, partial(measure, **key), recipe=recipe)


def chosen(path: str | os.PathLike[str], arm: str, settings: tuple[str, ...], **others: Any) -> tuple[Any, ...]:
    """The settings of an arm's try with the best mean accuracy on validation; the first of equals."""
    tries: dict[tuple[Any, ...], list[float]] = {}
    for record in load(path)["records"]:
        if {"arm": arm, **others}.items() <= record.items():
            tries.setdefault(tuple(record[name] for name in settings), []).append(record["validation"])
    return max(tries, key=lambda each: sum(tries[each]) / len(tries[each]))


def best_of(tries: Iterable[tuple[float, nn.Module]], validation: Split) -> tuple[Record, nn.Module]:
    """What to record of an arm's tries, and the network that is best on validation, the first of equals.

    By accuracy, and between equal ones by cross-entropy.
    """
    found = []
    for tried, network in tries:
        result = evaluate(network, validation)
        found.append((result.accuracy, -result.cross_entropy, tried, network))
    accuracy, _, chosen, network = max(found, key=lambda each: each[:2])
    return {"tried": [each[0] for each in found], "chosen": chosen, "validation": accuracy}, network


def first_of_each(split: Split, count: int) -> Split:
    """The first ``count`` images of each digit, digit by digit."""
    return split.take(torch.cat([(split.labels == digit).nonzero().flatten()[:count] for digit in range(10)]))


def with_copies(train: Split, count: int, distort: Callable[[Tensor], Tensor], seed: int) -> Split:
    """``train`` and, behind it, ``count - 1`` distorted copies of it."""
    with seeded(seed):
        distorted = [distort(batch) for _ in range(count - 1) for batch in train.images.split(5000)]
    return Split(torch.cat([train.images, *distorted]), train.labels.repeat(count))


def _check_same(path: str | os.PathLike[str], what: str, was: dict[str, Any], now: dict[str, Any]) -> None:
    changed = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    if changed:
        raise ValueError(f"{path} has another {what} ({', '.join(changed)}): delete it to begin anew")
