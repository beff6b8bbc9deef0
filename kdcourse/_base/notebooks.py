"""Read notebooks as any program saves them: Jupyter, Colab, VS Code, jupytext, in format 3 to 4.5.

What comes back is valid in format 4.5, so that whatever is made of it is, too.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import nbformat
from nbformat import NotebookNode

FIELDS = {
    "markdown": {"attachments"},
    "raw": {"attachments"},
    "code": {"outputs", "execution_count"},
    "stream": {"name", "text"},
    "display_data": {"data", "metadata"},
    "execute_result": {"data", "metadata", "execution_count"},
    "error": {"ename", "evalue", "traceback"},
}
"""what format 4.5 knows of each type of cell and output, beside what all have"""

IDENTITY = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def read(path: Path) -> NotebookNode:
    """The notebook in a file; a byte order mark, either line end and UTF-16 are read as well.

    Raises ``ValueError`` naming the file where it is not a notebook, or one that cannot be repaired.
    """
    try:
        stored = path.read_bytes()
        text = stored.decode(json.detect_encoding(stored))
        notebook: NotebookNode = nbformat.convert(nbformat.reader.reads(text), 4)
        mend(notebook)
        nbformat.validate(notebook)
    except (ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
        raise ValueError(f"{path} is not a notebook that can be read: {str(error).partition(chr(10))[0]}") from None
    return notebook


def mend(notebook: NotebookNode) -> None:
    """Make a notebook of any format 4 one of format 4.5: each cell with an id of its own and nothing unknown."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    taken: set[str] = set()
    for cell in notebook.cells:
        keep(cell, {"cell_type", "id", "metadata", "source"} | FIELDS[cell.cell_type])
        cell.setdefault("metadata", NotebookNode())
        cell.source = cell.source.replace("\r\n", "\n").replace("\r", "\n")
        cell.id = identity(cell, taken)
        if cell.cell_type == "code":
            cell.setdefault("execution_count", None)
            cell.setdefault("outputs", [])
            for output in cell.outputs:
                mend_output(output)


def identity(cell: NotebookNode, taken: set[str]) -> str:
    """The cell's id, or the one that Colab keeps in its metadata; a new one where it has none or another cell's."""
    given = cell.get("id"), cell.metadata.pop("id", None)
    usable = [name for name in given if isinstance(name, str) and IDENTITY.fullmatch(name) and name not in taken]
    name = usable[0] if usable else uuid4().hex[:8]
    taken.add(name)
    return name


def grade_id(cell: Mapping[str, Any]) -> str | None:
    """nbgrader's name for a cell, whatever a program has made of its metadata; None where it has none."""
    metadata = cell.get("metadata")
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = marks.get("grade_id") if isinstance(marks, dict) else None
    return name if isinstance(name, str) else None


def mend_output(output: NotebookNode) -> None:
    keep(output, {"output_type"} | FIELDS[output.output_type])
    if output.output_type == "stream":
        output.setdefault("name", "stdout")
    if output.output_type in ("display_data", "execute_result"):
        output.setdefault("metadata", NotebookNode())
    if output.output_type == "execute_result":
        output.setdefault("execution_count", None)


def keep(node: NotebookNode, names: set[str]) -> None:
    for name in set(node) - names:
        del node[name]
