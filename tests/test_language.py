"""Plain contemporary English with the field's words: phrases that need no human eye to be found wanting.

CONTRIBUTING.md, "Words", has the vocabulary. What needs an eye (is "hold", "lie" or "stand" the word?) is not here.
"""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

from kdcourse.data import load_glossary
from kdcourse.exercises import exercises, questions

ROOT = Path(__file__).resolve().parent.parent
UNIT = "weight|channel|class|filter|layer|image|seed|epoch|row|batch|byte|bit|second|pixel|example|student|arm|run"
COUNTED = (
    r"one|bits?|bytes?|ms|milliseconds|(?<!each )(?<!every )times?|numbers?|values?|MACs|scales?|entr(?:y|ies)|accuracy"
    r"|line|point|epochs?"
)
KEPT = "longer|more|less|better|worse|larger|smaller|faster|slower|reason|need|guarantee|exception"
INSTEAD = {
    r"whole[- ]numbers?": "integer",
    r"without real(?: number)?s": "without floating-point hardware",
    r"draw(?:s|n|ing)? lots|by lot\b": "random, at random",
    r"train(?:s|ed|ing)? (?:it )?through (?:it|the rounding)": "quantization-aware training",
    r"as it comes": "post-training quantization",
    r"(?:network|student)s? taught|taught (?:by|network|student)": "distilled",
    r"names? (?:a|the) class|names the (?:right|wrong)": "predicts",
    r"right ones|rightly|share right": "correct, correctly",
    r"(?:too|so|quite|more|less|not) sure\b|unsure|surer|surest": "confident",
    r"shares? of(?! (?:the )?(?:memory|loss)\b)": "fraction of",
    r"mend(?:s|ed|ing)?": "fix",
    r"little by little": "gradually",
    r"in turns": "interleaved",
    r"kept logits": "cached teacher logits",
    r"hasty": "undertrained",
    r"honest(?:ly)? controls?": "matched-budget baseline",
    r"channel ties": "coupled channels",
    rf"(?:{COUNTED}) an? (?:{UNIT})": "per",
    r"circulat(?:e|es|ed|ing)": "is widely repeated, a common …",
    r"anew": "again",
    r"(?<!no two )alike": "similar, equally",
    r"what becomes of": "what happens to",
    r"held? (?:it |them )?against|holds? [^.:;]{1,40} against": "compare with",
    r"all the same(?=[.,;:!)]|$)": "anyway, still",
    r"tells? all|amiss|touchy|lumpy|gives? away nothing": "say it plainly",
    rf"(?<!there )(?<!there's )is no(?! (?:{KEPT})\b)(?= [a-z])": "is not a",
    r"(?<!this |that |each )(?<!the |any )one (?:hopes|ships|wants|needs to|may)\b": "you, we",
}  # fmt: skip
BANNED = {re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.I | re.M): better for pattern, better in INSTEAD.items()}


def found(text):
    """The banned phrases of a text, each with its surroundings and the better word; code and links are left out."""
    prose = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|https?://\S+", "…", text, flags=re.DOTALL)
    prose = re.sub(r"\s+", " ", prose)
    return [
        f"… {prose[max(0, match.start() - 40) : match.end() + 20]} … ({better})"
        for pattern, better in BANNED.items()
        for match in pattern.finditer(prose)
    ]


def of_notebook(path):
    """The text, the claims, the titles and the alt texts: every string of a code cell that is more than a name."""
    cells = nbformat.read(path, as_version=4).cells
    for cell in cells:
        if cell.cell_type == "markdown":
            yield cell.source.partition("\n## Further reading")[0]
        else:
            yield from strings(cell.source)


def arms():
    """What stored results are found by: it stays, and a figure gives it another label."""
    for path in (ROOT / "data" / "results").glob("*.json"):
        yield from (record["arm"] for record in json.loads(path.read_text("utf-8"))["records"] if "arm" in record)


KEYS = set(arms())


def strings(source):
    """Strings of more than one word in a program, docstrings among them; a file that a cell writes is a program."""
    source = source.partition("\n")[2] if source.startswith("%%writefile") else source
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield from [node.value] if node.value not in KEYS else []


def of_exercises(number):
    for exercise in exercises.values():
        if exercise.notebook == number:
            yield from (
                exercise.title,
                exercise.question,
                exercise.skeleton,
                *exercise.hints,
                exercise.shows,
                exercise.derivation,
            )
            yield from (part for wrong in exercise.misconceptions for part in (wrong.name, wrong.diagnosis))
    for question in questions.values():
        if question.id.startswith(number):
            yield from (question.text, *(part for choice in question.choices for part in (choice.text, choice.why)))


def of_package(folder):
    """Docstrings and messages of a folder's modules; an exercise's own words are tested with its notebook."""
    for path in sorted(folder.glob("*.py")):
        yield from strings(path.read_text(encoding="utf-8"))


NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
TEXTS = {
    **{f"notebook {n}": lambda n=n: of_notebook(NOTEBOOKS[n]) for n in NOTEBOOKS},
    **{f"exercises {n}": lambda n=n: of_exercises(n) for n in NOTEBOOKS},
    "glossary": lambda: (entry["definition"] for entry in load_glossary()),
    **{
        str(path.relative_to(ROOT)): lambda path=path: [path.read_text(encoding="utf-8").partition("\n## Words")[0]]
        for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "data").rglob("*.md"))]
    },
    **{
        str(folder.relative_to(ROOT)): lambda folder=folder: of_package(folder)
        for folder in [ROOT / "kdcourse", *sorted(path for path in (ROOT / "kdcourse").rglob("*") if path.is_dir())]
        if list(folder.glob("*.py")) and "notebook_" not in folder.name
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_no_banned_phrase(name):
    hits = [hit for text in TEXTS[name]() for hit in found(text)]
    assert not hits, "\n".join(hits)


def test_a_banned_phrase_is_found_in_any_text_and_not_in_code():
    assert len(found("It is no law that one number a class, drawn by\nlot, tells all.")) == 4
    assert not found("There is no other; `mend(x)` is no longer [here](taught.md).")
