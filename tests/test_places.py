"""Other people's places: no home, or one that cannot be written, odd paths, consoles with few letters, -O, a zip."""

import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kdcourse import __main__ as command_line
from kdcourse import data, exercises
from kdcourse._base.places import ASCII, fitting, named_by
from kdcourse.claims import claim
from kdcourse.exercises.engine import records

ROOT = Path(__file__).resolve().parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="homes are found otherwise on Windows")


# ---- consoles


def everything():
    """Print whatever the course prints."""
    command_line.doctor()
    answer = exercises.exercises["02.1"]
    for function in (answer.reference, answer.misconceptions[0].wrong, None):
        exercises.check("02.1", function)
    exercises.hint("02.1")
    exercises.solution("02.1", confirm=True)
    exercises.ask("02.a")
    exercises.progress()
    exercises.glossary("temperature")
    claim("Parameters ≤ bytes – a claim", 3, at_least=2)


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "ascii", "cp437", "shift_jis"])
def test_a_console_with_few_letters_is_written_in_ascii(encoding, monkeypatch, tmp_path):
    monkeypatch.setenv("KDCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(command_line, "CHECKS", {"Python": command_line._python, "GPU": lambda: "– none"})
    written = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(written, encoding=encoding, errors="strict")) as console:
        everything()
        console.flush()
    said = written.getvalue().decode(encoding)
    for mark in ("[ok] Python", "[ok] 02.1", "[x] 02.1", "[ok] Parameters"):
        assert mark in said


def test_a_console_that_can_show_everything_is_written_as_it_is(monkeypatch, capsys):
    claim("Parameters", 3, at_least=2)
    assert capsys.readouterr().out == "✔ Parameters  [≥ 2]\n"


def test_what_stands_for_a_letter_is_ascii():
    assert all(text.isascii() and text for text in ASCII.values())
    assert fitting("é 中 Ⅳ ✔", "ascii") == "e ? IV [ok]"
    assert fitting("é ✔", "cp1252") == "é [ok]"
    assert fitting("é ✔", "utf-8") == "é ✔"


# ---- homes


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home variable and without an entry."""
    for name in list(os.environ):
        if name == "HOME" or name.startswith(("XDG_", "JUPYTER_", "KDCOURSE_")):
            monkeypatch.delenv(name)

    def unknown(who):
        raise KeyError(who)

    for name in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(f"pwd.{name}", unknown)


@posix
def test_without_a_home_progress_is_not_kept_and_that_is_one_sentence(homeless, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records.record("00.1", solved=True)
    said = capsys.readouterr().out
    assert "you have no home folder" in said
    assert "KDCOURSE_PROGRESS" in said
    assert len(said.splitlines()) == 1
    assert records.load() == {}
    assert os.listdir(tmp_path) == []  # no folder that is named ~
    monkeypatch.setenv("KDCOURSE_PROGRESS", "~/progress.json")
    capsys.readouterr()
    records.record("00.1", solved=True)
    assert "KDCOURSE_PROGRESS is ~/progress.json, and there is no such home" in capsys.readouterr().out
    monkeypatch.setenv("KDCOURSE_PROGRESS", str(tmp_path / "new folder" / "progress.json"))
    records.record("00.1", solved=True)
    assert list(records.load()) == ["00.1"]


@posix
def test_doctor_names_a_missing_home_and_its_remedy(homeless, tmp_path, monkeypatch):
    for name, remedy in (("kernel", "set HOME"), ("Lab", "set HOME"), ("progress", "set KDCOURSE_PROGRESS")):
        with pytest.raises(command_line.Trouble, match=f"no home folder.* → {remedy}"):
            command_line.CHECKS[name]()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("kernel", "Lab", "progress"):
        command_line.CHECKS[name]()


@posix
@pytest.mark.parametrize("kind", ["a file", "not mine"])
def test_doctor_names_a_home_that_cannot_be_written(kind, tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("XDG_", "JUPYTER_", "KDCOURSE_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.write_text("") if kind == "a file" else home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    if kind == "not mine":
        monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(tmp_path)))
    with pytest.raises(command_line.Trouble, match="JupyterLab cannot write to .* → set JUPYTER_DATA_DIR"):
        command_line._lab()
    with pytest.raises(command_line.Trouble, match=r"check\(\) cannot write to .* → set KDCOURSE_PROGRESS"):
        command_line._progress()
    monkeypatch.setattr(command_line.os, "execv", lambda *command: pytest.fail("JupyterLab was started"))
    with pytest.raises(SystemExit, match="kdcourse: JupyterLab cannot write to"):
        command_line.lab([])


def test_a_copy_that_is_read_only_is_said_to_be_so(monkeypatch):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != command_line.COURSE and real(path, mode))
    assert command_line._lab().startswith("– this copy of the course is read-only")


@posix
@pytest.mark.parametrize("name", ["KDCOURSE_PROGRESS", "KDCOURSE_DATA"])
def test_a_tilde_in_a_variable_is_a_home(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(name, "~/it's 中文/place")
    assert named_by(name) == tmp_path / "it's 中文" / "place"
    monkeypatch.setenv(name, "")
    assert named_by(name) is None
    monkeypatch.setenv("KDCOURSE_PROGRESS", "~/progress.json")
    monkeypatch.setenv("KDCOURSE_DATA", "~/data")
    assert records.progress_path() == tmp_path / "progress.json"
    assert data.full_dir() == tmp_path / "data"
    monkeypatch.setenv(name, "~no-such-user/place")
    with pytest.raises(FileNotFoundError, match="there is no such home"):
        named_by(name)


# ---- what doctor looks at


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"argv": ["/gone/bin/python", "-m", "ipykernel_launcher"]}, "starts a Python that is gone, /gone/bin/python"),
        ({"argv": ["/bin/sh"]}, "starts another Python"),
        ({"argv": []}, "is damaged"),
        ("{", "is damaged"),
    ],
    ids=["gone", "another", "empty", "no JSON"],
)
@posix
def test_doctor_names_a_kernel_that_is_stale_and_where_it_lies(content, said, tmp_path, monkeypatch):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    text = content if isinstance(content, str) else json.dumps(content | {"display_name": "x", "language": "python"})
    (folder / "kernel.json").write_text(text)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(command_line.Trouble, match=said) as raised:
        command_line._kernel()
    assert f"delete {folder}" in str(raised.value)


@pytest.mark.parametrize("broken", [None, KeyError, command_line.PackageNotFoundError])
def test_doctor_names_a_package_without_a_version(broken, monkeypatch):
    real = command_line.version

    def version(name):
        if name != "mlxtend":
            return real(name)
        if broken is not None:
            raise broken(name)
        return None

    monkeypatch.setattr(command_line, "version", version)
    with pytest.raises(command_line.Trouble, match="missing or broken: mlxtend → "):
        command_line._packages()


# ---- ways to run Python


def test_a_zip_without_assertions_and_docstrings_works_in_an_odd_folder(tmp_path):
    folder = tmp_path / "it's 中文"
    folder.mkdir()
    with zipfile.ZipFile(folder / "kdcourse.zip", "w") as archive:
        for path in (ROOT / "kdcourse").rglob("*.py"):
            archive.write(path, path.relative_to(ROOT))
    program = """
import sys, kdcourse, torch
from kdcourse.exercises import check, exercises
from kdcourse.models import load_model, mlp, save_model
for answer in (exercises["03.4"].reference, exercises["03.4"].misconceptions[0].wrong, None):
    check("03.4", answer)
save_model(mlp((3,)), "network"), load_model("network")
print("kdcourse.zip" in kdcourse.__file__, sys.flags.optimize)
from kdcourse.__main__ import lab
lab([])
"""
    environment = {
        **os.environ,
        "PYTHONPATH": "kdcourse.zip",
        "KDCOURSE_PROGRESS": "p.json",
        "PYTHONIOENCODING": "utf-8",
    }
    found = subprocess.run(
        [sys.executable, "-OO", "-c", program], cwd=folder, env=environment, capture_output=True, encoding="utf-8"
    )
    lines = [line[:6] for line in found.stdout.splitlines() if line.startswith(("✔", "✘", "–", "True"))]
    assert lines == ["✔ 03.4", "✘ 03.4", "– 03.4", "True 2"], found.stdout + found.stderr
    assert found.stderr.startswith("kdcourse: the notebooks are not here")
