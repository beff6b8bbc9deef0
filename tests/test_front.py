"""The first screen: every figure, number and promise of it is what is stored; one table of notebooks for all."""

import json
import re
import sys
from pathlib import Path
from statistics import fmean

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
import front  # noqa: E402 (a script, no package)

from kdcourse.data import load_results  # noqa: E402
from kdcourse.exercises import exercises  # noqa: E402
from kdcourse.metrics import paired_interval  # noqa: E402
from kdcourse.plots.drawn import drawn  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob("notebooks/[0-9]*.ipynb")}
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def opening(name):
    return "".join(NOTEBOOKS[name]["cells"][0]["source"])


def minutes(name):
    """How long a notebook says that it takes."""
    sittings = re.search("(two|three) sittings", opening(name))
    times = {"two": 2, "three": 3}[sittings[1]] if sittings else 1
    return times * int(re.search(r"about (\d+) minutes", opening(name))[1])


# ---- figures


@pytest.fixture(scope="module")
def figures():
    return front.fronts()


@pytest.mark.parametrize("name", ["teacher", "budget", "shipped"])
def test_a_figure_is_what_the_stored_results_give(figures, name):
    stored = (ROOT / "data" / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    again = front.svg(figures[name])
    assert NUMBER.sub("", stored) == NUMBER.sub("", again), "make front"
    pairs = zip(map(float, NUMBER.findall(stored)), map(float, NUMBER.findall(again)), strict=True)
    assert all(one == pytest.approx(other, abs=0.01) for one, other in pairs), "make front"


def test_readme_shows_them_with_their_words(figures):
    assert front.strip(figures) == README.partition(front.START)[2].partition(front.END)[0].strip(), "make front"
    assert len(figures) == 3
    assert all(f"{figure.notebook}.ipynb" in NOTEBOOKS for figure in figures.values())


def test_a_figure_of_other_results_is_noticed(monkeypatch, figures):
    results = front.load_results

    def altered(name):
        found = results(name)
        for record in found["records"]:
            if record.get("arm") == "distilled, 5 epochs":
                record["test"] += 0.001
        return found

    monkeypatch.setattr(front, "load_results", altered)
    assert drawn(front.when_it_helps().figure) != drawn(figures["budget"].figure)


# ---- findings


def five(job, key="test", **wanted):
    """A stored figure of one arm, for each of the five seeds."""
    stored = load_results(job)["records"]
    found = [each[key] for each in stored if wanted.items() <= each.items() and "rate" not in each]  # tries have a rate
    assert len(found) == 5
    return found


def mean(job, key="test", **wanted):
    """Their mean, in percent."""
    return 100 * fmean(five(job, key, **wanted))


def teacher(name):
    (record,) = (record for record in load_results("distillation")["records"] if record.get("teacher") == name)
    return 100 * record["test"]


def gain(arm, over="alone"):
    return mean("distillation", arm=arm) - mean("distillation", arm=over)


def times(slow, fast, job="pipeline"):
    (record,) = (record for record in load_results(job)["records"] if record.get("timed") == "256")
    return record["milliseconds"][slow][0] / record["milliseconds"][fast][0]


def chain(stage, key="test"):
    return mean("pipeline", key, arm="chain", stage=stage)


def student(arm, key="test"):
    """Bits per character."""
    return mean("language_students", key, size="middle", arm=arm) / 100


def packed(key):
    return mean("language_files", key, bits=4, arm="gptq, clipped") / 100


def whole_model():
    (record,) = (record for record in load_results("language_compression")["records"] if record["part"] == "float")
    return record["bits per character"]


def eras(arm, paragraphs=9587):
    """Percent of paragraphs whose era is told from an arm's vectors; what is not trained has one record."""
    stored = load_results("sentence_tables")["records"]
    found = [each["era accuracy"] for each in stored if (each["arm"], each["paragraphs"]) == (arm, paragraphs)]
    assert len(found) == (5 if arm == "distilled table" else 1)
    return 100 * fmean(found)


WIDE, SMALL = "int8 64-128-256", "int8 16-32-48"
NARROW = "distilled, first layer in floats"
SCORES = "l1", "l2", "batch_norm", "taylor"
FOUND = {
    "A better teacher": (
        "04", [teacher("wide"), teacher("shipped"), -gain("distilled, wide teacher, 128 units", "distilled")]),
    "Label smoothing": ("04", [gain("label smoothing, chosen"), gain("distilled, chosen")]),
    "No score for choosing channels": (
        "06", [15, mean("structured", arm="random, labels"),
               max(mean("structured", arm=f"{score}, labels") for score in SCORES)]),
    "int8": ("08", [times("wide teacher, in onnxruntime", WIDE), times("recovered, in onnxruntime", SMALL)]),
    "1.65 MB become 34 KB": (
        "09", [chain("wide teacher", "bytes") / 1e8, chain("int8, trained through", "bytes") / 1e5,
               times("wide teacher, in onnxruntime", SMALL), times("wide teacher", SMALL),
               chain("wide teacher") - chain("int8, trained through"),
               times("wide teacher", NARROW, "chain_in_runtime"),
               mean("chain_in_runtime", "bytes", arm=NARROW) / 1e5,
               mean("chain_in_runtime", arm="wide teacher") - mean("chain_in_runtime", arm=NARROW)]),
    "At equal text": ("17", [student(arm) for arm in ("distilled", "labels only", "labels only, equal time")]),
    "A language model in": (
        "18", [packed("bits per weight of the matrices"), packed("bits per character") - whole_model(),
               packed("float32 bytes") / packed("bytes")]),
    "A sentence encoder": ("19", [eras("TF-IDF"), eras("teacher"), eras("distilled table")]),
}  # fmt: skip
LINES = re.findall(
    r"^- \*\*.*(?:\n  .*)*", README.partition("**What you will find out.**")[2].partition("\n\n\n")[0], re.M
)


def finding(start):
    (line,) = (line for line in LINES if line.startswith(f"- **{start}"))
    return " ".join(line.split())


@pytest.mark.parametrize("start", FOUND)
def test_every_number_of_a_finding_is_measured(start):
    notebook, measured = FOUND[start]
    text = re.sub(r"\(\[\d\d\].*$", "", finding(start)).replace("int8", "")
    said = NUMBER.findall(text)
    assert len(said) == len(measured), said
    for number, value in zip(said, measured, strict=True):
        places = len(number.partition(".")[2])
        assert float(number) == pytest.approx(value, abs=0.5 * 10**-places * 1.0001), (number, value)
    assert re.search(rf"\(\[{notebook}\]\(notebooks/{notebook}_\w+\.ipynb\)", finding(start))


def test_the_findings_say_no_more_than_was_found():
    def difference(job, one, other):
        return paired_interval(five(job, arm=one), five(job, arm=other))

    assert difference("distillation", "distilled, wide teacher, 128 units", "distilled").high < 0, "have worse students"
    hotter = difference("distillation", "distilled, chosen, wide teacher", "distilled, chosen")
    assert hotter.low < 0 < hotter.high, "until the temperature is raised"
    recipe = load_results("distillation")["recipe"]
    assert recipe["chosen on validation"]["temperature"] > recipe["distillation"]["temperature"]
    assert difference("distillation", "label smoothing, chosen", "alone").low > 0
    for score in SCORES:
        assert difference("structured", f"{score}, labels", "random, labels").low < 0, "no score beats chance"
    lost = chain("wide teacher") - chain("int8, trained through")
    assert lost > 0, "for 0.2 points of accuracy"

    def bits(arm):
        return five("language_students", size="middle", arm=arm)

    assert paired_interval(bits("distilled"), bits("labels only")).high < 0, "at equal text better"
    assert paired_interval(bits("labels only, equal time"), bits("distilled")).high < 0, "at equal time not"


def test_the_patience_that_distillation_needs_is_measured():
    few, many = re.search(r"after (\d+) epochs or fewer this student is worse .* after (\d+) or more better",
                          " ".join(README.split())).groups()  # fmt: skip
    gains = {}
    for record in load_results("distillation")["records"]:
        arm, _, budget = record.get("arm", "").partition(", ")
        if arm in ("alone", "distilled") and re.fullmatch(r"(\d+ epochs)?", budget):
            gains.setdefault(int(budget.partition(" ")[0] or 75), {}).setdefault(arm, []).append(record["test"])
    found = {
        epochs: paired_interval(arms["distilled"], arms["alone"]) for epochs, arms in gains.items() if len(arms) == 2
    }
    assert int(few) == max(epochs for epochs, gain in found.items() if gain.high < 0)
    assert int(many) == min(epochs for epochs, gain in found.items() if gain.low > 0)
    assert all(gain.high < 0 for epochs, gain in found.items() if epochs <= int(few))
    assert all(gain.low > 0 for epochs, gain in found.items() if epochs >= int(many))


def test_there_are_eight_findings_and_nothing_else_in_the_list():
    assert len([line for line in LINES if "notebooks/" in line]) == len(FOUND) == 8


# ---- promises, and the table


def test_counts_and_times_are_true():
    named = re.search(r"([\w-]+) Jupyter notebooks", README)[1]
    numbers = {"Twenty": 20, "Twenty-one": 21, "Twenty-two": 22, "Twenty-three": 23, "Twenty-four": 24}
    assert numbers[named] == len(NOTEBOOKS)
    assert int(re.search(r"(\d+) exercises", README)[1]) == len(exercises)
    told = [minutes(name) for name in NOTEBOOKS]
    assert float(re.search(r"about (\d+) hours", README)[1]) == round(sum(told) / 60)
    assert re.search(r"(\d+) to (\d+) minutes per notebook", README).groups() == (str(min(told)), str(max(told)))
    clinic = [name for name in exercises if name.startswith("10.")]
    assert ["thirteen", "fourteen", "fifteen"].index(re.search(r"(\w+) distillation bugs", README)[1]) + 13 == len(
        clinic
    )


def test_the_table_has_a_row_for_each_notebook_with_its_title_and_time():
    rows = re.findall(r"^\| \[(.+?)\]\(notebooks/(.+?)\) \| .+ \| (\d+) \|$", front.table(README), re.MULTILINE)
    assert [name for _, name, _ in rows] == sorted(NOTEBOOKS)
    for title, name, long in rows:
        assert opening(name).startswith(f"# {title}\n")
        assert int(long) == minutes(name), name


def test_notebook_00_has_the_same_table():
    texts = ["".join(cell["source"]) for cell in NOTEBOOKS["00_start_here.ipynb"]["cells"]]
    (cell,) = (text for text in texts if text.startswith("## The course\n"))
    assert front.in_notebook(README) in cell, "make front"


# ---- where one only clicks


class Absent:
    """What finds modules where ``kdcourse`` is not installed, or where ``matplotlib`` is not."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def first_code(name):
    return next("".join(cell["source"]) for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == "code")


@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_a_notebook_says_which_line_installs_what_is_missing(name, monkeypatch):
    for module in [module for module in sys.modules if module.partition(".")[0] == "kdcourse"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Absent("kdcourse"), *sys.meta_path])
    with pytest.raises(ImportError) as raised:
        exec(first_code(name), {})
    said = str(raised.value)
    assert said.startswith("kdcourse is missing")
    clone, install = re.search(r"!(.+?) && (.+?) and restart$", said).groups()
    assert (
        re.fullmatch(r"git clone ADDRESS (\w+)", clone)[1]
        == re.fullmatch(r"pip install -e '\./(\w+)\[course\]'", install)[1]
    )
    assert raised.value.__suppress_context__, "one sentence"


def test_a_notebook_does_not_say_that_when_another_package_is_missing(monkeypatch):
    for module in [module for module in sys.modules if module.startswith(("matplotlib", "kdcourse.plots"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr("kdcourse.plots")
    monkeypatch.setattr(sys, "meta_path", [Absent("matplotlib"), *sys.meta_path])
    with pytest.raises(ImportError, match="matplotlib is not installed: pip install 'kdcourse.plots"):
        exec(first_code("03_kl_derivation.ipynb"), {})


DEV_CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
COMMAND = {"type": ["string", "array", "object"]}
SIZED = {"type": "string", "pattern": r"^\d+([tgmk]b)?$"}
# the parts that the course uses of devContainer.base.schema.json of the Dev Container Specification; others are refused
PUBLISHED = {
    "type": "object", "required": ["image"], "additionalProperties": False,
    "properties": {
        "name": {"type": "string"}, "image": {"type": "string"},
        "hostRequirements": {
            "type": "object", "additionalProperties": False,
            "properties": {"cpus": {"type": "integer", "minimum": 1}, "memory": SIZED, "storage": SIZED}},
        "forwardPorts": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 65535}},
        "postCreateCommand": COMMAND, "postStartCommand": COMMAND,
        "waitFor": {"enum": ["initializeCommand", "onCreateCommand", "updateContentCommand", "postCreateCommand",
                             "postStartCommand"]},
        "customizations": {"type": "object"},
    },
}  # fmt: skip
# what repo2docker reads in .binder, of what the course uses
BINDER = {"requirements.txt", "runtime.txt", "postBuild"}


def pinned(name):
    return re.search(rf"^{name}==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]


def test_the_dev_container_keeps_to_the_published_schema_and_to_the_pins():
    jsonschema.validate(DEV_CONTAINER, PUBLISHED)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**DEV_CONTAINER, "postCreate": ""}, PUBLISHED)
    command = DEV_CONTAINER["postCreateCommand"]
    for name in ("torch", "torchvision"):
        assert f" {name}=={pinned(name)} " in command
    assert "make .venv/.ready" in command, "which installs requirements.txt"
    assert DEV_CONTAINER["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].endswith(
        ".venv/bin/python"
    )


def test_binder_installs_the_pins_and_nothing_else():
    folder = ROOT / ".binder"
    assert {path.name for path in folder.iterdir()} == BINDER
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["--extra-index-url https://download.pytorch.org/whl/cpu", "-r ../requirements.txt"]
    python = re.fullmatch(r"python-(3\.\d+)\n", (folder / "runtime.txt").read_text(encoding="utf-8"))[1]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={python}"' in project
    assert DEV_CONTAINER["image"].endswith(f"python:{python}")
    build = (folder / "postBuild").read_text(encoding="utf-8").splitlines()
    assert build[0].startswith("#!")
    assert "pip install --no-deps --editable ." in build


def test_the_installation_page_names_the_pinned_pair():
    page = (ROOT / "INSTALL.md").read_text(encoding="utf-8")
    assert f"torch=={pinned('torch')} torchvision=={pinned('torchvision')} " in page
