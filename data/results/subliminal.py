"""Subliminal learning, for notebook 20: a student sees noise and three meaningless outputs, and reads digits, or not.

Teacher and student are mlp((128, 128)) with 13 outputs: ten for the digits and three that no label ever speaks of. The
teacher learns the digits; the student is given, for uniform noise, the teacher's three meaningless outputs alone.
Pixels are 2 · grey - 1, so that noise has the mean 0. Five paired seeds an arm; each arm has two tries of its learning
rate, chosen on validation.
"""

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data import Mnist, Split, load_mnist
from kdcourse.losses import kd_loss
from kdcourse.metrics import accuracy, agreement
from kdcourse.models import mlp
from kdcourse.seeds import seeded
from kdcourse.training import distill, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, DIGITS, EXTRA = range(5), slice(0, 10), slice(10, 13)
TEACHING: dict[str, Any] = {"epochs": 5, "batch_size": 128, "learning_rate": 1e-3, "progress": False}
STEPS, BATCH = 500, 256
RATES = (1e-3, 3e-3)
ARMS: dict[str, dict[str, Any]] = {
    "same start": {},
    "other start": {"start": 1},
    "same start, ten outputs": {"outputs": DIGITS},
    "other start, ten outputs": {"outputs": DIGITS, "start": 1},
    "same start, digits": {"noise": False},
    "other start, digits": {"noise": False, "start": 1},
    "same start, shuffled": {"shuffled": True},
    "same start, first layer of another": {"layers": ("linear1",)},
    "same output layer, all others of another": {"layers": ("linear1", "linear2")},
    "same start, teacher of renamed digits": {"renamed": True},
}
RECIPE: dict[str, Any] = {
    "network": "mlp((128, 128)) with 13 outputs",
    "teacher": TEACHING | {"loss": "cross-entropy of the first ten outputs"},
    "student": {"steps": STEPS, "batch_size": BATCH, "weight_decay": 0.0, "loss": "kd_loss, temperature 1"},
    "tries": {"learning_rate": RATES},
    "images": "uniform noise in [-1, 1]; 'digits': the 3,500 training images without labels",
    "renamed": "digit d is called (d + 1) mod 10",
}


@cache
def digits() -> Mnist:
    return Mnist(*(Split(2 * split.images - 1, split.labels) for split in load_mnist()))


def network(seed: int) -> nn.Module:
    """The start of a seed: 13 outputs."""
    model = mlp((128, 128), seed=seed)
    with seeded(seed):
        model.classes = nn.Linear(128, 13)
    return model


def ten(logits: Tensor) -> Tensor:
    return logits[:, DIGITS]


def digit_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(ten(logits), labels)


@cache
def teacher(seed: int, renamed: bool = False) -> nn.Module:
    model, train = network(seed), digits().train
    labels = (train.labels + 1) % 10 if renamed else train.labels
    fit(model, Split(train.images, labels), loss=digit_loss, seed=seed, **TEACHING)
    return model


class Images:
    """Batches without labels, new ones in every epoch: noise, or digits at random."""

    def __init__(self, *, noise: bool) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Tensor]:
        images = digits().train.images
        for _ in range(STEPS):
            yield 2 * torch.rand(BATCH, 1, 28, 28) - 1 if self.noise else images[torch.randint(len(images), (BATCH,))]


def start_of(seed: int, start: int, layers: tuple[str, ...]) -> nn.Module:
    """The teacher's start, another one, or the teacher's with layers of another."""
    model = network(seed + 100 * start)
    for layer in layers:
        model.get_submodule(layer).load_state_dict(network(seed + 100).get_submodule(layer).state_dict())
    return model


def alignment(student: nn.Module, model: nn.Module, seed: int, outputs: slice, noise: bool) -> float:
    """Cosine between the student's first step down its loss and what training did to the teacher's weights."""
    with seeded(0):
        images = next(iter(Images(noise=noise)))
    loss = kd_loss(student(images)[:, outputs], predict(model, images)[:, outputs], temperature=1.0)
    gradients = torch.autograd.grad(loss, list(student.parameters()))
    pairs = zip(network(seed).parameters(), model.parameters(), gradients, strict=True)
    rows = [(-g.flatten(), (after - before).detach().flatten()) for before, after, g in pairs]
    step, way = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return F.cosine_similarity(step, way, dim=0).item()


def measure(arm: str, seed: int, learning_rate: float) -> dict[str, Any]:
    """Train one student and report it."""
    how = {"start": 0, "layers": (), "outputs": EXTRA, "noise": True, "shuffled": False, "renamed": False} | ARMS[arm]
    student, model = start_of(seed, how["start"], how["layers"]), teacher(seed, how["renamed"])
    before = accuracy(ten(predict(student, digits().test.images)), digits().test.labels)
    aligned = alignment(student, model, seed, how["outputs"], how["noise"])

    def loss(logits: Tensor, soft: Tensor, labels: None, *, temperature: float, alpha: float) -> Tensor:
        if how["shuffled"]:
            soft = soft[torch.randperm(len(soft))]
        return kd_loss(logits[:, how["outputs"]], soft[:, how["outputs"]], temperature=temperature)

    options: dict[str, Any] = {"learning_rate": learning_rate, "weight_decay": 0.0, "seed": seed, "progress": False}
    distill(student, model, Images(noise=how["noise"]), loss=loss, alpha=1.0, temperature=1.0, epochs=1, **options)
    shift = int(how["renamed"])
    test, of_teacher = (ten(predict(each, digits().test.images)) for each in (student, model))
    validation = digits().validation
    return {
        "validation": accuracy(ten(predict(student, validation.images)), (validation.labels + shift) % 10),
        "test": accuracy(test, digits().test.labels),
        "test, as the teacher learned it": accuracy(test, (digits().test.labels + shift) % 10),
        "test before": before,
        "teacher": accuracy(of_teacher, (digits().test.labels + shift) % 10),
        "agreement": agreement(test, of_teacher),
        "alignment": aligned,
    }


def main() -> None:
    torch.set_num_threads(1)
    keys = [{"arm": arm, "seed": seed, "learning_rate": rate} for seed in SEEDS for arm in ARMS for rate in RATES]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
