"""The comparisons of notebook 13 with 100 labels: 10 training images per class keep theirs, 3,400 lose it.

Every arm trains the same network for the same number of updates on 4,000 rows an epoch: each labelled image six times
and the 3,400 others, or the labelled images alone, forty times each; the mean teacher's batches are half and half.
Every arm has two tries, of a knob of its own, each with the same five seeds. A seed gives the initial weights, the
batches, the 100 labelled images and the 100 validation images, on which one of the two is chosen.
"""

import copy
import math
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.averaging import moving_average
from kdcourse.data import Split, load_mnist, random_affine
from kdcourse.domains import load_scikit_digits
from kdcourse.models import conv_net
from kdcourse.seeds import seeded
from kdcourse.training import distill, evaluate, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
TRAINING: dict[str, Any] = {"epochs": 5, "batch_size": 64, "learning_rate": 1e-2, "progress": False}
KNOBS = {
    "labels only": ("weight_decay", (0.01, 0.3)),
    "labels only, not augmented": ("weight_decay", (0.01, 0.3)),
    "labels only, twice as long": ("weight_decay", (0.01, 0.3)),
    "labels only, averaged": ("decay", (0.95, 0.99)),
    "pseudo-labels": ("threshold", (0.5, 0.9)),
    "soft targets": ("temperature", (1.0, 4.0)),
    "noisy student": ("temperature", (0.3, 1.0)),
    "noisy student, second generation": ("temperature", (0.3, 1.0)),
    "without noise": ("temperature", (0.3, 1.0)),
    "mean teacher": ("weight", (1.0, 5.0)),
    "shuffled pseudo-labels": ("threshold", (0.5, 0.9)),
    "pseudo-labels, scikit-learn's digits": ("threshold", (0.5, 0.9)),
    "pseudo-labels, noise images": ("threshold", (0.5, 0.9)),
    "all labels": ("weight_decay", (0.01, 0.3)),
}
RECIPE: dict[str, Any] = {
    "network": "conv_net((8, 16, 24))",
    "training": TRAINING | {"augmentation": "random_affine()"},
    "tries": KNOBS,
    "teacher": "the chosen labels only of the same seed",
    "mean teacher": {"decay": 0.95, "ramp": "over 0.6 of training", "batch": "32 labelled and 32 others"},
}
digits, augment = cache(load_mnist), random_affine()


class Task(NamedTuple):
    """One draw: 100 labelled images, 3,400 whose labels are hidden, 100 to validate on."""

    labelled: Split
    others: Split
    validation: Split


@cache
def draw(seed: int) -> Task:
    def ten_each(split: Split) -> Tensor:
        with seeded(1000 + seed):
            order = torch.randperm(len(split.labels))
        return torch.cat([order[split.labels[order] == digit][:10] for digit in range(10)])

    train, validation = digits().train, digits().validation
    rows = ten_each(train)
    hidden = torch.ones(len(train.labels), dtype=torch.bool).index_fill(0, rows, False)
    return Task(train.take(rows), train.take(hidden), validation.take(ten_each(validation)))


def joined(labelled: Split, images: Tensor, targets: Tensor) -> Split:
    """4,000 rows with class probabilities as targets: the labelled images six times, then the others."""
    known = F.one_hot(labelled.labels, 10).float()
    return Split(torch.cat([labelled.images.repeat(6, 1, 1, 1), images]), torch.cat([known.repeat(6, 1), targets]))


def repeated(labelled: Split) -> Split:
    return Split(labelled.images.repeat(40, 1, 1, 1), labelled.labels.repeat(40))


def hard(logits: Tensor, threshold: float) -> Tensor:
    """One-hot pseudo-labels; a row of zeros, which adds nothing to the cross-entropy, below the threshold."""
    confidence, predicted = F.softmax(logits, dim=-1).max(dim=-1)
    return F.one_hot(predicted, 10).float() * (confidence >= threshold)[:, None]


def trained(seed: int, rows: Split, *, noise: bool = True, **options: Any) -> nn.Module:
    network = conv_net((8, 16, 24), seed=seed)
    fit(network, rows, augment=augment if noise else None, **TRAINING | {"seed": seed} | options)
    return network


@cache
def teacher(seed: int) -> nn.Module:
    (weight_decay,) = store.chosen(RESULTS, "labels only", ("weight_decay",))
    return trained(seed, repeated(draw(seed).labelled), weight_decay=weight_decay)


def pseudo(seed: int, threshold: float, images: Tensor, *, shuffled: bool = False) -> nn.Module:
    targets = hard(predict(teacher(seed), images), threshold)
    if shuffled:
        kept = targets.any(dim=-1).nonzero().flatten()
        with seeded(seed):
            targets[kept] = targets[kept[torch.randperm(len(kept))]]
    return trained(seed, joined(draw(seed).labelled, images, targets))


@cache
def generation(seed: int, temperature: float, number: int, noise: bool) -> nn.Module:
    """The student of the teacher, or with ``number`` 2 that one's student; each teacher sees clean images."""
    source = teacher(seed) if number == 1 else generation(seed, temperature, 1, noise)
    task = draw(seed)
    targets = F.softmax(predict(source, task.others.images) / temperature, dim=-1)
    return trained(seed, joined(task.labelled, task.others.images, targets), noise=noise)


def soft(seed: int, temperature: float) -> nn.Module:
    """Distilled without labels; teacher and student see the same augmented image."""
    network, task = conv_net((8, 16, 24), seed=seed), draw(seed)
    rows = joined(task.labelled, task.others.images, F.one_hot(task.others.labels, 10).float())  # not read: alpha is 1
    options = TRAINING | {"seed": seed, "augment": augment}
    distill(network, teacher(seed), rows, temperature=temperature, alpha=1.0, **options)
    return network


def follower(online: nn.Module, decay: float) -> tuple[nn.Module, Callable[[float], None]]:
    """A moving average of ``online`` and what updates it: a plain mean of the first steps, then ``decay``."""
    average, count = copy.deepcopy(online).requires_grad_(False).eval(), 0

    def update(done: float) -> None:
        nonlocal count
        count += 1
        moving_average(average, online, decay=min(decay, 1 - 1 / count))

    return average, update


def averaged(seed: int, decay: float) -> nn.Module:
    network = conv_net((8, 16, 24), seed=seed)
    average, update = follower(network, decay)
    options = TRAINING | {"seed": seed, "augment": augment, "before_step": update}
    fit(network, repeated(draw(seed).labelled), **options)
    update(1.0)
    return average


class Noisy(nn.Module):
    """A network that sees every image augmented: in train mode, or always."""

    def __init__(self, network: nn.Module, *, always: bool) -> None:
        super().__init__()
        self.network, self.always = network, always

    def forward(self, images: Tensor) -> Tensor:
        return self.network(augment(images) if self.always or self.training else images)


class Halves:
    """63 batches an epoch of 32 labelled and 32 other images, at random; a loader, so that the teacher runs on each."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __len__(self) -> int:
        return 63

    def __iter__(self) -> Iterator[Split]:
        for _ in range(len(self)):
            labelled = self.task.labelled.take(torch.randint(100, (32,)))
            others = self.task.others.images[torch.randint(3400, (32,))]
            hidden = torch.full((32,), -100)
            yield Split(torch.cat([labelled.images, others]), torch.cat([labelled.labels, hidden]))


def ramp(done: float) -> float:
    """The weight of consistency at a fraction of training done, as in Tarvainen and Valpola 2017."""
    return math.exp(-5 * (1 - min(1.0, done / 0.6)) ** 2)


def mean_teacher(seed: int, weight: float) -> nn.Module:
    network = conv_net((8, 16, 24), seed=seed)
    average, update = follower(network, 0.95)

    def loss(logits: Tensor, of_average: Tensor, labels: Tensor, *, temperature: float, alpha: float) -> Tensor:
        known = F.cross_entropy(logits, labels)  # leaves out -100
        apart = (F.softmax(logits, dim=-1) - F.softmax(of_average, dim=-1)).square().sum(dim=-1).mean()
        return known + alpha * weight * apart

    student, follows = Noisy(network, always=False), Noisy(average, always=True)
    options = {name: value for name, value in TRAINING.items() if name != "batch_size"} | {"seed": seed}
    distill(student, follows, Halves(draw(seed)), loss=loss, alpha=ramp, before_step=update, **options)
    update(1.0)
    return average


def other_images(kind: str, seed: int) -> Tensor:
    """3,400 images that are not MNIST's."""
    if kind == "noise images":
        real = draw(seed).others.images
        with seeded(seed):
            return (real.mean() + real.std() * torch.randn(real.shape)).clamp(0, 1)
    everything = torch.cat([split.images for split in load_scikit_digits()])
    return everything[torch.arange(3400) % len(everything)]


def make(arm: str, seed: int, knob: float) -> nn.Module:
    task = draw(seed)
    name, _, rest = arm.partition(", ")
    if arm == "labels only, averaged":
        return averaged(seed, knob)
    if name == "labels only":
        extra = {"epochs": 2 * TRAINING["epochs"]} if rest == "twice as long" else {}
        return trained(seed, repeated(task.labelled), noise=rest != "not augmented", weight_decay=knob, **extra)
    if name == "all labels":
        truth = F.one_hot(task.others.labels, 10).float()
        return trained(seed, joined(task.labelled, task.others.images, truth), weight_decay=knob)
    if name in ("noisy student", "without noise"):
        return generation(seed, knob, 2 if rest else 1, name == "noisy student")
    if name in ("pseudo-labels", "shuffled pseudo-labels"):
        images = other_images(rest, seed) if rest else task.others.images
        return pseudo(seed, knob, images, shuffled=name.startswith("shuffled"))
    return (soft if name == "soft targets" else mean_teacher)(seed, knob)


def measure(arm: str, seed: int, **knob: float) -> dict[str, Any]:
    """Train one network and report it; the choice uses ``validation``, the 100 images, and nothing else."""
    network = make(arm, seed, *knob.values())
    test = evaluate(network, digits().test)
    found = {
        "validation": evaluate(network, draw(seed).validation).accuracy,
        "validation_500": evaluate(network, digits().validation).accuracy,
        "test": test.accuracy,
        "test_cross_entropy": test.cross_entropy,
    }
    if arm == "pseudo-labels":
        logits, truth = predict(teacher(seed), draw(seed).others.images), draw(seed).others.labels
        kept = hard(logits, knob["threshold"]).any(dim=-1)
        found |= {"kept": kept.double().mean().item()}
        found |= {"right": (logits.argmax(dim=-1) == truth)[kept].double().mean().item()}
    return found


def wanted() -> list[dict[str, Any]]:
    return [
        {"arm": arm, "seed": seed, name: value}
        for arm, (name, values) in KNOBS.items()
        for value in values
        for seed in SEEDS
    ]


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
