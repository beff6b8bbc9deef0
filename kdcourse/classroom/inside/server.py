"""A process that has imported PyTorch and forks a child for each answer; it runs no answer itself.

The judge hands it one end of a socket for each child. A child gets folders, processes and a network of its own, as far
as the system has them, no rights, limits, and nothing of the server but memory that holds no secret.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from ..._base import namespaces
from . import frames

NOBODY = 65534
OUT_OF_MEMORY = 77
"""exit status of a child that could not even tell"""


def main(plan: dict[str, Any]) -> None:
    """Go behind the walls, import PyTorch, tell what is missing, and fork until the judge is gone."""
    link = socket.socket(fileno=plan["link"])
    missing = enter(plan) if plan["walls"] else ["namespaces"]
    if missing:
        namespaces.control(namespaces.DUMPABLE, 0)  # then no child reads this process's memory
    sys.path += [place for place in plan["paths"] if place not in sys.path]
    warm_up()
    missing += [] if filters_work() else ["calls"]
    frames.send(link, {"missing": missing})
    gc.freeze()
    while True:
        asked, descriptor = order(link)
        frames.send(link, serve(asked, descriptor, link, walled="namespaces" not in missing))


def order(link: socket.socket) -> tuple[dict[str, Any], int]:
    """The judge's next order and the socket for the child; ends the server where the judge is gone."""
    while True:
        text, descriptors, _, _ = socket.recv_fds(link, 2**16, 1)
        if not text:
            os._exit(0)
        if descriptors:
            return json.loads(text[text.index(b"{") :]), descriptors[0]  # a late "stop" may stand before it


def enter(plan: dict[str, Any]) -> list[str]:
    """Put this process behind namespaces of its own; what could not be had."""
    namespaces.control(namespaces.DEATH_SIGNAL, signal.SIGKILL)
    try:
        if os.geteuid() != 0:
            namespaces.become_root_of_own()
        kinds = namespaces.NEW_MOUNTS | namespaces.NEW_PIDS | namespaces.NEW_NET | namespaces.NEW_IPC
        namespaces.unshare(kinds)
    except OSError:
        return ["namespaces"]
    child = os.fork()  # the first process of the new process namespace; with it all others end
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    namespaces.control(namespaces.DEATH_SIGNAL, signal.SIGKILL)
    namespaces.new_root(plan["root"], plan["shown"], plan["hidden"])
    return []


def warm_up() -> None:
    import numpy  # noqa: F401
    import torch
    import torch._dynamo  # imported by the first optimizer otherwise

    from ..._base import calls  # noqa: F401 (a child does not see these files any more)
    from . import runner  # noqa: F401

    with contextlib.suppress(ImportError):
        import scipy.stats  # noqa: F401
    torch.set_num_threads(1)


def filters_work() -> bool:
    """Whether a child can filter its system calls."""
    child = os.fork()
    if child == 0:
        from ..._base import calls

        try:
            calls.install()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def serve(asked: dict[str, Any], descriptor: int, link: socket.socket, *, walled: bool) -> dict[str, Any]:
    """Fork a child that answers on ``descriptor``; wait for its end, or kill it when the judge says a word."""
    news, told = os.pipe()
    nanny = os.fork()
    if nanny == 0:
        os.close(news)
        link.close()
        _end(lambda: _nurse(asked, descriptor, told, walled))
    os.close(told)
    os.close(descriptor)
    child = int(os.read(news, 16) or 0)
    watched = os.pidfd_open(nanny)
    ready = select.select([watched, link.fileno()], [], [])[0]
    if watched not in ready:
        if not link.recv(1, socket.MSG_PEEK):
            os._exit(0)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child or nanny, signal.SIGKILL)
    _, status, used = os.wait4(nanny, 0)
    os.close(watched)
    os.close(news)
    if select.select([link.fileno()], [], [], 0)[0]:
        link.recv(4)
    return {"code": os.waitstatus_to_exitcode(status), "kilobytes": used.ru_maxrss}


def _nurse(asked: dict[str, Any], descriptor: int, told: int, walled: bool) -> None:
    """Give the child its own folders and process numbers, start it, and end as it ends."""
    if walled:
        namespaces.unshare(namespaces.NEW_MOUNTS | namespaces.NEW_PIDS | namespaces.NEW_NET | namespaces.NEW_IPC)
        namespaces.mount("", "/", "", namespaces.RECURSIVE | namespaces.PRIVATE)
        namespaces.bind(f"{asked['stages']}/{asked['stage']}", "/course")
        size = f"size={asked['files']},mode=1777"
        for place, options in ((asked["stages"], "size=4k,mode=755"), ("/tmp", size)):
            namespaces.mount("tmpfs", place, "tmpfs", namespaces.NO_SUID | namespaces.NO_DEVICES, options)
    child = os.fork()
    if child == 0:
        os.close(told)
        _end(lambda: _child(asked, descriptor, walled))
    os.write(told, str(child).encode())
    os.close(told)
    os.close(descriptor)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _end(run: Callable[[], None]) -> None:
    """Run the last thing that this process does; nothing of its parent's goes on."""
    try:
        run()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _child(asked: dict[str, Any], descriptor: int, walled: bool) -> None:
    course = "/course" if walled else f"{asked['stages']}/{asked['stage']}"
    os.setsid()
    if walled:
        namespaces.mount_processes("/proc")
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    become_nobody(asked, walled)
    begin(asked, descriptor, course, "/tmp" if walled else asked["folder"])


def become_nobody(asked: dict[str, Any], walled: bool) -> None:
    """Give up root, where this is root, and every capability."""
    if os.geteuid() == 0 and walled:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if sys.platform.startswith("linux"):
        namespaces.drop_rights()


def begin(asked: dict[str, Any], descriptor: int, course: str, folder: str) -> None:
    """Limit this process, forget the server's `kdcourse`, and run the answer."""
    from ..._base import calls
    from .runner import main as run

    limit(asked)
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder, MPLCONFIGDIR=folder, MPLBACKEND="agg")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    link = socket.socket(fileno=os.dup2(descriptor, 3) if os.name == "posix" else descriptor)
    if os.name == "posix":
        os.closerange(4, 1024)
    for name in [name for name in sys.modules if name.partition(".")[0] == "kdcourse"]:
        del sys.modules[name]
    sys.path[0] = course
    if asked["filter"]:
        calls.install()
    run(link)


def limit(asked: dict[str, Any]) -> None:
    """Memory beyond what PyTorch takes, size of files, seconds of processor time, threads."""
    try:
        import resource
    except ImportError:
        return
    used = 0
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    wanted = {resource.RLIMIT_AS: used + asked["memory"], resource.RLIMIT_FSIZE: asked["files"],
              resource.RLIMIT_CPU: asked["seconds"], resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 256}  # fmt: skip
    if asked["threads"]:
        wanted[resource.RLIMIT_NPROC] = asked["threads"]
    for which, most in wanted.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (most, most))


def alone(plan: dict[str, Any]) -> None:
    """One child without a server and without walls, where this system has neither."""
    if "share" in plan:
        link = socket.fromshare(sys.stdin.buffer.read(plan["share"]))  # type: ignore[attr-defined]
    else:
        link = socket.socket(fileno=plan["link"])
    sys.path += [place for place in plan["paths"] if place not in sys.path]
    warm_up()
    begin(plan, link.detach(), plan["course"], plan["folder"])
