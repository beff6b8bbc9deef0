"""Linux's own walls, by its system calls: namespaces, mounts, and a filter of system calls."""

import ctypes
import os
import platform
import struct
from pathlib import Path

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, BIND, RECURSIVE, PRIVATE = 0x1, 0x2, 0x4, 0x1000, 0x4000, 0x40000
REMOUNT, DETACH = 0x20, 0x2
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
NO_NEW_PRIVILEGES, DEATH_SIGNAL, SECCOMP, DUMPABLE = 38, 1, 22, 4

_libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    assert _libc
    _checked(_libc.unshare(flags), "unshare")


def control(option: int, value: int) -> None:
    assert _libc
    _checked(_libc.prctl(option, value, 0, 0, 0), "prctl")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    assert _libc
    texts = [os.fsencode(text) for text in (source, target, kind)]
    _checked(_libc.mount(*texts, ctypes.c_ulong(flags), os.fsencode(options)), f"mount {target}")


def bind(source: str, target: str) -> None:
    """Show a folder or file at another place, to be read alone."""
    mount(source, target, "", BIND | RECURSIVE)
    kept = os.statvfs(target).f_flag & 0xFF  # flags that another user has set may not be taken off
    devices = 0 if source.startswith("/dev/") else NO_DEVICES
    mount("", target, "", BIND | REMOUNT | READ_ONLY | NO_SUID | devices | kept)


def become_root_of_own() -> None:
    """A user namespace in which this process may mount."""
    user, group = os.geteuid(), os.getegid()
    unshare(NEW_USER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def new_root(root: str, shown: list[str], hidden: list[str]) -> None:
    """A root folder in memory that holds ``shown``, read-only and at its own place, but not ``hidden``."""
    mount("", "/", "", RECURSIVE | PRIVATE)
    mount("tmpfs", root, "tmpfs", NO_SUID | NO_DEVICES, "size=16m,mode=755")
    os.mkdir(f"{root}/tmp")
    mount("tmpfs", f"{root}/tmp", "tmpfs", NO_SUID | NO_DEVICES, "size=16m,mode=755")
    for place in shown:
        _show(place, root)
    for place in hidden:
        if os.path.isdir(root + place):
            mount("tmpfs", root + place, "tmpfs", READ_ONLY | NO_SUID | NO_DEVICES, "size=4k,mode=755")
    for name in ("proc", "old", "course"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    mount_processes(f"{root}/proc")  # while the old one is still to be seen: only then may an ordinary user
    assert _libc
    number = PIVOT_ROOT[platform.machine()]
    _checked(_libc.syscall(number, os.fsencode(root), os.fsencode(f"{root}/old")), "pivot_root")
    os.chdir("/")
    _checked(_libc.umount2(b"/old", DETACH), "umount")
    os.rmdir("/old")
    mount("", "/", "", BIND | REMOUNT | READ_ONLY | NO_SUID | NO_DEVICES)  # or one answer leaves files to the next


def mount_processes(place: str) -> None:
    """Show the processes of this namespace, and no others."""
    mount("proc", place, "proc", NO_SUID | NO_DEVICES)


def _show(place: str, root: str) -> None:
    target = root + place
    if os.path.islink(place):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.lexists(target):
            os.symlink(os.readlink(place), target)
    elif os.path.isdir(place):
        os.makedirs(target, exist_ok=True)
        bind(place, target)
    elif os.path.exists(place):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
        bind(place, target)


def drop_rights() -> None:
    """No capability is left, and none comes back."""
    assert _libc
    control(NO_NEW_PRIVILEGES, 1)
    header = struct.pack("Ii", 0x20080522, 0)
    _checked(_libc.capset(header, struct.pack("6I", *[0] * 6)), "capset")
