"""Everybody who writes a file with `kdcourse._base.files`, each as a way to write one of three contents and to read it.

Run as a program it kills writers: ``python tests/file_users.py FOLDER SIGKILL:5:progress`` forks a process for every
fifth step of a write of the progress, or else of everybody, and kills it there.
"""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import nbformat
import onnx
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "data" / "results"), str(ROOT / ".ci")]
import execute  # noqa: E402 (scripts, no package)
import store  # noqa: E402

from kdcourse import export  # noqa: E402
from kdcourse._base import files  # noqa: E402
from kdcourse.data import Split  # noqa: E402
from kdcourse.exercises.engine import records  # noqa: E402
from kdcourse.export import writing  # noqa: E402
from kdcourse.models import load_model, mlp, save_model  # noqa: E402
from kdcourse.pruning import read_layer, write_layer  # noqa: E402
from kdcourse.quantization import SharedWeight, read_coded, write_coded  # noqa: E402
from kdcourse.training import checkpoint, fit  # noqa: E402


class User(NamedTuple):
    """``write(path, 0)``, ``write(path, 1)`` and ``write(path, 2)`` leave what ``read(path)`` tells apart."""

    write: Callable[[Path, int], Any]
    read: Callable[[Path], Any]


def record(path: Path, which: int) -> None:
    with mock.patch.dict(os.environ, {"KDCOURSE_PROGRESS": str(path)}):
        records.record(f"00.{which + 1}", solved=True)


def recorded(path: Path) -> list[str]:
    with mock.patch.dict(os.environ, {"KDCOURSE_PROGRESS": str(path)}):
        return sorted(records.load())


def resume(path: Path, which: int) -> None:
    with mock.patch.object(store, "environment", return_value={}):
        store.resume(path, {"seed": which}, lambda: {"errors": 3}, recipe={"epochs": 2})


def coded(which: int) -> dict[str, SharedWeight]:
    return {"w": SharedWeight(torch.tensor([0.0, 0.5 + which]), torch.ones(4, 4, dtype=torch.uint8))}


def notebook(path: Path, which: int) -> None:
    cell = nbformat.v4.new_markdown_cell(f"number {which}")
    with (
        mock.patch.object(execute.NotebookClient, "execute"),
        mock.patch.object(execute, "read", return_value=nbformat.v4.new_notebook(cells=[cell])),
    ):
        execute.execute(path)


IMAGES = Split(torch.rand(4, 1, 28, 28), torch.arange(4))
NETWORKS = [mlp((3,), seed=seed).eval() for seed in range(3)]


def train(path: Path, which: int) -> None:
    """A run of another seed each time, which goes on with what it finds; the folder may hold the runs of others."""
    with mock.patch.object(checkpoint, "_read", side_effect=FileNotFoundError):
        fit(mlp((3,)), IMAGES, epochs=1, seed=which, checkpoint=path, progress=False)


def program(which: int) -> onnx.ModelProto:
    """What PyTorch's exporter, which takes seconds, could have made."""
    kind = onnx.TensorProto.FLOAT
    images = onnx.helper.make_tensor_value_info("images", kind, ["batch", 1, 28, 28])
    logits = onnx.helper.make_tensor_value_info("logits", kind, ["batch", 784])
    added = onnx.helper.make_tensor("added", kind, [1], [float(which)])
    nodes = [
        onnx.helper.make_node("Flatten", ["images"], ["flat"]),
        onnx.helper.make_node("Add", ["flat", "added"], ["logits"]),
    ]
    graph = onnx.helper.make_graph(nodes, "graph", [images], [logits], [added])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


class Plus(nn.Module):
    """What `program` computes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) + self.number


def to_onnx(path: Path, which: int) -> None:
    with mock.patch.object(writing, "traced", return_value=program(which)):
        export.to_onnx(Plus(which), path, torch.zeros(2, 1, 28, 28))


USERS = {
    "progress": User(record, recorded),
    "results": User(resume, lambda path: [found["seed"] for found in store.load(path)["records"]]),
    "checkpoint": User(
        lambda path, which: save_model(NETWORKS[which], path),
        lambda path: load_model(path)[1].weight[0, 0].item(),
    ),
    "coded file": User(
        lambda path, which: write_coded(path, coded(which)),
        lambda path: read_coded(path)["w"].codebook[1].item(),
    ),
    "sparse layer": User(
        lambda path, which: write_layer(path, torch.eye(3) + which, "csr"),
        lambda path: read_layer(path)[0, 0].item(),
    ),
    "training": User(train, lambda path: checkpoint._read(path)["identity"]),  # which is there from the first epoch on
    "ONNX": User(to_onnx, lambda path: export.run(path, torch.ones(1, 1, 28, 28)).sum().item()),
    "notebook": User(notebook, lambda path: nbformat.read(path, as_version=4).cells[0].source),
}


def kill_at(step: int, number: int) -> Callable[[], bool]:
    """Kill this process at a step: a line that it executes in the module of files, or a function of its lock.

    The function returned tells whether the step was reached.
    """
    left = step

    def look(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        ours = frame.f_code.co_filename == files.__file__
        if event == ("line" if ours else "call") and (ours or "filelock" in frame.f_code.co_filename):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)
        return look if ours else None

    sys.settrace(look)
    return lambda: left <= 0


def reached(user: User, path: Path, step: int, number: int) -> bool:
    """Whether a write in a process of its own, killed at this step, has so many steps."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yes = kill_at(step, number)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                user.write(path, 1)
        except KeyboardInterrupt:  # a kernel goes on after one
            sys.settrace(None)
            user.write(path, 1)
        finally:
            os._exit(yes())
    return os.waitpid(child, 0)[1] != 0


def main(folder: Path, name: str, stride: int, users: list[str]) -> None:
    path = folder / "file"
    for what in users:
        user = USERS[what]
        old, whole, after, step = b"", [], [], 1
        for before in ([0], [0, 1]):
            for which in before:
                user.write(path, which)
            whole.append(user.read(path))
            old = old or path.read_bytes()
            user.write(path, 2)
            after.append(user.read(path))
            path.unlink()
        path.write_bytes(old)
        while reached(user, path, step, getattr(signal, name)):
            where = f"{what}, {name} at step {step}"
            assert user.read(path) in whole, f"{where}: the file is broken"
            user.write(path, 2)  # the next run
            assert user.read(path) in after, f"{where}: the next run cannot write"
            assert os.listdir(folder) == ["file"], f"{where}: the next run leaves {os.listdir(folder)}"
            path.write_bytes(old)
            step += stride
        print(f"{what}: {name} at every {stride} of {step} steps")
        path.unlink()


if __name__ == "__main__":
    files.PATIENCE = 0.2, 8.0  # so that a lock left unsigned is taken over sooner
    for job in sys.argv[2:]:
        signal_name, stride, *users = job.split(":")
        main(Path(sys.argv[1]), signal_name, int(stride), users or list(USERS))
