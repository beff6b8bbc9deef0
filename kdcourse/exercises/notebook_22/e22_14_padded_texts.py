"""22.14 padding that makes a method win."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal

EMPTY = "texts without a single token, for which there is nothing to average"


def bits_per_token(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    if sum(lengths) == 0:
        raise ValueError("no text has a token")
    bits = 0.0
    for text, length in enumerate(lengths):
        losses = F.cross_entropy(logits[text, :length], labels[text, :length], reduction="sum")
        bits += losses.item() / math.log(2)
    return bits / sum(lengths)


def by_a_mask(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    counts = torch.arange(labels.shape[1]) < torch.tensor(lengths)[:, None]
    if not counts.any():
        raise ValueError("nothing to count")
    return F.cross_entropy(logits[counts], labels[counts]).item() / math.log(2)


def by_ignored_labels(logits: Tensor, labels: Tensor, lengths: list[int]) -> Tensor:
    if not any(lengths):
        raise ValueError("only padding")
    flat = []
    for row, length in enumerate(lengths):
        log_p = logits[row, :length].log_softmax(dim=-1)
        flat.append(log_p[torch.arange(length), labels[row, :length]])
    return -torch.cat(flat).mean() / math.log(2)


def _bits(logits: Tensor, labels: Tensor) -> Tensor:
    """Bits of every position, padding included."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape) / math.log(2)


def _refused(lengths: list[int]) -> None:
    if not sum(lengths):
        raise ValueError("empty")


def _counted(labels: Tensor, lengths: list[int], *, more: int = 0) -> Tensor:
    return torch.arange(labels.shape[1]) < (torch.tensor(lengths) + more)[:, None]


def all_positions(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    _refused(lengths)
    return _bits(logits, labels).mean().item()


def multiplied_by_the_mask(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    _refused(lengths)
    mask = _counted(labels, lengths)
    return (_bits(logits, labels) * mask).sum().item() / sum(lengths)


def divided_by_all(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    _refused(lengths)
    return _bits(logits, labels)[_counted(labels, lengths)].sum().item() / labels.numel()


def mean_of_means(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    _refused(lengths)
    bits = _bits(logits, labels)
    means = [bits[text, :length].mean().item() for text, length in enumerate(lengths) if length]
    return sum(means) / len(means)


def label_zero_ignored(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    _refused(lengths)
    counted = _counted(labels, lengths) & (labels != 0)
    return _bits(logits, labels)[counted].sum().item() / max(1, int(counted.sum()))


def one_position_more(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    _refused(lengths)
    return _bits(logits, labels)[_counted(labels, lengths, more=1)].mean().item()


def last_position_lost(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    _refused(lengths)
    counted = _counted(labels, lengths, more=-1)
    return _bits(logits, labels)[counted].sum().item() / max(1, int(counted.sum()))


def padding_in_front(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    _refused(lengths)
    return _bits(logits, labels)[_counted(labels, lengths).flip(1)].mean().item()


def in_nats(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    return bits_per_token(logits, labels, lengths) * math.log(2)


def as_perplexity(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    return 2 ** bits_per_token(logits, labels, lengths)


def per_text(logits: Tensor, labels: Tensor, lengths: list[int]) -> float:
    return bits_per_token(logits, labels, lengths) * sum(lengths) / len(lengths)


def texts(shape: tuple[int, int, int], lengths: list[int], seed: int | torch.Generator) -> Case:
    """Texts padded with the token 0, which also occurs in them; what the model gives at padding is easy to predict."""
    number, longest, tokens = shape
    logits, labels = draw(*shape, seed=seed), draw(number, longest, seed=seed).abs().long() % tokens
    for text, length in enumerate(lengths):
        labels[text, length:] = 0
        logits[text, length:, 0] += 4.0
    return case(logits, labels, lengths)


def with_nan(padded: Case) -> Case:
    logits, _, lengths = padded.arguments
    for text, length in enumerate(lengths):
        logits[text, length:] = torch.nan
    return padded


def text_cases() -> list[Case]:
    return [
        texts((1, 3, 2), [2], 320),
        texts((2, 4, 3), [4, 1], 321),
        texts((3, 6, 5), [2, 6, 3], 322),
        with_nan(texts((3, 5, 4), [5, 0, 2], 323)),
        refusal(EMPTY, *texts((2, 3, 3), [0, 0], 324).arguments),
    ]


def drawn_texts(g: torch.Generator) -> Case:
    number, longest = integer(g, 1, 4), integer(g, 2, 7)
    lengths = [integer(g, 1, longest) for _ in range(number)]
    return texts((number, longest, integer(g, 2, 5)), lengths, g)


EXERCISE = Exercise(
    id="22.14",
    title="padding that makes a method win",
    question=(
        "Fix `case_14` as `fixed_14(logits, labels, lengths)`: the bits per token of N texts. Logits (N, L, V) at "
        "each position are the model's prediction of the label there, (N, L). Text n has `lengths[n]` tokens, its "
        "first positions; what follows is padding, where the label is 0 and the logits may be NaN. The token 0 occurs "
        "in the texts as well. Return the mean of -log₂ p(label) over all tokens of all texts, each token with the "
        "same weight. A text may be empty; if all are, raise a `ValueError`."
    ),
    skeleton=('def fixed_14(logits, labels, lengths):\n    """Bits per token, padding not counted."""\n    ...'),
    reference=bits_per_token,
    alternatives=(by_a_mask, by_ignored_labels),
    cases=text_cases,
    drawn=drawn_texts,
    hints=(
        "Pad the same texts to twice the length. Should a model's quality depend on that?",
        "Padding is easy to predict. Which positions does `.mean()` run over?",
        "`counts = torch.arange(L) < torch.tensor(lengths)[:, None]`, and then only `logits[counts]` and "
        "`labels[counts]`.",
    ),
    misconceptions=(
        Misconception(
            "padding counted",
            all_positions,
            "the mean runs over the padding as well, which a model learns to predict within a few steps. The more "
            "padding, the better the number, and a model that is good at padding beats one that is good at the texts",
        ),
        Misconception(
            "multiplied by the mask",
            multiplied_by_the_mask,
            "right for finite logits. NaN · 0 is NaN: select the tokens instead of multiplying the padding by 0",
        ),
        Misconception(
            "divided by all positions",
            divided_by_all,
            "the sum is right now, but you divide by N · L: padding still makes the number smaller",
        ),
        Misconception(
            "mean of means",
            mean_of_means,
            "you average over the texts: a token of a short text then counts more than one of a long text",
        ),
        Misconception(
            "padding known by its label",
            label_zero_ignored,
            "the padding is gone, and so is every token 0 of the texts: that the padding has the label 0 does not make "
            "each 0 padding. Use the lengths",
        ),
        Misconception(
            "one position too many",
            one_position_more,
            "each text counts one position of its padding: the tokens are at positions 0 to length - 1",
        ),
        Misconception(
            "the last token lost",
            last_position_lost,
            "the last token of each text is missing. The labels are aligned already: nothing has to be shifted",
        ),
        Misconception(
            "padding in front",
            padding_in_front,
            "you count the last positions of each row. Here the padding is at the end",
        ),
        Misconception(
            "in nats",
            in_nats,
            "the tokens are right now, but these are nats: divide by ln 2",
        ),
        Misconception(
            "as perplexity",
            as_perplexity,
            "the tokens are right now, but this is the perplexity, 2 to the power of the bits",
        ),
        Misconception(
            "per text",
            per_text,
            "the tokens are right now, but you divide by the number of texts: bits per *token* are asked for",
        ),
    ),
    shows="a mean over padding measures how much padding there is, and can turn a ranking around.",
    derivation=(
        "With a fraction q of padding the number is (1 - q) · bits of the text + q · bits of the padding. Two models "
        "that differ in the second term change places as soon as q is large enough."
    ),
)
