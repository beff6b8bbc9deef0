"""A submitted file read once: from then on only these bytes are judged, whatever happens to the file."""

import os
import stat
from pathlib import Path

MOST_BYTES = 16 * 2**20
SUFFIXES = (".onnx", ".kdc")


class Refused(Exception):
    """Why a submission is not scored, as the rest of a sentence about it."""


def received(path: Path) -> bytes:
    """The content of a regular file of at most `MOST_BYTES`; raises `Refused` for anything else, without waiting."""
    if path.suffix.lower() not in SUFFIXES:
        raise Refused(f"ends in {path.suffix or 'no suffix'!r}: hand in an ONNX file (.onnx) or a coded one (.kdc)")
    if path.is_symlink():
        raise Refused("is a link: hand in the file itself")
    # a pipe without a writer would be waited for
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Refused("is a folder, a pipe or a device: hand in a file")
            if found.st_size > MOST_BYTES:
                raise Refused(f"has {found.st_size:,} bytes, and {MOST_BYTES:,} is the most that is read")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                content = file.read(MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise Refused(f"grew beyond {MOST_BYTES:,} bytes while it was read")
    if not content:
        raise Refused("is empty")
    return content


def check_unchanged(path: Path, content: bytes) -> None:
    """Raise `Refused` where the file is no longer what was judged."""
    try:
        now = received(path)
    except Refused as error:
        raise Refused(f"changed while it was judged: now it {error}") from None
    if now != content:
        raise Refused("changed while it was judged: hand it in when it is finished")
