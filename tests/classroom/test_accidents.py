"""What happens in any class: a copied cell, a lost mark, another file name. It is graded, or told in a line."""

import copy
import json

import pytest
from classes import ALL, KL, NOTEBOOK, Class, answer, cell, check, of, points
from nbformat.v4 import new_code_cell


def copied_answer(notebook):
    place = notebook.cells.index(answer(notebook, "03.4"))
    notebook.cells.insert(place + 1, copy.deepcopy(notebook.cells[place]))


def copied_check(notebook):
    notebook.cells.append(copy.deepcopy(check(notebook, "03.2")))


def every_cell_copied(notebook):
    notebook.cells += copy.deepcopy(notebook.cells)


def copied_and_emptied(notebook):
    """The answer is kept above; the copy below holds the skeleton again."""
    again = copy.deepcopy(answer(notebook, "03.1"))
    again.source = of(KL)["03.1"].skeleton
    notebook.cells.append(again)


def deleted_check(notebook):
    notebook.cells.remove(check(notebook, "03.2"))


def every_check_deleted(notebook):
    for id in of(KL):
        notebook.cells.remove(check(notebook, id))


def rewritten_in_a_new_cell(notebook):
    old = answer(notebook, "03.5")
    notebook.cells.insert(0, new_code_cell(old.source))
    notebook.cells.remove(old)


def skeleton_kept_beside_the_answer(notebook):
    old = answer(notebook, "03.5")
    notebook.cells.append(new_code_cell(old.source))
    old.source = of(KL)["03.5"].skeleton


def all_marks_lost(notebook):
    """What jupytext, git filters and some converters leave."""
    for part in notebook.cells:
        part.metadata = {}


def marks_that_are_no_marks(notebook):
    for part, mark in zip(notebook.cells, [[], "x", None, {"grade_id": 7}, {"schema_version": 0}] * 99, strict=False):
        part.metadata = {"nbgrader": mark}


def marks_of_an_old_nbgrader(notebook):
    for part in notebook.cells:
        if "nbgrader" in part.metadata:
            part.metadata["nbgrader"]["schema_version"] = 1


def marks_of_the_next_nbgrader(notebook):
    for part in notebook.cells:
        if "nbgrader" in part.metadata:
            part.metadata["nbgrader"] |= {"schema_version": 99, "colour": "red"}


def tags_everywhere(notebook):
    for part in notebook.cells:
        part.metadata["tags"] = ["skip-execution", "raises-exception", "hide-input", "remove-cell"]


def answers_turned_into_text(notebook):
    part = answer(notebook, "03.3")
    part.cell_type = "raw"
    for name in ("outputs", "execution_count"):
        del part[name]


def magics_and_installs(notebook):
    answer(notebook, "03.1").source = "%%time\n" + answer(notebook, "03.1").source
    answer(notebook, "03.2").source = "!pip install torch\n%matplotlib inline\n" + answer(notebook, "03.2").source
    answer(notebook, "03.3").source += "\n\nmy_kd_gradient?\n%timeit 1 + 1"


def helpers_and_constants_in_other_cells(notebook):
    new = new_code_cell(
        "import torch as th\nTOLERANCE = 1e-6\n\n"
        "def total_is_one(v):\n    return abs(v.sum().item() - 1) <= TOLERANCE\n"
    )
    notebook.cells.insert(2, new)
    answer(notebook, "03.1").source = (
        "def my_kl_of_probabilities(p, q):\n    if not (total_is_one(p) and total_is_one(q)):\n"
        "        raise ValueError('no distribution')\n"
        "    return (th.special.xlogy(p, p) - th.special.xlogy(p, q)).sum()\n"
    )


def a_cell_that_fails(notebook):
    notebook.cells.insert(1, new_code_cell("import tensorflow\n1 / 0"))
    answer(notebook, "03.4").source = "import tensorflow\n" + answer(notebook, "03.4").source


def outputs_that_look_like_points(notebook):
    for id in of(KL):
        check(notebook, id).outputs = [
            dict(output_type="execute_result", data={"text/plain": "7"}, metadata={}, execution_count=1)
        ]
    answer(notebook, "03.1").source = of(KL)["03.1"].skeleton


def emptied(trick):
    """A trick with marks, and nothing answered in 03.1."""

    def change(notebook):
        answer(notebook, "03.1").source = of(KL)["03.1"].skeleton
        trick(notebook, check(notebook, "03.1"))

    change.__name__ = trick.__name__
    return change


@emptied
def skipped_by_a_tag(notebook, locked):
    locked.metadata["tags"] = ["skip-execution", "raises-exception"]


@emptied
def a_hundred_points(notebook, locked):
    locked.metadata["nbgrader"]["points"] = 100


@emptied
def a_check_marked_as_answer(notebook, locked):
    locked.metadata["nbgrader"] |= {"solution": True, "locked": False}


@emptied
def a_check_that_is_text(notebook, locked):
    locked.cell_type = "raw"
    for name in ("outputs", "execution_count"):
        del locked[name]


@emptied
def a_graded_cell_of_ones_own(notebook, locked):
    bonus = copy.deepcopy(locked)
    bonus.metadata["nbgrader"] |= {"grade_id": "bonus", "points": 100}
    bonus.source = "7"
    notebook.cells.append(bonus)


@emptied
def another_answer_under_this_mark(notebook, locked):
    answer(notebook, "03.1").metadata, answer(notebook, "03.2").metadata = (
        answer(notebook, "03.2").metadata,
        answer(notebook, "03.1").metadata,
    )


def renamed_function(notebook):
    part = answer(notebook, "03.2")
    part.source = part.source.replace("my_kd_loss", "my_loss")


def deleted_answer(notebook):
    notebook.cells.remove(answer(notebook, "03.6"))


def broken_syntax(notebook):
    answer(notebook, "03.4").source = "def my_logit_mse(student_logits, teacher_logits)\n    return 0"


ACCIDENTS = {
    copied_answer: (), copied_check: (), every_cell_copied: (), copied_and_emptied: (), deleted_check: (),
    every_check_deleted: (), rewritten_in_a_new_cell: (), skeleton_kept_beside_the_answer: (), all_marks_lost: (),
    marks_that_are_no_marks: (), marks_of_an_old_nbgrader: (), marks_of_the_next_nbgrader: (), tags_everywhere: (),
    answers_turned_into_text: (), magics_and_installs: (), helpers_and_constants_in_other_cells: (),
    skipped_by_a_tag: ("03.1",), a_hundred_points: ("03.1",), a_check_marked_as_answer: ("03.1",),
    a_check_that_is_text: ("03.1",), a_graded_cell_of_ones_own: ("03.1",), another_answer_under_this_mark: ("03.1",),
    a_cell_that_fails: (), outputs_that_look_like_points: ("03.1",), renamed_function: ("03.2",),
    deleted_answer: ("03.6",), broken_syntax: ("03.4",),
}  # fmt: skip
"""what happens, and which exercises cannot earn their points any more"""
NAMES = [f"{KL} (1).ipynb", f"{KL}-Copy1.ipynb", "ada.ipynb", f"{KL}.ipynb.txt", f"{KL}.IPYNB", f"{KL}/{KL}.ipynb"]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return Class(tmp_path_factory.mktemp("class"))


@pytest.fixture(scope="module")
def grades(course):
    for accident in ACCIDENTS:
        notebook = course.solved()
        accident(notebook)
        course.submit(accident.__name__, notebook)
    for number, name in enumerate(NAMES):
        course.submit(f"name_{number}", course.solved(), name=name)
    course.submit("two_files", course.solved(), name=f"{KL} (1).ipynb")
    course.submit("two_files", b"")
    return course.autograde()


@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda accident: accident.__name__)
def test_an_accident_costs_what_it_must_and_no_more(grades, accident):
    assert float(grades[accident.__name__]["score"]) == ALL - points(*ACCIDENTS[accident])
    assert grades[accident.__name__]["status"] == "graded"


@pytest.mark.parametrize(
    "number", [number for number, name in enumerate(NAMES) if name.endswith(".ipynb") and "/" not in name]
)
def test_another_file_name_is_found_by_nbgraders_own_command(grades, number):
    assert float(grades[f"name_{number}"]["score"]) == ALL
    assert NAMES[number] in grades[f"name_{number}"]["note"]


def test_of_two_files_the_readable_one_is_graded(grades):
    assert float(grades["two_files"]["score"]) == ALL
    assert f"not read: {KL}.ipynb" in grades["two_files"]["note"]


def test_what_is_asked_for_is_told(course, grades):
    assert (
        "my_kd_loss" in course.feedback("renamed_function").split("Grade cell: <code>check-03-2")[1].split("</pre>")[0]
    )
    assert course.marks("renamed_function")["03.2"] == "missing"
    assert (
        "my_log_softmax"
        in course.feedback("deleted_answer").split("Grade cell: <code>check-03-6")[1].split("</pre>")[0]
    )
    assert "03.6 missing" in grades["deleted_answer"]["note"]


def test_each_check_is_there_once_and_as_released(course, grades):
    for accident in ACCIDENTS:
        path = course.folder / "autograded" / accident.__name__ / KL / NOTEBOOK.name
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        marks = [part["metadata"]["nbgrader"]["grade_id"] for part in cells if "nbgrader" in part["metadata"]]
        assert sorted(mark for mark in marks if mark.startswith("check")) == [
            f"check-{id.replace('.', '-')}" for id in of(KL)
        ], accident.__name__
        assert len(set(marks)) == len(marks)
        released = {f"check-{id.replace('.', '-')}": check(course.released(), id).source for id in of(KL)}
        found = {mark: cell_source(cells, mark) for mark in released}
        assert found == released, accident.__name__


def cell_source(cells, mark):
    [source] = [
        "".join(part["source"]) for part in cells if part["metadata"].get("nbgrader", {}).get("grade_id") == mark
    ]
    return source


def test_the_other_names_are_found_by_the_courses_command(course, grades):
    told = course.grade("03")
    found = course.grades()
    assert {found[f"name_{number}"]["score"] for number in range(len(NAMES))} == {str(float(ALL))}
    assert cell(course.released(), "check-03-1").source
    for number, name in enumerate(NAMES):
        assert f"handed in as {name}" in told or number < 3, told
