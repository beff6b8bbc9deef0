"""The end of a CI run: one table of its suites. What was skipped for want of something was not tested, so it failed.

``python .ci/table.py FOLDER`` reads FOLDER/suites (name, exit status and seconds of each, separated by tabs) and the
report of each suite that counts, FOLDER/NAME.xml. Its exit status says whether all is well.
"""

from __future__ import annotations  # an old Python is to list the newer ones

import os
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

# what a machine may lack, by a word of the reason that is given
MAY_LACK = ("GPU",) if os.environ.get("KDCOURSE_DATA") else ("GPU", "the full MNIST is not here")


class Counts(NamedTuple):
    """Tests that passed, failed and were skipped, and what was wanting."""

    passed: int
    failed: int
    skipped: int
    wanting: Counter[str]


def read(report: Path, status: int = 0) -> Counts:
    """Counts of pytest's JUnit report; without one, or with none failed in it, a status other than 0 is a failure."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase")) if report.is_file() else []
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    skips = [skip.attrib for case in cases if (skip := case.find("skipped")) is not None]
    reasons = Counter(skip["message"] for skip in skips if skip["type"] == "pytest.skip")  # not an expected failure
    wanting = Counter({why: n for why, n in reasons.items() if not any(word in why for word in MAY_LACK)})
    passed = len(cases) - failed - reasons.total()
    return Counts(passed, max(failed, status != 0) + wanting.total(), (reasons - wanting).total(), wanting)


def line(name: str, *numbers: object) -> str:
    return f"{name:<24}" + "".join(f"{number:>9}" for number in numbers)


def main(folder: Path) -> int:
    suites = [row.split("\t") for row in (folder / "suites").read_text(encoding="utf-8").splitlines()]
    counts = {name: read(folder / f"{name}.xml", int(status)) for name, status, _ in suites}
    print(line("\nsuite", "passed", "failed", "skipped", "seconds"))
    for name, _, seconds in suites:
        print(line(name, *counts[name][:3], seconds))
        for why, number in counts[name].wanting.items():
            print(f"  not tested: {number} × {why}")
    passed, failed, skipped = (sum(numbers) for numbers in list(zip(*counts.values(), strict=True))[:3])
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
