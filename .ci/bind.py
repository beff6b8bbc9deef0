"""Bind what a notebook says to what holds it: ``python .ci/bind.py 05 …`` renews ``tests/bindings/notebook_05.toml``.

It lists what is not yet held. New sentences, formulas and claims are put into the file to be filled in, with the claims
near by as comments; what was altered keeps its evidence and is marked with what it ``was``. Once nothing is left, the
whole text counts as read. ``--measure`` runs the notebook for the values of its claims; ``--values FILE`` takes those
of a run with KDCOURSE_CLAIMS=FILE.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from bindings import files

from kdcourse.claims import RECORD


def measure(path: Path) -> list[dict[str, Any]]:
    """Run a notebook without storing anything; its claims with the values they were given."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        os.environ[RECORD] = str(Path(folder) / "claims")
        place = {"metadata": {"path": str(path.parent)}}
        NotebookClient(nbformat.read(path, as_version=4), timeout=300, kernel_name="python3", resources=place).execute()
        return files.values(Path(folder) / "claims")


def bind(number: str, measured: list[dict[str, Any]]) -> list[str]:
    """Renew one file; the problems that are left. The text counts as read only when there are none."""
    notebook, old = nbformat.read(files.notebook_path(number), as_version=4), files.load(number)
    binding = files.renewed(notebook, old, measured)
    left = files.problems(notebook, binding)
    for why in files.unread(notebook, old) if old.get("read") else []:
        print(f"{number}: {why}")
    if not left:
        binding["read"] = files.read_lines(notebook)
    binding.setdefault("ignored", files.ignored(notebook))
    files.store(number, notebook, binding)
    return left + files.ignored_problems(notebook, binding) + files.picture_problems(notebook)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("numbers", nargs="+", metavar="NN")
    parser.add_argument("--measure", action="store_true", help="run the notebook for the values of its claims")
    parser.add_argument("--values", type=Path, help="take them from this file of an earlier run")
    given = parser.parse_args()
    left = 0
    for number in given.numbers:
        path = files.notebook_path(number)
        measured = measure(path) if given.measure else files.values(given.values) if given.values else []
        found = bind(number, measured)
        left += len(found)
        print(*(f"{number}: {why}" for why in found), f"{number}: {len(found)} left; {files.counted(number)}", sep="\n")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
