"""The learner's copies of the notebooks: made once, never overwritten, and merged cell by cell with a new version.

``my_course/`` holds the copies and, hidden, the originals they were made from, without outputs. A copy's metadata says
which of these is its own, so that this stays true even if a program saves an older copy over a newer one.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import suppress
from copy import deepcopy
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from ._base.files import exclusive, read_whole, write_whole
from ._base.notebooks import grade_id, mend, read

FOLDER = "my_course"
Cells = Sequence[NotebookNode]
ORIGINALS = ".originals"
ALIKE = 0.5
"""how much of two cells in the same place must agree for one to be an edited form of the other"""


class Merged(NamedTuple):
    """A new version with a learner's work in it, what they should know, and their cells that have no place in it."""

    notebook: NotebookNode
    said: list[str]
    left_over: list[NotebookNode]


def refresh(course: Path) -> list[str]:
    """Make the copies that are missing and bring the others up to date; what the learner should know, in sentences.

    A copy that cannot be read or written is left as it is and named; the others go on.
    Raises ``OSError`` with a sentence where there can be no copies at all.

    >>> from pathlib import Path
    >>> refresh(Path("."))  # no notebooks, no copies
    []
    """
    originals, folder = sorted((course / "notebooks").glob("[0-9]*.ipynb")), course / FOLDER
    if not originals:
        return []
    made, sentences = [], []
    with exclusive(folder / "copies"):
        first = not any(folder.glob("*.ipynb"))
        for original in originals:
            copy = folder / original.name
            try:
                if copy.exists():
                    sentences += _update(original, copy)
                else:
                    _make(original, copy)
                    made.append(f"{FOLDER}/{copy.name} is new.")
            except (OSError, ValueError, RecursionError) as error:
                sentences.append(f"{FOLDER}/{copy.name} is left as it is: {getattr(error, 'strerror', None) or error}.")
    if first and made:
        made = [f"{FOLDER}/ now holds your own copies of the notebooks, to write into; git ignores them."]
    return made + sentences


def merge(base: NotebookNode, mine: NotebookNode, new: NotebookNode) -> Merged:
    """The notebook ``new`` with what the learner changed between ``base`` and ``mine``.

    A cell that the learner did not touch is the new one; a cell that they edited, added or deleted stays edited, added
    or deleted. If its original has changed too, that is said; if its original is gone, it is left over.

    >>> from nbformat.v4 import new_code_cell, new_notebook
    >>> base, mine, new = (
    ...     new_notebook(cells=[new_code_cell(source, id=source[0]) for source in version])
    ...     for version in (["a = 1", "b = 1"], ["a = 1 + 1", "b = 1"], ["a = 1", "b = 5"])
    ... )
    >>> [cell.source for cell in merge(base, mine, new).notebook.cells]
    ['a = 1 + 1', 'b = 5']
    """
    to_mine, to_new = _match(base.cells, mine.cells), _match(base.cells, new.cells)
    sources = {place: (base.cells[number], to_mine.get(number)) for number, place in to_new.items()}
    own, added = _unpaired(mine.cells, to_mine.values()), _unpaired(new.cells, to_new.values())
    for number, place in _match([mine.cells[n] for n in own], [new.cells[n] for n in added], loosely=False).items():
        sources[added[place]] = new.cells[added[place]], own[number]  # the learner has it already
    places = {at: place for place, (_, at) in sources.items() if at is not None}
    followers = _followers(mine.cells, own, places, new.cells)
    cells, said = followers.pop(-1, []), list[str]()
    for place, cell in enumerate(new.cells):
        old, at = sources.get(place, (None, None))
        if old is None:
            cells.append(cell)
        elif at is not None:
            cells.append(_merged(old, mine.cells[at], cell, said))
        elif _text(old) != _text(cell):
            said.append(f"the cell {_title(cell)}, which you deleted, has changed")
        cells += followers.pop(place, [])
    gone = ((base.cells[number], mine.cells[to_mine[number]]) for number in sorted(set(to_mine) - set(to_new)))
    left_over = [cell for old, cell in gone if _text(old) != _text(cell)]
    notebook = deepcopy(NotebookNode({**new, "cells": cells}))
    mend(notebook)
    return Merged(notebook, said, left_over)


def _match(old: Cells, new: Cells, *, loosely: bool = True) -> dict[int, int]:
    """Which cell of ``old`` is which of ``new``, by number.

    By nbgrader's name for it, by id and text, by text, then (loosely) by id alone and by place and likeness. Ids may
    have been dropped; where they were given to other cells, likeness comes first.
    """
    found: dict[int, int] = {}
    _pair(old, new, found, grade_id)
    _pair(old, new, found, lambda cell: (cell.id, _text(cell)))
    _pair(old, new, found, _text)
    if loosely:
        names = {cell.id for cell in new}
        if any(old[number].id != new[place].id and old[number].id in names for number, place in found.items()):
            _pair_alike(old, new, found)
        _pair(old, new, found, lambda cell: cell.id)
        _pair_alike(old, new, found)
    return found


def _pair(old: Cells, new: Cells, found: dict[int, int], key: Callable[[NotebookNode], Hashable]) -> None:
    """Pair the cells that have the same key, if as many of both have it and none is paired yet; no key is None."""
    groups = defaultdict[Hashable, tuple[list[int], list[int]]](lambda: ([], []))
    for side, (cells, paired) in enumerate(((old, set(found)), (new, set(found.values())))):
        for number in _unpaired(cells, paired):
            groups[key(cells[number])][side].append(number)
    groups.pop(None, None)
    for ours, theirs in groups.values():
        if len(ours) == len(theirs):
            found.update(zip(ours, theirs, strict=True))


def _pair_alike(old: Cells, new: Cells, found: dict[int, int]) -> None:
    """Pair cells that stand between the same neighbours and say nearly the same."""
    for number in _unpaired(old, found.keys()):
        first = found[max(before)] + 1 if (before := [n for n in found if n < number]) else 0
        last = found[min(after)] if (after := [n for n in found if n > number]) else len(new)
        free = [place for place in _unpaired(new, found.values()) if first <= place < last]
        scores = {place: _likeness(old[number], new[place]) for place in free}
        if scores and max(scores.values()) >= ALIKE:
            found[number] = max(free, key=scores.__getitem__)


def _likeness(one: NotebookNode, other: NotebookNode) -> float:
    """1 for the same text, 0 for nothing in common; a first line in common (``def my_loss(…``) is enough."""
    (kind, text), (other_kind, other_text) = _text(one), _text(other)
    if kind != other_kind:
        return 0.0
    same_start = bool(text) and text.partition("\n")[0] == other_text.partition("\n")[0]
    return max(ALIKE * same_start, SequenceMatcher(None, text, other_text, autojunk=False).ratio())


def _unpaired(cells: Cells, paired: Collection[int]) -> list[int]:
    return [number for number in range(len(cells)) if number not in paired]


def _followers(mine: Cells, own: list[int], places: dict[int, int], new: Cells) -> dict[int, list[NotebookNode]]:
    """The learner's own cells, by the place in ``new`` of the cell that they come after; -1 is the top.

    An id that ``new`` has for another cell is given up.
    """
    found, last, taken = defaultdict[int, list[NotebookNode]](list), -1, {cell.id for cell in new}
    for number, cell in enumerate(mine):
        last = places.get(number, last)
        if number in own and number not in places:
            found[last].append(NotebookNode({**cell, "id": None if cell.id in taken else cell.id}))
    return found


def _merged(base: NotebookNode, mine: NotebookNode, new: NotebookNode, said: list[str]) -> NotebookNode:
    """One cell of the new version: with the learner's text if they edited it, with their output if they ran it."""
    if _text(mine) not in (_text(base), _text(new)) or _solved(mine, new):
        if _text(base) not in (_text(mine), _text(new)):
            said.append(f"the cell {_title(mine)} was changed by you and by the new version: yours is kept")
        metadata = {**mine.metadata, **new.metadata} if mine.cell_type == new.cell_type else mine.metadata
        return NotebookNode({**mine, "id": new.id, "metadata": metadata})
    if _text(mine) == _text(new) and mine.get("outputs") and _printed(mine) != _printed(base):
        return NotebookNode({**new, "outputs": mine.outputs, "execution_count": mine.execution_count})
    return new


def _solved(mine: NotebookNode, new: NotebookNode) -> bool:
    """Whether it is an exercise that was answered; this does not ask where, for a learner may work in the originals."""
    return grade_id(new) is not None and _open(new) and not _open(mine)


def _open(cell: NotebookNode) -> bool:
    return "..." in (line.strip() for line in cell.source.splitlines())


def _text(cell: NotebookNode) -> tuple[str, str]:
    """What a learner reads in a cell, with its kind; blanks at the ends of lines, which editors strip, do not count."""
    return cell.cell_type, "\n".join(line.rstrip() for line in cell.source.strip().splitlines())


def _title(cell: NotebookNode) -> str:
    first = grade_id(cell) or next(iter(_text(cell)[1].splitlines()), "")
    return f'"{first[:60]}{"…" if len(first) > 60 else ""}"'


def _make(original: Path, copy: Path) -> None:
    """A first copy. What it was made from is kept before it is there, so that a copy always has its original."""
    version, new = _version(original), read(original)
    _keep(copy, version, new)
    _write(copy, new, version)


def _update(original: Path, copy: Path) -> list[str]:
    """Merge the original into the copy, unless it is what the copy was made from; sentences."""
    version, stored = _version(original), read_whole(copy)
    with suppress(ValueError, KeyError, TypeError):
        if json.loads(stored)["metadata"]["kdcourse"]["original"] == version:
            return []
    try:
        mine = read(copy)
        base = _base(copy, mine)
    except ValueError as error:
        raise ValueError(f"{error}. To get a fresh copy, rename this one and start again") from None
    new = read(original)
    merged, left = merge(base, mine, new), copy.with_name(f"{copy.stem}_left_over.ipynb")
    _keep(copy, version, new)
    if merged.left_over:
        _append(left, merged.left_over)
    if read_whole(copy) != stored:
        raise OSError("another program has just saved it. Start again")
    _write(copy, merged.notebook, version)
    return _sentences(copy, left, merged, {_text(cell) for cell in new.cells})


def _sentences(copy: Path, left: Path, merged: Merged, texts: set[tuple[str, str]]) -> list[str]:
    theirs = sum(_text(cell) not in texts for cell in merged.notebook.cells)
    kept = f" It keeps {theirs} {'cell' if theirs == 1 else 'cells'} of yours." if theirs else ""
    gone = [f"the original of your cell {_title(cell)} is gone: it is in {left.name}" for cell in merged.left_over]
    changed = [f"{sentence}. notebooks/{copy.name} has the new one" for sentence in merged.said]
    said = [f"{FOLDER}/{copy.name}: {sentence}." for sentence in changed + gone]
    return [f"{FOLDER}/{copy.name} is now the new version.{kept}", *said]


def _version(original: Path) -> str:
    return hashlib.sha256(read_whole(original)).hexdigest()[:16]


def _write(copy: Path, notebook: NotebookNode, version: str) -> None:
    notebook.metadata["kdcourse"] = {"original": version}
    write_whole(copy, nbformat.writes(notebook) + "\n")


def _keep(copy: Path, version: str, new: NotebookNode) -> None:
    """Put the original away, its outputs as a digest alone."""
    slim = deepcopy(new)
    for cell in slim.cells:
        if cell.cell_type == "code":
            cell.metadata["printed"], cell.outputs = _printed(cell), []
    place = copy.parent / ORIGINALS / f"{copy.stem}.{version}.ipynb"
    place.parent.mkdir(exist_ok=True)
    write_whole(place, nbformat.writes(slim) + "\n")


def _printed(cell: NotebookNode) -> str:
    digest = hashlib.sha256(json.dumps(cell.get("outputs", []), sort_keys=True).encode()).hexdigest()[:16]
    return str(cell.metadata.get("printed", digest))


def _base(copy: Path, mine: NotebookNode) -> NotebookNode:
    """The original that a copy was made from; if a program has dropped its name, the one with most cells in common."""
    texts, found = {_text(cell) for cell in mine.cells}, {}
    for place in (copy.parent / ORIGINALS).glob(f"{copy.stem}.*.ipynb"):
        with suppress(OSError, ValueError):
            found[place.name.split(".")[-2]] = read(place)
    named = mine.metadata.get("kdcourse")
    name = named.get("original") if isinstance(named, dict) else None
    if name in found:
        return found[name]
    if not found:
        raise ValueError(f"the original that it was made from is not in {FOLDER}/{ORIGINALS}")
    return max(found.values(), key=lambda base: sum(_text(cell) in texts for cell in base.cells))


def _append(left: Path, cells: list[NotebookNode]) -> None:
    """Keep cells in a notebook of their own, behind those that are there; none twice."""
    book = read(left) if left.exists() else nbformat.v4.new_notebook()
    there = {_text(cell) for cell in book.cells}
    book.cells += [deepcopy(cell) for cell in cells if _text(cell) not in there]
    mend(book)
    write_whole(left, nbformat.writes(book) + "\n")
