"""The file that binds a notebook's text, ``tests/bindings/notebook_NN.toml``: reading, renewing and writing it."""

import hashlib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from kdcourse._base.files import write_whole

from .claims import Claim, carried, claim_problems, implies, interval, rounded, within
from .evidence import EVIDENCE, IGNORE, ROOT, Page, evidences, formula_problems, page, sentence_problems
from .pictures import picture_problems
from .words import DISPLAYED, blocks, flat, split

FOLDER = ROOT / "tests" / "bindings"
Binding = dict[str, Any]


def notebook_path(number: str) -> Path:
    return next((ROOT / "notebooks").glob(f"{number}_*.ipynb"))


def binding_path(number: str) -> Path:
    return FOLDER / f"notebook_{number}.toml"


@cache
def other_page(number: str) -> Page:
    """A notebook as stored, for evidence that stands in another one."""
    return page(nbformat.read(notebook_path(number), as_version=4))


def load(number: str) -> Binding:
    path = binding_path(number)
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def units(cell: NotebookNode) -> Iterator[str]:
    """What there is to read in a cell, piece by piece: sentences, displayed formulas, code, figures."""
    if cell.cell_type == "code":
        yield cell.source  # what the text tells of, and what a claim is made of
        for output in cell.outputs:
            data = output.get("data", {})
            yield from re.findall(r'data-drawn="[^"]*"', data.get("text/html", ""))  # what the alt text tells
            if data.get("text/plain", "").startswith("Figure: "):
                yield from split(flat(data["text/plain"]))
    else:
        for block in blocks(cell.source):
            yield from split(block)
        yield from map(flat, DISPLAYED.findall(cell.source))
        yield from re.findall(r"^```.*?^```", cell.source, flags=re.S | re.M)


def read_lines(notebook: NotebookNode) -> list[str]:
    """A line of digests for each cell with something to read."""
    return [" ".join(map(digest, found)) for cell in notebook.cells if (found := list(units(cell)))]


def unread(notebook: NotebookNode, binding: Binding) -> list[str]:
    """What has been altered, added, removed or moved since somebody last read the notebook against its bindings."""
    now = [unit for cell in notebook.cells for unit in units(cell)]
    was, is_ = " ".join(binding.get("read", [])).split(), list(map(digest, now))
    problems = []
    for kind, a, b, c, d in SequenceMatcher(None, was, is_, autojunk=False).get_opcodes():
        if kind != "equal":
            problems += [f"not read since it was altered: {unit!r}" for unit in now[c:d]]
        if kind == "delete":
            before = f"behind {now[c - 1]!r}" if c else "at the beginning"
            problems.append(f"{b - a} sentences were removed {before}")
    return problems


def ignored(notebook: NotebookNode) -> list[str]:
    """A digest for each output that nbval does not compare."""
    return [
        digest(json.dumps(cell.outputs, sort_keys=True))
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.outputs and IGNORE in cell.metadata.get("tags", [])
    ]


def ignored_problems(notebook: NotebookNode, binding: Binding) -> list[str]:
    if ignored(notebook) == binding.get("ignored", []):
        return []
    return ["an output that nbval does not compare is not the one that was stored: run .ci/execute.py on the notebook"]


def hidden_problems(notebook: NotebookNode) -> list[str]:
    """Tags and comments by which a cell is skipped, may raise or is not compared without anyone noticing."""
    tags = {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])} - {IGNORE}
    problems = [f"the tag {tag!r} is not allowed: {IGNORE!r} is the only one" for tag in sorted(tags)]
    return problems + [
        f"'NBVAL_' in the cell {cell.id}: use the tag" for cell in notebook.cells if "NBVAL_" in cell.source
    ]


def problems(notebook: NotebookNode, binding: Binding) -> list[str]:
    """Everything in which a notebook and its bindings disagree, but for what has not been read again."""
    here = page(notebook)
    return [
        *hidden_problems(notebook),
        *claim_problems(here.claims, binding.get("claim", [])),
        *sentence_problems(here, binding, other_page),
        *formula_problems(here, binding),
    ]


def all_problems(notebook: NotebookNode, binding: Binding) -> list[str]:
    return [
        *problems(notebook, binding),
        *unread(notebook, binding),
        *ignored_problems(notebook, binding),
        *picture_problems(notebook),
    ]


def counted(number: str) -> str:
    """How many sentences rest on what, in words."""
    entries = load(number).get("sentence", [])
    by = Counter(name for entry in entries for name in EVIDENCE if any(name in it for it in evidences(entry)[:1]))
    held = ", ".join(f"{by[name]} by {name}" for name in EVIDENCE if by[name])
    no_result = sum("kind" in entry for entry in entries)
    return f"{len(entries)} sentences: {held or 'none held'}; {no_result} state no result"


# --- renewing ---------------------------------------------------------------------------------------------------------


def renewed(notebook: NotebookNode, binding: Binding, measured: list[dict[str, Any]]) -> Binding:
    """The binding with claims, sentences and formulas as they stand now; what is missing is left to be filled in."""
    here = page(notebook)
    claims = carried(binding.get("claim", []), here.claims)
    texts = {claim.text for claim in here.claims}
    known = carried([value for value in measured if value["text"] in texts], here.claims)
    for entry, found in zip(claims, known, strict=True):
        _measure(entry, found.get("value"))
    said = {sentence.text: sentence.needs for sentence in here.sentences}
    needs = [text for text, what in said.items() if what]
    latex = [formula.text for formula in here.formulas]
    return {
        **binding,
        "claim": claims,
        "sentence": _renewed("says", binding.get("sentence", []), list(said), needs),
        "formula": _renewed("latex", binding.get("formula", []), latex, latex),
    }


def _measure(entry: dict[str, Any], value: Any) -> None:
    """Keep what was measured unless it is new, or another value by more than noise; nothing that misses the bound."""
    bound, old = entry["bound"], entry.pop("measured", None)
    low, high = interval(bound) or (0, 0)
    if low == high:
        return
    kept = old is not None and within(bound, old)
    found = isinstance(value, (int, float)) and within(bound, value)
    if found and not (kept and abs(old - value) <= 0.3 * abs(old)):
        entry["measured"] = rounded(value, bound)
    elif kept:
        entry["measured"] = old


def _renewed(name: str, entries: list[Binding], there: list[str], needed: list[str]) -> list[Binding]:
    """Entries in the order of the text: those of altered sentences go on, marked with what they were."""
    kept = [entry for entry in entries if entry[name] in there]
    lost = {entry[name]: entry for entry in entries if entry[name] not in there}
    for text in needed:
        if not any(entry[name] == text for entry in kept):
            near = get_close_matches(text, lost, n=1, cutoff=0.55)
            entry = {**lost.pop(near[0]), name: text, "was": near[0]} if near else {name: text}
            kept.append(entry)
    return sorted(kept, key=lambda entry: there.index(entry[name]))


def values(file: Path) -> list[dict[str, Any]]:
    """What `kdcourse.claims.claim` has recorded in a file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def remember(path: Path, measured: list[dict[str, Any]]) -> None:
    """After a run that was stored: what the claims measured, and the outputs that nbval does not compare."""
    number = path.name[:2]
    if path.resolve().parent == ROOT / "notebooks" and binding_path(number).is_file():
        notebook = nbformat.read(path, as_version=4)
        binding = renewed(notebook, load(number), measured)
        store(number, notebook, {**binding, "ignored": ignored(notebook)})


def store(number: str, notebook: NotebookNode, binding: Binding) -> None:
    binding_path(number).parent.mkdir(exist_ok=True)
    write_whole(binding_path(number), written(number, binding, hints(page(notebook), binding)))


# --- writing ----------------------------------------------------------------------------------------------------------

HEAD = '# What notebook {} says and what holds it; CONTRIBUTING.md, "Bind what you say". Written by .ci/bind.py.\n'


def quoted(value: Any) -> str:
    """A value as TOML writes it; a text with backslashes or quotes in single quotes."""
    if isinstance(value, str):
        plain = "'" not in value and "\n" not in value and ("\\" in value or '"' in value)
        return f"'{value}'" if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        if any(isinstance(part, dict) for part in value):
            return "[\n" + "".join(f"  {quoted(part)},\n" for part in value) + "]"
        return "[" + ", ".join(map(quoted, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {quoted(part)}" for name, part in value.items()) + " }"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def written(number: str, binding: Binding, hints: dict[str, list[str]]) -> str:
    """The file's text; ``hints`` are lines of comment for entries that are not filled in."""
    parts = [HEAD.format(number)]
    for table in ("given", "claim", "sentence", "formula"):
        for entry in binding.get(table, []):
            lines = [f"[[{table}]]", *(f"{name} = {quoted(value)}" for name, value in entry.items())]
            first = next(iter(entry.values()))
            parts.append("\n".join([*lines, *(f"# {hint}" for hint in hints.get(first, []))]) + "\n")
    for name in ("read", "ignored"):
        parts.insert(1, f"{name} = [\n" + "".join(f'  "{line}",\n' for line in binding.get(name, [])) + "]\n")
    return "\n".join(parts)


def hints(here: Page, binding: Binding) -> dict[str, list[str]]:
    """For each entry that is not filled in, the claims near by as evidence ready to take, the likeliest first."""
    found = {}
    for entry in binding.get("sentence", []):
        if set(entry) == {"says"}:
            cell = next(s.cell for s in here.sentences if s.text == entry["says"])
            near = sorted(
                (claim for claim in here.claims if abs(claim.cell - cell) <= 6),
                key=lambda c: _likeness(entry["says"], c),
            )
            found[entry["says"]] = [
                f"claim = {quoted(c.text)}\n# means = {quoted(relation(c.bound))}" for c in near[:3]
            ] or ['kind = ""']
    for entry in binding.get("formula", []):
        if set(entry) == {"latex"}:
            found[entry["latex"]] = ['run = ""']
    return found


def _likeness(sentence: str, claim: Claim) -> int:
    words = set(re.findall(r"\w+", sentence.lower()))
    return -len(words & set(re.findall(r"\w+", claim.text.lower())))


def relation(bound: str) -> str:
    """A printed bound as a relation that `implies` reads."""
    allowed = interval(bound)
    if allowed is None:
        return bound.removeprefix("exactly ")
    low, high = allowed
    if high - low <= 2e-3 and implies(bound, f"= {(low + high) / 2:.10g}"):
        return f"= {(low + high) / 2:.10g}"
    return (
        f"<= {high:g}"
        if low == float("-inf")
        else f">= {low:g}"
        if high == float("inf")
        else f"{low:.6g} to {high:.6g}"
    )
