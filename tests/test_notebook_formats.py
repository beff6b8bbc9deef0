"""Notebooks as other programs save them: each is read, and in normal form it is the stored one again."""

import copy
import json
import sys
import warnings
from pathlib import Path

import nbformat
import pytest

from kdcourse._base.notebooks import read
from kdcourse.classroom.releasing import source_version

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
from execute import normalise  # noqa: E402 (scripts, no package)

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PICTURE = {"image.png": {"image/png": "iVBORw0KGgo="}}


def colab(notebook):
    """Format 4.0: ids in the metadata, widget states beside them, a table's own media type."""
    notebook["nbformat_minor"] = 0
    notebook["metadata"] = {
        "colab": {"provenance": [], "toc_visible": True, "gpuType": "T4"}, "accelerator": "GPU",
        "kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"0a1b": {"model_module": "@jupyter-widgets/base"}}},
    }  # fmt: skip
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"] |= {"id": f"aB_{number}-Zz", "colab": {"base_uri": "https://localhost:8080/"}}
        del cell["id"]
        if cell["cell_type"] == "code":
            cell["metadata"]["outputId"] = "4f0e6f6e-2fca-4bcd-a4fb-77c6a9fa6f5a"
            cell["metadata"]["executionInfo"] = {"status": "ok", "elapsed": 12, "user": {"displayName": "A learner"}}


def vs_code(notebook):
    """Format 4.2: no ids, the kernel's own name, a language for each cell."""
    notebook["nbformat_minor"] = 2
    notebook["metadata"] = {"kernelspec": {"display_name": ".venv (3.12.3)", "language": "python", "name": "python3"},
                            "language_info": {"name": "python", "version": "3.12.3", "nbconvert_exporter": "python"},
                            "orig_nbformat": 4}  # fmt: skip
    for cell in notebook["cells"]:
        del cell["id"]
        cell["metadata"]["vscode"] = {"languageId": "python"}


def older(minor):
    """Formats 4.0 to 4.4, without ids."""

    def change(notebook):
        notebook["nbformat_minor"] = minor
        for cell in notebook["cells"]:
            del cell["id"]

    return change


def without_ids(notebook):
    older(5)(notebook)


def one_id(notebook):
    for cell in notebook["cells"]:
        cell["id"] = "copied"


def unfit_ids(notebook):
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = ("", "a b", 7, "x" * 65, None)[number % 5]


def lists_of_lines(notebook):
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).splitlines(keepends=True)


def carriage_returns(notebook):
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")


def code_turned_into_text(notebook):
    """What an editor forgets when a code cell becomes a text cell, and the other way round."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell |= {"outputs": [], "execution_count": None}
        else:
            cell["attachments"] = PICTURE
            if not cell["outputs"]:
                del cell["outputs"]


def untidy_outputs(notebook):
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output |= {"transient": {"display_id": "1"}, "id": "out"}
            if output["output_type"] == "stream":
                del output["name"]
            elif not output.get("metadata", True):
                del output["metadata"]


FORMS = [colab, vs_code, *(older(minor) for minor in range(5)), without_ids, one_id, unfit_ids, lists_of_lines,
         carriage_returns, code_turned_into_text, untidy_outputs]  # fmt: skip
NAMES = [form.__name__ for form in FORMS]
NAMES[2:7] = [f"4.{minor}" for minor in range(5)]


def saved(folder, notebook, **encoding):
    path = folder / "03_saved.ipynb"
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1), **({"encoding": "utf-8"} | encoding))
    return path


def raw(path):
    return json.loads(path.read_text(encoding="utf-8"))


def nameless(notebook):
    """The notebook but for the ids of its cells, which a program may have dropped."""
    return {**notebook, "cells": [{**cell, "id": None} for cell in notebook.cells]}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_normal_form_is_the_stored_one_and_a_new_cell_renames_no_other(path):
    stored = nbformat.read(path, as_version=4)
    found = read(path)
    normalise(found)
    assert found == stored
    found.cells.insert(1, nbformat.v4.new_markdown_cell("A cell that is new."))
    normalise(found)
    del found.cells[1]
    assert found == stored


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_a_notebook_of_another_program_is_the_stored_one_in_normal_form(tmp_path, form):
    for path in NOTEBOOKS:
        changed = copy.deepcopy(raw(path))
        form(changed)
        found = read(saved(tmp_path, changed))
        nbformat.validate(found)
        assert len({cell.id for cell in found.cells}) == len(found.cells)
        normalise(found)
        assert nameless(found) == nameless(nbformat.read(path, as_version=4)), path.stem


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_byte_order_marks_and_line_ends_of_the_file_are_read(tmp_path, encoding, newline):
    found = read(saved(tmp_path, raw(NOTEBOOKS[0]), encoding=encoding, newline=newline))
    assert found == nbformat.read(NOTEBOOKS[0], as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_format_3_keeps_every_source_and_printed_line(tmp_path, path):
    stored = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tags do not exist there
        old = nbformat.v3.downgrade(copy.deepcopy(stored))
    found = read(saved(tmp_path, old))
    normalise(found)
    nbformat.validate(found)
    assert [cell.source for cell in found.cells] == [cell.source for cell in stored.cells]
    printed = [
        [[out.text for out in cell.get("outputs", []) if "text" in out] for cell in notebook.cells]
        for notebook in (found, stored)
    ]
    assert printed[0] == printed[1]


def test_a_script_made_a_notebook_again_lacks_outputs_alone(tmp_path):
    """jupytext's round trip: other ids, its own metadata, nothing printed."""
    changed = raw(NOTEBOOKS[3])
    changed["metadata"]["jupytext"] = {"formats": "ipynb,py:percent"}
    for number, cell in enumerate(changed["cells"]):
        cell["id"] = f"{number:08x}"
        cell["metadata"]["lines_to_next_cell"] = 2
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    found = read(saved(tmp_path, changed))
    normalise(found)
    stored = nbformat.read(NOTEBOOKS[3], as_version=4)
    for cell in stored.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    assert nameless(found) == nameless(stored)


def test_a_picture_in_a_text_cell_is_kept(tmp_path):
    changed = raw(NOTEBOOKS[0])
    changed["cells"][0]["attachments"] = PICTURE
    found = read(saved(tmp_path, changed))
    normalise(found)
    assert found.cells[0].attachments == PICTURE


def test_the_class_gets_the_same_assignment_from_a_notebook_of_colab(tmp_path):
    changed = raw(NOTEBOOKS[3])
    colab(changed)
    given, stored = source_version(saved(tmp_path, changed)), source_version(NOTEBOOKS[3])
    nbformat.validate(given)
    assert [cell.source for cell in given.cells] == [cell.source for cell in stored.cells]
    graded = [[cell.metadata.get("nbgrader") for cell in notebook.cells] for notebook in (given, stored)]
    assert graded[0] == graded[1]


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", '{"nbformat": 9, "nbformat_minor": 0}', '{"nbformat": 4, "nbformat_minor": 5}',
     '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
     '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "poem", "source": ""}]}',
     '{"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": 3}}, "cells": []}'],
)  # fmt: skip
def test_what_is_no_notebook_is_named(tmp_path, text):
    path = tmp_path / "thing.ipynb"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"thing\.ipynb is not a notebook that can be read: .") as caught:
        read(path)
    assert "\n" not in str(caught.value)
