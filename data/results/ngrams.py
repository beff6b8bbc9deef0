"""A teacher that only counts: the next character from the last few, and from fewer where those are rare."""

import math

import numpy as np
import torch
from torch import Tensor


class NGrams:
    """p(c | h) = (count(h c) + d(h) · p(c | h without its first)) / (count(h) + d(h)), d(h) different followers of h.

    The shortest context is empty, and falls back on all characters as equally likely. Source: Witten, Bell 1991,
    doi:10.1109/18.87000, interpolated.
    """

    def __init__(self, tokens: Tensor, *, vocabulary: int, order: int) -> None:
        self.vocabulary, self.order = vocabulary, order
        self.tables = [self._table(tokens.numpy(), length) for length in range(order + 1)]

    def _table(self, tokens: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Contexts of ``length`` characters as integers, sorted, and how frequently each character follows them."""
        codes = self._codes(tokens[None, :-1] if length else tokens[None], length)[0]
        followers = tokens[length:]
        known, places = np.unique(codes[: len(followers)], return_inverse=True)
        counts = np.bincount(places * self.vocabulary + followers, minlength=len(known) * self.vocabulary)
        return known, counts.reshape(len(known), self.vocabulary).astype(np.float32)

    def _codes(self, tokens: np.ndarray, length: int) -> np.ndarray:
        """(N, L - length + 1), or (N, L) zeros for no context: the last ``length`` characters as one integer."""
        if length == 0:
            return np.zeros(tokens.shape, dtype=np.int64)
        last = tokens.shape[1] - length + 1
        return sum(
            tokens[:, i : i + last].astype(np.int64) * self.vocabulary ** (length - 1 - i) for i in range(length)
        )

    def unigram(self) -> Tensor:
        """How frequent each character is, (V,); one that does not occur counts once."""
        counts = torch.from_numpy(self.tables[0][1][0]).clamp_min(1)
        return counts / counts.sum()

    def log_probs(self, read: Tensor) -> Tensor:
        """log p(next) after each of ``read`` (N, L), from no more than these: (N, L, V)."""
        tokens = read.numpy()
        found = np.full((*tokens.shape, self.vocabulary), 1 / self.vocabulary, dtype=np.float32)
        for length, (known, counts) in enumerate(self.tables):
            codes = self._codes(tokens, length)
            places = np.searchsorted(known, codes).clip(max=len(known) - 1)
            rows = counts[places] * (known[places] == codes)[..., None]
            different = (rows > 0).sum(axis=-1, keepdims=True)
            total = rows.sum(axis=-1, keepdims=True) + different
            shorter = found[:, max(length - 1, 0) :]
            found[:, max(length - 1, 0) :] = np.where(
                total > 0, (rows + different * shorter) / np.maximum(total, 1), shorter
            )
        return torch.from_numpy(found).log()

    def bits(self, text: Tensor, *, first: int) -> float:
        """Per character of windows (N, L + 1), from character ``first`` on."""
        log_p = torch.cat([self.log_probs(part[:, :-1]) for part in text.split(64)])
        nats = -log_p.gather(-1, text[:, 1:, None])[:, first - 1 :, 0]
        return nats.double().mean().item() / math.log(2)
