"""16.6 dark experience replay."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, Misconception, case, integer
from .common import labels_from, logits_of


def dark_loss(
    student_logits: Tensor,
    labels: Tensor,
    replayed: Tensor,
    kept_logits: Tensor,
    kept_labels: Tensor,
    *,
    alpha: float,
    beta: float,
) -> Tensor:
    loss = F.cross_entropy(student_logits, labels)
    if len(replayed) == 0:
        return loss
    loss = loss + alpha * F.mse_loss(replayed, kept_logits.detach())
    return loss + beta * F.cross_entropy(replayed, kept_labels)


def dark_by_sums(
    student_logits: Tensor,
    labels: Tensor,
    replayed: Tensor,
    kept_logits: Tensor,
    kept_labels: Tensor,
    *,
    alpha: float,
    beta: float,
) -> Tensor:
    total = F.cross_entropy(student_logits, labels, reduction="sum") / len(labels)
    count, classes = replayed.shape
    if count:
        with torch.no_grad():
            targets = kept_logits.clone()
        total = total + alpha * ((replayed - targets) ** 2).sum() / (count * classes)
        total = total + beta * F.cross_entropy(replayed, kept_labels, reduction="sum") / count
    return total


def dark_by_hand(
    student_logits: Tensor,
    labels: Tensor,
    replayed: Tensor,
    kept_logits: Tensor,
    kept_labels: Tensor,
    *,
    alpha: float,
    beta: float,
) -> Tensor:
    new = -student_logits.log_softmax(dim=1)[torch.arange(len(labels)), labels].mean()
    if replayed.shape[0] > 0:
        hard = -replayed.log_softmax(dim=1).gather(1, kept_labels[:, None]).mean()
        new = new + alpha * (replayed - kept_logits.detach()).square().mean() + beta * hard
    return new


def _terms(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of the new, squared difference and cross-entropy of the old; 0 where none are old."""
    zero = torch.zeros((), dtype=s.dtype)
    new = F.cross_entropy(s, y)
    return (new, F.mse_loss(r, t.detach()), F.cross_entropy(r, old)) if len(r) else (new, zero, zero)


def exchanged(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    return new + beta * squared + alpha * hard


def summed_over_classes(
    s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float
) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    return new + alpha * squared * s.shape[1] + beta * hard


def halved(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    return new + alpha * squared / 2 + beta * hard


def centred(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    apart = r - t.detach()
    new, squared, hard = _terms(s, y, r, t, old)
    squared = (apart - apart.mean(dim=1, keepdim=True)).square().mean() if len(r) else squared
    return new + alpha * squared + beta * hard


def divergence(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    if len(r):
        squared = F.kl_div(r.log_softmax(dim=1), t.detach().softmax(dim=1), reduction="batchmean")
    return new + alpha * squared + beta * hard


def probabilities(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    if len(r):
        squared = F.mse_loss(r.softmax(dim=1), t.detach().softmax(dim=1))
    return new + alpha * squared + beta * hard


def absolute(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    return new + alpha * (F.l1_loss(r, t.detach()) if len(r) else squared) + beta * hard


def labels_only(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, _, hard = _terms(s, y, r, t, old)
    return new + beta * hard


def logits_only(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, _ = _terms(s, y, r, t, old)
    return new + alpha * squared


def one_cross_entropy(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    _, squared, _ = _terms(s, y, r, t, old)
    return F.cross_entropy(torch.cat([s, r]), torch.cat([y, old])) + alpha * squared


def mixed(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    return (1 - alpha) * new + alpha * squared + beta * hard


def not_detached(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    return new + alpha * (F.mse_loss(r, t) if len(r) else squared) + beta * hard


def student_detached(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    return new + alpha * squared.detach() + beta * hard


def label_s_logit(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    new, squared, hard = _terms(s, y, r, t, old)
    if len(r):
        squared = (r - t.detach()).gather(1, old[:, None]).square().mean()
    return new + alpha * squared + beta * hard


def empty_is_nan(s: Tensor, y: Tensor, r: Tensor, t: Tensor, old: Tensor, *, alpha: float, beta: float) -> Tensor:
    return F.cross_entropy(s, y) + alpha * F.mse_loss(r, t.detach()) + beta * F.cross_entropy(r, old)


def dark_case(seed: int | torch.Generator, new: int, old: int, classes: int, alpha: float, beta: float) -> Case:
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    parts = [
        logits_of(new, classes, generator),
        labels_from([1, 0, classes - 1], new, generator),
        logits_of(old, classes, generator),
        logits_of(old, classes, generator),
        labels_from(list(range(classes)), old, generator),
    ]
    return case(*parts, alpha=alpha, beta=beta)


def dark_cases() -> list[Case]:
    half = dark_case(4, 5, 6, 3, 0.8, 0.6)
    parts = [part.float() if part.is_floating_point() else part for part in half.arguments]
    return [
        dark_case(1, 2, 3, 4, 0.3, 0.7),
        dark_case(2, 4, 2, 5, 1.5, 0.4),
        dark_case(3, 3, 0, 4, 0.5, 0.5),  # nothing is kept yet
        case(*parts, **half.keywords),
    ]


EXERCISE = Exercise(
    id="16.6",
    title="dark experience replay",
    question=(
        "A batch has two parts: new images with `student_logits` (N, C) and `labels` (N,), and M images from memory. "
        "For those, `replayed` (M, C) are the student's logits now, `kept_logits` (M, C) the logits that were stored "
        "with them, and `kept_labels` (M,) their labels. Write `my_dark_loss(student_logits, labels, replayed, "
        "kept_logits, kept_labels, *, alpha, beta)`: the cross-entropy of the new images; plus `alpha` times the mean, "
        "over all M · C entries, of the squared difference of replayed and stored logits; plus `beta` times the "
        "cross-entropy of the replayed images. Each cross-entropy is the mean over its own images. The result is a "
        "0-dimensional tensor. Both student parts get a gradient, `kept_logits` none. If M = 0, only the first term is "
        "left."
    ),
    skeleton=(
        "def my_dark_loss(student_logits, labels, replayed, kept_logits, kept_labels, *, alpha, beta):\n"
        '    """New labels, old logits, old labels."""\n    ...'
    ),
    reference=dark_loss,
    alternatives=(dark_by_sums, dark_by_hand),
    cases=dark_cases,
    drawn=lambda g: dark_case(
        g, integer(g, 1, 5), integer(g, 0, 5), integer(g, 3, 6), integer(g, 1, 15) / 7.5, integer(g, 1, 15) / 8.5
    ),
    hints=(
        "Three terms, each a mean of its own. Which rows and which targets belong to each?",
        "The second one compares logits: `F.mse_loss`, whose default is the mean over all entries.",
        "Return the first term alone if `len(replayed) == 0`: a mean over nothing is NaN.",
    ),
    misconceptions=(
        Misconception(
            "alpha and beta exchanged",
            exchanged,
            "alpha and beta are exchanged: alpha weights the logits, beta the labels",
        ),
        Misconception(
            "summed over the classes",
            summed_over_classes,
            "the squared differences are summed over the C classes. Take the mean over all entries, as the authors' "
            "code does",
        ),
        Misconception("halved", halved, "the squared difference is multiplied by one half"),
        Misconception(
            "centred",
            centred,
            "you centre the differences in each row. Here the logits themselves are compared, a common shift included",
        ),
        Misconception(
            "a divergence",
            divergence,
            "you compare softmaxes by a divergence. That is replay with distillation; this loss compares the logits",
        ),
        Misconception(
            "probabilities compared",
            probabilities,
            "you take the squared difference of probabilities. Where both are near 0 or 1 it gives no gradient. "
            "Compare the logits",
        ),
        Misconception("absolute difference", absolute, "you take the absolute difference. Square it"),
        Misconception(
            "no logits",
            labels_only,
            "the stored logits have no effect: this is ordinary replay",
        ),
        Misconception(
            "no old labels",
            logits_only,
            "the stored labels have no effect: this is the version without labels (DER). Add the third term",
        ),
        Misconception(
            "one cross-entropy for both",
            one_cross_entropy,
            "you put new and replayed images into one cross-entropy. Then their numbers decide the weights, not beta",
        ),
        Misconception("mixed", mixed, "you multiply the first term by 1 - alpha. Here it has the weight 1"),
        Misconception(
            "stored logits not detached",
            not_detached,
            "the value is correct, but `kept_logits` gets a gradient too: detach it",
        ),
        Misconception(
            "student detached",
            student_detached,
            "the value is correct, but the squared difference gives the student no gradient: it is logged and does "
            "nothing",
        ),
        Misconception(
            "the label's logit only",
            label_s_logit,
            "you compare the logit of the label only. The others are what an image's logits tell beyond its label",
        ),
        Misconception(
            "NaN from an empty memory",
            empty_is_nan,
            "correct but for an empty memory, where a mean over nothing is NaN. The first batch of the first task "
            "would end the training",
        ),
    ),
    shows="the old network's logits can be kept in place of the old network.",
    derivation=(
        "L = CE(z, y) + α ‖z' - h‖² / (M C) + β CE(z', y') (Buzzega et al. 2020, with the mean over entries as in "
        "their code). β = 0 is DER, α = 0 ordinary replay, both 0 fine-tuning."
    ),
    gradients=(0, 2, 3),
)
