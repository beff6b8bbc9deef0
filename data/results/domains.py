"""The comparisons of notebook 13 across domains: MNIST's digits, scikit-learn's and printed ones, five paired seeds.

A source network is trained on all labels of one domain and used in another. Every other arm trains for the same number
of updates on the target domain with the same augmentation, and has two tries, of the learning rate, chosen on 100
images of the target (of printed digits 180). A seed gives the initial weights, the batches and the labelled images.
"""

import copy
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdcourse.averaging import reset_batchnorm
from kdcourse.data import Mnist, Split, load_mnist, random_affine
from kdcourse.domains import load_printed_digits, load_scikit_digits
from kdcourse.models import conv_net
from kdcourse.seeds import seeded
from kdcourse.training import distill, evaluate, fit

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, ROWS = range(5), 2560
DIRECTIONS = {"to scikit-learn": ("mnist", "scikit"), "to MNIST": ("scikit", "mnist"), "to print": ("mnist", "print")}
PER_CLASS = {"to scikit-learn": (2, 10, 50), "to MNIST": (10,), "to print": (10,)}
RATES = {"fine-tuned": (1e-3, 5e-3), "from scratch": (3e-3, 1e-2), "distilled": (3e-3, 1e-2)}
TRAINING: dict[str, Any] = {"epochs": 4, "batch_size": 64, "progress": False}
RECIPE: dict[str, Any] = {
    "network": "conv_net((8, 16, 24))",
    "training": TRAINING | {"augmentation": "random_affine()", "rows an epoch": ROWS},
    "source": {"epochs": 8, "learning rate": 1e-2},
    "tries": {"learning rates": RATES},
    "distillation": {"temperature": 2.0, "alpha": 1.0, "teacher": "sees the same augmented image"},
    "labels": {"images per class": PER_CLASS},
}
augment = random_affine()


@cache
def domain(name: str) -> Mnist:
    digits = {"mnist": load_mnist, "scikit": load_scikit_digits, "print": load_printed_digits}[name]()
    if name != "mnist":
        return digits
    return digits._replace(validation=each(digits.validation, 10, 0))  # 100 images, as elsewhere


def each(split: Split, count: int, seed: int) -> Split:
    """``count`` images per class, at random."""
    with seeded(1000 + seed):
        order = torch.randperm(len(split.labels))
    return split.take(torch.cat([order[split.labels[order] == digit][:count] for digit in range(10)]))


def filled(split: Split, seed: int) -> Split:
    """The same number of rows whatever the domain: in random order, from the beginning again where they end."""
    with seeded(seed):
        order = torch.randperm(len(split.labels))
    return split.take(order[torch.arange(ROWS) % len(order)])


def options(seed: int, rate: float) -> dict[str, Any]:
    return TRAINING | {"augment": augment, "learning_rate": rate, "seed": seed}


@cache
def source(name: str, seed: int) -> nn.Module:
    network = conv_net((8, 16, 24), seed=seed)
    fit(network, filled(domain(name).train, seed), **options(seed, 1e-2) | {"epochs": 8})
    return network


def adapted(name: str, target: str, seed: int) -> nn.Module:
    """The source network with batch norm's statistics of the target's training images."""
    return reset_batchnorm(copy.deepcopy(source(name, seed)), [domain(target).train.images])


def make(direction: str, arm: str, seed: int, rate: float, labels: int) -> nn.Module:
    origin, target = DIRECTIONS[direction]
    if arm in ("zero-shot", "batch norm re-estimated"):
        return source(origin, seed) if arm == "zero-shot" else adapted(origin, target, seed)
    train = filled(each(domain(target).train, labels, seed) if labels else domain(target).train, seed)
    if arm.startswith("distilled"):
        network = conv_net((8, 16, 24), seed=100 + seed)
        teacher = source(origin, seed) if arm == "distilled" else adapted(origin, target, seed)
        distill(network, teacher, train, temperature=2.0, alpha=1.0, **options(seed, rate))
        return network
    network = copy.deepcopy(source(origin, seed)) if arm == "fine-tuned" else conv_net((8, 16, 24), seed=100 + seed)
    fit(network, train, **options(seed, rate))
    return network


def measure(direction: str, arm: str, seed: int, learning_rate: float, labels: int) -> dict[str, Any]:
    """Make one network and report it on the target; ``labels`` is the number per class, 0 for none, or for all."""
    network, target = make(direction, arm, seed, learning_rate, labels), domain(DIRECTIONS[direction][1])
    found = evaluate(network, target.test)
    return {"validation": evaluate(network, target.validation).accuracy, "test": found.accuracy}


def arms(direction: str) -> list[dict[str, Any]]:
    one = [(name, 0.0, 0) for name in ("zero-shot", "batch norm re-estimated")] + [("all labels", 1e-2, 0)]
    several = [(name, rate, 0) for name in ("distilled", "distilled, re-estimated") for rate in RATES["distilled"]]
    few = [(name, rate, labels) for labels in PER_CLASS[direction]
           for name in ("fine-tuned", "from scratch") for rate in RATES[name]]  # fmt: skip
    return [{"arm": name, "learning_rate": rate, "labels": labels} for name, rate, labels in one + several + few]


def wanted() -> list[dict[str, Any]]:
    return [{"direction": way, "seed": seed} | arm for way in DIRECTIONS for seed in SEEDS for arm in arms(way)]


def main() -> None:
    torch.set_num_threads(1)
    store.resume_all(RESULTS, wanted(), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
