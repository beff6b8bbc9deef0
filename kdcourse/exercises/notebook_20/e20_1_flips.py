"""20.1 which answers changed."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Counts = tuple[int, int, int]


def flips(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    was, is_now = before.argmax(dim=1), after.argmax(dim=1)
    changed = was != is_now
    broken = (was == labels) & (is_now != labels)
    fixed = (was != labels) & (is_now == labels)
    return int(changed.sum()), int(broken.sum()), int(fixed.sum())


def flips_one_by_one(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    changed = broken = fixed = 0
    pairs = zip(before.argmax(1).tolist(), after.argmax(1).tolist(), labels.tolist(), strict=True)
    for was, is_now, label in pairs:
        if was != is_now:
            changed += 1
            if was == label:
                broken += 1
            elif is_now == label:
                fixed += 1
    return changed, broken, fixed


def flips_by_sums(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    was, is_now = before.max(dim=1).indices, after.max(dim=1).indices
    right_before, right_after = was.eq(labels), is_now.eq(labels)
    both = int((right_before & right_after).sum())
    broken, fixed = int(right_before.sum()) - both, int(right_after.sum()) - both
    return int(was.ne(is_now).sum()), broken, fixed


def net_change(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    changed, broken, fixed = flips(before, after, labels)
    return changed, max(broken - fixed, 0), max(fixed - broken, 0)


def from_wrong_to_wrong_left_out(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    _, broken, fixed = flips(before, after, labels)
    return broken + fixed, broken, fixed


def swapped(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    return flips(after, before, labels)


def broken_if_wrong_now(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    changed, broken, fixed = flips(before, after, labels)
    return changed, changed - fixed, fixed


def all_wrong_now(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    changed, _, fixed = flips(before, after, labels)
    return changed, int((after.argmax(dim=1) != labels).sum()), fixed


def all_wrong_and_all_right(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    changed, _, _ = flips(before, after, labels)
    right = int((after.argmax(dim=1) == labels).sum())
    return changed, len(labels) - right, right


def as_fractions(before: Tensor, after: Tensor, labels: Tensor) -> tuple[float, ...]:
    return tuple(count / len(labels) for count in flips(before, after, labels))


def accuracy_change(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    _, broken, fixed = flips(before, after, labels)
    return abs(broken - fixed), broken, fixed


def over_the_batch(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    was, is_now = before.argmax(dim=0), after.argmax(dim=0)
    named = labels[: len(was)].tolist() + [-1] * (len(was) - len(labels))
    truth = torch.tensor(named)
    changed, right, still = was != is_now, was == truth, is_now == truth
    return int(changed.sum()), int((right & ~still).sum()), int((~right & still).sum())


def any_logit(before: Tensor, after: Tensor, labels: Tensor) -> Counts:
    _, broken, fixed = flips(before, after, labels)
    return int((before != after).any(dim=1).sum()), broken, fixed


def flip_cases() -> list[Case]:
    before = torch.tensor([[2.0, 1.0, 0.0], [0.5, 3.0, 1.0], [0.2, 1.0, 2.0], [1.5, 0.5, 1.0], [0.1, 0.3, 0.2]])
    after = torch.tensor([[1.0, 2.0, 0.0], [0.5, 2.5, 1.0], [0.2, 3.0, 2.0], [0.5, 1.5, 1.0], [0.3, 0.1, 0.2]])
    wide = draw(40, 6, seed=1)
    labels = (wide + draw(40, 6, seed=2, spread=2.0)).argmax(dim=1)
    return [
        case(before, after, torch.tensor([0, 1, 1, 2, 1])),
        case(before, before.clone(), torch.tensor([0, 0, 1, 0, 1])),
        case(wide, wide + draw(40, 6, seed=3, spread=2.0), labels),
        case(wide.float(), (2 * wide).float(), labels),
        case(draw(3, 2, seed=4), draw(3, 2, seed=5), torch.tensor([1, 0, 1])),
    ]


def drawn_flips(g: torch.Generator) -> Case:
    shape = integer(g, 6, 40), integer(g, 3, 6)
    before = draw(*shape, seed=g)
    labels = (before + draw(*shape, seed=g, spread=2.0)).argmax(dim=1)
    return case(before, before + draw(*shape, seed=g, spread=2.0), labels)


EXERCISE = Exercise(
    id="20.1",
    title="which answers changed",
    question=(
        "`before` and `after` are the logits (N, C) of a network for the same N images, before and after it was "
        "compressed; `labels` (N,) are the true classes. Write `my_flips(before, after, labels)`. Return three "
        "integers: how many predictions changed; how many of these are *broken*, right before and wrong after; and "
        "how many are *fixed*, wrong before and right after. No row has two largest logits."
    ),
    skeleton=(
        "def my_flips(before, after, labels):\n"
        '    """(changed, broken, fixed): how many predictions changed, for the worse, for the better."""\n    ...'
    ),
    reference=flips,
    alternatives=(flips_one_by_one, flips_by_sums),
    cases=flip_cases,
    drawn=drawn_flips,
    hints=(
        "Four things can happen to a prediction that changes. Which of them does the accuracy see?",
        "Compare three tensors of classes: the predictions before, the predictions after, and the labels.",
        "`was != now`; `(was == labels) & (now != labels)`; `(was != labels) & (now == labels)`; sum each.",
    ),
    misconceptions=(
        Misconception(
            "the net change",
            net_change,
            "you subtract broken and fixed from each other. That is what the accuracy does, and what hides the flips: "
            "ten broken and ten fixed images are twenty users who notice",
        ),
        Misconception(
            "wrong to wrong is left out",
            from_wrong_to_wrong_left_out,
            "your first number is broken + fixed. A prediction that was wrong and is now wrong in another way has "
            "changed, too",
        ),
        Misconception(
            "before and after swapped",
            swapped,
            "broken and fixed are swapped: broken is right *before* and wrong *after*",
        ),
        Misconception(
            "broken if it changed and is wrong now",
            broken_if_wrong_now,
            "you count every changed prediction that is wrong now. Some of them were wrong before: nothing broke",
        ),
        Misconception(
            "all errors of the compressed network",
            all_wrong_now,
            "you count all errors after the compression. Most of them may be errors of the network before it",
        ),
        Misconception(
            "wrong and right after",
            all_wrong_and_all_right,
            "these are the wrong and the right predictions after the compression. You never look at those before",
        ),
        Misconception(
            "fractions",
            as_fractions,
            "these are fractions of the N images. The question asks for three integers",
        ),
        Misconception(
            "the change of accuracy",
            accuracy_change,
            "your first number is the change of the number of right predictions. It is at most the number of flips, "
            "and often far below it",
        ),
        Misconception(
            "argmax over the images",
            over_the_batch,
            "you take the largest logit along the images (dimension 0). Classes are in dimension 1",
        ),
        Misconception(
            "any logit differs",
            any_logit,
            "you compare logits. They nearly always change a little; a flip is another *class*",
        ),
    ),
    shows="two networks with the same accuracy can disagree on many images.",
    derivation=(
        "Let b images be broken and f fixed. The number of right predictions changes by f - b, so the change of "
        "accuracy is |f - b| / N ≤ (b + f) / N ≤ the fraction of flips. Equality needs b = 0 or f = 0, and no image "
        "that goes from one wrong class to another."
    ),
)
