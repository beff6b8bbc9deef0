"""Nothing leaves the machine: what a learner starts asks no other machine for anything and leaves no file about."""

import re
import sys

import fence
import nbformat
import numpy as np
import pytest
from fence import ROOT

behind_a_fence = pytest.mark.skipif(bool(fence.missing()), reason=fence.missing() or "-")
EXPORTING = [
    "from kdcourse.data import load_mnist\nimages = load_mnist().test.images[:64]",
    "from kdcourse.models import conv_net\nnetwork = conv_net((4, 8, 8), seed=0)",
    "from kdcourse.export import quantize_static, session, to_onnx",
    "to_onnx(network, 'float.onnx', images)\nquantize_static('float.onnx', 'int8.onnx', [images])",
    "print(tuple(session('int8.onnx')(images).shape))",
    "from kdcourse.exercises import ask, check\ncheck('03.2', None)",
    "from IPython.utils.capture import capture_output\nwith capture_output() as shown:\n    ask('02.a')",
    "import re\nprint('fetched:', re.findall(r'https?://\\S+', shown.outputs[0].data['text/html']))",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
    "from ipywidgets import IntSlider\nIntSlider()",
]
LAB = r"""
import re, subprocess, sys, time, urllib.error, urllib.request
command = [sys.executable, "-m", "kdcourse", "lab", "--no-browser", "--ServerApp.port=9124"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
token = next(found[1] for line in server.stdout if (found := re.search(r"/lab/tree\S+\?(token=\w+)", line)))
try:
    for place in ("/lab?", "/lab/api/extensions?", "/lab/api/extensions?query=git&", "/lab/api/settings?"):
        for patience in range(100):
            try:
                print(urllib.request.urlopen(f"http://127.0.0.1:9124{place}{token}", timeout=20).status)
                break
            except urllib.error.URLError as error:  # it prints the address a moment before it listens
                if not isinstance(error.reason, ConnectionError):
                    raise
                time.sleep(0.2)
finally:
    server.terminate()
    server.wait(60)
"""


def python(folder, *arguments, cwd=ROOT):
    seen = fence.run([sys.executable, *map(str, arguments)], folder, cwd=cwd)
    assert seen.asked == set()
    assert seen.result.returncode == 0, seen.result.stdout + seen.result.stderr
    assert seen.elsewhere == set()
    assert seen.temporary == set()
    return seen


@behind_a_fence
def test_the_fence_sees_every_way_out(tmp_path):
    """Names, datagrams, connections, and files, also those that are soon removed; from a process that is started."""
    other = tmp_path / "other"
    program = f"""
import os, pathlib, socket, subprocess, sys, tempfile
if len(sys.argv) == 1:
    raise SystemExit(subprocess.run([sys.executable, __file__, "again"]).returncode)
for ask in (lambda: socket.getaddrinfo("name.invalid", 443),
            lambda: socket.create_connection(("192.0.2.1", 80), timeout=0.2),
            lambda: socket.create_connection(("2001:db8::1", 80), timeout=0.2),
            lambda: socket.create_connection(("127.0.0.1", 9), timeout=0.2),
            lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.2", 5))):
    try:
        ask()
    except OSError: pass
pathlib.Path.home().joinpath("device id").write_text("1")
pathlib.Path(tempfile.gettempdir(), "session").write_text("1")
os.chdir({str(tmp_path)!r})
pathlib.Path("other").write_text("1")
os.remove("other")
os.close(os.open({str(ROOT / "README.md")!r}, os.O_RDONLY))
"""
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    seen = fence.run([sys.executable, str(tmp_path / "program.py")], tmp_path / "fenced", cwd=ROOT)
    assert seen.result.returncode == 0, seen.result.stderr
    assert {"192.0.2.1 port 80", "2001:db8::1 port 80", "192.0.2.2 port 5"} < seen.asked
    assert [place.endswith(" port 53") for place in seen.asked].count(True) == len(seen.asked) - 3 >= 1
    assert (seen.home, seen.temporary, seen.elsewhere) == ({"device id"}, {"session"}, {str(other)})


@behind_a_fence
def test_doctor_asks_nobody_and_leaves_nothing(tmp_path):
    seen = python(tmp_path, "-m", "kdcourse", "doctor")
    assert "✔ PyTorch" in seen.result.stdout
    assert seen.home == set()


@behind_a_fence
def test_the_shipped_script_asks_nobody_and_leaves_nothing(tmp_path):
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((1, 28, 28), np.uint8))
    bundle = ROOT / "data" / "compressed"
    seen = python(tmp_path / "fenced", bundle / "classify.py", bundle / "model.onnx", images)
    assert re.fullmatch(r"\d\n", seen.result.stdout)
    assert seen.home == set()


@behind_a_fence
def test_a_notebook_that_exports_asks_nobody(tmp_path):
    notebook, place = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, EXPORTING))), tmp_path / "run"
    place.mkdir()
    nbformat.write(notebook, place / "exporting.ipynb")
    seen = python(tmp_path, ROOT / ".ci" / "execute.py", place / "exporting.ipynb")
    printed = [output.text for cell in nbformat.read(place / "exporting.ipynb", 4).cells for output in cell.outputs
               if "text" in output]  # fmt: skip
    assert {"(64, 10)\n", "fetched: []\n"} <= set(printed)
    assert {path.name for path in place.iterdir()} == {"exporting.ipynb", "float.onnx", "int8.onnx"}
    assert fence.strange(seen.home) == set()


@behind_a_fence
def test_jupyterlab_asks_nobody_also_where_it_lists_extensions(tmp_path, own_course):
    (tmp_path / "lab.py").write_text(LAB, encoding="utf-8")
    seen = python(tmp_path, tmp_path / "lab.py", cwd=own_course)
    assert seen.result.stdout.split() == ["200"] * 4
    assert fence.strange(seen.home) == set()


def test_whoever_imports_onnxruntime_has_switched_its_telemetry_off_before():
    """kdcourse does it when it is imported; the tests' conftest imports that first."""
    imported = re.compile(r"^\s*(import|from) onnxruntime", re.MULTILINE)
    off = re.compile(r"^\s*(import|from) kdcourse|ORT_DISABLE_TELEMETRY", re.MULTILINE)
    texts = {path: path.read_text(encoding="utf-8") for folder in ("data", "notebooks", "kdcourse")
             for path in (ROOT / folder).rglob("*.py")}  # fmt: skip
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        texts[path] = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
    found = {path: (imported.search(text), off.search(text)) for path, text in texts.items() if imported.search(text)}
    assert {path.name for path in found} >= {"classify.py", "08_integer_inference.ipynb"}
    assert not [path for path, (late, early) in found.items() if early is None or early.start() > late.start()]
    assert "import kdcourse" in (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
