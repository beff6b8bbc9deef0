"""ONNX files run by onnxruntime, on the CPU, with inputs that are checked first."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._base.checks import check_count
from .._base.extras import needed

StrPath = str | os.PathLike[str]
Batch = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""One input, several in their order, or several by name."""
DTYPES = {
    f"tensor({name})": getattr(torch, {"float": "float32", "double": "float64"}.get(name, name))
    for name in ("float", "double", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
WHERE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .* failed:)?(/\S+\.(h|cc):\d+ .*\) (?=[A-Z]))?"
)


class Input(NamedTuple):
    """What a file says of one of its inputs; a dimension that is free is a name."""

    name: str
    dtype: torch.dtype | None
    shape: tuple[int | str | None, ...]


def session(path: StrPath, *, threads: int = 1) -> Callable[..., Any]:
    """Load an ONNX file into onnxruntime, on the CPU; the function returned takes tensors and gives tensors.

    It takes the inputs in their order or by name, and returns the output, or several as a dict by name. Raises
    ``FileNotFoundError``, or ``ValueError`` when the file is damaged; when called, ``ValueError`` or ``TypeError``
    for inputs of another number, name, shape or dtype than the file's.

    >>> to_onnx(nn.Linear(4, 3), "layer.onnx", torch.zeros(2, 4))
    >>> layer = session("layer.onnx")
    >>> layer(torch.zeros(5, 4)).shape, layer(images=torch.zeros(1, 4)).shape
    (torch.Size([5, 3]), torch.Size([1, 3]))
    """
    check_count("threads", threads, least=1)
    loaded = load(path, threads=threads)
    inputs, outputs = inputs_of(loaded), [output.name for output in loaded.get_outputs()]

    def call(*tensors: Tensor, **named: Tensor) -> Any:
        found = execute(loaded, feed(inputs, tensors, named))
        return found[outputs[0]] if len(outputs) == 1 else found

    return call


def run(path: StrPath, *tensors: Tensor, threads: int = 1, **named: Tensor) -> Any:
    """Outputs of an ONNX file for one batch: `session` for a single call.

    >>> to_onnx(nn.Linear(4, 3), "layer.onnx", torch.zeros(2, 4))
    >>> run("layer.onnx", torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """
    return session(path, threads=threads)(*tensors, **named)


def file_bytes(path: StrPath) -> int:
    """Size of a file in bytes.

    >>> with open("three.bin", "wb") as file:
    ...     _ = file.write(b"abc")
    >>> file_bytes("three.bin")
    3
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {path}" + " (a folder)" * Path(path).is_dir())
    return Path(path).stat().st_size


def load(path: StrPath | bytes, *, threads: int = 1, fused: bool = True) -> Any:
    """An onnxruntime session of a file or its content; unless ``fused``, operators are run one by one as listed."""
    onnxruntime = needed("onnxruntime", extra="export")
    if not isinstance(path, bytes) and not Path(path).is_file():
        raise FileNotFoundError(f"no ONNX file at {path}: to_onnx() writes one")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong arrives as an exception
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base but this
        name = "the content" if isinstance(path, bytes) else path
        raise ValueError(f"{name} is not an ONNX model that onnxruntime can run: {head(error)}") from error


def inputs_of(loaded: Any) -> list[Input]:
    """The inputs that a session declares, in their order."""
    return [Input(part.name, DTYPES.get(part.type), tuple(part.shape)) for part in loaded.get_inputs()]


def execute(loaded: Any, arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """All outputs by name."""
    try:
        found = loaded.run(None, arrays)
    except Exception as error:
        raise ValueError(f"onnxruntime cannot run the file on these inputs: {head(error)}") from error
    return {part.name: torch.from_numpy(array) for part, array in zip(loaded.get_outputs(), found, strict=True)}


def feed(inputs: Sequence[Input], tensors: Sequence[Tensor], named: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arrays by input name, of tensors in their order and by name; raises where they are not what the file takes."""
    names = [part.name for part in inputs]
    given = dict(zip(names, tensors, strict=False)) | dict(named)
    if len(tensors) > len(names) or len(given) < len(tensors) + len(named) or given.keys() != set(names):
        raise ValueError(f"the file's inputs are {names}, got {len(tensors)} in order and {list(named)} by name")
    free: dict[str, int] = {}
    for part in inputs:
        _check(part, given[part.name], free)
    return {name: given[name].detach().cpu().contiguous().numpy() for name in names}


def feed_batch(inputs: Sequence[Input], batch: Batch) -> dict[str, Any]:
    """`feed` for a tensor, a sequence of tensors or a mapping."""
    if isinstance(batch, Mapping):
        return feed(inputs, (), batch)
    return feed(inputs, (batch,) if isinstance(batch, Tensor) else batch, {})


def head(error: BaseException) -> str:
    """The kind of an error and the first line of its message, which may be pages long, without places in C++."""
    lines = [line.strip() for line in WHERE.sub("", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:600]}" if lines else type(error).__name__


def _check(part: Input, tensor: Any, free: dict[str, int]) -> None:
    """Raise unless the tensor has the declared dtype and shape; ``free`` keeps what free dimensions have become."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"input {part.name!r} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype != part.dtype:
        raise TypeError(f"input {part.name!r} must be {part.dtype}, got {tensor.dtype}: convert it with .to()")
    pairs = list(zip(part.shape, tensor.shape, strict=False))
    fits = len(part.shape) == tensor.ndim
    for wanted, size in pairs:
        wanted = free.setdefault(wanted, size) if isinstance(wanted, str) else wanted
        fits = fits and wanted in (None, size)
    if not fits:
        shape = f"({', '.join(map(str, part.shape))})"
        sizes = "".join(f", {name} = {size}" for name, size in free.items())
        raise ValueError(f"input {part.name!r} must have shape {shape}{sizes}, got {tuple(tensor.shape)}")
