"""Run notebooks top to bottom, each in a fresh kernel, and store them in one normal form, so that diffs stay small.

``python .ci/execute.py notebooks/00_start_here.ipynb …``; a notebook that raises is left as it was. What was measured,
and a digest of each output that nbval does not compare, goes into the notebook's file in ``tests/bindings``.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from bindings import files
from nbclient import NotebookClient

from kdcourse._base.files import write_whole
from kdcourse._base.notebooks import mend, read
from kdcourse.claims import RECORD
from kdcourse.classroom.cells import graded_cells

WIDGET = "application/vnd.jupyter.widget-view+json"
STORED_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> float:
    """Run and store one notebook; the seconds it took."""
    notebook = read(path)
    notebook.metadata = nbformat.from_dict(STORED_METADATA)
    start = time.perf_counter()
    # coalesced, because a busy machine cuts what a cell prints in pieces
    options = {"timeout": 300, "kernel_name": "python3", "coalesce_streams": True}
    NotebookClient(notebook, **options, resources={"metadata": {"path": path.parent}}).execute()
    seconds = time.perf_counter() - start
    normalise(notebook)
    nbformat.validate(notebook)
    write_whole(path, nbformat.writes(notebook).rstrip("\n") + "\n")
    return seconds


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Keep sources, tags and outputs, mark the graded cells, and drop what a run on another machine would change.

    A cell keeps its id, by which a learner's answers find it in the next version (``kdcourse.copies``).
    """
    mend(notebook)
    notebook.metadata = nbformat.from_dict(STORED_METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            _drop_unstable(cell)
    for cell, graded in graded_cells(notebook):
        cell.metadata.nbgrader = nbformat.from_dict(graded)


def _drop_unstable(cell: nbformat.NotebookNode) -> None:
    """A stored widget has no model behind it and would show as an error: its still picture is a cell of its own.

    A quiz brings its script under a new random name each time: its words are kept. nbval can compare neither, so
    the cell is tagged.
    """
    shown = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    scripted = [output for output in shown if "<script" in output.get("data", {}).get("text/html", "")]
    for output in scripted:
        del output.data["text/html"]
    if len(shown) < len(cell.outputs) or scripted:
        cell.metadata.tags = sorted({*cell.metadata.get("tags", []), "nbval-ignore-output"})
    cell.outputs = shown


def execute_and_remember(path: Path) -> float:
    """Run and store one notebook, and what its claims measured where its text is bound; the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[RECORD] = str(Path(folder) / "claims")
        seconds = execute(path)
        files.remember(path, files.values(Path(folder) / "claims"))
    return seconds


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(f"{argument}: {execute_and_remember(Path(argument)):.0f} s", flush=True)
