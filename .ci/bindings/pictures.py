"""Whether each stored picture is the one that its cell drew, under its own alt text."""

import ast
import base64
import hashlib
import html
import re
from collections.abc import Iterator

from nbformat import NotebookNode

PICTURE = re.compile(
    r'<img alt="(?P<alt>[^"]+)" width="\d+" data-drawn="[^"]+" data-picture="(?P<digest>\w{16})" '
    r'src="data:image/png;base64,(?P<data>[^"]+)">'
)


def picture_problems(notebook: NotebookNode) -> list[str]:
    """Pictures that are not as `kdcourse.plots.show` stored them, or stand at another cell than their alt text."""
    return [
        why
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for why in _problems(cell.source, output.get("data", {}))
    ]


def _problems(source: str, shown: dict[str, str]) -> Iterator[str]:
    for tag in re.findall(r"<img[^>]*>", shown.get("text/html", "")):
        found = PICTURE.fullmatch(tag)
        if not found:
            yield f"plots.show(figure, alt) has not told what it draws: run the notebook for {source!r}"
            continue
        alt = html.unescape(found["alt"])
        if hashlib.sha256(base64.b64decode(found["data"])).hexdigest()[:16] != found["digest"]:
            yield f"the stored picture is another than was drawn: {alt}"
        if shown.get("text/plain") != f"Figure: {alt}":
            yield f"the picture and the text for pages without pictures say different things: {alt}"
        nodes = list(ast.walk(ast.parse(source)))
        made = any(isinstance(node, ast.JoinedStr) for node in nodes)  # of values, which nobody can read off the code
        if not made and alt not in {node.value for node in nodes if isinstance(node, ast.Constant)}:
            yield f"the alt text of another cell: {alt}"
