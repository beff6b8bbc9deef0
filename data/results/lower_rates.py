"""Notebook 16: lower learning rates for fine-tuning, which chose the lowest of its four in `lifelong`.

Everything else is as in `lifelong`. All rates are measured on all class orders.
"""

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import lifelong  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
ARMS = ("fine-tuning", "fine-tuning, own classes")
KNOBS: dict[str, tuple[float, ...]] = {"learning_rate": (2.5e-5, 5e-5, 1e-4)}
SAME = ("network", "steps per task", "rows per step", "optimizer", "tuned on class orders")
RECIPE: dict[str, Any] = {"tries": KNOBS} | {name: lifelong.RECIPE[name] for name in SAME}


def main() -> None:
    torch.set_num_threads(1)
    tried = lifelong.combinations(KNOBS)
    keys = [
        {"arm": arm, "seed": seed, "size": lifelong.SIZES[1]} | each
        for arm in ARMS
        for each in tried
        for seed in (*lifelong.TUNING, *lifelong.SEEDS)
    ]
    store.resume_all(RESULTS, keys, lifelong.measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
