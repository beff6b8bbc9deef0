"""The comparison of notebook 16 on split digits: five tasks of two classes each, met one after another.

In every arm a step is one backward pass over 64 rows: 64 images of the task, or 32 of them and 32 from memory; 100
steps per task. GDumb and joint training start again at each task, and take as many steps as the others have taken by
then. A memory is a number of bytes; how many images it holds depends on what is kept of each. Every arm has four tries
on two class orders of their own, judged by validation accuracy after the last task: the task-agnostic and the
task-aware accuracy each choose a try. Memories of other sizes keep the settings that the middle one has chosen.
"""

import sys
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdcourse.data import Mnist, Split, load_mnist
from kdcourse.models import mlp
from kdcourse.seeds import seeded

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)
from learning_on import ROWS, STEPS, TEMPERATURE, Learner  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, TUNING = range(5), (100, 101)
SIZES = tuple(785 * images for images in (50, 200, 600))
ALONE = {"learning_rate": (2e-4, 5e-4, 1e-3, 2e-3)}
DISTILLED = {"learning_rate": (5e-4, 2e-3), "weight": (1.0, 10.0)}
REPLAYED = {"learning_rate": (5e-4, 2e-3), "beta": (0.5, 1.0)}
DARK = {"learning_rate": (5e-4, 2e-3), "alpha": (0.1, 0.5)}
DER = {"memory": "reservoir", "logits": True}
EXEMPLARS = {"labels": True, "old": "network", "nearest": True}
ARMS: dict[str, tuple[dict[str, Any], dict[str, tuple[float, ...]]]] = {
    "fine-tuning": ({}, ALONE),
    "fine-tuning, own classes": ({"own": True}, ALONE),
    "LwF": ({"old": "network"}, DISTILLED),
    "LwF, own classes": ({"old": "network", "own": True}, DISTILLED),
    "LwF, all outputs": ({"old": "network", "all": True}, DISTILLED),
    "LwF, never trained": ({"old": "never trained"}, DISTILLED),
    "LwF, permuted classes": ({"old": "permuted"}, DISTILLED),
    "replay": ({"memory": "reservoir", "labels": True}, REPLAYED),
    "replay and LwF": ({"memory": "reservoir", "labels": True, "old": "network"}, DISTILLED),
    "DER": (DER, DARK),
    "DER++": (DER | {"labels": True}, DARK),
    "DER++, permuted classes": (DER | {"labels": True, "placebo": "permuted"}, DARK),
    "DER++, another image": (DER | {"labels": True, "placebo": "shuffled"}, DARK),
    "nearest mean, herded": (EXEMPLARS | {"memory": "herded"}, DISTILLED),
    "nearest mean, random": (EXEMPLARS | {"memory": "balanced"}, DISTILLED),
    "GDumb": ({"memory": "balanced", "labels": True, "again": True}, ALONE),
    "joint": ({"memory": "everything", "labels": True, "again": True}, ALONE),
}
SIZED = ("replay", "replay and LwF", "DER", "DER++", "nearest mean, herded", "GDumb")
RECIPE: dict[str, Any] = {
    "network": "mlp((100, 100))",
    "steps per task": STEPS,
    "rows per step": ROWS,
    "optimizer": "Adam, a new one for each task",
    "bytes of memory": SIZES,
    "bytes per image": "784, its label 1, its logits 40",
    "offered to memory": "each image once, at the end of its task, with the logits of that moment",
    "temperature": TEMPERATURE,
    "beta of DER++": 0.5,
    "tries": {arm: tries for arm, (_, tries) in ARMS.items()},
    "tuned on class orders": TUNING,
}


def accuracies(scores: Tensor, labels: Tensor, tasks: list[list[int]], *, aware: bool) -> list[float]:
    """On each task, where all classes of ``tasks`` compete, or only those of the image's own task."""
    found = []
    for classes in tasks:
        rows = torch.isin(labels, torch.tensor(classes))
        columns = torch.tensor(classes if aware else sum(tasks, []))
        predicted = columns[scores[rows][:, columns].argmax(dim=1)]
        found.append((predicted == labels[rows]).double().mean().item())
    return found


def flat(found: Mnist) -> Mnist:
    """The same digits, each image a row of pixels."""
    return Mnist(*(Split(part.images.flatten(1), part.labels) for part in found))


@cache
def digits() -> Mnist:
    return flat(load_mnist())


def in_order(seed: int) -> list[list[int]]:
    """Five pairs of classes in the random order of a seed."""
    with seeded(seed):
        return torch.randperm(10).reshape(5, 2).tolist()


def measure(arm: str, seed: int, size: int, **settings: float) -> dict[str, Any]:
    return measure_way(ARMS[arm][0], seed, size, **settings)


def measure_way(way: dict[str, Any], seed: int, size: int, **settings: float) -> dict[str, Any]:
    """Meet the five tasks in the order of ``seed``; test after each of them, validate after the last."""
    train, validation, test = digits()
    tasks = in_order(seed)
    learner = Learner(mlp((100, 100), seed=seed), way, size, seed, **settings)
    rows: dict[str, list[list[float]]] = {"agnostic": [], "aware": []}
    with seeded(seed):
        for number, classes in enumerate(tasks, start=1):
            learner.meet(train.take(torch.isin(train.labels, torch.tensor(classes))), classes)
            for score in rows:
                of_each = accuracies(learner.scores(test.images), test.labels, tasks[:number], aware=score == "aware")
                rows[score].append(of_each)
    held = {
        f"validation {score}": mean(
            accuracies(learner.scores(validation.images), validation.labels, tasks, aware=score == "aware")
        )
        for score in rows
    }
    last = {f"test {score}": mean(table[-1]) for score, table in rows.items()}
    kept: dict[str, Any] = {"images in memory": len(learner.memory)}
    if way.get("nearest"):
        with torch.no_grad():
            logits = learner.network(test.images)
        kept["softmax agnostic"] = mean(accuracies(logits, test.labels, tasks, aware=False))
    return held | last | rows | kept


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def tries(arm: str) -> list[dict[str, float]]:
    return combinations(ARMS[arm][1])


def combinations(knobs: dict[str, tuple[float, ...]]) -> list[dict[str, float]]:
    return [dict(zip(knobs, values, strict=True)) for values in product(*knobs.values())]


def chosen(arm: str, score: str) -> dict[str, float]:
    return best_of(tries(arm), RESULTS, f"validation {score}", arm=arm)


def best_of(tried: list[dict[str, float]], path: Path, by: str, **key: Any) -> dict[str, float]:
    """The try with the best mean over the tuning orders; the first of equals."""
    found = [one for one in store.load(path)["records"] if key.items() <= one.items() and one["seed"] in TUNING]

    def on_validation(settings: dict[str, float]) -> float:
        return sum(record[by] for record in found if settings.items() <= record.items())

    return max(tried, key=on_validation)


def wanted(arm: str) -> list[dict[str, Any]]:
    """What remains to be measured of an arm once it is tuned."""
    best = [chosen(arm, score) for score in ("agnostic", "aware")]
    best = best[: 1 if best[0] == best[1] else 2]
    keys = [{"arm": arm, "seed": seed, "size": SIZES[1]} | settings for settings in best for seed in SEEDS]
    if arm in SIZED:
        keys += [{"arm": arm, "seed": seed, "size": size} | best[0] for size in SIZES[::2] for seed in SEEDS]
    return keys


def main() -> None:
    torch.set_num_threads(1)
    for arm in ARMS:
        keys = [{"arm": arm, "seed": seed, "size": SIZES[1]} | settings for settings in tries(arm) for seed in TUNING]
        store.resume_all(RESULTS, keys, measure, recipe=RECIPE)
    for arm in ARMS:
        store.resume_all(RESULTS, wanted(arm), measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
