"""magika, which recognises the type of a file by its first and last 1,024 bytes."""

import json
import os
from collections.abc import Callable

import torch
from torch import Tensor

from ..export import session
from ._packages import Packaged

INSTALL = "pip install --no-deps magika==1.0.3"
NETWORK = Packaged(
    "magika",
    "magika",
    "models/standard_v3_3/model.onnx",
    "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
    INSTALL,
)
SETTINGS = Packaged(
    "magika",
    "magika",
    "models/standard_v3_3/config.min.json",
    "ae24c742205358f6ff6dfd5facb6743fb69743dbba8373e73da58ff0cbd695db",
    INSTALL,
)
PART, BLOCK, PADDING = 1024, 4096, 256  # bytes at each end, of so many that are read; the token of no byte


def file_bytes_read(path: str | os.PathLike[str]) -> Tensor:
    """What magika reads of a file, (2048,) int32: its first 1,024 bytes and its last, 256 where there is none.

    White space is taken off the start of the first 4,096 bytes, and off the end of the last 4,096.

    >>> with open("short.txt", "wb") as file:
    ...     _ = file.write(b"  ab\\n")
    >>> file_bytes_read("short.txt")[[0, 1, 2, 3, -3, -2, -1]].tolist()
    [97, 98, 10, 256, 32, 97, 98]
    """
    with open(path, "rb") as file:
        first = file.read(BLOCK).lstrip()[:PART]
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - BLOCK))
        last = file.read().rstrip()[-PART:]
    tokens = torch.full((2 * PART,), PADDING, dtype=torch.int32)
    tokens[: len(first)] = torch.tensor(list(first), dtype=torch.int32)
    tokens[2 * PART - len(last) :] = torch.tensor(list(last), dtype=torch.int32)
    return tokens


def file_type_labels() -> list[str]:
    """The 214 types that magika tells apart, in the order of its outputs.

    >>> len(file_type_labels()), "python" in file_type_labels()
    (214, True)
    """
    found: list[str] = json.loads(SETTINGS.read())["target_labels_space"]
    return found


def file_type_classifier(*, threads: int = 1) -> Callable[[Tensor], Tensor]:
    """magika run by onnxruntime: tokens (N, 2048) int32, as `file_bytes_read` makes them, to probabilities (N, 214).

    Raises ``ImportError`` that names the package where it is missing, ``ValueError`` where the file is another.

    >>> with open("hello.py", "w") as file:
    ...     _ = file.write("import os\\n\\n\\ndef main():\\n    print(os.getcwd())\\n")
    >>> probabilities = file_type_classifier()(file_bytes_read("hello.py")[None])
    >>> file_type_labels()[probabilities.argmax()]
    'python'
    """
    NETWORK.read()
    found: Callable[[Tensor], Tensor] = session(NETWORK.path(), threads=threads)
    return found
