"""More settings for the arms of `attacks`, for notebook 20: the best tries of that job lay at the edge of their range.

Every arm goes further in the direction in which it was best, in the learning rate, the temperature, or both. Seeds,
networks, training and measurements are those of `attacks`.
"""

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import attacks  # noqa: E402 (lies beside this file)
import store  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
COOL = [{"learning_rate": 1e-3, "temperature": 4.0}, {"learning_rate": 2e-3, "temperature": 16.0}]
FAST = [{"learning_rate": rate, "temperature": 1.0} for rate in (1.6e-2, 3.2e-2)]
TRIES: dict[str, list[dict[str, float]]] = {
    "labels": [{"learning_rate": 1e-3}],
    "labels, six times as long": [{"learning_rate": 3.2e-2}],
    "labels, adversarial": [{"learning_rate": 3.2e-2}],
    "distilled, plain teacher": COOL,
    "distilled, robust teacher": COOL,
    "adversarially distilled, plain teacher": FAST,
    "adversarially distilled, robust teacher": FAST,
    "adversarially distilled, shuffled": FAST,
}
RECIPE: dict[str, Any] = attacks.RECIPE | {"tries": TRIES}


def main() -> None:
    torch.set_num_threads(1)
    arms = [(arm, each) for arm, tries in TRIES.items() for each in tries]
    keys = [{"arm": arm, "seed": seed, **each} for seed in attacks.SEEDS for arm, each in arms]
    store.resume_all(RESULTS, keys, attacks.measure, recipe=RECIPE)


if __name__ == "__main__":
    main()
