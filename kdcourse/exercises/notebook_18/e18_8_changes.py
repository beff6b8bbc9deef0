"""18.8 what a mean hides."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer, refusal
from .common import table

Changes = tuple[float, int, int]


def changes(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    real = targets != -100
    if not real.any():
        raise ValueError("no position has a target")
    before, after, targets = before[real], after[real], targets[real]
    nats = F.cross_entropy(after, targets) - F.cross_entropy(before, targets)
    was, now = before.argmax(dim=-1) == targets, after.argmax(dim=-1) == targets
    return nats.item() / math.log(2), int((was & ~now).sum()), int((now & ~was).sum())


def changes_by_loops(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    bits, broken, fixed = [], 0, 0
    for n, t in (targets != -100).nonzero().tolist():
        old, new, target = before[n, t].tolist(), after[n, t].tolist(), int(targets[n, t])
        bits.append(_surprise(new, target) - _surprise(old, target))
        was, now = old.index(max(old)) == target, new.index(max(new)) == target
        broken += was and not now
        fixed += now and not was
    if not bits:
        raise ValueError("nothing to count")
    return sum(bits) / len(bits), broken, fixed


def _surprise(logits: list[float], target: int) -> float:
    """-log2 of a softmax."""
    return math.log2(sum(math.exp(z - max(logits)) for z in logits)) - (logits[target] - max(logits)) / math.log(2)


def changes_by_numpy(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    real = targets.numpy() != -100
    count = np.count_nonzero(real)
    if count == 0:
        raise ValueError("every target is -100")
    index = np.where(real, targets.numpy(), 0)[..., None]
    first, second = (log_softmax(logits.numpy(), axis=-1) / np.log(2) for logits in (before, after))
    gained = np.take_along_axis(first - second, index, axis=-1)[..., 0]
    hits = [real & (log_probs.argmax(axis=-1) == index[..., 0]) for log_probs in (first, second)]
    change = hits[1].astype(int) - hits[0]
    return (gained * real).sum() / count, (change < 0).sum(), (change > 0).sum()


def _real(before: Tensor, after: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What counts, or the refusal."""
    real = targets != -100
    if not real.any():
        raise ValueError("no position has a target")
    return before[real], after[real], targets[real]


def in_nats(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    bits, broken, fixed = changes(before, after, targets)
    return bits * math.log(2), broken, fixed


def the_other_sign(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    bits, broken, fixed = changes(before, after, targets)
    return -bits, broken, fixed


def summed(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    bits, broken, fixed = changes(before, after, targets)
    return bits * int((targets != -100).sum()), broken, fixed


def over_all_positions(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    bits, broken, fixed = changes(before, after, targets)
    return bits * int((targets != -100).sum()) / targets.numel(), broken, fixed


def mean_of_sequences(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    _, broken, fixed = changes(before, after, targets)
    parts = [changes(b, a, t)[0] for b, a, t in zip(before, after, targets, strict=True) if (t != -100).any()]
    return sum(parts) / len(parts), broken, fixed


def perplexities(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    _, broken, fixed = changes(before, after, targets)
    b, a, t = _real(before, after, targets)
    return float(F.cross_entropy(a, t).exp() - F.cross_entropy(b, t).exp()), broken, fixed


def logits_compared(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    _, broken, fixed = changes(before, after, targets)
    b, a, t = _real(before, after, targets)
    return float((b - a).gather(1, t[:, None]).mean()) / math.log(2), broken, fixed


def mean_probability(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    _, broken, fixed = changes(before, after, targets)
    b, a, t = _real(before, after, targets)
    old, new = (z.softmax(1).gather(1, t[:, None]).mean() for z in (b, a))
    return float((old / new).log2()), broken, fixed


def sizes_of_changes(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    _, broken, fixed = changes(before, after, targets)
    b, a, t = _real(before, after, targets)
    each = F.cross_entropy(a, t, reduction="none") - F.cross_entropy(b, t, reduction="none")
    return float(each.abs().mean()) / math.log(2), broken, fixed


def swapped(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    bits, broken, fixed = changes(before, after, targets)
    return bits, fixed, broken


def net_alone(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    bits, broken, fixed = changes(before, after, targets)
    return bits, max(broken - fixed, 0), max(fixed - broken, 0)


def all_changed(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    bits, _, fixed = changes(before, after, targets)
    b, a, _ = _real(before, after, targets)
    return bits, int((b.argmax(1) != a.argmax(1)).sum()), fixed


def shifted_again(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    return changes(before[:, :-1], after[:, :-1], targets[:, 1:])


def padding_as_token_0(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    _real(before, after, targets)
    return changes(before, after, targets.clamp(min=0))


def nothing_for_nothing(before: Tensor, after: Tensor, targets: Tensor) -> Changes:
    return changes(before, after, targets) if (targets != -100).any() else (0.0, 0, 0)


def _case(seed: int | torch.Generator, sizes: tuple[int, int, int], spread: float, padding: list[int]) -> Case:
    """The compressed network's logits lie near the old ones; the end of each sequence may be padding."""
    second = seed + 1 if isinstance(seed, int) else seed
    before = draw(*sizes, seed=seed, spread=1.5)
    after = before + draw(*sizes, seed=second, spread=spread)
    third = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    targets = torch.randint(sizes[2], sizes[:2], generator=third)
    for row, count in zip(targets, padding, strict=True):
        row[sizes[1] - count :] = -100
    return case(before, after, targets)


def changes_cases() -> list[Case]:
    old, new = table([[2.0, 1.0], [0.0, 3.0]])[None], table([[1.0, 2.0], [0.0, 3.5]])[None]
    ties = table([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [3.0, 1.0, 3.0]])[None]
    none = torch.full((2, 3), -100)
    return [
        case(old, new, torch.tensor([[0, 1]])),
        case(ties, ties.flip(1).clone(), torch.tensor([[0, 2, 1]])),
        case(ties.clone(), table([[1.0, 2.0, 0.0], [2.0, 2.0, 2.0], [0.0, 1.0, 0.0]])[None], torch.tensor([[0, 1, 0]])),
        _case(10, (2, 4, 3), 1.0, [0, 2]),
        _case(20, (3, 6, 5), 2.0, [0, 5, 3]),
        _case(30, (4, 5, 4), 3.0, [5, 1, 0, 2]),
        _case(40, (2, 9, 3), 0.3, [0, 0]),
        refusal("targets that are all -100", draw(2, 3, 4, seed=50), draw(2, 3, 4, seed=51), none),
    ]


def drawn_changes(g: torch.Generator) -> Case:
    sizes = integer(g, 1, 3), integer(g, 2, 6), integer(g, 2, 5)
    return _case(g, sizes, integer(g, 1, 6) / 2, [integer(g, 0, sizes[1] - 1) for _ in range(sizes[0])])


EXERCISE = Exercise(
    id="18.8",
    title="what a mean hides",
    question=(
        "`before` and `after` are the logits of a language model before and after compression, floating-point tensors "
        "(sequences, positions, vocabulary) for the same text. `targets`, an int64 tensor (sequences, positions), says "
        "which token comes next at each position, already aligned with the logits; -100 marks padding, which counts "
        "nowhere. Write `my_changes(before, after, targets)`, which returns three numbers: by how many bits per token "
        "the compressed model predicts the text worse (the mean over all targets of -log₂ of the probability that it "
        "gives the target, minus the same before; negative if it predicts better); how many targets were predicted "
        "before and are not any more; and how many were not and are now. A model predicts the token with the "
        "highest logit, the first one of several that are equal. If all targets are -100, raise a `ValueError`."
    ),
    skeleton=(
        "def my_changes(before, after, targets):\n"
        '    """Bits per token lost, targets no longer predicted, and targets newly predicted."""\n    ...'
    ),
    reference=changes,
    alternatives=(changes_by_loops, changes_by_numpy),
    cases=changes_cases,
    drawn=drawn_changes,
    hints=(
        "Take out the padding first. What is left is a list of positions, no matter which sequence they were in.",
        "`real = targets != -100` picks rows: `before[real]` is (n, vocabulary). `F.cross_entropy` is the mean of the "
        "natural logarithm: divide by ln 2. For the counts compare `argmax` with the targets, before and after.",
        "`was, now = before.argmax(dim=-1) == targets, after.argmax(dim=-1) == targets`; the counts are the sums of "
        "`was & ~now` and of `now & ~was`.",
    ),
    misconceptions=(
        Misconception(
            "in nats",
            in_nats,
            "your difference is in nats: `log` and `cross_entropy` take the natural logarithm. Divide by ln 2",
        ),
        Misconception(
            "the other sign",
            the_other_sign,
            "the sign of the difference is wrong: it is positive where the compressed model predicts worse",
        ),
        Misconception("summed", summed, "you add up the bits of all targets. Divide by their number: bits per token"),
        Misconception(
            "over all positions",
            over_all_positions,
            "you divide by the number of all positions. Padding has no target: divide by the number of targets",
        ),
        Misconception(
            "the mean of sequences",
            mean_of_sequences,
            "you take the mean of each sequence first. A token of a short sequence then counts more than one of a long "
            "one",
        ),
        Misconception(
            "perplexities",
            perplexities,
            "you subtract perplexities. The difference depends on how hard the text is: bits per token are their "
            "logarithms",
        ),
        Misconception(
            "logits compared",
            logits_compared,
            "you compare the logits of the targets. A logit says nothing without the others: compare log-probabilities",
        ),
        Misconception(
            "the mean probability",
            mean_probability,
            "you average probabilities, then take the logarithm. A target of probability 0.001 then costs hardly "
            "anything: average the logarithms",
        ),
        Misconception(
            "sizes of changes",
            sizes_of_changes,
            "you average the size of the change at each token. What gets better makes up for what gets worse: that is "
            "what a mean hides, and what the counts are for",
        ),
        Misconception("swapped", swapped, "the counts are swapped: first those that are not predicted any more"),
        Misconception(
            "net alone",
            net_alone,
            "you subtract one count from the other. That is what a difference of accuracies shows: return both",
        ),
        Misconception(
            "all that changed",
            all_changed,
            "you count every prediction that changed as lost. A wrong one that became another wrong one loses nothing",
        ),
        Misconception(
            "shifted again",
            shifted_again,
            "you shift the targets by a position. They are aligned with the logits already",
        ),
        Misconception(
            "padding as token 0",
            padding_as_token_0,
            "you replace -100 by 0 and count those positions, too: as if the text had the first token there",
        ),
        Misconception(
            "0 for no target",
            nothing_for_nothing,
            "without any target you return 0, as if nothing had changed. Nothing was measured: raise a `ValueError`",
        ),
    ),
    shows="two models may agree in the mean to a hundredth of a bit and still predict other tokens.",
    derivation=(
        "The accuracy changes by (fixed - broken) / targets, which is 0 where both are equal, however large they are. "
        "Perplexity is 2^bits: it is a mean, too. Two models trained from different starts flip predictions as well; "
        "compare with them. Source: Dutta et al. 2024, arXiv:2407.09141."
    ),
    forbidden=("kdcourse.metrics.flips",),
)
