"""The instructor's commands, ``python -m kdcourse release`` and ``python -m kdcourse grade``."""

import argparse
import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLASS = ROOT / "build" / "class"


def main(command: str, arguments: list[str]) -> int:
    """Run one of the two; 0 when all is well."""
    if importlib.util.find_spec("nbgrader") is None:
        raise SystemExit("kdcourse: nbgrader is not installed: run make release, or pip install -e .[classroom]")
    return _release(arguments) if command == "release" else _grade(arguments)


def _release(arguments: list[str]) -> int:
    from .releasing import release  # slow, as it reads every exercise

    parser = argparse.ArgumentParser(prog="python -m kdcourse release", description="write what a class needs")
    parser.add_argument("folder", nargs="?", type=Path, default=CLASS, help="default: build/class")
    parser.add_argument("--again", action="store_true", help="renew an existing class and keep its grade book")
    options = parser.parse_args(arguments)
    release(options.folder, again=options.again)
    return 0


def _grade(arguments: list[str]) -> int:
    from .running import run

    parser = argparse.ArgumentParser(prog="python -m kdcourse grade", description="grade what was handed in")
    parser.add_argument("assignment", nargs="+", help="03_kl_derivation, or its first letters: 03")
    parser.add_argument("--student", action="append", default=[], help="this one alone; may be given several times")
    parser.add_argument("--again", action="store_true", help="also what was graded before; marks given by hand stay")
    parser.add_argument("--course", type=Path, help="nbgrader's course folder; default: here, or build/class/nbgrader")
    options = parser.parse_args(arguments)
    course = find_course(options.course)
    names = [find_assignment(course, start) for start in options.assignment]
    return max(run(course, name, options.student, again=options.again) for name in names)


def find_course(given: Path | None) -> Path:
    """The folder with an nbgrader course: the one given, else the working folder, else build/class/nbgrader."""
    places = [given] if given else [Path(), CLASS / "nbgrader"]
    for place in places:
        if (place / "nbgrader_config.py").is_file() and (place / "gradebook.db").is_file():
            return place.resolve()
    raise SystemExit(f"kdcourse: there is no course of nbgrader in {places[-1]}: run make release first, "
                     "or name its folder with --course")  # fmt: skip


def find_assignment(course: Path, start: str) -> str:
    """The one assignment whose name begins as given."""
    names = sorted(place.name for place in (course / "release").iterdir() if place.is_dir())
    found = [name for name in names if name == start] or [name for name in names if name.startswith(start)]
    if len(found) != 1:
        raise SystemExit(f"kdcourse: {len(found) or 'no'} assignments begin with {start}: they are {', '.join(names)}")
    return found[0]
