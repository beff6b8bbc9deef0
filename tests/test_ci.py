"""The CI run with suites that are played: whatever becomes of one, the others run, and nothing untested passes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from once import ONCE

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not all(map(shutil.which, ("bash", "make"))), reason="no bash or no make here")
MAKEFILE = """
.venv/.ready:
\t@mkdir -p .venv && {setup} && touch $@
check:
\t@echo "data: $(KDCOURSE_DATA)" && test -t 0 && exit 3 || {style}
test:
\t@printf '%s' '{report}' >$(REPORT) && {test}
classroom browser again:
\t@printf '<testsuites><testsuite><testcase name="a"/></testsuite></testsuites>' >$(REPORT)
"""


def case(inner=""):
    return f'<testcase name="a" time="0.1">{inner}</testcase>'


def skipped(reason, kind="pytest.skip"):
    return case(f'<skipped type="{kind}" message="{reason}">t.py:3: {reason}</skipped>')


def played(folder, *cases, setup="true", style="true", test="true", full=False):
    """What a run prints, and its exit status."""
    report = f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"
    checkout = folder / "some where" / "checkout"
    shutil.copytree(ROOT / ".ci", checkout / ".ci")
    (checkout / ".ci" / "packages").write_text("exit 0\n", encoding="utf-8")
    text = MAKEFILE.format(report=report, setup=setup, style=style, test=test)
    (checkout / "Makefile").write_text(text, encoding="utf-8")
    if full:
        (checkout.parent / "shared" / "data" / "MNIST").mkdir(parents=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("KDCOURSE_DATA", "MAKEFLAGS")}
    done = subprocess.run(["bash", str(checkout / ".ci" / "run")], env=environment, capture_output=True, text=True)
    assert done.stderr.count("Traceback") == 0, done.stderr
    return done.stdout.splitlines(), done.returncode


def row(lines, name):
    (found,) = [line.split()[1:] for line in lines if line.split()[:1] == [name]]
    return [int(number) for number in found[:3]]


def test_a_run_in_which_all_is_well_ends_in_a_table_and_a_plain_line(tmp_path):
    lines, status = played(tmp_path, case(), case(), skipped("no GPU here"), skipped("", kind="pytest.xfail"))
    assert status == 0
    assert row(lines, "tests") == [3, 0, 1]
    assert [row(lines, name) for name in ("classroom", "browser")] == [[1, 0, 0]] * 2
    assert [row(lines, name) for name in ("packages", "set-up", "style")] == [[0, 0, 0]] * 3
    others = sum("python3." in line.split()[0] for line in lines if line.split()[1:])
    assert lines[-1] == f"{5 + others} passed, 0 failed, 1 skipped"


@pytest.mark.parametrize(
    "inner", ["<failure message='no'>no</failure>", "<error message='in its fixture'>no</error>"]
)  # fmt: skip
def test_a_failed_test_fails_the_run_and_the_other_suites_still_run(tmp_path, inner):
    lines, status = played(tmp_path, case(), case(inner.replace("'", '"')), test="exit 1")
    assert status == 1
    assert row(lines, "tests") == [1, 1, 0]
    assert row(lines, "browser") == [1, 0, 0]
    assert ", 1 failed, " in lines[-1]


@pytest.mark.parametrize("why", [{"style": "exit 1"}, {"test": "rm $(REPORT); exit 2"}, {"test": "exit 2"}])
def test_a_suite_that_ends_badly_fails_the_run_whatever_it_counted(tmp_path, why):
    lines, status = played(tmp_path, case(), **why)
    assert status == 1
    assert row(lines, "style" if "style" in why else "tests")[1] == 1
    assert ", 1 failed, " in lines[-1]


def test_what_is_skipped_for_want_of_something_has_failed(tmp_path):
    lines, status = played(tmp_path, case(), skipped("Chromium is not installed"), skipped("no GPU here"))
    assert status == 1
    assert row(lines, "tests") == [1, 1, 1]
    assert "  not tested: 1 × Chromium is not installed" in lines


@pytest.mark.parametrize("full", [True, False])
def test_the_full_mnist_is_used_where_it_lies_and_may_be_absent_elsewhere(tmp_path, full):
    reason = "the full MNIST is not here: name its folder by KDCOURSE_DATA"
    lines, status = played(tmp_path, case(), skipped(reason), full=full)
    assert status == full
    assert f"data: {tmp_path / 'some where' / 'shared' / 'data' if full else ''}" in lines


def test_without_a_set_up_nothing_else_is_tried(tmp_path):
    lines, status = played(tmp_path, case(), setup="exit 1")
    assert status == 1
    assert row(lines, "set-up") == [0, 1, 0]
    assert not [line for line in lines if line.startswith(("tests ", "browser "))]
    assert lines[-1] == "0 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("start", [start for starts in ONCE.values() for start in starts])
def test_what_is_left_out_on_another_python_is_there(start):
    file, _, name = start.partition("::")
    assert f"def {name or 'test_'}" in (ROOT / "tests" / file).read_text(encoding="utf-8")
