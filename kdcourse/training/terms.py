"""Losses between layers as a part of distillation: recorded on every batch, regressors trained with the student."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .._base.checks import check_not_negative
from ..features import FeatureTerm, Recorded, outputs_of


class Terms:
    """The feature terms of one training run: what takes part in it, and their sum for the batch that ran last."""

    def __init__(self, terms: Sequence[FeatureTerm], student: nn.Module, teacher: nn.Module | Tensor) -> None:
        self.terms = [terms] if isinstance(terms, FeatureTerm) else list(terms)
        for term in self.terms:
            _check(term)
        if self.terms and not isinstance(teacher, nn.Module):
            raise ValueError("features= needs the teacher's layers: pass the network, not its logits")
        self._student, self._teacher = student, teacher
        self._totals: list[Tensor | float] = [0.0] * len(self.terms)
        parts = [part for term in self.terms for part in (term.regressor, term.loss) if isinstance(part, nn.Module)]
        self.pupil = Pupil(student, parts) if parts else student

    @contextmanager
    def recording(self) -> Iterator[Callable[[], Tensor | float]]:
        """Inside the block, the function that sums the weighted terms."""
        if not isinstance(self._teacher, nn.Module) or not self.terms:
            yield lambda: 0.0
            return
        student, teacher = (
            outputs_of(self._student, [term.student_layer for term in self.terms]),
            outputs_of(self._teacher, [term.teacher_layer for term in self.terms]),
        )
        with student as of_student, teacher as of_teacher:
            yield lambda: self._sum(of_student, of_teacher)

    def _sum(self, of_student: Recorded, of_teacher: Recorded) -> Tensor | float:
        total: Tensor | float = 0.0
        for place, term in enumerate(self.terms):
            try:
                value = float(term.weight) * _value(
                    term, _read(of_student, term.student_layer), _read(of_teacher, term.teacher_layer)
                )
            except Exception as error:
                error.add_note(f"in the feature term between the {_named(term)}")
                raise
            self._totals[place] = self._totals[place] + value.detach()
            total = total + value
        return total

    def explain(self) -> None:
        """Raise if a term is why a loss is not finite."""
        for term, total in zip(self.terms, self._totals, strict=True):
            if not math.isfinite(total):
                raise ValueError(
                    f"the feature term between the {_named(term)} is no longer finite: lower its weight or the "
                    "learning rate, set clip_norm=, or look for a division by zero in its loss"
                )

    def identity(self) -> dict[str, Any]:
        """What tells a run with these terms from others."""
        named = [
            (term.student_layer, term.teacher_layer, term.loss, term.weight, type(term.regressor).__name__)
            for term in self.terms
        ]
        return {"features": named} if named else {}


def _named(term: FeatureTerm) -> str:
    return f"student's {term.student_layer!r} and the teacher's {term.teacher_layer!r}"


def _check(term: FeatureTerm) -> None:
    if not isinstance(term, FeatureTerm):
        raise TypeError(f"features= takes a list of kdcourse.features.FeatureTerm, got {type(term).__name__}")
    if not isinstance(term.weight, Real) or isinstance(term.weight, bool):
        raise TypeError(
            f"the weight of a feature term must be a number, got {type(term.weight).__name__}: to change it on the "
            "way, call distill once for each weight"
        )
    check_not_negative("weight", term.weight)
    if not callable(term.loss) or isinstance(term.loss, type):
        raise TypeError(f"the loss of a feature term must be a function of two features, got {term.loss!r}")
    if term.regressor is not None and not isinstance(term.regressor, nn.Module):
        raise TypeError(f"a regressor must be a torch.nn.Module, got {type(term.regressor).__name__}: nn.Linear(...)")


def _read(recorded: Recorded, layer: str) -> Any:
    try:
        return recorded[layer]
    except KeyError as error:
        raise ValueError(error.args[0]) from None


def _value(term: FeatureTerm, student: Any, teacher: Any) -> Tensor:
    """The term's loss; raise unless it is one from which the student learns."""
    if not any(part.requires_grad for part in tree_leaves(student) if isinstance(part, Tensor)):
        raise ValueError(
            f"the student's {term.student_layer!r} takes no gradient, so nothing would be learned from the term: all "
            "before it is frozen, or it runs without gradient. Name a layer behind one that is trained"
        )
    value = term.loss(student if term.regressor is None else _mapped(term.regressor, student), teacher)
    if not isinstance(value, Tensor) or value.ndim != 0:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"the loss of a feature term must be a 0-d tensor, the mean over the batch, got {found}")
    if not value.requires_grad:
        raise ValueError(
            "the loss of a feature term does not depend on the student: its first argument are the student's features, "
            "which it must not detach"
        )
    return value


def _mapped(regressor: nn.Module, features: Any) -> Any:
    try:
        return regressor(features)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        given = f"{tuple(features.shape)} {features.dtype}" if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"the regressor must take what the student's layer returns, {given}: {error}") from error


class Pupil(nn.Module):
    """A student that trains together with regressors: one network to the optimizer and to a checkpoint."""

    def __init__(self, student: nn.Module, regressors: Sequence[nn.Module]) -> None:
        super().__init__()
        self.student, self.regressors = student, nn.ModuleList(regressors)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.student(*inputs, **named)
