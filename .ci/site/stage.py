"""Put everything the site is made of into one folder: the notebooks, the written pages, and pages made from data.

``python .ci/site/stage.py`` writes ``build/site-source`` and ``build/site-static``. Nothing is run and nothing
has a second source: the start page is the README's, the bibliography is read from the notebooks, the glossary from
``data/glossary.json``. The folders are those of the checkout, so that links between files hold.
"""

import html
import json
import re
import shutil
from pathlib import Path

import nbformat
from api import api_pages
from bibliography import bibliography_page, linked

from kdcourse._base.notebooks import read

ROOT = Path(__file__).resolve().parent.parent.parent

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PAGES = ("INSTALL.md", "TEACHING.md", "hub/README.md", "HELPERS.md", "data/README.md")
FIGURES = "data/figures"
GLOSSARY = ROOT / "data" / "glossary.json"
MATHJAX = ("mathjax/LICENSE", "mathjax/startup.js", "mathjax/core.js", "mathjax/input/tex.js",
           "mathjax/input/tex/extensions", "mathjax/output/chtml.js", "mathjax/a11y/assistive-mml.js",
           "@mathjax/mathjax-newcm-font/chtml.js", "@mathjax/mathjax-newcm-font/chtml")  # fmt: skip
QUESTION = re.compile(r"Question (\S+)  (.+)((?:\n  [A-Z]  .+)+)")
EXPLORER = re.compile(r"^explore_\w+\(", re.MULTILINE)
SLIDERS = "The sliders work in the notebook. A picture of where they start follows."
ANSWERING = "In the notebook an answer is judged at once, with its reason."


def sources() -> dict[str, str]:
    """The text of every page by its place."""
    notebooks = {path: read(path) for path in NOTEBOOKS}
    titles = {path: title(notebook) for path, notebook in notebooks.items()}
    pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    pages |= {f"notebooks/{path.name}": nbformat.writes(staged(book)) for path, book in notebooks.items()}
    pages |= api_pages() | {"bibliography.md": bibliography_page(notebooks, titles)}
    if GLOSSARY.is_file():
        pages["glossary.md"] = glossary_page(json.loads(GLOSSARY.read_text(encoding="utf-8")), titles)
    pages["index.md"] = start_page((ROOT / "README.md").read_text(encoding="utf-8"), sorted(pages))
    return pages


def title(notebook: nbformat.NotebookNode) -> str:
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def staged(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with its arXiv numbers linked, and a word where a page can only show what a kernel would do."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source)
        elif EXPLORER.search(cell.source) and not cell.outputs:
            cell.outputs = [shown(f'<p class="live">{SLIDERS}</p>')]
        else:
            cell.outputs = [question(output) for output in cell.outputs]
    return notebook


def shown(markup: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", {"text/html": markup})


def question(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A quick question is stored as plain text; on a page it is a list. Any other output comes back as it is."""
    match = QUESTION.fullmatch(output.get("data", {}).get("text/plain", "").strip())
    if not match or "text/html" in output.data:
        return output
    choices = "".join(f"<li>{html.escape(line[5:])}</li>" for line in match[3].strip("\n").split("\n"))
    asked = f"<p><strong>Question {match[1]}</strong> · {html.escape(match[2])}</p>"
    return shown(f'<div class="question">{asked}<ol type="A">{choices}</ol><p class="live">{ANSWERING}</p></div>')


def start_page(readme: str, names: list[str]) -> str:
    """The README but for what it says to developers, with the tree of all pages."""
    lead, beyond, _ = readme.partition("## Beyond the notebooks")
    assert beyond, "the README has a section named Beyond the notebooks"
    notebooks = [name for name in names if name.endswith(".ipynb")]
    beside = [name for name in ("glossary.md", "bibliography.md", *PAGES, "api/index.rst") if name in names]
    trees = [
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(f"/{name}" for name in group) + "\n```"
        for caption, group in (("The course", notebooks), ("Beside it", beside))
    ]
    return "\n\n".join([lead.strip(), *trees]) + "\n"


def glossary_page(entries: list[dict[str, str]], titles: dict[Path, str]) -> str:
    """Every term in English and Chinese, with its meaning and the notebook that introduces it."""
    where = {path.name[:2]: f"[{words}](notebooks/{path.name})" for path, words in titles.items()}
    lines = ["# Glossary", "", "The course's words, in English and Chinese.", "", "```{glossary}"]
    for entry in sorted(entries, key=lambda entry: entry["term"].casefold()):
        symbol = f" Symbol: {entry['symbol']}." if entry["symbol"] else ""
        source = where.get(entry["introduced"], f"notebook {entry['introduced']}")
        chinese = f" {{chinese}}`{entry['chinese']}`" if entry["chinese"] else ""
        lines += [entry["term"] + chinese, f"  {entry['definition']}{symbol}", "", f"  {{introduced}}`In` {source}", ""]
    return "\n".join([*lines, "```", ""])


def stage(build: Path) -> None:
    """Write all sources afresh, and beside them what MathJax serves: its script, its font, its extensions."""
    shutil.rmtree(build / "site-source", ignore_errors=True)
    for name, text in sources().items():
        path = build / "site-source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / FIGURES, build / "site-source" / FIGURES)
    packages, served = build / "site-npm" / "node_modules", build / "site-static" / "mathjax"
    shutil.rmtree(served, ignore_errors=True)
    for part in MATHJAX:
        copy = served / part.removeprefix("mathjax/").removeprefix("@mathjax/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (packages / part).is_dir():
            shutil.copytree(packages / part, copy)
        else:
            shutil.copy(packages / part, copy)


if __name__ == "__main__":
    stage(ROOT / "build")
