"""The learner's copies: made once, never overwritten, and everything of the learner's is in the next version."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_notebook_formats import FORMS, NAMES, NOTEBOOKS, ROOT

from kdcourse import __main__ as command_line
from kdcourse import copies
from kdcourse._base.notebooks import read
from kdcourse.exercises import exercises
from kdcourse.exercises.engine.showing import solution_source

FIRST = "00_start.ipynb"
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)[^)]*\)")


def book(*cells):
    """A notebook of cells given as "id: source", code where the source has a sign =, or as cells."""
    made = []
    for cell in cells:
        name, _, source = cell.partition(": ") if isinstance(cell, str) else (None, None, None)
        made.append(cell if name is None else (new_code_cell if "=" in source else new_markdown_cell)(source, id=name))
    return new_notebook(cells=copy.deepcopy(made))


def sources(notebook):
    return [cell.source for cell in notebook.cells]


# ---- one notebook, three versions

TEXT, CODE, LAST = "t: Old text.", "c: x = 1", "l: The end."
BODY = "z = torch.logsumexp(a, dim=-1)\n    return z - a.gather(1, labels[:, None])"
CASES = {
    "nothing": ([TEXT, CODE], [TEXT, CODE], [TEXT, CODE], ["Old text.", "x = 1"], []),
    "new text": ([TEXT, CODE], [TEXT, CODE], ["t: Something else.", CODE], ["Something else.", "x = 1"], []),
    "edited": ([TEXT, CODE], [TEXT, "c: x = 2"], ["t: Something else.", CODE], ["Something else.", "x = 2"], []),
    "blanks at the ends of lines": ([TEXT], ["t: Old text.  \n"], ["t: Wholly different."], ["Wholly different."], []),
    "edited on both sides": ([TEXT, CODE], [TEXT, "c: x = 2"], [TEXT, "c: x = 3"], ["Old text.", "x = 2"],
                             ['the cell "x = 2" was changed by you and by the new version: yours is kept']),
    "rewritten on both sides": ([TEXT, CODE], ["t: Mine!", CODE], ["t: A new and longer one", CODE],
                                ["Mine!", "x = 1"], ["changed by you and by the new version"]),
    "the same edit": ([TEXT, CODE], [TEXT, "c: x = 3"], [TEXT, "c: x = 3"], ["Old text.", "x = 3"], []),
    "a new cell": ([TEXT, LAST], [TEXT, LAST], [TEXT, CODE, LAST], ["Old text.", "x = 1", "The end."], []),
    "own cells": ([TEXT, LAST], ["a: a = 1", TEXT, "b: b = 1", "d: d = 1", LAST, "e: e = 1"], [TEXT, LAST, "n: More"],
                  ["a = 1", "Old text.", "b = 1", "d = 1", "The end.", "e = 1", "More"], []),
    "own cell after one that is gone": ([TEXT, CODE, LAST], [TEXT, CODE, "o: o = 1", LAST], [TEXT, LAST],
                                        ["Old text.", "o = 1", "The end."], []),
    "an id that the new version needs": ([TEXT], [TEXT, "n: n = 1"], [TEXT, "n: New"],
                                         ["Old text.", "n = 1", "New"], []),
    "deleted": ([TEXT, CODE], [TEXT], ["t: Another text.", CODE], ["Another text."], []),
    "deleted and changed": ([TEXT, CODE], [TEXT], [TEXT, "c: x = 7"], ["Old text."],
                            ['the cell "x = 7", which you deleted, has changed']),
    "moved by the learner": ([TEXT, CODE, LAST], [CODE, TEXT, LAST], [TEXT, CODE, "l: End."],
                             ["Old text.", "x = 1", "End."], []),
    "moved by the new version": ([TEXT, CODE, LAST], [TEXT, "c: x = 5", LAST], [LAST, CODE, TEXT],
                                 ["The end.", "x = 5", "Old text."], []),
    "turned into text": ([TEXT, CODE], [TEXT, new_markdown_cell("x = 1", id="c")], ["t: Better text.", CODE],
                         ["Better text.", "x = 1"], []),
    "gone untouched": ([TEXT, CODE], [TEXT, CODE], [TEXT], ["Old text."], []),
    "alike, but elsewhere": ([TEXT, CODE, LAST], ["1: Old text.", "2: The end.", "3: x = 15"],
                             [TEXT, "c: x = 9", LAST], ["Old text.", "The end.", "x = 15"], ["which you deleted"]),
    "the same first line, ids dropped": (
        [TEXT, "c: def f(a=1):\n    ..."], ["1: Old text.", f"2: def f(a=1):\n    {BODY}"],
        [TEXT, "c: def f(a=2):\n    ..."], ["Old text.", f"def f(a=1):\n    {BODY}"],
        ["changed by you and by the new version"]),
    "alike, but another cell": ([CODE, LAST], ["c: x = 'mine'", "o: o = 1", LAST], ["c: x = 9", LAST],
                                ["x = 'mine'", "o = 1", "The end."], ["changed by you and by the new version"]),
    "ids given to other cells": ([TEXT, "u: b = 1"], [TEXT, "u: b = 1 + 1"],
                                 ["t: Inserted", "u: Old text.", "v: b = 1"],
                                 ["Inserted", "Old text.", "b = 1 + 1"], []),
    "ids given to other cells, and edited": (
        ["0: Old text.", "1: b = 1", LAST], ["0: Old text.", "1: b = 7", LAST],
        ["0: Old text.", "1: inserted = 1", "l: b = 10", "3: The end."],
        ["Old text.", "inserted = 1", "b = 7", "The end."], ["changed by you and by the new version"]),
    "ids dropped": ([TEXT, CODE, LAST], ["1: Old text.", "2: x = 11", "3: own = 1", "4: The end."],
                    ["t: Old texts.", "c: x = 12", LAST], ["Old texts.", "x = 11", "own = 1", "The end."],
                    ["changed by you and by the new version"]),
    "the same text twice": (["a: f = 1", TEXT, "b: f = 1"], ["a: f = 1", TEXT, "b: f = 1"],
                            ["a: f = 2", TEXT, "b: f = 3"], ["f = 2", "Old text.", "f = 3"], []),
    "the same text twice, ids dropped": (["a: f = 1", TEXT, "b: f = 1"], ["1: f = 1", "2: Mine", "3: f = 1"],
                                         ["a: f = 2", TEXT, "b: f = 3"], ["f = 2", "Mine", "f = 3"], []),
    "the same text twice, moved": (["a: f = 1", TEXT, "b: f = 1"], ["a: f = 9", TEXT, "b: f = 1"],
                                   ["b: f = 1", TEXT, "a: f = 1"], ["f = 1", "Old text.", "f = 9"], []),
    "copied and pasted": ([CODE, TEXT], [CODE, TEXT, "p: x = 1"], ["c: x = 4", TEXT],
                          ["x = 4", "Old text.", "x = 1"], []),
    "taken over by hand": ([TEXT], [TEXT, "h: n = 1"], [TEXT, "n: n = 1"], ["Old text.", "n = 1"], []),
    "everything deleted": ([TEXT, CODE], [], [TEXT, CODE, LAST], ["The end."], []),
    "empty at first": ([], ["o: o = 1"], [TEXT], ["o = 1", "Old text."], []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_merge_brings_the_new_and_keeps_what_is_the_learners(case):
    *versions, expected, said = case
    versions = [book(*cells) for cells in versions]
    before = copy.deepcopy(versions)
    merged = copies.merge(*versions)
    assert sources(merged.notebook) == expected
    assert merged.left_over == []
    assert len(merged.said) == len(said)
    assert all(part in sentence for part, sentence in zip(said, merged.said, strict=True))
    assert versions == before, "a merge changes none of the three"
    nbformat.validate(merged.notebook)
    assert len({cell.id for cell in merged.notebook.cells}) == len(expected)
    new = {cell.id for cell in versions[2].cells if cell.source in expected}
    assert new <= {cell.id for cell in merged.notebook.cells}, "the next merge needs the new version's ids"


def test_an_edited_cell_whose_original_is_gone_is_left_over():
    merged = copies.merge(book(TEXT, CODE), book(TEXT, "c: x = 'mine'", "o: o = 1"), book(TEXT))
    assert sources(merged.notebook) == ["Old text.", "o = 1"]
    assert [cell.source for cell in merged.left_over] == ["x = 'mine'"]


def graded(source, name, **cell):
    marks = {"nbgrader": {"grade_id": name, "solution": True, "grade": False, "points": 1}}
    return new_code_cell(source, metadata=marks, **cell)


def test_answers_go_by_nbgraders_name_before_anything_else():
    base = book(TEXT, graded("def f(a):\n    ...", "answer-1", id="q"), CODE)
    mine = book(TEXT, graded("wholly = 'rewritten'", "answer-1", id="w"), "o: o = 1", CODE)
    new = book("q: q = 1", graded("def f(a, b):\n    ...", "answer-1", id="z"), CODE, TEXT)
    new.cells[1].metadata.nbgrader.points = 2
    merged = copies.merge(base, mine, new)
    assert sources(merged.notebook) == ["q = 1", "wholly = 'rewritten'", "o = 1", "x = 1", "Old text."]
    assert merged.notebook.cells[1].metadata.nbgrader.points == 2
    assert len(merged.said) == 1


def test_an_answer_copied_and_pasted_stays_in_its_place():
    answer = graded("def f(a):\n    return a", "answer-1", id="q")
    mine = book(TEXT, answer, graded("def f(a):\n    return 2 * a", "answer-1", id="paste"))
    new = book("t: Other text.", graded("def f(a):\n    ...", "answer-1", id="q"), LAST)
    merged = copies.merge(book(TEXT, graded("def f(a):\n    ...", "answer-1", id="q")), mine, new)
    assert sources(merged.notebook) == [
        "Other text.", answer.source, "def f(a):\n    return 2 * a", "The end."]  # fmt: skip


def test_an_answer_is_kept_even_if_the_original_was_answered_when_it_was_copied():
    answered = book(TEXT, graded("def f(a):\n    return a", "answer-1", id="q"))
    restored = book("t: Other text.", graded("def f(a):\n    ...", "answer-1", id="q"))
    merged = copies.merge(answered, answered, restored)
    assert sources(merged.notebook) == ["Other text.", "def f(a):\n    return a"]
    assert merged.said == []


def test_a_skeleton_without_that_line_is_replaced_by_the_new_one():
    skeleton = book(TEXT, graded("def f(a):\n    pass", "answer-1", id="q"))
    merged = copies.merge(skeleton, skeleton, book(TEXT, graded("def f(a, b):\n    pass", "answer-1", id="q")))
    assert sources(merged.notebook) == ["Old text.", "def f(a, b):\n    pass"]


def test_of_two_cells_with_one_id_the_new_versions_keeps_it():
    merged = copies.merge(book(TEXT), book(TEXT, "n: n = 1"), book(TEXT, "n: New"))
    assert [cell.source for cell in merged.notebook.cells if cell.id == "n"] == ["New"]


def test_every_skeleton_has_the_line_that_tells_it_from_an_answer():
    for exercise in exercises.values():
        assert "..." in [line.strip() for line in exercise.skeleton.splitlines()], exercise.id


def test_outputs_are_the_learners_where_they_ran_the_cell_and_else_the_new_ones():
    def version(*printed, text="x = 1"):
        cells = [new_code_cell(text, id=f"c{n}", outputs=[new_output("stream", text=p)]) for n, p in enumerate(printed)]
        return new_notebook(cells=cells)

    merged = copies.merge(version("a", "b", "c"), version("a", "mine", "c"), version("new", "newer", "c"))
    assert [cell.outputs[0].text for cell in merged.notebook.cells] == ["new", "mine", "c"]
    merged = copies.merge(version("a"), version("mine"), version("new", text="x = 2"))
    assert merged.notebook.cells[0].outputs[0].text == "new", "an output of another source would be wrong"


# ---- a folder of notebooks


@pytest.fixture
def course(tmp_path):
    """A course of two notebooks; `release` writes another version of the first."""
    (tmp_path / "notebooks").mkdir()
    release(tmp_path, TEXT, graded("def f(a):\n    ...", "answer-00-1", id="q"), LAST)
    release(tmp_path, "t: Another notebook.", name="01_next.ipynb")
    return tmp_path


def release(course, *cells, name=FIRST):
    path = course / "notebooks" / name
    path.unlink(missing_ok=True)
    nbformat.write(book(*cells), path)


def mine(course, name=FIRST):
    return course / copies.FOLDER / name


def work(course, change, name=FIRST):
    """Change the copy as a program does that reads and writes all of it."""
    stored = nbformat.read(mine(course, name), as_version=4)
    change(stored)
    nbformat.write(stored, mine(course, name))


def solve(notebook):
    notebook.cells[1].source = "def f(a):\n    return a"
    notebook.cells.append(new_code_cell("own = 1"))


def second_version(course):
    release(course, "t: New text.", "n: n = 1", graded("def f(a):\n    ...", "answer-00-1", id="q"), LAST)


SOLVED = ["New text.", "n = 1", "def f(a):\n    return a", "The end.", "own = 1"]


def everything(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix == ".ipynb"}


def test_the_first_start_copies_and_the_second_changes_nothing(course):
    originals = everything(course / "notebooks")
    (sentence,) = copies.refresh(course)
    assert sentence.startswith("my_course/ now holds your own copies")
    assert sources(read(mine(course))) == sources(read(course / "notebooks" / FIRST))
    made = everything(course / copies.FOLDER)
    stamp = mine(course).stat().st_mtime_ns
    assert copies.refresh(course) == []
    assert everything(course / copies.FOLDER) == made
    assert mine(course).stat().st_mtime_ns == stamp
    assert everything(course / "notebooks") == originals


def test_an_update_brings_the_new_version_and_new_notebooks_and_keeps_the_answers(course):
    copies.refresh(course)
    work(course, solve)
    second_version(course)
    release(course, "z: z = 1", name="02_more.ipynb")
    originals = everything(course / "notebooks")
    said = copies.refresh(course)
    assert said == [
        "my_course/02_more.ipynb is new.",
        f"my_course/{FIRST} is now the new version. It keeps 2 cells of yours.",
    ]
    assert sources(read(mine(course))) == SOLVED
    assert read(mine(course)).cells[2].metadata.nbgrader.grade_id == "answer-00-1"
    assert copies.refresh(course) == []
    assert everything(course / "notebooks") == originals


def test_an_update_brings_new_outputs_where_the_learner_has_not_run_the_cell(course):
    def printing(text, name):
        return new_code_cell(f"{name} = 1", id=name, outputs=[new_output("stream", text=text)])

    release(course, printing("old", "a"), printing("old", "b"))
    copies.refresh(course)
    work(course, lambda notebook: notebook.cells[1].outputs[0].update(text="mine"))
    release(course, printing("new", "a"), printing("new", "b"))
    copies.refresh(course)
    found = nbformat.read(mine(course), as_version=4)
    assert [cell.outputs[0].text for cell in found.cells] == ["new", "mine"]


def test_updates_one_after_another_lose_nothing(course):
    copies.refresh(course)
    work(course, solve)
    for number in range(4):
        release(course, f"t: Text {number}.", *(f"n{n}: n{n} = 1" for n in range(number)),
                graded(f"def f(a):  # {number}\n    ...", "answer-00-1", id=f"q{number}"), LAST)  # fmt: skip
        said = copies.refresh(course)
        work(course, lambda notebook: None)
        assert any("was changed by you and by the new version" in sentence for sentence in said)
    expected = ["Text 3.", "n0 = 1", "n1 = 1", "n2 = 1", "def f(a):\n    return a", "The end.", "own = 1"]
    assert sources(read(mine(course))) == expected


def test_what_has_no_place_is_in_a_notebook_beside_it_once(course):
    copies.refresh(course)
    work(course, solve)
    release(course, "t: New text.", LAST)
    said = copies.refresh(course)
    left = mine(course, "00_start_left_over.ipynb")
    assert said[1] == (
        f'my_course/{FIRST}: the original of your cell "answer-00-1" is gone: it is in 00_start_left_over.ipynb.'
    )
    assert sources(nbformat.read(left, as_version=4)) == ["def f(a):\n    return a"]
    copies._append(left, nbformat.read(left, as_version=4).cells)  # as after a kill between the two files
    assert len(nbformat.read(left, as_version=4).cells) == 1
    release(course, LAST)
    work(course, lambda notebook: notebook.cells[0].update(source="New text. And mine."))
    copies.refresh(course)
    assert sources(nbformat.read(left, as_version=4)) == ["def f(a):\n    return a", "New text. And mine."]


DAMAGE = {
    "empty": b"", "cut off": b'{"cells": [{"cell_type": "code", "sou', "no notebook": b"[1, 2]",
    "binary": b"\xff\x00\x01",
    "a cell of no kind": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "poem"}]}',
    "conflict marks": b"<<<<<<< Updated upstream\n{}\n=======\n{}\n>>>>>>> Stashed changes\n",
    "too deep": b"[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("where", ["copy", "original"])
def test_a_damaged_file_is_named_and_left_and_the_others_go_on(course, content, where):
    copies.refresh(course)
    work(course, solve)
    second_version(course)
    release(course, "t: A newer one.", name="01_next.ipynb")
    damaged = {"copy": mine(course), "original": course / "notebooks" / FIRST}[where]
    damaged.write_bytes(content)
    kept = mine(course).read_bytes()
    said = copies.refresh(course)
    assert said[0].startswith(f"my_course/{FIRST} is left as it is: ")
    assert str(damaged) in said[0] or "recursion" in said[0]
    assert len(said[0].splitlines()) == 1
    assert mine(course).read_bytes() == kept
    assert sources(read(mine(course, "01_next.ipynb"))) == ["A newer one."]
    assert len(said) == 2


def test_a_folder_in_a_copys_place_is_named(course):
    mine(course).mkdir(parents=True)
    said = copies.refresh(course)
    assert f"my_course/{FIRST} is left as it is" in said[-1]
    assert mine(course, "01_next.ipynb").is_file()


def test_a_copy_that_may_not_be_written_is_named(course, monkeypatch):
    copies.refresh(course)
    second_version(course)
    kept, may = mine(course).read_bytes(), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != mine(course) and may(path, mode))
    (sentence,) = copies.refresh(course)
    assert "you have no permission" in sentence
    assert mine(course).read_bytes() == kept


def test_originals_that_are_read_only_have_copies_that_are_not(course):
    for path in (course / "notebooks").iterdir():
        path.chmod(0o444)
    copies.refresh(course)
    assert mine(course).stat().st_mode & 0o200
    work(course, solve)
    second_version(course)
    (course / "notebooks" / FIRST).chmod(0o444)
    copies.refresh(course)
    assert sources(read(mine(course))) == SOLVED
    assert mine(course).stat().st_mode & 0o200


def killing(monkeypatch, place):
    """Kill what writes its file number ``place``, from 0; the list of files begun."""
    write, calls = copies.write_whole, []

    def killed(path, content):
        calls.append(path)
        if len(calls) == place + 1:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(copies, "write_whole", killed)
    return calls


@pytest.mark.parametrize("place", range(4))
def test_an_update_that_is_killed_is_made_at_the_next_start(course, monkeypatch, place):
    copies.refresh(course)
    work(course, solve)
    work(course, lambda notebook: notebook.cells[0].update(source="Mine."))
    release(course, "n: n = 1", graded("def f(a):\n    ...", "answer-00-1", id="q"), LAST)
    write, calls = copies.write_whole, killing(monkeypatch, place)
    if place < 3:
        with pytest.raises(KeyboardInterrupt):
            copies.refresh(course)
    else:
        copies.refresh(course)
        assert len(calls) == 3, "the original, what is left over, the copy"
    monkeypatch.setattr(copies, "write_whole", write)
    copies.refresh(course)
    assert sources(read(mine(course))) == ["n = 1", "def f(a):\n    return a", "The end.", "own = 1"]
    assert sources(read(mine(course, "00_start_left_over.ipynb"))) == ["Mine."]


@pytest.mark.parametrize("place", range(3))
def test_a_first_start_that_is_killed_leaves_no_copy_without_its_original(course, monkeypatch, place):
    write = copies.write_whole
    killing(monkeypatch, place)
    with pytest.raises(KeyboardInterrupt):
        copies.refresh(course)
    monkeypatch.setattr(copies, "write_whole", write)
    copies.refresh(course)
    work(course, solve)
    second_version(course)
    copies.refresh(course)
    assert sources(read(mine(course))) == SOLVED


def test_starts_at_the_same_time_do_the_work_once(course):
    program = "import sys, pathlib, kdcourse.copies; print(kdcourse.copies.refresh(pathlib.Path(sys.argv[1])))"

    def start_three():
        command = [sys.executable, "-c", program, str(course)]
        started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        said = [process.communicate(timeout=120)[0].strip() for process in started]
        assert all(process.returncode == 0 for process in started)
        assert said.count("[]") == 2

    start_three()
    work(course, solve)
    second_version(course)
    start_three()
    assert sources(read(mine(course))) == SOLVED


def test_a_program_that_saves_the_older_copy_over_the_newer_loses_nothing(course):
    """JupyterLab does after "Overwrite", where the copy was open during the update."""
    copies.refresh(course)
    work(course, solve)
    opened = mine(course).read_bytes()
    second_version(course)
    copies.refresh(course)
    mine(course).write_bytes(opened)
    work(course, lambda notebook: notebook.cells.append(new_markdown_cell("Written meanwhile.")))
    copies.refresh(course)
    assert sources(read(mine(course))) == [*SOLVED, "Written meanwhile."]


def test_a_copy_that_is_saved_during_the_update_is_not_overwritten(course, monkeypatch):
    copies.refresh(course)
    work(course, solve)
    second_version(course)
    merge = copies.merge

    def meanwhile(*versions):
        monkeypatch.setattr(copies, "merge", merge)
        work(course, lambda notebook: notebook.cells.append(new_markdown_cell("Just saved.")))
        return merge(*versions)

    monkeypatch.setattr(copies, "merge", meanwhile)
    (sentence,) = copies.refresh(course)
    assert "another program has just saved it. Start again" in sentence
    copies.refresh(course)
    assert sources(read(mine(course))) == [*SOLVED, "Just saved."]


@pytest.mark.parametrize("metadata", [{}, {"kdcourse": 3}, {"kdcourse": {"original": "../../etc"}}])
def test_a_copy_that_has_lost_its_mark_is_compared_with_the_original_most_like_it(course, metadata):
    copies.refresh(course)
    work(course, solve)
    second_version(course)
    copies.refresh(course)
    work(course, lambda notebook: notebook.update(metadata=nbformat.from_dict(metadata)))
    release(course, "t: New text.", graded("def f(a):\n    ...", "answer-00-1", id="q"), LAST)
    copies.refresh(course)
    assert sources(read(mine(course))) == ["New text.", "def f(a):\n    return a", "The end.", "own = 1"]


def test_a_copy_whose_original_is_not_kept_is_left_as_it_is(course):
    copies.refresh(course)
    work(course, solve)
    shutil.rmtree(course / copies.FOLDER / copies.ORIGINALS)
    kept = mine(course).read_bytes()
    assert copies.refresh(course) == []
    second_version(course)
    (sentence,) = copies.refresh(course)
    assert "To get a fresh copy, rename this one and start again" in sentence
    assert mine(course).read_bytes() == kept


def test_a_copy_that_is_a_link_to_its_original_does_not_change_it(course):
    mine(course).parent.mkdir()
    mine(course).symlink_to(course / "notebooks" / FIRST)
    before = everything(course / "notebooks")
    copies.refresh(course)
    assert everything(course / "notebooks") == before


def test_a_copy_that_is_deleted_is_made_again(course):
    copies.refresh(course)
    work(course, solve)
    mine(course).unlink()
    assert copies.refresh(course) == [f"my_course/{FIRST} is new."]
    assert sources(read(mine(course))) == sources(read(course / "notebooks" / FIRST))


# ---- the course's own notebooks, as any program saves them


def next_version(notebook):
    """A new cell, every third text changed, and all ids given anew by place."""
    notebook.cells.insert(1, new_markdown_cell("A cell that is new."))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
        if cell.cell_type == "markdown" and number % 3 == 0:
            cell.source += "\n\nA sentence more."


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_all_answers_of_all_notebooks_survive_any_program_and_an_update(form, tmp_path):
    (tmp_path / "notebooks").mkdir()
    shutil.copy(NOTEBOOKS[3], tmp_path / "notebooks")
    copies.refresh(tmp_path)
    path, answers = mine(tmp_path, NOTEBOOKS[3].name), {}
    stored = json.loads(path.read_text(encoding="utf-8"))
    for cell in stored["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
        if name.startswith("answer-"):
            answers[name] = cell["source"] = solution_source(exercises[name[7:].replace("-", ".")]).strip()
    stored["cells"].insert(5, new_code_cell("own = 1"))
    form(stored)
    path.write_text(json.dumps(stored), encoding="utf-8")
    new = read(NOTEBOOKS[3])
    next_version(new)
    nbformat.write(new, tmp_path / "notebooks" / path.name)
    said = copies.refresh(tmp_path)
    found = read(path)
    kept = {cell.metadata.nbgrader.grade_id: cell.source for cell in found.cells if "nbgrader" in cell.metadata}
    assert {name: kept[name] for name in answers} == answers
    assert len(answers) >= 5
    untouched = [cell.source for cell in found.cells if cell.source not in {*answers.values(), "own = 1"}]
    skeletons = {cell.source for cell in new.cells if cell.metadata.get("nbgrader", {}).get("solution")}
    assert untouched == [cell.source for cell in new.cells if cell.source not in skeletons]
    assert "own = 1" in sources(found)
    assert said == [f"my_course/{path.name} is now the new version. It keeps {len(answers) + 1} cells of yours."]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_of_the_course_is_copied_whole_and_its_links_hold_there(path, tmp_path):
    (tmp_path / "notebooks").mkdir()
    shutil.copy(path, tmp_path / "notebooks")
    copies.refresh(tmp_path)
    found, original = read(mine(tmp_path, path.name)), read(path)
    assert found.cells == original.cells
    names = {notebook.name for notebook in NOTEBOOKS}
    for link in LINK.findall("\n".join(cell.source for cell in found.cells if cell.cell_type == "markdown")):
        assert link in names or (ROOT / copies.FOLDER / link).resolve().is_file(), link


def test_git_ignores_the_copies_and_the_tests_look_at_the_originals_alone():
    if shutil.which("git") and (ROOT / ".git").exists():
        ignored = ["git", "check-ignore", "--quiet", f"{copies.FOLDER}/{NOTEBOOKS[0].name}"]
        assert subprocess.run(ignored, cwd=ROOT).returncode == 0
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'testpaths = ["tests", "notebooks"]' in settings
    assert f"{copies.FOLDER}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


# ---- the command


@pytest.fixture
def started(course, monkeypatch):
    """What `lab` would replace itself by, in this course."""
    commands = []
    release(course, TEXT, name="00_start_here.ipynb")
    monkeypatch.setattr(command_line, "COURSE", course)
    monkeypatch.setattr(command_line, "_lab", lambda: "")
    monkeypatch.setattr(command_line.os, "execv", lambda program, arguments: commands.append(arguments))
    return commands


def test_lab_opens_the_copies(started, course, capsys):
    command_line.lab([])
    assert "--LabApp.default_url=/lab/tree/my_course/00_start_here.ipynb" in started[0]
    assert f"--ServerApp.root_dir={course}" in started[0]
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("my_course/ now holds your own copies")


def test_lab_refuses_where_a_file_has_the_folders_name(started, course):
    (course / copies.FOLDER).write_text("")
    with pytest.raises(SystemExit, match="kdcourse: cannot change .*my_course"):
        command_line.lab([])
    assert started == []


def test_lab_opens_the_originals_of_a_course_that_may_not_be_written(started, course, capsys, monkeypatch):
    def refused(course):
        raise PermissionError(13, "cannot change my_course: you have no permission")

    may = os.access
    monkeypatch.setattr(copies, "refresh", refused)
    monkeypatch.setattr(os, "access", lambda path, mode: path != course and may(path, mode))
    command_line.lab([])
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in started[0]
    assert "cannot be saved" in capsys.readouterr().out


def test_lab_ends_where_the_first_notebook_cannot_be_copied(started, course, capsys):
    (course / "notebooks" / "00_start_here.ipynb").write_text("{")
    with pytest.raises(SystemExit, match="could not be copied"):
        command_line.lab([])
    assert "is not a notebook that can be read" in capsys.readouterr().out
    assert started == []
