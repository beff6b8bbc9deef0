"""What a sentence or a formula rests on, and whether that is so."""

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode

from .claims import NUMBER, Claim, implies, number, printed_claims
from .words import NUMBERS, Formula, Sentence, flat, formulas, numbers, opposed, read, states

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("definition", "procedure", "question", "advice")
EVIDENCE = ("claim", "printed", "code", "cites", "arithmetic")
IGNORE = "nbval-ignore-output"
BEFORE, FOLLOWING = 3, 8  # cells in which a formula's code is looked for
SHORTEST = 6  # letters of a piece of code that can be told from others
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.Eq: operator.eq, ast.Lt: operator.lt, ast.Gt: operator.gt,
    ast.LtE: operator.le, ast.GtE: operator.ge,
}  # fmt: skip


class Page(NamedTuple):
    """A notebook as its reader has it: what it says, claims, shows and runs."""

    cells: list[NotebookNode]
    sentences: list[Sentence]
    formulas: list[Formula]
    claims: list[Claim]


def page(notebook: NotebookNode) -> Page:
    text = [(place, cell.source) for place, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"]
    return Page(notebook.cells, read(text), formulas(text), printed_claims(notebook.cells))


def compared(cell: NotebookNode) -> bool:
    return bool(cell.get("outputs")) and IGNORE not in cell.metadata.get("tags", [])


def shown(cell: NotebookNode) -> str:
    """The text that a code cell's stored outputs hold."""
    return "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def value(expression: str) -> Any:
    """The value of an expression of numbers; nothing else is evaluated."""

    def of(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as constant):
                return constant
            case ast.UnaryOp(op, operand):
                return OPERATORS[type(op)](of(operand))
            case ast.BinOp(left, op, right):
                return OPERATORS[type(op)](of(left), of(right))
            case ast.Compare(left, [op], [right]):
                a, b = of(left), of(right)
                return abs(a - b) <= 1e-9 * max(abs(a), abs(b)) if type(op) is ast.Eq else OPERATORS[type(op)](a, b)
        raise ValueError(f"no arithmetic: {expression}")

    return of(ast.parse(expression, mode="eval").body)


def evidences(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The pieces of evidence of an entry, whether it names one or several."""
    if "by" in entry:
        return list(entry["by"])
    return [entry] if any(name in entry for name in EVIDENCE) else []


def evidence_problem(it: dict[str, Any], here: Page, other: Callable[[str], Page]) -> str:
    """Why a piece of evidence does not hold; empty where it does."""
    where = other(it["notebook"]) if "notebook" in it else here
    if "claim" in it:
        found = [claim for claim in where.claims if claim.text == it["claim"]]
        if not found:
            return f"the notebook does not claim {it['claim']!r}"
        try:
            held = any(implies(claim.bound, it.get("means", "")) for claim in found)
        except ValueError as error:
            return str(error)
        return "" if held else f"{found[0].text!r} [{found[0].bound}] does not imply {it['means']!r}"
    if "printed" in it:
        outputs = (flat(shown(cell)) for cell in where.cells if cell.cell_type == "code" and compared(cell))
        held = bool(it["printed"].strip()) and any(flat(it["printed"]) in output for output in outputs)
        return "" if held else f"no compared output of the notebook holds {it['printed']!r}"
    if "code" in it:
        texts = [(ROOT / it["file"]).read_text(encoding="utf-8")] if "file" in it else _code(where)
        held = len(it["code"]) >= SHORTEST and any(flat(it["code"]) in flat(text) for text in texts)
        return "" if held else f"{it.get('file', 'no code cell')} does not hold {it['code']!r}, or it is too short"
    if "cites" in it:
        text = "\n".join(cell.source for cell in where.cells if cell.cell_type == "markdown")
        listed = flat(text.partition("Further reading")[2])
        return "" if it["cites"] and it["cites"] in listed else f"{it['cites']!r} is not among the further reading"
    try:
        return "" if value(it["arithmetic"]) is True else f"{it['arithmetic']} is false"
    except (ValueError, KeyError, SyntaxError) as error:
        return f"arithmetic takes one comparison of numbers: {error}"


def _code(where: Page) -> list[str]:
    return [cell.source for cell in where.cells if cell.cell_type == "code"]


def unseen_numbers(sentence: str, entry: dict[str, Any], here: Page, given: list[str]) -> list[str]:
    """The numbers of a sentence that none of its evidence holds."""
    sentence = _without(sentence, [*given, *entry.get("aside", [])])
    texts = [
        str(part) for it in evidences(entry) for name, part in it.items() if name not in ("says", "file", "notebook")
    ]
    named = {it["claim"] for it in evidences(entry) if "claim" in it}
    texts += [claim.bound for claim in here.claims if claim.text in named]
    held = {number(match) for text in texts for match in re.findall(NUMBER, text)}
    held |= {NUMBERS[word] for text in texts for word in re.findall(r"\w+", text.lower()) if word in NUMBERS}
    return [word for word, value in numbers(sentence) if not any(_same(value, other) for other in held)]


def _without(sentence: str, phrases: list[str]) -> str:
    for phrase in phrases:
        sentence = re.sub(rf"(?<![\w.,]){re.escape(phrase)}(?![\w]|\.\d)", " ", sentence)
    return sentence


def _same(value: float, other: float) -> bool:
    """Whether two numbers say the same, perhaps in percent, as what is left, or as a ratio the other way."""
    forms = [
        other,
        100 * other,
        other / 100,
        1 - other,
        100 - other,
        100 * (1 - other),
        *([1 / other] if other else []),
    ]
    return any(abs(abs(value) - abs(form)) <= 0.02 * abs(value) for form in forms)


def sentence_problems(here: Page, binding: dict[str, Any], other: Callable[[str], Page]) -> list[str]:
    """Sentences without evidence, evidence without a sentence, and evidence that does not hold."""
    entries = binding.get("sentence", [])
    said, says = Counter(flat(s.text) for s in here.sentences), Counter(entry["says"] for entry in entries)
    needs = {s.text: s.needs for s in here.sentences if s.needs}
    problems = [f"nothing is named that this rests on: {text!r}" for text in needs if text not in says]
    problems += [f"bound, but not said (word for word): {text!r}" for text in says if text not in said]
    problems += [
        f"bound {says[text]} times, said {said[text]} times: {text!r}" for text in says if 0 < said[text] != says[text]
    ]
    given = [entry["phrase"] for entry in binding.get("given", [])]
    for entry in [*entries, *binding.get("given", [])]:
        name = entry.get("says") or entry["phrase"]
        problems += [f"{why}: {name!r}" for why in _entry_problems(name, entry, here, other, given)]
    return problems


def _entry_problems(
    name: str, entry: dict[str, Any], here: Page, other: Callable[[str], Page], given: list[str]
) -> list[str]:
    if "was" in entry:
        return [f"altered since it was bound (it was {entry['was']!r}): re-read its evidence, then delete 'was'"]
    its = evidences(entry)
    if not its and "phrase" not in entry and entry.get("kind"):
        if entry["kind"] not in KINDS:
            return [f"kind is one of {', '.join(KINDS)}, not {entry['kind']!r}"]
        needs_why = states(name) and len(entry.get("why", "").split()) < 3
        return [f"a {entry['kind']} that compares needs a why, in three words or more"] if needs_why else []
    if not its:
        return [f"it needs one of {', '.join(EVIDENCE)}, or a kind"]
    problems = [why for it in its if (why := evidence_problem(it, here, other))]
    said = _without(name, entry.get("aside", []))
    against = [(it["claim"], words) for it in its if "claim" in it and (words := opposed(said, it["claim"]))]
    problems += [
        f"{words} point in different directions, here and in {text!r}; or aside = […]" for text, words in against
    ]
    unseen = [] if problems else unseen_numbers(name, entry, here, [] if "phrase" in entry else given)
    cited = all("cites" in it for it in its)
    return problems + (
        [f"{', '.join(unseen)}: no evidence has that number; add some, or aside = […]"] if unseen and not cited else []
    )


def formula_problems(here: Page, binding: dict[str, Any]) -> list[str]:
    """Formulas that nothing runs, and code that does not follow its formula or is held by nothing."""
    entries = {entry["latex"]: entry for entry in binding.get("formula", [])}
    places: dict[str, list[int]] = {}
    for formula in here.formulas:
        places.setdefault(formula.text, []).append(formula.cell)
    problems = [f"no code is named that runs the formula {text}" for text in places if text not in entries]
    problems += [f"bound, but not in the text: the formula {text}" for text in entries if text not in places]
    for text, entry in entries.items():
        found = [_formula_problem(entry, place, here) for place in places.get(text, [])]
        if found and all(found):
            problems.append(f"{found[0]}: the formula {text}")
    return problems


def _formula_problem(entry: dict[str, Any], place: int, here: Page) -> str:
    if "was" in entry:
        return f"altered since it was bound (it was {entry['was']}): re-read the code, then delete 'was'"
    if not entry.get("run"):
        enough = len(entry.get("why", "").split()) >= 3
        return "" if enough else "name the fragment of code that runs it (run), or say why none can (why)"
    near = range(max(0, place - BEFORE), min(len(here.cells), place + 1 + FOLLOWING))
    coded = [n for n in near if here.cells[n].cell_type == "code"]
    running = [n for n in coded if flat(entry["run"]) in flat(here.cells[n].source)]
    if not running or len(entry["run"]) < SHORTEST:
        return f"none of the {BEFORE} cells before and {FOLLOWING} behind holds {entry['run']!r}"
    if not any(compared(here.cells[n]) for n in coded if n - running[0] in range(3)):
        return "no claim and no compared output follows the code that runs it"
    return ""
