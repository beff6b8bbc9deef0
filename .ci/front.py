"""The first screen, from what is stored: README's three figures, and its table of notebooks in notebook 00.

``python .ci/front.py`` (`make front`) writes ``data/figures``, the figures' alt texts in README and the table in
notebook 00. README is the table's source, the site's start page shows README's; a test holds all of them together.
"""

import io
import json
import re
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from kdcourse import plots
from kdcourse._base.files import write_whole
from kdcourse.data import data_dir, load_mnist, load_results
from kdcourse.metrics import paired_interval
from kdcourse.models import load_model
from kdcourse.training import predict

matplotlib.use("Agg")
ROOT = Path(__file__).resolve().parent.parent
SIZE = 2.5, 2.4  # inches: three beside one another fit a page, one a telephone
SMALL = {"font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8}
ROW = 2466  # the training image of notebook 02
HAN = (26.7, 1.58)  # kilobytes, test errors in percent: Han, Mao, Dally (2016), table 1
START, END = "<!-- figures -->", "<!-- /figures -->"


class Front(NamedTuple):
    """A figure of the first screen, its words for those who do not see it, and the notebook it leads to."""

    figure: Figure
    alt: str
    notebook: str


def fronts() -> dict[str, Front]:
    """The three figures by name."""
    with matplotlib.rc_context(SMALL):
        return {"teacher": what_the_teacher_knows(), "budget": when_it_helps(), "shipped": what_is_shipped()}


def what_the_teacher_knows() -> Front:
    """The probabilities are rounded, because another processor computes the last digits otherwise."""
    digits, temperature = load_mnist().train, 4
    logits = predict(load_model(data_dir() / "teacher.safetensors"), digits.images[ROW : ROW + 1])[0]
    label, probabilities = int(digits.labels[ROW]), (logits / temperature).softmax(dim=0).double().round(decimals=3)
    second = int(probabilities.argsort(descending=True)[1])
    figure, (left, right) = plt.subplots(1, 2, figsize=SIZE, layout="constrained", width_ratios=(1, 2))
    plots.digits([left], digits.images[ROW : ROW + 1])
    plots.class_bars(right, probabilities, title="", label=label)
    right.set(xlabel="class, softened (T = 4)", xticks=range(0, 10, 3))
    figure.suptitle(f"The teacher: a {label}, much like a {second}", fontsize=9)
    first, next_ = probabilities[label], probabilities[second]
    alt = (f"A handwritten {label}, and the teacher's probabilities for it, softened: {label} has {first:.2f}, "
           f"{second} has {next_:.2f}, every other class less.")  # fmt: skip
    return Front(figure, alt, "02_soft_targets_and_temperature")


def when_it_helps() -> Front:
    stored: dict[str, list[float]] = {}
    for record in load_results("distillation")["records"]:
        if "arm" in record and "test" in record:
            stored.setdefault(record["arm"], []).append(100 * record["test"])
    budgets = {75: ""} | {count: f", {count} epochs" for count in (5, 10, 20, 40, 150, 300)}
    gains = {count: paired_interval(stored[f"distilled{end}"], stored[f"alone{end}"])
             for count, end in sorted(budgets.items())}  # fmt: skip
    figure, axis = plt.subplots(figsize=SIZE, layout="constrained")
    rows = {f"{count} epochs": tuple(gain) for count, gain in gains.items()}
    plots.intervals(axis, rows, title="Does it help? Not in a hurry", xlabel="points gained by distillation")
    lost = [count for count, gain in gains.items() if gain.high < 0]
    won = [count for count, gain in gains.items() if gain.low > 0]
    alt = (f"Test accuracy gained by distillation, with 95 % intervals over five seeds: below zero at "
           f"{lost[0]} and {lost[-1]} epochs, above zero from {won[0]} epochs on.")  # fmt: skip
    return Front(figure, alt, "04_distilling_a_student")


def what_is_shipped() -> Front:
    runs: dict[float, list[tuple[float, float]]] = {}
    for record in load_results("deep_compression")["records"]:
        if record["how"] == "taught" and record["kept"] < 1:
            runs.setdefault(record["kept"], []).append((record["bytes"] / 1000, record["test errors"] / 100))
    figure, axis = plt.subplots(figsize=SIZE, layout="constrained")
    for (kept, found), marker in zip(sorted(runs.items()), "os", strict=True):
        axis.plot(*zip(*found, strict=True), marker, color=plots.BLUE, alpha=0.7, label=f"distilled, {kept:.0%} kept")
    axis.plot(*HAN, "^", color=plots.BLACK, label="Deep Compression, 2016")
    axis.set(title="Ship it: LeNet-300-100", xlabel="kilobytes", ylabel="test errors (%)", xlim=(0, 30), ylim=(0, 2))
    axis.legend(frameon=False, fontsize=7, loc="lower right")
    (small, errors), dense = (map(fmean, zip(*runs[0.02], strict=True))), HAN
    alt = (f"Test errors against file size of LeNet-300-100: distilled and pruned to 2 %, {small:.0f} kilobytes at "
           f"{errors:.1f} % errors; Deep Compression in 2016, {dense[0]:.0f} kilobytes at {dense[1]} %.")  # fmt: skip
    return Front(figure, alt, "09_the_whole_pipeline")


def svg(front: Front) -> str:
    """The figure as a file, the same whenever it is drawn with the pinned Matplotlib."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "kdcourse"}):
        front.figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def strip(figures: dict[str, Front]) -> str:
    """The figures as README shows them, each a link to its notebook."""
    return "\n".join(
        f"[![{front.alt}](data/figures/{name}.svg)](notebooks/{front.notebook}.ipynb)"
        for name, front in figures.items()
    )


def table(readme: str) -> str:
    """The table of notebooks, as README has it."""
    found = re.search(r"^\| notebook \|.*\n(?:\|.*\n)+", readme, re.MULTILINE)
    assert found, "README has a table of notebooks"
    return found[0].strip()


def in_notebook(readme: str) -> str:
    """The same table for a notebook, from which the others are beside it."""
    return table(readme).replace("](notebooks/", "](")


def write() -> None:
    readme, figures = (ROOT / "README.md").read_text(encoding="utf-8"), fronts()
    for name, front in figures.items():
        (ROOT / "data" / "figures").mkdir(exist_ok=True)
        write_whole(ROOT / "data" / "figures" / f"{name}.svg", svg(front))
    before, _, rest = readme.partition(START)
    write_whole(ROOT / "README.md", f"{before}{START}\n{strip(figures)}\n{END}{rest.partition(END)[2]}")
    path = ROOT / "notebooks" / "00_start_here.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    (cell,) = (cell for cell in notebook["cells"] if "".join(cell["source"]).startswith("## The course\n"))
    text = re.sub(r"(?:^\|.*\n?)+", lambda _: in_notebook(readme) + "\n", "".join(cell["source"]), flags=re.MULTILINE)
    cell["source"] = text.rstrip("\n").splitlines(keepends=True)
    write_whole(path, json.dumps(notebook, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    write()
