"""Start children for answers: from a server behind walls on Linux, else one process an answer with what there is."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..exercises.engine.core import Exercise
from .inside import frames
from .staging import PACKAGE, stage

SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/localtime",
          "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/sys/devices/system/cpu")  # fmt: skip
BOOT = (
    "import json, sys; plan = json.loads(sys.argv[1]); sys.path.insert(0, plan['base']); "
    "from kdcourse.classroom.inside.server import {function}; {function}(plan)"
)
STARTED = 120.0
"""seconds that PyTorch may take to be imported"""
MISSING = {
    "namespaces": "an answer can read the files that you can read, and sees your other processes: this system gives no "
    "namespaces of its own to ordinary users",
    "calls": "an answer can start processes and open connections: this system filters no system calls",
}


@dataclass(frozen=True)
class Limits:
    """What one answer may take: seconds a call and in all, bytes of memory, of files and of results, threads."""

    call: float = 10.0
    total: float = 300.0
    memory: int = 4 * 2**30
    files: int = 64 * 2**20
    result: int = 64 * 2**20
    processes: int = 64


class Server:
    """The process that forks the children, and its folder."""

    def __init__(self, *, walls: bool = True) -> None:
        self.folder, self.stages = new_folder()
        self.link, other = socket.socketpair()
        plan = {"base": str(self.stages / stage(self.stages, None)), "link": other.fileno(), "walls": walls,
                "root": str(self.folder / "root"), "shown": [*shown(), str(self.stages)], "hidden": hidden(),
                "paths": packages()}  # fmt: skip
        with other:
            self.process = start("main", plan, self.folder, [other.fileno()])
        self.end = weakref.finalize(self, _end, self.process, self.folder, self.link)
        try:
            self.missing = tuple(frames.receive(self.link, most=2**20, until=time.monotonic() + STARTED)[0]["missing"])
        except (frames.Closed, TimeoutError):
            self.end()
            raise RuntimeError("the process that grades did not start: can this Python import torch?") from None

    def start(self, exercise: Exercise, limits: Limits) -> "Child":
        """A fresh child for an answer to ``exercise``."""
        mine, other = socket.socketpair()
        folder = tempfile.mkdtemp(dir=self.folder / "tmp")
        asked = order(self, exercise, limits) | {"filter": "calls" not in self.missing, "folder": folder}
        with other:
            socket.send_fds(self.link, [json.dumps(asked).encode()], [other.fileno()])
        return Child(mine, Path(folder), self._stop)

    def _stop(self) -> int:
        """End the child, whatever it is doing; its exit status, 128 and the signal where a signal ended it."""
        with contextlib.suppress(OSError):
            self.link.settimeout(5)
            self.link.sendall(b"stop")
        return int(frames.receive(self.link, most=2**20, until=time.monotonic() + 60)[0]["code"])


class Alone:
    """Starts each child as a process of its own that imports PyTorch again: for systems that cannot fork one."""

    def __init__(self) -> None:
        self.folder, self.stages = new_folder()
        self.missing = ("namespaces", "calls")
        self.end = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def start(self, exercise: Exercise, limits: Limits) -> "Child":
        """A fresh child for an answer to ``exercise``."""
        mine, other = socket.socketpair()
        folder = tempfile.mkdtemp(dir=self.folder / "tmp")
        asked = order(self, exercise, limits) | {"filter": False, "folder": folder, "paths": packages()}
        course = str(self.stages / asked["stage"])
        with other:
            asked |= {"base": course, "course": course, "link": other.fileno()}
            process = start("alone", asked, self.folder, [other.fileno()], other)
        return Child(mine, Path(folder), lambda: _ended(process))


def order(kind: "Server | Alone", exercise: Exercise, limits: Limits) -> dict[str, Any]:
    """What a child is told of its place and its limits."""
    threads = 0 if "namespaces" in kind.missing else limits.processes
    return {"stages": str(kind.stages), "stage": stage(kind.stages, exercise), "memory": limits.memory,
            "files": limits.files, "seconds": round(2 * limits.total) + 10, "threads": threads}  # fmt: skip


def new_folder() -> tuple[Path, Path]:
    """A folder for all that the children need, and the one in it that holds copies of the package."""
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="kdcourse-grading-")))
    folder.chmod(0o755)
    for name in ("stages", "root", "tmp"):
        (folder / name).mkdir(mode=0o755)
    return folder, folder / "stages"


def start(
    function: str, plan: dict[str, Any], folder: Path, links: list[int], link: socket.socket | None = None
) -> "subprocess.Popen[bytes]":
    """A Python that knows nothing of this one's environment, and runs a function of `inside.server`."""
    windows = os.name == "nt"
    if windows:
        plan |= {"share": len(link.share(os.getpid()))}  # type: ignore[union-attr]
    # without site: an editable install would bring this package along
    command = [sys.executable, "-I", "-S", "-c", BOOT.format(function=function), json.dumps(plan)]
    process = subprocess.Popen(
        command,
        pass_fds=[] if windows else links,
        env=environment(),
        cwd=folder,
        stdin=subprocess.PIPE if windows else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=not windows,
    )
    if process.stdin:
        process.stdin.write(link.share(process.pid))  # type: ignore[union-attr]
        process.stdin.flush()
    return process


def _ended(process: "subprocess.Popen[bytes]") -> int:
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    return code if code >= 0 else 128 - code


def _end(process: "subprocess.Popen[bytes]", folder: Path, link: socket.socket) -> None:
    link.close()
    _ended(process)
    shutil.rmtree(folder, ignore_errors=True)


class Child:
    """One answer's process, seen from outside."""

    def __init__(self, link: socket.socket, folder: Path, end: Callable[[], int]) -> None:
        self.link, self._folder, self._end = link, folder, end
        self._code: int | None = None

    def stop(self) -> int:
        """End it, whatever it is doing; its exit status, 128 and the signal where a signal ended it."""
        if self._code is None:
            self.link.close()
            self._code = self._end()
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._code


def environment() -> dict[str, str]:
    """All that an answer finds in its environment."""
    needed = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    return {"OMP_NUM_THREADS": "1", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **needed}


def packages() -> list[str]:
    """Folders that hold PyTorch, NumPy and what was installed with them."""
    return sorted({str(Path(module.__file__ or "").resolve().parents[1]) for module in (torch, np)})


def shown() -> list[str]:
    """What of this system's files a child sees: Python, PyTorch, and the system's libraries."""
    roots = {os.path.realpath(sysconfig.get_path("stdlib")), *packages()}
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        roots |= {os.path.join(prefix, name) for name in ("lib", "lib64")}
    places = [place for place in sorted({*roots, *SYSTEM}) if os.path.lexists(place)]
    return [place for place in places if not any(place.startswith(other + "/") for other in places)]


def hidden() -> list[str]:
    """This package, where it is installed among the others."""
    return sorted({str(PACKAGE), *(os.path.join(place, "kdcourse") for place in packages())})


_servers: dict[tuple[int, int], Server | Alone] = {}


def server() -> Server | Alone:
    """This thread's server, which is started when it is first asked for."""
    key = os.getpid(), threading.get_ident()
    found = _servers.get(key)
    if isinstance(found, Server) and found.process.poll() is not None:
        found = None
    if found is None:
        found = _servers[key] = _best()
    return found


def _best() -> Server | Alone:
    """With walls if this system has them, without if not."""
    if not sys.platform.startswith("linux"):
        return Alone()
    try:
        return Server()
    except RuntimeError:  # a container may allow namespaces and forbid what belongs to them
        return Server(walls=False)


def restart() -> None:
    """Give up this thread's server; the next answer gets a new one."""
    if found := _servers.pop((os.getpid(), threading.get_ident()), None):
        found.end()


def isolation() -> tuple[str, ...]:
    """What is not isolated on this system, a sentence each; empty where everything is."""
    return tuple(MISSING[name] for name in server().missing)
