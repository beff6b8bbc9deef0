"""The paragraphs of the speeches, their tokens, and their teacher's vectors, computed once: build/real_models.

A paragraph has at least 120 characters; of its tokens the first 128 are read. The teacher is all-MiniLM-L6-v2, which
takes about 40 ms per paragraph and thread: some ten minutes for all 12,042.
"""

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from kdcourse.pretrained import sentence_encoder, word_pieces
from kdcourse.seeds import seeded
from kdcourse.teacher_store import TeacherStore
from kdcourse.text import load_speeches

ROOT = Path(__file__).resolve().parent.parent.parent
LEAST, LENGTH = 120, 128  # characters of a paragraph, tokens of it
ERA = 26  # years: six eras from 1790 to 1945


class Paragraphs(NamedTuple):
    """Texts, tokens (N, 128), teacher's vectors (N, 384), era (N,) from 0 to 5 and number of the speech (N,)."""

    texts: list[str]
    tokens: Tensor
    vectors: Tensor
    eras: Tensor
    speeches: Tensor

    def take(self, rows: Tensor) -> "Paragraphs":
        return Paragraphs([self.texts[row] for row in rows.tolist()], *(part[rows] for part in self[1:]))


@cache
def load(split: str) -> Paragraphs:
    """The paragraphs of a split, each once, in random order: the first ones are random ones."""
    found = {}
    for number, speech in enumerate(getattr(load_speeches(), split)):
        for text in map(str.strip, speech.text.split("\n")):
            if len(text) >= LEAST:
                found.setdefault(text, ((speech.year - 1790) // ERA, number))
    with seeded(0):
        order = torch.randperm(len(found)).tolist()
    everything = list(found)
    texts = [everything[row] for row in order]
    eras, speeches = torch.tensor([found[text] for text in texts]).unbind(dim=1)
    tokens = padded(texts)
    return Paragraphs(texts, tokens, teacher_vectors(tokens), eras, speeches)


def padded(texts: list[str]) -> Tensor:
    tokens = word_pieces().batch(texts, length=LENGTH)
    return torch.nn.functional.pad(tokens, (0, LENGTH - tokens.shape[1]))


def teacher_vectors(tokens: Tensor, *, at_a_time: int = 256) -> Tensor:
    """The teacher's vectors (N, 384): what is stored is read, the rest computed and stored."""
    teacher = sentence_encoder()
    store = TeacherStore(ROOT / "build" / "real_models", teacher=teacher, data="paragraphs of speeches, 128 tokens")
    missing = tokens[store.missing(tokens)]
    bar = tqdm(total=len(missing), desc="teacher", disable=not len(missing))
    with torch.inference_mode():
        for part in missing.split(at_a_time) if len(missing) else ():
            with store.writer() as write:
                lengths = (part != 0).sum(dim=1)
                for rows in lengths.argsort().chunk(math.ceil(len(part) / 16)):  # of similar lengths: little padding
                    write(part[rows], teacher(part[rows, : lengths[rows].max()]))
                    bar.update(len(rows))
    return store.read(tokens)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for split in ("test", "validation", "train"):
        print(split, load(split).vectors.shape)
