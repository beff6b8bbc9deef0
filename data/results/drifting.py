"""The comparison of notebook 16 where the classes stay and the images change: permuted pixels, and another domain.

*Permuted*: five tasks of all ten digits, the pixels of each in a random order of its own. *Domains*: MNIST's digits and
scikit-learn's, in both orders. The arms, their steps, memories and tries are those of `lifelong`. The tries for the
permuted tasks are judged on other permutations, those for one order of the domains on the other order.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from kdcourse.data import Mnist, Split
from kdcourse.domains import load_scikit_digits
from kdcourse.models import mlp
from kdcourse.seeds import seeded
from kdcourse.training import evaluate

sys.path.insert(0, str(Path(__file__).resolve().parent))
import lifelong  # noqa: E402 (lies beside this file)
import store  # noqa: E402
from learning_on import Learner  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS, TUNING, STEPS = lifelong.SEEDS, lifelong.TUNING, 200
NAMES = ("fine-tuning", "LwF", "LwF, never trained", "replay", "DER", "DER++", "GDumb", "joint")
TWIN = {"permuted": "permuted", "to scikit-learn": "to MNIST", "to MNIST": "to scikit-learn"}
RECIPE: dict[str, Any] = {
    "network": "mlp((100, 100))",
    "steps per task": STEPS,
    "bytes of memory": lifelong.SIZES[1],
    "tries": {arm: lifelong.ARMS[arm][1] for arm in NAMES},
    "tuned on": {"permuted": "other permutations", "domains": "the other order of the two"},
    "tuning seeds": TUNING,
    "otherwise as lifelong": {
        name: lifelong.RECIPE[name] for name in ("rows per step", "temperature", "beta of DER++")
    },
}


@cache
def scikit() -> Mnist:
    return lifelong.flat(load_scikit_digits())


def tasks_of(stream: str, seed: int) -> list[Mnist]:
    """The tasks of a stream, each with its own three splits."""
    if stream != "permuted":
        return [lifelong.digits(), scikit()][:: 1 if stream == "to scikit-learn" else -1]
    with seeded(1000 + seed):
        orders = [torch.randperm(784) for _ in range(5)]
    return [Mnist(*(Split(part.images[:, order], part.labels) for part in lifelong.digits())) for order in orders]


def measure(stream: str, arm: str, seed: int, **settings: float) -> dict[str, Any]:
    """Meet the tasks of a stream; test after each of them on all so far, validate after the last."""
    tasks, classes = tasks_of(stream, seed), list(range(10))
    network = mlp((100, 100), seed=seed)
    learner = Learner(network, lifelong.ARMS[arm][0], lifelong.SIZES[1], seed, steps=STEPS, **settings)
    rows = []
    with seeded(seed):
        for number, task in enumerate(tasks, start=1):
            learner.meet(task.train, classes)
            rows.append([evaluate(learner.network, met.test).accuracy for met in tasks[:number]])
    held = [evaluate(learner.network, task.validation).accuracy for task in tasks]
    return {"validation": lifelong.mean(held), "test": lifelong.mean(rows[-1]), "accuracies": rows}


def chosen(stream: str, arm: str) -> dict[str, float]:
    """The try of an arm that was best where it was tuned."""
    return lifelong.best_of(lifelong.tries(arm), RESULTS, "validation", stream=TWIN[stream], arm=arm)


def main() -> None:
    torch.set_num_threads(1)
    pairs = [{"stream": stream, "arm": arm} for stream in TWIN for arm in NAMES]
    tuning = [pair | {"seed": seed} | each for pair in pairs for each in lifelong.tries(pair["arm"]) for seed in TUNING]
    store.resume_all(RESULTS, tuning, measure, recipe=RECIPE)
    final = [pair | {"seed": seed} | chosen(**pair) for pair in pairs for seed in SEEDS]
    store.resume_all(RESULTS, final, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
