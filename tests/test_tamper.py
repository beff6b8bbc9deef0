"""Every kind of alteration that a reader could not see is noticed without running a notebook.

A small notebook shows each kind of evidence; whatever is bound of the course is altered as well.
"""

import copy
import re
import sys
from pathlib import Path
from unittest import mock

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
from bindings import claims, files, words  # noqa: E402 (scripts, no package)

from kdcourse import plots  # noqa: E402

NUMBERS = [path.name[:2] for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


def ran(source, text, tags=()):
    outputs = [new_output("stream", name="stdout", text=text)]
    return new_code_cell(source, outputs=outputs, metadata={"tags": list(tags)} if tags else {})


def shown(alt, name):
    """A figure as `plots.show` stores it."""
    figure, axis = plots.axes_grid(width=2, height=1)
    plots.curves(axis, {name: [1, 2]}, title=name, ylabel="loss")
    shown = []
    with mock.patch("IPython.display.display", lambda data, raw: shown.append(data)):
        plots.show(figure, alt)
    return new_code_cell(f'plots.show(figure, "{alt}")', outputs=[new_output("display_data", data=shown[0])])


SAID = """\
## Five seeds

The student **beats** its labels by two points or more. At 90 % it is a tenth of the weights.

$$s(t) = 1 - (1 - t)^3$$

It falls as $a < b$; the teacher never sees the test images.
"""
NOTEBOOK = new_notebook(
    cells=[
        new_markdown_cell(SAID),
        ran('claim("Gain", gain, at_least=2)', "✔ Gain  [≥ 2]\n✔ Sparsity  [exactly 0.9]\n"),
        ran("print(1 - (1 - t) ** 3)", "0.875\n"),
        ran("print(seconds)", "12.5 s\n", ["nbval-ignore-output"]),
        new_markdown_cell(
            "Training took 3 epochs, as in Han et al.\n\n## Further reading\n\n- Song Han. arXiv:1506.02626."
        ),
        new_code_cell("fit(student, epochs=3)"),
        shown("The loss of the teacher rises", "teacher"),
        shown("The loss of the student rises", "student"),
    ]
)
BINDING = {
    "claim": [
        {"text": "Gain", "bound": "≥ 2", "measured": 3.1},
        {"text": "Sparsity", "bound": "exactly 0.9"},
    ],
    "sentence": [
        {"says": "The student **beats** its labels by two points or more.", "claim": "Gain", "means": ">= 2"},
        {"says": "At 90 % it is a tenth of the weights.", "claim": "Sparsity", "means": "= 0.9"},
        {
            "says": "It falls as $a < b$; the teacher never sees the test images.",
            "kind": "procedure",
            "why": "the job trains it on other images",
        },
        {
            "says": "Training took 3 epochs, as in Han et al.",
            "by": [{"code": "epochs=3"}, {"cites": "arXiv:1506.02626"}],
        },
    ],
    "formula": [
        {"latex": "s(t) = 1 - (1 - t)^3", "run": "1 - (1 - t) ** 3"},
        {"latex": "a < b", "why": "names which falls"},
    ],
    "read": files.read_lines(NOTEBOOK),
    "ignored": files.ignored(NOTEBOOK),
}


def test_the_small_notebook_is_held():
    assert files.all_problems(NOTEBOOK, BINDING) == []


def source(place, old, new):
    """An alteration of the notebook's text or code."""

    def alter(notebook, binding):
        assert old in notebook.cells[place].source
        notebook.cells[place].source = notebook.cells[place].source.replace(old, new)

    return alter


def output(place, old, new):
    """An alteration of what is stored of a cell."""

    def alter(notebook, binding):
        assert old in notebook.cells[place].outputs[0].text
        notebook.cells[place].outputs[0].text = notebook.cells[place].outputs[0].text.replace(old, new)

    return alter


def picture(pattern, change):
    """An alteration of the pictures, ``pattern`` marks the part; the other one's is given to ``change``."""

    def alter(notebook, binding):
        data = [notebook.cells[place].outputs[0].data for place in (6, 7)]
        parts = [re.search(pattern, part["text/html"])[0] for part in data]
        for part, own, others in zip(data, parts, reversed(parts), strict=True):
            part["text/html"] = part["text/html"].replace(own, change(own, others))

    return alter


def cell(place, change):
    """An alteration of a whole cell."""
    return lambda notebook, binding: change(notebook.cells, place)


def bound(table, place, **values):
    """An alteration of the file that binds; None takes a field away."""

    def alter(notebook, binding):
        binding[table][place].update(values)
        binding[table][place] = {name: value for name, value in binding[table][place].items() if value is not None}

    return alter


def both(*alterations):
    def alter(notebook, binding):
        for one in alterations:
            one(notebook, binding)

    return alter


def reread(notebook, binding):
    binding["read"] = files.read_lines(notebook)


BEATS = "The student **loses to** its labels by two points or more."
THREE = "The student **beats** its labels by three points or more."
TENTH = " At 90 % it is a tenth of the weights."
GAIN = "✔ Gain  [≥ 2]\n"
IGNORED = {"tags": ["nbval-ignore-output"]}
ALTERATIONS = {
    "a result reversed": source(0, "**beats**", "**loses to**"),
    "another number": source(0, "two points", "three points"),
    "a sentence that states nothing": source(0, "the teacher", "the student"),
    "a number in a heading": source(0, "Five seeds", "Three seeds"),
    "a sentence removed": source(0, TENTH, ""),
    "a sentence moved": both(source(0, TENTH, ""), source(4, "Han et al.", f"Han et al.{TENTH}")),
    "a sign in a displayed formula": source(0, "1 - (1 - t)^3", "1 + (1 - t)^3"),
    "an exponent": source(0, "^3", "^2"),
    "a relation within a line": source(0, "a < b", "a > b"),
    "a paper's number": source(4, "1506.02626", "1506.02627"),
    "a claim deleted": cell(1, lambda cells, place: cells.pop(place)),
    "a claim's line deleted": output(1, GAIN, ""),
    "claims exchanged": output(1, GAIN + "✔ Sparsity  [exactly 0.9]\n", "✔ Sparsity  [exactly 0.9]\n" + GAIN),
    "a bound loosened": output(1, "≥ 2", "≥ 1"),
    "a bound loosened and listed": both(output(1, "≥ 2", "≥ 1"), bound("claim", 0, bound="≥ 1")),
    "a claim's words": output(1, "Gain", "Loss"),
    "a claim added": output(1, "[≥ 2]\n", "[≥ 2]\n✔ More  [≥ 0]\n"),
    "the code before a claim": source(1, "gain,", "0.9 * gain,"),
    "cells without a claim exchanged": cell(5, lambda cells, place: cells.insert(2, cells.pop(place))),
    "the code of a formula": source(2, "** 3", "** 2"),
    "a formula's output no longer compared": cell(2, lambda cells, place: cells[place].metadata.update(IGNORED)),
    "an output that is not compared": output(3, "12.5", "11.5"),
    "the recipe": source(5, "epochs=3", "epochs=4"),
    "pictures exchanged": picture(r'src="[^"]+"', lambda own, others: others),
    "pictures and their digests exchanged, and what they draw": picture(
        r'data-drawn=.* src="[^"]+"', lambda own, others: others
    ),
    "pictures exchanged with their alt texts": picture(r"<img.*>", lambda own, others: others),
    "what is drawn": picture(r'data-drawn="[^"]+"', lambda own, others: own.replace(" 2", " 3")),
    "what is drawn left out": picture(r'data-drawn="[^"]+" ', lambda own, others: ""),
    "an alt text": picture(r"rises", lambda own, others: "falls"),
    "the tag nbval-skip": cell(1, lambda cells, place: cells[place].metadata.update(tags=["nbval-skip"])),
    "the tag raises-exception": cell(1, lambda cells, place: cells[place].metadata.update(tags=["raises-exception"])),
    "a comment NBVAL_IGNORE_OUTPUT": source(1, "claim(", "# NBVAL_IGNORE_OUTPUT\nclaim("),
    "a result reversed and bound again": both(
        source(0, "**beats**", "**loses to**"), bound("sentence", 0, says=BEATS, means="<= -2"), reread
    ),
    "evidence for another number": both(
        source(0, "two points", "three points"), bound("sentence", 0, says=THREE), reread
    ),
    "evidence that is weaker": bound("sentence", 0, means=">= 3"),
    "evidence taken away": bound("sentence", 0, claim=None, means=None),
    "a comparison called a definition": bound("sentence", 0, claim=None, means=None, kind="definition"),
    "evidence for the other direction": both(
        output(1, "Gain", "The student loses"),
        bound("claim", 0, text="The student loses"),
        bound("sentence", 0, claim="The student loses"),
    ),
    "a kind that is none": bound("sentence", 2, kind="result"),
    "a reason in a word": bound("sentence", 2, why="yes"),
    "a sentence not re-read": bound("sentence", 0, was="The student beats them."),
    "no code for a formula": bound("formula", 0, run=None),
    "nothing measured": bound("claim", 0, measured=None),
    "room without a reason": bound("claim", 0, measured=9.9, room="ok"),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_alteration_is_noticed(name):
    notebook, binding = copy.deepcopy((NOTEBOOK, BINDING))
    ALTERATIONS[name](notebook, binding)
    assert files.all_problems(notebook, binding)


# --- the course -------------------------------------------------------------------------------------------------------

REVERSED = {
    "more": "less", "less": "more", "better": "worse", "worse": "better", "higher": "lower", "lower": "higher",
    "larger": "smaller", "smaller": "larger", "most": "least", "beats": "loses to", "all": "few", "none": "all",
    "two": "three", "half": "a third", "gains": "loses", "falls": "rises", "never": "always", "hardly": "clearly",
}  # fmt: skip


def reversed_(sentence):
    word = next((word for word in REVERSED if re.search(rf"\b{word}\b", sentence)), None)
    if word:
        return re.sub(rf"\b{word}\b", REVERSED[word], sentence, count=1)
    return re.sub(r"\d", lambda match: str((int(match[0]) + 1) % 10), sentence, count=1)


@pytest.fixture(params=NUMBERS)
def course(request):
    return nbformat.read(files.notebook_path(request.param), as_version=4), files.load(request.param)


def altered(course, place, text):
    notebook = nbformat.from_dict({**course[0], "cells": list(course[0].cells)})
    notebook.cells[place] = nbformat.from_dict({**notebook.cells[place], "source": text})
    return files.all_problems(notebook, course[1])


def test_a_sentence_reversed_or_with_another_number_is_noticed(course):
    blocks = [
        (place, block)
        for place, found in enumerate(course[0].cells)
        if found.cell_type == "markdown"
        for block in re.split(r"\n\s*\n", found.source)
        if (words.states(block) or words.counts(block)) and reversed_(block) != block
    ]
    assert len(blocks) >= 10
    for place, block in blocks[:: len(blocks) // 10]:
        changed = course[0].cells[place].source.replace(block, reversed_(block))
        assert altered(course, place, changed), block


def test_a_sign_in_a_formula_is_noticed(course):
    for place, found in enumerate(course[0].cells):
        if found.cell_type == "markdown":
            for formula in words.formulas([(place, found.source)]):
                sign = next((sign for sign in "-+=^" if sign in formula.text), None)
                first = formula.text.split()[0]
                if sign and first in found.source:
                    changed = found.source.replace(first, first + "+ 1 ", 1)
                    assert altered(course, place, changed), formula.text
                    break


def test_a_claim_deleted_or_loosened_is_noticed(course):
    notebook, binding = course
    for place, found in enumerate(notebook.cells):
        texts = [out for out in found.get("outputs", []) if re.search(r"^✔ .*\[[≥≤]", out.get("text", ""), re.M)]
        if texts:
            for change in (r"\g<0>0", ""):
                copied = copy.deepcopy(notebook)
                for out in copied.cells[place].outputs:
                    pattern = r"[\d.]+(?=\]$)" if change else r"^✔ .*\n?"
                    out.text = re.sub(pattern, change, out.get("text", ""), count=1, flags=re.M)
                assert files.all_problems(copied, binding)
            break


def test_two_cells_exchanged_are_noticed(course):
    notebook = copy.deepcopy(course[0])
    one, other = sorted({claim.cell for claim in claims.printed_claims(notebook.cells)})[1:3]
    notebook.cells[one], notebook.cells[other] = notebook.cells[other], notebook.cells[one]
    assert files.all_problems(notebook, course[1])
