"""Losses between layers as a part of distillation: recorded on every batch, regressors trained with the student."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from .._base.checks import check_not_negative
from ..features import FeatureTerm, Recorded, outputs_of


class Terms:
    """The feature terms of one training run: what takes part in it, and their sum for the batch that ran last."""

    def __init__(self, terms: Sequence[FeatureTerm], student: nn.Module, teacher: nn.Module | Tensor) -> None:
        for term in terms:
            if not isinstance(term, FeatureTerm):
                raise TypeError(f"features= takes a list of kdcourse.features.FeatureTerm, got {type(term).__name__}")
            check_not_negative("weight", term.weight)
        if terms and not isinstance(teacher, nn.Module):
            raise ValueError("features= needs the teacher's layers: pass the network, not its logits")
        self.terms, self._student, self._teacher = terms, student, teacher
        regressors = [term.regressor for term in terms if term.regressor is not None]
        self.pupil = Pupil(student, regressors) if regressors else student

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
            yield lambda: sum(self._value(term, of_student, of_teacher) for term in self.terms)

    def _value(self, term: FeatureTerm, of_student: Recorded, of_teacher: Recorded) -> Tensor:
        features = of_student[term.student_layer]
        if term.regressor is not None:
            features = term.regressor(features)
        return term.weight * term.loss(features, of_teacher[term.teacher_layer])

    def identity(self) -> dict[str, Any]:
        """What tells a run with these terms from others."""
        named = [(term.student_layer, term.teacher_layer, term.loss, term.weight) for term in self.terms]
        return {"features": named} if named else {}


class Pupil(nn.Module):
    """A student that trains together with regressors: one network to the optimizer and to a checkpoint."""

    def __init__(self, student: nn.Module, regressors: Sequence[nn.Module]) -> None:
        super().__init__()
        self.student, self.regressors = student, nn.ModuleList(regressors)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.student(*inputs, **named)
