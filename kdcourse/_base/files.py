"""Files that are whole or not there, whatever breaks off, and that several processes and threads may change at once."""

import errno
import hashlib
import json
import os
import platform
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from filelock import SoftFileLease, Timeout

StrPath = str | os.PathLike[str]
Result = TypeVar("Result")

WAITS = 0.02, 0.1
"""seconds after which what failed for a reason that may pass is tried again"""
PASSING = {errno.ESTALE, errno.EIO, errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT, errno.EBUSY}
PASSING |= {errno.EACCES} if os.name == "nt" else set()  # another process has the file open
DAY = 24 * 60 * 60
LEASE = 5.0
"""seconds after which a lock is taken over from a machine that no longer answers; the same in every process"""
PATIENCE = 5.0, 30.0
"""seconds that one waits for a lock: far more than it takes to change a file, and for as long as it may take"""
REASONS = {
    errno.ENOSPC: "the disk is full. Free some space and try again",
    errno.EDQUOT: "your quota of disk space is used up. Delete what you no longer need and try again",
    errno.EROFS: "the file system is read-only. Choose another place",
    errno.EACCES: "you have no permission. Change it, or choose another place",
    errno.EPERM: "you have no permission. Change it, or choose another place",
    errno.ESTALE: "the network file system has lost it. Try again, and if that does not help, mount it again",
    errno.ENOENT: "its folder does not exist. Make it first, or choose another place",
}


def digest_of(content: dict[str, Any]) -> str:
    """Sixteen digits that tell whether ``content``, but for its own ``digest``, is still what was written."""
    kept = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


_numbers = count()
_being_written: set[str] = set()


@contextmanager
def replacing(path: StrPath, *, mode: int = 0o666) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; it takes the place of ``path`` when the block ends well.

    An interruption leaves the old file whole and nothing beside it; what a killed process left is removed by the next.
    A link stays a link. The file keeps its permissions and owner; a new one has ``mode`` less the umask.
    Raises ``OSError`` with a sentence that names ``path`` and says what to do.
    """
    with _in_a_sentence("write", path):
        target = _target(path)
        temporary = _temporary(target)
        _being_written.add(temporary.name)
    try:
        with _in_a_sentence("write", path, temporary):
            _remove_leftovers(target)
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            yield temporary
            _flush(temporary)
            _take_over_rights(target, temporary)
            _patiently(lambda: os.replace(temporary, target))
    finally:
        with suppress(OSError):
            temporary.unlink()
        _being_written.discard(temporary.name)


def write_whole(path: StrPath, content: bytes | str, *, mode: int = 0o666) -> None:
    """Write a file, text as UTF-8, as `replacing` does."""
    with replacing(path, mode=mode) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def read_whole(path: StrPath) -> bytes:
    """All of a file; what fails once is tried again. Raises ``FileNotFoundError``, or ``OSError`` with a sentence."""
    with _in_a_sentence("read", path):
        _check_regular(Path(path))
        return _patiently(Path(path).read_bytes)


@contextmanager
def exclusive(path: StrPath) -> Iterator[None]:
    """One thread of one process is inside at a time, on all machines that share ``path``: to read, change and write it.

    The lock is a file beside ``path``, in a folder that is made if need be; no help of the file system is needed. One
    that was left behind is taken over: at once where its process is known to be dead, else after some seconds. Raises
    ``OSError`` with a sentence.
    """
    with _in_a_sentence("change", path):
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
    lock = SoftFileLease(_beside(target, "lock"), lease_duration=LEASE, poll_interval=0.01)
    try:
        with _in_a_sentence("change", path):
            _acquire(lock, path)
        yield
    finally:
        with suppress(OSError):  # what cannot be removed now, others take over
            lock.release(force=True)


def _acquire(lock: SoftFileLease, path: StrPath) -> None:
    for seconds in PATIENCE:
        try:
            lock.acquire(timeout=seconds)
            return
        except Timeout:
            if lock.is_lock_held_by_us or _stays_empty(Path(lock.lock_file)):
                lock.force_break()  # an interruption came before it was given back, or before it was signed
    held = f"another process has held {lock.lock_file} for {PATIENCE[-1]:g} s"
    raise TimeoutError(errno.EBUSY, f"cannot change {path}: {held}. Wait for it, or delete that file if there is none")


def _stays_empty(path: Path) -> bool:
    found = []
    for _ in range(2):
        with suppress(OSError):
            now = path.stat()
            found.append((now.st_size, now.st_ino, now.st_ctime_ns))
        time.sleep(0.2)
    return len(found) == 2 and found[0] == found[1] and found[0][0] == 0


def _target(path: StrPath) -> Path:
    """Where a link leads to; raise where nothing may be written."""
    target = Path(os.path.realpath(path))
    if _check_regular(target) and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return target


def _check_regular(path: Path) -> bool:
    """Whether there is a file; raise ``OSError`` for anything else, which reading may never end and writing destroy."""
    try:
        mode = _patiently(path.stat).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder. Name a file")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe. Name a file")
    return True


def _beside(target: Path, rest: str) -> Path:
    """A hidden neighbour, whose name is not too long where the target's is just not."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]
    return target.with_name(f".{target.name[:32]}-{digest}.{rest}")


def _temporary(target: Path) -> Path:
    return _beside(target, f"{_machine()}-{os.getpid()}-{next(_numbers)}.part")


def _machine() -> str:
    """What tells this machine's processes from those of others that share a file system, containers among them."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _remove_leftovers(target: Path) -> None:
    stem, machine = _beside(target, "").name, _machine()
    with suppress(OSError):
        for found in list(os.scandir(target.parent)):
            parts = found.name.removeprefix(stem).removesuffix(".part").split("-")
            if found.name == f"{stem}{'-'.join(parts)}.part" and len(parts) == 3:
                with suppress(OSError, ValueError):
                    dead = parts[0] == machine and not _is_writing(int(parts[1]), found.name)
                    if dead or time.time() - found.stat().st_mtime > DAY:
                        os.unlink(found.path)


def _is_writing(process: int, name: str) -> bool:
    if process == os.getpid():
        return name in _being_written
    if os.name == "nt":  # where os.kill ends a process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _flush(temporary: Path) -> None:
    """Wait until the content has reached the disk, and with it any error of the disk."""
    with temporary.open("rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise


def _take_over_rights(target: Path, temporary: Path) -> None:
    try:
        was, is_now = target.stat(), temporary.stat()
    except FileNotFoundError:
        return
    with suppress(OSError, AttributeError):  # not every file system, and not everyone, can give a file away
        if (was.st_uid, was.st_gid) != (is_now.st_uid, is_now.st_gid):
            os.chown(temporary, was.st_uid, was.st_gid)
    with suppress(OSError):
        if stat.S_IMODE(was.st_mode) != stat.S_IMODE(is_now.st_mode):
            temporary.chmod(stat.S_IMODE(was.st_mode))


def _patiently(action: Callable[[], Result]) -> Result:
    for wait in WAITS:
        try:
            return action()
        except OSError as error:
            if error.errno not in PASSING:
                raise
        time.sleep(wait)
    return action()


@contextmanager
def _in_a_sentence(what: str, path: StrPath, temporary: Path | None = None) -> Iterator[None]:
    try:
        yield
    except (Timeout, TimeoutError):
        raise
    except OSError as error:
        about_others = error.filename is not None and temporary is not None and Path(error.filename) != temporary
        if about_others or (what == "read" and isinstance(error, FileNotFoundError)):
            raise
        reason = REASONS.get(error.errno or 0) or error.strerror or str(error)
        kept = "" if what == "read" else "; what was there before is unchanged"
        sentence = f"cannot {what} {os.fspath(path)}: {reason}{kept}"
        raise (OSError(error.errno, sentence) if error.errno else OSError(sentence)) from error
