"""A teacher's logits for every batch: cached from one pass where images repeat, computed afresh where they do not."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain

import torch
from torch import Tensor, nn

from .._base.checks import IGNORED, widen
from .._base.modes import call, in_eval_mode
from ..data import Split
from .batches import Batch, Data
from .networks import Output, logits_of, logits_of_batches, parts_to_keep
from .options import Settings

NAMES = {"whose": "the teacher's output", "option": "teacher_output="}
NOT_FINITE = "the teacher's logits contain NaN or infinity: look for a diverged teacher, or a division by zero"


class Targets:
    """The teacher's logits, batch by batch, and an eye on them.

    ``impossible`` says whether classes of -inf are among them; None where they have not been looked at. Then the first
    batch is, and a sum is kept, in which NaN and infinity stay: looking at every batch would wait for the device.
    """

    def __init__(self, of_batch: Callable[[Batch], Tensor], device: torch.device, *, impossible: bool | None) -> None:
        self._of_batch, self._impossible = of_batch, impossible
        self._sum = torch.zeros((), device=device) if impossible is None else None

    def of(self, batch: Batch, student_logits: Tensor) -> Tensor:
        """The batch's logits, of the same shape as the student's."""
        soft = self._of_batch(batch)
        if soft.shape != student_logits.shape:
            raise ValueError(
                f"logits of shape {tuple(student_logits.shape)} and teacher logits of {tuple(soft.shape)} differ"
            )
        if self._sum is not None:
            self._sum = self._sum + soft.sum()
        return soft

    def impossible(self, logits: Tensor) -> bool:
        """Whether the teacher has classes of -inf, which cannot be: once looked at, so taken."""
        if self._impossible is None:
            self._impossible = look_at(logits)
        return self._impossible

    def explain(self) -> None:
        """Raise if the teacher is why a loss is not finite."""
        total = 0.0 if self._sum is None else self._sum.item()
        if math.isnan(total) or total == math.inf:
            raise ValueError(NOT_FINITE)
        if total == -math.inf and not self._impossible:
            raise ValueError(
                "the teacher's logits contain -inf, and in the first batch they did not: pass "
                "loss=kdcourse.losses.distillation_loss, which looks for it in every batch"
            )


def look_at(logits: Tensor) -> bool:
    """Raise unless these can be a teacher's logits; return whether there are classes of -inf among them."""
    if not logits.is_floating_point():
        raise TypeError(f"teacher logits must be floating point, got {logits.dtype}: pass logits, not class indices")
    if logits.numel() == 0:
        raise ValueError(f"teacher logits are empty: shape {tuple(logits.shape)}")
    if not (logits < math.inf).all():
        raise ValueError(NOT_FINITE)
    return bool((logits == -math.inf).any())


def _counted(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits at positions that have a label; those of -100 are not read, whatever is there."""
    ignoring = labels.shape == logits.shape[:-1] and bool((labels == IGNORED).any())
    return logits[(labels != IGNORED).to(logits.device)] if ignoring else logits


@contextmanager
def targets_of(
    teacher: nn.Module | Tensor,
    student: nn.Module,
    train: Data,
    settings: Settings,
    output: Output | None,
    *,
    every_batch: bool = False,
) -> Iterator[Targets]:
    """The teacher's logits for every batch of ``train``, for as long as the block lasts.

    A network runs on ``every_batch`` if that is asked for, or if the images do not repeat.
    """
    device = torch.device(settings.device)
    if isinstance(teacher, nn.Module):
        check_apart(student, teacher)
        teacher.to(device)
    elif not isinstance(teacher, Tensor):
        raise TypeError(
            f"the teacher must be a network (torch.nn.Module) or its logits, got {type(teacher).__name__}: "
            "wrap a function in a module"
        )
    if isinstance(train, Split) and settings.augment is None and not every_batch:
        if isinstance(teacher, nn.Module):
            logits = logits_of_batches(teacher, train.images.split(1000), output, **NAMES)
        else:
            logits = teacher
        impossible = look_at(_counted(logits, train.labels))
        if len(logits) != len(train.images):
            raise ValueError(f"{len(logits)} rows of teacher logits for {len(train.images)} images: they must pair up")
        kept = widen(logits.detach()).to(device)
        yield Targets(lambda batch: kept[batch.rows], device, impossible=impossible)
    elif isinstance(teacher, Tensor):
        raise ValueError(
            "with augment=, or on a loader, the teacher must see each batch: pass the network, not its logits"
        )
    else:
        yield from _seen_anew(teacher, student, device, output)


def _seen_anew(
    teacher: nn.Module, student: nn.Module, device: torch.device, output: Output | None
) -> Iterator[Targets]:
    # a module that is also the student's is switched for the teacher's turn alone
    shared = not set(student.modules()).isdisjoint(teacher.modules())

    @torch.no_grad()
    def of_batch(batch: Batch) -> Tensor:
        with in_eval_mode(teacher) if shared else nullcontext():
            return logits_of(call(teacher, batch.inputs), output, **NAMES)

    with nullcontext() if shared else in_eval_mode(teacher):
        yield Targets(of_batch, device, impossible=None)


def check_apart(student: nn.Module, teacher: nn.Module) -> None:
    """Raise if training the student would change a number of the teacher's."""
    kept = parts_to_keep(student)
    of_teacher = {_storage(tensor) for tensor in chain(teacher.parameters(), teacher.buffers())} - {0}
    changing = [(name, each) for name, each in student.named_parameters() if each.requires_grad]
    for path, module in student.named_modules():
        if module not in kept:
            changing += [(f"{path}.{name}", buffer) for name, buffer in module.named_buffers(recurse=False)]
    shared = [name for name, tensor in changing if _storage(tensor) in of_teacher]
    if shared:
        raise ValueError(
            f"student and teacher share {', '.join(shared[:3])}{' and more' * (len(shared) > 3)}: the teacher would "
            "change as the student learns. Give the teacher a copy, copy.deepcopy(teacher), or freeze what they share: "
            ".eval().requires_grad_(False)"
        )


def _storage(tensor: Tensor) -> int:
    return 0 if nn.parameter.is_lazy(tensor) else tensor.untyped_storage().data_ptr()
