"""Where a user keeps files, and what a user's console can show: neither need be as on the author's machine."""

import errno
import os
import sys
import unicodedata
from pathlib import Path

ASCII = {
    "✔": "[ok]", "✘": "[x]", "–": "-", "—": "-", "−": "-", "→": "->", "≥": ">=", "≤": "<=", "≠": "!=", "≈": "~",
    "±": "+-", "×": "x", "·": "*", "…": "...", "√": "sqrt", "Σ": "sum", "∂": "d", "∞": "inf", "²": "^2", "³": "^3",
    "‖": "||", "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "eps", "μ": "mu", "σ": "sigma", "τ": "tau",
    "’": "'", "“": '"', "”": '"',
}  # fmt: skip


def named_by(variable: str) -> Path | None:
    """The path in an environment variable, with ``~`` expanded; None where it is not set or empty.

    Raises ``FileNotFoundError`` where ``~`` names nobody's home.
    """
    chosen = os.environ.get(variable)
    try:
        return Path(chosen).expanduser() if chosen else None
    except RuntimeError:
        raise no_home(f"{variable} is {chosen}, and there is no such home") from None


def no_home(sentence: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, sentence)


def say(text: str) -> None:
    """Print, in ASCII what the console cannot show: Windows, and programs that read along, may know few letters."""
    print(fitting(text, getattr(sys.stdout, "encoding", None) or "utf-8"))


def fitting(text: str, encoding: str) -> str:
    """``text`` with what ``encoding`` lacks put in other words.

    >>> print(fitting("✔ 3 × 2 ≥ 5", "ascii"))
    [ok] 3 x 2 >= 5
    """
    return "".join(letter if _fits(letter, encoding) else _plainer(letter, encoding) for letter in text)


def _plainer(letter: str, encoding: str) -> str:
    simple = ASCII.get(letter) or "".join(part for part in unicodedata.normalize("NFKD", letter) if part.isascii())
    return simple if simple and _fits(simple, encoding) else "?"


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
