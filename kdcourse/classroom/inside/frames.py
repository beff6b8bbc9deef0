"""Messages between judge and answer: a JSON header and bytes, each preceded by its length."""

import json
import socket
import struct
import time
from typing import Any

LENGTHS = struct.Struct("!IQ")
HEADER = 16 * 2**20
"""bytes that a header may have"""


class TooLong(Exception):
    """A message is longer than the reader takes."""


class Closed(Exception):
    """The other side is gone."""


def send(link: socket.socket, header: Any, body: bytes = b"") -> None:
    text = json.dumps(header).encode()
    link.sendall(LENGTHS.pack(len(text), len(body)) + text + body)


def receive(link: socket.socket, *, most: int, until: float | None = None) -> tuple[Any, bytes]:
    """The next message. Raises `TooLong` beyond ``most`` bytes, `Closed`, ``TimeoutError`` at ``until`` (monotonic).

    A header that is none raises ``ValueError``.
    """
    header, body = LENGTHS.unpack(_exactly(link, LENGTHS.size, until))
    if header > HEADER:
        raise ValueError("no header")
    if body > most:
        raise TooLong
    text = _exactly(link, header, until)
    return json.loads(text), _exactly(link, body, until)


def _exactly(link: socket.socket, count: int, until: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            link.settimeout(left)
        try:
            part = link.recv(min(count - len(parts), 2**20))
        except ConnectionError:
            part = b""
        if not part:
            raise Closed
        parts += part
    return bytes(parts)
