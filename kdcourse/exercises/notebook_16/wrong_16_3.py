"""Wrong answers to 16.3, each with its diagnosis."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..engine.core import Misconception

Classes = Mapping[int, Sequence[int]]


def _old(classes: Classes, task: int) -> list[int]:
    return [c for name in classes if name < task for c in classes[name]]


def _labelled(s: Tensor, labels: Tensor, columns: Sequence[int]) -> Tensor:
    """Cross-entropy among the classes of ``columns``."""
    places = torch.zeros(s.shape[1], dtype=torch.int64)
    places[list(columns)] = torch.arange(len(columns))
    return F.cross_entropy(s[:, list(columns)], places[labels])


def _kl(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    log_p, log_q = (t / temperature).log_softmax(dim=1), (s / temperature).log_softmax(dim=1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1)


def _terms(s: Tensor, t: Tensor, labels: Tensor, o: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Both right terms, the second not weighted; 0 where nothing is old."""
    old = _old(o["classes"], o["task"])
    first = _labelled(s, labels, [*old, *o["classes"][o["task"]]])
    return first, _kl(s[:, old], t.detach()[:, old], o["temperature"]).mean() if old else torch.zeros(())


def sliced_after_softmax(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    first, _ = _terms(s, t, labels, o)
    old, temperature = _old(o["classes"], o["task"]), o["temperature"]
    p, q = ((each / temperature).softmax(dim=1)[:, old] for each in (t.detach(), s))
    return first + o["weight"] * temperature**2 * (p * (p.log() - q.log())).sum(dim=1).mean()


def keys_as_text(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    return _terms(s, t, labels, o)[0]


def current_too(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    columns = [*_old(o["classes"], o["task"]), *o["classes"][o["task"]]]
    term = _kl(s[:, columns], t.detach()[:, columns], o["temperature"]).mean()
    return _terms(s, t, labels, o)[0] + o["weight"] * term


def all_outputs(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    return _terms(s, t, labels, o)[0] + o["weight"] * _kl(s, t.detach(), o["temperature"]).mean()


def one_softmax_a_task(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    total = _terms(s, t, labels, o)[0]
    for name, own in o["classes"].items():
        if name < o["task"]:
            total = total + o["weight"] * _kl(s[:, list(own)], t.detach()[:, list(own)], o["temperature"]).mean()
    return total


def last_task_only(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    before = [name for name in o["classes"] if name < o["task"]]
    if not before:
        return _terms(s, t, labels, o)[0]
    own = list(o["classes"][max(before)])
    return _terms(s, t, labels, o)[0] + o["weight"] * _kl(s[:, own], t.detach()[:, own], o["temperature"]).mean()


def new_classes_compete_alone(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    return _labelled(s, labels, o["classes"][o["task"]]) + o["weight"] * _terms(s, t, labels, o)[1]


def later_classes_compete(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    return F.cross_entropy(s, labels) + o["weight"] * _terms(s, t, labels, o)[1]


def without_t_squared(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    first, second = _terms(s, t, labels, o)
    return first + o["weight"] / o["temperature"] ** 2 * second


def not_detached(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    old = _old(o["classes"], o["task"])
    first, _ = _terms(s, t, labels, o)
    return first + o["weight"] * _kl(s[:, old], t[:, old], o["temperature"]).mean() if old else first


def mean_over_entries(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    first, second = _terms(s, t, labels, o)
    return first + o["weight"] * second / max(1, len(_old(o["classes"], o["task"])))


def direction(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    old = _old(o["classes"], o["task"])
    first, _ = _terms(s, t, labels, o)
    return first + o["weight"] * _kl(t.detach()[:, old], s[:, old], o["temperature"]).mean() if old else first


def mixed(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    first, second = _terms(s, t, labels, o)
    return (1 - o["weight"]) * first + o["weight"] * second


def weight_on_the_labels(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    first, second = _terms(s, t, labels, o)
    return o["weight"] * first + second


def entropy_missing(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    old, temperature = _old(o["classes"], o["task"]), o["temperature"]
    first, _ = _terms(s, t, labels, o)
    if not old:
        return first
    p = (t.detach()[:, old] / temperature).softmax(dim=1)
    return first + o["weight"] * temperature**2 * F.cross_entropy(s[:, old] / temperature, p)


def student_not_softened(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    old, temperature = _old(o["classes"], o["task"]), o["temperature"]
    first, _ = _terms(s, t, labels, o)
    if not old:
        return first
    return first + o["weight"] * _kl(s[:, old] * temperature, t.detach()[:, old], temperature).mean()


def summed(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    first, second = _terms(s, t, labels, o)
    return first + o["weight"] * second * len(s)


def logarithm_of_softmax(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    old, temperature = _old(o["classes"], o["task"]), o["temperature"]
    first, _ = _terms(s, t, labels, o)
    if not old:
        return first
    p, q = ((each[:, old] / temperature).softmax(dim=1) for each in (t.detach(), s))
    return first + o["weight"] * temperature**2 * (p * (p / q).log()).sum(dim=1).mean()


def distillation_only(s: Tensor, t: Tensor, labels: Tensor, **o: Any) -> Tensor:
    return o["weight"] * _terms(s, t, labels, o)[1] + 0 * s.sum()


WRONG = (
    Misconception(
        "softmax, then sliced",
        sliced_after_softmax,
        "you take the softmax over all outputs and slice it afterwards. The slices do not sum to 1, so this is not a "
        "divergence and can fall below 0 (avalanche, issue 1018). Slice the logits first",
    ),
    Misconception(
        "the old classes are never found",
        keys_as_text,
        "the distillation term is 0 in every batch: this is fine-tuning. If you look tasks up by `str(t)`, or by keys "
        "that are not there, nothing is found and nothing fails (avalanche, issue 1121). The keys are integers",
    ),
    Misconception(
        "the current task is old",
        current_too,
        "you distil the current task's classes as well. The old network has not learned them: compare with `<`, not "
        "`<=`",
    ),
    Misconception(
        "all outputs distilled",
        all_outputs,
        "you distil all outputs. The old network has not learned the new classes, and would hold their logits down",
    ),
    Misconception(
        "a softmax per old task",
        one_softmax_a_task,
        "you take one softmax for each old task. Then nothing keeps the old tasks' logits comparable. Here one softmax "
        "goes over all old classes",
    ),
    Misconception(
        "the last task only",
        last_task_only,
        "only the classes of the task before are distilled. All earlier tasks are old",
    ),
    Misconception(
        "new classes compete alone",
        new_classes_compete_alone,
        "in your cross-entropy only the new classes compete. That is the task-aware version: new and old classes are "
        "never compared",
    ),
    Misconception(
        "later classes compete",
        later_classes_compete,
        "in your cross-entropy all C outputs compete, also those of tasks that have not come yet",
    ),
    Misconception(
        "T² is missing",
        without_t_squared,
        "T² is missing: the gradient of the second term shrinks like 1/T², so its weight would change with T",
    ),
    Misconception(
        "old logits not detached",
        not_detached,
        "the value is correct, but `old_logits` gets a gradient too: detach it",
    ),
    Misconception(
        "mean over entries",
        mean_over_entries,
        "the second term is divided by the number of old classes too: the default reduction of `F.kl_div`. It would "
        "count less with every task. Sum over classes, average over images",
    ),
    Misconception(
        "direction",
        direction,
        "this is KL(p_s ‖ p_old): the student weights the logarithms. Here the old network does",
    ),
    Misconception(
        "mixed",
        mixed,
        "you multiply the cross-entropy by 1 - `weight`. Here it has the weight 1",
    ),
    Misconception(
        "weight on the labels",
        weight_on_the_labels,
        "`weight` multiplies the cross-entropy. It belongs to the second term",
    ),
    Misconception(
        "the old network's entropy is missing",
        entropy_missing,
        "the gradient is correct, the value is not: your second term is a cross-entropy, the divergence plus the old "
        "network's entropy. It is not 0 where both agree",
    ),
    Misconception(
        "student not softened",
        student_not_softened,
        "only the old network's logits are divided by T: divide both",
    ),
    Misconception(
        "second term summed",
        summed,
        "the second term is a sum over the images. Take the mean of both terms",
    ),
    Misconception(
        "logarithm of softmax",
        logarithm_of_softmax,
        "correct for small logits. For large ones a probability rounds to 0, and its logarithm is infinite. Use "
        "`log_softmax`",
    ),
    Misconception(
        "distillation only",
        distillation_only,
        "the labels are missing: the network keeps what it knows and learns nothing new",
    ),
)
