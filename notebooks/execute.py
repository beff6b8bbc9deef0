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
            cell.outputs = [output for output in map(_without_widget, cell.outputs) if output is not None]


def _without_widget(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """A stored widget has no model behind it and would show as an error: keep its still picture, if it has one."""
    if WIDGET in output.get("data", {}):
        del output.data[WIDGET]
        return output if "text/html" in output.data else None
    return output


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(f"{argument}: {execute(Path(argument)):.0f} s", flush=True)
