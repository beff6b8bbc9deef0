"""At the end of a run: how much of each notebook nbval compares."""

import nbformat
from test_notebooks import NOTEBOOKS, code_cells, compared


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("cells with output that are compared")
    for path in NOTEBOOKS:
        printing = [cell for cell in code_cells(nbformat.read(path, as_version=4)) if cell.outputs]
        held = sum(map(compared, printing))
        terminalreporter.line(f"{path.stem:<34} {held:>3} of {len(printing):>3}  {held / max(1, len(printing)):4.0%}")
