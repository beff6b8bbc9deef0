"""The site as a reader has it: built as `make site` builds it, served on loopback, looked at in Chromium."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

if os.environ.get("KDCOURSE_BROWSER") != "1":
    pytest.skip("`make browser` runs these (KDCOURSE_BROWSER=1)", allow_module_level=True)

import nbformat
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / ".ci" / "site"))
import fence
from api import MODULES

pytestmark = pytest.mark.browser
SITE = ROOT / "build" / "site"
AXE = ROOT / "build" / "site-npm" / "node_modules" / "axe-core" / "axe.min.js"
NOTEBOOKS = {f"notebooks/{path.stem}.html": path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
READ = ["index.html", *NOTEBOOKS, "glossary.html", "bibliography.html", "INSTALL.html", "TEACHING.html",
        "hub/README.html", "HELPERS.html", "data/README.html", "api/index.html",
        *(f"api/{name}.html" for name in MODULES)]  # fmt: skip
ASKED = ["search.html?q=temperature", "genindex.html"]
PATIENCE = 120_000  # milliseconds; on a busy machine a long notebook takes half a minute to draw
# MathJax waits for ever for a font that does not come
DRAWN = "() => Promise.race([window.MathJax?.startup?.promise, new Promise(end => setTimeout(end, 90_000))])"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SEARCHED = "#search-results .search-summary:is(:has-text('finished'), :has-text('did not match'))"
PARTS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The freshly made site: what was seen of its making, behind a fence where there is one."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed (apt install npm)")
    venv = f"VENV={sys.prefix}"
    target = ["make", "site", venv]
    # what is installed first may ask its registry
    needed = ["make", f"{sys.prefix}/.site", "build/site-npm/.ready", venv]
    subprocess.run(needed, cwd=ROOT, check=True, capture_output=True)
    if fence.missing():
        seen, done = None, subprocess.run(target, cwd=ROOT, capture_output=True, text=True)
    else:
        seen = fence.run(target, tmp_path_factory.mktemp("site"), cwd=ROOT, seconds=600)
        done = seen.result
    assert done.returncode == 0, done.stdout + done.stderr
    return seen


@pytest.fixture(scope="module")
def address(made):
    """Where it is served."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(bool(fence.missing()), reason=fence.missing() or "-")
def test_the_site_is_made_without_asking_anybody_and_stays_in_its_folder(made):
    assert made.asked == set()
    assert {path for path in made.elsewhere if not path.startswith(f"{ROOT / 'build'}/")} == set()
    assert fence.strange(made.home) | made.temporary == set()


class Visit:
    """A page in the browser, and all that it asked for and complained of."""

    def __init__(self, browser, address, name):
        self.name, self.own = name, urlsplit(address).netloc
        self.page = browser.new_page(viewport=WIDE)
        self.page.set_default_timeout(PATIENCE)
        self.page.set_default_navigation_timeout(PATIENCE)
        self.asked, self.complaints = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))
        self.page.on("response", lambda got: got.status == 200 or self.complaints.append(f"{got.status} {got.url}"))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed {request.url}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(f"{said.type} {said.text}"))
        self.page.goto(f"{address}/{name}")
        self.settle()

    def settle(self):
        """Wait until formulas are drawn and a search has ended."""
        self.page.wait_for_load_state("load")
        self.page.evaluate(DRAWN)
        if self.name.startswith("search"):
            self.page.wait_for_selector(SEARCHED)

    def resize(self, size):
        self.page.set_viewport_size(size)
        self.page.wait_for_timeout(300)  # MathJax and the theme hear of it a little later


@pytest.fixture(scope="module")
def visit(request, browser, address):
    visit = Visit(browser, address, request.param)
    yield visit
    visit.page.close()


every_page = pytest.mark.parametrize("visit", READ + ASKED, indirect=True, scope="module")
every_notebook = pytest.mark.parametrize("visit", NOTEBOOKS, indirect=True, scope="module")


# --- every page -------------------------------------------------------------------------------------------------------


@every_page
def test_every_request_is_answered_by_this_machine(visit):
    assert len(visit.asked) > 5, "requests are seen at all"
    assert {urlsplit(url).netloc for url in visit.asked if urlsplit(url).scheme != "data"} == {visit.own}
    assert visit.complaints == []


@every_page
def test_headings_nest(visit):
    levels = visit.page.evaluate(
        "() => [...document.querySelectorAll('article :is(h1, h2, h3, h4, h5, h6)')].map(found => +found.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), levels


@every_page
def test_pictures_are_there_and_described(visit):
    pictures = visit.page.evaluate(
        "() => [...document.images].map(image => [image.alt.trim(), image.complete && image.naturalWidth])"
    )
    assert not [alt for alt, width in pictures if not width]
    assert all(len(alt.split()) >= 3 for alt, _ in pictures)
    if visit.name in NOTEBOOKS:
        stored = NOTEBOOKS[visit.name].read_text(encoding="utf-8").count("<img ")
        assert len(pictures) == stored > 0


MATH = """() => [...document.querySelectorAll('.math')].map(source => ({
  drawn: source.querySelectorAll('mjx-container').length,
  spoken: source.querySelectorAll('mjx-assistive-mml math').length,
  wrong: source.querySelectorAll('mjx-merror, merror, mtext[mathcolor=red]').length, text: source.innerText}))"""


@every_page
def test_formulas_are_drawn(visit):
    formulas = visit.page.evaluate(MATH)
    if visit.name in NOTEBOOKS:
        assert len(formulas) == len(written_formulas(NOTEBOOKS[visit.name]))
    for formula in formulas:
        assert formula["drawn"] == formula["spoken"] == 1, formula["text"]
        assert formula["wrong"] == 0, formula["text"]


def written_formulas(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return re.findall(r"\$\$.+?\$\$|(?<![\\$])\$(?! ).+?(?<! )\$", text, flags=re.DOTALL)


SIDEWAYS = """() => [...document.querySelectorAll('article *, footer *, header *')].filter(part => {
  if (part.getBoundingClientRect().right <= document.documentElement.clientWidth + 1) return false;
  if (part.closest('mjx-assistive-mml')) return false;
  for (let outer = part; outer !== document.body; outer = outer.parentElement)
    if (getComputedStyle(outer).overflowX !== 'visible') return false;
  return true;
}).map(part => part.outerHTML.slice(0, 120))"""


@every_page
def test_the_page_does_not_scroll_sideways(visit):
    try:
        for width in (NARROW["width"], 768, 1024, WIDE["width"], 1330, 1600):
            visit.resize({"width": width, "height": 844})
            seen = visit.page.evaluate("() => [document.documentElement.scrollWidth, document.body.scrollWidth]")
            assert max(seen) <= width, f"{seen} at {width}"
            assert visit.page.evaluate(SIDEWAYS) == [], f"cut off at {width}"
    finally:
        visit.resize(WIDE)


@every_page
@pytest.mark.parametrize(("theme", "size"), [("light", WIDE), ("dark", WIDE), ("dark", NARROW)],
                         ids=["light", "dark", "narrow"])  # fmt: skip
def test_axe_finds_no_serious_barrier(visit, theme, size):
    try:
        visit.page.emulate_media(color_scheme=theme)
        visit.resize(size)
        if not visit.page.evaluate("() => 'axe' in window"):
            visit.page.add_script_tag(path=AXE)
        found = visit.page.evaluate("async () => await axe.run(document, {resultTypes: ['violations']})")
    finally:
        visit.page.emulate_media(color_scheme="light")
        visit.resize(WIDE)
    assert len(found["passes"]) >= 10, "axe has looked"
    grave = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    assert not grave, json.dumps([(rule["id"], rule["nodes"][0]["html"][:300]) for rule in grave])


# --- what stands on them ----------------------------------------------------------------------------------------------


@every_notebook
def test_stored_outputs_are_shown(visit):
    cells = [cell for cell in nbformat.read(NOTEBOOKS[visit.name], as_version=4).cells if cell.cell_type == "code"]
    page = visit.page
    assert page.locator("div.cell").count() == len(cells)
    printed = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert "\n".join(page.locator(".cell_output pre").all_inner_texts()).count("✔ ") == printed.count("✔ ") > 0
    asked = [cell for cell in cells if re.search(r"^ask\(", cell.source, re.M)]
    assert page.locator(".question:has(li + li):has-text('In the notebook')").count() == len(asked)
    silent = [cell.source for cell in cells if re.search(r"^explore_", cell.source, re.M) and not cell.outputs]
    assert page.locator(".cell_output p.live:not(.question p)").count() == len(silent)


def test_one_page_after_the_other(browser, address):
    page, order = browser.new_page(), []
    page.goto(f"{address}/{READ[0]}")
    while True:
        order.append(urlsplit(page.url).path[1:])
        following = page.locator("a.next-page")
        if not following.count():
            break
        before = page.url
        page.goto(following.evaluate("link => link.href"))
        assert page.locator("a.prev-page").evaluate("link => link.href") == before
    page.close()
    assert order == READ


def found(browser, address, words):
    """Paths of the pages that the search finds, best first, typed as a reader would."""
    page = browser.new_page()
    page.goto(f"{address}/TEACHING.html")
    page.locator("input[name=q]").fill(words)
    page.locator("input[name=q]").press("Enter")
    page.wait_for_selector(SEARCHED)
    links = page.locator("#search-results li > a").evaluate_all("links => links.map(link => link.href)")
    page.close()
    return [urlsplit(link).path[1:] for link in links]


@pytest.mark.parametrize(
    ("words", "page"),
    [("temperature", "notebooks/02_soft_targets_and_temperature.html"), ("lottery ticket", "notebooks/05_pruning.html"),
     ("Krishnamoorthi", "bibliography.html"), ("kd_loss", "api/losses.html"), ("温度", "glossary.html"),
     ("知识蒸馏", "glossary.html")],
)  # fmt: skip
def test_search_finds(browser, address, words, page):
    assert page in found(browser, address, words)[:5]


def test_search_finds_nothing_for_nonsense(browser, address):
    assert found(browser, address, "qwzzxv") == []


# --- the files --------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The anchors and links of a page, those of its own article, and what it takes in."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.parts, self.robots = {""}, [], [], []
        self.own, self.in_article = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.in_article |= tag == "article"
        self.anchors.add(given.get("id"))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
            self.own += [given["href"]] * self.in_article
        if tag in PARTS and given.get(PARTS[tag]):
            self.parts.append(given[PARTS[tag]])
        if tag == "meta" and given.get("name") == "robots":
            self.robots.append(given["content"])

    def handle_endtag(self, tag):
        self.in_article &= tag != "article"


@pytest.fixture(scope="module")
def pages(address):
    return {path.relative_to(SITE).as_posix(): Page(path.read_text(encoding="utf-8")) for path in SITE.rglob("*.html")}


def test_the_pages_are_those_looked_at(pages):
    assert set(pages) == {urlsplit(name).path for name in READ + ASKED}


def test_pages_take_in_nothing_from_outside(pages):
    for name, page in pages.items():
        assert not [part[:80] for part in page.parts if urlsplit(part).scheme not in ("", "data")], name
        assert not [part for part in page.parts if re.search(r"(require|widget|embed).*\.js", part)], name
        assert page.robots == [], "every page may be found"
    for sheet in SITE.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet


def test_links_between_pages_lead_somewhere(pages):
    count = 0
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert parts.scheme == "https", link
                continue
            target = os.path.normpath(os.path.join(os.path.dirname(name), parts.path)) if parts.path else name
            assert target in pages, f"{link} in {name}"
            assert unquote(parts.fragment) in pages[target].anchors, f"{link} in {name}"
            count += 1
    assert count > 500


def test_terms_lead_back_to_their_notebooks(pages):
    terms = json.loads((ROOT / "data" / "glossary.json").read_text(encoding="utf-8"))
    for name in NOTEBOOKS:
        introduced = [term for term in terms if name.removeprefix("notebooks/").startswith(term["introduced"])]
        assert pages["glossary.html"].own.count(name) == len(introduced), name


def test_references_lead_back_to_their_notebooks(pages):
    listed = pages["bibliography.html"].own
    for name, path in NOTEBOOKS.items():
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        section = "\n\n".join(cells).split("## Further reading\n")[1]
        numbers = re.findall(r"arXiv:(\d{4}\.\d{4,5})", section)
        assert {f"https://arxiv.org/abs/{number}" for number in numbers} <= set(listed), name
        assert listed.count(name) == len(re.findall(r"^- ", section, re.M)) > 0, name
