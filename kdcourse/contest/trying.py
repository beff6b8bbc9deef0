"""Start the process that runs a submission, wait for it no longer than it may take, and read what it left."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._base.extras import missing
from .receiving import Refused

PACKAGE = Path(__file__).resolve().parent.parent
# rooms whose own __init__ imports PyTorch, by their folders alone
BOOT = """
import json, sys, types
plan = json.loads(sys.argv[1])
sys.path[:0] = plan["paths"]
for room in ("contest", "quantization"):
    module = sys.modules["kdcourse." + room] = types.ModuleType("kdcourse." + room)
    module.__path__ = [plan["package"] + "/" + room]
from kdcourse.contest.inside import main
main(plan)
"""
LIBRARIES = {"numpy": "", "onnxruntime": "export", "onnx": "export", "constriction": "coding"}
OVERTIME = getattr(signal, "SIGXCPU", 24)
NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "would require more than")
"""words of onnxruntime's messages"""
UNLIMITED = {
    "memory": "this system limits no process's memory: judge files of strangers in a virtual machine",
    "calls": "this system filters no system calls: what runs a file could start processes and open connections",
}


PATIENCE = 1 if os.name == "nt" else 4


class Limits(NamedTuple):
    """What a submission may take: seconds of a processor, and bytes of memory beyond what the libraries take.

    On a busy machine a process may wait `PATIENCE` times as long; Windows counts the time that passes.
    """

    seconds: float = 15.0
    memory: int = 2**30


class Tried(NamedTuple):
    """What a submission gave."""

    logits: Tensor
    """(N, 10), each image alone"""
    times: list[tuple[float, float]]
    """milliseconds of one image: of the submission, and of the reference"""
    notes: list[str]
    spent: dict[str, int]
    """bytes of the file, by what they tell"""


def tried(content: bytes, reference: bytes, images: Tensor, limits: Limits) -> Tried:
    """Run a submission on every image alone, in a fresh process. Raises `Refused` with the reason."""
    with tempfile.TemporaryDirectory(prefix="kdcourse-judge-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _put(folder, content, reference, images)
        code = _run(folder, limits, len(images))
        found = _told(folder / "told.json")
        if code != 0 or found is None:
            raise Refused(_ended(code))
        if "broken" in found:
            raise ImportError(f"what runs a submission does not start here: {found['broken']}")
        if "memory" in found or any(word in str(found.get("error")) for word in NO_MEMORY):
            raise Refused(f"needs more than {limits.memory / 2**30:g} GiB of memory")
        for kind, start in (("refused", ""), ("error", "cannot be run: ")):
            if kind in found:
                raise Refused(start + plain(str(found[kind])))
        return _read(folder, found, len(images), len(content))


def plain(text: str, most: int = 240) -> str:
    """One line of printable characters: names in a file may hold anything, a card for example."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _put(folder: Path, content: bytes, reference: bytes, images: Tensor) -> None:
    (folder / "submission").write_bytes(content)
    (folder / "reference").write_bytes(reference)
    np.save(folder / "images.npy", images.numpy(force=True))


def _run(folder: Path, limits: Limits, images: int) -> int | None:
    """Its exit status; None where it was ended for taking too long."""
    plan = {"folder": str(folder), "package": str(PACKAGE), "paths": [str(PACKAGE.parent), *libraries()],
            "memory": limits.memory, "seconds": limits.seconds, "written": 40 * images + 2**16}  # fmt: skip
    needed = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", BOOT, json.dumps(plan)],
        env={**threads, **needed},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=os.name != "nt",
    )
    try:
        return process.wait(timeout=PATIENCE * limits.seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            with contextlib.suppress(OSError):
                process.kill() if os.name == "nt" else os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def libraries() -> list[str]:
    """The folders that hold what runs submissions; raises ``ImportError`` naming the extra that brings it."""
    places = []
    for name, extra in LIBRARIES.items():
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise missing(ModuleNotFoundError(name=name), extra=extra)
        places.append(str(Path(found.origin).parent.parent))
    return list(dict.fromkeys(places))


def _told(path: Path) -> dict[str, Any] | None:
    """What the process says; None where it says nothing that can be read."""
    with contextlib.suppress(OSError, ValueError):
        if path.stat().st_size < 2**16:
            found = json.loads(path.read_bytes())
            return found if isinstance(found, dict) else None
    return None


def _ended(code: int | None) -> str:
    if code is None or code == -OVERTIME:
        return "did not come to an end in time: an endless loop, or a network that is too slow"
    if code < 0:
        return f"ended the process that ran it (signal {-code}): more memory than allowed, or a fault in the runtime"
    return f"ended the process that ran it (status {code})"


def _read(folder: Path, found: dict[str, Any], count: int, size: int) -> Tried:
    with (folder / "logits.npy").open("rb") as file:
        logits = np.lib.format.read_array(file, allow_pickle=False)
    times = [(float(one), float(other)) for one, other in found.get("times", [])]
    if logits.shape != (count, 10) or logits.dtype != np.float32:
        raise Refused("left no outputs")
    notes = [plain(str(found["batch"]))] if found.get("batch") else []
    notes += [UNLIMITED[name] for name in found["missing"] if name in UNLIMITED]
    return Tried(torch.from_numpy(logits), times, notes, _spent(found.get("spent"), size))


def _spent(told: Any, size: int) -> dict[str, int]:
    """Parts that add up to the file's size; nothing where the process tells anything else."""
    if not isinstance(told, dict) or len(told) > 4 or any(type(part) is not int or part < 0 for part in told.values()):
        return {}
    return {plain(name, 30): part for name, part in told.items()} if sum(told.values()) == size else {}
