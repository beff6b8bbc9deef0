"""Notebook 16: what it does to distil a target of zero for the new classes, on the new images, as published code does.

Everything is as in `lifelong`, but the old network's target goes over all classes met so far and is 0 for the new ones.
The placebos have no old network to speak of: one that was never trained, and the same probability for all old classes.
"""

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import lifelong  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
KNOBS: dict[str, tuple[float, ...]] = {"learning_rate": (5e-4, 2e-3), "weight": (0.3, 1.0)}
ARMS: dict[str, dict[str, Any]] = {
    "LwF, zeros": {"old": "network", "zero": True},
    "zeros, never trained": {"old": "never trained", "zero": True},
    "zeros, uniform": {"old": "uniform", "zero": True},
}
SAME = ("network", "steps per task", "rows per step", "optimizer", "temperature", "tuned on class orders")
RECIPE: dict[str, Any] = {"tries": KNOBS} | {name: lifelong.RECIPE[name] for name in SAME}


def measure(arm: str, seed: int, **settings: float) -> dict[str, Any]:
    return lifelong.measure_way(ARMS[arm], seed, 0, **settings)


def main() -> None:
    torch.set_num_threads(1)
    tried = lifelong.combinations(KNOBS)
    keys = [{"arm": arm, "seed": seed} | each for arm in ARMS for each in tried for seed in lifelong.TUNING]
    store.resume_all(RESULTS, keys, measure, recipe=RECIPE)
    for arm in ARMS:
        best = [lifelong.best_of(tried, RESULTS, f"validation {score}", arm=arm) for score in ("agnostic", "aware")]
        best = best[: 1 if best[0] == best[1] else 2]
        keys = [{"arm": arm, "seed": seed} | settings for settings in best for seed in lifelong.SEEDS]
        store.resume_all(RESULTS, keys, measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
