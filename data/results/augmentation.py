"""What augmentation and the schedule do to the teacher, at its full length: five paired seeds an arm.

Notebook 01 draws on `augmentation.json`; everything is measured on the validation split.
"""

import sys
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from kdcourse.data import load_mnist, random_affine
from kdcourse.models import conv_net
from kdcourse.training import constant, evaluate, fit

sys.path.insert(0, str(Path(__file__).resolve().parent))
import store  # noqa: E402 (lies beside this file)
import teacher  # noqa: E402

RESULTS = Path(__file__).resolve().with_suffix(".json")
SEEDS = range(5)
RECIPE: dict[str, Any] = teacher.RECIPE | {"warm-up": "from a tenth of the rate"}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "augmented": {"augment": random_affine(**RECIPE["augmentation"])},
    "augmented, constant rate": {"augment": random_affine(**RECIPE["augmentation"]), "schedule": constant},
}


def measure(arm: str, seed: int) -> dict[str, Any]:
    """Train one network and report its accuracies."""
    digits, network = load_mnist(), conv_net(**RECIPE["network"], seed=seed)
    fit(network, digits.train, **RECIPE["training"], **ARMS[arm], seed=seed, progress=False)
    return {split: evaluate(network, getattr(digits, split)).accuracy for split in ("train", "validation")}


def main() -> None:
    for seed, arm in tqdm([(seed, arm) for seed in SEEDS for arm in ARMS], desc="augmentation"):
        store.resume(RESULTS, {"arm": arm, "seed": seed}, lambda: measure(arm, seed), recipe=RECIPE)  # noqa: B023


if __name__ == "__main__":
    main()
