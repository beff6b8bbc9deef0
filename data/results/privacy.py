"""What networks tell of the images they were trained on, for notebook 20: membership inference, five paired seeds.

A seed deals the 3,500 training images: 300 private ones, 1,000 others that nobody trains on, 2,000 public ones. An
attacker guesses from the loss of an image whether it was private. "Relative" subtracts the mean loss of four networks
that the attacker trained on halves of the public images. Every arm makes 900 updates of
batches of 50 and has two tries.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn

from kdcourse.data import Split, load_mnist
from kdcourse.metrics import accuracy
from kdcourse.models import mlp
from kdcourse.seeds import seeded
from kdcourse.training import distill, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, UPDATES, BATCH = range(5), 900, 50
SOFT, DECAY = ("temperature", (1.0, 4.0)), ("weight_decay", (0.01, 0.5))
KNOBS: dict[str, tuple[str, tuple[float, ...]]] = {
    "teacher": DECAY,
    "teacher, stopped early": ("updates", (30, 90)),
    "labels, private": DECAY,
    "labels, public": DECAY,
    "student, private images": SOFT,
    "student, public images": SOFT,
    "student, public images, shuffled": SOFT,
    "student, half of them private": SOFT,
    "student, noise images": SOFT,
}
RECIPE: dict[str, Any] = {
    "networks": {"teachers": "mlp((256,))", "all others": "mlp((64,))"},
    "training": {"updates": UPDATES, "batch_size": BATCH, "learning_rate": 2e-3},
    "images": {"private": 300, "others": 1000, "public": 2000},
    "tries": KNOBS,
    "students": "alpha 1, no labels; their teacher is the chosen 'teacher' of the seed",
    "half of them private": "300 private and 300 public images",
    "relative": "four networks mlp((64,)) on the labels of 1,000 public images each",
}
digits = cache(load_mnist)


class Deal(NamedTuple):
    """One draw of who owns which images."""

    private: Split
    others: Split
    public: Split


@cache
def deal(seed: int) -> Deal:
    with seeded(2000 + seed):
        rows = torch.randperm(3500)
    return Deal(*(digits().train.take(part) for part in rows[:3300].split([300, 1000, 2000])))


def options(rows: int, seed: int, updates: int = UPDATES) -> dict[str, Any]:
    epochs = max(1, round(updates * BATCH / rows))
    return {"epochs": epochs, "batch_size": BATCH, "learning_rate": 2e-3, "seed": seed, "progress": False}


def on_labels(split: Split, width: int, seed: int, *, updates: int = UPDATES, **setting: float) -> nn.Module:
    network = mlp((width,), seed=seed)
    fit(network, split, **options(len(split.labels), seed, updates), **setting)
    return network


@cache
def teacher(seed: int) -> nn.Module:
    (decay,) = store.chosen(RESULTS, "teacher", ("weight_decay",))
    return on_labels(deal(seed).private, 256, seed, weight_decay=decay)


@cache
def references(seed: int) -> tuple[nn.Module, ...]:
    halves = []
    for number in range(4):
        with seeded(10 * seed + number):
            rows = torch.randperm(2000)[:1000]
        halves.append(on_labels(deal(seed).public.take(rows), 64, 500 + 10 * seed + number))
    return tuple(halves)


def images_for(arm: str, seed: int) -> Tensor:
    private, _, public = deal(seed)
    if arm.endswith("private images"):
        return private.images
    if arm.endswith("half of them private"):
        return torch.cat([private.images, public.images[:300]])
    if arm.endswith("noise images"):
        with seeded(seed):
            return torch.rand(2000, 1, 28, 28)
    return public.images


def student(arm: str, seed: int, temperature: float) -> nn.Module:
    images = images_for(arm, seed)
    logits = predict(teacher(seed), images)
    if arm.endswith("shuffled"):  # among images of one predicted class
        predicted = logits.argmax(dim=1)
        with seeded(seed):
            for digit in range(10):
                rows = (predicted == digit).nonzero().flatten()
                logits[rows] = logits[rows[torch.randperm(len(rows))]]
    network, none = mlp((64,), seed=seed), torch.zeros(len(images), dtype=torch.int64)  # not read: alpha is 1
    setting = {"temperature": temperature, "alpha": 1.0}
    distill(network, logits, Split(images, none), **setting, **options(len(images), seed))
    return network


def make(arm: str, seed: int, knob: float) -> nn.Module:
    if arm.startswith("student"):
        return student(arm, seed, knob)
    if arm == "teacher, stopped early":
        return on_labels(deal(seed).private, 256, seed, updates=int(knob))
    own = deal(seed).public if arm == "labels, public" else deal(seed).private
    return on_labels(own, 256 if arm == "teacher" else 64, seed, weight_decay=knob)


def losses(network: nn.Module, split: Split) -> Tensor:
    return F.cross_entropy(predict(network, split.images).double(), split.labels, reduction="none")


def attack(members: Tensor, others: Tensor) -> dict[str, float]:
    """How well low losses tell members from others: the area under the curve, and hits at 1 % false alarms."""
    truth, scores = torch.cat([torch.ones(len(members)), torch.zeros(len(others))]), -torch.cat([members, others])
    false, true, _ = roc_curve(truth, scores)
    return {"auc": float(roc_auc_score(truth, scores)), "hits at 1 %": float(true[false <= 0.01].max())}


def measure(arm: str, seed: int, **knob: float) -> dict[str, Any]:
    """Train one network, attack it, and report both."""
    network, (private, others, _) = make(arm, seed, *knob.values()), deal(seed)
    of_members, of_others = losses(network, private), losses(network, others)
    usual = [torch.stack([losses(each, part) for each in references(seed)]).mean(dim=0) for part in (private, others)]
    found: dict[str, Any] = {
        "validation": accuracy(predict(network, digits().validation.images), digits().validation.labels),
        "test": accuracy(predict(network, digits().test.images), digits().test.labels),
        "private": accuracy(predict(network, private.images), private.labels),
        **attack(of_members, of_others),
    }
    found |= {f"relative {name}": value for name, value in attack(of_members - usual[0], of_others - usual[1]).items()}
    return found | {"auc of two halves": attack(of_others[:500], of_others[500:])["auc"]}


def main() -> None:
    torch.set_num_threads(1)
    knobs = [(arm, {name: value}) for arm, (name, values) in KNOBS.items() for value in values]
    keys = [{"arm": arm, "seed": seed, **knob} for seed in SEEDS for arm, knob in knobs]
    keys.sort(key=lambda key: key["arm"] != "teacher")  # all of them are needed to choose the students' teacher
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
