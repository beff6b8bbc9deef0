"""More learning rates for arms of `language_repair`, for notebook 18: the best of these lay at an edge of the three.

Each such arm goes on in the direction in which it was best. Where that is better still on validation, its five seeds
are trained again with it. Seeds, text, training and measurements are those of `language_repair`.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import language_repair as job  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
TRIES = {
    "float weights, labels": (1e-4, 3e-5),
    "adapter of rank 8, distilled": (1.6e-2, 6.4e-2),
    "adapter of rank 8, labels": (1.6e-2, 6.4e-2),
    "adapter of rank 1, distilled": (1.6e-2, 6.4e-2),
    "biases and norms, distilled": (1.6e-2, 6.4e-2),
}
RECIPE: dict[str, Any] = job.RECIPE | {"learning rates": TRIES}


def tried(arm: str, rate: float) -> float:
    """The loss on validation, from this job or the first."""
    if rate in job.RATES:
        return job.tried(arm, rate)
    key = {"arm": arm, "seed": job.TRIAL, "learning_rate": rate}
    return float(store.resume(RESULTS, key, partial(job.measure, **key), recipe=RECIPE)["validation"])  # type: ignore[arg-type]


def main() -> None:
    torch.set_num_threads(1)
    for arm, rates in TRIES.items():
        best = min((*job.RATES, *rates), key=lambda rate: tried(arm, rate))  # noqa: B023 (called here)
        if best in rates:
            for seed in job.SEEDS:
                key = {"arm": arm, "seed": seed}
                store.resume(RESULTS, key, partial(job.tested, arm, seed, best), recipe=RECIPE)


if __name__ == "__main__":
    main()
