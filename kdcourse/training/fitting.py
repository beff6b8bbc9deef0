"""`fit` on labels, `distill` against a teacher: what makes the loss of a batch."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base.checks import IGNORED, check_classes, check_fraction, check_label_range, check_positive
from ..features import FeatureTerm
from ..losses import distillation_loss, kd_loss
from ..seeds import seeded
from .batches import Batch, Data, check_data
from .loop import optimise
from .networks import Output, check_class_labels
from .options import History, Options, settings_of
from .schedules import Schedule, checked, points
from .teachers import targets_of
from .terms import Terms


def fit(
    student: nn.Module,
    train: Data,
    *,
    loss: Callable[[Tensor, Any], Tensor] = F.cross_entropy,
    **options: Unpack[Options],
) -> History:
    """Train ``student`` in place on the labels: AdamW, ``loss(logits, labels)``, everything else in `Options`.

    ``train`` is a `Split`, a DataLoader, or anything that gives its batches again each time it is iterated. Logits are
    (..., C), labels (...) int64; those of -100 are left out. A loss of one's own is given the labels as they come, None
    where there are none; PyTorch's cross-entropy is given rows of logits, whatever their rank.

    The same arguments, and the same state of a loader's own generator, give bit-identical weights on the same machine.
    ``with torch.autocast(...)`` around the call computes in half precision; float16 gets PyTorch's ``GradScaler``.
    Parameters that take no gradient are not trained, and a part in eval mode that has only such parameters stays in
    eval mode, a frozen batch norm for example. The student ends in eval mode, on ``device``. Raises ``ValueError`` for
    batches whose parts do not pair up, labels that are not a class, or a loss that is no longer finite.

    >>> from kdcourse.data import Split
    >>> student = nn.Linear(2, 2)
    >>> history = fit(student, Split(torch.eye(2), torch.tensor([0, 1])), epochs=50, learning_rate=0.1, progress=False)
    >>> student(torch.eye(2)).argmax(dim=-1)
    tensor([0, 1])
    """
    settings = settings_of("fit", options)

    def batch_loss(logits: Tensor, batch: Batch, done: float) -> Tensor:
        if _is_cross_entropy(loss):
            return loss(*rows_of(batch, logits, ignoring=loss is F.cross_entropy))
        return loss(logits, batch.labels)

    return optimise(student, train, batch_loss, settings, identity=lambda: {"function": "fit", "loss": loss})


def distill(
    student: nn.Module,
    teacher: nn.Module | Tensor,
    train: Data,
    *,
    temperature: float | Schedule = 4.0,
    alpha: float | Schedule = 0.9,
    loss: Callable[..., Tensor] | None = None,
    teacher_output: Output | None = None,
    features: Sequence[FeatureTerm] = (),
    **options: Unpack[Options],
) -> History:
    """Train ``student`` in place against ``teacher``; otherwise as `fit`, with the same `Options`.

    ``teacher`` is a network, or its logits (N, ..., C) for ``train.images`` in the same order. A network runs over the
    images of a `Split` once and its logits are kept by image, so shuffling cannot mix them up; with ``augment``, or
    on a loader, it runs on the very batch that the student sees, and bare logits are refused. It is moved to
    ``device``, runs in eval mode without gradient, and may be the teacher of several threads, which train one
    after the other. ``temperature`` and ``alpha`` (the teacher's weight, as in
    `kdcourse.losses.distillation_loss`) are numbers or schedules of the fraction of training done; alpha = 1 needs no
    labels. ``loss`` replaces the distillation loss and is called as
    ``loss(student_logits, teacher_logits, labels, temperature=…, alpha=…)``. ``output`` picks the logits of both
    networks, ``teacher_output`` those of a teacher that returns something else.

    ``features`` adds losses between layers of the two networks, see `kdcourse.features.FeatureTerm`; their regressors
    train with the student, and ``optimizer`` is given their parameters as well. The teacher then runs on every batch.

    Raises ``ValueError`` for a teacher whose logits contain NaN or infinity, or that shares with the student what is
    trained; a logit of -inf is a class that cannot be.

    >>> student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> batches = [torch.randn(8, 2) for _ in range(10)]  # no labels, alpha is 1
    >>> history = distill(student, teacher, batches, alpha=1, temperature=2, epochs=2, progress=False)
    >>> len(history.train_loss)
    2
    """
    settings = settings_of("distill", options)
    temperature_at = checked("temperature", temperature, check_positive)
    alpha_at = checked("alpha", alpha, check_fraction)
    check_data(train)
    terms = Terms(features, student, teacher)
    targeting = targets_of(
        teacher, terms.pupil, train, settings, teacher_output or settings.output, every_batch=bool(terms.terms)
    )
    # hooks go on where no other thread runs the teacher
    alone = seeded(settings.seed, settings.device) if terms.terms else nullcontext()
    with alone, targeting as targets, terms.recording() as of_features:

        def batch_loss(logits: Tensor, batch: Batch, done: float) -> Tensor:
            soft, extra = targets.of(batch, logits), of_features()  # before a loss that may call a network again
            weights: dict[str, Any] = {"temperature": temperature_at(done), "alpha": alpha_at(done)}
            if loss is not None:
                return loss(logits, soft, batch.labels, **weights) + extra
            rows = rows_of(batch, logits, soft, needed=weights["alpha"] != 1)
            mixed = distillation_loss if targets.impossible(rows[1]) else formula
            return mixed(*rows, **weights) + extra

        def identity() -> dict[str, Any]:
            weights = {"temperature": points(temperature), "alpha": points(alpha)} | terms.identity()
            return weights | {"function": "distill", "loss": loss, "teacher": teacher, "teacher_output": teacher_output}

        def explain() -> None:
            targets.explain()
            terms.explain()

        return optimise(terms.pupil, train, batch_loss, settings, identity=identity, explain=explain)


def formula(logits: Tensor, soft: Tensor, labels: Tensor | None, *, temperature: float, alpha: float) -> Tensor:
    """`kdcourse.losses.distillation_loss` unchecked; labels may be probabilities."""
    distillation = kd_loss(logits, soft, temperature=temperature, validate=False)
    return distillation if labels is None else (1 - alpha) * F.cross_entropy(logits, labels) + alpha * distillation


def rows_of(batch: Batch, *logits: Tensor, needed: bool = True, ignoring: bool = True) -> tuple[Any, ...]:
    """Logits (M, C) and labels (M,) of the M positions not labelled -100; without labels where none are ``needed``.

    Without ``ignoring`` all positions stay, for a loss that knows itself which to leave out.
    """
    labels, shape = batch.labels, logits[0].shape
    check_classes("logits", logits[0])
    rows = list(logits) if len(shape) == 2 else [each.reshape(-1, shape[-1]) for each in logits]
    if _are_soft(labels, shape):
        return *rows, labels.reshape(-1, shape[-1]) if needed else None
    if needed:
        check_class_labels(labels, logits[0])
        if ignoring:
            _check_range(batch, shape[-1])
    if ignoring and batch.lowest < 0 and labels.shape == shape[:-1]:
        keep = labels.reshape(-1) != IGNORED
        if not keep.any():
            raise ValueError(f"no position of a batch is left: its labels are {IGNORED} everywhere")
        rows, labels = [each[keep] for each in rows], labels.reshape(-1)[keep]
    return *rows, labels.reshape(-1) if needed else None


def _check_range(batch: Batch, classes: int) -> None:
    if batch.highest >= classes:
        raise ValueError(f"labels must lie in [0, {classes - 1}], a class for each logit, found {batch.highest}")
    if batch.lowest < 0:
        check_label_range(batch.labels, classes)


def _are_soft(labels: Any, shape: torch.Size) -> bool:
    """Whether the labels are a probability for each class, as PyTorch's cross-entropy also takes them."""
    return isinstance(labels, Tensor) and labels.is_floating_point() and labels.shape == shape


def _is_cross_entropy(loss: Callable[..., Any]) -> bool:
    """Whether ``loss`` is PyTorch's, which looks for the classes in dimension 1."""
    loss = loss.func if isinstance(loss, partial) else loss
    return loss in (F.cross_entropy, F.nll_loss) or isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss))
