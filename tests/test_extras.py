"""The package without its extras: what works, what says which one to install, and that nothing is told to anyone."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kdcourse._base.extras import missing, needed

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {name: {re.match(r"[\w-]+", line)[0] for line in lines} - {"kdcourse"}
          for name, lines in PROJECT["optional-dependencies"].items()}  # fmt: skip
LIBRARY = ("coding", "data", "export", "plots", "scale", "widgets")
ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in %r:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())

def refusal(call):
    try:
        call()
    except ImportError as error:
        return str(error)
"""


def alone(program, **environment):
    """What a program prints where only the package's own dependencies are installed."""
    names = {"ipython": "IPython"}
    absent = {names.get(name, name.replace("-", "_")) for extra in (*LIBRARY, "course") for name in EXTRAS[extra]}
    result = subprocess.run(
        [sys.executable, "-c", ALONE % (absent - {"torch"}) + program],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_every_room_of_the_helpers_is_imported_without_extras():
    rooms = sorted(path.stem for path in (ROOT / "kdcourse").iterdir() if not path.name.startswith("_"))
    rooms = [room for room in rooms if room not in ("plots", "widgets", "copies", "classroom", "labconfig", "py")]
    assert {"losses", "pruning", "quantization", "metrics", "models", "training", "export"} <= set(rooms)
    printed = alone(
        f"import importlib\nfor room in {rooms}: print(importlib.import_module('kdcourse.' + room).__name__)"
    )
    assert printed == [f"kdcourse.{room}" for room in rooms]


def test_each_part_names_the_extra_that_it_needs():
    program = """
import torch
from torch import nn
from kdcourse import export, quantization, scaling
from kdcourse.quantization import SharedWeight
shared = {"weight": SharedWeight(torch.zeros(1), torch.zeros(1, dtype=torch.uint8))}
print(refusal(lambda: __import__("kdcourse.plots")))
print(refusal(lambda: __import__("kdcourse.widgets")))
print(refusal(lambda: export.to_onnx(nn.Flatten(), "net.onnx", torch.zeros(2, 3))))
print(refusal(lambda: export.quantize_static("net.onnx", "int8.onnx", [torch.zeros(2, 3)])))
print(refusal(lambda: export.run("net.onnx", torch.zeros(2, 3))))
print(refusal(lambda: quantization.write_coded("net.kdc", shared)))
print(refusal(lambda: scaling.distill(nn.Flatten(), nn.Flatten(), [], accelerator=None)))
"""
    wanted = [
        ("matplotlib", "plots"),
        ("ipywidgets", "widgets"),
        ("onnx", "export"),
        ("onnxruntime", "export"),
        ("onnxruntime", "export"),
        ("constriction", "coding"),
        ("accelerate", "scale"),
    ]
    assert alone(program) == [
        f"{library} is not installed: pip install 'kdcourse[{extra}]'" for library, extra in wanted
    ]
    assert all(library in EXTRAS[extra] for library, extra in wanted)


def test_the_extras_of_the_library_leave_torch_to_its_user():
    assert not {"torch"} & set().union(*(EXTRAS[name] for name in LIBRARY))
    lines = [line for name in LIBRARY for line in PROJECT["optional-dependencies"][name]]
    assert not [line for line in lines if "==" in line]
    assert "kdcourse[coding,data,export,plots,scale,widgets]" in PROJECT["optional-dependencies"]["course"]


def test_a_room_imports_at_its_top_what_is_installed_with_it():
    own = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    allowed = own | set(sys.stdlib_module_names) | {"kdcourse"}
    # what shows, and what handles notebooks: the extras plots, widgets and course
    exempt = {"plots", "widgets.py", "copies.py", "classroom", "notebooks.py"}
    for path in (ROOT / "kdcourse").rglob("*.py"):
        if exempt & set(path.relative_to(ROOT / "kdcourse").parts):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert {name.partition(".")[0] for name in names} <= allowed, path


def test_a_library_that_is_there_but_broken_is_not_called_absent(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import ctypes; from ctypes import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"ctypes cannot be imported \(cannot import name .*kdcourse\[export\]"):
        needed("broken_library", extra="export")


def test_a_fault_of_our_own_is_not_blamed_on_a_library():
    fault = ImportError("cannot import name 'x'", name="kdcourse.plots.page")
    assert missing(fault, extra="plots") is fault


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the cache has another place")
def test_onnxruntime_leaves_nothing_in_the_home_and_queues_nothing(tmp_path):
    """Without `ORT_DISABLE_TELEMETRY` it writes a device id and a queue of events; with CI set it hides that."""
    hidden = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(tmp_path)}
    program = (
        "import kdcourse, onnxruntime, torch\n"  # the user's own import of onnxruntime, too
        "from kdcourse.export import run\n"
        f"run({str(ROOT / 'data' / 'compressed' / 'model.onnx')!r}, torch.rand(1, 1, 28, 28))\n"
    )
    # where there are namespaces, one without a network: should this fail, still nothing is sent
    fenced = shutil.which("unshare") and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    command = [*(["unshare", "-rn"] if fenced else []), sys.executable, "-c", program]
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == []
