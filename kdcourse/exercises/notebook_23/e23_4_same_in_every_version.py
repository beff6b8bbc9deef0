"""23.4 right in every version of an image."""

import torch
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, draw, integer

Counts = tuple[int, int]


def robust(logits: Tensor, labels: Tensor) -> Counts:
    predicted = logits.argmax(dim=2)  # (V, N)
    right = (predicted == labels).all(dim=0)
    stable = (predicted == predicted[0]).all(dim=0)
    return int(right.sum()), int(stable.sum())


def robust_image_by_image(logits: Tensor, labels: Tensor) -> Counts:
    right = stable = 0
    for image, label in enumerate(labels.tolist()):
        classes = {int(version[image].argmax()) for version in logits}
        right += classes == {label}
        stable += len(classes) == 1
    return right, stable


def robust_by_extremes(logits: Tensor, labels: Tensor) -> Counts:
    predicted = logits.max(-1).indices
    low, high = predicted.amin(0), predicted.amax(0)
    same = low.eq(high)
    return int((same & low.eq(labels)).sum()), int(same.sum())


def _predicted(logits: Tensor) -> Tensor:
    return logits.argmax(dim=2)


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    return _predicted(logits) == labels


def _stable(logits: Tensor) -> int:
    predicted = _predicted(logits)
    return int((predicted == predicted[0]).all(dim=0).sum())


def product_of_accuracies(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    each = _right(logits, labels).double().mean(dim=1)
    return float(each.prod()) * len(labels), _stable(logits)


def worst_version(logits: Tensor, labels: Tensor) -> Counts:
    return int(_right(logits, labels).sum(dim=1).min()), _stable(logits)


def mean_of_versions(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    return float(_right(logits, labels).sum(dim=1).double().mean()), _stable(logits)


def all_pairs(logits: Tensor, labels: Tensor) -> Counts:
    return int(_right(logits, labels).sum()), _stable(logits)


def in_any_version(logits: Tensor, labels: Tensor) -> Counts:
    return int(_right(logits, labels).any(dim=0).sum()), _stable(logits)


def by_the_mean_logits(logits: Tensor, labels: Tensor) -> Counts:
    return int((logits.mean(dim=0).argmax(dim=1) == labels).sum()), _stable(logits)


def by_the_majority(logits: Tensor, labels: Tensor) -> Counts:
    return int((_predicted(logits).mode(dim=0).values == labels).sum()), _stable(logits)


def in_most_versions(logits: Tensor, labels: Tensor) -> Counts:
    return int((_right(logits, labels).double().mean(dim=0) > 0.5).sum()), _stable(logits)


def first_version_only(logits: Tensor, labels: Tensor) -> Counts:
    return int(_right(logits, labels)[0].sum()), _stable(logits)


def first_and_last(logits: Tensor, labels: Tensor) -> Counts:
    return robust(logits[[0, -1]], labels)


def first_version_left_out(logits: Tensor, labels: Tensor) -> Counts:
    return robust(logits[1:], labels) if len(logits) > 1 else (len(labels), len(labels))


def stable_and_right(logits: Tensor, labels: Tensor) -> Counts:
    right, _ = robust(logits, labels)
    return right, right


def stable_and_wrong(logits: Tensor, labels: Tensor) -> Counts:
    right, stable = robust(logits, labels)
    return right, stable - right


def as_right_or_as_wrong(logits: Tensor, labels: Tensor) -> Counts:
    right = _right(logits, labels)
    return int(right.all(dim=0).sum()), int((right == right[0]).all(dim=0).sum())


def fractions(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    right, stable = robust(logits, labels)
    return right / len(labels), stable / len(labels)


def swapped(logits: Tensor, labels: Tensor) -> Counts:
    return robust(logits, labels)[::-1]


def not_robust(logits: Tensor, labels: Tensor) -> Counts:
    right, stable = robust(logits, labels)
    return len(labels) - right, len(labels) - stable


def versions_without_error(logits: Tensor, labels: Tensor) -> Counts:
    return int(_right(logits, labels).all(dim=1).sum()), _stable(logits)


def robust_cases() -> list[Case]:
    predicted = torch.tensor([[0, 1, 2, 1, 0, 2], [0, 1, 1, 1, 2, 2], [0, 2, 1, 1, 1, 2]])
    three = torch.nn.functional.one_hot(predicted, 3).double() + draw(3, 6, 3, seed=1, spread=0.05)
    return [
        case(three, torch.tensor([0, 1, 2, 0, 2, 2])),
        case(three.flip(0), torch.tensor([1, 2, 2, 0, 1, 2])),
        case(three[:1].clone(), torch.tensor([0, 2, 2, 1, 1, 2])),
        versions(2, 5, 40, 4, spread=1.5),
        versions(3, 4, 25, 7, spread=2.0),
        versions(4, 2, 9, 3, spread=3.0, dtype=torch.float32),
    ]


def versions(
    seed: int | torch.Generator,
    count: int,
    images: int,
    classes: int,
    *,
    spread: float,
    dtype: torch.dtype = torch.float64,
) -> Case:
    """Some versions of the same images, the later ones further from the first."""
    clean = draw(images, classes, seed=seed)
    noise = draw(count, images, classes, seed=10 + seed if isinstance(seed, int) else seed, spread=spread)
    far = torch.arange(count, dtype=torch.float64).view(-1, 1, 1) / 2
    labels = clean.topk(2, dim=1).indices[:, 0]
    labels = torch.where(torch.arange(images) % 5 == 1, (labels + 1) % classes, labels)
    return case((clean + far * noise).to(dtype), labels)


def drawn_robust(g: torch.Generator) -> Case:
    return versions(g, integer(g, 2, 5), integer(g, 6, 30), integer(g, 3, 6), spread=1.5)


EXERCISE = Exercise(
    id="23.4",
    title="right in every version",
    question=(
        "`logits` (V, N, C) are the outputs of one network for V versions of the same N images: as they are, with "
        "noise, blurred, attacked; `labels` (N,) are the true classes. Write `my_robust(logits, labels)`. Return two "
        "integers: how many images are predicted correctly in *every* version; and how many have one and the same "
        "predicted class in every version, correct or not. No image has two largest logits."
    ),
    skeleton=(
        "def my_robust(logits, labels):\n"
        '    """(right, stable): images right in every version; images with one class in every version."""\n    ...'
    ),
    reference=robust,
    alternatives=(robust_image_by_image, robust_by_extremes),
    cases=robust_cases,
    drawn=drawn_robust,
    hints=(
        "Follow one image through all versions before you count anything.",
        "`logits.argmax(dim=2)` has the shape (V, N). Compare it with the labels, and with its own first row.",
        "`(predicted == labels).all(dim=0)` and `(predicted == predicted[0]).all(dim=0)`; sum each.",
    ),
    misconceptions=(
        Misconception(
            "the product of the accuracies",
            product_of_accuracies,
            "you multiply the accuracies of the versions, as if errors were independent. Mostly the same images fail "
            "in several versions: look at each image",
        ),
        Misconception(
            "the worst version",
            worst_version,
            "this is the number of right predictions in the worst version. An image may be right there and wrong in "
            "another: it does not count",
        ),
        Misconception(
            "the mean over the versions",
            mean_of_versions,
            "this is the mean over the versions. An image that is wrong in one of them counts in part; it should not "
            "count",
        ),
        Misconception(
            "images times versions",
            all_pairs,
            "you count pairs of an image and a version, up to V · N. Count images: those right in all versions",
        ),
        Misconception(
            "right in any version",
            in_any_version,
            "you count images that are right in at least one version. An attack needs only one that is wrong: use "
            "`all`, not `any`",
        ),
        Misconception(
            "the mean of the logits",
            by_the_mean_logits,
            "you average the logits over the versions. Such an ensemble can be right while a version is wrong",
        ),
        Misconception(
            "the most frequent class",
            by_the_majority,
            "you take the class that most versions predict. It can be right while a version is wrong",
        ),
        Misconception(
            "right in most versions",
            in_most_versions,
            "you count images that are right in most versions. The question asks for every version",
        ),
        Misconception(
            "the first version alone",
            first_version_only,
            "your first number looks at the first version only: it is the accuracy without any change",
        ),
        Misconception(
            "the first and the last",
            first_and_last,
            "you compare the first version with the last. Those between them count as well",
        ),
        Misconception(
            "the first version left out",
            first_version_left_out,
            "you leave out the first version. The images as they are belong to the versions, too",
        ),
        Misconception(
            "stable only if right",
            stable_and_right,
            "your second number counts only images that are right. One that is wrong in the same way in every version "
            "is stable as well",
        ),
        Misconception(
            "stable and wrong",
            stable_and_wrong,
            "your second number counts only images that are wrong in the same way. Correct ones are stable as well",
        ),
        Misconception(
            "wrong each time",
            as_right_or_as_wrong,
            "you count images that are always right or always wrong. Wrong in two versions may be two different "
            "classes: compare the predictions",
        ),
        Misconception(
            "fractions", fractions, "these are fractions of the N images. The question asks for two integers"
        ),
        Misconception("swapped", swapped, "the two numbers are swapped: first the images that are right everywhere"),
        Misconception(
            "those that are not robust",
            not_robust,
            "you count the images that are *not* right, and not stable, in every version",
        ),
        Misconception(
            "versions without an error",
            versions_without_error,
            "you count versions in which all images are right. Take `all` over dimension 0, and count images",
        ),
    ),
    shows="an image counts as robust only if no version of it is wrong, which no mean over versions tells.",
    derivation=(
        "Let R_v be the set of images that are right in version v. Then |∩ R_v| ≤ min |R_v| ≤ the mean of |R_v| ≤ "
        "|∪ R_v|. |∩ R_v| / N is the product of the accuracies only if the events are independent; they are mostly not."
    ),
)
