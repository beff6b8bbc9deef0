"""Every public function and class says what it does and shows it: its example is run, as CONTRIBUTING.md describes it.

An example starts where ``import torch``, ``from torch import nn`` and ``from kdcourse.ROOM import *`` have been run, in
an empty folder. Records and exceptions are shown by the functions that give them.
"""

import doctest
import importlib
import inspect
import sys
from pathlib import Path

import matplotlib
import pytest
import torch

import kdcourse

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / ".ci" / "site"))
import api  # noqa: E402 (a script, no package)

matplotlib.use("Agg")

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def rooms():
    """The public modules and packages of `kdcourse`."""
    names = sorted(path.stem for path in Path(kdcourse.__file__).parent.iterdir()
                   if path.suffix == ".py" or (path / "__init__.py").is_file())  # fmt: skip
    names = [name for name in names if not name.startswith("_")] + [
        "losses.features",
        "losses.relations",
        "losses.sequences",
    ]
    return {name: importlib.import_module(f"kdcourse.{name}") for name in names}


def public(module):
    """What a room offers: the names in its ``__all__``, or those that it defines."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return {name: getattr(module, name) for name in names}


def is_record(value):
    return inspect.isclass(value) and (issubclass(value, tuple | dict | Exception) or hasattr(value, "__match_args__"))


ROOMS = rooms()
PUBLIC = {
    f"{room}.{name}": inspect.unwrap(value)
    for room, module in ROOMS.items()
    for name, value in public(module).items()
    if inspect.isfunction(value) or inspect.isclass(value)
}
SHOWN = [name for name, value in PUBLIC.items() if not is_record(value)]


def examples(name):
    return doctest.DocTestParser().get_examples(inspect.getdoc(PUBLIC[name]) or "")


def test_the_public_names_are_found():
    assert {"losses.kd_loss", "training.fit", "pruning.apply_masks", "claims.claim", "seeds.seeded"} <= set(SHOWN)
    assert {"losses.features.hint_loss", "losses.relations.similarity_loss", "features.outputs_of"} <= set(SHOWN)
    assert {"metrics.Interval", "claims.ClaimError", "training.History"} <= set(PUBLIC) - set(SHOWN)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring_of_its_own(name):
    text = vars(PUBLIC[name]).get("__doc__") if inspect.isclass(PUBLIC[name]) else PUBLIC[name].__doc__
    assert text, f"kdcourse.{name} has no docstring"
    generated = f"{PUBLIC[name].__name__}("  # what a record without a docstring has
    assert not text.startswith(generated), f"kdcourse.{name} has no docstring"


@pytest.mark.parametrize("name", SHOWN)
def test_every_public_function_has_an_example(name):
    assert examples(name), f"write a small example (>>>) into the docstring of kdcourse.{name}"


@pytest.mark.parametrize("name", [name for name in PUBLIC if examples(name)])
def test_examples_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    room = ROOMS[name.rpartition(".")[0]]
    start = {"torch": torch, "nn": torch.nn, **public(room)}
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(PUBLIC[name]), start, name, None, 0)
    said = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append)
    matplotlib.pyplot.close("all")
    assert not said, "".join(said)


@pytest.mark.parametrize("name", [name for name in PUBLIC if examples(name)])
def test_the_site_prints_examples_as_they_are(name):
    printed = doctest.DocTestParser().get_examples(api.restructured(inspect.getdoc(PUBLIC[name])))
    assert [(part.source, part.want) for part in printed] == [(part.source, part.want) for part in examples(name)]
