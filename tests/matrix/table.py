"""The matrix as a table for HELPERS.md: a kind of network a row, helpers of one sort a column."""

from collections.abc import Mapping
from pathlib import Path

from .helpers import HELPERS
from .kinds import KINDS

HELPERS_PAGE = Path(__file__).parents[2] / "HELPERS.md"
START, END = "<!-- matrix -->", "<!-- /matrix -->"
SIGNS = {"right": "✓", "warned": "◐", "refused": "–"}
LEGEND = """\
✓ is right, ◐ is right and a warning names what is left out, – is refused in a sentence that says what to do; two
signs: it depends on the helper. Each cell is compared with a plain copy worked by hand in float64."""
COLUMNS = {
    "masks": "layer masks",
    "scores, sparsity": "sparsity",
    "surgery": "mask_filters",
    "folding": "fold_batchnorm",
    "fake quantization": "4 bits",
    "integers": "integer_network",
    "calibration": "calibrate",
    "sharing": "share_model",
    "averages": "moving_average",
    "align": "align",
    "low rank": "factorize",
    "count_macs": "count_macs",
    "predict, attack": "predict",
    "fit, distill": "fit",
    "outputs_of, features": "outputs_of",
    "save_model": "save, load",
}
"""Titles, and the helper that each column begins with."""


def column_of() -> dict[str, str]:
    """The column of each helper, in the order of `HELPERS`; what is exported on few networks has none."""
    starts, found, title = {first: title for title, first in COLUMNS.items()}, {}, ""
    for helper in HELPERS:
        title = starts.get(helper.name, title)
        if helper.name != "to_onnx":
            found[helper.name] = title
    return found


def render(outcomes: Mapping[tuple[str, str], str]) -> str:
    """Markdown, from outcomes by kind and helper; a column shows every sign that occurs among its helpers."""
    columns = column_of()
    lines = [f"| network | {' | '.join(COLUMNS)} |", "| --- |" + " :-: |" * len(COLUMNS)]
    for kind in KINDS:
        row = []
        for title in COLUMNS:
            found = {outcomes[kind.name, name] for name, column in columns.items() if column == title}
            row.append("".join(sign for outcome, sign in SIGNS.items() if outcome in found))
        lines.append(f"| {kind.name} | {' | '.join(row)} |")
    return "\n".join([LEGEND, "", *lines])


def shown() -> str:
    """The table that HELPERS.md holds."""
    return HELPERS_PAGE.read_text(encoding="utf-8").partition(START)[2].partition(END)[0].strip()


def write(table: str) -> None:
    """Put the table between the marks in HELPERS.md."""
    before, _, rest = HELPERS_PAGE.read_text(encoding="utf-8").partition(START)
    HELPERS_PAGE.write_text(f"{before}{START}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
