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
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..exercises.engine.core import Exercise
from .inside import frames
from .staging import PACKAGE, stage

SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/localtime",
          "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/sys/devices/system/cpu")  # fmt: skip
BOOT = "import json, sys; plan = json.loads(sys.argv[1]); sys.path.insert(0, plan['base']); {start}(plan)"
SERVER = BOOT.format(start="from kdcourse.classroom.inside.server import main; main")
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
        self.folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="kdcourse-grading-")))
        self.folder.chmod(0o755)
        for name in ("stages", "root", "tmp"):
            (self.folder / name).mkdir(mode=0o755)
        self.stages = self.folder / "stages"
        self.link, other = socket.socketpair()
        base = self.stages / stage(self.stages, None)
        plan = {"base": str(base), "link": other.fileno(), "walls": walls, "root": str(self.folder / "root"),
                "shown": [*shown(), str(self.stages)], "hidden": hidden(), "paths": packages()}  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", SERVER, json.dumps(plan)],
            pass_fds=[other.fileno()],
            env=environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        other.close()
        self.end = weakref.finalize(self, _end, self.process, self.link, self.folder)
        self.link.settimeout(STARTED)
        self.missing = tuple(frames.receive(self.link, most=2**20)[0]["missing"])

    def start(self, exercise: Exercise, limits: Limits) -> "Child":
        """A fresh child for an answer to ``exercise``."""
        mine, other = socket.socketpair()
        asked = {"stages": str(self.stages), "stage": stage(self.stages, exercise), "memory": limits.memory,
                 "files": limits.files, "seconds": round(2 * limits.total) + 10, "filter": "calls" not in self.missing,
                 "threads": 0 if "namespaces" in self.missing else limits.processes,
                 "folder": str(self.folder / "tmp")}  # fmt: skip
        socket.send_fds(self.link, [json.dumps(asked).encode()], [other.fileno()])
        other.close()
        return Child(self, mine)


def _end(process: "subprocess.Popen[bytes]", link: socket.socket, folder: Path) -> None:
    link.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


class Child:
    """One answer's process, seen from outside."""

    def __init__(self, server: Server, link: socket.socket) -> None:
        self.server, self.link = server, link
        self.code: int | None = None

    def stop(self) -> int:
        """End it, whatever it is doing; its exit status, 128 and the signal where a signal ended it."""
        if self.code is None:
            self.link.close()
            with contextlib.suppress(OSError):
                self.server.link.sendall(b"stop")
            self.server.link.settimeout(30)
            self.code = int(frames.receive(self.server.link, most=2**20)[0]["code"])
        return self.code


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


_servers: dict[tuple[int, int], Server] = {}


def server() -> Server:
    """This thread's server, which is started when it is first asked for."""
    key = os.getpid(), threading.get_ident()
    if key not in _servers or _servers[key].process.poll() is not None:
        _servers[key] = Server()
    return _servers[key]


def isolation() -> tuple[str, ...]:
    """What is not isolated on this system, a sentence each; empty where everything is."""
    return tuple(MISSING[name] for name in server().missing)
