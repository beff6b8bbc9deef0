"""What the site asks of Sphinx beyond its settings: words in Chinese, docstrings as they stand, printed sentences."""

from api import restructured
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole
from sphinx.writers.html5 import HTML5Translator


class Marked(SphinxRole):
    """A few words with a style of their own."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        return [nodes.inline(self.rawtext, self.text, classes=[self.name])], []


class Chinese(nodes.inline):
    """Words that a screen reader is told to read as Chinese."""


class ChineseRole(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        return [Chinese(self.rawtext, self.text)], []


def open_chinese(writer: HTML5Translator, node: nodes.Element) -> None:
    writer.body.append(writer.starttag(node, "span", "", CLASS="chinese", lang="zh-Hans"))


def close_chinese(writer: HTML5Translator, node: nodes.Element) -> None:
    writer.body.append("</span>")


def take_at_its_word(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    lines[:] = restructured("\n".join(lines)).split("\n")


def skip_fields(app: Sphinx, what: str, name: str, value: object, skip: bool, options: object) -> bool | None:
    """A tuple's fields stand in its signature; Python's words for them say nothing."""
    return True if (getattr(value, "__doc__", None) or "").startswith("Alias for field number") else None


def find_by_last_name(app: Sphinx, env: object, node: addnodes.pending_xref, words: nodes.Node) -> nodes.Node | None:
    """Docstrings say `fit`, also in another module: linked where exactly one public thing is called that."""
    if node.get("refdomain") != "py" or "." in node["reftarget"]:
        return None
    domain = app.env.domains.python_domain
    found = [name for name in domain.objects if name.split(".")[-1] == node["reftarget"]]
    if len(found) != 1:
        return None
    node["reftarget"] = found[0]
    return domain.resolve_xref(app.env, node["refdoc"], app.builder, "obj", found[0], node, words)


def wrap_sentences(app: Sphinx, doctree: nodes.document) -> None:
    """Printed sentences may wrap on a narrow screen; printed tables, which have gaps in their lines, may not."""
    for output in doctree.findall(nodes.container):
        if "cell_output" in output["classes"]:
            for block in output.findall(nodes.literal_block):
                if not any("  " in line.strip().replace("  [", "") for line in block.astext().splitlines()):
                    block["classes"].append("sentences")


def setup(app: Sphinx) -> None:
    app.add_node(Chinese, html=(open_chinese, close_chinese))
    app.add_role("chinese", ChineseRole())
    app.add_role("introduced", Marked())
    app.connect("autodoc-process-docstring", take_at_its_word)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("missing-reference", find_by_last_name)
    app.connect("doctree-read", wrap_sentences)
