"""Split MNIST in full, as van de Ven and Tolias 2019 (arXiv:1904.07734) describe it: 54,000 training images, 5 tasks.

As in their code of that time: the network, batches, learning rate, one Adam for all tasks, a temperature of 2 and T²
before the distillation loss; class-incremental, so all classes met so far compete. In task k LwF weighs the new images
1/k and the old network 1 - 1/k; with Adam that is the same as 1 and k - 1. In *LwF, zeros* the new classes get a target
of 0 from the old network, as in their code; in *LwF* they are left out; *no T²* is the default of their code since.
Ours are half of the steps (1,000 per task for 2,000), the order of the classes, which changes with the seed, replay and
GDumb with a memory of 2,000 images, and that joint training and GDumb train at the end, as many steps as the others
took. Nothing is tuned.
"""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdcourse.data import Mnist, Split, load_mnist
from kdcourse.models import mlp
from kdcourse.seeds import seeded

sys.path.insert(0, str(Path(__file__).resolve().parent))
import lifelong  # noqa: E402 (lies beside this file)
import store  # noqa: E402
from learning_on import TEMPERATURE, Learner  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
ZEROS = {"old": "network", "zero": True}
ARMS: dict[str, dict[str, Any]] = {
    "fine-tuning": {},
    "LwF": {"old": "network"},
    "LwF, zeros": ZEROS,
    "LwF, zeros, no T²": ZEROS | {"unscaled": True},
    "replay": lifelong.ARMS["replay"][0],
    "joint": lifelong.ARMS["joint"][0],
    "GDumb": lifelong.ARMS["GDumb"][0],
}
MEMORY = 2000 * 785
RECIPE: dict[str, Any] = {
    "network": "mlp((400, 400))",
    "steps per task": 1000,
    "rows per step": 128,
    "optimizer": "Adam, one for all tasks",
    "learning rate": 1e-3,
    "temperature": TEMPERATURE,
    "weight of LwF": "tasks met before",
    "bytes of memory": MEMORY,
}


@cache
def digits() -> Mnist:
    return lifelong.flat(load_mnist(subset=False))


class AsPublished(Learner):
    """Weighs old and new tasks equally and keeps its optimizer; an arm that starts again does so at the end alone."""

    optimizer: torch.optim.Optimizer | None = None

    def meet(self, task: Split, classes: list[int]) -> None:
        self.settings["weight"] = self.met / (TEMPERATURE**2 if self.way.get("unscaled") else 1.0)
        if self.way.get("again") and self.met < 4:
            self.met, self.seen = self.met + 1, self.seen + classes
            self.offer(task)
        else:
            super().meet(task, classes)

    def steps(self, count: int, loss: Callable[[], Tensor]) -> None:
        if self.optimizer is None:
            self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.settings["learning_rate"])
        for _ in range(count):
            self.optimizer.zero_grad()
            loss().backward()
            self.optimizer.step()


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Meet the five tasks in the order of ``seed``, and test after the last."""
    tasks, way = lifelong.in_order(seed), ARMS[arm]
    train, _, test = digits()
    options = {"steps": RECIPE["steps per task"], "rows": RECIPE["rows per step"]}
    learner = AsPublished(mlp((400, 400), seed=seed), way, MEMORY, seed, **options, learning_rate=1e-3)
    with seeded(seed):
        for classes in tasks:
            learner.meet(train.take(torch.isin(train.labels, torch.tensor(classes))), classes)
    scores = learner.scores(test.images)
    found = {}
    for score in ("agnostic", "aware"):
        of_each = lifelong.accuracies(scores, test.labels, tasks, aware=score == "aware")
        found |= {f"test {score}": lifelong.mean(of_each), score: of_each}
    return found


def main() -> None:
    torch.set_num_threads(1)
    keys = [{"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS if arm != "GDumb"]
    keys += [{"arm": "GDumb", "seed": seed} for seed in SEEDS]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
