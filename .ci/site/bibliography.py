"""One list of all works that the notebooks' "Further reading" sections name."""

import re
from pathlib import Path
from typing import NamedTuple

import nbformat

SECTION = re.compile(r"^## Further reading\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^- (.+?)(?=^- |\n\n|\Z)", re.MULTILINE | re.DOTALL)
REFERENCE = re.compile(r"(?P<authors>.+?)\. \*(?P<title>.+?)\.?\*,?\s*(?P<rest>.*)", re.DOTALL)
ARXIV = re.compile(r"\barXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})")
YEAR = re.compile(r"\b(?:19|20)\d\d\b(?!\.\d)")


class Work(NamedTuple):
    """A reference, as its notebook words it."""

    authors: str
    title: str
    published: str
    year: str
    arxiv: str

    @property
    def key(self) -> str:
        return self.arxiv or re.sub(r"\W+", " ", self.title.casefold()).strip()

    @property
    def family(self) -> str:
        """The first author's, to sort by; an organisation has its own name there."""
        first = re.split(r", | et al| and others| documentation", self.authors)[0]
        return first.split()[-1].casefold()


def linked(text: str) -> str:
    """Every arXiv number of a text made a link."""
    return ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def works(notebook: nbformat.NotebookNode) -> list[Work]:
    """What the notebook's last section names; raises ``ValueError`` for an entry that is no reference."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    section = SECTION.search(text)
    return [work(" ".join(entry.split())) for entry in ENTRY.findall(section[1])] if section else []


def work(entry: str) -> Work:
    match = REFERENCE.match(entry)
    if not match:
        raise ValueError(f"'Further reading' wants 'Authors. *Title.* Venue year. arXiv:…', not {entry!r}")
    rest, arxiv = match["rest"], ARXIV.search(match["rest"])
    end = YEAR.search(rest)
    published = rest[: end.end()] if end else ""
    return Work(match["authors"], match["title"], published, end[0] if end else "", arxiv[1] if arxiv else "")


def bibliography_page(notebooks: dict[Path, nbformat.NotebookNode], titles: dict[Path, str]) -> str:
    """All works by first author and year. Where notebooks word one differently, the longest wording stands."""
    found: dict[str, list[tuple[Work, Path]]] = {}
    for path, notebook in notebooks.items():
        for each in works(notebook):
            found.setdefault(each.key, []).append((each, path))
    lines = ["# Bibliography", "", "What the notebooks send you on to, with the notebooks that do.", ""]
    best = {key: max((each for each, _ in cited), key=lambda each: len("".join(each))) for key, cited in found.items()}
    for key, each in sorted(best.items(), key=lambda item: (item[1].family, item[1].year, item[1].title)):
        citing = dict.fromkeys(path for _, path in found[key])
        links = ", ".join(f"[{titles[path]}](notebooks/{path.name})" for path in citing)
        published = f" {each.published}." if each.published else ""
        arxiv = f" {linked('arXiv:' + each.arxiv)}." if each.arxiv else ""
        stop = "" if each.title.endswith(("?", "!")) else "."
        lines += [f"- {each.authors}. *{each.title}{stop}*{published}{arxiv}", f"  {{introduced}}`In` {links}", ""]
    return "\n".join(lines)
