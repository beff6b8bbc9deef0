"""What an answer may not call is refused, and what it tries beyond its own folder is told."""

import os
import socket
import sys
import sysconfig
from collections.abc import Callable
from typing import Any, NoReturn

import torch

PROCESSES = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen",
             "pty.spawn", "os.kill", "os.killpg")  # fmt: skip
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
ORDINARY = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero", "/proc/self/", "/proc/cpuinfo", "/proc/meminfo",
            "/proc/stat", "/sys/devices/system/cpu", "/etc/localtime", "/usr/", "/lib", "/etc/ssl", "/etc/mime.types",
            "/etc/fonts", "/etc/nsswitch.conf", "/etc/host", "/etc/resolv.conf", "/etc/passwd",
            "/etc/os-release")  # fmt: skip
MOST = 20
"""reports of one answer"""

OPERATORS = {"log_softmax": "_log_softmax", "cross_entropy": "_log_softmax", "logsumexp": "logsumexp"}
"""which operator of PyTorch a forbidden function ends in"""
KEPT: list[torch.library.Library] = []


class Forbidden(Exception):
    """The answer calls what it is to build."""


def watch(forbidden: list[str], called: list[str], tell: Callable[[str], None]) -> None:
    """Refuse PyTorch's ``forbidden`` functions, and ``tell`` of network, processes and foreign files."""
    refuse_operators(forbidden, called)
    told: set[str] = set()
    own = [os.path.realpath(place) for place in (os.getcwd(), *sys.path, *sysconfig.get_paths().values()) if place]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        what = described(event, arguments, own)
        if what and what not in told and len(told) < MOST:
            told.add(what)
            tell(what)

    sys.addaudithook(hook)


def described(event: str, arguments: tuple[Any, ...], own: list[str]) -> str:
    """What an event of Python's own audit tries to reach; empty for ordinary ones."""
    if event in PROCESSES:
        return f"process: {event}"
    if event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6):
        return "network: socket.socket"  # where the system refuses this, nothing else is tried
    if event in NETWORK:
        return f"network: {event} {arguments[-1] if event == 'socket.connect' else ''}".strip()[:120]
    if event in ("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.chdir") and arguments:
        return _foreign(arguments[0], own)
    return ""


def _foreign(path: Any, own: list[str]) -> str:
    if not isinstance(path, str | bytes) or not path:
        return ""
    whole = os.path.realpath(os.fsdecode(path))
    if any(whole == place or whole.startswith(place.rstrip("/") + "/") for place in own):
        return ""
    return "" if whole.startswith(ORDINARY) else f"file: {os.fsdecode(path)}"[:120]


def refuse_operators(forbidden: list[str], called: list[str]) -> None:
    """Replace PyTorch's own kernels: every name and every other function leads to them."""
    for operator in sorted(
        {OPERATORS[dotted.rsplit(".", 1)[-1]] for dotted in forbidden if dotted.startswith("torch.")}
    ):
        library = torch.library.Library("aten", "IMPL")

        def forbidden_operator(*arguments: Any, operator: str = operator, **keywords: Any) -> NoReturn:
            called.append(f"torch's {operator.strip('_')}")
            raise Forbidden(operator)

        for key in ("CPU", "AutogradCPU"):
            library.impl(operator, forbidden_operator, key)
        KEPT.append(library)
