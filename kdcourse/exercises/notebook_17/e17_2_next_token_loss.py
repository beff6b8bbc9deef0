"""17.2 which position predicts which token, and which of them count."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

IGNORED = -100


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    predictions, targets = logits[:, :-1], labels[:, 1:]
    counts = targets != -100
    total = F.cross_entropy(predictions[counts], targets[counts], reduction="sum")
    return total / max(int(counts.sum()), 1)


def next_token_loss_ignoring(logits: Tensor, labels: Tensor) -> Tensor:
    size = logits.shape[-1]
    targets = labels[:, 1:].reshape(-1)
    total = F.cross_entropy(logits[:, :-1].reshape(-1, size), targets, ignore_index=-100, reduction="sum")
    return total / (targets != -100).sum().clamp(min=1)


def next_token_loss_by_loop(logits: Tensor, labels: Tensor) -> Tensor:
    losses = []
    for row, known in zip(logits, labels.tolist(), strict=True):
        for place in range(1, len(known)):
            if known[place] != -100:
                losses.append(row[place - 1].logsumexp(dim=0) - row[place - 1, known[place]])
    return sum(losses) / len(losses) if losses else 0 * logits.sum()


def _losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The cross-entropy at each position, 0 where it does not count, and which count."""
    counts = targets != IGNORED
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(targets.shape), counts


def _mean(losses: Tensor, counts: Tensor) -> Tensor:
    return (losses * counts).sum() / counts.sum().clamp(min=1)


def not_shifted(logits: Tensor, labels: Tensor) -> Tensor:
    return _mean(*_losses(logits, labels))


def shifted_backwards(logits: Tensor, labels: Tensor) -> Tensor:
    return _mean(*_losses(logits[:, 1:], labels[:, :-1]))


def shifted_twice(logits: Tensor, labels: Tensor) -> Tensor:
    return _mean(*_losses(logits[:, :-2], labels[:, 2:]))


def rolled(logits: Tensor, labels: Tensor) -> Tensor:
    return _mean(*_losses(logits, labels.roll(-1, dims=1)))


def rolled_over_rows(logits: Tensor, labels: Tensor) -> Tensor:
    flat = labels.flatten()
    targets = torch.cat([flat[1:], flat.new_full((1,), IGNORED)]).view(labels.shape)
    return _mean(*_losses(logits, targets))


def mask_not_shifted(logits: Tensor, labels: Tensor) -> Tensor:
    losses, _ = _losses(logits[:, :-1], labels[:, 1:].clamp(min=0))
    return _mean(losses, labels[:, :-1] != IGNORED)


def both_must_count(logits: Tensor, labels: Tensor) -> Tensor:
    losses, counts = _losses(logits[:, :-1], labels[:, 1:])
    return _mean(losses, counts & (labels[:, :-1] != IGNORED))


def mean_over_all(logits: Tensor, labels: Tensor) -> Tensor:
    return _losses(logits[:, :-1], labels[:, 1:])[0].mean()


def divided_before_the_shift(logits: Tensor, labels: Tensor) -> Tensor:
    losses, _ = _losses(logits[:, :-1], labels[:, 1:])
    return losses.sum() / (labels != IGNORED).sum().clamp(min=1)


def mean_of_sequences(logits: Tensor, labels: Tensor) -> Tensor:
    losses, counts = _losses(logits[:, :-1], labels[:, 1:])
    return (losses.sum(dim=1) / counts.sum(dim=1).clamp(min=1)).mean()


def summed(logits: Tensor, labels: Tensor) -> Tensor:
    return _losses(logits[:, :-1], labels[:, 1:])[0].sum()


def default_mean(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def padding_as_token_zero(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].clamp(min=0).flatten())


def logits_masked(logits: Tensor, labels: Tensor) -> Tensor:
    counts = labels[:, 1:] != IGNORED
    losses, _ = _losses(logits[:, :-1] * counts[..., None], labels[:, 1:].clamp(min=0))
    return losses.sum() / counts.sum().clamp(min=1)


def probabilities_given(logits: Tensor, labels: Tensor) -> Tensor:
    return next_token_loss(logits.softmax(dim=-1), labels)


def softmax_over_positions(logits: Tensor, labels: Tensor) -> Tensor:
    targets = labels[:, 1:]
    log_probs = logits[:, :-1].log_softmax(dim=1)
    losses = -log_probs.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
    return _mean(losses, targets != IGNORED)


def can_be_trained(value: Any, case: Case) -> Any:
    """The loss; where nothing counts, one that `backward()` refuses does not work."""
    number = isinstance(value, int | float) or (isinstance(value, Tensor) and not value.requires_grad)
    if number and not (case.arguments[1][:, 1:] != IGNORED).any():
        raise TypeError(
            "no label counts here, and this number does not depend on the logits, so `backward()` raises. "
            "Multiply by the mask, or return `logits.sum() * 0`"
        )
    return value


def next_token_cases() -> list[Case]:
    answer = torch.tensor([[-100, 1, 2]])  # a prompt of one token, then two that count
    uneven = torch.tensor([[0, 3, 1, 2, 0], [-100, -100, -100, 4, -100]])  # an answer of a single token, then padding
    padded = torch.tensor([[2, -100, 1, 0], [1, 2, -100, -100], [-100, -100, -100, -100]])
    return [
        case(draw(1, 3, 3, seed=1), answer),
        case(draw(2, 5, 5, seed=2), uneven),
        case(draw(3, 4, 3, seed=3), padded),
        case(draw(2, 3, 4, seed=4), torch.tensor([[3, -100, -100], [0, -100, -100]])),  # nothing counts
        case(draw(2, 6, 4, seed=5).float(), torch.tensor([[0, 1, 2, 3, 0, 1], [3, 3, 1, 2, 2, 0]])),
        case(draw(1, 2, 6, seed=6), torch.tensor([[-100, 5]])),
        case(draw(2, 4, 5, seed=7), torch.tensor([[-100, -100, 1, 3], [2, 4, 0, -100]])),
    ]


def drawn_next_token(g: torch.Generator) -> Case:
    rows, length, size = integer(g, 1, 3), integer(g, 3, 6), integer(g, 2, 5)
    labels = torch.randint(size, (rows, length), generator=g)
    for row in range(rows):
        labels[row, : integer(g, 0, 2)] = IGNORED
        labels[row, length - integer(g, 0, 1) :] = IGNORED
    return case(draw(rows, length, size, seed=g), labels)


EXERCISE = Exercise(
    id="17.2",
    title="which position predicts which token",
    question=(
        "A language model has read N sequences of L tokens. `logits` (N, L, V) are its outputs: those at position i "
        "predict the token at position i + 1. `labels` (N, L) is int64 and holds at each position the token that "
        "stands at *this* position, or -100 if that token does not count, because it belongs to the prompt or is "
        "padding. Write `my_next_token_loss(logits, labels)`: the cross-entropy in nats of the prediction of a token, "
        "averaged over all tokens of the batch that count and that some position predicts, as a 0-dimensional tensor. "
        "Nothing predicts the first token of a sequence. The last token of a prompt predicts the first token of the "
        "answer. Each such token weighs the same, whichever sequence it is in. The gradient with respect to the logits "
        "is exactly 0 at every position that predicts no such token. If there is no such token, the loss is 0 and its "
        "gradient zero, so that `backward()` still works."
    ),
    skeleton=(
        "def my_next_token_loss(logits, labels):\n"
        '    """The mean cross-entropy of the tokens that count, each predicted one position earlier."""\n    ...'
    ),
    reference=next_token_loss,
    alternatives=(next_token_loss_ignoring, next_token_loss_by_loop),
    cases=next_token_cases,
    drawn=drawn_next_token,
    hints=(
        "Write the tokens of a short sequence in a row, and below each one the token that the model predicts there. "
        "Which two ends are left over?",
        "Cut the last position off the logits and the first one off the labels. From then on use only these two: what "
        "counts is decided by the label that has been shifted.",
        "`predictions, targets = logits[:, :-1], labels[:, 1:]`, `counts = targets != -100`, the summed cross-entropy "
        "of `predictions[counts]` and `targets[counts]`, divided by the number that count, or by 1 if none does.",
    ),
    misconceptions=(
        Misconception(
            "not shifted",
            not_shifted,
            "you compare the logits at a position with the token at the same position, which the model has just read. "
            "It would learn to copy. The logits at i predict the token at i + 1",
        ),
        Misconception(
            "shifted backwards",
            shifted_backwards,
            "you shift the wrong way: the logits at i + 1 are compared with the token at i, which they have already "
            "read. Cut off the *last* position of the logits and the *first* label",
        ),
        Misconception(
            "shifted twice",
            shifted_twice,
            "the shift is done twice, so the model learns the token after the next one. This happens when the data "
            "loader shifts the labels and the loss does it again",
        ),
        Misconception(
            "rolled around the end",
            rolled,
            "`roll` moves the first label to the end of the sequence, where the last position has to predict it. "
            "Nothing is known there: cut that position off",
        ),
        Misconception(
            "shifted across sequences",
            rolled_over_rows,
            "you shift after flattening, so the last position of a sequence predicts the first token of the *next* "
            "sequence. Shift each sequence first",
        ),
        Misconception(
            "the mask not shifted",
            mask_not_shifted,
            "the labels are shifted, the mask is not: it looks at the token that is read, not at the one that is "
            "predicted. The first token of the answer drops out, and the padding after the last one is learned",
        ),
        Misconception(
            "both tokens must count",
            both_must_count,
            "you ask that the token that is read counts as well. Then the first token of each answer is never "
            "learned, and an answer of one token not at all. Only the predicted token decides",
        ),
        Misconception(
            "mean over all positions",
            mean_over_all,
            "you divide by all positions. The loss then depends on how much prompt and padding there is: append "
            "padding, and it falls. Divide by the number of tokens that count",
        ),
        Misconception(
            "counted before the shift",
            divided_before_the_shift,
            "the sum is correct, but you divide by the labels that count *before* the shift. The first token of a "
            "sequence is not predicted, so it is not one of them",
        ),
        Misconception(
            "mean of the sequences' means",
            mean_of_sequences,
            "you average within each sequence first, then over sequences. A token of a short answer then weighs more "
            "than one of a long answer, and a sequence without any token that counts lowers the loss",
        ),
        Misconception(
            "not divided",
            summed,
            "this is the sum. It grows with the batch and with the length. Divide by the number of tokens that count",
        ),
        Misconception(
            "NaN where nothing counts",
            default_mean,
            "correct but for a batch in which no token counts: the default mean is 0 / 0 = NaN there, and one such "
            "batch ends the training. Sum, and divide by the number or by 1",
        ),
        Misconception(
            "-100 as a token",
            padding_as_token_zero,
            "you turn -100 into token 0, and the model learns to write it at the prompt and at padding. Those "
            "positions have to be left out",
        ),
        Misconception(
            "logits multiplied by the mask",
            logits_masked,
            "you set the logits to 0 where the token does not count. Such a position still adds ln V, the "
            "cross-entropy of equal logits. Leave its loss out instead",
        ),
        Misconception(
            "softmax twice",
            probabilities_given,
            "you pass probabilities to `cross_entropy`, which takes a softmax itself. The softmax of probabilities is "
            "almost flat: the loss can hardly fall",
        ),
        Misconception(
            "softmax over positions",
            softmax_over_positions,
            "the softmax runs over the positions. It has to run over the vocabulary, the last dimension: one "
            "distribution per position",
        ),
    ),
    shows="one shift, and a mask that is shifted with the labels: that is how a text becomes a loss.",
    derivation=(
        "L = (1/M) Σ over (n, i) with labels[n, i + 1] ≠ -100 of -ln softmax(logits[n, i])[labels[n, i + 1]], with M "
        "the number of terms. Its gradient is (softmax - one-hot) / M at these positions and 0 at all others. With M "
        "independent of padding, appending padding changes nothing."
    ),
    gradients=(0,),
    observe=can_be_trained,
    forbidden=("kdcourse.losses.sequences.sequence_kd", "kdcourse.losses.sequences.shift"),
)
