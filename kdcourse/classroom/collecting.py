"""Find the notebook among what was handed in, and read it; nothing that is a link is followed."""

import os
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from .._base.notebooks import read
from .repairing import Asked, asked, binds, repair

LARGEST = 500 * 2**20
"""bytes of a file that is still read"""
PASSED_OVER = {".ipynb_checkpoints", "__MACOSX"}


class Damaged(ValueError):
    """Nothing of what was handed in can be read; the sentence says why."""


@cache
def released(course: Path, assignment: str) -> NotebookNode:
    """The students' version of an assignment's notebook."""
    notebook: NotebookNode = nbformat.read(course / "release" / assignment / f"{assignment}.ipynb", as_version=4)
    return notebook


def tidy(course: Path, student: str, assignment: str) -> list[str]:
    """Leave in a submission's folder its notebook, under its right name, and the time of handing in.

    All else goes to the course's folder ``set_aside``, so that nbgrader copies and follows none of it. The lines say
    what was done. Raises `Damaged` where there is no notebook.
    """
    folder = course / "submitted" / student / assignment
    right, kept, aside = (
        folder / f"{assignment}.ipynb",
        folder / ".kept.ipynb",
        course / "set_aside" / student / assignment,
    )
    for place in (folder.parent, folder):
        if place.is_symlink() or not place.is_dir():
            _move(place, aside)
            raise Damaged(f"{place.name} in {place.parent.name} is not a folder, or a link, and links are not followed")
    found = list(_notebooks(folder))
    if len(found) > 1:
        found.sort(key=lambda path: _rank(path, right, asked(released(course, assignment))))
    notes = []
    if found and found[-1] != right:
        notes.append(f"handed in as {found[-1].relative_to(folder).as_posix()}")
    if len(found) > 1:
        notes.append(f"not read: {', '.join(path.relative_to(folder).as_posix() for path in found[:-1])}")
    if found:
        found[-1].rename(kept)
    for entry in sorted(folder.iterdir()):
        if entry == kept or _of_the_exchange(entry):
            continue
        if entry.is_symlink():
            notes.append(f"{entry.name} is a link, and links are not followed")
        elif entry.name == "timestamp.txt":
            notes.append("its time of handing in cannot be read")
        _move(entry, aside)
    if not found:
        raise Damaged("; ".join(["there is no notebook in the folder", *notes]))
    kept.rename(right)
    return notes


def _notebooks(folder: Path) -> Iterator[Path]:
    """Regular files that are called notebooks, at the top or, where there is none, in a folder inside."""
    here = [entry for entry in folder.iterdir() if _regular(entry) and ".ipynb" in entry.name.lower()]
    if here:
        yield from here
        return
    for place, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each not in PASSED_OVER]
        yield from (Path(place, each) for each in files if ".ipynb" in each.lower() and _regular(Path(place, each)))


def _regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _rank(path: Path, right: Path, wanted: list[Asked]) -> tuple[bool, bool, int, float, str]:
    """What is read is the last of this order: readable, of the right name, with the most of the answers, the newest."""
    try:
        cells = opened(path).cells
    except Damaged:
        return False, False, 0, 0.0, path.name
    answers = sum(any(binds(cell, item.name) for cell in cells) for item in wanted)
    return True, path == right, answers, path.stat().st_mtime, path.name


def _of_the_exchange(entry: Path) -> bool:
    """The time of handing in, where it can be read, and the secret by which nbgrader's exchange returns feedback."""
    small = _regular(entry) and entry.stat().st_size <= 1000
    return small and (entry.name == "submission_secret.txt" or entry.name == "timestamp.txt" and _is_time(entry))


def _is_time(path: Path) -> bool:
    """Whether nbgrader could read the time in a file."""
    try:
        text = path.read_bytes()[:100].decode().strip()
        datetime.fromisoformat(re.sub(r" (UTC|[+-]\d{4})$", "", text))
    except ValueError:
        return False
    return True


def _move(entry: Path, aside: Path) -> None:
    aside.mkdir(parents=True, exist_ok=True)
    number = 0
    while os.path.lexists(target := aside / f"{number or ''}{'_' if number else ''}{entry.name}"):
        number += 1
    entry.rename(target)


def opened(path: Path) -> NotebookNode:
    """The notebook in a file that a student handed in.

    Raises `Damaged` where it is a link, no plain file, too large, or cannot be read.
    """
    if any(part.is_symlink() for part in (path, *list(path.parents)[:2])):
        raise Damaged(f"{path.name} is a link, and links are not followed")
    if not path.is_file():
        raise Damaged(f"{path.name} is not a file")
    if path.stat().st_size > LARGEST:
        raise Damaged(
            f"{path.name} has {path.stat().st_size / 2**20:.0f} MB, and none above {LARGEST // 2**20} is read"
        )
    try:
        return read(path)
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        why = str(error).replace(str(path), path.name) or type(error).__name__
        raise Damaged(" ".join(why.split())[:300]) from None


def submission(course: Path, student: str, assignment: str) -> NotebookNode:
    """A tidied submission in the shape of what was released.

    Raises `Damaged`, also where no cell of it has to do with the assignment.
    """
    path = course / "submitted" / student / assignment / f"{assignment}.ipynb"
    notebook, given = opened(path), released(course, assignment)
    check_belongs(notebook, given, assignment)
    return repair(notebook, given)


def check_belongs(notebook: NotebookNode, given: NotebookNode, assignment: str) -> None:
    """Raise `Damaged` where a notebook has nothing of what was released."""
    texts = {cell.source.strip() for cell in given.cells} - {""}
    names = [item.name for item in asked(given)]
    if not any(cell.source.strip() in texts or any(binds(cell, name) for name in names) for cell in notebook.cells):
        raise Damaged(f"this is another notebook: no cell of {assignment} is in it")


def nothing_read(given: NotebookNode, why: str) -> NotebookNode:
    """What stands for a submission that cannot be read: the released notebook, headed by the reason."""
    notebook = deepcopy(given)
    notebook.cells.insert(
        0, new_markdown_cell(f"**What was handed in could not be graded:** {why.replace('<', '&lt;')}")
    )
    return notebook
