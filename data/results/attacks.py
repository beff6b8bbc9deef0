"""Attacks on small networks, for notebook 20: which training resists them, and what only looks as if it did.

Attacked images lie within 0.1 of the given ones, in every pixel. Students are mlp((32,)), teachers mlp((256,)); five
paired seeds an arm. Each arm has four tries, of the learning rate alone or of two rates at two temperatures; the best
mean of clean and attacked accuracy on validation is chosen. All train for the same number of updates, "six times as
long" for as many passes as five attack steps cost.
"""

import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data import Split, load_mnist
from kdcourse.losses import kd_loss
from kdcourse.metrics import accuracy
from kdcourse.models import mlp
from kdcourse.quantization import calibrate, fake_quantize_model, integer_network, mse_range
from kdcourse.robustness import pgd_attack
from kdcourse.seeds import seeded
from kdcourse.training import distill, fit, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, EPSILON, BATCH, RAMP = range(5), 0.1, 64, 5
TRAINING: dict[str, Any] = {"epochs": 15, "progress": False}
HARD = [{"learning_rate": rate} for rate in (2e-3, 4e-3, 8e-3, 1.6e-2)]
SOFT = [{"learning_rate": rate, "temperature": soft} for rate in (2e-3, 8e-3) for soft in (1.0, 4.0)]
TRIES: dict[str, list[dict[str, float]]] = {
    "labels": HARD,
    "labels, six times as long": HARD,
    "labels, adversarial": HARD,
    "distilled, plain teacher": SOFT,
    "distilled, robust teacher": SOFT,
    "adversarially distilled, plain teacher": SOFT,
    "adversarially distilled, robust teacher": SOFT,
    "adversarially distilled, shuffled": SOFT,
}
DISGUISES = ("as it is", "logits × 100", "distilled at temperature 50", "rounded, 8 bits", "rounded, 3 bits")
RECIPE: dict[str, Any] = {
    "networks": {"teachers": "mlp((256,))", "students": "mlp((32,))"},
    "training": TRAINING | {"batch_size": BATCH},
    "attack": {"epsilon": EPSILON, "steps": 20, "in training": {"steps": 5, "grows over epochs": RAMP}},
    "adversarially distilled": "student on attacked images, teacher on clean ones, alpha 1",
    "tries": TRIES,
    "teachers": "learning_rate 2e-3; the robust one is trained on attacked images",
    "disguises": DISGUISES,
}
digits = cache(load_mnist)


class Attacked:
    """Batches of images that are attacked on ``network`` as it is now, each with its row of ``targets``.

    The attack grows to its full size over the first epochs: from the first step on it made all units of a network die.
    """

    def __init__(self, network: nn.Module, targets: Tensor) -> None:
        self.network, self.targets, self.train, self.seen = network, targets, digits().train, 0

    def __len__(self) -> int:
        return -(-len(self.targets) // BATCH)

    def __iter__(self) -> Iterator[Split]:
        for rows in torch.randperm(len(self.targets)).split(BATCH):
            images, labels = self.train.take(rows)
            self.seen += 1
            size = EPSILON * min(1.0, self.seen / (RAMP * len(self)))
            start = int(torch.randint(2**31, ()))
            yield Split(pgd_attack(self.network, images, labels, epsilon=size, steps=5, seed=start), self.targets[rows])


def adversarial(network: nn.Module, targets: Tensor, seed: int, loss: Callable[..., Tensor], **other: Any) -> nn.Module:
    fit(network, Attacked(network, targets), loss=loss, seed=seed, **TRAINING | other)
    return network


@cache
def teacher(kind: str, seed: int) -> nn.Module:
    network = mlp((256,), seed=50 + seed)
    if kind == "robust":
        return adversarial(network, digits().train.labels, seed, F.cross_entropy)
    fit(network, digits().train, batch_size=BATCH, seed=seed, **TRAINING)
    return network


@cache
def soft_targets(kind: str, seed: int) -> Tensor:
    """A teacher's logits for the clean images; "shuffled": the robust one's, of other images of the same class."""
    if kind != "shuffled":
        return predict(teacher(kind, seed), digits().train.images)
    logits, labels = soft_targets("robust", seed).clone(), digits().train.labels
    with seeded(seed):
        for digit in range(10):
            rows = (labels == digit).nonzero().flatten()
            logits[rows] = logits[rows[torch.randperm(len(rows))]]
    return logits


def make(arm: str, seed: int, learning_rate: float, temperature: float = 1.0) -> nn.Module:
    network, train, rate = mlp((32,), seed=seed), digits().train, {"learning_rate": learning_rate}
    if arm == "labels, adversarial":
        return adversarial(network, train.labels, seed, F.cross_entropy, **rate)
    options: dict[str, Any] = TRAINING | {"batch_size": BATCH, "seed": seed} | rate
    if arm.startswith("labels"):
        fit(network, train, **options | {"epochs": TRAINING["epochs"] * (6 if "six" in arm else 1)})
        return network
    method, kind = arm.split(", ")
    logits = soft_targets(kind.split()[0], seed)
    if method.startswith("adversarially"):
        return adversarial(network, logits, seed, partial(kd_loss, temperature=temperature), **rate)
    distill(network, logits, train, temperature=temperature, alpha=1.0, **options)
    return network


def attacked(network: nn.Module, **loss: Any) -> Tensor:
    """The test images, attacked on ``network``."""
    return pgd_attack(network, *digits().test, epsilon=EPSILON, steps=20, **loss)


def correct(model: Callable[[Tensor], Tensor], images: Tensor) -> float:
    with torch.no_grad():
        return accuracy(model(images), digits().test.labels)


def under_attack(network: nn.Module, seed: int) -> dict[str, float]:
    """Test accuracies of a network, clean and attacked in four ways."""
    images, labels = digits().test
    with seeded(0):
        signs = (images + EPSILON * torch.randn(images.shape).sign()).clamp(0, 1)
    return {
        "test": correct(network, images),
        "random signs": correct(network, signs),
        "transfer": correct(network, transferred("plain", seed)),
        "transfer, robust": correct(network, transferred("robust", seed)),
        "cross-entropy": correct(network, attacked(network)),
        "margin": correct(network, attacked(network, loss="margin")),
    }


@cache
def transferred(kind: str, seed: int) -> Tensor:
    return attacked(teacher(kind, seed))


def measure(arm: str, seed: int, **settings: float) -> dict[str, Any]:
    """Train one network and attack it; validation is the mean of clean and attacked accuracy there."""
    network, (images, labels) = make(arm, seed, **settings), digits().validation
    worst = pgd_attack(network, images, labels, epsilon=EPSILON)
    both = [accuracy(predict(network, each), labels) for each in (images, worst)]
    return {"validation": sum(both) / 2, **under_attack(network, seed)}


def measure_teacher(teacher_of: str, seed: int) -> dict[str, float]:
    return under_attack(teacher(teacher_of, seed), seed)


class Scaled(nn.Module):
    """A network whose logits are multiplied: the same classes, the same decisions, another softmax."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.factor * self.network(images)
        return logits


def defensive(seed: int) -> nn.Module:
    """Papernot et al.'s: teacher and student have one shape, train at temperature 50, and are used at 1."""
    images, labels = digits().train
    first, second = mlp((32,), seed=seed), mlp((32,), seed=seed)

    def hot(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits / 50, targets)

    options = TRAINING | {"batch_size": BATCH, "seed": seed, "learning_rate": 1e-2, "epochs": 45}
    fit(first, Split(images, labels), loss=hot, **options)
    fit(second, Split(images, (predict(first, images) / 50).softmax(dim=1)), loss=hot, **options)
    return second


def measure_disguise(disguise: str, seed: int) -> dict[str, float]:
    """A plain network made to look robust, against the tool that is fooled and the attacks that are not."""
    (rate,) = store.chosen(RESULTS, "labels", ("learning_rate",))
    network, images = make("labels", seed, rate), digits().test.images
    if disguise == "distilled at temperature 50":
        network = defensive(seed)
    if not disguise.startswith("rounded"):
        shown = Scaled(network, 100.0) if "100" in disguise else network
        return under_attack(shown, seed) | {"from the float network": correct(shown, attacked(network, loss="margin"))}
    bits = int(disguise.split()[1])
    ranges = calibrate(network, list(digits().train.images[::7].split(100)), method=mse_range)
    through = fake_quantize_model(network, weight_bits=bits, activation_bits=8, ranges=ranges)
    integers = integer_network(through)
    with seeded(0):
        start = (images + EPSILON * (2 * torch.rand(images.shape) - 1)).clamp(0, 1)
    return {
        "test": correct(integers, images),
        "transfer": correct(integers, transferred("plain", seed)),
        "cross-entropy": correct(integers, start),  # no gradient: the start is all that a tool would return
        "margin": correct(integers, attacked(through, loss="margin")),
        "from the float network": correct(integers, attacked(network, loss="margin")),
    }


def main() -> None:
    torch.set_num_threads(1)
    keys = [{"arm": arm, "seed": seed, **each} for seed in SEEDS for arm, tries in TRIES.items() for each in tries]
    store.resume_all(RESULTS, [key for key in keys if key["arm"] == "labels"], measure, recipe=RECIPE)
    hidden = [{"disguise": disguise, "seed": seed} for seed in SEEDS for disguise in DISGUISES]
    store.resume_all(RESULTS, hidden, measure_disguise, recipe=RECIPE)
    teachers = [{"teacher_of": kind, "seed": seed} for seed in SEEDS for kind in ("plain", "robust")]
    store.resume_all(RESULTS, teachers, measure_teacher, recipe=RECIPE)
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
