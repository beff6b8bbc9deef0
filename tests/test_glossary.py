"""One source of words: the glossary says what the notebooks' bold type introduces, and the other way round."""

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from kdcourse import data
from kdcourse.exercises import glossary

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = data.load_glossary()
PATHS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
# what stands in bold in every notebook, and introduces no word
STRUCTURE = (
    r"You will be able to|You need first:|Time:|Predict\.|Why\.|Symptom\.|Propose a cause\.",
    r"Exercise \d\d\.\d+ · .+",
    r'".+"',  # a statement that circulates
    r"\d\. .+\.",  # the ways to fool oneself with a stopwatch
)


def markdown(path):
    """The text of a notebook's markdown cells, up to the references."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return text.partition("\n## Further reading")[0]


def bold_phrases(text):
    """What stands between two pairs of asterisks, on one line, outside code."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "code", text, flags=re.DOTALL)
    return [" ".join(phrase.split()) for phrase in re.findall(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", prose, re.DOTALL)]


def names(entry):
    return [name.casefold() for name in (entry["term"], *entry["aliases"])]


def occurs(entry, text):
    forms = (r"\s+".join(map(re.escape, name.split())) for name in names(entry))
    return re.search(rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)", text, re.IGNORECASE)


TEXTS = {number: markdown(path) for number, path in PATHS.items()}
BOLD = {number: bold_phrases(text) for number, text in TEXTS.items()}
WORDS_IN_BOLD = {
    number: [phrase.rstrip(".").casefold() for phrase in phrases if not re.fullmatch("|".join(STRUCTURE), phrase)]
    for number, phrases in BOLD.items()
}
# known from school or from the code: never in bold, and counted from their first use
PRESUPPOSED = {"accuracy", "alpha", "learning rate"}
by_term = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["term"])


# --- the file ---------------------------------------------------------------------------------------------------------


@by_term
def test_an_entry_is_whole(entry):
    assert list(entry) == ["term", "chinese", "symbol", "definition", "introduced", "aliases"]
    assert re.search("[一-鿿]", entry["chinese"])
    assert re.fullmatch(r"(\$[^$]+\$)?", entry["symbol"])
    assert entry["introduced"] in PATHS
    assert re.fullmatch(r"[A-Z][^\n]+\.", entry["definition"])
    assert 25 <= len(entry["definition"]) <= 180
    assert not re.search(r"[*`<\[_]|  ", entry["definition"] + entry["term"] + entry["chinese"])
    assert entry["aliases"] == sorted(entry["aliases"], key=str.casefold)


def test_entries_are_sorted_and_no_name_means_two_things():
    terms = [entry["term"].casefold() for entry in ENTRIES]
    assert terms == sorted(terms)
    assert len(terms) >= 90
    counts = Counter(name for entry in ENTRIES for name in [*names(entry), *entry["chinese"].split(" / ")])
    assert [name for name, count in counts.items() if count > 1] == ["logit"]  # English in both languages
    assert len({entry["definition"] for entry in ENTRIES}) == len(ENTRIES)


def test_without_a_checkout_it_says_where_the_glossary_is(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "data_dir", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="checkout"):
        data.load_glossary()


# --- the notebooks ----------------------------------------------------------------------------------------------------


def test_bold_phrases_are_found_over_line_ends_and_not_in_code():
    text = "**Why.** A **soft\ntarget**, `T**2`, `b**c`, 2 ** 3 ** 4 and **KL**.\n\n```\nx**2 + y**2\n```\n\n**Last**"
    assert bold_phrases(text) == ["Why.", "soft target", "KL", "Last"]


def test_every_structural_pattern_is_in_use():
    phrases = [phrase for found in BOLD.values() for phrase in found]
    for pattern in [*STRUCTURE[0].split("|"), *STRUCTURE[1:]]:
        assert any(re.fullmatch(pattern, phrase) for phrase in phrases), pattern


@pytest.mark.parametrize("number", PATHS)
def test_bold_type_is_for_words_that_the_glossary_explains(number):
    known = {name: entry["term"] for entry in ENTRIES for name in names(entry)}
    assert not [phrase for phrase in WORDS_IN_BOLD[number] if phrase not in known]
    counts = Counter(known[phrase] for phrase in WORDS_IN_BOLD[number])
    assert not [term for term, count in counts.items() if count > 1]


@by_term
def test_a_word_is_introduced_where_the_glossary_says(entry):
    assert occurs(entry, TEXTS[entry["introduced"]])
    in_bold = [number for number, phrases in WORDS_IN_BOLD.items() if set(names(entry)) & set(phrases)]
    mentioned = [number for number, text in TEXTS.items() if occurs(entry, text)]
    assert bool(in_bold) != (entry["term"] in PRESUPPOSED)
    assert entry["introduced"] == (in_bold or mentioned)[0]


# --- what a learner sees ----------------------------------------------------------------------------------------------

TEMPERATURE = """\
temperature · 温度 · T · notebook 02
The number that logits are divided by before softmax. Above 1 it brings out small probabilities,
below 1 it hides them.

See also: temperature scaling.
"""


@pytest.mark.parametrize("word", ["temperature", "Temperature", " temperatures ", "温度"])
def test_a_word_is_explained_by_any_of_its_names(word, capsys):
    glossary(word)
    assert capsys.readouterr().out == TEMPERATURE


def test_one_of_several_chinese_names_is_enough(capsys):
    glossary("KL 散度")
    out = capsys.readouterr().out
    assert out.startswith("KL divergence · KL 散度 / 相对熵 · KL(p ‖ q) · notebook 03\n")
    assert out.endswith("\n\nSee also: forward KL, reverse KL.\n")


def test_a_part_finds_all_that_contain_it(capsys):
    glossary("temper")
    paragraphs = capsys.readouterr().out.split("\n\n")
    assert [text.split(" · ")[0] for text in paragraphs] == ["temperature", "temperature scaling"]


@pytest.mark.parametrize(
    ("word", "nearest"), [("quantisation", "quantization"), ("prunning", "pruning"), ("温读", "temperature")]
)
def test_an_unknown_word_names_the_three_nearest(word, nearest, capsys):
    glossary(word)
    out = capsys.readouterr().out
    assert out.startswith(f"The glossary has no {word!r}. The nearest: {nearest}, ")
    assert out.count(",") == 2


def test_an_empty_word_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        glossary(" ")


@pytest.fixture
def table(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append((bundle, raw)))
    glossary()
    ((bundle, raw),) = shown
    assert raw
    assert set(bundle) == {"text/html", "text/plain"}
    return ElementTree.fromstring(bundle["text/html"])


def test_the_whole_table_is_folded_and_can_be_heard(table):
    assert [element.tag for element in (table, *table)] == ["details", "summary", "table"]
    assert [element.tag for element in table[1]] == ["caption", "thead", "tbody"]
    assert table[1][0].text
    head, body = table[1][1:]
    assert [cell.get("scope") for cell in head[0]] == ["col"] * 5
    assert {row[0].get("scope") for row in body} == {"row"}
    assert {row[1].get("lang") for row in body} == {"zh-Hans"}
    assert {cell.get("style") for row in (*head, *body) for cell in row} == {"text-align: left"}


def test_the_whole_table_holds_every_entry_and_no_mathematics_to_set(table):
    texts = [[cell.text or "" for cell in row] for row in table[1][2]]
    assert [[*row[:2], *row[3:]] for row in texts] == [
        [entry[key] for key in ("term", "chinese", "definition", "introduced")] for entry in ENTRIES
    ]
    assert {bool(row[2]) == bool(entry["symbol"]) for row, entry in zip(texts, ENTRIES, strict=True)} == {True}
    assert not re.search(r"[\\${}]", "".join(row[2] for row in texts))


def test_the_characters_of_html_are_escaped(monkeypatch, capsys):
    entry = {**ENTRIES[0], "term": "a < b", "chinese": "甲 & 乙", "definition": "Less <b>than</b>."}
    monkeypatch.setattr("kdcourse.exercises.engine.showing.load_glossary", lambda: [entry])
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle["text/html"]))
    glossary()
    row = ElementTree.fromstring(shown[0])[1][2][0]
    assert [row[place].text for place in (0, 1, 3)] == ["a < b", "甲 & 乙", "Less <b>than</b>."]
