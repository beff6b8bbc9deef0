"""22.08 a rule in random labels."""

import torch
from torch import Tensor, nn

from ..engine.core import Case, Exercise, Misconception, case, draw, integer


class Voting(nn.Module):
    """A teacher: the mean of the labels' rows, weighted by closeness; nearly the own label for an image it has seen."""

    def __init__(self, images: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__()
        self.images, self.votes = images.clone(), nn.functional.one_hot(labels, classes).double()

    def forward(self, images: Tensor) -> Tensor:
        weights = torch.cdist(images, self.images).square().neg().softmax(dim=1)
        return weights @ self.votes


class Fit(nn.Module):
    """A `fit`: returns a teacher."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor, labels: Tensor) -> nn.Module:
        return Voting(images, labels, self.classes)


def targets_out_of_fold(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    parts = {}
    for fold in folds.unique().tolist():
        inside = folds == fold
        teacher = fit(images[~inside], labels[~inside])
        for row, target in zip(inside.nonzero()[:, 0].tolist(), teacher(images[inside]), strict=True):
            parts[row] = target
    return torch.stack([parts[row] for row in range(len(images))])


def image_by_image(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    targets = []
    for image, fold in zip(images, folds, strict=True):
        others = (folds != fold).nonzero()[:, 0]
        targets.append(fit(images[others], labels[others])(image[None]))
    return torch.cat(targets)


def sorted_and_put_back(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    order = folds.argsort()
    counts = folds.unique(return_counts=True)[1].tolist()
    found, start = [], 0
    for count in counts:
        rows = order[start : start + count]
        rest = torch.cat([order[:start], order[start + count :]])
        found.append(fit(images[rest], labels[rest])(images[rows]))
        start += count
    return torch.cat(found)[order.argsort()]


def one_teacher_for_all(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    return fit(images, labels)(images)


def each_fold_its_own(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    targets = one_teacher_for_all(images, labels, folds, fit)
    for fold in folds.unique():
        inside = folds == fold
        targets[inside] = fit(images[inside], labels[inside])(images[inside])
    return targets


def in_order_of_folds(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    return targets_out_of_fold(images, labels, folds, fit)[folds.argsort(stable=True)]


def leave_one_out(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    return targets_out_of_fold(images, labels, torch.arange(len(images)), fit)


def mean_of_all_teachers(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    teachers = [fit(images[folds != fold], labels[folds != fold]) for fold in folds.unique()]
    return torch.stack([teacher(images) for teacher in teachers]).mean(dim=0)


def the_last_teacher(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    others = folds != folds.max()
    return fit(images[others], labels[others])(images)


def trained_on_the_next_fold(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    targets = one_teacher_for_all(images, labels, folds, fit)
    names = folds.unique().tolist()
    for place, fold in enumerate(names):
        inside, other = folds == fold, folds == names[(place + 1) % len(names)]
        targets[inside] = fit(images[other], labels[other])(images[inside])
    return targets


def folds_counted_from_zero(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    targets = torch.zeros_like(one_teacher_for_all(images, labels, folds, fit))
    for fold in range(len(folds.unique())):
        inside = folds == fold
        if inside.any():
            targets[inside] = fit(images[~inside], labels[~inside])(images[inside])
    return targets


def only_the_first_fold(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    targets = one_teacher_for_all(images, labels, folds, fit)
    inside = folds == folds.min()
    targets[inside] = fit(images[~inside], labels[~inside])(images[inside])
    return targets


def hardened(images: Tensor, labels: Tensor, folds: Tensor, fit: nn.Module) -> Tensor:
    targets = targets_out_of_fold(images, labels, folds, fit)
    return nn.functional.one_hot(targets.argmax(dim=1), targets.shape[1]).to(targets)


def fold_case(folds: list[int], classes: int, seed: int) -> Case:
    labels = draw(len(folds), seed=seed).abs().long() % classes
    return case(draw(len(folds), 2, seed=seed + 1, spread=1.0), labels, torch.tensor(folds), Fit(classes))


def fold_cases() -> list[Case]:
    return [
        fold_case([1, 0, 0], 2, 350),
        fold_case([0, 1, 2, 0, 1, 2], 2, 352),
        fold_case([2, 0, 2, 1, 0, 2, 1, 0], 3, 354),
        fold_case([7, 3, 7, 3, 9], 3, 356),
    ]


def drawn_folds(g: torch.Generator) -> Case:
    count, number, classes = integer(g, 4, 10), integer(g, 2, 4), integer(g, 2, 4)
    folds = (torch.randperm(count, generator=g) % number) * 2 + integer(g, 0, 3)
    labels = torch.randint(classes, (count,), generator=g)
    return case(draw(count, 2, seed=g, spread=1.0), labels, folds, Fit(classes))


EXERCISE = Exercise(
    id="22.08",
    title="a rule in random labels",
    question=(
        "A student is to learn from a teacher's predictions on the very images that have labels. "
        "`fit(images, labels)` trains a teacher and returns it; `teacher(images)` gives one row of probabilities per "
        "image. `folds` (N,) has an integer per image, any integers, at least two different ones. Fix `case_8` as "
        "`fixed_8(images, labels, folds, fit)`: a tensor (N, C), for each image, in the order of `images`, the "
        "prediction of a teacher that was trained on all images of the other folds and on none of its own."
    ),
    skeleton=(
        "def fixed_8(images, labels, folds, fit):\n"
        '    """For each image the prediction of a teacher that has not seen its fold."""\n    ...'
    ),
    reference=targets_out_of_fold,
    alternatives=(image_by_image, sorted_and_put_back),
    cases=fold_cases,
    drawn=drawn_folds,
    hints=(
        "The labels are random, so nobody can predict them. How does the teacher know them?",
        "A teacher that has memorized an image repeats its label. Which images may it have seen when it predicts one?",
        "For each fold: `fit` on `folds != fold`, predict `folds == fold`, and write the rows back where they belong.",
    ),
    misconceptions=(
        Misconception(
            "one teacher for all",
            one_teacher_for_all,
            "the teacher has seen every image that it predicts, label included. A student that is then tested on a "
            "held-out fold has seen that fold's labels through the teacher",
        ),
        Misconception(
            "each fold its own teacher",
            each_fold_its_own,
            "the teacher is trained on the very fold that it predicts. It is to be trained on the others",
        ),
        Misconception(
            "in the order of the folds",
            in_order_of_folds,
            "the predictions are right, but they stand in the order of the folds: row n no longer belongs to image n",
        ),
        Misconception(
            "only the image itself left out",
            leave_one_out,
            "you leave out the one image only. Its whole fold must be unseen: the fold is what the student is tested "
            "on",
        ),
        Misconception(
            "mean of all teachers",
            mean_of_all_teachers,
            "you average all teachers, and all but one of them have seen the image",
        ),
        Misconception(
            "the last teacher",
            the_last_teacher,
            "the last teacher predicts all images. It has seen all folds but the last one",
        ),
        Misconception(
            "trained on one fold",
            trained_on_the_next_fold,
            "the teacher has not seen the images that it predicts, but it is trained on one other fold only. Use all "
            "of them",
        ),
        Misconception(
            "folds counted from 0",
            folds_counted_from_zero,
            "you count the folds from 0. They may be any integers: images of other folds keep a row of zeros",
        ),
        Misconception(
            "one fold left out",
            only_the_first_fold,
            "only the first fold is predicted by a teacher that has not seen it. Every fold needs a teacher of its own",
        ),
        Misconception(
            "hard labels",
            hardened,
            "the folds are right, but you return the predicted classes. The teacher's probabilities are asked for",
        ),
    ),
    shows="a label travels with whatever was trained on it, predictions included.",
    derivation=(
        "If the target of image i was made by a teacher that saw label i, the target depends on label i. Trained on "
        "it, a student does, too, and an accuracy on image i says nothing about images with labels that nobody has "
        "seen."
    ),
)
