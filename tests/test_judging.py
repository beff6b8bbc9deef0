"""Grading away from the answer: right answers keep their points, and what an answer does earns it none.

What tries the network tries a listener of the test's own. `test_attacks.py` has what answers try.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from grading import IDS, NOTEBOOK, RIGHT, notebook, one, solved, total, walled
from nbformat import NotebookNode
from torch import nn

from kdcourse.classroom import sandbox
from kdcourse.classroom.extracting import cells_of, extract
from kdcourse.classroom.inside.encoding import Encoder, objects
from kdcourse.classroom.judging import Limits, grade, mark, read_submission
from kdcourse.classroom.receiving import Damaged, Decoder, Elsewhere
from kdcourse.classroom.sandbox import Alone, Server
from kdcourse.classroom.staging import stage
from kdcourse.exercises import exercises, judge
from kdcourse.exercises.engine.showing import solution_source

SOLVED = sum(exercises[id].points for id in IDS)


def test_right_answers_earn_all_points_and_the_untouched_notebook_none():
    assert total(solved()) == SOLVED
    untouched = grade(notebook(), NOTEBOOK.stem, seed=1)
    assert {mark.kind for mark in untouched} == {"unattempted"}
    assert sum(mark.points for mark in untouched) == 0


def test_a_misconception_gets_the_diagnosis_that_check_gives():
    source = RIGHT["03.2"].replace("temperature ** 2 *", "")
    assert source != RIGHT["03.2"]
    [found] = [mark for mark in grade(notebook(a03_2=source), NOTEBOOK.stem, seed=3) if mark.exercise == "03.2"]
    space = {}
    exec(source, space)
    expected = judge(exercises["03.2"], space["my_kd_loss"], seed=3)
    assert (found.kind, found.points, found.message) == ("wrong", 0, expected.text)
    assert expected.kind == "misconception"


WARNS = """import logging, sys, warnings
import torch
from tqdm import tqdm
def my_kl_of_probabilities(p, q):
    p, q = torch.tensor(p), torch.tensor(q)
    print("to the other stream", file=sys.stderr)
    logging.getLogger("mine").error("logged")
    for _ in tqdm(range(3)):
        pass
    for v in (p, q):
        if abs(v.sum() - 1) > 1e-6:
            raise ValueError("no distribution")
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum()
"""


def test_warnings_and_progress_on_the_other_stream_are_shown_and_cost_nothing():
    found = one(WARNS)
    assert found.points == 1, found.message
    assert "to the other stream" in found.shown
    assert "UserWarning: To copy construct from a tensor" in found.shown


HELPED = """EPS = 1e-6
import torch

def check_sum(v):
    if abs(v.sum() - 1) > EPS:
        raise ValueError("no distribution")
"""
USES_HELP = """%time x = 1
!pip install something
1 / 0
def my_kl_of_probabilities(p, q):
    check_sum(p), check_sum(q)
    return torch.special.xlogy(p, p / q).sum()
my_kl_of_probabilities(undefined)
"""


def test_imports_constants_and_helpers_of_other_cells_count_and_what_fails_beside_them_does_not():
    found = notebook(a03_1=USES_HELP, b="def broken(:\n", c="%%bash\nrm -rf ~")
    found.cells.insert(0, NotebookNode(cell_type="code", metadata={}, source=HELPED, outputs=[]))
    assert mark(exercises["03.1"], cells_of(found), 5).points == 1


def without_metadata(found):
    for cell in found.cells:
        cell["metadata"] = {}


def copied(found):
    place = next(n for n, cell in enumerate(found.cells) if cell["metadata"].get("nbgrader", {}).get("solution"))
    found.cells.insert(place, found.cells[place])


def in_another_cell(found):
    for cell in list(found.cells):
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            found.cells.append(NotebookNode(cell_type="code", metadata={}, source=cell["source"]))
            cell["source"] = "# see below"


def without_check_cells(found):
    found.cells = [cell for cell in found.cells if not cell["metadata"].get("nbgrader", {}).get("grade")]


def tagged(found):
    for cell in found.cells:
        cell["metadata"]["tags"] = ["skip-execution", "raises-exception"]


@pytest.mark.parametrize("accident", [without_metadata, copied, in_another_cell, without_check_cells, tagged])
def test_what_happens_to_notebooks_costs_no_points(accident):
    right, empty = solved(), notebook()
    accident(right)
    accident(empty)
    found = [extract(cells_of(right), exercises[id]) for id in IDS]
    assert [answer.problem for answer in found] == [""] * len(IDS)
    assert mark(exercises["03.3"], cells_of(right), 5).points == 1
    assert {extract(cells_of(empty), exercises[id]).problem for id in IDS} <= {"unattempted", "missing"}


def test_a_renamed_function_is_told_which_name_is_asked_for():
    found = mark(exercises["03.2"], cells_of(notebook(a03_2=RIGHT["03.2"].replace("my_kd_loss", "my_loss"))), 1)
    assert (found.kind, found.points) == ("missing", 0)
    assert "`my_kd_loss`" in found.message


def chosen(*sources: str, id: str = "03.1") -> list[str]:
    """Lines of the statements that are run for an answer in the last of these cells."""
    cells = cells_of(NotebookNode(cells=[NotebookNode(cell_type="code", source=source) for source in sources]))
    answer = extract(cells, exercises[id])
    assert not answer.problem, answer.message
    return [cells[cell].source.splitlines()[cells[cell].body[place].lineno - 1] for cell, place in answer.order]


ASKED = "def my_kl_of_probabilities(p, q):\n    return "


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["a = 1", "a = 2", ASKED + "a"], ["a = 2"]),
        (["a = 1\nb = a + 1\nc = 5", ASKED + "b"], ["a = 1", "b = a + 1"]),
        (["t = {}\nt['x'] = 1\nt.update(y=2)\nprint(t)", ASKED + "t"], ["t = {}", "t['x'] = 1", "t.update(y=2)"]),
        (["n = 1\nn += 2", ASKED + "n"], ["n = 1", "n += 2"]),
        (["p = expensive()\nq = 2", ASKED + "p + q"], []),  # arguments are no names of the notebook
        (["x = train()", ASKED + "[x for x in p]"], []),
        (["def f():\n    return g()\ndef g():\n    return k\nk = 3\nu = 4", ASKED + "f()"],
         ["def f():", "def g():", "k = 3"]),
        (["from torch import Tensor\nN = 3", "def my_kl_of_probabilities(p: Tensor, q=N) -> float:\n    return p"],
         ["from torch import Tensor", "N = 3"]),
        (["from math import *", ASKED + "log(p)"], ["from math import *"]),
        (["try:\n    import numpy as np\nexcept ImportError:\n    np = None", ASKED + "np"], ["try:"]),
        (["class A:\n    def f(self):\n        return z\nz = 1", ASKED + "A().f()"], ["class A:", "z = 1"]),
        (["import functools\ncache = functools.cache", "@cache\n" + ASKED + "1"],
         ["import functools", "cache = functools.cache"]),
    ],
)  # fmt: skip
def test_the_statements_that_an_answer_needs_are_found_and_no_others(cells, expected):
    assert chosen(*cells)[:-1] == expected


def test_the_answer_is_the_marked_cell_else_the_last_that_is_written():
    assert chosen(ASKED + "1", "def my_kl_of_probabilities(p, q): return 2")[-1].endswith("return 2")
    late = notebook(a03_1=RIGHT["03.1"], z="def my_kl_of_probabilities(p, q):\n    return 0")
    assert mark(exercises["03.1"], cells_of(late), 1).points == 1


@pytest.mark.parametrize(
    "source", ["(" * 5000, "9" * 10**6, "x = " + "-" * 10**5 + "1", "\x00", "[" * 150 + "]" * 150, "💥"]
)
def test_a_cell_that_no_parser_likes_harms_no_other(source):
    found = notebook(a03_2=RIGHT["03.2"], z=source)
    assert extract(cells_of(found), exercises["03.2"]).problem == ""
    assert extract(cells_of(notebook(a03_2=source)), exercises["03.2"]).problem in ("error", "missing")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "not a notebook"), (b"{}", "no cells"), (b"\x89PNG\r\n", "not a notebook"), (b'{"cells": 3}', "no cells"),
     (b"[" * 100_000, "not a notebook"), (b"[]", "no cells")],
)  # fmt: skip
def test_a_file_that_is_no_notebook_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "03_kl_derivation.ipynb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"03_kl_derivation\.ipynb.*{said}"):
        grade(path, NOTEBOOK.stem, seed=1)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "link.ipynb").symlink_to(NOTEBOOK)
    os.mkfifo(tmp_path / "pipe.ipynb")
    for name in ("link.ipynb", "pipe.ipynb"):
        with pytest.raises(ValueError, match=f"{name} is a link or no file"):
            read_submission(tmp_path / name)


def test_outputs_of_200_megabytes_are_read_over(tmp_path):
    before, after = json.dumps(solved(z="'SPLIT-ME'")).split("SPLIT-ME")
    path = tmp_path / "03_kl_derivation.ipynb"
    with path.open("w", encoding="ascii") as file:
        file.write(f'{before}\'", "outputs": [{{"output_type": "stream", "name": "stdout", "text": "')
        for _ in range(200):
            file.write("x" * 10**6)
        file.write(f'"}}], "more": "{after}')
    assert path.stat().st_size > 200_000_000
    cells = cells_of(read_submission(path))
    assert [extract(cells, exercises[id]).problem for id in IDS] == [""] * len(IDS)


def sent(value, known=()):
    """What the judge makes of a value that a child returns."""
    encoder = Encoder(list(known), {})
    told = json.loads(json.dumps(encoder.message(value=value)))
    return Decoder(told, bytes(encoder.body), list(known), {}, lambda *_: (None, {})).value(told["value"])


def test_plain_data_comes_back_as_it_was_sent():
    values = [1, -(2**70), 0.1, float("inf"), True, None, "text", ..., (1, [2.5]), {"a": (1,)}, {1: 2}]
    assert sent(values) == values
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.complex64):
        tensor = torch.tensor([[1, 0], [3, 4], [5, 6]]).to(dtype)
        assert torch.equal(sent(tensor), tensor)
        assert torch.equal(sent(tensor.T), tensor.T)
        assert torch.equal(sent(tensor[:1, 0]), tensor[:1, 0]), "one entry, and a stride that is not 1"
    assert sent(torch.zeros(0, 3)).shape == (0, 3)


def test_the_same_memory_comes_back_as_the_same_and_a_parameters_history_as_one():
    values = torch.arange(6.0).reshape(2, 3)
    first, view, turned, copy = sent((values, values[:], values.T, values.clone()))
    assert first.data_ptr() == view.data_ptr()
    assert first.data_ptr() not in (copy.data_ptr(), turned.data_ptr())
    assert torch.equal(turned, values.T)
    net = nn.Linear(2, 2).requires_grad_(False)
    net.bias.add_(torch.ones(2, requires_grad=True))
    found = sent(net)
    assert found.bias.grad_fn is not None
    assert found.weight.is_leaf
    assert torch.equal(found.bias, net.bias)


def test_only_the_value_of_a_subclass_comes_back():
    class Sly(float):
        def __eq__(self, other):
            return True

        __hash__ = float.__hash__

    class Slier(torch.Tensor):
        pass

    assert type(sent(Sly(3.0))) is float
    assert type(sent(torch.ones(2).as_subclass(Slier))) is torch.Tensor
    assert type(sent(Sly)).__name__ == "type"


def test_a_network_comes_back_as_layers_or_stays_where_it_is():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3).eval(), nn.ReLU())
    net[0].weight.requires_grad_(False)
    found = sent(net)
    images = torch.randn(4, 2)
    assert torch.equal(found(images), net(images))
    assert [part.training for part in found.modules()] == [part.training for part in net.modules()]
    assert not found[0].weight.requires_grad

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

    assert isinstance(sent(Own()), Elsewhere)
    assert isinstance(sent(nn.Conv2d(1, 1, 1, padding=10**6)), Elsewhere), "it would take the judge's memory"
    net[0].forward = lambda images: images
    assert isinstance(sent(net)[0], Elsewhere)


@pytest.mark.parametrize(
    "nodes",
    [
        [["tensor", "float64", [10**12], 0, {}]],
        [["tensor", "float64", [-1], 0, {}]],
        [["tensor", "float64", [2], -8, {}]],
        [["tensor", "float64", [2.5], 0, {}]],
        [["tensor", "no_such", [2], 0, {}]],
        [["tensor", "float64", [1], True, {}]],
        [["array", "|O8", [1], 0]],
        [["list", None, [[0]]]],
        [["list", "Diary", []]],
        [["tuple", None, [[0]]]],
        [["dict", [[[1], 1]]], ["list", None, []]],
        [["verdict", "right"]],
        [["module", None, "os.system", {}, {}, 0, "x", 3]],
        [["module", None, "torch.nn.modules.linear.Linear", {"_parameters": [["weight", 1]]}, {}, 0, "x"]],
        [[]],
        [None],
        "nodes",
    ],
)
def test_what_no_child_of_ours_sends_is_damage(nodes):
    decoder = Decoder({"nodes": nodes}, b"\0" * 16, [], {}, lambda *_: (None, {}))
    with pytest.raises((Damaged, KeyError, TypeError, ValueError, IndexError)):
        decoder.value([0])


def test_every_way_out_of_a_message_is_bounded():
    deep = [["list", None, [[n + 1]]] for n in range(500)] + [["list", None, []]]
    for value, nodes in (([0], deep), (["known", 3], []), (["int", "f" * 10**6], []), ([5], [])):
        with pytest.raises(Damaged):
            Decoder({"nodes": nodes}, b"", [], {}, lambda *_: (None, {})).value(value)


def test_both_sides_count_the_objects_of_the_arguments_alike():
    for id in ("04.1", "05.5", "06.2", "10.07", "10.14"):
        first, second = (list(objects([list(c.arguments), c.keywords])) for c in (exercises[id].cases()[0],) * 2)
        assert [type(one) for one in first] == [type(other) for other in second]
        assert len(first) > 1


def test_the_copy_for_an_answer_holds_neither_exercises_nor_what_is_asked_for(tmp_path):
    folder = tmp_path / stage(tmp_path, exercises["03.2"])
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    assert not (folder / "kdcourse" / "exercises").exists()
    assert "EXERCISE" not in text
    assert "Distillation loss: the divergence" not in text
    assert 'refuse("kdcourse.losses.kd_loss")' in text
    whole = tmp_path / stage(tmp_path, exercises["03.1"])
    assert "Distillation loss: the divergence" in (whole / "kdcourse/losses/logits.py").read_text(encoding="utf-8")


FORBIDDEN = {
    "03.2": "from kdcourse.losses import kd_loss\ndef my_kd_loss(s, t, *, temperature, f=kd_loss):\n"
    "    return f(s, t, temperature=temperature)",
    "03.6": "import torch\ndef my_log_softmax(logits):\n"
    "    return torch.distributions.Categorical(logits=logits).logits",
}


@pytest.mark.parametrize("id", FORBIDDEN)
def test_calling_what_is_asked_for_is_refused_and_named(id):
    found = mark(exercises[id], cells_of(notebook(**{f"a{id.replace('.', '_')}": FORBIDDEN[id]})), 2)
    assert (found.kind, found.points) == ("wrong", 0)
    assert "write it yourself" in found.message


def test_an_allowed_function_of_the_course_is_there():
    source = (
        "from kdcourse.pruning import magnitude_mask\ndef my_ticket(initial, train, sparsity):\n"
        "    weight = initial.clone()\n    train(weight)\n    return initial * magnitude_mask(weight, sparsity)"
    )
    found = mark(exercises["05.5"], cells_of(NotebookNode(cells=[{"cell_type": "code", "source": source}])), 2)
    assert found.points == 2, found.message


OWN_CLASS = """import torch
from torch import nn
class Own(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.first, self.second = nn.Linear(784, hidden), nn.Linear(hidden, 10)
    def forward(self, images):
        return self.second(torch.relu(self.first(images.flatten(1)))){}
def NAME(hidden):
    return Own(hidden)
"""


@pytest.mark.parametrize(("end", "points"), [("", 1), (".softmax(dim=1)", 0)])
def test_a_network_of_the_answers_own_class_is_probed_where_it_lives(end, points):
    source = OWN_CLASS.format(end).replace("NAME", exercises["10.06"].name)
    found = mark(exercises["10.06"], cells_of(NotebookNode(cells=[{"cell_type": "code", "source": source}])), 2)
    assert found.points == points, found.message
    assert points or "some logit is below zero" in found.message


@pytest.mark.parametrize(
    "kind", [pytest.param(lambda: Server(walls=False), id="no walls"), pytest.param(Alone, id="alone")]
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what other systems have anyway")
def test_without_namespaces_it_grades_all_the_same_and_says_what_is_missing(kind, monkeypatch):
    server = kind()
    monkeypatch.setattr("kdcourse.classroom.judging.server", lambda: server)
    monkeypatch.setattr(sandbox, "server", lambda: server)
    try:
        assert "namespaces" in server.missing
        assert sandbox.isolation()[0].startswith("an answer can read the files that you can read")
        assert one(RIGHT["03.1"]).points == 1
    finally:
        server.end()


@walled
def test_here_everything_is_isolated():
    assert sandbox.isolation() == ()


def test_a_lost_server_costs_nothing(monkeypatch):
    found = sandbox.server()
    if isinstance(found, Server):
        found.process.kill()
        found.process.wait()
    assert one(RIGHT["03.1"]).points == 1


NINE = "import time\n" + RIGHT["03.5"].replace("):\n", "):\n    time.sleep(9)\n", 1)


@pytest.mark.slow
def test_an_answer_of_nine_seconds_a_call_gets_its_points():
    found = mark(exercises["03.5"], cells_of(notebook(a03_5=NINE)), 2, Limits())
    assert found.points == 1, found.message


ORDINARY = """
import sys; sys.path.insert(0, "tests")
from grading import RIGHT, one
from test_attacks import OUTSIDE
from kdcourse.classroom.judging import isolation
assert isolation() == (), isolation()
for body in OUTSIDE.values():
    lines = "".join(f"    {line}\\n" for line in body.splitlines())
    assert one(RIGHT["03.1"].replace(":\\n", ":\\n" + lines, 1)).points == 1, body
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="then all others run as one")
@walled
def test_an_ordinary_user_has_the_same_walls():
    program = ["unshare", "--user", "--map-user=1000", "--map-group=1000", sys.executable, "-c", ORDINARY]
    found = subprocess.run(program, cwd=NOTEBOOK.parent.parent, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def source_of(id: str, function) -> str:
    """A cell with a function of the exercises under the asked-for name; what it needs stands in `modules`."""
    return f"{exercises[id].name} = {function.__name__}"


def modules(id: str) -> list[str]:
    """The files of an exercise as cells: the engine's, those it imports from, its own."""
    home = Path(sys.modules["kdcourse.exercises"].__file__).parent
    own = next((home / f"notebook_{id[:2]}").glob(f"e{id.replace('.', '_')}_*.py"))
    files = dict.fromkeys([home / "engine" / "core.py", *with_imports(own)])
    texts = [path.read_text(encoding="utf-8") for path in files]
    texts = [re.sub(r"^from \.(\.\w+\.\w+|\w+) import (\([^)]*\)|[^\n]*)", "", text, flags=re.M) for text in texts]
    return [text.replace("from ...", "from kdcourse.") for text in texts]


def with_imports(path: Path) -> list[Path]:
    """The files of this and other notebooks that a file imports from, directly or not, and the file itself."""
    imports = re.findall(r"^from \.(?:\.(notebook_\d\d)\.)?(\w+) import", path.read_text(encoding="utf-8"), re.M)
    folders = [(path.parent.parent / notebook if notebook else path.parent, name) for notebook, name in imports]
    return [*(found for folder, name in folders for found in with_imports(folder / f"{name}.py")), path]


@pytest.mark.slow
@pytest.mark.parametrize("id", exercises)
def test_every_answer_that_we_know_gets_the_same_verdict_as_from_check(id):
    exercise = exercises[id]
    known = [exercise.reference, *exercise.alternatives, *(m.wrong for m in exercise.misconceptions)]
    for function in known:
        if function.__name__ != "<lambda>":
            assert_same_verdict(id, function)


def assert_same_verdict(id: str, function) -> None:
    cells = [NotebookNode(cell_type="code", source=text) for text in (*modules(id), source_of(id, function))]
    found = mark(exercises[id], cells_of(NotebookNode(cells=cells)), 7)
    expected = judge(exercises[id], function, seed=7)
    assert found.message.splitlines()[0] == expected.text.splitlines()[0], function.__name__
    assert (found.points > 0) == (expected.kind == "right")


@pytest.mark.parametrize(
    ("id", "name"),
    [("04.1", "the norms in eval mode only"), ("04.2", "T² left out"), ("13.2", "memory shared"),
     ("13.2", "with a history"), ("22.01", "detached"), ("22.01", "hook left behind"),
     ("22.08", "one teacher for all")],
)  # fmt: skip
def test_what_an_answer_leaves_behind_is_judged_as_by_check(id, name):
    [wrong] = (m.wrong for m in exercises[id].misconceptions if m.name == name)
    assert_same_verdict(id, wrong)


@pytest.mark.parametrize("id", ["22.01", "22.08", "22.20"])
def test_a_gradient_to_a_cases_network_and_a_network_that_another_makes_reach_the_judge(id):
    assert_same_verdict(id, exercises[id].reference)


def test_the_gradient_of_a_result_is_compared_and_not_only_asked_for():
    source = (
        "def fixed_1(net, images, layer):\n    part = net[: layer + 1](images)\n"
        "    out = net[layer + 1 :](part.clone())\n"
    )
    for end, kind in (("out, part", "right"), ("(out + out.detach()) / 2, part", "wrong"), ("out, part * 1", "right")):
        cells = [NotebookNode(cell_type="code", source=f"{source}    return {end}")]
        found = mark(exercises["22.01"], cells_of(NotebookNode(cells=cells)), 2)
        assert found.kind == kind, found.message
        assert kind == "right" or "gradient of the output" in found.message


def test_a_tensor_given_twice_and_a_zero_that_can_be_trained_reach_the_judge_as_they_are():
    path = NOTEBOOK.with_name("13_few_labels_and_other_domains.ipynb")
    given = nbformat.read(path, as_version=4)
    for cell in given.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") in ("answer-13-1", "answer-13-6"):
            cell.source = solution_source(exercises[cell.metadata.nbgrader.grade_id[7:].replace("-", ".")])
    cells = cells_of(given)
    assert [mark(exercises[id], cells, seed=11).kind for id in ("13.1", "13.6")] == ["right", "right"]
