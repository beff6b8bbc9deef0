"""Run notebooks top to bottom, each in a fresh kernel, and store them in one normal form, so that diffs stay small.

``python notebooks/execute.py notebooks/00_start_here.ipynb …``; a notebook that raises is left as it was.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

WIDGET = "application/vnd.jupyter.widget-view+json"
STORED_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> float:
    """Run and store one notebook; the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(STORED_METADATA)
    start = time.perf_counter()
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    seconds = time.perf_counter() - start
    normalise(notebook)
    temporary = path.with_suffix(".part")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)
    return seconds


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Keep sources, tags and outputs; drop what a run on another machine would change."""
    notebook.metadata = nbformat.from_dict(STORED_METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            _drop_widgets(cell)


def _drop_widgets(cell: nbformat.NotebookNode) -> None:
    """A stored widget has no model behind it and would show as an error: its still picture is a cell of its own.

    nbval cannot compare such a cell (a progress bar, a slider), so it is tagged.
    """
    shown = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    if len(shown) < len(cell.outputs):
        cell.metadata.tags = sorted({*cell.metadata.get("tags", []), "nbval-ignore-output"})
    cell.outputs = shown


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(f"{argument}: {execute(Path(argument)):.0f} s", flush=True)
