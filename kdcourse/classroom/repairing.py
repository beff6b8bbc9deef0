"""Bring a submission into the shape of what was released: its answers marked as such, the checks as they were.

What a student's program, converter or hand has done to marks, tags and check cells is undone; what the student wrote
stays.
"""

import re
import unicodedata
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

from .._base.notebooks import grade_id

CHECK = re.compile(r'^check\("([\d.]+)", (\w+)\)$', re.MULTILINE)
"""what marks a check cell: the exercise and the name of the function"""


@dataclass(frozen=True)
class Asked:
    """An exercise of the released notebook: the cell to write into, the one that checks, the name of the function."""

    answer: NotebookNode
    check: NotebookNode
    name: str


def asked(released: NotebookNode) -> list[Asked]:
    """The exercises of a released notebook, in its order."""
    found: list[Asked] = []
    answer: NotebookNode | None = None
    for cell in released.cells:
        graded = cell.metadata.get("nbgrader", {})
        if graded.get("solution"):
            answer = cell
        elif graded.get("grade") and answer is not None and (match := CHECK.search(cell.source)):
            found.append(Asked(answer, cell, match[2]))
    return found


def repair(submitted: NotebookNode, released: NotebookNode) -> NotebookNode:
    """The submission with each answer in its marked cell, each check behind it as released, and nothing else marked."""
    wanted = asked(released)
    places = answer_places(submitted.cells, wanted)
    checks = {item.check.source.strip() for item in wanted}
    given = {cell.source for cell in released.cells}
    cells, left = [], list(wanted)
    for index, cell in enumerate(submitted.cells):
        here = [item for item in wanted if places.get(item.name) == index]
        if not here and cell.source.strip() in checks:
            continue
        cells.append(_answer(cell, here[0]) if here else _plain(cell, given))
        cells += [deepcopy(item.check) for item in here]
        left = [item for item in left if item not in here]
    cells += [deepcopy(item.check) for item in left]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:03d}"
    return NotebookNode(nbformat=4, nbformat_minor=5, metadata=deepcopy(released.metadata), cells=cells)


def answer_places(cells: Sequence[NotebookNode], wanted: Sequence[Asked]) -> dict[str, int]:
    """For each function that is asked for, the index of the cell that holds the answer; none where there is none.

    It is a cell that defines the function: rather one that was worked on than the empty one, rather the marked one
    than another, rather a later one than an earlier. Where no cell defines it, it is the marked one.
    """
    places = {}
    for item in wanted:
        marked = {index for index, cell in enumerate(cells) if grade_id(cell) == item.answer.metadata.nbgrader.grade_id}
        defining = [
            index for index, cell in enumerate(cells) if cell.cell_type != "markdown" and binds(cell, item.name)
        ]
        worked_on = [index for index in defining if cells[index].source.strip() != item.answer.source.strip()]
        for among in (worked_on, defining, sorted(marked)):
            if among:
                places[item.name] = max(among, key=lambda index: (index in marked, index))
                break
    return places


def binds(cell: NotebookNode, name: str) -> bool:
    """Whether a cell's source defines a name, as far as that can be seen without parsing what may be unparsable."""
    defined = rf"^\s*(?:async\s+def|def|class)\s+{name}\b|(?:^|[;=,])\s*{name}\s*(?::[^=\n]+)?=(?!=)"
    imported = rf"^\s*from\s.*\bimport\b.*\b{name}\b"
    code = cell.cell_type != "markdown"
    return code and bool(re.search(f"{defined}|{imported}", unicodedata.normalize("NFKC", cell.source), re.MULTILINE))


def _answer(cell: NotebookNode, item: Asked) -> NotebookNode:
    return new_code_cell(_text(cell.source), metadata=deepcopy(item.answer.metadata))


def _plain(cell: NotebookNode, given: set[str]) -> NotebookNode:
    """The cell without outputs, marks and tags; HTML in a text of the student's own is shown, not rendered."""
    source = _text(cell.source)
    if cell.cell_type == "code":
        return new_code_cell(source)
    if cell.cell_type == "markdown":
        return new_markdown_cell(source if source in given else source.replace("<", "&lt;"))
    return new_raw_cell(source)


def _text(source: str) -> str:
    """The source as text that can be written to a file: surrogates and NUL become question marks."""
    return source.encode("utf-8", "replace").decode().replace("\0", "?")
