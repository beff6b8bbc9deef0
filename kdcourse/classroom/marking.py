"""From a repaired notebook to its record, whatever the answers do."""

from dataclasses import asdict, replace
from typing import Any

from nbformat import NotebookNode

from . import records
from .records import Record


def marked(record: Record, notebook: NotebookNode, limits: dict[str, Any]) -> Record:
    """The record with a mark for each exercise, or with the reason why there is none."""
    from .judging import Limits, grade

    try:
        found = grade(notebook, record.assignment, seed=record.seed, limits=Limits(**limits))
    except Exception as error:  # one submission never costs another
        why = f"the grader failed on it: {type(error).__name__}: {error}"
        return replace(record, marks=[], damage=why[:300], notebook="")
    return replace(record, marks=[asdict(mark) for mark in found], damage="", notebook=records.digest(notebook))


def exposed() -> list[str]:
    """A sentence for each thing that is not isolated on this system."""
    from .judging import isolation

    return [f"Not isolated on this system: {sentence}" for sentence in isolation()]
