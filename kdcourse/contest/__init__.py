"""The capstone's judge: a file runs in a process of its own, and is ranked by what its intervals are sure of."""

from .judging import Entry, judge
from .sets import Digits, keyed_digits

__all__ = ["Digits", "Entry", "judge", "keyed_digits"]
