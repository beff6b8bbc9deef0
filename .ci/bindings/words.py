"""The sentences and formulas of a notebook's text, and which of them state a result."""

import re
from collections.abc import Iterator
from typing import NamedTuple

NUMBERS = {
    "zero": 0, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "fifteen": 15, "sixteen": 16, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "hundred": 100, "thousand": 1000, "million": 1e6, "dozen": 12, "half": 0.5, "halves": 0.5, "third": 1 / 3,
    "quarter": 0.25, "fifth": 0.2, "sixth": 1 / 6, "eighth": 0.125, "tenth": 0.1, "twelfth": 1 / 12,
    "twentieth": 0.05, "hundredth": 0.01, "twice": 2, "double": 2, "doubles": 2, "triple": 3,
}  # fmt: skip

# what compares, and what says that something wins, costs or is so without exception
STRONG = r"""
    \w+er\ than | better | worse | higher | lower | larger | smaller | bigger | faster | slower | quicker | stronger
    | weaker | greater | nearer | closer | longer | shorter | wider | narrower | cheaper | more | less | fewer |
    most | least | best | worst | highest | lowest | largest | smallest | biggest | fastest | slowest | quickest |
    strongest | weakest | nearest | closest | beats? | beaten | wins? | won | loses? | lost | gains? | gained |
    costs? | helps? | helped | hurts? | pays? | saves? | saved | improves? | improved | exceeds? | outperforms? |
    doubles? | halves | falls? | fell | rises? | rose | drops? | dropped | grows? | grew | shrinks? | shrank |
    survives? | ahead | worthless | useless | free | enough | hardly | nearly | almost | barely |
    far\ (?:above|below|from) | no\ (?:gain|loss|better|worse|more|less|longer|difference|effect|telling)
"""
# words that count, or speak of all cases
WEAK = r"""
    all | every | none | never | always | nothing | everything | nobody | neither | both | many | few | several |
    some\ of
"""

# words of direction: a sentence with one of the first is not held by a claim with one of the second
OPPOSITES = [
    (r"more", r"less|fewer"),
    (r"better|best", r"worse|worst"),
    (r"higher|highest|above", r"lower|lowest|below"),
    (r"larger|largest|bigger|greater", r"smaller|smallest"),
    (r"faster|fastest|quicker", r"slower|slowest"),
    (r"beats?|wins?|won|gains?|gained|ahead", r"loses?|lost|costs?|behind"),
    (r"rises?|rose|grows?|grew", r"falls?|fell|shrinks?|shrank|drops?|dropped"),
    (r"overconfident", r"underconfident"),
    (r"always", r"never"),
]

WORD = r"(?<![\w-])(?:{})(?![\w-])"
STATES = re.compile(WORD.format(STRONG), re.I | re.X)
COUNTS = re.compile(WORD.format(WEAK + " | " + " | ".join(NUMBERS)), re.I | re.X)
NUMERAL = re.compile(r"(?<![\w.,:^-])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?(?![\w:]|\.\d)")

ABBREVIATION = re.compile(r"(?:^\W*\d+\.|\b(?:et al|e\.g|i\.e|cf|vs|Fig|Eq|Sec|approx|resp|[A-Z])\.)$")
SENTENCE_END = re.compile(r"(?<=[.!?])([\"'”’)*_\]]*)\s+(?=[\"'“‘(*_\[$`>A-Z\d✔–-])")
BLOCK = re.compile(r"^(?:[-*+]|\d+\.|#+|>)\s")
DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.S)
INLINE = re.compile(r"(?<!\$)\$(?!\$)((?:[^$\\]|\\.)+?)\$(?!\$)", re.S)
RELATION = re.compile(r"=|<|>|\\(?:le|ge|leq|geq|ll|gg|approx|propto|to|sim|neq|ne|equiv|in|mapsto)\b(?![a-z])")
# a letter and its value: a setting, which the numbers of the sentence hold
SETTING = re.compile(
    r"[\\\w{}']+\s*(?:=|<|>|\\(?:le|ge|leq|geq|to|approx|in|gg|ll)\b)\s*[-\d.,/ ]*\d\s*|[\\\w]+\s*\\to\s*(?:\\infty|0)"
)
# what stands at the head of a notebook, and what a learner is asked
NO_RESULT = re.compile(
    r"#|\|.*(?:\.ipynb|\*\*\d\d · )|\*\*(?:You will be able to|You need first|Time:|Predict\.\*\*|Propose a cause)"
)
ORDERS = re.compile(
    r"""
    Write | Return | Raise | Leave | Run | Move | Try | Sort | Drop | Double | Take | Fill | Look | Compare |
    Prune | Train | Measure | Choose | Change | Open | Read | Add | Give | Let | Set | Use | Find | Say | Guess |
    Draw | Count | Keep | Show | Plot | Print | Repeat | Solve | Mark | Note | See
    """,
    re.X,
)


class Formula(NamedTuple):
    """A formula, and the index of the cell it stands in."""

    cell: int
    text: str


class Sentence(NamedTuple):
    """A sentence, its cell, and what it needs: evidence or a kind and "why"; evidence or a "kind"; or nothing."""

    cell: int
    text: str
    needs: str


def flat(text: str) -> str:
    return " ".join(text.split())


def blocks(source: str) -> Iterator[str]:
    """Paragraphs, list items, headings and rows of tables of a markdown cell, each on one line."""
    source = re.sub(r"^```.*?^```", "", source, flags=re.S | re.M)
    source = re.sub(r"<!--.*?-->", "", source, flags=re.S)
    source = DISPLAYED.sub("$$…$$", source)
    lines: list[str] = []
    for line in [*source.splitlines(), ""]:
        line = line.strip()
        quoted = line.startswith(">")
        line = line.lstrip("> ") if quoted else line
        if lines and (not line or line.startswith(("|", "<")) or BLOCK.match(line)):
            yield flat(" ".join(lines))
            lines = []
        if line and not re.fullmatch(r"[|:\s-]+", line):
            lines.append(line)
            if line.startswith("|") or re.match(r"#+ ", line):
                yield flat(line)
                lines = []


def split(block: str) -> Iterator[str]:
    """The sentences of a block."""
    start = 0
    for match in SENTENCE_END.finditer(block):
        if not ABBREVIATION.search(block[: match.start()]):
            yield block[start : match.end(1)]
            start = match.end()
    if block[start:]:
        yield block[start:]


def formulas(cells: list[tuple[int, str]]) -> list[Formula]:
    """The displayed formulas, and those within a line that relate two sides."""
    found = []
    for cell, source in cells:
        source = source.partition("**Exercise ")[0]  # the check of an exercise holds its formulas
        source = re.sub(r"^```.*?^```|`[^`\n]*`|^> ?", "", source, flags=re.S | re.M)
        shown = [flat(match) for match in DISPLAYED.findall(source)]
        within = [flat(match) for match in INLINE.findall(DISPLAYED.sub(" ", source))]
        found += [Formula(cell, text) for text in shown]
        found += [Formula(cell, text) for text in within if RELATION.search(text) and not SETTING.fullmatch(text)]
    return found


def plain(sentence: str) -> str:
    """A sentence without code, formulas, links' targets, papers and years, whose numbers say nothing of the course."""
    sentence = re.sub(r"`[^`]*`", "", sentence)
    sentence = re.sub(r"\$\$…\$\$", "", sentence)
    sentence = re.sub(r"\$([^$]*)\$", lambda m: m[1] if SETTING.fullmatch(m[1]) else "", sentence)
    sentence = re.sub(r"\[([^\]]*)\]\([^)]*\)", lambda m: re.sub(r"\d\d( · [^\]]*)?", "", m[1]), sentence)
    sentence = re.sub(
        r"\b(?:[Nn]otebooks?|[Ee]xercises?|[Cc]hapters?) \d\d(?:\.\d+)?(?:(?:,| and| to) \d\d\b)*", "", sentence
    )
    sentence = re.sub(r"arXiv:\S+|https?://\S+|\b(?:19|20)\d\d\b(?! (?:images|errors|test))", "", sentence)
    return flat(sentence)


def numbers(sentence: str) -> list[tuple[str, float]]:
    """The numbers of a sentence, as written and as values."""
    text = re.sub(r"^(?:[-*+]|\d+\.)\s", "", plain(sentence))
    found = [(match, float(match.replace(",", "").replace("−", "-"))) for match in NUMERAL.findall(text)]
    words = re.findall(WORD.format("|".join(NUMBERS)), text, re.I)
    return found + [(word, NUMBERS[word.lower()]) for word in words]


def no_result(block: str, sentence: str) -> bool:
    """Whether a sentence only heads, asks, orders, quotes or lists what the course is about."""
    return bool(
        NO_RESULT.match(block)
        or sentence.strip("*_> \"'”)").endswith("?")
        or re.fullmatch(r"\*\*\d+\. [^*]+\*\*", sentence)
        or re.fullmatch(r'\W*["“][^"”]*["”]\W*', sentence)
        or ORDERS.fullmatch(sentence.split()[0].strip("*_>("))
        and not states(sentence)
    )


def states(sentence: str) -> bool:
    """Whether a sentence compares, or says that something wins, costs or is so without exception."""
    return bool(STATES.search(plain(sentence)))


def counts(sentence: str) -> bool:
    """Whether a sentence names a number or speaks of all cases."""
    return bool(COUNTS.search(plain(sentence))) or bool(numbers(sentence))


def read(cells: list[tuple[int, str]]) -> list[Sentence]:
    """All sentences of the markdown cells, given with their indices; an exercise runs to the end of its cell."""
    found, listed = [], False
    for cell, source in cells:
        exercise = False
        for block in blocks(source):
            listed |= bool(re.match(r"#+ Further reading", block))
            exercise |= block.startswith("**Exercise ")
            for text in split(block):
                skipped = listed or exercise or no_result(block, text)
                needs = "" if skipped else "why" if states(text) else "kind" if counts(text) else ""
                found.append(Sentence(cell, text, needs))
    return found


def opposed(sentence: str, claim: str) -> str:
    """The words of direction in which a sentence and the claim that is to hold it differ; empty where they agree."""
    claim = re.sub(r"\b(?:lower|upper) end", "", claim, flags=re.I)
    for pair in OPPOSITES:
        said, claimed = (
            [bool(re.search(WORD.format(side), text, re.I)) for side in pair] for text in (sentence, claim)
        )
        if sum(said) == sum(claimed) == 1 and said != claimed:
            words = [re.search(WORD.format("|".join(pair)), text, re.I) for text in (sentence, claim)]
            return " and ".join(repr(word[0]) for word in words if word)
    return ""
