"""16.3 learning without forgetting."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Case, Exercise, case, integer
from .common import labels_from, logits_of
from .wrong_16_3 import WRONG, Classes


def lwf_loss(
    student_logits: Tensor,
    old_logits: Tensor,
    labels: Tensor,
    *,
    classes: Classes,
    task: int,
    temperature: float,
    weight: float,
) -> Tensor:
    old = [c for name in classes if name < task for c in classes[name]]
    seen = old + list(classes[task])
    places = torch.zeros(student_logits.shape[1], dtype=torch.int64)
    places[seen] = torch.arange(len(seen))
    loss = F.cross_entropy(student_logits[:, seen], places[labels])
    if not old:
        return loss
    log_p = F.log_softmax(old_logits.detach()[:, old] / temperature, dim=1)
    log_q = F.log_softmax(student_logits[:, old] / temperature, dim=1)
    return loss + weight * temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def lwf_with_masks(
    student_logits: Tensor,
    old_logits: Tensor,
    labels: Tensor,
    *,
    classes: Classes,
    task: int,
    temperature: float,
    weight: float,
) -> Tensor:
    columns = torch.arange(student_logits.shape[1])
    old = torch.isin(columns, torch.tensor([c for name, own in classes.items() if name < task for c in own]))
    seen = old | torch.isin(columns, torch.tensor(list(classes[task])))
    loss = F.cross_entropy(student_logits.masked_fill(~seen, -torch.inf), labels)
    if old.any():
        soft = (old_logits[:, old].detach() / temperature).softmax(dim=1)
        log_q = (student_logits[:, old] / temperature).log_softmax(dim=1)
        loss = loss + weight * temperature**2 * F.kl_div(log_q, soft, reduction="batchmean")
    return loss


def lwf_by_rows(
    student_logits: Tensor,
    old_logits: Tensor,
    labels: Tensor,
    *,
    classes: Classes,
    task: int,
    temperature: float,
    weight: float,
) -> Tensor:
    old = sum((list(classes[name]) for name in sorted(classes) if name < task), [])
    seen = [*old, *classes[task]]
    total = torch.zeros((), dtype=student_logits.dtype)
    for student, teacher, label in zip(student_logits, old_logits.detach(), labels.tolist(), strict=True):
        total = total + student[seen].logsumexp(dim=0) - student[label]
        if old:
            p, q = (each[old].div(temperature).log_softmax(dim=0) for each in (teacher, student))
            total = total + weight * temperature**2 * (p.exp() * (p - q)).sum()
    return total / len(labels)


def four_tasks() -> dict[int, list[int]]:
    return {0: [4, 1], 1: [6, 0, 3], 2: [2, 7], 3: [5, 8]}


def batch(seed: int | torch.Generator, count: int, classes: Classes, task: int) -> tuple[Tensor, Tensor, Tensor]:
    """Student's and old network's logits for ten classes, NaN where the old network has learned nothing, and labels."""
    generator = torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed
    student, old = logits_of(count, 10, generator), logits_of(count, 10, generator)
    learned = [c for name in classes if name < task for c in classes[name]]
    unread = torch.ones(10, dtype=torch.bool)
    unread[learned] = False
    return student, old.masked_fill(unread, torch.nan), labels_from(list(classes[task]), count, generator)


def lwf_cases() -> list[Case]:
    other = {7: [9, 2], 3: [8, 0], 1: [3, 5, 1]}
    large = [part * 200 if part.is_floating_point() else part for part in batch(4, 3, four_tasks(), 2)]
    single = [part.float() if part.is_floating_point() else part for part in batch(5, 6, four_tasks(), 3)]
    generator = torch.Generator().manual_seed(6)
    whole = logits_of(4, 10, generator), logits_of(4, 10, generator), labels_from([2, 7], 4, generator)
    return [
        case(*whole, classes=four_tasks(), task=2, temperature=2.0, weight=0.7),
        case(*batch(1, 3, four_tasks(), 1), classes=four_tasks(), task=1, temperature=1.5, weight=2.0),
        case(
            *batch(2, 4, four_tasks(), 0), classes=four_tasks(), task=0, temperature=2.0, weight=1.5
        ),  # the first task
        case(*batch(3, 5, other, 7), classes=other, task=7, temperature=3.0, weight=0.4),
        case(*large, classes=four_tasks(), task=2, temperature=2.0, weight=1.0),
        case(*single, classes=four_tasks(), task=3, temperature=2.5, weight=1.2),
    ]


def drawn_lwf(g: torch.Generator) -> Case:
    order, task = torch.randperm(10, generator=g).tolist(), integer(g, 1, 3)
    classes = {0: order[:3], 1: order[3:5], 2: order[5:7], 3: order[7:9]}
    settings = {"temperature": integer(g, 5, 25) / 6.5, "weight": integer(g, 1, 20) / 7.5}
    return case(*batch(g, integer(g, 1, 6), classes, task), classes=classes, task=task, **settings)


EXERCISE = Exercise(
    id="16.3",
    title="learning without forgetting",
    question=(
        "A network learns the classes of one task after another. `classes` is a dict from the number of each task, an "
        "integer, to the list of its classes. The current task is `task`; the old classes are those of all tasks with "
        "a smaller number. Write `my_lwf_loss(student_logits, old_logits, labels, *, classes, task, temperature, "
        "weight)` for logits (N, C) of N new images. The first term is the cross-entropy with the labels, where the "
        "old classes and those of the current task compete, and no later ones. The second is `weight` times "
        r"$T^2 \cdot \mathrm{KL}(p_{old}\,\|\,p_s)$, where both softmaxes go over the old classes alone. Each is a "
        "mean over the images; return the sum as a 0-dimensional tensor. The student gets a gradient, `old_logits` "
        "none. Other columns of `old_logits` are not to be used, they may be NaN. If there are no old classes, only "
        "the first term is left. Large logits must not produce infinities."
    ),
    skeleton=(
        "def my_lwf_loss(student_logits, old_logits, labels, *, classes, task, temperature, weight):\n"
        '    """Cross-entropy of the classes so far, and distillation of the old ones."""\n    ...'
    ),
    reference=lwf_loss,
    alternatives=(lwf_with_masks, lwf_by_rows),
    cases=lwf_cases,
    drawn=drawn_lwf,
    hints=(
        "Two lists of columns are needed: the old classes, and the old and new ones. Which term takes which?",
        "Slice the *logits* first, then take the softmax of the slice. A label is a class number, and becomes a "
        "position in the slice.",
        "`old = [c for t in classes if t < task for c in classes[t]]`; with `student_logits[:, old]` and "
        "`old_logits.detach()[:, old]` the second term is the loss of notebook 03.",
    ),
    misconceptions=WRONG,
    shows="the old network has an opinion about the old classes alone, so both softmaxes end there.",
    derivation=(
        "L = CE(z_s[old ∪ new], y) + λ T² Σ_{c in old} p_c (ln p_c - ln q_c), p and q softmaxes of the sliced logits "
        "over T (Li and Hoiem 2016). Its second gradient is λ T (q - p) on the old columns and 0 on the new ones."
    ),
    gradients=(0, 1),
    points=2,
)
