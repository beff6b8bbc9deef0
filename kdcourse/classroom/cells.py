"""Which cells of a notebook are graded, and what nbgrader is to know of them."""

from nbformat import NotebookNode

from ..exercises import exercises
from .repairing import CHECK


def graded_cells(notebook: NotebookNode) -> list[tuple[NotebookNode, dict[str, object]]]:
    """Every answer cell and every check cell, with what nbgrader is to know of it; the answer stands before its check.

    Source: nbgrader's metadata schema, version 3.
    """
    found: list[tuple[NotebookNode, dict[str, object]]] = []
    for answer, check in zip(notebook.cells, notebook.cells[1:], strict=False):
        match = CHECK.search(check.source) if check.cell_type == "code" else None
        if match:
            exercise, plain = exercises[match[1]], match[1].replace(".", "-")
            common = {"schema_version": 3, "task": False}
            found.append((answer, common | {"grade_id": f"answer-{plain}", "solution": True, "grade": False,
                                            "locked": False}))  # fmt: skip
            found.append((check, common | {"grade_id": f"check-{plain}", "solution": False, "grade": True,
                                           "locked": True, "points": exercise.points}))  # fmt: skip
    return found
