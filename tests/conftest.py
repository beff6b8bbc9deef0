"""A progress file for a test; at the end of a run how much of each notebook nbval compares and what its sentences rest
on, the mutants' table and the counts of the matrix of helpers and networks."""

import shutil
import sys
from collections import Counter

import nbformat
import pytest
import torch
from once import once
from test_notebooks import NOTEBOOKS, ROOT, code_cells, compared

sys.path.insert(0, str(ROOT / ".ci"))
from bindings import files  # noqa: E402 (scripts, no package)

import kdcourse  # noqa: E402, F401 (before any onnxruntime, whose telemetry it switches off)

STARTING_PROGRAMS = {"test_docstrings.py", "test_files.py", "test_offline.py", "test_scaling.py", "test_setup.py"}
"""files of few tests that take long"""


def pytest_collection_modifyitems(items):
    """Mark what is run on one Python alone, and put what takes long first, so that all workers end together:
    notebooks, then the files of most tests."""
    for item in items:
        if once(item.path, item.name):
            item.add_marker("once")
    tests = Counter(item.path for item in items)
    long = {path for path in tests if path.suffix == ".ipynb" or path.name in STARTING_PROGRAMS}
    items.sort(key=lambda item: (item.path not in long, -tests[item.path]))


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers whichever tests a worker has run before."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed also keeps a call, with its stack, for each GPU to come


@pytest.fixture
def own_progress(tmp_path, monkeypatch):
    """A progress file of the test's own, ungraded, no hint given yet."""
    monkeypatch.setenv("KDCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.delenv("KDCOURSE_GRADING", raising=False)
    monkeypatch.setattr("kdcourse.exercises._hints_given", {})
    return tmp_path / "progress.json"


@pytest.fixture
def own_course(tmp_path):
    """A checkout of the test's own, to start the course in: the package and the notebooks."""
    for part in ("kdcourse", "notebooks"):
        shutil.copytree(ROOT / part, tmp_path / "course" / part, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    return tmp_path / "course"


def pytest_terminal_summary(terminalreporter):
    if terminalreporter.config.getoption("nbval", False):
        tell_of_notebooks(terminalreporter)
    reports = [report for found in terminalreporter.stats.values() for report in found]
    properties = [dict(getattr(report, "user_properties", [])) for report in reports]
    rows = sorted({tuple(found["mutants"]) for found in properties if "mutants" in found})
    if rows:
        terminalreporter.section("mutants of right answers")
        terminalreporter.line("exercise  made  rejected  equivalent  to be hardened")
    for id, made, equivalent, soft in rows:
        terminalreporter.line(f"{id:<8} {made:>5} {made - equivalent - soft:>9} {equivalent:>11} {soft:>15}")
    calls = [report for report in reports if getattr(report, "when", "") == "call" and "test_matrix" in report.nodeid]
    found = Counter("failed" if report.failed else dict(report.user_properties).get("matrix") for report in calls)
    if calls:
        terminalreporter.section("helpers on kinds of network, and helper after helper")
        outcomes = "right", "warned", "refused", "failed"
        terminalreporter.line("   ".join(f"{found[outcome]} {outcome}" for outcome in outcomes))


def tell_of_notebooks(terminalreporter):
    terminalreporter.section("cells with output that are compared")
    for path in NOTEBOOKS:
        printing = [cell for cell in code_cells(nbformat.read(path, as_version=4)) if cell.outputs]
        held = sum(map(compared, printing))
        terminalreporter.line(f"{path.stem:<34} {held:>3} of {len(printing):>3}  {held / max(1, len(printing)):4.0%}")
    terminalreporter.section("sentences of the notebooks, and what they rest on")
    for path in NOTEBOOKS:
        terminalreporter.line(f"{path.stem:<34} {files.counted(path.name[:2])}")
