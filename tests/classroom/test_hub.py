"""The page for JupyterHub, followed on one machine: the exchange's whole way, and the image's pins."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from classes import ALL, KL, ROOT, Class

DOCKERFILE = (ROOT / "hub" / "Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "hub" / "README.md").read_text(encoding="utf-8")


def test_the_image_pins_what_the_course_pins():
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installs) == 4
    classroom = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"][
        "classroom"
    ]
    for line in installs:
        words = line.split()
        named = [word for word in words if re.match(r"[a-z]+==", word)]
        assert "-r /opt/requirements.txt" in line or "-c /opt/requirements.txt" in line or "--no-deps" in words
        assert all(re.fullmatch(r"[a-z]+==[\d.]+", word) for word in named)
        if named:
            assert set(classroom) < set(named)
    assert re.search(r"^FROM python:3\.1[123]-", DOCKERFILE, re.MULTILINE)
    assert "COPY requirements.txt requirements-models.txt /opt/" in DOCKERFILE


def test_what_the_page_links_to_is_there():
    assert not [link for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE) if not (ROOT / "hub" / link).exists()]


@pytest.mark.skipif(sys.platform == "win32", reason="nbgrader has no exchange on Windows")
def test_an_assignment_goes_its_way_through_the_exchange(tmp_path):
    exchange, home = tmp_path / "exchange", tmp_path / "home"
    for folder in (exchange, home):
        folder.mkdir()
    exchange.chmod(0o1777)
    course = Class(tmp_path, Exchange_root=str(exchange))
    [config] = re.findall(r"<<'EOF'\n(.*?)EOF", PAGE, re.DOTALL)
    (home / "nbgrader_config.py").write_text(config.replace("/srv/nbgrader/exchange", str(exchange)), encoding="utf-8")
    rows = re.findall(r"^\| (instructor|student) \|.*?\| `(?:nbgrader (\S+)|make) .*$", PAGE, re.MULTILINE)
    assert len(rows) == 7
    for who, command in rows:
        if not command:
            told = course.grade("03")
        elif who == "instructor":
            course.nbgrader(command, KL, *(["--update"] if command == "collect" else []))
        else:
            student(home, command)
            if command == "fetch_assignment":
                solve(course, home / KL / f"{KL}.ipynb")
    assert "1 graded" in told
    [row] = course.grades().values()
    assert float(row["score"]) == ALL
    assert row["timestamp"]
    assert list(home.glob(f"{KL}/feedback/*/{KL}.html"))


def student(home, command):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    subprocess.run([sys.executable, "-m", "nbgrader", command, KL], cwd=home, check=True, capture_output=True,
                   env={**os.environ, "PATH": path})  # fmt: skip


def solve(course, path):
    import json

    path.write_text(json.dumps(course.solved()), encoding="utf-8")
