"""A filter of system calls: an answer starts no process, opens no socket, and looks into no other process."""

import ctypes
import errno
import os
import platform
import struct
import sys

from .namespaces import NO_NEW_PRIVILEGES, SECCOMP, control

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X86 = {"fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "socket": 41, "connect": 42, "bind": 49, "listen": 50,
       "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_open": 434, "pidfd_getfd": 438,
       "pidfd_send_signal": 424, "tkill": 200, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161,
       "unshare": 272, "setns": 308, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsmount": 432,
       "mount_setattr": 442, "keyctl": 250, "add_key": 248, "request_key": 249, "bpf": 321, "perf_event_open": 298,
       "io_uring_setup": 425, "userfaultfd": 323, "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "msgget": 68,
       "semget": 64, "open_by_handle_at": 304, "name_to_handle_at": 303, "setpriority": 141,
       "personality": 135, "kcmp": 312, "process_madvise": 440, "seccomp": 317}  # fmt: skip
ARM = {"execve": 221, "execveat": 281, "socket": 198, "connect": 203, "bind": 200, "listen": 201, "ptrace": 117,
       "process_vm_readv": 270, "process_vm_writev": 271, "pidfd_open": 434, "pidfd_getfd": 438,
       "pidfd_send_signal": 424, "tkill": 130, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51,
       "unshare": 97, "setns": 268, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsmount": 432,
       "mount_setattr": 442, "keyctl": 219, "add_key": 217, "request_key": 218, "bpf": 280, "perf_event_open": 241,
       "io_uring_setup": 425, "userfaultfd": 282, "memfd_create": 279, "memfd_secret": 447, "shmget": 194,
       "msgget": 186, "semget": 190, "open_by_handle_at": 265, "name_to_handle_at": 264, "setpriority": 140,
       "personality": 92, "kcmp": 272, "process_madvise": 440, "seccomp": 277}  # fmt: skip
CLONE = {"x86_64": (56, 435), "aarch64": (220, 435)}
"""clone, and clone3, whose flags a filter cannot read: without it the C library takes the other"""
TO_ITSELF = {"x86_64": (62, 234), "aarch64": (129, 131)}
"""kill and tgkill: at itself alone"""
LIMITS = {"x86_64": 302, "aarch64": 261}
"""prlimit64: of itself alone"""

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x50000, 0x80000000
THREAD = 0x10000
NUMBER, MACHINE, FIRST, FIRST_HIGH = 0, 4, 16, 20


def install() -> None:
    """Filter this process's system calls from now on. Raises ``OSError`` where there is no such filter."""
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in ARCHITECTURE:
        raise OSError(errno.ENOSYS, "no filter of system calls for this machine")
    program = b"".join(_program(machine, os.getpid()))
    buffer = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
    control(NO_NEW_PRIVILEGES, 1)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(SECCOMP, 2, header, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter of system calls")


def _program(machine: str, own: int) -> list[bytes]:
    """Berkeley packet filter: load the number of the call, compare, return what to do."""
    refuse, missing = REFUSE | errno.EACCES, REFUSE | errno.ENOSYS
    clone, clone3 = CLONE[machine]
    lines = [_line(LOAD, MACHINE), _line(EQUAL, ARCHITECTURE[machine], 1, 0), _line(RETURN, KILL), _line(LOAD, NUMBER)]
    if machine == "x86_64":  # a second set of numbers for the same calls
        lines += [_line(AT_LEAST, 0x40000000, 0, 1), _line(RETURN, missing)]
    lines += [_line(EQUAL, clone3, 0, 1), _line(RETURN, missing)]
    lines += [_line(EQUAL, clone, 0, 4), _line(LOAD, FIRST), _line(ANY_BIT, THREAD, 1, 0)]
    lines += [_line(RETURN, refuse), _line(RETURN, ALLOW)]
    for number in TO_ITSELF[machine]:
        lines += [_line(EQUAL, number, 0, 4), _line(LOAD, FIRST), _line(EQUAL, own, 1, 0)]
        lines += [_line(RETURN, refuse), _line(RETURN, ALLOW)]
    lines += [_line(EQUAL, LIMITS[machine], 0, 5), _line(LOAD, FIRST), _line(EQUAL, own, 2, 0), _line(EQUAL, 0, 1, 0)]
    lines += [_line(RETURN, refuse), _line(RETURN, ALLOW)]
    for number in sorted((X86 if machine == "x86_64" else ARM).values()):
        lines += [_line(EQUAL, number, 0, 1), _line(RETURN, refuse)]
    return [*lines, _line(RETURN, ALLOW)]


def _line(code: int, value: int, when: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, when, otherwise, value)
