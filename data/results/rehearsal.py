"""Pseudo-rehearsal in notebook 16: five digits are known, five are to be learned, and no old image may be kept.

Every arm goes on training the same network on the new digits, and distils the old network on 500 images, which differ
between arms: those of the new task, noise, digits of another domain, images without data as in notebook 12, and, as
the rival that breaks the rule, 500 real old images. On all but the new images the student also pays for what it gives
to new classes; *old classes only* leaves that out. Equal steps and images per step, four tries for each arm.
"""

import copy
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data import Split, load_mnist
from kdcourse.domains import load_scikit_digits
from kdcourse.features import outputs_of
from kdcourse.losses import kd_loss
from kdcourse.models import conv_net
from kdcourse.seeds import seeded
from kdcourse.training import fit, frozen, predict

sys.path.insert(0, str(Path(__file__).resolve().parent))
import data_free  # noqa: E402 (lies beside this file)
import lifelong  # noqa: E402
import store  # noqa: E402
from learning_on import TEMPERATURE, cross_entropy  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, TUNING = range(5), (100, 101)
STEPS, ROWS, IMAGES = 200, 32, 500
KNOBS = {"learning_rate": (1e-3, 4e-3), "weight": (1.0, 4.0)}
ALONE = {"learning_rate": (5e-4, 1e-3, 2e-3, 4e-3), "weight": (0.0,)}
FIRST: dict[str, Any] = {"epochs": 6, "batch_size": 64, "progress": False}
RECIPE: dict[str, Any] = {
    "network": "conv_net((8, 16, 24))",
    "first five digits": FIRST,
    "then": {"steps": STEPS, "new images per step": ROWS, "others per step": ROWS, "optimizer": "Adam"},
    "images": IMAGES,
    "inversion": data_free.INVERSION,
    "temperature": TEMPERATURE,
    "tries": {"fine-tuning": ALONE, "others": KNOBS},
    "tuned on class orders": TUNING,
}
digits, scikit = cache(load_mnist), cache(load_scikit_digits)


def halves(seed: int) -> tuple[list[int], list[int]]:
    """Five digits that are known, five that are new."""
    with seeded(seed):
        order = torch.randperm(10).tolist()
    return order[:5], order[5:]


def of(part: Split, classes: list[int]) -> Split:
    return part.take(torch.isin(part.labels, torch.tensor(classes)))


@cache
def known(seed: int) -> nn.Sequential:
    """The network that has learned the first five digits; the other outputs are as at first."""
    network, classes = conv_net((8, 16, 24), seed=seed), halves(seed)[0]

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, classes)

    fit(network, of(digits().train, classes), loss=loss, seed=seed, **FIRST)
    return network


@cache
def inverted(seed: int, weight: float) -> Tensor:
    """Images that the old network takes for its five digits, with the statistics of its batch norms."""
    old, classes = known(seed), torch.tensor(halves(seed)[0])
    options = data_free.INVERSION
    targets = torch.arange(IMAGES) % 5
    with seeded(seed):
        images = (options["start"] * torch.rand(IMAGES, 1, 28, 28)).requires_grad_()
    optimizer = torch.optim.Adam([images], lr=options["learning_rate"])
    with frozen(old), outputs_of(old, ["conv1", "conv2", "conv3"]) as maps:
        for _ in range(options["steps"]):
            optimizer.zero_grad()
            loss = F.cross_entropy(old(images)[:, classes], targets) + weight * data_free.batchnorm_loss(old, maps)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                images.clamp_(0, 1)
    return images.detach()


def some(images: Tensor, seed: int) -> Tensor:
    with seeded(seed):
        return images[torch.randperm(len(images))[:IMAGES]]


def noise(seed: int) -> Tensor:
    with seeded(seed):
        return torch.rand(IMAGES, 1, 28, 28)


ARMS: dict[str, Callable[[int], Tensor] | None] = {
    "fine-tuning": None,
    "new images (LwF)": lambda seed: some(of(digits().train, halves(seed)[1]).images, seed),
    "noise": noise,
    "scikit-learn's digits": lambda seed: some(scikit().train.images, seed),
    "inverted, classes only": lambda seed: inverted(seed, 0.0),
    "inverted": lambda seed: inverted(seed, data_free.INVERSION["batch norm"]),
    "real old images": lambda seed: some(of(digits().train, halves(seed)[0]).images, seed),
    "real old images, old classes only": lambda seed: some(of(digits().train, halves(seed)[0]).images, seed),
}
SLICED = ("new images (LwF)", "real old images, old classes only")


def said(seed: int, images: Tensor) -> Tensor:
    """What the old network says: with -inf for the new classes, which it does not know."""
    logits = predict(known(seed), images)
    logits[:, halves(seed)[1]] = -torch.inf
    return logits


def learned(arm: str, seed: int, learning_rate: float, weight: float) -> nn.Module:
    """The network after it has met the new digits; each kind of image goes through batch norm on its own."""
    network, make = copy.deepcopy(known(seed)), ARMS[arm]
    old, new = halves(seed)
    task, seen = of(digits().train, new), old + new
    columns = old if arm in SLICED else seen
    images = make(seed) if make else None
    soft = said(seed, images)[:, columns] if images is not None else None
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    network.train()
    with seeded(seed):
        for _ in range(STEPS):
            rows = torch.randint(len(task.labels), (ROWS,))
            loss = cross_entropy(network(task.images[rows]), task.labels[rows], seen)
            if images is not None and soft is not None:
                others = torch.randint(IMAGES, (ROWS,))
                logits = network(images[others])[:, columns]
                loss = loss + weight * kd_loss(logits, soft[others], temperature=TEMPERATURE, validate=False)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def measure(arm: str, seed: int, **settings: float) -> dict[str, Any]:
    """Accuracies among all ten digits: of all, of the old ones and of the new ones."""
    network, (old, new) = learned(arm, seed, **settings), halves(seed)
    found: dict[str, Any] = {}
    for name, part in (("validation", digits().validation), ("test", digits().test)):
        of_each = lifelong.accuracies(predict(network, part.images), part.labels, [old, new], aware=False)
        found |= {name: sum(of_each) / 2, f"{name}, old": of_each[0], f"{name}, new": of_each[1]}
    return found


def tries(arm: str) -> list[dict[str, float]]:
    return lifelong.combinations(ALONE if arm == "fine-tuning" else KNOBS)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keys = [{"arm": arm, "seed": seed} | each for seed in TUNING for arm in ARMS for each in tries(arm)]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)
    final = [
        {"arm": arm, "seed": seed} | lifelong.best_of(tries(arm), RESULTS, "validation", arm=arm)
        for seed in SEEDS
        for arm in ARMS
    ]
    store.resume_all(RESULTS, final, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
